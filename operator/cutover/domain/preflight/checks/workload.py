"""Check ``workload``: the target workload has all its replicas available."""

from __future__ import annotations

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.workload import DEPLOYMENT
from cutover.domain.resources import DEPLOYMENTS


def judge(plan: Plan, facts: Facts) -> Finding:
    """Compare the available replicas with the desired ones."""
    reference = plan.spec.eks.workload_ref
    what = f"{reference.kind} {reference.name}"
    workload = facts.inventory.get(DEPLOYMENTS, plan.namespace, reference.name)
    if workload is None:
        return judged(f"{what} does not exist; create it or correct eks.workloadRef")
    wanted = (workload.get("spec") or {}).get("replicas", 1)
    available = (workload.get("status") or {}).get("availableReplicas", 0)
    if wanted == 0:
        return judged(f"{what} is scaled to zero; scale it up")
    if available < wanted:
        return judged(f"{what} has {available} of {wanted} replicas available; see its events")
    return judged("")


CHECK = Check(
    name="workload",
    passes_when="the Deployment exists, wants at least one replica and has all it wants",
    reads=(DEPLOYMENT,),
    judge=judge,
)
