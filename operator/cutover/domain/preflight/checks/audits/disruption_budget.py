"""Audit ``disruption-budget``: how many Pods the drain of nodes may take away at a time."""

from __future__ import annotations

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, Read, warned
from cutover.domain.preflight.inventory import only_spec
from cutover.domain.preflight.workload import WORKLOAD_READS, Workload, selects, workload_of
from cutover.domain.resources import POD_DISRUPTION_BUDGETS, Json


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find no budget, or one that lets no node be drained."""
    workload = workload_of(plan, facts.inventory)
    if workload is None or workload.replicas < 2:
        return PASSED  # a single replica is told by the audit of rollouts
    budgets = [
        body
        for body in facts.inventory.all(POD_DISRUPTION_BUDGETS)
        if body["metadata"]["namespace"] == plan.namespace and selects(body["spec"].get("selector"), workload.labels)
    ]
    if not budgets:
        return warned(
            "no PodDisruptionBudget selects the Pods: an upgrade of the nodes may take all of them away at once; have one with"
            " maxUnavailable 1"
        )
    stuck = [body["metadata"]["name"] for body in budgets if not _lets_go(body["spec"], workload)]
    if stuck:
        return warned(
            f"PodDisruptionBudget {', '.join(stuck)} lets no Pod go, so that no node can be drained: use maxUnavailable 1"
        )
    return PASSED


def _lets_go(spec: Json, workload: Workload) -> bool:
    most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
    if most is not None:
        return str(most) not in ("0", "0%")
    return str(least) != "100%" and not (isinstance(least, int) and least >= workload.replicas)


CHECK = Check(
    name="disruption-budget",
    passes_when="with two replicas or more, a PodDisruptionBudget selects the Pods and lets some go"
    " ([why](audits.md#disruption-budget))",
    judge=judge,
    reads=(
        *WORKLOAD_READS,
        Read(POD_DISRUPTION_BUDGETS, keep=only_spec("selector", "minAvailable", "maxUnavailable")),
    ),
    advisory=True,
    repeats=True,
)
