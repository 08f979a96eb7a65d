"""The conditions that kubectl, Flux and Argo CD wait for.

``Ready`` means accepted and under control: the weight that was decided is in force, and it is as people asked for. A
cutover lasts days and must not hold up whoever applied it, so holds in mid-cutover leave it as it is; their pace is told
by ``Progressing``, ``Held``, ``Completed`` and ``RolledBack``. ``Reconciling`` means that this is still on its way, and
``Stalled`` that what was asked for cannot be done: nothing but another commit mends it. One of the three is true at a time,
so that kstatus has one answer in whatever order it looks. Each carries its ``observedGeneration``, or ``kubectl wait`` hangs.
"""

from __future__ import annotations

from datetime import datetime

from cutover.api.v1alpha1 import Condition, MigrationPlanStatus, Phase
from cutover.domain.holds import Hold, HoldReason

#: Holds that nothing but another commit ends: a health check fails at once instead of waiting for its timeout. A breach or
#: a rollback is none: the release that mends the app must not wait for a plan that waits for the release.
STALLED = frozenset({HoldReason.INVALID_SPEC, HoldReason.CAPABILITY_MISSING})
#: Holds in which the gateway does not do what was decided.
NOT_IN_FORCE = frozenset({HoldReason.SHARE_NOT_OBSERVED, HoldReason.ROUTE_NOT_WRITTEN})

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
    generation: int,
    now: datetime,
) -> tuple[Condition, ...]:
    """Derive all conditions; those that did not change keep their transition time."""
    held_for = hold.reason if hold is not None else None
    stalled = held_for in STALLED
    # A plan that is told not to begin is as people want it: whoever waits for it would wait for ever.
    beginning = phase in _BEFORE_TAKEOVER and held_for is not HoldReason.SUSPENDED
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
            return before  # most of them, at each pass
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
