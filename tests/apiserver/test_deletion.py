"""Deletion with the operator as a process, kube-controller-manager's garbage collector and its namespace controller.

Every plan here has users on EKS. Nobody has Prometheus or a gateway; a plan is held for that, and ends where it says all the
same.
"""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.kit.builders import plan_body_of
from tests.kit.control_plane import ControlPlane
from tests.kit.waiting import until

from cutover import main
from cutover.adapters.traffic.istio.live import ROUTING_KINDS
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from devstack.support import StackError
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, chart_rules, crds, operator_rights
from sandbox.operator_process import OperatorProcess

ROOT = Path(__file__).parents[2]
FINALIZER = "cutover.dev/traffic"
CRD = "migrationplans.cutover.dev"
#: Where objects are, by their kind.
PATHS = {
    "mplan": "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans",
    "virtualservice": "/apis/networking.istio.io/v1/namespaces/{}/virtualservices",
    "destinationrule": "/apis/networking.istio.io/v1/namespaces/{}/destinationrules",
    "namespace": "/api/v1/namespaces",
    "crd": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
}
#: The ways out without an operator, as the documentation has them: for one plan, and for all.
ESCAPES = re.findall(
    r"^```sh\n(.*?)^```$",
    (ROOT / "docs" / "gitops.md").read_text(encoding="utf-8").partition("### The escape")[2],
    re.MULTILINE | re.DOTALL,
)

Json = dict[str, Any]


class Cluster:
    """What a test does and sees as an administrator."""

    def __init__(self, stack: ControlPlane, operator: OperatorProcess) -> None:
        self.stack, self.operator, self.kubectl, self._api = stack, operator, stack.kubectl, stack.api()
        self._numbers = count(1)

    def namespace(self) -> str:
        """Make a fresh namespace; one of another test would still be in mid-deletion."""
        name = f"shop-{next(self._numbers)}"
        self._api.call(PATHS["namespace"], method="POST", body={"metadata": {"name": name}})
        return name

    def shifted(self, namespace: str, *names: str, weight: int = 50, worse: bool = False, **spec: Any) -> None:
        """Make plans that are at a weight; a running operator brings their routes about."""
        for name in names:
            self.stack.apply([plan_body_of(namespace, name, **spec)])
            status = shifted_status(weight, worse=worse).to_wire()
            self._api.merge(f"{PATHS['mplan'].format(namespace)}/{name}/status", {"status": status}, "cutover")

    def looked_after(self, namespace: str, *names: str, weight: int = 50) -> None:
        """Wait until the operator has the plans in hand: the finalizer is there, and the route is written."""
        until(
            "finalizers and routes",
            lambda: all(
                FINALIZER in self.metadata(namespace, name).get("finalizers", [])
                and self.weight(namespace, name) == weight
                for name in names
            ),
        )

    def get(self, namespace: str, kind: str, name: str) -> Json | None:
        """Return an object, ``None`` where there is none. Asked all the time, so not by a process."""
        try:
            found: Json = self._api.call(f"{PATHS[kind].format(namespace)}/{name}")
        except StackError as refused:
            if '"reason":"NotFound"' in str(refused) or "404 page not found" in str(refused):
                return None
            raise
        return found

    def metadata(self, namespace: str, name: str) -> Json:
        """Return a plan's metadata; none once it is gone."""
        plan = self.get(namespace, "mplan", name)
        return plan["metadata"] if plan else {}

    def weight(self, namespace: str, name: str) -> int | None:
        """Return the percentage of a plan's route that goes to EKS, ``None`` without a route."""
        route = self.get(namespace, "virtualservice", f"cutover-{name}")
        if route is None:
            return None
        (split,) = (one for one in route["spec"]["http"] if one["name"] == "split")
        weights = {one["destination"]["host"]: one.get("weight", 0) for one in split["route"]}
        assert sum(weights.values()) == 100
        return next(weight for host, weight in weights.items() if host.endswith(".svc.cluster.local"))

    def gone(self, namespace: str, *names: str, seconds: float = 90) -> float:
        """Wait until the plans do not exist any more; return the seconds that it took."""
        return until(f"{', '.join(names)} gone", lambda: not any(self.metadata(namespace, n) for n in names), seconds)

    def stuck(self, namespace: str, name: str) -> bool:
        """Tell whether a plan is deleted, and its finalizer is what keeps it."""
        metadata = self.metadata(namespace, name)
        return "deletionTimestamp" in metadata and FINALIZER in metadata["finalizers"]

    def escape(self, namespace: str, name: str) -> None:
        """Take off one plan's finalizer by hand, as the documentation says."""
        self._shell(ESCAPES[0].replace("-n documents", f"-n {namespace}").replace("mplan pdf", f"mplan {name}"))

    def escape_all(self) -> None:
        """Take off all plans' finalizers by hand, as the documentation says."""
        self._shell(ESCAPES[1])

    def _shell(self, script: str) -> None:
        command = [str(self.stack.kubectl_path), "--kubeconfig", str(self.stack.kubeconfig)]
        script = f'set -e; kubectl() {{ {shlex.join(command)} "$@"; }}; {script}'
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the operator; at the end it must not have failed in a way that it does not know."""
        before = len(self.operator.log())
        self.operator.start()
        try:
            yield
        finally:
            self.operator.stop()
        lines = [json.loads(line) for line in self.operator.log()[before:].splitlines() if line.startswith("{")]
        assert [line for line in lines if "exception" in line] == []


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ControlPlane(tmp_path_factory.mktemp("deletion"), "garbagecollector", "namespace") as stack:
        stack.install_crds(crds())
        stack.install_istio()
        stack.apply(operator_rights(chart_rules()))
        kubeconfig = stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        settings = {
            "CUTOVER_KUBECONFIG": str(kubeconfig),
            "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:9",
        }
        yield Cluster(stack, OperatorProcess(stack, "operator", lambda: settings))


def shifted_status(weight: int, *, worse: bool) -> MigrationPlanStatus:
    now = time.time()
    phase = Phase.ROLLED_BACK if worse else Phase.SOAKING if weight == 100 else Phase.SHIFTING
    checkpoint = {"at": now, "weightSince": now - 60, "observedAt": now - 50, "consumedUntil": now}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 60))
    return MigrationPlanStatus.model_validate(
        {"observedGeneration": 1, "phase": phase, "attempt": 1, "weight": weight, "since": stamp}
        | {"step": "3/4", "checkpoint": checkpoint}
    )


class Case(NamedTuple):
    """Where a plan is, what it declares, and where it rests."""

    weight: int
    on_delete: str
    rests: int


CASES = {
    "rest": Case(50, "Rest", 0),
    "heroku": Case(50, "Heroku", 0),
    "leave": Case(50, "Leave", 50),
    "eks": Case(100, "EKS", 100),
    "back": Case(100, "Heroku", 0),
    # Half a proof is none.
    "early": Case(50, "EKS", 0),
}


def begin(cluster: Cluster, namespace: str) -> None:
    """Make a plan of each case."""
    for name, case in CASES.items():
        cluster.shifted(namespace, name, weight=case.weight, onDelete=case.on_delete)


def in_hand(cluster: Cluster, namespace: str) -> None:
    """Wait until the operator has all of them in hand."""
    for name, case in CASES.items():
        cluster.looked_after(namespace, name, weight=case.weight)


def weights(cluster: Cluster, namespace: str) -> dict[str, int | None]:
    return {name: cluster.weight(namespace, name) for name in CASES}


BEGUN = {name: case.weight for name, case in CASES.items()}
AT_REST = {name: case.rests for name, case in CASES.items()}


def test_traffic_ends_where_declared_however_a_plan_is_deleted(cluster: Cluster) -> None:
    background, foreground = cluster.namespace(), cluster.namespace()
    for namespace in (background, foreground):
        begin(cluster, namespace)
    cluster.shifted(background, "worse", weight=0, worse=True, onDelete="EKS")
    with cluster.running():
        in_hand(cluster, background)
        in_hand(cluster, foreground)
        cluster.looked_after(background, "worse", weight=0)
        cluster.kubectl("-n", background, "delete", "mplan", "--all", "--wait=false")
        cluster.kubectl("-n", foreground, "delete", "mplan", "--all", "--cascade=foreground", "--wait=false")
        took = cluster.gone(background, *CASES, "worse")
        # The garbage collector, which has a finalizer of its own there, looks for new kinds twice a minute.
        later = cluster.gone(foreground, *CASES, seconds=60)
        assert weights(cluster, background) == weights(cluster, foreground) == AT_REST
        assert cluster.weight(background, "worse") == 0, "a leg that was found worse is no place to rest"
        # The garbage collector takes nothing with them: a host without a route is an outage.
        for kind in ("virtualservice", "serviceentry"):
            listed = cluster.kubectl("-n", foreground, "get", kind, "-l", "cutover.dev/plan", "-o", "name")
            assert len(listed.split()) == len(CASES)
    print(f"gone after {took:.1f} s in the background, another {later:.1f} s in the foreground")


def test_plans_that_were_deleted_while_nobody_looked(cluster: Cluster) -> None:
    namespace = cluster.namespace()
    begin(cluster, namespace)
    with cluster.running():
        in_hand(cluster, namespace)
    cluster.kubectl("-n", namespace, "delete", "mplan", "--all", "--wait=false")
    assert all(cluster.stuck(namespace, name) for name in CASES)
    assert weights(cluster, namespace) == BEGUN, "nothing moves meanwhile"
    with cluster.running():
        took = cluster.gone(namespace, *CASES)
        assert weights(cluster, namespace) == AT_REST
    print(f"gone {took:.1f} s after the operator was healthy")


def test_a_namespace_goes_with_its_plans_and_routes(cluster: Cluster) -> None:
    """The namespace wins: its routes go with it, and no finalizer holds it up. Other plans are not touched."""
    namespace, other = cluster.namespace(), cluster.namespace()
    names = [f"app-{number}" for number in range(6)]
    cluster.shifted(namespace, *names)
    cluster.shifted(other, "pdf")
    with cluster.running():
        cluster.looked_after(namespace, *names)
        cluster.looked_after(other, "pdf")
        cluster.kubectl("delete", "namespace", namespace, "--wait=false")
        took = until("the namespace gone", lambda: cluster.get(namespace, "namespace", namespace) is None, 60)
        assert (cluster.weight(other, "pdf"), "deletionTimestamp" in cluster.metadata(other, "pdf")) == (50, False)
        # Its loop still runs.
        cluster.kubectl("-n", other, "delete", "mplan", "pdf", "--wait=false")
        cluster.gone(other, "pdf")
        assert cluster.weight(other, "pdf") == 0
    print(f"gone after {took:.1f} s")


def test_a_namespace_that_is_deleted_while_nobody_looks_waits_for_the_operator(cluster: Cluster) -> None:
    """Also for the next one that is started, whose plans are all about to go."""
    namespace = cluster.namespace()
    cluster.shifted(namespace, "pdf", "png", onDelete="Leave")
    with cluster.running():
        cluster.looked_after(namespace, "pdf", "png")
    cluster.kubectl("delete", "namespace", namespace, "--wait=false")

    def said() -> str:
        conditions = (cluster.get(namespace, "namespace", namespace) or {})["status"].get("conditions", ())
        return "".join(one["message"] for one in conditions if one["type"] == "NamespaceFinalizersRemaining")

    until("the namespace says what it waits for", lambda: FINALIZER in said())
    assert cluster.weight(namespace, "pdf") is None, "the routes did not wait"
    with cluster.running():
        took = until("the namespace gone", lambda: cluster.get(namespace, "namespace", namespace) is None, 60)
    print(f"gone {took:.1f} s after the operator was healthy")


def test_rights_that_are_missing_hold_a_deletion_up_until_they_are_back(cluster: Cluster) -> None:
    """As where an uninstall takes the rights first, and the operator still runs for a moment."""
    namespace = cluster.namespace()
    cluster.shifted(namespace, "pdf")
    with cluster.running():
        cluster.looked_after(namespace, "pdf")
        cluster.kubectl("delete", "clusterrolebinding", "cutover")
        cluster.kubectl("-n", namespace, "delete", "mplan", "pdf", "--wait=false")
        until(
            "the log says why", lambda: "is forbidden" in cluster.operator.log() or "missing" in cluster.operator.log()
        )
        assert cluster.stuck(namespace, "pdf")
        cluster.stack.apply(operator_rights(chart_rules()))
        took = cluster.gone(namespace, "pdf", seconds=60)
        assert cluster.weight(namespace, "pdf") == 0
    print(f"gone {took:.1f} s after the rights were back")


def test_the_operator_uninstalled_before_its_plans(cluster: Cluster) -> None:
    """A plan without an operator does not go away by itself; the way out is one command, and moves no weight."""
    namespace = cluster.namespace()
    plans = ("pdf", "png", "svg")
    cluster.shifted(namespace, *plans)
    with cluster.running():
        cluster.looked_after(namespace, *plans)
    for kind in ("clusterrolebinding", "clusterrole"):
        cluster.kubectl("delete", kind, "cutover")
    cluster.kubectl("-n", namespace, "delete", "mplan", "pdf", "--wait=false")
    assert cluster.stuck(namespace, "pdf")
    cluster.escape(namespace, "pdf")
    cluster.gone(namespace, "pdf")

    # The CRD waits for the plans that are left, and goes with the same command.
    cluster.kubectl("delete", "crd", CRD, "--wait=false")
    until("the plans are deleted with their CRD", lambda: all(cluster.stuck(namespace, name) for name in plans[1:]))
    cluster.escape_all()
    try:
        until("the CRD gone", lambda: cluster.get(namespace, "crd", CRD) is None)
        assert {cluster.weight(namespace, name) for name in plans} == {50}
    finally:
        cluster.stack.install_crds(crds())
        cluster.stack.apply(operator_rights(chart_rules()))


def test_the_crd_deleted_under_a_running_operator(cluster: Cluster) -> None:
    """All plans come to rest as declared. The process ends with their kind, and the next one waits for it."""
    namespace = cluster.namespace()
    begin(cluster, namespace)
    with cluster.running():
        in_hand(cluster, namespace)
        cluster.kubectl("delete", "crd", CRD, "--wait=false")
        took = until("the CRD gone", lambda: cluster.get(namespace, "crd", CRD) is None)
        assert weights(cluster, namespace) == AT_REST
        until("the process gone", lambda: cluster.operator.pid is None)
    assert cluster.operator.exit_code == main.EXIT_OTHER_KINDS
    print(f"gone after {took:.1f} s")
    with cluster.running():
        until("it waits", lambda: "waiting for the kinds to watch" in cluster.operator.log())
        assert cluster.operator.healthy()
        cluster.stack.install_crds(crds())
        cluster.shifted(namespace, "later")
        cluster.looked_after(namespace, "later")
        cluster.kubectl("-n", namespace, "delete", "mplan", "later", "--wait=false")
        cluster.gone(namespace, "later")


def test_a_signal_ends_an_operator_that_waits_for_its_crd(cluster: Cluster) -> None:
    cluster.kubectl("delete", "crd", CRD)
    try:
        with cluster.running():
            cluster.operator.stop(signal.SIGTERM)
        assert cluster.operator.exit_code == 0
    finally:
        cluster.stack.install_crds(crds())


def test_an_operator_outlasts_crds_that_are_renewed(cluster: Cluster) -> None:
    """As its own update has it, and Istio's: the watches end and begin anew."""
    namespace = cluster.namespace()
    cluster.shifted(namespace, "pdf")
    with cluster.running():
        cluster.looked_after(namespace, "pdf")
        for number in range(3):
            column = {"name": f"X{number}", "type": "string", "jsonPath": ".metadata.name"}
            patch = json.dumps([{"op": "add", "path": "/spec/versions/0/additionalPrinterColumns/-", "value": column}])
            for crd in (CRD, *map(str, ROUTING_KINDS)):
                cluster.kubectl("patch", "crd", crd, "--type=json", "--patch", patch)
        cluster.shifted(namespace, "png")
        cluster.looked_after(namespace, "png")
        cluster.kubectl("-n", namespace, "delete", "mplan", "pdf", "--wait=false")
        cluster.gone(namespace, "pdf")
        assert cluster.operator.pid is not None
    cluster.stack.install_crds(crds())


def test_a_kind_of_istios_that_goes_and_comes_back(cluster: Cluster) -> None:
    """Each time the process ends, and the next one looks after the plans all the same."""
    namespace, kind = cluster.namespace(), "destinationrules.networking.istio.io"
    cluster.shifted(namespace, "pdf")
    with cluster.running():
        cluster.looked_after(namespace, "pdf")
        cluster.kubectl("delete", "crd", kind)
        until("the process gone", lambda: cluster.operator.pid is None)
    assert cluster.operator.exit_code == main.EXIT_OTHER_KINDS
    assert f"{kind}: not served any more" in cluster.operator.log()
    # For a moment the API server lists a kind that it does not serve. An operator that begins then ends once more.
    until("not listed", lambda: kind not in cluster.kubectl("api-resources", "--output=name", "--cached=false"))
    with cluster.running():
        until("it says what is missing", lambda: "not watched, as the API server" in cluster.operator.log())
        cluster.shifted(namespace, "png")
        until("it looks after plans", lambda: FINALIZER in cluster.metadata(namespace, "png").get("finalizers", []))
        cluster.stack.install_istio()
        until("the process gone", lambda: cluster.operator.pid is None, 60)
    assert cluster.operator.exit_code == main.EXIT_OTHER_KINDS
    with cluster.running():
        until("its objects", lambda: bool(cluster.get(namespace, "destinationrule", "cutover-pdf")))
        cluster.looked_after(namespace, "pdf", "png")
