"""What a team has in its cluster before the plan: a VirtualService of its own, and its way to Heroku."""

from __future__ import annotations

from tests.kit.routing import rendered

from cutover.adapters.traffic.istio.rendering import DevelopmentHeroku
from cutover.domain.plan import Plan
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json


def own_heroku(environment: Environment, service: str) -> list[Json]:
    """Return what a team has already to reach its app on Heroku: the same host name, in objects of its own."""
    plan = Plan.from_object(
        {**manifests.plan(service), "metadata": {"name": service, "namespace": NAMESPACE, "uid": ""}}
    )
    entry, rule, *_ = rendered(plan, 0, development=DevelopmentHeroku("127.0.0.1", environment.apps.heroku_port))
    entry["spec"]["hosts"] = [manifests.heroku_hostname(service)]
    for body in (entry, rule):
        body["metadata"] = {"name": f"team-{service}", "namespace": NAMESPACE}
    return [entry, rule]


def virtual_service(service: str, *routes: Json, annotations: Json | None = None) -> Json:
    """Return the team's VirtualService for the service's host."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": f"team-{service}", "namespace": NAMESPACE, "annotations": annotations or {}},
        "spec": {
            "hosts": [manifests.public_host(service)],
            "gateways": ["istio-ingress/public"],
            "http": list(routes),
        },
    }


def to_heroku(service: str) -> Json:
    """Return the team's own destination on Heroku."""
    hostname = manifests.heroku_hostname(service)
    return {
        "destination": {"host": hostname, "port": {"number": 80}},
        "headers": {"request": {"set": {"host": hostname}}},
    }


def to_delegate(service: str) -> Json:
    """Return the route that delegates to the operator's VirtualService."""
    return {"delegate": {"name": f"cutover-{service}", "namespace": NAMESPACE}}


def in_own(service: str, ownership: str, **istio: object) -> Json:
    """Return the ``traffic`` of a plan that works with the team's VirtualService.

    Parameters
    ----------
    istio
        Further fields of ``traffic.istio``.
    """
    return {
        "istio": {
            "hosts": [manifests.public_host(service)],
            "gateways": ["istio-ingress/public"],
            "ownership": ownership,
            "virtualServiceRef": {"name": f"team-{service}"},
            **istio,
        }
    }
