"""Check ``service``: the target Service exists and has the port."""

from __future__ import annotations

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.workload import SERVICE
from cutover.domain.resources import SERVICES


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find the Service and its port."""
    wanted = plan.spec.eks.service
    service = facts.inventory.get(SERVICES, plan.namespace, wanted.name)
    if service is None:
        return judged(f"Service {wanted.name} does not exist; create it or correct eks.service.name")
    ports = [port["port"] for port in (service.get("spec") or {}).get("ports") or ()]
    if wanted.port in ports:
        return judged("")
    has = ", ".join(map(str, ports)) or "none"
    return judged(f"Service {wanted.name} has no port {wanted.port} (it has {has}); correct eks.service.port")


CHECK = Check(
    name="service",
    passes_when="the Service exists and has the port",
    reads=(SERVICE,),
    judge=judge,
)
