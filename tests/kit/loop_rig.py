"""One plan's loop in memory: API server, gateway, Prometheus and clock stand behind its ports, and each of them can fail."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.kit.alike import AlikeAnswers
from tests.kit.builders import spec_fields
from tests.kit.custom_slos import ERRORS
from tests.kit.played_provider import PlayedDialect

from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.traffic.istio.provider import CAPABILITIES as ISTIO
from cutover.api.v1alpha1 import BacktestStatus, Checkpoint, MigrationPlanStatus, Phase
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.engine.actions import EndTrial, Finalize, GiveBack, SetWeight, Try
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.observation import Samples
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.preflight.workload import DEPLOYMENT
from cutover.domain.resources import DEPLOYMENTS
from cutover.domain.revision import Split, Trial
from cutover.domain.slo.custom import SloReading
from cutover.domain.traffic import Capabilities, Leg, Probe, TrafficState
from cutover.ports.all import Ports
from cutover.ports.block_feed import BlockSubscription
from cutover.ports.errors import Conflict, Unavailable
from cutover.ports.heroku import HerokuApi
from cutover.ports.records import Records
from cutover.ports.slo_feed import SloSubscription
from cutover.services.plan_loop import PlanLoop

START = 1_799_661_600.0
BLOCK = 5.0
SPEC = spec_fields(
    steps=[{"weight": 25, "hold": "1h"}, {"weight": 100}],
    gates={"block": "5s", "warmUp": "5s", "slos": [ERRORS]},
)


def shifting(weight: int = 25, **fields: Any) -> MigrationPlanStatus:
    """Return the status of a plan that is judged, since a minute."""
    checkpoint = Checkpoint(at=START, weight_since=START - 60, observed_at=START - 50, consumed_until=START)
    known = {"phase": Phase.SHIFTING, "attempt": 1, "weight": weight, "checkpoint": checkpoint}
    return MigrationPlanStatus(observed_generation=1, **{**known, **fields})


@dataclass
class LoopRig:
    """API server, gateway, Prometheus and clock; each of them can fail."""

    status: MigrationPlanStatus = field(default_factory=shifting)
    now: float = START
    spec: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(SPEC))
    metadata: dict[str, Any] = field(default_factory=dict)
    uid: str = "uid-1"
    version: int = 10
    weight: int = 25
    revision: str = "a1-w25"
    capabilities: Capabilities = ISTIO
    #: What happened, in order: ``status``, ``route 0``, ``read``, ``finalize Heroku``, ``event RollBack``.
    done: list[str] = field(default_factory=list)
    #: What the next calls of a kind raise; ``after`` the deed, where the write is made all the same.
    failures: dict[str, deque[Exception]] = field(default_factory=dict)
    after: bool = False
    blocks: list[Block] = field(default_factory=list)
    watched: BlockSubscription | None = None
    own_blocks: list[Block] = field(default_factory=list)
    own_watched: SloSubscription | None = None
    own_taken: dict[str, float] = field(default_factory=dict)
    #: Seconds by which Prometheus' clock is ahead.
    skew: float = 0.0
    replays: int = 0
    probing: Callable[[], Awaitable[None]] | None = None
    probes: int = 0
    #: HTTP status of the probes' answers by way of the plan's route; 0: not by way of it.
    answered_with: int = 0
    heroku: HerokuApi | None = None
    records: Records | None = None
    #: Whether Heroku fails its probes.
    unhealthy: bool = False
    #: EKS' Deployment, which cannot be read without one.
    deployment: dict[str, Any] | None = None
    notifier: HttpNotifier = field(default_factory=lambda: HttpNotifier(()))
    #: What the watch has delivered last.
    watch: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.wire = self.status.to_wire()
        self.deliver()

    @property
    def body(self) -> dict[str, Any]:
        """The plan as the API server has it."""
        known = {"namespace": "docs", "name": "pdf", "uid": self.uid, "generation": 1}
        metadata = {**known, "resourceVersion": str(self.version), **self.metadata}
        return copy.deepcopy({"metadata": metadata, "spec": self.spec, "status": self.wire})

    @property
    def stored(self) -> MigrationPlanStatus:
        return MigrationPlanStatus.model_validate(self.wire)

    def deliver(self) -> None:
        """Let the watch catch up."""
        self.watch = self.body

    def edit(self, **metadata: Any) -> None:
        """Change the plan, as a person does."""
        self.metadata |= metadata
        self.version += 1

    def fail(self, what: str, *errors: Exception, after: bool = False) -> None:
        self.failures[what] = deque(errors)
        self.after = after

    def loop(self) -> PlanLoop:
        return PlanLoop(self.ports(), lambda: self.watch)

    def ports(self) -> Ports:
        return Ports(
            plans=self,
            traffic=self,
            inventories=self,
            leg_probe=self,
            answers=AlikeAnswers(),
            block_feed=FakeBlockFeed(self),
            slo_feed=FakeSloFeed(self),
            clock=FakeClock(self),
            dialect=PlayedDialect(),
            templates=lambda namespace: {},
            sources=lambda namespace: (),
            backtest=self.replay,
            slots=asyncio.Semaphore(8),
            heroku=self.heroku,
            notifier=self.notifier,
            records=self.records,
        )

    def run(self, seconds: float = BLOCK) -> None:
        """Let time pass, and traffic with it: ten requests a block."""
        for _ in range(round(seconds / BLOCK)):
            start, self.now = self.now, self.now + BLOCK
            self.blocks.append(Block(start, self.now, Counts(requests=8, timed=8), Counts(requests=2, timed=2)))

    async def replay(self, plan: Plan, target: BlockSubscription) -> BacktestStatus:
        self.replays += 1
        await asyncio.sleep(0)
        return BacktestStatus(runs=200, false_rollbacks=0, stuck=0)

    def _failing(self, what: str) -> Exception | None:
        waiting = self.failures.get(what)
        return waiting.popleft() if waiting else None

    # ---------------------------------------------------------------------------------------------------- the ports

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        self.done.append("read")
        if error := self._failing("read"):
            raise error
        return Plan.from_object(self.body), str(self.version)

    async def write_status(self, plan: Plan, status: MigrationPlanStatus, resource_version: str) -> str:
        self.done.append("status")
        error = self._failing("status")
        if error and not self.after:
            raise error
        if resource_version != str(self.version):
            raise Conflict("the status was modified")
        self.version += 1
        self.wire = status.to_wire()
        if error:
            raise error
        return str(self.version)

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        self.done.append(f"event {reason}")

    async def get(self, plan: Plan, wanted: Split | Trial | None, *, fresh: bool = False) -> TrafficState:
        if error := self._failing("get"):
            raise error
        asked = (wanted.weight, wanted.revision) if isinstance(wanted, Split) else None
        return TrafficState(self.weight, self.revision, current=asked == (self.weight, self.revision))

    async def prepare(self, plan: Plan) -> None:
        self.done.append("prepare")

    async def try_out(self, plan: Plan, write: Try) -> None:
        raise AssertionError("no plan of these tests takes over")

    async def end_trial(self, plan: Plan, end: EndTrial) -> None:
        raise AssertionError("no plan of these tests takes over")

    async def give_back(self, plan: Plan, write: GiveBack) -> None:
        raise AssertionError("no plan of these tests takes over")

    async def set(self, plan: Plan, write: SetWeight) -> None:
        self.done.append(f"route {write.split.weight}")
        error = self._failing("route")
        if error is None or self.after:
            self.weight, self.revision = write.split.weight, write.split.revision
        if error:
            raise error

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        self.done.append(f"finalize {rest.end}")
        if error := self._failing("finalize"):
            raise error

    async def inventory(self, plan: Plan, reads: Any = None, *, fresh: bool = False) -> Inventory:
        if self.deployment is None or reads != (DEPLOYMENT,):
            raise Unavailable("not asked in these tests")
        (key,) = DEPLOYMENT.names(plan) if DEPLOYMENT.names is not None else ()
        return Inventory({DEPLOYMENTS: {key: self.deployment}})

    async def probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        self.probes += 1
        if self.probing is not None:
            await self.probing()
        if self.unhealthy:
            return Probe(self.now, self.revision, healthy=False, detail="HTTP 503", failures=1, status=503)
        return Probe(self.now, self.revision, healthy=True, detail="HTTP 200", status=self.answered_with)


@dataclass
class FakeClock:
    rig: LoopRig

    def now(self) -> float:
        return self.rig.now


@dataclass
class FakeBlockFeed:
    """Delivers each block once, unless it is asked to go back."""

    rig: LoopRig
    taken: float = 0.0

    def watch(self, key: str, target: BlockSubscription) -> None:
        self.rig.watched, self.taken = target, target.since

    def forget(self, key: str) -> None:
        self.rig.watched = None

    def take(self, key: str) -> Samples:
        news = tuple(block for block in self.rig.blocks if block.end > self.taken)
        self.taken = news[-1].end if news else self.taken
        return Samples(news)

    async def histogram(self, target: BlockSubscription) -> Histogram:
        return Histogram({})

    def now(self, source: str) -> float:
        return self.rig.now + self.rig.skew


@dataclass
class FakeSloFeed:
    """Delivers each block of an own ratio once, unless it is asked to go back."""

    rig: LoopRig

    def watch(self, key: str, target: SloSubscription) -> None:
        self.rig.own_watched = target

    def forget(self, key: str) -> None:
        self.rig.own_watched = None

    def take(self, key: str) -> Mapping[str, SloReading]:
        target = self.rig.own_watched
        if target is None:
            return {}
        found = {}
        for gate in target.gates:
            since = max(target.since[gate.name], self.rig.own_taken.get(gate.name, 0.0))
            news = tuple(block for block in self.rig.own_blocks if block.end > since)
            self.rig.own_taken[gate.name] = news[-1].end if news else since
            found[gate.name] = SloReading(self.rig.now, news)
        return found
