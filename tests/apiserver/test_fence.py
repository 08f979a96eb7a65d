"""What a process that acts without knowing that another one does by now can still write, on the real API server: nothing.

Here no lease stops it: it slept, and its clock with it, as on a virtual machine that was paused. Only the fences are left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.kit import builders
from tests.kit.alike import AlikeAnswers
from tests.kit.played_provider import PlayedDialect
from tests.kit.routing import RecordedTraffic

from cutover.adapters.clocks import SystemClock
from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.inventory import KubernetesInventories
from cutover.adapters.kube.plans import KubernetesPlans
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.traffic.istio.live import split_weight, stamped_revision
from cutover.adapters.traffic.istio.provider import IstioTraffic
from cutover.adapters.traffic.istio.whole import CALLED_OFF_ANNOTATION
from cutover.api.v1alpha1 import BacktestStatus, MigrationPlanStatus, OnDelete, Phase
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.engine import writes
from cutover.domain.engine.actions import Decision, SetWeight
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.writes import decision_of
from cutover.domain.observation import Observation, Samples
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import VIRTUAL_SERVICES
from cutover.domain.resources import PLANS, Json
from cutover.domain.revision import raise_called_off
from cutover.domain.slo.custom import SloReading
from cutover.domain.traffic import Leg, Probe
from cutover.ports.all import Ports
from cutover.ports.block_feed import BlockSubscription
from cutover.ports.slo_feed import SloSubscription
from cutover.services import plan_loop as reconciler
from cutover.services.plan_loop import PlanLoop
from devstack.stack import Stack
from sandbox.interposer import Fault, Interposer

from .conftest import Api, Kubectl

pytestmark = pytest.mark.usefixtures("istio_crds")

NAME = "cutover-pdf"
#: What a process decides in its next reconcile; what is written for it, and in which order, is production's.
Move = Callable[[MigrationPlanStatus], MigrationPlanStatus]
MOVE: ContextVar[Move] = ContextVar("MOVE")


def raised(status: MigrationPlanStatus) -> MigrationPlanStatus:
    """10 → 25 %."""
    return status.evolve(weight=25)


def lowered(status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Down to 10 %, as the ceiling and a raise that is called off do."""
    return status.evolve(weight=10)


def rolled_back(status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Back."""
    return status.evolve(weight=0, phase=Phase.ROLLING_BACK)


def put_back(status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Write the route that the status asks for, and nothing else."""
    return status


class Silent:
    """Prometheus, the plans' own queries and the gateway: nothing comes of them."""

    def watch(self, key: str, target: BlockSubscription | SloSubscription) -> None: ...

    def forget(self, key: str) -> None: ...

    def now(self, source: str) -> float:
        return time.time()

    async def histogram(self, target: BlockSubscription) -> Histogram:
        return Histogram({})

    async def probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        return Probe(time.time(), "", healthy=True, detail="HTTP 200")


class Blocks(Silent):
    def take(self, key: str) -> Samples:
        return Samples()


class Readings(Silent):
    def take(self, key: str) -> dict[str, SloReading]:
        return {}


@dataclass(slots=True)
class Sleeper(IstioTraffic):
    """Falls asleep just before it writes the route, if it is told to."""

    asleep: asyncio.Event = field(default_factory=asyncio.Event)
    awake: asyncio.Event | None = None

    async def set(self, plan: Plan, write: SetWeight) -> None:
        if self.awake is not None:
            self.asleep.set()
            await self.awake.wait()
        await IstioTraffic.set(self, plan, write)


@dataclass
class Process:
    """One operator's loop over the plan, with connections and caches of its own."""

    cluster: Cluster
    namespace: str
    body: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.traffic = Sleeper(self.cluster)
        ports = Ports(
            plans=KubernetesPlans(self.cluster),
            traffic=self.traffic,
            inventories=KubernetesInventories(self.cluster),
            leg_probe=Silent(),
            answers=AlikeAnswers(),
            block_feed=Blocks(),
            slo_feed=Readings(),
            clock=SystemClock(),
            dialect=PlayedDialect(),
            templates=lambda namespace: {},
            sources=lambda namespace: (),
            backtest=_no_backtest,
            slots=asyncio.Semaphore(1),
            notifier=HttpNotifier(()),
        )
        self.loop = PlanLoop(ports, lambda: self.body)

    async def plan_watched(self) -> None:
        """Let the watch of plans catch up."""
        self.body = await self.cluster.get(PLANS, self.namespace, "pdf")

    async def route_watched(self) -> None:
        """Let the watch of routes catch up."""
        self.traffic.cache.observe_event("MODIFIED", await self.route())

    async def make(self, move: Move) -> float | None:
        """Reconcile once with this decision."""
        MOVE.set(move)
        return await self.loop.reconcile()

    def start(self, move: Move) -> asyncio.Task[float | None]:
        """Begin such a reconcile."""
        return asyncio.create_task(self.make(move))

    async def start_held(self, move: Move, line: Interposer) -> asyncio.Task[float | None]:
        """Begin such a reconcile, and return when the line holds its write of the route."""
        line.inject(Fault("hold", methods=("PUT",), path="/virtualservices/"))
        begun = self.start(move)
        while not await asyncio.to_thread(line.held):
            assert not begun.done()
        return begun

    async def route(self) -> Json:
        return await self.cluster.get(VIRTUAL_SERVICES, self.namespace, NAME)

    async def status(self) -> MigrationPlanStatus:
        return (await KubernetesPlans(self.cluster).read(self.namespace, "pdf"))[0].status


async def _no_backtest(plan: Plan, target: BlockSubscription) -> BacktestStatus:
    raise AssertionError("no plan asks for it")


@pytest.fixture(autouse=True)
def moves(monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(plan: Plan, seen: Observation, now: float) -> Decision:
        status = MOVE.get()(plan.status)
        return decision_of(plan, seen, Outcome(status, "", ""), status, now)

    monkeypatch.setattr(reconciler, "decide", decide)


@pytest.fixture
def plan(api: Api, namespace: str) -> Json:
    code, stored = api.call(
        "POST", f"/apis/cutover.dev/v1alpha1/namespaces/{namespace}/migrationplans", builders.plan_body_of(namespace)
    )
    assert code == 201, stored
    return stored


@contextlib.asynccontextmanager
async def process(kubeconfig: Path, namespace: str) -> AsyncIterator[Process]:
    cluster = await Cluster.connect(kubeconfig, request_timeout=20.0)
    one = Process(cluster, namespace)
    await one.plan_watched()
    try:
        yield one
    finally:
        await cluster.close()


@pytest.fixture(scope="module")
def line(stack: Stack, api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interposer]:
    with Interposer(tmp_path_factory.mktemp("line"), stack.kubeconfig) as started:
        yield started


@pytest.fixture
def interposer(line: Interposer) -> Iterator[Interposer]:
    """The line between the old one and the API server."""
    yield line
    line.inject()


@pytest.fixture
async def old(operator_kubeconfig: Path, interposer: Interposer, plan: Json, namespace: str) -> AsyncIterator[Process]:
    """The process that will not know, behind a line; the plan is at 10 %, in the status and in the route."""
    async with process(interposer.through(operator_kubeconfig), namespace) as one:
        at = MigrationPlanStatus(observed_generation=1, phase=Phase.SHIFTING, attempt=1, weight=10)
        await one.make(lambda _: at)
        await one.plan_watched()
        yield one


@pytest.fixture
async def new(operator_kubeconfig: Path, old: Process, namespace: str) -> AsyncIterator[Process]:
    """The process that acts by now."""
    async with process(operator_kubeconfig, namespace) as one:
        yield one


@pytest.mark.parametrize("told", [False, True], ids=["watch silent", "watch told"])
@pytest.mark.parametrize(
    ("late", "meanwhile", "left"),
    [
        (raised, (put_back, rolled_back), (0, "a1-rollback")),
        (raised, (rolled_back,), (0, "a1-rollback")),
        (raised, (lowered,), (10, "a1-w10")),
        (rolled_back, (raised,), (25, "a1-w25")),
    ],
    ids=["raise, written and rolled back", "raise, rolled back", "raise, called off", "rollback, raised"],
)
async def test_who_slept_before_the_write_of_the_route_writes_nothing(
    old: Process, new: Process, late: Move, meanwhile: tuple[Move, ...], left: tuple[int, str], *, told: bool
) -> None:
    old.traffic.awake = asyncio.Event()
    sleeping = old.start(late)
    await old.traffic.asleep.wait()
    await new.plan_watched()
    for move in meanwhile:
        await new.make(move)
    route, status = await new.route(), await new.status()
    if told:
        # What came in while it slept is read first when it wakes up.
        await old.route_watched()
    old.traffic.awake.set()
    assert await sleeping == 0, "it decides anew, at once"
    after = await new.route()
    assert after == route
    assert (split_weight(after, _parsed(old)), stamped_revision(after)) == left
    assert await new.status() == status
    # What it decides on is the truth by now.
    plan = old.loop.plan
    assert plan is not None
    assert plan.status == status


@pytest.mark.parametrize(
    ("late", "meanwhile", "left"),
    [
        (raised, rolled_back, (0, "a1-rollback")),
        (raised, lowered, (10, "a1-w10")),
        (rolled_back, raised, (25, "a1-w25")),
    ],
    ids=["raise, rolled back", "raise, called off", "rollback, raised"],
)
async def test_a_write_that_was_on_its_way_is_refused(
    old: Process, new: Process, interposer: Interposer, late: Move, meanwhile: Move, left: tuple[int, str]
) -> None:
    begun = time.time()
    sleeping = await old.start_held(late, interposer)
    await new.plan_watched()
    await new.make(meanwhile)
    route = await new.route()
    interposer.release()
    assert await sleeping == 0
    (write,) = (one for one in interposer.seen(begun) if one.method == "PUT" and "/virtualservices/" in one.path)
    assert write.status == 409
    after = await new.route()
    assert after == route
    assert (split_weight(after, _parsed(old)), stamped_revision(after)) == left


async def test_a_raise_is_called_off_in_the_route_first(old: Process, new: Process, interposer: Interposer) -> None:
    """Or the status would say so while the raise may still come."""
    await old.start_held(raised, interposer)
    await new.plan_watched()
    new.traffic.awake = asyncio.Event()
    lowering = new.start(lowered)
    await new.traffic.asleep.wait()
    assert (await new.status()).weight == 25
    new.traffic.awake.set()
    await lowering
    assert (await new.status()).weight == 10
    route = await new.route()
    assert route["metadata"]["annotations"][CALLED_OFF_ANNOTATION] == "a1-w25@0"
    # Once is enough, also where the status could not be written at first.
    await new.plan_watched()
    new.body["status"]["weight"] = 25
    new.body["metadata"]["resourceVersion"] = str(int(new.body["metadata"]["resourceVersion"]) + 1)
    assert await new.make(lowered) == 0, "a conflict, as that is not so"
    assert await new.route() == route


async def test_no_route_is_put_back_up_for_a_status_that_is_not_in_force(old: Process, new: Process) -> None:
    """The watch of routes has caught up, that of plans has not: the route looks like one to be mended."""
    await old.make(raised)
    await old.plan_watched()
    await new.plan_watched()
    await new.make(lowered)
    await old.route_watched()
    route = await new.route()
    assert split_weight(route, _parsed(old)) == 10
    assert await old.make(put_back) == 0
    assert await new.route() == route
    assert await old.make(put_back) is not None, "with the plan as it is now there is nothing to mend"
    assert await new.route() == route


async def test_a_deletion_calls_off_a_raise_that_is_on_its_way(
    old: Process, new: Process, interposer: Interposer
) -> None:
    """The first step: its route is as that of a plan at rest on Heroku, but for the write that comes late."""
    await old.make(lambda status: status.evolve(weight=0))
    sleeping = await old.start_held(raised, interposer)
    plan, _ = await KubernetesPlans(new.cluster).read(new.namespace, "pdf")
    assert plan.status.weight == 25
    await new.traffic.finalize(plan, writes.finalize(plan, OnDelete.HEROKU))
    route = await new.route()
    interposer.release()
    await sleeping
    assert (await new.route())["spec"] == route["spec"]
    assert split_weight(route, plan) == 0


async def test_nothing_more_is_written_than_needs_be(old: Process) -> None:
    """A fence is for what may be on its way; where the route differs its own version is one."""
    await old.make(raised)
    await old.plan_watched()
    await old.make(lowered)
    route = await old.route()
    assert split_weight(route, _parsed(old)) == 10
    assert CALLED_OFF_ANNOTATION not in route["metadata"]["annotations"]
    before = old.cluster.requests.copy()
    await old.make(put_back)
    assert old.cluster.requests == before


def _parsed(one: Process) -> Plan:
    return Plan.from_object(one.body)


async def test_a_teams_own_route_comes_back_without_the_mark(cluster: Cluster, kubectl: Kubectl) -> None:
    istio = {"ownership": "Adopt", "virtualServiceRef": {"name": "pdf"}}
    adopting = builders.plan(namespace=kubectl.namespace, istio=istio)
    route = {
        "hosts": [builders.PUBLIC_HOST],
        "gateways": [builders.GATEWAY],
        "http": [{"route": [{"destination": {"host": builders.HEROKU_HOST}}]}],
    }
    team = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": "pdf"},
        "spec": route,
    }
    kubectl("create", "-f", "-", stdin=json.dumps(team))
    before = await cluster.get(VIRTUAL_SERVICES, kubectl.namespace, "pdf")
    traffic = RecordedTraffic(cluster)
    at = MigrationPlanStatus(phase=Phase.PREFLIGHT, attempt=1, weight=0)
    await traffic.set(replace(adopting, status=at), 0)
    asked = replace(adopting, status=at.model_copy(update={"phase": Phase.SHIFTING, "weight": 10}))
    await traffic.set(replace(asked, status=at), 0, supersedes=raise_called_off(asked.status))
    live = await cluster.get(VIRTUAL_SERVICES, kubectl.namespace, "pdf")
    assert live["metadata"]["annotations"][CALLED_OFF_ANNOTATION] == "a1-w10@0"
    await traffic.finalize(asked, OnDelete.HEROKU)
    live = await cluster.get(VIRTUAL_SERVICES, kubectl.namespace, "pdf")
    assert live["spec"] == before["spec"]
    assert live["metadata"].get("annotations") == before["metadata"].get("annotations")
