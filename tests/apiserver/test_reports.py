"""Reports in ConfigMaps of a real API server, with the rights that the chart gives for them and with no others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.kit.chart import rendered
from tests.kit.reports import completed

from cutover.adapters.clocks import SystemClock
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.adapters.kube.reports import ConfigMapReports
from cutover.domain.plan import Plan
from cutover.domain.resources import CONFIG_MAPS
from cutover.ports.errors import Unavailable
from cutover.report.config_map import config_map
from cutover.report.documents import LONGEST
from cutover.report.record import Record
from cutover.services.reports import ReportWriter
from devstack.stack import Stack
from sandbox.manifests import OPERATOR_NAMESPACE, operator_rights


@pytest.fixture
async def account(stack: Stack) -> AsyncIterator[Callable[..., Any]]:
    """Connect as an operator of a release."""
    opened: list[Cluster] = []

    async def connect(release: str, *, without: str = "") -> Cluster:
        stack.apply([item for item in operator_rights([]) if item["kind"] == "Namespace"])
        items = rendered("rbac.yaml", release=release)
        for item in items:
            if "rules" in item:
                item["rules"] = [rule for rule in item["rules"] if without not in rule.get("resources", ())]
        stack.apply(items)
        opened.append(await Cluster.connect(stack.service_account_kubeconfig(OPERATOR_NAMESPACE, release)))
        return opened[-1]

    yield connect
    for one in opened:
        await one.close()


def ended_now(namespace: str) -> Plan:
    plan = completed().plan
    *before, last = plan.status.ledger
    now = last.evolve(at=datetime.now(UTC).replace(microsecond=0))
    return replace(plan, namespace=namespace, status=plan.status.evolve(ledger=(*before, now)))


async def keep(cluster: Cluster, plan: Plan) -> ReportWriter:
    """Let the operator's own writer keep the report of a plan."""

    async def none(record: Record) -> Record:
        return record

    writer = ReportWriter(
        [ConfigMapReports(cluster)],
        KubernetesPlans(cluster),
        none,
        SystemClock(),
        settle=0.0,
        pauses=(0.1,),
    )
    writer.tell(plan)
    task = asyncio.create_task(writer.run())
    async with asyncio.timeout(60):
        await writer._waiting.join()
    task.cancel()
    return writer


async def test_a_report_is_kept_once_and_nobody_changes_it(account: Any, namespace: str, kubectl: Any) -> None:
    cluster, plan = await account("keeper"), ended_now(namespace)
    assert (await keep(cluster, plan)).written.total() == 1
    # The next process, which does not know of it.
    again = await keep(cluster, plan)
    assert (again.written.total(), again.failed.total()) == (0, 0)
    (found,) = json.loads(kubectl("-n", namespace, "get", "configmap", "-l", "cutover.dev/plan=pdf", "-o", "json"))[
        "items"
    ]
    assert found["data"]["report.html"].startswith("<!doctype html>")
    assert found["immutable"] is True
    events = json.loads(kubectl("-n", namespace, "get", "events", "-o", "json"))["items"]
    assert [one["message"] for one in events if one["reason"] == "Report"] == [
        f"the report is in ConfigMap {found['metadata']['name']}"
    ]
    # The right is to create, and no other.
    with pytest.raises(Unavailable, match="missing permission"):
        await cluster.get(CONFIG_MAPS, namespace, found["metadata"]["name"])
    with pytest.raises(Unavailable, match="missing permission"):
        await cluster.replace(CONFIG_MAPS, found)


async def test_without_the_right_it_is_told_once(account: Any, namespace: str, kubectl: Any) -> None:
    cluster = await account("keeps-nothing", without="configmaps")
    writer = await keep(cluster, ended_now(namespace))
    assert (writer.written.total(), writer.failed.total()) == (0, 1)
    events = json.loads(kubectl("-n", namespace, "get", "events", "-o", "json"))["items"]
    (told,) = [one for one in events if one["reason"] == "ReportNotWritten"]
    assert "missing permission" in told["message"]


def test_the_longest_report_is_one_that_the_api_server_takes(api: Any, namespace: str) -> None:
    """The limit of the documents is below the API server's, with the object around them."""
    body = config_map(
        "cutover-longest", {"report.html": "ä" * (LONGEST // 2)}, plan="pdf", namespace=namespace, uid="u"
    )
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert api.call("POST", path, body)[0] == 201
    body["metadata"]["name"] = "cutover-too-long"
    body["data"]["report.md"] = "x" * (200 * 1024)
    assert api.call("POST", path, body)[0] == 422


async def test_the_guard_takes_no_config_map_of_another_name(account: Any, stack: Stack, namespace: str) -> None:
    cluster = await account("guarded")
    policy = rendered("admission.yaml", release="guarded", admissionPolicy=True)
    stack.apply(policy)
    refused = ""
    try:
        async with asyncio.timeout(60):
            while "only ConfigMaps that are named" not in refused:
                name = f"victim-{datetime.now(UTC).timestamp():.6f}"
                try:
                    await cluster.create(CONFIG_MAPS, config_map(name, {}, plan="pdf", namespace=namespace, uid="u"))
                except Unavailable as refusal:
                    refused = str(refusal)
                await asyncio.sleep(0.2)
        assert (await keep(cluster, ended_now(namespace))).written.total() == 1
    finally:
        stack.delete(policy)
