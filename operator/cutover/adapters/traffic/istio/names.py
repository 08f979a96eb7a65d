"""Names of a plan's legs in the mesh: hosts of the ServiceEntry, and names in the gateways' metrics."""

from __future__ import annotations

from cutover.api.v1alpha1 import Ownership
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import PREVIEW_PREFIX, leg_host, probe_host


def heroku_service(plan: Plan) -> str:
    """Return the Heroku leg's ``destination_service`` in Istio's metrics."""
    hostname = plan.spec.heroku.hostname
    return hostname if plan.spec.traffic.istio.ownership is Ownership.GENERATE else leg_host(hostname)


def eks_service(plan: Plan, cluster_domain: str = "cluster.local") -> str:
    """Return the EKS leg's ``destination_service`` in Istio's metrics."""
    return f"{plan.spec.eks.service.name}.{plan.namespace}.svc.{cluster_domain}"


def probe_service(plan: Plan) -> str:
    """Return the mesh's name of the Heroku leg for the operator's probes.

    It is a second name of the same endpoint, so that probes do not count as users' requests: in the metrics that the gates
    compare, a probe every few seconds would be most of Heroku's traffic when Heroku's share is small.
    """
    return probe_host(plan.spec.heroku.hostname)


def preview_service(plan: Plan, cluster_domain: str = "cluster.local") -> str:
    """Return the mesh's name of the EKS leg for testers: another name of the same Pods, so that they do not count as users.

    It is inside the Service's own domain, so that DestinationRules for a whole namespace or cluster mean it too.
    """
    return f"{PREVIEW_PREFIX}{eks_service(plan, cluster_domain)}"


def gateway_namespaces(plan: Plan) -> tuple[str, ...]:
    """Return the namespaces of the plan's gateways, sorted."""
    gateways = plan.spec.traffic.istio.qualified_gateways(plan.namespace)
    return tuple(sorted({gateway.split("/", 1)[0] for gateway in gateways}))
