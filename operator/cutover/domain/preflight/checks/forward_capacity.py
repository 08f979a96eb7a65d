"""Check ``forward-capacity``: from which weight on EKS could take all users, where the plan wants that."""

from __future__ import annotations

from cutover.api.v1alpha1 import DownAction
from cutover.domain.plan import Plan
from cutover.domain.preflight.capacity import READS, capacity_for_all
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, warned


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find the lowest step at which there are replicas enough; the number of replicas may grow until then."""
    weights = [step.weight for step in plan.spec.steps if step.weight < 100]
    found = [(weight, capacity_for_all(plan, facts.inventory, weight)) for weight in weights]
    if not found or found[0][1].enough:
        return PASSED
    first = next((weight for weight, capacity in found if capacity.enough), None)
    when = "at none of its steps" if first is None else f"only from {first} % on"
    return warned(f"as things are now, onHerokuDown can act {when}: at {found[0][0]} % {found[0][1].text}")


CHECK = Check(
    name="forward-capacity",
    passes_when="with `onHerokuDown: {action: Forward}`: the Deployment's ready replicas, or its HorizontalPodAutoscaler's"
    " maximum, are [enough for all users](operating.md#when-heroku-is-down) from the first step on; warns otherwise",
    reads=READS,
    judge=judge,
    applies=lambda spec: spec.on_heroku_down.action is DownAction.FORWARD,
)
