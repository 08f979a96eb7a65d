"""The conditions that kubectl, Flux and Argo CD wait for.

``Ready`` means accepted and under control: the weight that was decided on is in force. A cutover lasts days and must not
block the pipeline that applied the plan, so a hold in mid-cutover does not change ``Ready``; ``Progressing``, ``Held``,
``Completed`` and ``RolledBack`` tell the pace. ``Reconciling`` means that the weight is not in force yet. ``Stalled`` means
that the spec asks for what cannot be done, and only another commit mends it. Exactly one of the three is true at a time, so
that kstatus has one answer in any order. Each has its ``observedGeneration``; without it ``kubectl wait`` hangs.
"""

from __future__ import annotations

from datetime import datetime

from cutover.api.model import computed
from cutover.api.v1alpha1 import Condition, MigrationPlanStatus, Phase
from cutover.domain.holds import Hold, HoldReason

#: Holds that only another commit ends: a health check fails at once instead of waiting for its timeout. A breach or a
#: rollback is not among them: the release that mends the app must not wait for a plan that waits for the release.
STALLED = frozenset({HoldReason.INVALID_SPEC, HoldReason.CAPABILITY_MISSING, HoldReason.TAKEOVER_FAILED})
#: Holds in which the gateway does not have the weight that was decided on.
NOT_IN_FORCE = frozenset({HoldReason.SHARE_NOT_OBSERVED, HoldReason.ROUTE_NOT_WRITTEN})

#: Holds before the takeover that the spec asks for.
WAITS_AS_ASKED = frozenset({HoldReason.SUSPENDED, HoldReason.BASELINE_INCOMPLETE})

_AT_REST = (Phase.COMPLETED, Phase.ROLLED_BACK)
_BEFORE_TAKEOVER = (Phase.PENDING, Phase.PREFLIGHT)


def conditions(
    before: MigrationPlanStatus,
    *,
    phase: Phase,
    hold: Hold | None,
    reason: str,
    message: str,
    unsupported: tuple[str, ...],
    lengthened: str = "",
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """Derive all conditions. A condition that did not change keeps its transition time."""
    held_for = hold.reason if hold is not None else None
    stalled = held_for in STALLED
    # A plan that is suspended before it begins, or waits for weeks of record, is as its spec wants it. A pipeline must not wait
    # for it.
    beginning = phase in _BEFORE_TAKEOVER and held_for not in WAITS_AS_ASKED
    reconciling = not stalled and (beginning or phase is Phase.ROLLING_BACK or held_for in NOT_IN_FORCE)
    values: list[tuple[str, bool, str, str]] = [
        ("Ready", not stalled and not reconciling, reason, message),
        ("Reconciling", reconciling, reason, message),
        ("Stalled", stalled, reason if stalled else "Accepted", message if stalled else ""),
        ("Progressing", hold is None and phase not in _AT_REST, reason, message),
        ("Held", hold is not None, hold.reason if hold else "NotHeld", hold.message if hold else ""),
        ("Completed", phase is Phase.COMPLETED, str(phase), message if phase is Phase.COMPLETED else ""),
        ("RolledBack", phase is Phase.ROLLED_BACK, str(phase), message if phase is Phase.ROLLED_BACK else ""),
    ]
    if unsupported:
        values.append(("NotYetSupported", True, "FieldsWithoutEffect", "; ".join(unsupported)))
    if lengthened:
        values.append(("BlockLengthened", True, "ScrapedTooRarely", lengthened))
    known = {condition.type: condition for condition in before.conditions}
    return tuple(
        _condition(known.get(kind), kind, truth=truth, reason=why, message=text, generation=generation, now=now)
        for kind, truth, why, text in values
    )


def _condition(
    before: Condition | None, kind: str, *, truth: bool, reason: str, message: str, generation: int, now: datetime
) -> Condition:
    status = "True" if truth else "False"
    since = now
    if before is not None and before.status == status:
        since = before.last_transition_time
        if (before.reason, before.message, before.observed_generation) == (reason, message, generation):
            return before  # the usual case
    return computed(
        Condition,
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
