"""Cohorts and testers by what Envoy makes of the routes, without an operator."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from tests.kit.routing import rendered

from cutover.adapters.traffic.istio.adopt import adopt
from cutover.adapters.traffic.istio.rendering import DevelopmentHeroku, shape
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.preview_pods import PreviewPods
from cutover.domain.revision import Split
from devstack.api import fetch
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json

from .cohorts import User, come, drawn, try_eks
from .team_routes import in_own, own_heroku, to_delegate, to_heroku, virtual_service


@pytest.mark.uses("adopted-users", "delegated-users")
@pytest.mark.parametrize("ownership", ["Adopt", "Delegate"])
def test_users_stay_on_their_leg_by_a_route_of_the_teams_own(alone: Environment, ownership: str) -> None:
    """The same cohorts by a team's match, or by a root that delegates."""
    service = {"Adopt": "adopted-users", "Delegate": "delegated-users"}[ownership]
    manifest = manifests.plan(service)
    manifest["metadata"]["uid"] = ""
    manifest["spec"]["traffic"] = {
        **in_own(service, ownership),
        "preview": {"header": {"name": "x-try-eks", "value": "1"}},
        "affinity": {"cookie": {}},
    }
    plan = Plan.from_object({**manifest, "status": {"attempt": 1}})
    heroku = DevelopmentHeroku("127.0.0.1", alone.apps.heroku_port)
    pods = PreviewPods((("app", service),), "http", "HTTP", None)
    theirs = virtual_service(service, {"match": [{"uri": {"prefix": "/"}}], "route": [to_heroku(service)]})
    root = virtual_service(service, {"match": [{"uri": {"prefix": "/"}}], **to_delegate(service)})

    def at(weight: int) -> None:
        split = Split(1, weight)
        *companions, route = rendered(plan, weight, development=heroku, preview=pods)
        if ownership == "Adopt":
            spec, _ = adopt(theirs["spec"], plan, split, shape(plan, split, "cluster.local"), ())
            routes = [{**theirs, "spec": spec}]
        else:
            routes = [route, root]
        alone.stack.apply([*own_heroku(alone, service), *companions, *routes])
        somebody = User()

        def there() -> bool:
            with suppress(AssertionError, KeyError):
                come(alone, service, [somebody], split.revision)
            return somebody.revision == split.revision

        alone.until(f"{weight} % at the gateway", there, 30)

    users = [User() for _ in range(600)]
    for weight in (25, 10):
        at(weight)
        come(alone, service, users, f"a1-w{weight}")
        drawn(users, weight)
        assert set(try_eks(alone, service, 5)) == {"200 eks"}
    assert all(len(user.told) == 1 for user in users)


@pytest.mark.uses("preview-mtls")
def test_testers_connections_are_secured_as_users_are(alone: Environment) -> None:
    """By istiod: the same endpoints, with mTLS to those that speak it."""
    service = "preview-mtls"
    manifest = manifests.plan(service)
    manifest["metadata"]["uid"] = ""
    manifest["spec"]["traffic"]["preview"] = {"header": {"name": "x-try-eks", "value": "1"}}
    labels = {"app": service}
    sidecar: Json = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {"name": f"{service}-sidecar", "namespace": NAMESPACE},
        "spec": {
            "address": "127.0.0.2",
            "labels": {**labels, "security.istio.io/tlsMode": "istio"},
            "serviceAccount": service,
            "ports": {"http": 1234},
        },
    }
    pods = PreviewPods(tuple(labels.items()), "http", "HTTP", None)
    alone.stack.apply([sidecar, *rendered(Plan.from_object(manifest), 0, preview=pods)])
    name = f"{service}.{NAMESPACE}.svc.cluster.local"

    def endpoints(host: str) -> list[Json]:
        dump = json.loads(fetch(f"{alone.stack.envoy_admin_url}/config_dump?include_eds"))
        found = [
            endpoint
            for part in dump["configs"]
            for one in (*part.get("static_endpoint_configs", ()), *part.get("dynamic_endpoint_configs", ()))
            if one["endpoint_config"].get("cluster_name") == f"outbound|80||{host}"
            for group in one["endpoint_config"].get("endpoints", ())
            for endpoint in group.get("lb_endpoints", ())
        ]
        return sorted(found, key=json.dumps)

    def told(endpoint: Json) -> Json:
        match = endpoint.get("metadata", {}).get("filter_metadata", {}).get("envoy.transport_socket_match", {})
        return {"address": endpoint["endpoint"]["address"], **match}

    def secured(host: str) -> str:
        """Return how the gateway connects to a name's endpoints, without the name."""
        dump = json.loads(fetch(f"{alone.stack.envoy_admin_url}/config_dump"))
        cluster = next(
            one["cluster"]
            for part in dump["configs"]
            for one in part.get("dynamic_active_clusters", ())
            if one["cluster"]["name"] == f"outbound|80||{host}"
        )
        kept = {name: value for name, value in cluster.items() if name.startswith("transport_socket")}
        return json.dumps(kept, sort_keys=True).replace(host, "")

    alone.until("both names at the gateway", lambda: len(endpoints(f"cutover-preview.{name}")) == 2, 30)
    users, testers = ([told(one) for one in endpoints(host)] for host in (name, f"cutover-preview.{name}"))
    assert testers == users
    assert [one.get("tlsMode") for one in users] == ["istio", None] or [one.get("tlsMode") for one in users] == [
        None,
        "istio",
    ]
    assert secured(f"cutover-preview.{name}") == secured(name)
    print(users, secured(name))
