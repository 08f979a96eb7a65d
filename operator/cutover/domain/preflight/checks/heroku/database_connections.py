"""Check ``database-connections``: both legs together stay within the connections that Heroku's database allows."""

from __future__ import annotations

from cutover.domain.baseline.used import NOTHING
from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.preflight.parallel import has_pooler, most_connections
from cutover.domain.preflight.workload import WORKLOAD_READS, workload_of

#: Connections that Heroku Postgres allows by its plan (https://devcenter.heroku.com/articles/heroku-postgres-plans). Plans
#: with other numbers begin with one of these names; databases that were made lately may allow more.
LIMITS = {
    "mini": 20,
    "basic": 20,
    "essential-0": 20,
    "essential-1": 20,
    "essential-2": 40,
    "standard-0": 120,
    "premium-0": 120,
    "standard-2": 400,
    "premium-2": 400,
    "standard-": 500,
    "premium-": 500,
    "private-0": 120,
    "private-2": 400,
    "private-": 500,
    "shield-0": 120,
    "shield-2": 400,
    "shield-": 500,
}


def limit_of(plan: str) -> int | None:
    """Return the connections that a plan of Heroku Postgres allows; ``None`` if it is not known."""
    exact = LIMITS.get(plan)
    return exact if exact is not None else next((most for name, most in LIMITS.items() if plan.startswith(name)), None)


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Add up the connections of the replicas and, with the same pools, of the dynos."""
    workload = workload_of(plan, facts.inventory)
    each = most_connections(workload.app) if workload is not None and not has_pooler(workload) else None
    limits = [
        (limit, addon)
        for addon in app.addons or ()
        if addon.service == "heroku-postgresql" and (limit := limit_of(addon.plan)) is not None
    ]
    record = facts.record.most if facts.record is not None else NOTHING
    if workload is None or each is None or not (limits or record.connection_limit):
        return PASSED
    if record.connection_limit:  # what the database says itself
        limit, allows = round(record.connection_limit), f"{record.database or 'the database'} allows"
        said = f"; in the record of the time before it had {record.connections or 0.0:.0f} at most"
    else:
        limit, addon = max(limits, key=lambda one: one[0])  # the smaller ones are not the main database
        allows = f"{addon.service} {addon.plan} allows"
        said = " (heroku pg:info has your database's own number)"
    dynos = sum(one.quantity for one in app.processes or () if one.kind != "release")
    eks, heroku = each * workload.most_replicas, each * dynos
    if eks + heroku <= limit:
        return PASSED
    return warned(
        f"{workload.most_replicas} replicas open up to {eks} connections and {dynos} dynos with the same pools {heroku}, and"
        f" {allows} {limit}{said}: if EKS uses it, make pools smaller while both run, or put PgBouncer between"
    )


CHECK = heroku_check(
    "database-connections",
    "the pools of EKS' most replicas and of the dynos together fit into the limit of the Heroku Postgres plan, or into the"
    " one that [the record](baseline.md) has",
    judge,
    reads=WORKLOAD_READS,
)
