"""Check ``service``: the target Service exists, has the port, and selects the workload's Pods."""

from __future__ import annotations

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.workload import DEPLOYMENT, SERVICE, Workload
from cutover.domain.resources import DEPLOYMENTS, SERVICES, Json
from cutover.domain.texts import listed


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find the Service, its port, and whether it leads to the workload."""
    wanted = plan.spec.eks.service
    service = facts.inventory.get(SERVICES, plan.namespace, wanted.name)
    if service is None:
        return judged(f"Service {wanted.name} does not exist; create it or correct eks.service.name")
    ports = [port["port"] for port in (service.get("spec") or {}).get("ports") or ()]
    if wanted.port in ports:
        return judged(_elsewhere(plan, facts, service))
    has = ", ".join(map(str, ports)) or "none"
    return judged(f"Service {wanted.name} has no port {wanted.port} (it has {has}); correct eks.service.port")


def _elsewhere(plan: Plan, facts: Facts, service: Json) -> str:
    """Return that the Service does not select the workload's Pods; ``""`` if it does, or has no selector of its own."""
    reference = plan.spec.eks.workload_ref
    workload = facts.inventory.get(DEPLOYMENTS, plan.namespace, reference.name)
    selector = (service.get("spec") or {}).get("selector")
    if not selector or workload is None or "cut" in workload:
        return ""
    labels = Workload(workload, 0, 0, None, None).labels
    missing = [f"{name}: {value}" for name, value in selector.items() if labels.get(name) != value]
    if not missing:
        return ""
    return (
        f"Service {plan.spec.eks.service.name} does not select the Pods of {reference.kind} {reference.name}, whose template has no"
        f" label {listed(missing)}: users would get other Pods than those that are judged, or none; correct the selector,"
        " eks.service.name or eks.workloadRef"
    )


CHECK = Check(
    name="service",
    passes_when="the Service exists, has the port, and selects the Pods of the Deployment",
    reads=(SERVICE, DEPLOYMENT),
    judge=judge,
)
