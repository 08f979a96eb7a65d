"""Check ``baseline-hours``: each step is judged in hours that matter, by the record's requests and the steps' holds."""

from __future__ import annotations

from cutover.domain.baseline.outlook import QUIET, quiet_steps, when_text
from cutover.domain.baseline.week import peak, rates
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, warned

#: Steps that a message names.
MOST_STEPS = 4


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find the steps that would be judged in quiet hours only, if the plan began when the record ends."""
    record = facts.record
    if record is None:
        return PASSED
    found = quiet_steps(plan.spec, rates(record), record.reach.until)
    if not found:
        return PASSED
    calendar, busiest = plan.spec.schedule, peak(record)
    named = ", ".join(
        f"{one.weight} % ({when_text(one.begin, calendar)} to {when_text(one.end, calendar)},"
        f" at most {one.busiest or 0.0:.2g} requests/s)"
        for one in found[:MOST_STEPS]
    )
    more = f" and {len(found) - MOST_STEPS} more" if len(found) > MOST_STEPS else ""
    zone = calendar.time_zone if calendar is not None else "UTC"
    return warned(
        f"begun now, these steps would be judged in hours with less than {QUIET:.0%} of the busiest hour's requests only"
        f" ({busiest.rate:.2g} requests/s, {busiest.hour} UTC): {named}{more}, {zone} time; hold one of the steps over the busy"
        " hours (steps[].hold), or have them begin then (schedule.windows)"
    )


CHECK = Check(
    name="baseline-hours",
    passes_when="with [a record](baseline.md): no step would be judged in quiet hours only",
    judge=judge,
    applies=lambda spec: spec.baseline.source is not None,
    advisory=True,
)
