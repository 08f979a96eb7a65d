"""The spec snapshot: the fields of a spec that protect users, kept so that every edit of them is recorded.

Values are short texts that are compared and shown, and never parsed.
"""

from __future__ import annotations

from collections.abc import Sequence

from cutover.api.v1alpha1 import Approval, MigrationPlanSpec, Schedule, SpecSnapshot, Step, format_duration
from cutover.domain.journal.ledger import LONGEST_MESSAGE
from cutover.domain.texts import digest, fitted

#: Field of the gates. Once gates have numbers, :func:`cutover.domain.engine.assessment.edits` records their edits.
GATES = "gates.slos"

#: Characters of one value.
_LONGEST = 120
#: Characters of the changes in a ledger entry, beside the editor.
_LONGEST_EDIT = LONGEST_MESSAGE - 110


def spec_snapshot(spec: MigrationPlanSpec, generation: int) -> SpecSnapshot:
    """Return the snapshot of a spec."""
    gates = spec.gates
    fields = {
        "suspend": str(spec.suspend).lower(),
        "onBreach": spec.on_breach,
        "onHerokuDown": f"{spec.on_heroku_down.action} after {format_duration(spec.on_heroku_down.after)}",
        "onDelete": spec.on_delete,
        "soak": format_duration(spec.soak),
        "schedule": _schedule(spec.schedule),
        "preflight.skip": ", ".join(skip.check for skip in spec.preflight.skip) or "none",
        "gates.falseRollbackRate": f"{gates.false_rollback_rate:g}",
        "gates.block": format_duration(gates.block) if gates.block else "by the scrape interval",
        "gates.warmUp": format_duration(gates.warm_up),
        "gates.insufficientTraffic": gates.insufficient_traffic,
        "gates.prometheus": gates.prometheus or "default",
        GATES: f"{', '.join(slo.name for slo in gates.slos)} ({_digest(gates.slos)})",
        "heroku": f"{spec.heroku.app}, {spec.heroku.hostname}",
        "heroku.hostHeader": spec.heroku.host_header,
        "eks": f"{spec.eks.service.name}:{spec.eks.service.port}, {spec.eks.workload_ref.name}",
        "hosts": ", ".join(spec.traffic.hosts),
        **spec.traffic.recorded,
    }
    return SpecSnapshot(
        generation=generation,
        ceiling=spec.ceiling,
        steps={str(step.weight): _step(step) for step in spec.steps},
        fields={name: fitted(text, _LONGEST) for name, text in fields.items()},
    )


def changes(before: SpecSnapshot, after: SpecSnapshot, *, gates: bool) -> str:
    """Return the changes between two snapshots in words for the ledger; ``""`` if there are none.

    Parameters
    ----------
    before, after
        Snapshots from :func:`spec_snapshot`.
    gates
        Whether to include changes of the gates.
    """
    ceiling, fields, steps = _changes(before, after, gates=gates)
    text = "; ".join((*ceiling.values(), *fields.values(), *steps.values()))
    if len(text) <= _LONGEST_EDIT:
        return text
    names = (*ceiling, *fields, *([f"steps {', '.join(steps)} %"] if steps else ()))
    return f"{', '.join(names)} were changed"


def edited_fields(before: SpecSnapshot, after: SpecSnapshot, *, gates: bool) -> tuple[str, ...]:
    """Return the paths of what :func:`changes` tells of; those of steps have their weight, such as ``steps.25``."""
    ceiling, fields, steps = _changes(before, after, gates=gates)
    return (*ceiling, *fields, *(f"steps.{weight}" for weight in steps))


def _changes(
    before: SpecSnapshot, after: SpecSnapshot, *, gates: bool
) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Return the changes of the ceiling, of other fields by path, and of steps by weight, each in words."""
    ceiling = {"ceiling": f"ceiling: {before.ceiling} → {after.ceiling}"} if before.ceiling != after.ceiling else {}
    # An older version of the operator may have stored fewer fields.
    fields = {
        name: f"{name}: {before.fields[name]} → {new}"
        for name, new in after.fields.items()
        if before.fields.get(name, new) != new and (name != GATES or gates)
    }
    steps = {weight: text for weight in _weights(before, after) if (text := _edited_step(weight, before, after))}
    return ceiling, fields, steps


def _weights(before: SpecSnapshot, after: SpecSnapshot) -> Sequence[str]:
    return (*after.steps, *(weight for weight in before.steps if weight not in after.steps))


def _edited_step(weight: str, before: SpecSnapshot, after: SpecSnapshot) -> str:
    old, new = before.steps.get(weight), after.steps.get(weight)
    if old == new:
        return ""
    if old is None:
        return f"step {weight} % is new ({new})"
    return f"step {weight} % was removed ({old})" if new is None else f"step {weight} %: {old} → {new}"


def _step(step: Step) -> str:
    text = f"hold {format_duration(step.hold)}"
    if step.approval is Approval.MANUAL:
        text += ", approval Manual"
    if step.min_requests is not None:
        text += f", minRequests {step.min_requests}"
    if step.timeout is not None:
        text += f", timeout {format_duration(step.timeout)} then {step.on_timeout}"
    return text


def _schedule(schedule: Schedule | None) -> str:
    if schedule is None or not (schedule.windows or schedule.freezes):
        return "none"
    counts = f"{len(schedule.windows)} windows, {len(schedule.freezes)} freezes"
    return f"{schedule.time_zone}, {counts} ({_digest((schedule,))})"


def _digest(values: Sequence[object]) -> str:
    """Return a short hash of values that are too long to show."""
    return digest(repr(values))
