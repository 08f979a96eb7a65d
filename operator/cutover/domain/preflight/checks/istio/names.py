"""Names of a plan's objects and of its legs in Istio."""

from __future__ import annotations

from collections.abc import Callable

from cutover.api.v1alpha1 import MigrationPlanSpec, Ownership
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Key

ROUTE_PREFIX = "cutover-"
#: Prefixes of the names of objects that the operator writes.
OPERATOR_PREFIXES = (ROUTE_PREFIX, f"probe-{ROUTE_PREFIX}", f"preview-{ROUTE_PREFIX}")
#: Prefixes of the mesh's names for the Heroku leg: for users, and for the operator's probes.
LEG_PREFIX, PROBE_PREFIX = "cutover-heroku.", "cutover-probe."
#: Prefix of the mesh's name for the EKS leg for testers.
PREVIEW_PREFIX = "cutover-preview."
#: Names of the operator's routes for requests that are not drawn: testers', and those of users who were.
PREVIEW_ROUTE, ON_EKS_ROUTE, ON_HEROKU_ROUTE = PINNED_ROUTES = (
    "cutover-preview",
    "cutover-on-eks",
    "cutover-on-heroku",
)
#: Request header of the operator's probes, by which their routes know them.
PROBE_HEADER = "x-cutover-probe"
#: Response header with the leg that answered: for probes, and for people and load generators unless it is switched off.
LEG_HEADER = "x-cutover-leg"
#: Request headers that set the Host.
HOST_HEADERS = ("host", ":authority")


def qualified(gateway: str, namespace: str) -> str:
    """Return a Gateway as ``namespace/name``, by its name in a VirtualService of a namespace.

    Istio knows five spellings: ``name``, ``namespace/name``, ``./name``, ``name.namespace`` and
    ``name.namespace.svc.cluster.local``.
    """
    owner, slash, name = gateway.partition("/")
    if slash:
        return f"{namespace}/{name}" if owner == "." else gateway
    name, dot, rest = gateway.partition(".")
    return f"{rest.split('.', 1)[0]}/{name}" if dot else f"{namespace}/{name}"


def destination_key(host: str, namespace: str) -> str:
    """Return a route's destination as ``service.namespace.svc.`` or, if it is no Service, in lower case.

    Parameters
    ----------
    host
        As the route has it. A name without a dot is a Service of the route's namespace.
    namespace
        The route's namespace.
    """
    labels = host.lower().split(".", 3)
    if len(labels) == 1:
        return f"{labels[0]}.{namespace}.svc."
    return ".".join((*labels[:3], "")) if len(labels) == 4 and labels[2] == "svc" else host.lower()


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
    """Return a predicate for specs with that ownership in Istio."""
    return lambda spec: uses_istio(spec) and spec.traffic.istio.ownership is ownership


def generates(spec: MigrationPlanSpec) -> bool:
    """Tell whether the plan has ownership ``Generate``: the operator writes the hosts' VirtualService."""
    return spec.traffic.istio.ownership is Ownership.GENERATE


def route_name(plan: Plan) -> str:
    """Return the name of the VirtualService, ServiceEntry and DestinationRule that the operator writes for a plan."""
    return f"{ROUTE_PREFIX}{plan.name}"


def root_key(plan: Plan) -> Key | None:
    """Return namespace and name of the team's VirtualService in ``virtualServiceRef``; ``None`` without one."""
    reference = plan.spec.traffic.istio.virtual_service_ref
    return (reference.namespace or plan.namespace, reference.name) if reference is not None else None


def leg_host(hostname: str) -> str:
    """Return the mesh's name for the Heroku leg with ownership ``Delegate`` and ``Adopt``.

    The team may have a ServiceEntry and a DestinationRule for the host name. The mesh would merge two objects with the
    same host name, and their age would decide whose TLS settings win.
    """
    return f"{LEG_PREFIX}{hostname}"


def probe_host(hostname: str) -> str:
    """Return the mesh's name for the Heroku leg as the operator's probes use it."""
    return f"{PROBE_PREFIX}{hostname}"
