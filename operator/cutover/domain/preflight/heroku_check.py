"""What checks have in common that ask Heroku's Platform API."""

from __future__ import annotations

from collections.abc import Callable

from cutover.domain.heroku import HerokuApp, HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, Read, unknown, warned


def heroku_check(
    name: str,
    passes_when: str,
    judge: Callable[[Plan, HerokuApp, HerokuReading, Facts], Finding],
    *,
    reads: tuple[Read, ...] = (),
    may_read: tuple[Read, ...] = (),
    tells_outages: bool = False,
) -> Check:
    """Return a check of what Heroku says about the app; it passes where there is no key.

    Parameters
    ----------
    name, passes_when
        As for :class:`~cutover.domain.preflight.check.Check`.
    judge
        Judges the app.
    reads, may_read
        Kubernetes objects that it reads beside.
    tells_outages
        Whether the check says that there is no answer. One of them does.
    """

    def judged(plan: Plan, facts: Facts) -> Finding:
        reading = facts.heroku
        if reading is None:
            return PASSED
        if reading.app is None:
            if not reading.problem:
                return unknown("Heroku's API has not answered yet")
            return warned(f"not looked at: {reading.problem}") if tells_outages else PASSED
        return judge(plan, reading.app, reading, facts)

    return Check(
        name=name,
        passes_when=f"with [a key for Heroku's API](heroku-api.md): {passes_when}",
        judge=judged,
        reads=reads,
        may_read=may_read,
        awaited=True,
        advisory=True,
    )
