"""The chart's guards at the real API server, and a rollback while a webhook of Istio's fails closed."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.kit import builders
from tests.kit.chart import rendered
from tests.kit.http_serving import certificate
from tests.kit.routing import AskedTraffic
from tests.kit.waiting import eventually

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.live import split_weight
from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.baseline import document
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.resources import CONFIG_MAPS, Json
from cutover.ports.errors import Unavailable
from devstack.stack import Stack
from sandbox.manifests import OPERATOR_NAMESPACE, chart_reads, operator_rights

pytestmark = pytest.mark.usefixtures("istio_crds")


@pytest.fixture
def plan(namespace: str) -> Plan:
    return builders.plan(namespace=namespace, status=MigrationPlanStatus(attempt=1, weight=25))


def uid_of(stack: Stack, schema: str) -> str:
    path = f"/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/{schema}"
    return str(stack.api().call(path)["metadata"]["uid"])


@pytest.fixture
def applied(stack: Stack) -> Iterator[Any]:
    """Apply objects of the cluster, and delete them afterwards."""
    made = list[Json]()

    def make(items: list[Json]) -> None:
        made.extend(items)
        stack.apply(items)

    yield make
    stack.delete(reversed(made))


#: Istio's, as its istiod registers it once it runs, with a service that nobody answers for.
WEBHOOK = {
    "apiVersion": "admissionregistration.k8s.io/v1",
    "kind": "ValidatingWebhookConfiguration",
    "metadata": {"name": "istio-validator-istio-system"},
    "webhooks": [
        {
            "name": "rev.validation.istio.io",
            "clientConfig": {"url": "https://127.0.0.1:9/validate"},
            "rules": [
                {
                    "operations": ["CREATE", "UPDATE"],
                    "apiGroups": ["networking.istio.io"],
                    "apiVersions": ["*"],
                    "resources": ["*"],
                }
            ],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }
    ],
}


async def test_a_rollback_is_refused_while_istios_webhook_is_away_and_arrives_when_it_is_back(
    applied: Any, cluster: Cluster, plan: Plan, stack: Stack
) -> None:
    traffic = AskedTraffic(cluster)
    await traffic.set(plan, 25)
    applied([WEBHOOK])
    await asyncio.sleep(2)  # until the API server has heard of it
    with pytest.raises(Unavailable, match="failed calling webhook") as refusal:
        await traffic.set(plan, 0)
    assert "rev.validation.istio.io" in str(refusal.value)
    stored = await cluster.get(VIRTUAL_SERVICES, plan.namespace, "cutover-pdf")
    assert split_weight(stored, plan) == 25  # it does not say 0
    stack.delete([WEBHOOK])
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            await traffic.set(plan, 0)
            break
        except Unavailable:
            await asyncio.sleep(0.5)
    stored = await cluster.get(VIRTUAL_SERVICES, plan.namespace, "cutover-pdf")
    assert split_weight(stored, plan) == 0


async def test_the_admission_policy_lets_the_operator_write_its_own_and_nothing_else(
    applied: Any, cluster: Cluster, plan: Plan, kubectl: Any
) -> None:
    applied(rendered("admission.yaml", admissionPolicy=True))
    other: Json = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "victim", "namespace": plan.namespace},
        "spec": {"hosts": ["a.example.com"], "http": [{"route": [{"destination": {"host": "a"}}]}]},
    }
    end, refused = time.monotonic() + 30, ""
    while "only objects that are named" not in refused and time.monotonic() < end:
        try:
            body = json.loads(json.dumps(other))
            body["metadata"]["name"] = f"victim-{time.monotonic_ns()}"
            await cluster.create(VIRTUAL_SERVICES, body)
        except Unavailable as refusal:
            refused = str(refusal)
        await asyncio.sleep(0.5)
    assert "only objects that are named" in refused
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": plan.namespace}}
    with pytest.raises(Unavailable, match="only ConfigMaps that are named"):
        await cluster.create(CONFIG_MAPS, config_map)
    kept = document.config_map("{}", plan=plan.name, namespace=plan.namespace, uid=plan.uid)
    stored = await cluster.create(CONFIG_MAPS, kept)
    assert stored["metadata"]["ownerReferences"][0]["uid"] == plan.uid
    traffic = AskedTraffic(cluster)
    for weight in (25, 0):
        await traffic.set(plan, weight)
    # A team's route: with the operator's annotation its routes may change, and nothing else of it.
    kubectl("apply", "-f", "-", stdin=json.dumps(other))
    stored = await cluster.get(VIRTUAL_SERVICES, plan.namespace, "victim")
    with pytest.raises(Unavailable, match="only objects that are named"):
        await cluster.replace(VIRTUAL_SERVICES, {**stored, "spec": {**stored["spec"], "http": []}})
    adopted = {**stored, "metadata": {**stored["metadata"], "annotations": {"cutover.dev/plan-uid": plan.uid}}}
    stored = await cluster.replace(VIRTUAL_SERVICES, adopted)
    with pytest.raises(Unavailable, match="only the routes"):
        await cluster.replace(VIRTUAL_SERVICES, {**stored, "spec": {**stored["spec"], "hosts": ["b.example.com"]}})
    http = [{"route": [{"destination": {"host": "b"}}]}]
    stored = await cluster.replace(VIRTUAL_SERVICES, {**stored, "spec": {**stored["spec"], "http": http}})
    assert stored["spec"]["http"] == http


def test_leases_and_rollbacks_go_by_a_priority_of_their_own(
    applied: Any, stack: Stack, operator_kubeconfig: Path, namespace: str
) -> None:
    applied(rendered("flowcontrol.yaml"))
    uid = uid_of(stack, "cutover")
    token = yaml.safe_load(operator_kubeconfig.read_text())["users"][0]["user"]["token"]
    route = f"/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices/cutover-pdf"
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/cutover"
    with httpx.Client(
        base_url=stack.api_url,
        verify=ssl.create_default_context(cafile=stack.ca_file),
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    ) as client:

        def schema_of(path: str) -> str | None:
            return client.get(path).headers.get("x-kubernetes-pf-flowschema-uid")

        end = time.monotonic() + 30
        while schema_of(route) != uid and time.monotonic() < end:
            time.sleep(0.5)
        assert schema_of(route) == uid
        assert schema_of(route.rsplit("/", 1)[0]) != uid  # a list
        assert schema_of(lease) == uid


class HungWebhook(BaseHTTPRequestHandler):
    """Admits a write once the test is over, so that it has a seat until then."""

    over = threading.Event()

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.over.wait(25)
        body = json.dumps({**asked, "response": {"uid": asked["request"]["uid"], "allowed": True}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def flood(applied: Any, stack: Stack, namespace: str, tmp_path: Path) -> Iterator[Callable[[], int]]:
    """Have another ServiceAccount take all seats that ServiceAccounts have together; yields what a GET of its says."""
    folder = certificate(tmp_path, "localhost")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), HungWebhook)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pem = folder.read_text(encoding="utf-8")
    authority = pem[pem.index("-----BEGIN CERTIFICATE-----") :]
    level = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "tenants"},
        "spec": {
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 1,
                "lendablePercent": 0,
                "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        },
    }
    everybody = [{"kind": "Group", "group": {"name": "system:serviceaccounts"}}]
    anything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"], "namespaces": ["*"], "clusterScope": True}
    schema = {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": "tenants"},
        "spec": {
            "priorityLevelConfiguration": {"name": "tenants"},
            "matchingPrecedence": 8000,
            "rules": [{"subjects": everybody, "resourceRules": [anything]}],
        },
    }
    webhook = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "hung"},
        "webhooks": [
            {
                "name": "hung.example.com",
                "clientConfig": {
                    "url": f"https://localhost:{server.server_address[1]}/",
                    "caBundle": base64.b64encode(authority.encode()).decode(),
                },
                "rules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
                ],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "failurePolicy": "Ignore",
                "timeoutSeconds": 30,
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
            }
        ],
    }
    rights = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "flooding"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "flooder", "namespace": namespace}],
    }
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "flooder", "namespace": namespace}}
    stack.apply([account])
    applied([level, schema, webhook, rights])
    token = yaml.safe_load(stack.service_account_kubeconfig(namespace, "flooder").read_text())["users"][0]["user"]
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    ending = threading.Event()
    with httpx.Client(
        base_url=stack.api_url,
        verify=ssl.create_default_context(cafile=stack.ca_file),
        headers={"Authorization": f"Bearer {token['token']}"},
        timeout=60.0,
        trust_env=False,
        limits=httpx.Limits(max_connections=200),
    ) as client:

        def write() -> None:
            while not ending.is_set():
                if client.post(path, json={"metadata": {"generateName": "flood-"}}).status_code == 429:
                    ending.wait(0.2)

        writers = [threading.Thread(target=write, daemon=True) for _ in range(30)]
        for writer in writers:
            writer.start()
        yield lambda: client.get(path).status_code
        ending.set()
        HungWebhook.over.set()
        for writer in writers:
            writer.join(60)
    server.shutdown()
    HungWebhook.over.clear()


async def test_a_flood_that_throttles_tenants_throttles_neither_lease_nor_rollback(
    applied: Any, stack: Stack, operator_kubeconfig: Path, cluster: Cluster, plan: Plan, flood: Callable[[], int]
) -> None:
    text = await asyncio.to_thread(operator_kubeconfig.read_text)
    token = yaml.safe_load(text)["users"][0]["user"]["token"]
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases/cutover"
    async with httpx.AsyncClient(
        base_url=stack.api_url,
        verify=ssl.create_default_context(cafile=stack.ca_file),
        headers={"Authorization": f"Bearer {token}"},
        timeout=60.0,
        trust_env=False,
    ) as client:

        async def is_throttled() -> bool:
            return (await client.get(lease)).status_code == 429

        async def is_of(schema: str) -> bool:
            return (await client.get(lease)).headers.get("x-kubernetes-pf-flowschema-uid") == schema

        async def goes_on() -> bool:
            return await asyncio.to_thread(flood) == 429

        await eventually(goes_on)
        await eventually(is_throttled)  # without the chart's
        applied(rendered("flowcontrol.yaml"))
        uid = uid_of(stack, "cutover")
        await eventually(lambda: is_of(uid))
        for _ in range(20):
            assert not await is_throttled()
        traffic = AskedTraffic(cluster)
        for weight in (0, 25, 0):
            await traffic.set(plan, weight)
        assert split_weight(await cluster.get(VIRTUAL_SERVICES, plan.namespace, "cutover-pdf"), plan) == 0
        await eventually(goes_on)


async def test_with_namespaces_the_operator_writes_only_there(stack: Stack, namespace: str, plan: Plan) -> None:
    account, other = "bounded", f"{namespace}-other"
    stack.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}}])
    roles = rendered("rbac.yaml", release=account, namespaces=[namespace])
    stack.apply([item for item in operator_rights(chart_reads()) if item["kind"] == "Namespace"])
    stack.apply(roles)
    cluster = await Cluster.connect(stack.service_account_kubeconfig(OPERATOR_NAMESPACE, account))
    try:
        await AskedTraffic(cluster).set(plan, 0)
        with pytest.raises(Unavailable, match="missing permission"):
            await AskedTraffic(cluster).set(builders.plan(namespace=other, status=plan.status), 0)
        assert isinstance(await cluster.list(VIRTUAL_SERVICES), list)
    finally:
        await cluster.close()
