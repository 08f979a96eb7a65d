"""Check ``preview-pods``: testers' requests can go to the Service's Pods under another name.

The mesh counts requests by the name of their destination. So with ``traffic.preview`` the same Pods get a second name, by the
Service's selector, in a ServiceEntry. That one needs the Pods' port as a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, Read, judged, warned
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES
from cutover.domain.preflight.checks.istio.names import PREVIEW_PREFIX, uses_istio
from cutover.domain.preflight.inventory import only_spec
from cutover.domain.preflight.workload import DEPLOYMENT, SERVICE, pods_port, service_port
from cutover.domain.resources import DEPLOYMENTS, SERVICES, Json

#: Istio's protocols, by the beginning of a port's name or its ``appProtocol``.
_PROTOCOLS = {"http2": "HTTP2", "kubernetes.io/h2c": "HTTP2", "grpc": "GRPC"}


@dataclass(frozen=True, slots=True)
class PreviewPods:
    """The Pods behind the Service, as a ServiceEntry selects them.

    Parameters
    ----------
    labels
        The Service's selector.
    port_name
        Name of the Service's port.
    protocol
        The port's protocol, by Istio's name for it.
    target_port
        The Pods' port; ``None`` if it is the Service's own.
    """

    labels: tuple[tuple[str, str], ...]
    port_name: str
    protocol: str
    target_port: int | None


def preview_pods(plan: Plan, service: Json | None, workload: Json | None) -> PreviewPods | str:
    """Return the Pods, or why they cannot be selected and what to do.

    Parameters
    ----------
    service, workload
        The plan's Service and Deployment; ``None`` if they do not exist.
    """
    wanted = plan.spec.eks.service
    name, spec = f"Service {wanted.name}", (service or {}).get("spec") or {}
    port = service_port(plan, service)
    if service is None or port is None:
        return f"{name} has no port {wanted.port}; correct eks.service"
    if not spec.get("selector"):
        return f"{name} has no selector, by which testers' requests would find its Pods; give it one, or take traffic.preview out"
    named = port.get("targetPort", wanted.port)
    target = pods_port(workload or {}, named)
    if target is None:
        return (
            f"{name} names its targetPort {named}, which no container of {plan.spec.eks.workload_ref.name} has; write"
            " its number, or the name of a containerPort"
        )
    return PreviewPods(
        labels=tuple(sorted(spec["selector"].items())),
        port_name=port.get("name") or "http",
        protocol=_protocol(port),
        target_port=None if target == wanted.port else target,
    )


def _protocol(port: Mapping[str, Any]) -> str:
    said = str(port.get("appProtocol") or str(port.get("name") or "").split("-", 1)[0]).lower()
    return _PROTOCOLS.get(said, "HTTP")


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find the Pods, and what is said of users' connections to them and does not hold for testers'."""
    inventory, service = facts.inventory, plan.spec.eks.service.name
    found = preview_pods(
        plan,
        inventory.get(SERVICES, plan.namespace, service),
        inventory.get(DEPLOYMENTS, plan.namespace, plan.spec.eks.workload_ref.name),
    )
    if isinstance(found, str):
        return judged(found)
    whole = f"{service}.{plan.namespace}.svc."
    rules = [
        rule["metadata"]["name"]
        for rule in inventory.all(DESTINATION_RULES)
        if (host := str(rule["spec"].get("host", "")).lower()).startswith(whole)
        or (host == service and rule["metadata"]["namespace"] == plan.namespace)
    ]
    if not rules:
        return judged("")
    domain = inventory.settings.cluster_domain
    return warned(
        f"DestinationRule {', '.join(sorted(rules))} is for users' requests to {service} alone; what it says (a"
        f" trafficPolicy, the Pods of a subset) does not hold for testers': if it should, write one for host"
        f" {PREVIEW_PREFIX}{whole}{domain} too, or skip this check"
    )


def _previews(spec: MigrationPlanSpec) -> bool:
    return uses_istio(spec) and spec.traffic.preview is not None


CHECK = Check(
    name="preview-pods",
    passes_when="with `traffic.preview`: the Service has a selector, and the Pods' port is known as a number. It warns of"
    " DestinationRules for the Service, which are [not for testers' requests](testers.md)",
    applies=_previews,
    reads=(SERVICE, DEPLOYMENT, Read(DESTINATION_RULES, keep=only_spec("host"))),
    judge=judge,
)
