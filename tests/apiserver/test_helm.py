"""The charts by the real Helm on a real API server: installed, upgraded, tested, uninstalled, and two beside each other.

The operator is started from what the Deployment there says: its variables, mounts, probes and ServiceAccount.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from tests.kit import builders
from tests.kit.chart import CHART, CRDS, NEEDED, Json, Refused, helm
from tests.kit.control_plane import ControlPlane
from tests.kit.pod import Pod, run_once, services
from tests.kit.waiting import until

from cutover.settings import PREFIX, Settings
from devstack.api import NotFoundError
from sandbox.manifests import crds

SYSTEM = "cutover-system"
PLANS = "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans"
#: How many gate templates the chart has.
GATES = len(list((CHART / "files" / "gate-templates").glob("*.yaml")))
#: What it takes to bring CRDs that others have applied into the release: the annotations of another owner, their fields.
TAKING_OVER = ("--take-ownership", "--force-conflicts")
TOKEN, HOOK, KEY = "prometheus-token-4711", "webhook-0815", "heroku-key-42"


class Releases(ControlPlane):
    """An API server of its own, as CRDs go here; with the controller that aggregates roles."""

    def helm(self, *arguments: str, values: Json | None = None) -> str:
        """Run Helm as the administrator."""
        return helm(*arguments, values=values, kubeconfig=self.kubeconfig)

    def install(self, release: str, chart: Path = CHART, namespace: str = SYSTEM, *options: str, **given: Any) -> None:
        """Install or upgrade a release, as the documentation says."""
        values = {**NEEDED, **given} if chart.name == CHART.name else given
        where = ("--namespace", namespace, "--create-namespace")
        self.helm("upgrade", "--install", release, str(chart), *where, *options, values=values)

    def names(self, kind: str, *options: str) -> set[str]:
        return set(self.kubectl("get", kind, "-o", "name", *options).split())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Releases]:
    with Releases(tmp_path_factory.mktemp("helm"), "clusterrole-aggregation-controller") as stack:
        stack.install_istio()
        names = (SYSTEM, "shop", "books", "mail")
        stack.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names])
        yield stack


def plan_in(cluster: Releases, namespace: str, name: str = "pdf") -> None:
    cluster.apply([builders.plan_body(name, namespace)])


def status_of(cluster: Releases, namespace: str, name: str = "pdf") -> Json:
    status: Json = cluster.api().call(f"{PLANS.format(namespace)}/{name}").get("status", {})
    return status


# ------------------------------------------------------------------------------------------------------ an installation


class Outside:
    """Prometheus and a chat in one: keeps who asks what, and knows nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                asked.append((self.path, self.headers.get("Authorization", "")))
                body = json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def outside() -> Iterator[Outside]:
    found = Outside()
    yield found
    found.server.shutdown()
    found.server.server_close()


def secret(name: str, **data: str) -> Json:
    metadata = {"name": name, "namespace": SYSTEM}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}


@pytest.fixture(scope="module")
def values(cluster: Releases, outside: Outside) -> Json:
    """Values that use whatever the chart mounts, and the Secrets that they name."""
    cluster.apply(
        [
            secret("metrics", token=TOKEN),
            secret("chat", url=f"{outside.url}/{HOOK}"),
            secret("heroku", shop=KEY),
        ]
    )
    receiver = {"name": "chat", "kind": "Slack", "urlFile": "/etc/cutover/notification-secrets/chat/url"}
    server = {"url": outside.url, "bearerTokenFile": "/etc/cutover/secrets/metrics/token"}
    return {
        "prometheus": {"default": server, "secrets": ["metrics"], "settle": 0.5},
        "notifications": {"receivers": [{**receiver, "allow": ["127.0.0.0/8"]}], "secrets": ["chat"]},
        "heroku": {"keys": [{"namespaces": "sh?p", "file": "/etc/cutover/heroku/heroku/shop"}], "secrets": ["heroku"]},
        "namespaces": ["shop"],
        "admissionPolicy": True,
        "approvals": {"policy": True},
    }


@pytest.fixture(scope="module")
def installed(cluster: Releases, values: Json) -> None:
    """The first installation, in the order of the documentation."""
    with pytest.raises(Refused, match="install the chart cutover-crds first"):
        cluster.install("cutover", **values)
    cluster.install("cutover-crds", CRDS, SYSTEM, "--wait")
    cluster.install("cutover", **values)


@pytest.fixture(scope="module")
def pod(
    cluster: Releases, installed: None, outside: Outside, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pod]:
    folder = tmp_path_factory.mktemp("pod")
    found = Pod(cluster, SYSTEM, "cutover", folder, CUTOVER_HEROKU_API_URL=outside.url)
    found.start()
    yield found
    found.stop()


def test_the_operator_works_from_what_the_chart_says(cluster: Releases, pod: Pod, outside: Outside) -> None:
    plan_in(cluster, "shop")
    until("judged", lambda: status_of(cluster, "shop").get("preflight"))
    assert {"Passed", "Failed"} <= {one["result"] for one in status_of(cluster, "shop")["preflight"]}
    until("told", lambda: (f"/{HOOK}", "") in outside.asked)
    until("queried", lambda: any(path.startswith("/api/v1/") for path, _ in outside.asked))
    until("Heroku asked", lambda: any(path.startswith("/apps/") for path, _ in outside.asked))
    assert {who for path, who in outside.asked if path.startswith("/api/v1/")} == {f"Bearer {TOKEN}"}
    assert {who for path, who in outside.asked if path.startswith("/apps/")} == {f"Bearer {KEY}"}
    assert "\ncutover_leader 1.0\n" in pod.metrics()
    lease = json.loads(cluster.kubectl("-n", SYSTEM, "get", "lease", "cutover", "-o", "json"))
    assert lease["spec"]["holderIdentity"]
    assert pod.alive()
    lines = [json.loads(line) for line in pod.text.splitlines() if line.startswith("{")]
    problems = [line for line in lines if line["level"] in ("warning", "error", "critical")]
    # For a moment the API server answers so about kinds whose CRD is new.
    assert [line for line in problems if "status=429" not in line["event"]] == []
    assert "missing permission" not in json.dumps(status_of(cluster, "shop"))
    assert TOKEN not in pod.text
    assert HOOK not in pod.text
    assert KEY not in pod.text


#: Settings that a container has no use for: it listens where its manifest says, and there is one Heroku.
NOT_IN_THE_CHART = {
    "kubeconfig",
    "health_port",
    "metrics_port",
    "listen_address",
    "development_heroku",
    "heroku_api_url",
}


def test_no_setting_is_forgotten(cluster: Releases, pod: Pod, tmp_path: Path) -> None:
    needed = {"url": "http://prometheus.example", "tokenSecret": {"name": "metrics"}}
    cluster.install("settings", namespace="settings", prometheus=needed, gateTemplates={"install": False})
    other = Pod(cluster, "settings", "settings", tmp_path)
    assert pod.environment.keys() | other.environment.keys() >= {
        f"{PREFIX}{name.upper()}" for name in Settings.model_fields.keys() - NOT_IN_THE_CHART
    }
    cluster.helm("uninstall", "settings", "--namespace", "settings")


def test_helm_test_passes_while_a_process_acts(cluster: Releases, pod: Pod) -> None:
    path = f"/api/v1/namespaces/{SYSTEM}/pods/cutover-test"
    with services(cluster, pod) as proxy, ThreadPoolExecutor(1) as beside:
        testing = beside.submit(cluster.helm, "test", "cutover", "--namespace", SYSTEM, "--timeout", "240s")

        api = cluster.api()

        def started() -> Any:
            with suppress(NotFoundError):
                return api.call(path)
            return None

        until("the test's Pod", started)
        test = started()
        done = run_once(test, proxy)
        phase = "Failed" if done.returncode else "Succeeded"
        patch = json.dumps({"status": {"phase": phase}})
        cluster.kubectl(
            "-n", SYSTEM, "patch", "pod", "cutover-test", "--subresource=status", "--type=merge", "--patch", patch
        )
        assert "Phase:          Succeeded" in testing.result(), done.stderr
        # Without such a process it fails, and says what is wrong.
        (container,) = test["spec"]["containers"]
        container["args"][-1] = "0.1"
        container["args"][1] = container["args"][1].replace("cutover-metrics", "elsewhere")
        done = run_once(test, proxy)
        assert done.returncode == 1
        assert "elsewhere" in done.stderr


def test_wrong_values_change_nothing(cluster: Releases, values: Json) -> None:
    before = cluster.helm("history", "cutover", "--namespace", SYSTEM)
    with pytest.raises(Refused, match="/logLevel"):
        cluster.install("cutover", **{**values, "logLevel": "LOUD"})
    assert cluster.helm("history", "cutover", "--namespace", SYSTEM) == before


def test_roles_are_part_of_those_of_kubernetes(cluster: Releases, installed: None) -> None:
    api = cluster.api()

    def verbs(role: str) -> set[str]:
        rules = api.call(f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{role}")["rules"] or []
        return {verb for rule in rules if "migrationplans" in rule.get("resources", ()) for verb in rule["verbs"]}

    reads = {"get", "list", "watch"}
    until("view", lambda: verbs("view") == reads)
    until("edit", lambda: verbs("edit") == reads | {"create", "update", "patch", "delete"})
    until("admin", lambda: verbs("admin") == verbs("edit") | {"approve"})


# ------------------------------------------------------------------------------------------------------------ two releases


def test_a_second_release_works_beside_the_first(
    cluster: Releases, pod: Pod, outside: Outside, tmp_path: Path
) -> None:
    cluster.install("second", prometheus={"url": outside.url}, namespaces=["books"], replicas=1)
    owner = "{.items[*].metadata.annotations.meta\\.helm\\.sh/release-name}"
    assert set(cluster.kubectl("get", "cgtmpl", "-o", f"jsonpath={owner}").split()) == {"cutover"}
    second = Pod(cluster, SYSTEM, "second", tmp_path)
    plan_in(cluster, "books", "ebook")
    second.start()
    try:
        until("judged", lambda: status_of(cluster, "books", "ebook").get("phase") == "Preflight")
    finally:
        second.stop()
    assert "missing permission" not in second.text
    # What the first uses stays when the second goes.
    cluster.helm("uninstall", "second", "--namespace", SYSTEM)
    assert len(cluster.names("cgtmpl")) == GATES
    assert "\ncutover_leader 1.0\n" in pod.metrics()


# -------------------------------------------------------------------------------------------------------------------- CRDs

FIELD = ("spec", "properties", "onDelete")


def field(cluster: Releases) -> Json | None:
    """Return a field of the plans' CRD that an old one does not have."""
    found: Any = cluster.api().call(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/migrationplans.cutover.dev"
    )
    found = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for name in FIELD:
        found = found.get(name) if found else None
    return found  # type: ignore[no-any-return]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The chart of the CRDs as an earlier version of it was: plans lack a field."""
    chart = tmp_path / CRDS.name
    shutil.copytree(CRDS, chart)
    (path,) = (chart / "files").glob("*migrationplans.yaml")
    crd = yaml.safe_load(path.read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    del schema[FIELD[0]][FIELD[1]][FIELD[2]]
    path.write_text(yaml.safe_dump(crd), encoding="utf-8")
    return chart


@pytest.fixture
def bare(cluster: Releases) -> None:
    """A cluster without releases and CRDs; so the tests with it are the last."""
    for release in json.loads(cluster.helm("list", "--namespace", SYSTEM, "--output", "json")):
        cluster.helm("uninstall", release["name"], "--namespace", SYSTEM)
    # The operator's process has no rights any more, and puts no plan to rest.
    for namespace in ("shop", "books", "mail"):
        for plan in cluster.names("mplan", "-n", namespace, "--ignore-not-found"):
            no_finalizers = '{"metadata": {"finalizers": null}}'
            cluster.kubectl("-n", namespace, "patch", plan, "--type=merge", "-p", no_finalizers)
    cluster.kubectl("delete", "-f", str(CRDS / "files"), "--ignore-not-found")


def kept(cluster: Releases) -> None:
    """Uninstall all, and find the CRDs, the plan and the gate templates as they were."""
    for release in ("cutover", "cutover-crds"):
        cluster.helm("uninstall", release, "--namespace", SYSTEM)
    assert not cluster.names("deploy", "-n", SYSTEM)
    assert field(cluster)
    assert cluster.names("mplan", "-n", "mail") == {"migrationplan.cutover.dev/mail"}
    assert len(cluster.names("cgtmpl")) == GATES


@pytest.mark.usefixtures("bare")
def test_crds_are_upgraded_and_stay(cluster: Releases, old: Path) -> None:
    cluster.install("cutover-crds", old, SYSTEM, "--wait")
    cluster.install("cutover")
    assert field(cluster) is None
    plan_in(cluster, "mail", "mail")
    cluster.install("cutover-crds", CRDS, SYSTEM, "--wait")
    assert field(cluster)
    kept(cluster)
    # Another time it takes over what is there.
    cluster.install("cutover-crds", CRDS, SYSTEM, "--wait")
    cluster.install("cutover")
    kept(cluster)


@pytest.mark.usefixtures("bare")
def test_crds_that_kubectl_has_applied_are_taken_over(cluster: Releases, old: Path) -> None:
    cluster.kubectl("apply", "--server-side", "-f", str(old / "files"))
    cluster.wait_established(*(crd["metadata"]["name"] for crd in crds()))
    cluster.install("cutover")
    plan_in(cluster, "mail", "mail")
    with pytest.raises(Refused, match="cannot be imported into the current release"):
        cluster.install("cutover-crds", CRDS)
    cluster.install("cutover-crds", CRDS, SYSTEM, "--wait", *TAKING_OVER)
    assert field(cluster)
    kept(cluster)
