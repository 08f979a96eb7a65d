"""Names of a plan's objects and legs in Istio."""

from __future__ import annotations

from collections.abc import Callable

from cutover.api.v1alpha1 import MigrationPlanSpec, Ownership
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Key

ROUTE_PREFIX = "cutover-"
#: What names that the operator gives to objects begin with.
OWN_PREFIXES = (ROUTE_PREFIX, f"probe-{ROUTE_PREFIX}")
#: What the mesh's names for the Heroku leg begin with: for users, and for the operator's probes.
LEG_PREFIX, PROBE_PREFIX = "cutover-heroku.", "cutover-probe."
#: Request headers that set the Host.
HOST_HEADERS = ("host", ":authority")


def qualified(gateway: str, namespace: str) -> str:
    """Return a Gateway's ``namespace/name``, as an object of a namespace names it."""
    return gateway if "/" in gateway else f"{namespace}/{gateway}"


def qualified_gateways(plan: Plan) -> tuple[str, ...]:
    """Return the plan's gateways as ``namespace/name``."""
    return plan.spec.traffic.istio.qualified_gateways(plan.namespace)


def gateway_keys(plan: Plan) -> list[Key]:
    """Return namespace and name of each of the plan's gateways."""
    pairs = (gateway.split("/", 1) for gateway in qualified_gateways(plan))
    return [(namespace, name) for namespace, name in pairs]


def uses_istio(spec: MigrationPlanSpec) -> bool:
    """Tell whether Istio moves the plan's traffic."""
    return "istio" in spec.traffic.model_fields_set


def owned_by(ownership: Ownership) -> Callable[[MigrationPlanSpec], bool]:
    """Return what tells whether a plan has that ownership in Istio."""
    return lambda spec: uses_istio(spec) and spec.traffic.istio.ownership is ownership


def generates(spec: MigrationPlanSpec) -> bool:
    """Tell whether the operator makes the hosts' route of its own."""
    return spec.traffic.istio.ownership is Ownership.GENERATE


def route_name(plan: Plan) -> str:
    """Return the name of the plan's own VirtualService, ServiceEntry and DestinationRule."""
    return f"{ROUTE_PREFIX}{plan.name}"


def root_key(plan: Plan) -> Key | None:
    """Return namespace and name of the team's own VirtualService that the plan works with, if there is one."""
    reference = plan.spec.traffic.istio.virtual_service_ref
    return (plan.namespace, reference.name) if reference is not None else None


def leg_host(hostname: str) -> str:
    """Return the mesh's name for the Heroku leg beside a VirtualService of the team's.

    The team may have a ServiceEntry and a DestinationRule of its own for the host name. Two of a name would be merged,
    and whose TLS settings win depends on their age.
    """
    return f"{LEG_PREFIX}{hostname}"


def probe_host(hostname: str) -> str:
    """Return the mesh's name for the Heroku leg as the operator's probes use it."""
    return f"{PROBE_PREFIX}{hostname}"
