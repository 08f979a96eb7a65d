"""Check ``service``: the target Service exists, has the port, and selects the workload's Pods."""

from __future__ import annotations

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged, warned
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
        return _selects(plan, facts, service)
    has = ", ".join(map(str, ports)) or "none"
    return judged(f"Service {wanted.name} has no port {wanted.port} (it has {has}); correct eks.service.port")


def _selects(plan: Plan, facts: Facts, service: Json) -> Finding:
    """Find whether the Service selects the workload's Pods. One without a selector says nothing.

    A label with another value is proof that it does not. One that the template lacks is none: controllers and webhooks add
    labels to Pods.
    """
    reference = plan.spec.eks.workload_ref
    workload = facts.inventory.get(DEPLOYMENTS, plan.namespace, reference.name)
    selector = (service.get("spec") or {}).get("selector")
    if not selector or workload is None or "cut" in workload:
        return judged("")
    labels = Workload(workload, 0, 0, None, None).labels
    differ = [f"{name}: {value}" for name, value in selector.items() if labels.get(name, value) != value]
    lacking = [f"{name}: {value}" for name, value in selector.items() if name not in labels]
    who = f"Service {plan.spec.eks.service.name}", f"the Pods of {reference.kind} {reference.name}"
    what = "users would get other Pods than those that are judged, or none"
    todo = "correct the selector, eks.service.name or eks.workloadRef"
    if differ:
        return judged(
            f"{who[0]} does not select {who[1]}, whose template has no label {listed(differ)}: {what}; {todo}"
        )
    if lacking:
        return warned(
            f"{who[0]} selects {who[1]} only if something adds the label {listed(lacking)} to each of them, as the template has"
            f" none: otherwise {what}; if nothing adds it, {todo}"
        )
    return judged("")


CHECK = Check(
    name="service",
    passes_when="the Service exists, has the port, and selects the Pods of the Deployment; warns where its selector has a label that the Pod template lacks",
    reads=(SERVICE, DEPLOYMENT),
    judge=judge,
)
