"""The chart's guards at the real API server, and a rollback while a webhook of Istio's fails closed."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.kit import builders
from tests.kit.chart import rendered
from tests.kit.routing import AskedTraffic

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


@pytest.fixture
def applied(stack: Stack) -> Iterator[Any]:
    """Apply objects of the cluster, and delete them afterwards."""
    made = list[Json]()

    def make(items: list[Json]) -> None:
        made.extend(items)
        stack.apply(items)

    yield make
    for item in reversed(made):
        stack.kubectl("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found")


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
    stack.kubectl("delete", "validatingwebhookconfiguration", WEBHOOK["metadata"]["name"])  # type: ignore[index]
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
    uid = json.loads(stack.kubectl("get", "flowschema", "cutover", "-o", "json"))["metadata"]["uid"]
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
