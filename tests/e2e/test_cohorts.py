"""Users who stay on a leg, and testers before them, as they see it at the gateway."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlencode

import aiohttp
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

from .observing import at_weight
from .playing import RATE, scenario, set_rate
from .team_routes import in_own, own_heroku, to_delegate, to_heroku, virtual_service

STEPS = [{"weight": weight, "hold": "5s"} for weight in (10, 25, 50, 100)]
#: Few requests prove a step: what is judged here is where users are.
GATES = {
    "block": "5s",
    "warmUp": "5s",
    "slos": [
        {"name": "errors", "errors": {"advance": {"ratio": 1.5, "margin": 0.05}}},
        {"name": "answers", "mode": "Observe", "answers": {}},
    ],
}
#: Percent of all users who move with each step.
COHORTS = {10: 10, 25: 15, 50: 25, 100: 50}
USERS = 1500
TRY_EKS = {"x-try-eks": "1"}


@dataclass
class User:
    """Somebody with a browser: what it was told to keep, and which leg answered last, under which revision."""

    cookie: str = ""
    leg: str = ""
    revision: str = ""
    told: list[str] = field(default_factory=list)

    @property
    def cohort(self) -> int:
        return int(self.cookie.rsplit(".", 1)[1])


async def _come(environment: Environment, host: str, users: list[User]) -> None:
    headers = {"host": host}
    connections = aiohttp.TCPConnector(limit=20)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        environment.stack.gateway_url, headers=headers, connector=connections, cookie_jar=jar
    ) as session:

        async def ask(user: User) -> None:
            sent = {"cookie": f"theme=dark; {user.cookie}; lang=en"} if user.cookie else {}
            async with session.get("/", headers=sent) as response:
                assert response.status == 200
                user.leg, user.revision = response.headers["x-leg"], response.headers["x-cutover-revision"]
                for told in response.headers.getall("set-cookie", []):
                    user.told.append(told)
                    user.cookie = told.split(";")[0]

        await asyncio.gather(*(ask(user) for user in users))


def come(environment: Environment, service: str, users: list[User], revision: str) -> Counter[str]:
    """Have each user ask once; return how many each leg has answered."""
    asyncio.run(_come(environment, manifests.public_host(service), users))
    assert {user.revision for user in users} == {revision}
    return Counter(user.leg for user in users)


def fits(number: int, of: int, percent: float) -> bool:
    part = percent / 100
    return abs(number - of * part) <= 4 * math.sqrt(of * part * (1 - part))


def drawn(users: list[User], weight: int) -> None:
    """See that users were drawn into the cohorts, and are where their cohort is."""
    counts = Counter(user.cohort for user in users)
    assert counts.keys() == COHORTS.keys()
    assert all(fits(counts[cohort], len(users), percent) for cohort, percent in COHORTS.items()), counts
    assert all((user.leg == "eks") is (user.cohort <= weight) for user in users)


def try_eks(environment: Environment, service: str, requests: int) -> list[str]:
    return asyncio.run(_try_eks(environment, manifests.public_host(service), requests))


async def _try_eks(environment: Environment, host: str, requests: int) -> list[str]:
    async with aiohttp.ClientSession(environment.stack.gateway_url, headers={"host": host, **TRY_EKS}) as session:

        async def ask() -> str:
            async with session.get("/") as response:
                return f"{response.status} {response.headers.get('x-leg')}"

        return list(await asyncio.gather(*(ask() for _ in range(requests))))


def counted(environment: Environment, destination: str) -> float:
    """Return the gateway's requests to a destination, by Prometheus."""
    query = urlencode({"query": f'sum(istio_requests_total{{destination_service="{destination}"}})'})
    found = json.loads(fetch(f"{environment.stack.prometheus_url}/api/v1/query?{query}"))["data"]["result"]
    return float(found[0]["value"][1]) if found else 0.0


@scenario("cohorts", minutes=5.75)
def test_users_stay_on_their_leg_until_a_step_moves_them(environment: Environment) -> None:
    """Shares are exact at each step, nobody goes back but by a rollback, which voids all cookies; testers count nowhere."""
    service, host = "cohorts", manifests.public_host("cohorts")
    traffic = {
        "istio": {"hosts": [host], "gateways": ["istio-ingress/public"]},
        "preview": {"header": {"name": "x-try-eks", "value": "1"}},
        "affinity": {"cookie": {"maxAge": "1h"}},
    }
    plan = manifests.plan(service, gates=GATES, steps=STEPS, soak="10m", traffic=traffic, ceiling=10)
    set_rate(environment, service, RATE)
    environment.apply({**plan, "spec": {**plan["spec"], "ceiling": 0}})
    environment.until_status(service, 120, reason="Ceiling")
    # Testers are on EKS before anybody, and their failures are nobody's.
    environment.knobs("eks", service).set(error_ratio=1.0)
    assert set(try_eks(environment, service, 50)) == {"500 eks"}
    environment.knobs("eks", service).set(error_ratio=0.0)
    assert set(try_eks(environment, service, 50)) == {"200 eks"}
    name = f"{service}.{NAMESPACE}.svc.cluster.local"
    testers = f"cutover-preview.{name}"
    environment.until("the testers' requests", lambda: counted(environment, testers) == 100, 30)
    assert counted(environment, name) < 20, "probes alone"
    assert environment.status(service)["share"]["observed"] == 0

    users = [User() for _ in range(USERS)]
    environment.apply(plan)
    at_weight(environment, service, 10, 120)
    come(environment, service, users, "a1-w10")
    drawn(users, 10)
    assert all(
        re.fullmatch(r"cutover=a1-[0-9a-f]{8}\.\d+; Path=/; Max-Age=3600; Secure; HttpOnly; SameSite=Lax", told)
        for user in users
        for told in user.told
    )
    assert all(len(user.told) == 1 for user in users)
    late = [User() for _ in range(USERS)]
    for weight in (25, 50, 100):
        environment.patch(service, {"spec": {"ceiling": weight}})
        at_weight(environment, service, weight, 180)
        # A half of them is away for a step.
        here = users if weight != 25 else users[::2]
        come(environment, service, here, f"a1-w{weight}")
        assert all((user.leg == "eks") is (user.cohort <= weight) for user in here)
        if weight == 25:
            come(environment, service, late, "a1-w25")
            drawn(late, 25)
            users += late
    assert all(len(user.told) == 1 for user in users), "nobody is drawn twice"

    environment.stack.kubectl("-n", NAMESPACE, "annotate", "mplan", service, "cutover.dev/rollback=a1")
    environment.until_status(service, 60, phase="RolledBack")
    assert come(environment, service, users, "a1-rollback") == {"heroku": len(users)}
    assert set(try_eks(environment, service, 10)) == {"200 eks"}, "testers stay: they are to see what it was"
    environment.patch(service, {"spec": {"attempt": 2, "ceiling": 10}})
    environment.until_status(service, 60, attempt=2)
    at_weight(environment, service, 10, 120)
    come(environment, service, users, "a2-w10")
    drawn(users, 10)
    assert all(len(user.told) == 2 for user in users), "all were drawn anew"


@pytest.mark.uses("adopted-users", "delegated-users")
@pytest.mark.parametrize("ownership", ["Adopt", "Delegate"])
def test_users_stay_on_their_leg_by_a_route_of_the_teams_own(alone: Environment, ownership: str) -> None:
    """By what Envoy makes of it, without an operator: the same cohorts by a team's match, or by a root that delegates."""
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
