"""Plans that ask for the same at the same moment, with the operator as a process: one takes over, and the other writes no route."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.kit.builders import plan_body_of
from tests.kit.waiting import until

from devstack.stack import Stack
from sandbox.manifests import heroku_hostname
from sandbox.operator_process import OperatorProcess

from .conftest import Api

Json = dict[str, Any]
PLANS = "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans"
ISTIO = "/apis/networking.istio.io/v1/namespaces/{}/{}"
GATEWAY = "istio-ingress/claims"
#: How often each of the cases is played; all at once.
ROUNDS = 4


class Pair(NamedTuple):
    """Two plans, as ``namespace/name``, in the order in which they are made."""

    first: str
    second: str

    @property
    def names(self) -> tuple[str, str]:
        return self.first, self.second


class TwoTeams:
    """Two namespaces whose targets are ready."""

    def __init__(self, stack: Stack, api: Api, namespace: str) -> None:
        self.stack, self.api = stack, api
        self.a, self.b = namespace, f"{namespace}-b"
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": self.b}})
        labels = {"app": "pdf"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
        for place in (self.a, self.b):
            metadata = {"name": "pdf", "namespace": place}
            spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
            stack.apply(
                [
                    {
                        "apiVersion": "v1",
                        "kind": "Service",
                        "metadata": metadata,
                        "spec": {"selector": labels, "ports": [{"port": 80}]},
                    },
                    {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
                ]
            )
            path = f"/apis/apps/v1/namespaces/{place}/deployments/pdf"
            ready = api.call("GET", path)[1]
            ready["status"] = {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}
            assert api.call("PUT", f"{path}/status", ready)[0] == 200
        server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
        gateway = {"apiVersion": "networking.istio.io/v1", "kind": "Gateway"}
        gateway |= {"metadata": {"namespace": "istio-ingress", "name": "claims"}}
        api.call("POST", "/api/v1/namespaces", {"metadata": {"name": "istio-ingress"}})
        stack.apply([{**gateway, "spec": {"selector": {"istio": "ingress"}, "servers": [server]}}])

    def plan(self, key: str, host: str, app: str) -> Json:
        namespace, name = key.split("/")
        body = plan_body_of(
            namespace, name, eks={"service": {"name": "pdf", "port": 80}, "workloadRef": {"name": "pdf"}}
        )
        body["spec"]["traffic"]["istio"] = {"hosts": [f"{host}.{self.a}.example.com"], "gateways": [GATEWAY]}
        body["spec"]["heroku"]["hostname"] = heroku_hostname(f"{app}-{self.a}")
        return body

    def get(self, key: str) -> Json:
        namespace, name = key.split("/")
        status, body = self.api.call("GET", f"{PLANS.format(namespace)}/{name}")
        assert status == 200, body
        return body

    def routes(self, key: str) -> bool:
        """Tell whether a plan has written its route."""
        namespace, name = key.split("/")
        return self.api.call("GET", f"{ISTIO.format(namespace, 'virtualservices')}/cutover-{name}")[0] == 200

    def failed(self, key: str) -> set[str]:
        """Return the checks that keep a plan."""
        checks = self.get(key)["status"]["preflight"]
        return {one["check"] for one in checks if one["result"] not in ("Passed", "Warned")}

    def before(self, pair: Pair) -> tuple[str, str]:
        """Return the plans of a pair, the one whose turn it is first."""

        def turn(key: str) -> tuple[str, str]:
            metadata = self.get(key)["metadata"]
            return metadata["creationTimestamp"], metadata["name"]

        earlier, later = sorted(pair.names, key=turn)
        return earlier, later


@pytest.fixture
def world(stack: Stack, api: Api, istio_crds: None, namespace: str) -> TwoTeams:
    return TwoTeams(stack, api, namespace)


@pytest.fixture
def operator(world: TwoTeams, stack: Stack, operator_kubeconfig: Path) -> Iterator[OperatorProcess]:
    settings = {
        "CUTOVER_KUBECONFIG": str(operator_kubeconfig),
        "CUTOVER_NAMESPACES": f"{world.a},{world.b}",
        "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:9",
        "CUTOVER_GATEWAY_URLS": json.dumps({GATEWAY: "http://127.0.0.1:9"}),
    }
    process = OperatorProcess(stack, f"claims-{world.a}", lambda: settings)
    process.start()
    yield process
    process.stop()
    print(process.log())


@pytest.mark.usefixtures("operator")
def test_of_two_plans_that_are_made_together_one_takes_over(world: TwoTeams) -> None:
    """With one host, or with one app of Heroku's; in one namespace, or in two; whichever is made first."""
    pairs: dict[Pair, str] = {}
    bodies: list[Json] = []
    for number in range(ROUNDS):
        for case, (left, right) in {"one": (world.a, world.a), "two": (world.a, world.b)}.items():
            for what in ("host", "app"):
                names = [f"{left}/a-{case}-{what}-{number}", f"{right}/b-{case}-{what}-{number}"]
                # What was made for a plan of another namespace ahead of its turn stands in the way: see docs/security.md.
                ahead = number % 2 == 0 and (case, what) != ("two", "app")
                pair = Pair(*(reversed(names) if ahead else names))
                pairs[pair] = what
                bodies += [
                    world.plan(
                        key,
                        host=f"{case}-{number}" if what == "host" else key.split("/")[1],
                        app=f"{case}-{number}" if what == "app" else key.split("/")[1],
                    )
                    for key in pair.names
                ]
    world.stack.apply(bodies)
    until("one of each pair", lambda: all(any(map(world.routes, pair.names)) for pair in pairs))
    time.sleep(5)  # for what must not come
    found = {pair: tuple(map(world.routes, world.before(pair))) for pair in pairs}
    assert found == dict.fromkeys(pairs, (True, False))
    for pair, what in pairs.items():
        earlier, later = world.before(pair)
        checks = {one["check"]: one for one in world.get(later)["status"]["preflight"]}
        check = checks["host-unclaimed" if what == "host" else "heroku-unshared"]
        assert check["result"] == "Failed"
        assert earlier.split("/")[1] in check["message"]
        # The other is kept by nothing but that nobody answers at the gateway, which is asked some seconds after its route is there.
        until(f"{earlier} is asked", lambda: "heroku-answers" in world.failed(earlier))  # noqa: B023 - called at once
        assert world.failed(earlier) <= {"heroku-answers", "eks-answers", "answers-alike"}
