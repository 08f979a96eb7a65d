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

import hashlib
from dataclasses import dataclass
from datetime import timedelta

from cutover.adapters.traffic.istio import adopt as istio_adopt
from cutover.adapters.traffic.istio.names import eks_service, heroku_service, preview_service, probe_service
from cutover.adapters.traffic.istio.pinned import drawn, pinned
from cutover.api.v1alpha1 import HostHeader, Ownership
from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.names import (
    LEG_HEADER,
    PREVIEW_ROUTE,
    PROBE_HEADER,
    qualified_gateways,
    route_name,
)
from cutover.domain.preflight.checks.istio.preview_pods import PreviewPods
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import HEADER, Split, Trial
from cutover.domain.traffic import Leg

#: Names of the operator's routes: for the probes of each leg, and for the users.
PROBE_ROUTES = {Leg.HEROKU: "heroku-probe", Leg.EKS: "eks-probe"}
SPLIT_ROUTE = "split"

#: The name that a request asks for, as Envoy fills it in.
PUBLIC_NAME = "%REQ(:AUTHORITY)%"

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
NO_RETRIES: Json = {"attempts": 0}

#: A cause of retries that never is one: it asks for the names of headers, and none are given. A policy with attempts is
#: needed all the same, as Istio drops one without them together with its time-out.
NO_CAUSE = "retriable-headers"


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
    route: Split | Trial,
    *,
    development: DevelopmentHeroku | None = None,
    cluster_domain: str = "cluster.local",
    preview: PreviewPods | None = None,
) -> list[Json]:
    """Return the plan's objects, in the order in which they are created.

    An adopted VirtualService has no spec yet: the spec depends on the live object.

    Parameters
    ----------
    route
        The split in the route; in a trial it has the probes' routes alone.
    preview
        The Pods for testers; ``None`` if the plan has no preview, or while they are not known.
    """
    return [
        _service_entry(plan, development),
        _destination_rule(plan, route_name(plan), heroku_service(plan), development),
        # The prefix keeps its name different from those of all plans' objects.
        _destination_rule(plan, f"probe-{route_name(plan)}", probe_service(plan), development),
        *([_preview_entry(plan, preview, cluster_domain)] if preview is not None else []),
        _adopted(plan) if adopts(plan) else _virtual_service(plan, route, cluster_domain),
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


def _virtual_service(plan: Plan, route: Split | Trial, cluster_domain: str) -> Json:
    istio = plan.spec.traffic.istio
    # The gateways have to see it, whatever the mesh's default is. No other proxy uses it, as it is bound to them alone.
    reach: Json = {
        "hosts": list(istio.hosts),
        "gateways": list(qualified_gateways(plan)),
        "exportTo": ["*"],
    }
    if istio.ownership is Ownership.DELEGATE:
        # A delegate must have no hosts. It has to be visible to the root VirtualService.
        root = istio.virtual_service_ref.namespace if istio.virtual_service_ref is not None else None
        reach = {"exportTo": [".", *([root] if root not in (None, plan.namespace) else [])]}
    users = _users_routes(plan, route, cluster_domain) if isinstance(route, Split) else []
    spec = {**reach, "http": [*probe_routes(plan, route.revision, cluster_domain), *users]}
    return _object(VIRTUAL_SERVICES, plan, route_name(plan), spec)


def _users_routes(plan: Plan, split: Split, cluster_domain: str) -> list[Json]:
    """Return the routes of requests that are not drawn, and then the one whose requests are."""
    legs, preview = _legs(plan, cluster_domain), _preview_destination(plan, cluster_domain)
    undrawn = [
        {
            "name": one.name,
            "match": one.of(None),
            "route": [{**(preview if one.name == PREVIEW_ROUTE else legs[one.leg]), "weight": 100}],
            **_treatment(plan, split.revision),
        }
        for one in pinned(plan, split)
    ]
    parts = drawn(legs, plan, split)
    users = {"name": SPLIT_ROUTE, "route": [*parts[Leg.HEROKU], *parts[Leg.EKS]], **_treatment(plan, split.revision)}
    return [*undrawn, users]


def _legs(plan: Plan, cluster_domain: str) -> dict[Leg, Json]:
    """Return both legs' destinations for users, without weights."""
    told = plan.spec.traffic.istio.leg_header
    return {
        Leg.HEROKU: _heroku_destination(plan, heroku_service(plan), told=told),
        Leg.EKS: _eks_destination(plan, cluster_domain, told=told),
    }


def _preview_destination(plan: Plan, cluster_domain: str) -> Json:
    """Return the EKS leg's destination for testers."""
    host, there = preview_service(plan, cluster_domain), _legs(plan, cluster_domain)[Leg.EKS]
    return {**there, "destination": {**there["destination"], "host": host}}


def _adopted(plan: Plan) -> Json:
    reference = plan.spec.traffic.istio.virtual_service_ref
    body = _object(VIRTUAL_SERVICES, plan, reference.name if reference else "", {})
    # The team's tools set the managed-by label.
    body["metadata"]["labels"] = {PLAN_LABEL: plan.name}
    body["metadata"]["annotations"] = {**istio_adopt.HANDS_OFF, PLAN_UID_ANNOTATION: plan.uid}
    return body


def shape(plan: Plan, split: Split, cluster_domain: str) -> istio_adopt.Shape:
    """Return what is put into the routes of an adopted VirtualService."""
    legs = _legs(plan, cluster_domain)
    return istio_adopt.Shape(
        heroku=legs[Leg.HEROKU],
        eks=legs[Leg.EKS],
        preview=_preview_destination(plan, cluster_domain),
        probes=probe_routes(plan, split.revision, cluster_domain),
        revision=split.revision,
        retries=NO_RETRIES,
        keeps_host=plan.spec.heroku.host_header is HostHeader.PUBLIC,
    )


#: Characters of a probe's token, of 4 bits each.
TOKEN = 32


def probe_value(plan: Plan, leg: Leg, revision: str) -> str:
    """Return the value of the request header that sends a probe to a leg: the leg, and a token.

    With a value that anybody knows, strangers could choose their leg at any weight: EKS before its time, to fail requests
    in its name, or Heroku after it. The token follows from the plan's random UID, and from the revision of the route: each
    write of the weights changes it.

    Parameters
    ----------
    revision
        Revision of the route that the gateway has.
    """
    token = hashlib.sha256(f"{plan.uid}/{leg}/{revision}".encode(errors="surrogatepass")).hexdigest()[:TOKEN]
    return f"{leg}-{token}"


def probe_routes(plan: Plan, revision: str, cluster_domain: str) -> tuple[Json, Json]:
    """Return the routes of the operator's probes of Heroku and of EKS, with a revision."""
    destinations = {
        Leg.HEROKU: _heroku_destination(plan, probe_service(plan), told=True),
        # The users' own destination: its port, mTLS and policies are what is tried out.
        Leg.EKS: _eks_destination(plan, cluster_domain, told=True),
    }
    heroku, eks = (
        {
            "name": PROBE_ROUTES[leg],
            "match": [{"headers": {PROBE_HEADER: {"exact": probe_value(plan, leg, revision)}}}],
            "route": [{**destination, "weight": 100}],
            **_treatment(plan, revision),
        }
        for leg, destination in destinations.items()
    )
    return heroku, eks


def _treatment(plan: Plan, revision: str) -> Json:
    """Return the fields that all of the operator's own routes share."""
    istio = plan.spec.traffic.istio
    return {
        "headers": {
            # No leg, nor its logs, gets to know a probe's token.
            "request": {"remove": [PROBE_HEADER]},
            # Envoy also sets it on its own answers, such as 503 and 504.
            "response": {"set": {HEADER: revision}},
        },
        # Heroku's router limits the time until an answer begins, and not the answer: downloads and event streams may last
        # for hours. A route's ``timeout`` is for the whole answer. The time-out of a try ends once the answer has begun
        # (https://www.envoyproxy.io/docs/envoy/latest/faq/configuration/timeouts), and there is one try.
        "retries": {"attempts": 1, "perTryTimeout": _seconds(istio.first_byte_timeout), "retryOn": NO_CAUSE},
        **({"timeout": _seconds(istio.timeout)} if istio.timeout is not None else {}),
    }


def _seconds(duration: timedelta) -> str:
    return f"{int(duration.total_seconds())}s"


def _heroku_destination(plan: Plan, host: str, *, told: bool) -> Json:
    headers = _leg_headers(Leg.HEROKU, told=told)
    if plan.spec.heroku.host_header is HostHeader.APP:
        # Heroku's router finds the app by Host. The app learns the public name from x-forwarded-host, which Envoy fills in
        # before it rewrites Host.
        headers["request"] = {"set": {"Host": plan.spec.heroku.hostname, "x-forwarded-host": PUBLIC_NAME}}
    return {"destination": {"host": host, "port": {"number": HEROKU_PORT}}, "headers": headers}


def _eks_destination(plan: Plan, cluster_domain: str, *, told: bool) -> Json:
    return {
        "destination": {"host": eks_service(plan, cluster_domain), "port": {"number": plan.spec.eks.service.port}},
        "headers": _leg_headers(Leg.EKS, told=told),
    }


def _leg_headers(leg: Leg, *, told: bool) -> Json:
    return {"response": {"set": {LEG_HEADER: leg.value}}} if told else {}


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


def _preview_entry(plan: Plan, pods: PreviewPods, cluster_domain: str) -> Json:
    """Return the other name of the Service's Pods, by which the gateways count testers' requests apart from users'.

    As the endpoints are the Pods themselves, mTLS is theirs too.
    """
    port: Json = {"number": plan.spec.eks.service.port, "name": pods.port_name, "protocol": pods.protocol}
    if pods.target_port is not None:
        port["targetPort"] = pods.target_port
    spec = {
        "hosts": [preview_service(plan, cluster_domain)],
        "location": "MESH_INTERNAL",
        "ports": [port],
        "resolution": "STATIC",
        "workloadSelector": {"labels": dict(pods.labels)},
        "exportTo": _export_to(plan),
    }
    return _object(SERVICE_ENTRIES, plan, f"preview-{route_name(plan)}", spec)


def _destination_rule(plan: Plan, name: str, host: str, development: DevelopmentHeroku | None) -> Json:
    hostname = plan.spec.heroku.hostname
    # Without SNI and names Istio takes both from each request's Host (Envoy's auto_sni and auto_san_validation).
    tls: Json = {"mode": "SIMPLE"}
    if plan.spec.heroku.host_header is HostHeader.APP:
        # Both fields are needed: with an SNI and no names, the proxy would accept any certificate of a public CA.
        tls |= {"sni": hostname, "subjectAltNames": [hostname]}
    if development is not None and development.ca_certificates is not None:
        tls["caCertificates"] = development.ca_certificates
    elif development is not None:
        tls.pop("subjectAltNames", None)
        tls["insecureSkipVerify"] = True
    # HTTP/1.1 as from Heroku's own edge, whatever the mesh's h2UpgradePolicy is: WebSockets need it.
    http = {"idleTimeout": HEROKU_IDLE_TIMEOUT, "h2UpgradePolicy": "DO_NOT_UPGRADE"}
    policy = {"tls": tls, "connectionPool": {"http": http}}
    return _object(
        DESTINATION_RULES, plan, name, {"host": host, "trafficPolicy": policy, "exportTo": _export_to(plan)}
    )


def _export_to(plan: Plan) -> list[str]:
    """Return the namespaces to which the Heroku leg is visible: the plan's and the gateways'."""
    namespaces = {gateway.split("/", 1)[0] for gateway in qualified_gateways(plan)}
    return [".", *sorted(namespaces - {plan.namespace})]
