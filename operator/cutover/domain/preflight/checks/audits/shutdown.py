"""Audit ``shutdown``: the time between SIGTERM and SIGKILL, and that requests stop before the app does."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: Seconds that Heroku gives between SIGTERM and SIGKILL, and the default of ``terminationGracePeriodSeconds``.
HEROKU_SECONDS = 30
_SLEEP = re.compile(r"\bsleep\s+([0-9.]+)")


def harms(workload: Workload) -> Iterator[str]:
    """Find Pods that are killed without SIGTERM: gateways learn later that they are gone, and each such request fails."""
    if workload.pod.get("terminationGracePeriodSeconds") == 0:
        yield (
            "terminationGracePeriodSeconds is 0, so each Pod that ends is killed with its requests under way, and requests that"
            f" gateways send before they learn of it fail: set terminationGracePeriodSeconds to {HEROKU_SECONDS} or more, as on Heroku"
        )


def find(workload: Workload) -> Iterator[str]:
    """Find a grace period that is too short, and requests that still arrive while the app stops."""
    app = workload.app
    given = workload.pod.get("terminationGracePeriodSeconds")
    grace = given if isinstance(given, int) else HEROKU_SECONDS
    if 0 < grace < HEROKU_SECONDS:
        yield (
            f"SIGKILL comes {grace} s after SIGTERM, and on Heroku {HEROKU_SECONDS} s: set terminationGracePeriodSeconds to"
            f" {HEROKU_SECONDS} or more"
        )
    hook = (app.body.get("lifecycle") or {}).get("preStop")
    if not hook:
        yield (
            f"container {app.name} has no preStop hook, so it gets SIGTERM while gateways still send requests to it: sleep 5"
            " to 15 s in preStop"
        )
        return
    seconds = _slept(hook)
    if seconds >= grace:
        yield (
            f"preStop of container {app.name} sleeps {seconds:g} s and the grace period is {grace} s, so SIGKILL comes at"
            f" once after SIGTERM: set terminationGracePeriodSeconds to {seconds + HEROKU_SECONDS:g} or let preStop sleep less"
        )
    elif seconds and grace - seconds < HEROKU_SECONDS <= grace:
        yield (
            f"preStop takes {seconds:g} s of the grace period of {grace} s, so the app has {grace - seconds:g} s to end, and on"
            f" Heroku {HEROKU_SECONDS} s: set terminationGracePeriodSeconds to {seconds + HEROKU_SECONDS:g}"
        )


def _slept(hook: dict[str, object]) -> float:
    """Return the seconds that a preStop hook sleeps; 0 if it does not, or nothing shows it."""
    match hook:
        case {"sleep": {"seconds": int(seconds)}}:
            return float(seconds)
        case {"exec": {"command": [*words]}}:
            found = _SLEEP.search(" ".join(map(str, words)))
            return float(found[1]) if found and found[1].replace(".", "", 1).isdigit() else 0.0
        case _:
            return 0.0


CHECK = audit(
    "shutdown",
    "the app has Heroku's 30 s between SIGTERM and SIGKILL, and a `preStop` hook that waits until no more requests come",
    find,
    harms=harms,
)
