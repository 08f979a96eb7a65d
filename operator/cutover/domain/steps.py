"""The current step and the next step of a plan, by its weight."""

from __future__ import annotations

from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus, Phase, Step


def current_step(spec: MigrationPlanSpec, weight: int) -> Step | None:
    """Return the step that a weight belongs to: the last one that it reaches; ``None`` below the first."""
    reached = [step for step in spec.steps if step.weight <= weight]
    return reached[-1] if reached else None


def next_step(spec: MigrationPlanSpec, weight: int) -> Step | None:
    """Return the first step above a weight; ``None`` at the top.

    Steps are found by weight and not by position, so that an edit of a running plan can insert or drop steps without
    a jump back.
    """
    return next((step for step in spec.steps if step.weight > weight), None)


def progress(spec: MigrationPlanSpec, weight: int | None) -> str:
    """Write the step that a weight belongs to as ``2/4``."""
    reached = sum(step.weight <= (weight or 0) for step in spec.steps)
    return f"{reached}/{len(spec.steps)}"


def shift_text(status: MigrationPlanStatus) -> str:
    """Return the percent of requests to EKS for the table: ``25``, or ``10→25`` until the gateway shows the new weight."""
    weight, checkpoint = status.weight, status.checkpoint
    if weight is None:
        return ""
    at_rest = status.phase in (Phase.COMPLETED, Phase.ROLLED_BACK)
    if at_rest or checkpoint is None or checkpoint.observed_at is not None or checkpoint.previous_weight == weight:
        return str(weight)
    return f"{checkpoint.previous_weight}→{weight}"
