"""Check ``workload``: the target workload has all its replicas available."""

from __future__ import annotations

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged, warned
from cutover.domain.preflight.commands import too_long
from cutover.domain.preflight.workload import DEPLOYMENT, Workload
from cutover.domain.resources import DEPLOYMENTS, Json
from cutover.domain.texts import listed


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
    return (
        warned(f"{what}: {unseen}, and audits do not judge what is beyond")
        if (unseen := _unseen(workload))
        else judged("")
    )


def _unseen(workload: Json) -> str:
    """Return what of the Deployment is too long to be looked at; ``""`` if all of it is."""
    if "cut" in workload:
        return f"{workload['cut']}, which is more than is looked at"
    every = Workload(workload, 0, 0, None, None)
    long = [container.name for container in (*every.containers, *every.init_containers) if too_long(container.words)]
    return f"the command of container {listed(long)} is too long to be looked at" if long else ""


CHECK = Check(
    name="workload",
    passes_when="the Deployment exists, wants at least one replica and has all it wants. It warns of a Deployment that is [too large to be looked at"
    " whole](security.md#how-much-is-looked-at)",
    reads=(DEPLOYMENT,),
    judge=judge,
)
