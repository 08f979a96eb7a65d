"""The conditions that kubectl, Flux and Argo CD wait for.

``Ready`` means accepted and under control at the current step: a cutover lasts days and must not hold up whoever
applied it. The pace is told by ``Progressing``, ``Held``, ``Completed`` and ``RolledBack``; ``Stalled`` is for what a
person must mend. Each carries its ``observedGeneration``, or ``kubectl wait`` hangs.
"""

from __future__ import annotations

from datetime import datetime

from cutover.api.v1alpha1 import Condition, MigrationPlanStatus, Phase
from cutover.core.holds import Hold, HoldReason

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
    stalled = hold is not None and hold.reason is HoldReason.INVALID_SPEC
    ready = not stalled and phase not in _BEFORE_TAKEOVER
    values: list[tuple[str, bool, str, str]] = [
        ("Ready", ready, reason, message),
        ("Reconciling", phase is Phase.ROLLING_BACK or (not stalled and not ready), reason, message),
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
    since = before.last_transition_time if before is not None and before.status == status else now
    return Condition(
        type=kind,
        status="True" if truth else "False",
        reason=reason,
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
