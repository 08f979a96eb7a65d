"""What lets a thousand plans share one process: who waits for whom, and who does not."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from tests.kit import builders
from tests.kit.routing import AskedTraffic, rendered

from cutover.adapters.kube import client as kubernetes
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.connection import CONNECTIONS
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.traffic.istio.live import RouteCache
from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION, MigrationPlanStatus, Phase
from cutover.domain.managed_fields import of_spec_and_annotations
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.checks.istio.kinds import SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.preview_pods import PreviewPods
from cutover.domain.resources import PLANS, Json, Resource
from cutover.domain.revision import Split, Trial
from cutover.kopf_app.configuration import kopf_settings
from cutover.ports.errors import Unavailable
from cutover.scale.packing import slim
from cutover.services.operator import Operator
from cutover.settings import SettingsError, read_settings

# ------------------------------------------------------------------------------------------------------ the API server


class Slow(Cluster):
    """An API server that answers when it is let, by way of the real client's queue."""

    def __init__(self) -> None:
        super().__init__(Silent(), Silent())  # type: ignore[arg-type]
        self.asked: list[str] = []
        self.answers = asyncio.Event()
        self.seconds = 0.0

    async def _send(self, api: Any, request: Any) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(request.path)
        await self.answers.wait()
        await asyncio.sleep(self.seconds)
        return 200, {}, b'{"items": [], "metadata": {"resourceVersion": "2"}}'


class Silent:
    configuration = None


def status_of(number: int) -> Json:
    return {"metadata": {"namespace": "docs", "name": f"plan-{number}", "resourceVersion": "1"}}


@asynccontextmanager
async def storm(cluster: Slow, size: int) -> AsyncIterator[list[asyncio.Task[Json]]]:
    """Let so many checkpoints be written at once."""
    writes = [asyncio.create_task(cluster.replace(PLANS, status_of(number), "status")) for number in range(size)]
    await asyncio.sleep(0.01)
    yield writes
    for write in writes:
        write.cancel()
    await asyncio.gather(*writes, return_exceptions=True)


@pytest.mark.usefixtures("virtual_time")
async def test_a_rollback_does_not_queue_behind_checkpoints() -> None:
    cluster = Slow()
    async with storm(cluster, 1000):
        assert len(cluster.asked) == CONNECTIONS
        route = {"metadata": {"namespace": "docs", "name": "cutover-pdf", "resourceVersion": "1"}}
        rollback = asyncio.create_task(cluster.replace(VIRTUAL_SERVICES, route))
        await asyncio.sleep(0.01)
        assert "virtualservices" in cluster.asked[-1]
        cluster.answers.set()
        await asyncio.wait_for(rollback, 30)


@pytest.mark.usefixtures("virtual_time")
async def test_who_waits_for_others_still_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All plans' checkpoints come at the end of the same block; the last of them must not time out for it."""
    cluster = Slow()
    cluster._timeout, cluster.seconds = 2.0, 0.6
    cluster.answers.set()
    async with storm(cluster, 4 * CONNECTIONS) as writes:
        await asyncio.wait_for(asyncio.gather(*writes), 60)
    assert len(cluster.asked) == 4 * CONNECTIONS
    assert not cluster.errors


@pytest.mark.usefixtures("virtual_time")
async def test_who_waits_too_long_looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubernetes, "QUEUE_SECONDS", 0.05)
    cluster = Slow()
    async with storm(cluster, CONNECTIONS + 1) as writes:
        with pytest.raises(Unavailable, match="busy with other requests"):
            await asyncio.wait_for(writes[-1], 30)
        cluster.answers.set()
        await asyncio.gather(*writes[:-1])
        # The place of the one that went is not lost.
        await asyncio.wait_for(cluster.replace(PLANS, status_of(0), "status"), 1)


class Listed(Cluster):
    """Lists take a moment; what they say is how many there were before."""

    def __init__(self) -> None:
        super().__init__(Silent(), Silent())  # type: ignore[arg-type]
        self.lists: list[Resource] = []
        self.busy: set[Resource] = set()
        self.failing = False

    async def list(
        self, resource: Resource, namespace: str = "", label_selector: str = "", *, name: str = "", keep: Any = None
    ) -> list[Json]:
        self.lists.append(resource)
        said = len(self.lists)
        assert resource not in self.busy, "read before the last answer was there"
        self.busy.add(resource)
        await asyncio.sleep(0.02)
        self.busy.remove(resource)
        if self.failing:
            raise Unavailable("away")
        return [{"metadata": {"namespace": "docs", "name": "a"}, "number": said}]


ROUTES, ENTRIES = Read(VIRTUAL_SERVICES), Read(SERVICE_ENTRIES)


@pytest.mark.usefixtures("virtual_time")
async def test_plans_that_begin_together_read_all_routes_once() -> None:
    cluster = Listed()
    inventories = KubernetesInventories(cluster)
    first = asyncio.create_task(inventories._list(ROUTES))
    await asyncio.sleep(0.005)
    # What is under way may have been read before whatever they want to know of.
    others = [asyncio.create_task(inventories._list(ROUTES)) for _ in range(1000)]
    entries = await inventories._list(ENTRIES)
    assert (await first)[0]["number"] == 1
    assert {found[0]["number"] for found in await asyncio.gather(*others)} == {3}
    assert entries[0]["number"] == 2
    assert cluster.lists == [VIRTUAL_SERVICES, SERVICE_ENTRIES, VIRTUAL_SERVICES]
    await inventories._list(ROUTES)
    assert len(cluster.lists) == 4, "an answer is kept for nobody who asks later"


@pytest.mark.usefixtures("virtual_time")
async def test_a_reading_that_fails_or_is_left_does_not_spoil_the_next() -> None:
    cluster = Listed()
    inventories = KubernetesInventories(cluster)
    cluster.failing = True
    asking = [asyncio.create_task(inventories._list(ROUTES)) for _ in range(3)]
    assert {type(error) for error in await asyncio.gather(*asking, return_exceptions=True)} == {Unavailable}
    cluster.failing = False
    leaving, staying = (asyncio.create_task(inventories._list(ROUTES)) for _ in range(2))
    await asyncio.sleep(0.005)
    leaving.cancel()
    assert (await staying)[0]["number"] == 2


@pytest.mark.usefixtures("virtual_time")
async def test_a_reading_that_fails_when_nobody_waits_for_it_any_more_is_told_to_nobody() -> None:
    told = list[Any]()
    asyncio.get_running_loop().set_exception_handler(lambda _, problem: told.append(problem))
    cluster = Listed()
    cluster.failing = True
    leaving = asyncio.create_task(KubernetesInventories(cluster)._list(ROUTES))
    await asyncio.sleep(0.005)
    leaving.cancel()
    await asyncio.sleep(0.05)
    assert (leaving.cancelled(), cluster.lists) == (True, [VIRTUAL_SERVICES])
    del leaving  # it has the reading in its traceback
    gc.collect()
    assert told == []


async def test_a_list_serves_for_a_moment_and_not_what_has_to_be_new(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, derived = Listed(), list[int]()

    def index(listed: Sequence[Json]) -> int:
        derived.append(len(listed))
        return len(derived)

    routes = Read(VIRTUAL_SERVICES, derived=(index,))
    inventories = KubernetesInventories(cluster)

    async def numbers(*, fresh: bool = False) -> tuple[int, int, bool]:
        found = await inventories.inventory(plan(), [routes], fresh=fresh)
        number = found.all(VIRTUAL_SERVICES)[0]["number"]
        return number, found.derived(VIRTUAL_SERVICES, index), found.earlier

    assert await numbers() == (1, 1, False)
    assert await numbers() == (1, 1, True)
    assert await numbers(fresh=True) == (2, 2, False)
    assert await numbers() == (2, 2, True)
    assert derived == [1, 1], "an index is made once for a list"
    inventories._drop(VIRTUAL_SERVICES, inventories._read[VIRTUAL_SERVICES])  # after a while
    assert await numbers() == (3, 3, False)


# --------------------------------------------------------------------------------------------------------- the routes


def plan(uid: str = "u1", **fields: Any) -> Plan:
    status = MigrationPlanStatus(**{"phase": Phase.SHIFTING, "attempt": 1, "weight": 25, **fields})
    return builders.plan(uid=uid, status=status)


class Counting(AskedTraffic):
    """Counts how often objects are rendered."""

    __slots__ = ("rendered",)

    def _render(self, plan: Plan, route: Split | Trial, preview: PreviewPods | None = None) -> list[Json]:
        self.rendered: int = getattr(self, "rendered", 0) + 1
        return super()._render(plan, route, preview)


@pytest.fixture
def traffic() -> Iterator[Counting]:
    traffic = Counting(Cluster(Silent(), Silent()))  # type: ignore[arg-type]
    for body in rendered(plan(), 25):
        body["metadata"]["resourceVersion"] = "5"
        traffic.cache.put(body)
    return traffic


@pytest.mark.usefixtures("virtual_time")
async def test_what_has_not_changed_is_not_compared_again(traffic: Counting) -> None:
    known = plan()
    first = await traffic.get(known, 25)
    assert first.current
    assert await traffic.get(known, 25) == first
    assert traffic.rendered == 1


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("what", ["weight", "spec", "uid", "route", "companion", "attempt"])
async def test_what_has_changed_is(traffic: Counting, what: str) -> None:
    known = plan()
    assert (await traffic.get(known, 25)).current
    weight = 25
    match what:
        case "weight":
            weight = 50
        case "spec":
            known = plan()
            known.spec.traffic.istio.__dict__["hosts"] = ("other.example.com",)
        case "uid":
            known = plan("u2")
        case "attempt":
            known = plan(attempt=2)
        case _:
            body = rendered(known, 25)[-1 if what == "route" else 0]
            body["metadata"]["resourceVersion"] = "6"
            body["spec"] = {**body["spec"], "exportTo": ["."]}
            assert traffic.cache.observe_event("MODIFIED", body)
    assert not (await traffic.get(known, weight)).current


# ------------------------------------------------------------------------------------------------------ which of them


@pytest.mark.parametrize(
    "selector",
    [
        "cutover.dev/shard=a",
        "cutover.dev/shard==a,!paused",
        "shard != a",
        "shard in (a, b),team notin (x)",
        "team",
        "shard=",
    ],
)
def test_a_selector_that_the_api_server_takes(selector: str) -> None:
    environ = {"CUTOVER_PROMETHEUS_URL": "http://prometheus", "CUTOVER_SELECTOR": selector}
    assert read_settings(environ).selector == selector
    selectors = kopf_settings(selector=selector).watching.label_selectors
    assert selectors[GROUP, VERSION, PLURAL] == selector


@pytest.mark.parametrize("selector", ["=a", "shard=a b", "shard in a", "shard=a,", "shard>1", "-shard=a", "a=b=c"])
def test_a_selector_that_it_does_not_take_is_refused_at_the_start(selector: str) -> None:
    with pytest.raises(SettingsError, match=r"CUTOVER_SELECTOR: .*write a label selector"):
        read_settings({"CUTOVER_PROMETHEUS_URL": "http://prometheus", "CUTOVER_SELECTOR": selector})


def test_without_a_selector_all_plans_are_watched() -> None:
    selectors = kopf_settings().watching.label_selectors
    assert (GROUP, VERSION, PLURAL) not in selectors


def test_what_nobody_asks_of_a_plan_is_not_kept() -> None:
    fields = {"f:metadata": {"f:annotations": {"f:cutover.dev/rollback": {}}}, "f:spec": {"f:soak": {}}}
    entries = [
        {"manager": "kubectl", "time": "2026-11-21T14:00:00Z", "fieldsV1": fields},
        {"manager": "cutover", "fieldsV1": {"f:status": {"f:phase": {}}}},
        {"manager": "odd"},
    ]
    metadata = {"namespace": "docs", "name": "pdf", "uid": "u1", "annotations": {"cutover.dev/rollback": "a1"}}
    body = {"metadata": {**metadata, "managedFields": copy.deepcopy(entries)}, "spec": builders.spec_fields()}
    before = Plan.from_object({**body, "metadata": {**metadata, "managedFields": entries}})
    slim(body, of_spec_and_annotations)
    assert len(json.dumps(body["metadata"])) < len(json.dumps({**metadata, "managedFields": entries}))
    assert Plan.from_object(body).writers == before.writers != {}


# -------------------------------------------------------------------------------------------------------- the operator


class Loop:
    woken = 0
    ended = False
    plan = None

    def __init__(self, *_: Any) -> None: ...

    def wake(self) -> None:
        self.woken += 1

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Operator:
    monkeypatch.setattr("cutover.services.operator.PlanLoop", Loop)
    return Operator(SimpleNamespace(notifier=HttpNotifier(()), reports=None), RouteCache(), None)  # type: ignore[arg-type]


def body_of(name: str) -> Json:
    return {"metadata": {"namespace": "docs", "name": name}}


def test_a_plan_is_woken_by_its_name(operator: Operator) -> None:
    one, other = operator.loop("u1", body_of("pdf")), operator.loop("u2", body_of("mail"))
    operator.wake("docs/pdf")
    operator.wake("docs/unknown")
    assert (one.woken, other.woken) == (1, 0)  # type: ignore[attr-defined]


def test_the_end_of_a_plan_is_not_that_of_another_by_its_name(operator: Operator) -> None:
    old, new = operator.loop("u1", body_of("pdf")), operator.loop("u2", body_of("pdf"))
    operator.end("u1", body_of("pdf"))
    operator.wake("docs/pdf")
    assert (old.ended, new.ended, new.woken) == (True, False, 1)  # type: ignore[attr-defined]
    operator.end("u2", body_of("pdf"))
    operator.wake("docs/pdf")
    assert new.woken == 1  # type: ignore[attr-defined]
    assert not operator.loops
