"""The adapter against the real API server, with the chart's own permissions and no others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit import builders

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.api.v1alpha1 import Condition, MigrationPlanStatus, Phase
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.resources import DEPLOYMENTS, EVENTS, PLANS, SERVICES, Resource
from cutover.ports.errors import Conflict, Gone, Unavailable
from devstack.stack import Stack
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE

pytestmark = pytest.mark.usefixtures("istio_crds")


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[Cluster]:
    cluster = await Cluster.connect(stack.kubeconfig)
    yield cluster
    await cluster.close()


def manifest(namespace: str, name: str = "pdf") -> dict[str, Any]:
    return builders.plan_body(name, namespace, istio={"gateways": ["ingress/public", "local"]})


@pytest.fixture
async def plan(admin: Cluster, namespace: str) -> Plan:
    return Plan.from_object(await admin.create(PLANS, manifest(namespace)))


# --------------------------------------------------------------------------------------------------------------- plans


async def test_status_is_written_whole_and_nothing_else(cluster: Cluster, admin: Cluster, plan: Plan) -> None:
    plans = KubernetesPlans(cluster)
    read, version = await plans.read(plan.namespace, plan.name)
    assert read == plan
    since = "2026-11-21T01:02:03Z"
    status = MigrationPlanStatus(
        observed_generation=1,
        phase=Phase.SHIFTING,
        attempt=1,
        weight=10,
        conditions=(
            Condition(
                type="Ready",
                status="True",
                reason="Shifting",
                last_transition_time=datetime.fromisoformat(since),
                observed_generation=1,
            ),
        ),
    )
    version = await plans.write_status(replace(plan, annotations={"x": "y"}), status, version)
    stored = await admin.get(PLANS, plan.namespace, plan.name)
    assert stored["metadata"]["resourceVersion"] == version
    assert stored["metadata"]["generation"] == 1
    assert "annotations" not in stored["metadata"]
    again, _ = await plans.read(plan.namespace, plan.name)
    assert (again.status, again.spec) == (status, plan.spec)
    # What is left out is gone: no remains of a merge.
    await plans.write_status(plan, MigrationPlanStatus(observed_generation=1, phase=Phase.PENDING), version)
    again, _ = await plans.read(plan.namespace, plan.name)
    assert (again.status.weight, again.status.conditions) == (None, ())


async def test_status_of_an_unreadable_plan_can_be_written(cluster: Cluster, plan: Plan) -> None:
    plans = KubernetesPlans(cluster)
    body = await cluster.get(PLANS, plan.namespace, plan.name)
    refused = Plan.refused(body, "spec.steps: too strange")
    await plans.write_status(refused, MigrationPlanStatus(message="too strange"), body["metadata"]["resourceVersion"])
    again, _ = await plans.read(plan.namespace, plan.name)
    assert again.status.message == "too strange"


async def test_a_status_decided_on_an_old_plan_is_not_written(
    cluster: Cluster, admin: Cluster, api: Any, plan: Plan
) -> None:
    plans = KubernetesPlans(cluster)
    _, version = await plans.read(plan.namespace, plan.name)
    stored = await admin.get(PLANS, plan.namespace, plan.name)
    await admin.replace(PLANS, {**stored, "spec": {**stored["spec"], "suspend": True}})
    with pytest.raises(Conflict, match="the object has been modified"):
        await plans.write_status(plan, MigrationPlanStatus(), version)
    api.call("DELETE", PLANS.path(plan.namespace, plan.name))
    with pytest.raises(Gone):
        await plans.write_status(plan, MigrationPlanStatus(), version)
    with pytest.raises(Gone):
        await plans.read(plan.namespace, plan.name)
    assert cluster.errors == {"conflict": 1, "gone": 2}


async def test_a_plan_made_anew_is_not_given_the_old_ones_status(
    cluster: Cluster, admin: Cluster, api: Any, plan: Plan
) -> None:
    plans = KubernetesPlans(cluster)
    api.call("DELETE", PLANS.path(plan.namespace, plan.name))
    anew = await admin.create(PLANS, manifest(plan.namespace))
    with pytest.raises(Conflict):
        await plans.write_status(plan, MigrationPlanStatus(), anew["metadata"]["resourceVersion"])


async def test_the_same_status_is_no_new_version(cluster: Cluster, plan: Plan) -> None:
    plans = KubernetesPlans(cluster)
    _, version = await plans.read(plan.namespace, plan.name)
    written = await plans.write_status(plan, MigrationPlanStatus(message="x"), version)
    assert await plans.write_status(plan, MigrationPlanStatus(message="x"), written) == written


async def test_events_are_posted_once_and_never_fail(cluster: Cluster, admin: Cluster, plan: Plan) -> None:
    plans = KubernetesPlans(cluster, "operator-0")
    for message in ("10 % → 25 %", "10 % → 25 %", "x" * 2000):
        await plans.event(plan, "Normal", "Advance", message)
    events = await admin.list(EVENTS, plan.namespace)
    assert sorted(len(event["message"]) for event in events) == [11, 1024]
    assert {event["involvedObject"]["uid"] for event in events} == {plan.uid}
    assert {event["reportingComponent"] for event in events} == {"cutover"}
    await plans.event(replace(plan, namespace="nowhere"), "Warning", "Lost", "nobody hears")
    assert cluster.errors.total() == 1


async def test_events_show_in_describe(cluster: Cluster, plan: Plan, kubectl: Any) -> None:
    await KubernetesPlans(cluster).event(plan, "Warning", "RollBack", "25 % → 0 %: errors")
    assert "RollBack" in kubectl("describe", "migrationplan", plan.name)
    assert "25 % → 0 %: errors" in kubectl("events", "--for", f"migrationplan/{plan.name}")


# ------------------------------------------------------------------------------------------------------------ workload


async def failed(cluster: Cluster, plan: Plan) -> dict[str, str]:
    """Return what preflight finds wrong, by check."""
    found = registry.before_takeover(plan, await KubernetesInventories(cluster).inventory(plan))
    return {one.check: one.message for one in found if one.result == "Failed"}


async def test_a_target_that_is_not_there(cluster: Cluster, plan: Plan) -> None:
    found = await failed(cluster, plan)
    assert found["service"].startswith("Service pdf does not exist")
    assert found["workload"].startswith("Deployment pdf does not exist")
    assert found["gateway"].startswith("Gateway ingress/public of another namespace does not exist")


async def test_a_target_is_read_as_it_is(cluster: Cluster, stack: Stack, plan: Plan) -> None:
    namespace = plan.namespace
    labels = {"app": "pdf"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "x", "image": "x"}]}}
    route = {"hosts": ["pdf.example.com"], "http": [{"route": [{"destination": {"host": "x"}}]}]}
    stack.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "pdf", "namespace": namespace},
                "spec": {"selector": labels, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
            },
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": "pdf", "namespace": namespace},
                "spec": {"replicas": 3, "selector": {"matchLabels": labels}, "template": template},
            },
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "Gateway",
                "metadata": {"name": "local", "namespace": namespace},
                "spec": {"selector": {"istio": "ingress"}, "servers": []},
            },
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": "older", "namespace": namespace},
                "spec": {**route, "gateways": ["local"]},
            },
        ]
    )
    inventory = await KubernetesInventories(cluster).inventory(plan)
    service, deployment = inventory.get(SERVICES, namespace, "pdf"), inventory.get(DEPLOYMENTS, namespace, "pdf")
    assert service is not None
    assert [port["port"] for port in service["spec"]["ports"]] == [80, 81]
    assert deployment is not None
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "x"
    found = await failed(cluster, plan)
    assert "service" not in found
    assert found["workload"] == "Deployment pdf has 0 of 3 replicas available; see its events"
    assert found["gateway"].startswith("Gateway ingress/public of another namespace does not exist")
    assert f"pdf.example.com by VirtualService {namespace}/older" in found["host-unclaimed"]


async def test_lists_come_in_pages(admin: Cluster, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutover.adapters.kube.client.PAGE", 2)
    for number in range(5):
        body = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"s{number}", "namespace": namespace},
            "spec": {"ports": [{"port": 80}]},
        }
        await admin.create(SERVICES, body)
    found = await admin.list(SERVICES, namespace)
    assert [item["metadata"]["name"] for item in found] == [f"s{number}" for number in range(5)]
    assert admin.requests["list"] == 3


# ---------------------------------------------------------------------------------------------------------- the server


async def test_a_missing_permission_is_named(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(Unavailable) as caught:
        await cluster.create(DEPLOYMENTS, {"metadata": {"namespace": namespace, "name": "pdf"}})
    assert str(caught.value) == (
        f"create deployments.apps {namespace}: missing permission: "
        f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT} needs verb create on deployments of API group "
        f"apps in namespace {namespace}"
    )
    assert cluster.errors == {"forbidden": 1}


async def test_what_the_chart_grants_is_all_there_is(cluster: Cluster, namespace: str) -> None:
    for resource in (Resource("", "v1", "Secret", "secrets"), Resource("", "v1", "Pod", "pods")):
        with pytest.raises(Unavailable, match="missing permission"):
            await cluster.get(resource, namespace, "x")
    with pytest.raises(Unavailable, match="missing permission"):
        await cluster.list(DEPLOYMENTS)


async def test_a_kind_without_a_crd_is_told_from_a_missing_object(admin: Cluster, namespace: str) -> None:
    with pytest.raises(Unavailable, match="is its CRD installed"):
        await admin.get(Resource("nowhere.dev", "v1", "Thing", "things"), namespace, "x")


async def test_credentials_that_are_not_accepted(stack: Stack, namespace: str, tmp_path: Path) -> None:
    config = yaml.safe_load(stack.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "expired"}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    cluster = await Cluster.connect(kubeconfig)
    with pytest.raises(Unavailable, match="does not accept the credentials"):
        await cluster.get(SERVICES, namespace, "x")
    await cluster.close()


async def test_what_the_server_refuses_is_explained(admin: Cluster, namespace: str) -> None:
    bad = manifest(namespace)
    bad["spec"]["steps"] = [{"weight": 500}]
    with pytest.raises(Unavailable, match=r"create migrationplans\.cutover\.dev .*refused: .*spec\.steps"):
        await admin.create(PLANS, bad)


async def test_a_server_that_hangs_is_given_up(namespace: str, tmp_path: Path) -> None:
    async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    server = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = tmp_path / "kubeconfig"
    config.write_text(
        yaml.safe_dump(
            {
                "current-context": "x",
                "clusters": [{"name": "x", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
                "users": [{"name": "x", "user": {"token": "t"}}],
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            }
        )
    )
    cluster = await Cluster.connect(config, request_timeout=0.3)
    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"no answer from the API server within 0\.3 s"):
        await cluster.get(SERVICES, namespace, "x")
    assert time.monotonic() - began < 10
    assert cluster.errors == {"timeout": 1}
    await cluster.close()
    server.close()
