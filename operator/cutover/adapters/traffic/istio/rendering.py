"""Renders a plan's objects in Istio. All functions are pure.

The objects depend only on the plan's spec and on the decided split. The VirtualService carries the weights. With the
ownerships ``Generate`` and ``Delegate`` it is the operator's; with ``Delegate`` it has neither hosts nor gateways, as the
team's VirtualService delegates to it. With ``Adopt`` it is the team's, and the operator owns the plan's routes in it, see
:mod:`cutover.adapters.traffic.istio.adopt`.

The objects carry **no owner references**. Garbage collection would delete a route while users' requests need it: at
once when the plan is deleted in the foreground (as Argo CD prunes), before the operator's finalizer has left traffic where
it has to stay, and when a person removes that finalizer or the CRD. A missing route is an outage of the host. The objects
belong to the plan by label and by the annotation with its UID, and outlive it; the docs say how to remove them.
"""

from __future__ import annotations

from dataclasses import dataclass

from cutover.adapters.traffic.istio import adopt as istio_adopt
from cutover.adapters.traffic.istio.names import eks_service, heroku_service, probe_service
from cutover.api.v1alpha1 import Ownership
from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import qualified_gateways, route_name
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import HEADER, Split

#: Request header and value of the operator's probes, which the first route sends to the Heroku leg.
PROBE_HEADER = "x-cutover-probe"
PROBE_VALUE = "heroku"

#: Response header with the leg that answered, for people and load generators.
LEG_HEADER = "x-cutover-leg"

#: Names of the operator's two routes.
PROBE_ROUTE = "heroku-probe"
SPLIT_ROUTE = "split"

#: Port of the ServiceEntry inside the mesh; TLS starts in the gateway's proxy.
HEROKU_PORT = 80
HEROKU_TLS_PORT = 443

#: Idle time-out of connections to Heroku's router, which closes them after 55 s: a request on a connection that the router
#: has just closed fails.
HEROKU_IDLE_TIMEOUT = "30s"

#: Marks that keep deployment tools from changing the objects. Helm needs none: it manages its own releases only.
_ANNOTATIONS = {
    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
    "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
    "argocd.argoproj.io/sync-options": "Prune=false",
}

#: Retries on both legs: none. The mesh's default repeats a refused connection twice: of an EKS leg with a third of its Pods
#: dead, the gate would see a ninth of the failures. Without retries a user's request is one attempt, one count in
#: istio_requests_total and one answer, equally on both legs. The field has to be set: otherwise the mesh's default applies.
RETRIES = 0


@dataclass(frozen=True, slots=True)
class DevelopmentHeroku:
    """The stand-in for Heroku in a development stack. Never set in production.

    Parameters
    ----------
    address
        IP address of the stand-in for every Heroku app.
    port
        Its port, with TLS.
    ca_certificates
        Path *in the gateway's proxy* of the CA of its certificate; this needs Istio's agent beside the proxy. ``None``: the
        certificate is not verified.
    """

    address: str
    port: int
    ca_certificates: str | None = None


def render(
    plan: Plan,
    split: Split,
    *,
    development: DevelopmentHeroku | None = None,
    cluster_domain: str = "cluster.local",
) -> list[Json]:
    """Return the plan's objects, in the order in which they are created.

    An adopted VirtualService has no spec yet: the spec depends on the live object.

    Parameters
    ----------
    split
        The split in the route.
    """
    return [
        _service_entry(plan, development),
        _destination_rule(plan, route_name(plan), heroku_service(plan), development),
        # The prefix keeps its name different from those of all plans' objects.
        _destination_rule(plan, f"probe-{route_name(plan)}", probe_service(plan), development),
        _adopted(plan) if adopts(plan) else _virtual_service(plan, split, cluster_domain),
    ]


def adopts(plan: Plan) -> bool:
    """Tell whether the plan adopts the team's VirtualService."""
    return plan.spec.traffic.istio.ownership is Ownership.ADOPT


def _object(resource: Resource, plan: Plan, name: str, spec: Json) -> Json:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": plan.namespace,
            "labels": {MANAGED_BY_LABEL: FIELD_MANAGER, PLAN_LABEL: plan.name},
            "annotations": {**_ANNOTATIONS, PLAN_UID_ANNOTATION: plan.uid},
        },
        "spec": spec,
    }


def _virtual_service(plan: Plan, split: Split, cluster_domain: str) -> Json:
    istio = plan.spec.traffic.istio
    users = {
        "name": SPLIT_ROUTE,
        # Both legs are listed at every weight, so that a step changes only two numbers and the revision.
        "route": [
            _heroku_destination(plan, heroku_service(plan), 100 - split.weight),
            {**_eks_destination(plan, cluster_domain), "weight": split.weight},
        ],
        **_treatment(plan, split),
    }
    reach: Json = {"hosts": list(istio.hosts), "gateways": list(qualified_gateways(plan))}
    if istio.ownership is Ownership.DELEGATE:
        # A delegate must have no hosts. It has to be visible to the root VirtualService, whatever the mesh's default.
        reach = {"exportTo": ["."]}
    spec = {**reach, "http": [_probe_route(plan, split), users]}
    return _object(VIRTUAL_SERVICES, plan, route_name(plan), spec)


def _adopted(plan: Plan) -> Json:
    reference = plan.spec.traffic.istio.virtual_service_ref
    body = _object(VIRTUAL_SERVICES, plan, reference.name if reference else "", {})
    # The team's tools set the managed-by label.
    body["metadata"]["labels"] = {PLAN_LABEL: plan.name}
    body["metadata"]["annotations"] = {**istio_adopt.HANDS_OFF, PLAN_UID_ANNOTATION: plan.uid}
    return body


def shape(plan: Plan, split: Split, cluster_domain: str) -> istio_adopt.Shape:
    """Return what is put into the routes of an adopted VirtualService."""
    treatment = _treatment(plan, split)
    return istio_adopt.Shape(
        heroku=_heroku_destination(plan, heroku_service(plan), 0),
        eks=_eks_destination(plan, cluster_domain),
        probe=_probe_route(plan, split),
        revision=split.revision,
        defaults={name: treatment[name] for name in ("timeout", "retries")},
    )


def _probe_route(plan: Plan, split: Split) -> Json:
    return {
        "name": PROBE_ROUTE,
        "match": [{"headers": {PROBE_HEADER: {"exact": PROBE_VALUE}}}],
        "route": [_heroku_destination(plan, probe_service(plan), 100)],
        **_treatment(plan, split),
    }


def _treatment(plan: Plan, split: Split) -> Json:
    """Return the fields that both routes share."""
    return {
        # Envoy also sets it on its own answers, such as 503 and 504.
        "headers": {"response": {"set": {HEADER: split.revision}}},
        "timeout": f"{int(plan.spec.traffic.istio.timeout.total_seconds())}s",
        "retries": {"attempts": RETRIES},
    }


def _heroku_destination(plan: Plan, host: str, weight: int) -> Json:
    # Heroku's router finds the app by Host. The app learns the public name from x-forwarded-host, which Envoy fills in
    # before it rewrites Host.
    request = {"Host": plan.spec.heroku.hostname, "x-forwarded-host": "%REQ(:AUTHORITY)%"}
    return {
        "destination": {"host": host, "port": {"number": HEROKU_PORT}},
        "weight": weight,
        "headers": {"request": {"set": request}, "response": {"set": {LEG_HEADER: "heroku"}}},
    }


def _eks_destination(plan: Plan, cluster_domain: str) -> Json:
    return {
        "destination": {"host": eks_service(plan, cluster_domain), "port": {"number": plan.spec.eks.service.port}},
        "headers": {"response": {"set": {LEG_HEADER: "eks"}}},
    }


def _service_entry(plan: Plan, development: DevelopmentHeroku | None) -> Json:
    endpoint: Json = {"address": plan.spec.heroku.hostname}
    if development is not None:
        endpoint = {"address": development.address, "ports": {"http": development.port}}
    spec = {
        "hosts": [heroku_service(plan), probe_service(plan)],
        "location": "MESH_EXTERNAL",
        "ports": [{"number": HEROKU_PORT, "name": "http", "protocol": "HTTP", "targetPort": HEROKU_TLS_PORT}],
        "resolution": "STATIC" if development is not None else "DNS",
        "endpoints": [endpoint],
        "exportTo": _export_to(plan),
    }
    return _object(SERVICE_ENTRIES, plan, route_name(plan), spec)


def _destination_rule(plan: Plan, name: str, host: str, development: DevelopmentHeroku | None) -> Json:
    hostname = plan.spec.heroku.hostname
    # Both fields are needed: with an SNI and no names, the proxy would accept any certificate of a public CA.
    tls: Json = {"mode": "SIMPLE", "sni": hostname, "subjectAltNames": [hostname]}
    if development is not None and development.ca_certificates is not None:
        tls["caCertificates"] = development.ca_certificates
    elif development is not None:
        tls = {"mode": "SIMPLE", "sni": hostname, "insecureSkipVerify": True}
    policy = {"tls": tls, "connectionPool": {"http": {"idleTimeout": HEROKU_IDLE_TIMEOUT}}}
    return _object(
        DESTINATION_RULES, plan, name, {"host": host, "trafficPolicy": policy, "exportTo": _export_to(plan)}
    )


def _export_to(plan: Plan) -> list[str]:
    """Return the namespaces to which the Heroku leg is visible: the plan's and the gateways'."""
    namespaces = {gateway.split("/", 1)[0] for gateway in qualified_gateways(plan)}
    return [".", *sorted(namespaces - {plan.namespace})]
