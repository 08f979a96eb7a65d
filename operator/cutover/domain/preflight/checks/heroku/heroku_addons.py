"""Check ``heroku-addons``: each add-on has a counterpart, and a database that stays behind is known to."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.heroku import Addon, HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, warned
from cutover.domain.preflight.checks.heroku.heroku_processes import SCHEDULERS
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.preflight.variables import KEYS, is_reloaded, variables_of
from cutover.domain.preflight.workload import WORKLOAD_READS, Workload, workload_of
from cutover.domain.texts import listed

#: Services that keep data in Heroku's region, and what they begin with.
STORES = (
    *("heroku-postgresql", "heroku-redis", "heroku-kafka", "heroku-inference", "jawsdb", "cleardb", "rediscloud"),
    *("redistogo", "memcachier", "memcachedcloud", "bonsai", "searchbox", "cloudamqp", "stackhero", "crunchybridge"),
    *("mongolab", "objectrocket", "upstash", "cloudkarafka", "bucketeer", "timescale"),
)
#: Of Heroku itself, which changes their credentials by itself.
ROTATED = ("heroku-postgresql", "heroku-redis", "heroku-kafka")


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Find add-ons whose config vars the container lacks, and stores that both legs may use."""
    workload = workload_of(plan, facts.inventory)
    if workload is None:
        return PASSED
    found = "; ".join(_found(plan, app, workload, facts))
    return warned(found) if found else PASSED


def _found(plan: Plan, app: HerokuApp, workload: Workload, facts: Facts) -> Iterator[str]:
    variables = variables_of(plan, workload, facts.inventory)
    told = [one for one in app.addons or () if one.config_vars and one.service not in SCHEDULERS]
    known = not variables.unread and not variables.injected
    lost = [one for one in told if known and not variables.names.intersection(one.config_vars)]
    kept = [one for one in told if one.service.startswith(STORES) and one not in lost]
    if lost:
        yield (
            f"container {workload.app.name} has no variable of add-on {listed([_text(one) for one in lost])}: have a"
            " counterpart for each on EKS, or give it their config vars by a Secret"
        )
    if kept:
        where = f"Heroku's region {app.region}" if app.region else "Heroku's region"
        yield (
            f"{app.name} keeps data in add-on {listed([_text(one) for one in kept])}: if EKS uses it too, each call goes to"
            f" {where}, and both legs share its connection limit; if EKS has a store of its own, users who change legs"
            " lose what they wrote"
        )
    rotated = [one for one in kept if one.service in ROTATED]
    if rotated and not is_reloaded(workload):
        yield (
            f"Heroku changes the credentials of {listed([one.service for one in rotated])} when it has to, and restarts only"
            " its own dynos: a copy in a Secret has to follow, and the Pods to be replaced (Reloader does that)"
        )


def _text(addon: Addon) -> str:
    plan = f" {addon.plan}" if addon.plan else ""
    return f"{addon.service}{plan} ({listed(addon.config_vars, 2)})"


CHECK = heroku_check(
    "heroku-addons",
    "the app's container has the variables of each add-on, and no add-on keeps data on Heroku; warns of databases that stay"
    " there ([what to do](audits.md#heroku-addons))",
    judge,
    reads=WORKLOAD_READS,
    may_read=KEYS,
)
