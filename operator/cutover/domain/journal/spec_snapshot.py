"""What a plan's spec says that guards its users, in short texts that can be compared: no edit of it goes untold."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from cutover.api.v1alpha1 import Approval, MigrationPlanSpec, Schedule, Step, format_duration
from cutover.domain.journal.ledger import LONGEST_MESSAGE, shorten

#: The plan's generation that the others are of.
GENERATION = "generation"
#: Its edits are told with the gates' own numbers once there are any: :func:`cutover.domain.engine.assessment.edits`.
GATES = "gates.slos"
CEILING = "ceiling"

#: Characters of one text.
_LONGEST = 120
#: What is left of a line of the ledger for it, beside who edited.
_LONGEST_EDIT = LONGEST_MESSAGE - 110
_STEP = "step "


def guards(spec: MigrationPlanSpec, generation: int) -> dict[str, str]:
    """Return what a spec says, by field, and for each step by its weight."""
    gates = spec.gates
    found = {
        GENERATION: str(generation),
        CEILING: str(spec.ceiling),
        "suspend": str(spec.suspend).lower(),
        "onBreach": spec.on_breach,
        "onDelete": spec.on_delete,
        "soak": format_duration(spec.soak),
        "schedule": _schedule(spec.schedule),
        "preflight.skip": ", ".join(skip.check for skip in spec.preflight.skip) or "none",
        "gates.falseRollbackRate": f"{gates.false_rollback_rate:g}",
        "gates.block": format_duration(gates.block),
        "gates.warmUp": format_duration(gates.warm_up),
        "gates.prometheus": gates.prometheus or "default",
        GATES: f"{', '.join(slo.name for slo in gates.slos)} ({_digest(gates.slos)})",
        "heroku": f"{spec.heroku.app}, {spec.heroku.hostname}",
        "eks": f"{spec.eks.service.name}:{spec.eks.service.port}, {spec.eks.workload_ref.name}",
        "hosts": ", ".join(spec.traffic.hosts),
        **spec.traffic.guarded,
        **{f"{_STEP}{step.weight} %": _step(step) for step in spec.steps},
    }
    return {name: _fitted(text) for name, text in found.items()}


def changes(before: Mapping[str, str], after: Mapping[str, str], *, gates: bool) -> str:
    """Return in words for the ledger what has changed, ``""`` if nothing that guards.

    Parameters
    ----------
    before, after
        What :func:`guards` said.
    gates
        Whether changes of the gates are told here.
    """
    said: dict[str, str] = {}
    for name in (*after, *(name for name in before if name not in after)):
        old, new = before.get(name), after.get(name)
        if old == new or name == GENERATION or (name == GATES and not gates):
            continue
        if name.startswith(_STEP) and old is None:
            said[name] = f"{name} is new ({new})"
        elif name.startswith(_STEP) and new is None:
            said[name] = f"{name} was removed ({old})"
        elif old is not None and new is not None:  # an older version knew fewer fields
            said[name] = f"{name}: {old} → {new}"
    text = "; ".join(said.values())
    if len(text) <= _LONGEST_EDIT:
        return text
    steps = ", ".join(name.removeprefix(_STEP).removesuffix(" %") for name in said if name.startswith(_STEP))
    names = [name for name in said if not name.startswith(_STEP)] + ([f"steps {steps} %"] if steps else [])
    return f"{', '.join(names)} were changed"


def _step(step: Step) -> str:
    text = f"hold {format_duration(step.hold)}"
    if step.approval is Approval.MANUAL:
        text += ", approval Manual"
    if step.timeout is not None:
        text += f", timeout {format_duration(step.timeout)} then {step.on_timeout}"
    return text


def _schedule(schedule: Schedule | None) -> str:
    if schedule is None or not (schedule.windows or schedule.freezes):
        return "none"
    counts = f"{len(schedule.windows)} windows, {len(schedule.freezes)} freezes"
    return f"{schedule.time_zone}, {counts} ({_digest((schedule,))})"


def _digest(values: Sequence[object]) -> str:
    """Return what differs where the values do, for fields that are too long to be told."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:8]


def _fitted(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{shorten(text, _LONGEST - 11)} ({_digest((text,))})"
