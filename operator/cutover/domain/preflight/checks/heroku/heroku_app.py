"""Check ``heroku-app``: the app has the host name that the plan sends requests to, and is in service."""

from __future__ import annotations

from cutover.api.hosts import covers
from cutover.api.v1alpha1 import HostHeader
from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Facts, Finding, judged, warned
from cutover.domain.preflight.heroku_check import heroku_check

#: Names that a message lists.
MOST_NAMES = 5


def judge(plan: Plan, app: HerokuApp, reading: HerokuReading, facts: Facts) -> Finding:  # noqa: ARG001
    """Look for maintenance mode, web dynos, and the plan's names among the app's."""
    if app.maintenance:
        return judged(
            f"maintenance mode of {app.name} is on, so Heroku answers 503 to everybody: heroku maintenance:off"
        )
    if app.processes is not None and not any(one.kind == "web" and one.quantity for one in app.processes):
        return judged(f"{app.name} has no web dyno: heroku ps:scale web=1")
    if problem := _names(plan, app):
        return judged(problem)
    unseen = [name for name, part in (("domains", app.domains), ("dynos", app.processes)) if part is None]
    return warned(f"the key may not see the app's {' and '.join(unseen)}") if unseen else PASSED


def _names(plan: Plan, app: HerokuApp) -> str:
    """Return which of the plan's names the app does not have."""
    if app.domains is None:
        return ""
    asked, public = plan.spec.heroku.hostname.lower(), [domain.hostname for domain in app.domains]
    known = {app.own_hostname, *public, *(domain.target for domain in app.domains)} - {""}
    if not _covered(asked, known):
        has = ", ".join(sorted(known)[:MOST_NAMES]) or "none"
        return f"{app.name} does not have the name {asked} (it has {has}): correct heroku.hostname or heroku.app"
    if plan.spec.heroku.host_header is HostHeader.PUBLIC:
        missing = [host for host in plan.spec.traffic.hosts if not _covered(host.lower(), public)]
        if missing:
            return (
                f"with hostHeader: Public each host has to be a custom domain of {app.name}, and {', '.join(missing)} is none:"
                f" heroku domains:add {missing[0]}"
            )
    return ""


def _covered(name: str, by: set[str] | list[str]) -> bool:
    """Tell whether a name is among others, also by a wildcard domain, which covers one label or more."""
    return any(covers(other, name) for other in by)


CHECK = heroku_check(
    "heroku-app",
    "the app is not in maintenance mode, has a web dyno and has the name `heroku.hostname` (with `hostHeader: Public` also"
    " each host); warns if Heroku gives no answer",
    judge,
    tells_outages=True,
)
