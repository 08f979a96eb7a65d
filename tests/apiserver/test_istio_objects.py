"""The routing objects in the real API server, with Istio's own CRDs and the chart's permissions."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from tests.kit import builders
from tests.kit.routing import AskedTraffic, rendered

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.live import RouteCache, split_weight
from cutover.api.v1alpha1 import MigrationPlanStatus, OnDelete
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.resources import Json
from cutover.domain.traffic import TrafficState
from cutover.ports.errors import Conflict, Unavailable

pytestmark = pytest.mark.usefixtures("istio_crds")

RESOURCES = {"VirtualService": VIRTUAL_SERVICES, "ServiceEntry": SERVICE_ENTRIES, "DestinationRule": DESTINATION_RULES}


@pytest.fixture
def traffic(cluster: Cluster) -> AskedTraffic:
    return AskedTraffic(cluster)


@pytest.fixture
def plan(namespace: str) -> Plan:
    return builders.plan(
        namespace=namespace,
        status=MigrationPlanStatus(attempt=1, weight=25),
    )


def writes(cluster: Cluster) -> int:
    return sum(count for verb, count in cluster.requests.items() if verb not in ("get", "list"))


async def read(cluster: Cluster, plan: Plan) -> Json:
    return await cluster.get(VIRTUAL_SERVICES, plan.namespace, "cutover-pdf")


async def test_objects_are_made_once_and_then_kept_by_one_write(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan
) -> None:
    await traffic.set(plan, 0)
    assert cluster.requests["create"] == 4
    for weight in (10, 10, 25, 25):
        await traffic.set(plan, weight)
    assert (cluster.requests["create"], cluster.requests["update"]) == (4, 2)
    # The cache was enough: only the first reconcile looked.
    assert cluster.requests["get"] == 4
    assert await traffic.get(plan, 25, fresh=True) == TrafficState(weight=25, revision="a1-w25", current=True)


async def test_istios_crds_take_every_form_of_the_objects(cluster: Cluster, plan: Plan) -> None:
    for body in rendered(plan, 100):
        stored = await cluster.create(RESOURCES[body["kind"]], body)
        # Nothing was dropped, and nothing filled in.
        assert stored["spec"] == body["spec"]
        assert [entry["manager"] for entry in stored["metadata"]["managedFields"]] == ["cutover"]


async def test_a_restarted_operator_finds_its_objects_and_writes_nothing(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan
) -> None:
    await traffic.set(plan, 25)
    before = writes(cluster)
    restarted = AskedTraffic(cluster, RouteCache())
    assert (await restarted.get(plan, 25)).current
    await restarted.set(plan, 25)
    assert writes(cluster) == before


async def test_an_edit_names_its_maker_and_is_put_back(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan, kubectl: Any
) -> None:
    await traffic.set(plan, 25)
    kubectl(
        "patch",
        "virtualservice",
        "cutover-pdf",
        "--type=json",
        '--patch=[{"op": "replace", "path": "/spec/http/2/route/0/weight", "value": 40},'
        ' {"op": "replace", "path": "/spec/http/2/route/1/weight", "value": 60}]',
        "--field-manager=kubectl-edit",
    )
    assert traffic.cache.observe_event("MODIFIED", await read(cluster, plan))
    state = await traffic.get(plan, 25)
    assert state == TrafficState(weight=60, revision="a1-w25", current=False, foreign=("kubectl-edit",))
    await traffic.set(plan, 25)
    assert await traffic.get(plan, 25, fresh=True) == TrafficState(weight=25, revision="a1-w25", current=True)


async def test_server_side_apply_by_another_manager(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan, kubectl: Any
) -> None:
    await traffic.set(plan, 25)
    in_git = rendered(plan, 0)[-1]
    apply = ("apply", "--server-side", "--field-manager=kustomize-controller", "-f", "-")
    refusal = kubectl(*apply, stdin=yaml.safe_dump(in_git), check=False)
    assert 'conflict with "cutover"' in refusal
    kubectl(*apply, "--force-conflicts", stdin=yaml.safe_dump(in_git))
    state = await traffic.get(plan, 25, fresh=True)
    assert state == TrafficState(weight=0, revision="a1-w0", current=False, foreign=("kustomize-controller",))
    await traffic.set(plan, 25)
    state = await traffic.get(plan, 25, fresh=True)
    # It goes on owning the fields on which both agree, which is no drift.
    assert state == TrafficState(weight=25, revision="a1-w25", current=True, foreign=("kustomize-controller",))


async def test_labels_of_others_are_neither_drift_nor_lost(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan, kubectl: Any
) -> None:
    await traffic.set(plan, 25)
    kubectl("label", "virtualservice", "cutover-pdf", "team=docs")
    assert await traffic.get(plan, 25, fresh=True) == TrafficState(weight=25, revision="a1-w25", current=True)
    await traffic.set(plan, 50)
    assert (await read(cluster, plan))["metadata"]["labels"]["team"] == "docs"


async def test_our_label_taken_off_is_drift_and_put_back(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan, kubectl: Any
) -> None:
    await traffic.set(plan, 25)
    kubectl("label", "virtualservice", "cutover-pdf", "app.kubernetes.io/managed-by-", "cutover.dev/plan-")
    assert not (await traffic.get(plan, 25, fresh=True)).current
    await traffic.set(plan, 25)
    assert (await traffic.get(plan, 25, fresh=True)).current


async def test_a_write_on_an_old_version_is_a_conflict_and_then_succeeds(
    traffic: AskedTraffic, plan: Plan, kubectl: Any
) -> None:
    await traffic.set(plan, 25)
    kubectl("annotate", "virtualservice", "cutover-pdf", "note=hello")
    with pytest.raises(Conflict):
        await traffic.set(plan, 50)
    await traffic.set(plan, 50)
    assert (await traffic.get(plan, 50, fresh=True)).current


async def test_a_deleted_route_is_made_again(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan, kubectl: Any
) -> None:
    await traffic.set(plan, 25)
    kubectl("delete", "virtualservice", "cutover-pdf")
    with pytest.raises(Conflict):
        await traffic.set(plan, 50)
    await traffic.set(plan, 50)
    assert split_weight(await read(cluster, plan), plan) == 50


async def test_somebody_elses_route_is_left_alone(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan, kubectl: Any
) -> None:
    theirs = rendered(plan, 0)[-1]
    theirs["metadata"] = {"name": "cutover-pdf", "namespace": plan.namespace}
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(theirs))
    with pytest.raises(Unavailable, match="exists and is not the operator's"):
        await traffic.set(plan, 10)
    assert split_weight(await read(cluster, plan), plan) == 0


@pytest.mark.parametrize(("end", "weight"), [(OnDelete.HEROKU, 0), (OnDelete.EKS, 100), (OnDelete.LEAVE, 25)], ids=str)
async def test_deletion_leaves_the_objects_to_nobodys_garbage_collection(
    traffic: AskedTraffic, cluster: Cluster, plan: Plan, end: OnDelete, weight: int
) -> None:
    await traffic.set(plan, 25)
    await traffic.finalize(plan, end)
    assert split_weight(await read(cluster, plan), plan) == weight
    for body in rendered(plan, 0):
        stored = await cluster.get(RESOURCES[body["kind"]], plan.namespace, body["metadata"]["name"])
        assert "ownerReferences" not in stored["metadata"]
        assert stored["metadata"]["labels"]["cutover.dev/plan"] == "pdf"
