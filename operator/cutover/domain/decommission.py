"""What is left to switch off on Heroku once a plan is Completed, in the order in which to do it.

The list is advice: nothing here is done by the operator, and nothing waits for it. What is not known is told as such.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cutover.api.durations import span
from cutover.api.v1alpha1 import DecommissionItem, DecommissionState, OnDelete
from cutover.domain.dns import HostRecord
from cutover.domain.heroku import Addon, HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.heroku.heroku_addons import STORES
from cutover.domain.preflight.checks.heroku.heroku_processes import SCHEDULERS
from cutover.domain.texts import listed, plain, shorten

#: Hours of a month, by which dynos are counted: Heroku's API has no price of a dyno.
MONTH_HOURS = 730
#: Characters of a message.
LONGEST_MESSAGE = 400

OPEN, DONE, UNKNOWN = DecommissionState.OPEN, DecommissionState.DONE, DecommissionState.UNKNOWN
#: State and message of an item.
Found = tuple[DecommissionState, str]


def checklist(
    plan: Plan, heroku: HerokuReading | None, dns: Sequence[HostRecord], requests: float | None
) -> tuple[DecommissionItem, ...]:
    """Return the list, in the order in which to switch things off.

    Parameters
    ----------
    plan
        The plan, which is Completed.
    heroku
        What Heroku's API says about the app; ``None`` without a key for it.
    dns
        What DNS says about the hosts, as far as it was asked.
    requests
        Requests at Heroku's router in the last 24 h; ``None`` if nothing is recorded.
    """
    app = heroku.app if heroku is not None else None
    name = plan.spec.heroku.app
    found: dict[str, Found] = {
        "dns": _dns(plan, dns),
        "requests": _requests(requests),
        "jobs": _jobs(app),
        "dynos": _dynos(app, name),
        "plan": _plan(plan),
        "domains": _domains(app, name),
        "databases": _databases(app, name),
        "add-ons": _addons(app, name),
        "drains": _drains(app, name),
        "app": _app(heroku, name),
    }
    return tuple(
        DecommissionItem(item=item, state=state, message=shorten(plain(message), LONGEST_MESSAGE))
        for item, (state, message) in found.items()
    )


def _dns(plan: Plan, dns: Sequence[HostRecord]) -> Found:
    records = {record.host: record for record in dns}
    hosts = plan.spec.traffic.hosts
    if there := [records[host] for host in hosts if host in records and records[host].at_heroku]:
        first = there[0]
        wait = f", and wait {span(first.ttl)} or more" if first.ttl else ""
        return OPEN, (
            f"DNS leads {listed([record.host for record in there])} to {first.at_heroku}: point it at the gateway{wait}; those"
            " users are on Heroku still"
        )
    unseen = [f"{host} ({_why(host, records)})" for host in hosts if host not in records or records[host].problem]
    if unseen:
        return UNKNOWN, f"whether DNS leads to Heroku is not known for {listed(unseen)}: look at your DNS provider"
    return DONE, "no CNAME leads to Heroku; an ALIAS record or a CDN would not show it: look at your DNS provider once"


def _why(host: str, records: dict[str, HostRecord]) -> str:
    if host.startswith("*"):
        return "a wildcard"
    return records[host].problem if host in records else "not asked"


def _requests(requests: float | None) -> Found:
    if requests is None:
        return UNKNOWN, (
            "who still asks Heroku is not known, as the drain has no record: watch heroku logs --tail --source heroku for a"
            " day"
        )
    if requests < 1:
        return DONE, "the drain has seen no request at Heroku's router in the last 24 h"
    return OPEN, (
        f"{requests:,.0f} requests came to Heroku's router in the last 24 h (on the first day the operator's probes are among"
        " them): host= in the router's log tells by which name; move who calls it, or they fail once the dynos stop"
    )


def _jobs(app: HerokuApp | None) -> Found:
    what = "move each job to EKS, see it run there, then stop it here: while both run, each job is done twice"
    if app is None or app.processes is None or app.addons is None:
        return UNKNOWN, f"workers, clocks and the Scheduler may run on: {what} (heroku ps, heroku addons)"
    running = [
        f"{one.kind} ({one.quantity})" for one in app.processes if one.kind not in ("web", "release") and one.quantity
    ]
    schedulers = [addon.service for addon in app.addons if addon.service in SCHEDULERS]
    if not running and not schedulers:
        return DONE, "no dynos but web run, and there is no scheduler"
    return OPEN, f"{listed([*running, *schedulers])} run on: {what}"


def _dynos(app: HerokuApp | None, name: str) -> Found:
    how = (
        f"heroku maintenance:on --app {name} for a day, in which nothing may break, then heroku ps:scale web=0; from then on"
        " there is no way back"
    )
    if app is None or app.processes is None:
        return UNKNOWN, f"web dynos may run on, each for {MONTH_HOURS} dyno-hours a month: {how}"
    running = [one for one in app.processes if one.quantity and one.kind != "release"]
    web = [f"{one.quantity} {one.size}" for one in running if one.kind == "web"]
    if not web:
        return DONE, "no web dyno runs"
    again = "; maintenance mode is on" if app.maintenance else ""
    hours = sum(one.quantity for one in running) * MONTH_HOURS
    more = " with the other process types" if len(web) < len(running) else ""
    return OPEN, f"{listed(web)} dynos run on, {hours:,} dyno-hours a month{more}{again}: {how}"


def _plan(plan: Plan) -> Found:
    if plan.spec.on_delete is OnDelete.HEROKU:
        return (
            OPEN,
            "onDelete is Heroku: set it to Rest before you delete the plan, or all users are sent to dynos that are gone",
        )
    return (
        OPEN,
        "once the dynos have stopped, delete the plan: all traffic stays on EKS, and nothing goes to Heroku by itself",
    )


def _domains(app: HerokuApp | None, name: str) -> Found:
    how = (
        "remove them once DNS has left: heroku domains:remove; before that, anybody who adds such a name to their own app gets your"
        " users"
    )
    if app is None or app.domains is None:
        return UNKNOWN, f"{name} may have custom domains: {how}"
    custom = [domain.hostname for domain in app.domains if domain.target]
    if not custom:
        return DONE, f"{name} has no custom domain"
    ends = max((one.expires for one in app.certificates or ()), default=None)
    last = (
        f"; the last certificate there ends on {ends:%Y-%m-%d}, and is not renewed any more"
        if ends is not None
        else ""
    )
    return OPEN, f"{listed(custom)}: {how}{last}"


def _databases(app: HerokuApp | None, name: str) -> Found:
    how = "find out who uses it (EKS itself, other apps by attachments, reports), copy the data, keep a backup, then remove it"
    if app is None or app.addons is None:
        return UNKNOWN, f"databases and caches may be on Heroku, and EKS may use them: {how}"
    stores = [one for one in app.addons if one.service.startswith(STORES)]
    if not stores:
        return DONE, f"{name} has no add-on that keeps data"
    return OPEN, f"{listed(map(_named, stores))}, {_cost(stores)}: {how}; until then its credentials may change"


def _addons(app: HerokuApp | None, name: str) -> Found:
    if app is None or app.addons is None:
        return UNKNOWN, f"add-ons cost until they are removed: heroku addons --app {name}"
    others = [one for one in app.addons if not one.service.startswith(STORES) and one.service not in SCHEDULERS]
    if not others:
        return DONE, f"{name} has no other add-on"
    return (
        OPEN,
        f"{listed(map(_named, others))}, {_cost(others)}: keep what they have recorded, then heroku addons:destroy",
    )


def _drains(app: HerokuApp | None, name: str) -> Found:
    how = f"heroku drains:remove --app {name}, and the app's token in the drain's Secret; last of all, as it tells who still asks"
    if app is None or app.drains is None:
        return UNKNOWN, f"log drains may be there: {how}"
    return (OPEN, f"{app.drains} log drains: {how}") if app.drains else (DONE, f"{name} has no log drain")


def _app(heroku: HerokuReading | None, name: str) -> Found:
    key = (
        "revoke the API key and delete its Secret"
        if heroku is not None
        else "revoke keys and tokens that were made for it"
    )
    asked = (
        f" (Heroku's API: {heroku.problem})" if heroku is not None and heroku.app is None and heroku.problem else ""
    )
    state = OPEN if heroku is not None and heroku.app is not None else UNKNOWN
    return state, (
        f"the app, its pipeline and its secrets stay until heroku apps:destroy --app {name}{asked}; until then everybody who may deploy"
        f" there may read its config vars; {key}"
    )


def _named(addon: Addon) -> str:
    return f"{addon.service} {addon.plan}".strip()


def _cost(addons: Sequence[Addon]) -> str:
    """Return what add-ons cost, as far as Heroku's API says."""
    prices = [one.price for one in addons if one.price is not None]
    monthly = [one.cents for one in prices if one.unit == "month" and not one.contract and not one.metered]
    others = {
        "by contract": sum(one.contract for one in prices),
        "by use": sum(one.metered and not one.contract for one in prices),
    }
    texts = [f"${sum(monthly) / 100:,.2f} a month"] if monthly else []
    texts += [f"{number} {how}" for how, number in others.items() if number]
    if unknown := len(addons) - len(monthly) - sum(others.values()):
        texts.append(f"{unknown} at a price that is not known")
    return " and ".join(texts)


def still_open(items: Sequence[DecommissionItem]) -> Iterator[str]:
    """Return the names of the items that are not done."""
    return (one.item for one in items if one.state is not DONE)
