"""Two operators that share the plans by a label, as whole processes against the real API server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.kit.chart import lease_rights
from tests.kit.waiting import until

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.ports.errors import Gone
from devstack.support import free_port
from sandbox import manifests
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE

ROOT = Path(__file__).parents[2]
Json = dict[str, Any]
SHARD = "cutover.dev/shard"
ROUTES = "/apis/networking.istio.io/v1/namespaces/{}/virtualservices"
#: Seconds in which what must not happen would have happened.
QUIET = 3.0


class Shard:
    """An operator that looks after the plans with one value of the label."""

    def __init__(
        self, kubeconfig: Path, namespace: str, value: str, folder: Path, *, name: str = "", lease: str = ""
    ) -> None:
        self.log = folder / f"{name or value}.log"
        self._metrics, health = free_port(), free_port()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "operator"),
            "CUTOVER_KUBECONFIG": str(kubeconfig),
            "CUTOVER_NAMESPACES": namespace,
            "CUTOVER_SELECTOR": f"{SHARD}={value}",
            "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:9",
            "CUTOVER_GATEWAY_URLS": json.dumps({"istio-ingress/public": "http://127.0.0.1:9"}),
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
            "CUTOVER_HEALTH_PORT": str(health),
            "CUTOVER_METRICS_PORT": str(self._metrics),
            **({"CUTOVER_LEASE": lease} if lease else {}),
        }
        with self.log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cutover.main"], env=environment, stdout=output, stderr=subprocess.STDOUT
            )

    @property
    def plans(self) -> set[str]:
        """The plans that it says it looks after."""
        return {labels["plan"] for labels in self._samples("cutover_last_reconcile_timestamp_seconds")}

    @property
    def counted(self) -> float:
        """How many it says they are."""
        return sum(self._samples("cutover_plans_reconciled", labels=False))

    def _samples(self, name: str, *, labels: bool = True) -> list[Any]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics}/metrics", timeout=2) as answer:
                families = text_string_to_metric_families(answer.read().decode())
        except OSError:
            return []
        found = [sample for family in families for sample in family.samples if sample.name == name]
        return [sample.labels if labels else sample.value for sample in found]


@pytest.fixture
def create(kubectl: Any, namespace: str, api: Any) -> Callable[..., None]:
    """Create plans in mid-cutover: at 25 %, with a route that is still to be written."""

    def create(name: str, shard: str | None) -> None:
        body = manifests.plan(name)
        body["metadata"] |= {"namespace": namespace, "labels": {SHARD: shard} if shard else {}}
        plans = f"/apis/cutover.dev/v1alpha1/namespaces/{namespace}/migrationplans"
        created, stored = api.call("POST", plans, body)
        assert created == 201, stored
        path = f"{plans}/{name}"
        stored["status"] = {"phase": "Shifting", "attempt": 1, "weight": 25, "observedGeneration": 1}
        status, answer = api.call("PUT", f"{path}/status", stored)
        assert status == 200, answer

    return create


@pytest.fixture
def plans(create: Callable[..., None]) -> None:
    """Made before anybody looks after them, who would write their status, too."""
    for name, shard in (("pdf", "a"), ("mail", "a"), ("search", "b"), ("lost", None)):
        create(name, shard)


@pytest.fixture
def shards(plans: None, operator_kubeconfig: Path, namespace: str, tmp_path: Path) -> Iterator[dict[str, Shard]]:
    found = {value: Shard(operator_kubeconfig, namespace, value, tmp_path) for value in ("a", "b")}
    yield found
    for one in found.values():
        one.process.kill()
        one.process.wait()
        print(one.log.read_text())


@pytest.mark.usefixtures("istio_crds")
def test_each_plan_has_one_operator_and_a_label_moves_it(
    shards: dict[str, Shard], kubectl: Any, api: Any, namespace: str
) -> None:
    a, b = shards["a"], shards["b"]
    until("each looks after its own", lambda: (a.plans, b.plans) == ({"pdf", "mail"}, {"search"}))
    # They are counted after their first reconcile, which writes the timestamps above as it goes.
    until("and counts them", lambda: (a.counted, b.counted) == (2, 1))

    def route(name: str) -> Json:
        found: Json = api.call("GET", f"{ROUTES.format(namespace)}/cutover-{name}")[1]
        return found

    def weights(name: str) -> list[int]:
        split = [one for one in route(name).get("spec", {}).get("http", ()) if one["name"] == "split"]
        return [leg["weight"] for one in split for leg in one["route"]]

    until("the routes are there", lambda: all(weights(name) == [75, 25] for name in ("pdf", "mail", "search")))
    before = route("pdf")["metadata"]["resourceVersion"]
    finalizers = kubectl("get", "mplan", "pdf", "-o", "jsonpath={.metadata.finalizers}")
    assert "cutover.dev/traffic" in finalizers

    kubectl("label", "mplan", "pdf", f"{SHARD}=b", "--overwrite")
    until("the plan has moved", lambda: (a.plans, b.plans) == ({"mail"}, {"search", "pdf"}))
    time.sleep(QUIET)
    assert (a.plans, b.plans) == ({"mail"}, {"search", "pdf"})
    assert (a.counted, b.counted) == (1, 2)
    assert route("pdf")["metadata"]["resourceVersion"] == before, "its traffic was touched"
    assert kubectl("get", "mplan", "pdf", "-o", "jsonpath={.metadata.finalizers}") == finalizers

    # Whom it belongs to now puts it to rest.
    kubectl("delete", "mplan", "pdf", "--timeout=60s")
    assert weights("pdf") == [100, 0]
    until("nobody looks after it any more", lambda: (a.plans, b.plans) == ({"mail"}, {"search"}))

    # Nobody has looked at what no operator selects.
    assert kubectl("get", "mplan", "lost", "-o", "jsonpath={.status.message}{.metadata.finalizers}") == ""
    assert not [line for one in (a, b) for line in one.log.read_text().splitlines() if "Traceback" in line]


@pytest.mark.usefixtures("istio_crds", "plans")
def test_a_lease_is_for_the_operators_of_one_shard(
    stack: Any, operator_kubeconfig: Path, namespace: str, tmp_path: Path, api: Any
) -> None:
    """Of two with the same plans one acts. One with other plans would wait for ever, and says so."""
    stack.apply(lease_rights())
    lease, others = f"{OPERATOR_NAMESPACE}/{OPERATOR_ACCOUNT}", "no process reconciles the plans of this one"
    # Of another test, whose operator looked after other plans.
    api.call("DELETE", f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/{OPERATOR_ACCOUNT}")
    running: dict[str, Shard] = {}

    def start(name: str, value: str) -> Shard:
        shard = Shard(operator_kubeconfig, namespace, value, tmp_path, name=name, lease=lease)
        running[name] = shard
        return shard

    try:
        first = start("first", "a")
        until("it acts", lambda: first.plans == {"pdf", "mail"})
        second, wrong = start("second", "a"), start("wrong", "b")
        until("it says so", lambda: others in wrong.log.read_text())
        until("the other waits", lambda: "waiting for the lease" in second.log.read_text())
        time.sleep(QUIET)
        assert (first.plans, second.plans, wrong.plans) == ({"pdf", "mail"}, set(), set())
        assert [name for name, one in running.items() if others in one.log.read_text()] == ["wrong"]
        assert wrong.log.read_text().count(others) == 1
    finally:
        for one in running.values():
            one.process.kill()
            one.process.wait()
            print(one.log.read_text())


async def test_a_plan_of_another_operator_is_gone(
    create: Callable[..., None], cluster: Cluster, kubectl: Any, namespace: str
) -> None:
    """The watch may tell late, and a write that failed reads the plan anew."""
    create("pdf", "a")
    plans = KubernetesPlans(cluster, selector=f"{SHARD} in (a, c)")
    assert (await plans.read(namespace, "pdf"))[0].status.weight == 25
    kubectl("label", "mplan", "pdf", f"{SHARD}=b", "--overwrite")
    with pytest.raises(Gone, match="does not have the labels"):
        await plans.read(namespace, "pdf")
    with pytest.raises(Gone):
        await plans.read(namespace, "mail")
