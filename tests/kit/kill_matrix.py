"""Kill the operator at every point between two calls to the outside world, and compare what comes of it.

The loop is the real one, with real decisions, and so are the routing objects. The outside world is that of
:mod:`world`, behind the ports, and time is virtual: the event loop sleeps by letting the world's users send requests.

Points are found, not listed: :class:`_Watched` stands before every port and notes each call, whatever it is called. A
SIGKILL leaves nothing but the world, so a run that is killed at a point is a copy of the world at that point in which a
new process starts a moment later, with an empty memory. Points between which nothing was written and no time passed
leave the same world, and are one run.

Time is virtual, and there is more than one clock: what happens (and Prometheus) goes by ``now``, the operator's machine
by what :class:`KillableWorld` makes of it. Something may be done to them at any point, too, and the process goes on.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import json
import math
import os
import pickle
import selectors
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import pytest
import structlog
from tests.kit.alike import AlikeAnswers
from tests.kit.played_provider import PlayedDialect
from tests.kit.routing import FakeCluster
from tests.kit.target import READY
from tests.kit.world import SCRAPE_LAG, START, Route, World, check

from cutover.adapters.kube.client import Cluster
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.traffic.istio.live import split_weight, stamped_revision
from cutover.adapters.traffic.istio.provider import IstioTraffic
from cutover.api.v1alpha1 import BacktestStatus, BoundSlo, LedgerEntry, MigrationPlanStatus, Phase
from cutover.api.v1alpha1.templates import Template
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.engine.actions import Decision
from cutover.domain.engine.decide import decide
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.ingest import load, load_evidence
from cutover.domain.observation import Observation, Samples
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import HEADER, desired_revision, rollback_revision
from cutover.domain.slo.custom import QueryProblem, SloReading
from cutover.domain.steps import current_step
from cutover.domain.traffic import Leg, Probe
from cutover.domain.verdicts import Verdict
from cutover.kopf_app.handlers import DELETION_RETRY_SECONDS
from cutover.ports.all import Ports
from cutover.ports.block_feed import BlockSubscription
from cutover.ports.errors import Conflict, Unavailable
from cutover.ports.slo_feed import SloSubscription
from cutover.scale.turns import Turns
from cutover.services import plan_loop as reconciler
from cutover.services.plan_loop import PlanLoop

#: Seconds until a killed process is replaced, and until the watch delivers a write.
RESTART, WATCH_LAG = 1.0, 0.05
#: Seconds after which the operator compares clocks again: those after which it sees that its own was set, and anyhow.
LOOKS, COMPARES = 5.0, 60.0
#: Seconds of each minute for which no status can be written, where that is a scenario's trouble.
AWAY = 14.0
#: Seconds for which an end has to last.
REST = 10.0
#: Turns of the event loop at one moment after which something is thought to go round in circles.
STUCK = 100_000


# --------------------------------------------------------------------------------------------------------- the scenario


@dataclass(frozen=True)
class Happening:
    """Something that is done to the world once what it waits for has lasted for a while.

    It waits for what is so outside the operator, so that it comes at the same time whether that is killed or not.
    """

    when: Callable[[KillableWorld], bool]
    after: float
    do: Callable[[KillableWorld], None]


def at_gateway(weight: int) -> Callable[[KillableWorld], bool]:
    return lambda world: world.live is not None and world.live.weight == weight


def revision_at_gateway(revision: str) -> Callable[[KillableWorld], bool]:
    return lambda world: world.live is not None and world.live.revision == revision


def rolled_back_to(revision: str) -> Callable[[KillableWorld], bool]:
    return lambda world: (
        world.live is not None and world.live.revision == revision and world.stored.phase is Phase.ROLLED_BACK
    )


@dataclass(frozen=True)
class Scenario:
    """A migration as it goes undisturbed.

    Parameters
    ----------
    name
        What happens.
    end
        The phase that ends it; ``None``: the plan's deletion does.
    attempt
        The attempt in which it ends.
    spec
        Fields of the plan's spec in camel case.
    happenings
        What goes wrong, or is done by people.
    trouble
        ``conflicts``: every second write meets an edit of somebody else that the watch has not delivered yet. ``lost``:
        of every third write the answer is lost. ``away``: for some seconds of each minute no status can be written.
    """

    name: str
    end: Phase | None
    attempt: int = 1
    spec: Mapping[str, Any] = field(default_factory=dict)
    happenings: tuple[Happening, ...] = ()
    trouble: Literal["", "conflicts", "lost", "away"] = ""


# ------------------------------------------------------------------------------------------------------------ the world


class _Objects(FakeCluster):
    """Routing objects in memory. What is written to the VirtualService comes to the gateway."""

    def __init__(self, world: KillableWorld) -> None:
        super().__init__()
        self._world = world

    def now(self) -> float:
        return self._world.now

    def store(self, body: Json, manager: str = "cutover") -> Json:
        stored = super().store(body, manager)
        if stored["kind"] == "VirtualService":
            self._world.route_written(stored, "" if manager == "cutover" else manager)
        self._world.wrote()
        return stored

    async def replace(self, resource: Resource, body: Json) -> Json:
        trouble = self._world.trouble()
        if trouble == "conflicts":
            key = self._key(body)
            touched = self.objects[key]["metadata"]
            labels = {**touched["labels"], "seen-by": "a-scanner"}
            self.objects[key] = super().store({**self.objects[key], "metadata": {**touched, "labels": labels}})
            self._world.deliver("route", self.objects[key])
        stored = await super().replace(resource, body)
        if trouble == "lost":
            raise Unavailable("timed out")
        return stored

    def of(self, world: KillableWorld) -> _Objects:
        """Return the same objects in another world."""
        twin = _Objects(world)
        twin.objects, twin._version = dict(self.objects), self._version
        return twin


@dataclass
class KillableWorld(World):
    """:class:`~tests.kit.world.World` behind the operator's ports, with a plan that has versions and a watch that lags."""

    scenario: Scenario = field(default_factory=lambda: Scenario("", Phase.COMPLETED))
    version: int = 1
    #: Counts writes of all kinds; two points with as many at the same time leave the same world.
    written: int = 0
    since_when: dict[int, float] = field(default_factory=dict)
    happened: list[int] = field(default_factory=list)
    #: Versions of the route at the API server in the order in which they were written.
    revisions: list[str] = field(default_factory=list)
    told_of: list[str] = field(default_factory=list)
    #: What did not hold, in words.
    broken: list[str] = field(default_factory=list)
    #: When the route first said that it was rolled back.
    back_at: float = 0.0
    settled_at: float = 0.0
    writes_tried: int = 0
    gone: bool = False
    #: Seconds by which the clock of the operator's machine was set forward; for which the process did not run, which its
    #: event loop does not count; and for which the whole machine did not, without any clock of its knowing.
    set_by: float = 0.0
    stopped: float = 0.0
    uncounted: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.objects = _Objects(self)
        self.listeners: list[Callable[[str, Json], None]] = []

    def copy(self) -> KillableWorld:
        twin = super().copy()
        assert isinstance(twin, KillableWorld)
        twin.objects, twin.listeners = self.objects.of(twin), []
        return twin

    # ----------------------------------------------------------------------------------------------------- time, people

    def pass_time(self, seconds: float) -> None:
        """Let users send requests, and happen what has to."""
        while seconds > 1.0:
            self.pass_time(1.0)
            seconds -= 1.0
        super().pass_time(seconds)
        for number, one in enumerate(self.scenario.happenings):
            if number in self.happened or any(before not in self.happened for before in range(number)):
                continue
            if not one.when(self):
                self.since_when.pop(number, None)
            elif self.now - self.since_when.setdefault(number, self.now) >= one.after:
                self.happened.append(number)
                one.do(self)
                break
        end, attempt = self.scenario.end, self.scenario.attempt
        at_end = self.gone if end is None else (self.stored.phase, self.stored.attempt) == (end, attempt)
        if not at_end or len(self.happened) < len(self.scenario.happenings):
            self.settled_at = 0.0
        elif not self.settled_at:
            self.settled_at = self.now

    @property
    def settled(self) -> bool:
        return bool(self.settled_at) and self.now - self.settled_at >= REST

    @property
    def between(self) -> str:
        """Name the phase, and the route where it is another one than the status asks for."""
        phase, there = str(self.stored.phase), self.route.revision if self.route is not None else ""
        return phase if there in ("", desired_revision(self.stored)) else f"{phase}, route {there}"

    def annotate(self, **annotations: str) -> None:
        """Annotate the plan, as a person does; an empty text takes the annotation away."""
        new = self.annotations | {f"cutover.dev/{name}": text for name, text in annotations.items()}
        self.annotations = {name: text for name, text in new.items() if text}
        self.plan_changed()

    def edit(self, **fields: Any) -> None:
        super().edit(**fields)
        self.plan_changed()

    def replace_template(self, name: str, template: Template) -> None:
        self.templates = {**self.templates, name: template}
        self.deliver("template", {})

    def edit_route(self, weight: int) -> None:
        """Let somebody change the weights by hand."""
        (key,) = (key for key in self.objects.objects if key[0] == "VirtualService")
        body = self.objects.objects[key]
        heroku, eks = (dict(leg) for leg in body["spec"]["http"][-1]["route"])
        heroku["weight"], eks["weight"] = 100 - weight, weight
        *probes, split = body["spec"]["http"]
        spec = {**body["spec"], "http": [*probes, {**split, "route": [heroku, eks]}]}
        stored = self.objects.store({**body, "spec": spec}, manager="kubectl-edit")
        self.deliver("route", stored)

    def delete(self) -> None:
        """Let somebody delete the plan, which waits for the operator's finalizer."""
        self.deleting = True
        self.generation += 1
        self.plan_changed()

    def trouble(self) -> str:
        """Return what the next write meets."""
        self.writes_tried += 1
        often = {"conflicts": 2, "lost": 3}.get(self.scenario.trouble)
        return self.scenario.trouble if often and self.writes_tried % often == 0 else ""

    def plan_changed(self) -> None:
        self.version += 1
        self.wrote()
        self.deliver("plan", self.body)

    def deliver(self, what: str, body: Json) -> None:
        """Let the watch tell whoever lives."""
        for listener in self.listeners:
            listener(what, body)

    @property
    def body(self) -> Json:
        """The plan as the API server has it."""
        metadata = {
            "namespace": "shop",
            "name": "pdf",
            "uid": "1",
            "generation": self.generation,
            "resourceVersion": str(self.version),
            "annotations": self.annotations,
        }
        return {
            "metadata": metadata | ({"deletionTimestamp": "2027-01-11T10:00:00Z"} if self.deleting else {}),
            "spec": self.spec.to_wire(),
            "status": self.stored.to_wire(),
        }

    # ------------------------------------------------------------------------------------------------- the machine's clocks

    @property
    def wall(self) -> float:
        """What the operator's machine takes for the time."""
        return self.now + self.set_by

    @property
    def steady(self) -> float:
        """Seconds of its clock that nobody can set."""
        return self.now - self.uncounted

    def set_clock(self, seconds: float) -> None:
        """Set the machine's clock forward, or back."""
        self.set_by += seconds

    def stop(self, seconds: float) -> None:
        """Suspend the machine; all others go on."""
        self.stopped += seconds
        self.pass_time(seconds)

    def pause(self, seconds: float, *, told: bool) -> None:
        """Let a hypervisor keep the machine from running without its knowledge; it may be ``told`` the time afterwards."""
        self.uncounted += seconds
        self.set_by -= 0.0 if told else seconds
        self.stop(seconds)

    def black_out(self, seconds: float) -> None:
        """Suspend everything: users, gateways, Prometheus and the operator."""
        rate, self.rate, self.scrapes_lost = self.rate, 0.0, True
        self.stop(seconds)
        self.rate, self.scrapes_lost = rate, False

    # ------------------------------------------------------------------------------------------------- what is written

    def wrote(self) -> None:
        self.written += 1

    def expect(self, holds: object, text: str) -> None:
        """Note what does not hold. An exception would only be logged by the loop as a fault of its own."""
        if not holds:
            self.broken.append(f"{self.now - START:.1f} s, {self.stored.phase} at {self.stored.weight} %: {text}")

    def route_written(self, body: Json, foreign: str) -> None:
        before, plan = self.route, self.plan()
        # In a trial there are the probes' routes alone.
        stamped = stamped_revision(body) or body["spec"]["http"][0]["headers"]["response"]["set"][HEADER]
        route = Route(split_weight(body, plan), stamped, (foreign,) if foreign else ())
        self.set_route(route)
        if foreign:
            return
        if not self.revisions or self.revisions[-1] != route.revision:
            self.revisions.append(route.revision)
        if route.revision.endswith("rollback"):
            self.back_at = self.back_at or self.now
        went_back = before is not None and before.revision == rollback_revision(self.stored.attempt)
        self.expect(
            not went_back or not route.weight or self.stored.phase is Phase.SHIFTING,
            f"the route rises to {route.weight} % after a rollback",
        )
        was = (before.weight or 0) if before is not None and not before.foreign else 0
        if (route.weight or 0) > was:
            self.expect(self.stored.weight == route.weight, f"{route.weight} % were written before the intent")
            moved = [e.to_weight for e in self.stored.ledger if e.decision in ("Advance", "Forward")]
            self.expect(moved[-1:] == [route.weight], f"{route.weight} % without an advance in the ledger")

    def status_written(self, status: MigrationPlanStatus) -> None:
        before, self.stored = self.stored, status
        self.working = status
        self.writes.append((self.now, status))
        if status.phase is Phase.ROLLING_BACK and before.phase is not Phase.ROLLING_BACK:
            there = self.route.revision if self.route is not None else ""
            self.expect(there == rollback_revision(status.attempt), "the status went back before the route did")
        if (status.weight or 0) > (before.weight or 0):
            entry = status.ledger[-1]
            self.expect(
                entry.decision in ("Advance", "Forward")
                and (entry.from_weight, entry.to_weight) == (before.weight or 0, status.weight),
                f"from {before.weight} to {status.weight} % by {entry.decision}",
            )
            if entry.decision == "Advance":
                self._compare_hold(before)
        self._compare_counts()

    def _compare_hold(self, before: MigrationPlanStatus) -> None:
        """Compare the hold of the step that ends with the time for which its requests were seen."""
        step, checkpoint = current_step(self.spec, before.weight or 0), before.checkpoint
        if step is None or not before.weight or checkpoint is None:
            return
        since = checkpoint.observed_at
        if since is None and self.stopped:
            # The first reconcile after a long sleep has all to read, and may see a weight and leave it.
            since = checkpoint.weight_since
        self.expect(since is not None, f"{before.weight} % were not seen")
        seen = sum(
            b.end - b.start for b in self.blocks if b.usable and b.start >= (since or 0.0) and b.end <= self.now
        )
        least = step.hold.total_seconds()
        self.expect(seen >= least, f"{before.weight} % were held for {seen:.0f} s that were seen, of {least:.0f} s")

    def _compare_counts(self) -> None:
        """Compare the evidence that is stored with what users did."""
        checkpoint = self.stored.checkpoint
        if checkpoint is None or checkpoint.observed_at is None or not self.stored.weight:
            return
        start = checkpoint.observed_at
        for text, blocks, evidence, until in (
            ("the mesh's", self.blocks, load_evidence(checkpoint), checkpoint.consumed_until),
            *(
                (f"{one.gate}'s", self.events_of.get(one.gate, []), load(one.evidence), one.consumed_until)
                for one in checkpoint.custom_slos
            ),
        ):
            wanted = [b for b in blocks if b.usable and b.start >= start and b.end <= until]
            for leg, (counted, truth) in {
                "Heroku": (evidence.total[0].requests, sum(b.heroku.requests for b in wanted)),
                "EKS": (evidence.total[1].requests, sum(b.eks.requests for b in wanted)),
            }.items():
                close = abs(counted - truth) <= 1e-3 + 1e-6 * truth
                self.expect(close, f"{text} evidence has {counted:.1f} requests of {leg}, true are {truth:.1f}")


# ------------------------------------------------------------------------------------------------------------ the ports


@dataclass
class _Api:
    """The API server's plan, its target, and the gateway."""

    world: KillableWorld

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        return Plan.from_object(self.world.body), str(self.world.version)

    async def write_status(self, plan: Plan, status: MigrationPlanStatus, resource_version: str) -> str:
        world = self.world
        trouble = world.trouble()
        if world.scenario.trouble == "away" and (world.now - START) % 60 < AWAY:
            raise Unavailable("HTTP 503")
        if trouble == "conflicts":
            world.annotate(seen=str(world.writes_tried))
        if resource_version != str(world.version):
            raise Conflict("the plan was modified")
        wire = status.to_wire()
        world.expect(len(json.dumps(wire)) < 32 * 1024, "the status is too long")
        world.status_written(MigrationPlanStatus.model_validate(wire))
        world.plan_changed()
        if trouble == "lost":
            raise Unavailable("timed out")
        return str(world.version)

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        self.world.told_of.append(str(reason))
        self.world.wrote()

    async def inventory(self, plan: Plan, reads: Any = None, *, fresh: bool = False) -> Inventory:
        return READY.inventory(plan)

    async def probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        live, well = self.world.live, (self.world.heroku if leg is Leg.HEROKU else self.world.eks).well
        return Probe(self.world.wall, live.revision if live else "", healthy=live is not None and well, detail="HTTP")

    async def replay(self, plan: Plan, target: BlockSubscription) -> BacktestStatus:
        return BacktestStatus(runs=200, false_rollbacks=0, stuck=0)


@dataclass
class _Clock:
    world: KillableWorld

    def now(self) -> float:
        return self.world.wall


@dataclass
class _PrometheusTime:
    """What the operator takes for Prometheus' time: a steady clock, compared with that of Prometheus now and then."""

    world: KillableWorld

    def __post_init__(self) -> None:
        self.compare()

    def compare(self) -> None:
        world = self.world
        self.ahead, self.compared = world.now - world.steady, world.steady
        self.wall_ahead, self.noticed = world.wall - world.steady, math.inf

    def now(self) -> float:
        steady = self.world.steady
        if self.world.wall - steady != self.wall_ahead:
            self.noticed = min(self.noticed, steady)
        if steady - self.noticed >= LOOKS or steady - self.compared >= COMPARES:
            self.compare()
        return steady + self.ahead

    def read(self) -> float:
        """Return the time before something is read: nothing is while the machine's clock was just set."""
        if self.world.wall - self.world.steady != self.wall_ahead:
            self.compare()
        return self.now()


@dataclass
class _BlockFeed:
    """Delivers each block once, unless it is asked to go back."""

    world: KillableWorld
    time: _PrometheusTime
    target: BlockSubscription | None = None
    taken: float = 0.0

    def now(self, source: str) -> float:
        return self.time.now()

    def watch(self, key: str, target: BlockSubscription) -> None:
        self.target, self.taken = target, target.since

    def forget(self, key: str) -> None:
        self.target = None

    def take(self, key: str) -> Samples:
        news = _known(self.time.read(), self.world.blocks, self.taken) if self.target is not None else ()
        self.taken = news[-1].end if news else self.taken
        return Samples(news)

    async def histogram(self, target: BlockSubscription) -> Histogram:
        assert self.world.histogram is not None
        return self.world.histogram


@dataclass
class _OwnMetrics:
    """The same for the team's custom SLOs."""

    world: KillableWorld
    time: _PrometheusTime
    target: SloSubscription | None = None
    taken: dict[str, float] = field(default_factory=dict)
    started: float = 0.0

    def watch(self, key: str, target: SloSubscription) -> None:
        self.started = self.started or self.time.now()
        self.target, self.taken = target, dict(target.since)

    def forget(self, key: str) -> None:
        self.target = None

    def take(self, key: str) -> Mapping[str, SloReading]:
        return {own.name: self._read(own.name, own.slo) for own in self.target.gates} if self.target else {}

    def _read(self, name: str, slo: object) -> SloReading:
        world, now = self.world, self.time.read()
        if isinstance(slo, BoundSlo):
            oldest = now - max(slo.for_.total_seconds(), 60.0)
            points = tuple(p for p in world.points.get(name, ()) if oldest <= p[0] <= now - SCRAPE_LAG)
            missing = None if points else QueryProblem(Verdict.NO_DATA, "no series", self.started)
            return SloReading(now, points=points, problem=missing)
        news = _known(now, world.events_of.get(name, []), self.taken[name])
        self.taken[name] = news[-1].end if news else self.taken[name]
        return SloReading(now, news)


def _known(now: float, blocks: list[Block], after: float) -> tuple[Block, ...]:
    return tuple(block for block in blocks if block.end > after and block.end + SCRAPE_LAG <= now)


# ------------------------------------------------------------------------------------------------------ points and runs


@dataclass(frozen=True, order=True)
class Kind:
    """What a point is a point of.

    Parameters
    ----------
    state
        The phase; and the route's revision where that is not what the status asks for, between two writes.
    """

    state: str
    call: str
    when: str

    @property
    def torn(self) -> bool:
        """Whether the route is another one than the status asks for."""
        return ", route" in self.state


@dataclass
class Point:
    """Where the process was killed: all calls between two effects at one moment.

    Parameters
    ----------
    number
        Of the first call.
    world
        What is left.
    kinds
        Of all calls that leave the same.
    calls
        How many points these are.
    """

    number: int
    world: KillableWorld
    kinds: set[Kind] = field(default_factory=set)
    calls: int = 0

    def __str__(self) -> str:
        where = ", ".join(sorted(f"{kind.when} {kind.call}" for kind in self.kinds))
        return f"point {self.number} ({self.world.now - START:.2f} s, {self.world.stored.phase}: {where})"


#: The number of a call, and what is done to the world at it.
Disturbance = tuple[int, Callable[[KillableWorld], object]]


class Killed(BaseException):
    """The process is dead: it makes no calls any more, whatever its handlers try."""


@dataclass(frozen=True)
class Branch:
    """A run that goes as others do until something is done to the world at one of its calls.

    Parameters
    ----------
    disturb
        The call's number, and what is done.
    most
        Seconds of the world's time after which it is given up.
    told
        Returns what is wanted of it, as values that can be pickled.
    """

    disturb: Disturbance
    most: float
    told: Callable[[Run], Any]


@dataclass
class _Forks:
    """Branches off a run: coroutines cannot be copied, but the process that runs them can be."""

    branches: Sequence[Branch]
    results: dict[int, Any] = field(default_factory=dict)
    #: The branch that this process is, and where it tells its result.
    branch: Branch | None = None
    pipe: int = -1

    def at(self, recorder: Recorder) -> None:
        """Run all branches of this call to their ends; in the process of one, change the world and go on."""
        for number, branch in enumerate(self.branches):
            if self.branch is None and branch.disturb[0] == recorder.calls:
                self._fork(number, branch, recorder)
        if self.branch is None and recorder.calls >= max(branch.disturb[0] for branch in self.branches):
            recorder.ended = True
            raise Killed

    def _fork(self, number: int, branch: Branch, recorder: Recorder) -> None:
        reads, writes = os.pipe()
        loop = asyncio.get_running_loop()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Threads of the test runner are not needed there.
            process = os.fork()
        if process == 0:
            os.close(reads)
            asyncio._set_running_loop(loop)  # asyncio takes it from whoever is forked
            self.branch, self.pipe = branch, writes
            recorder.most = branch.most
            branch.disturb[1](recorder.world)
            return
        os.close(writes)
        try:
            with os.fdopen(reads, "rb") as pipe:
                text = pipe.read()
        except BaseException:  # the time of the test is over, say, of which the branch knows nothing
            os.kill(process, signal.SIGKILL)
            raise
        finally:
            os.waitpid(process, 0)
        self.results[number] = pickle.loads(text) if text else _Failed("it has ended without a word")

    def end(self, result: object) -> None:
        """Tell the result of a branch, and end its process without any of what is to be done at the end of the tests."""
        try:
            try:
                text = pickle.dumps(result)
            except (pickle.PicklingError, AttributeError, TypeError):
                text = pickle.dumps(_Failed(traceback.format_exc()))
            with os.fdopen(self.pipe, "wb") as pipe:
                pipe.write(text)
        finally:
            os._exit(0)


@dataclass(frozen=True)
class _Failed:
    """A branch that raised an exception."""

    text: str


@dataclass
class Recorder:
    """Numbers the calls, and keeps the world at each of them.

    Parameters
    ----------
    keep
        Whether to keep it.
    kill_at
        Number of the call at which the process dies.
    disturb
        What is done to the world at a call, and its number; the process goes on.
    forks
        Runs that branch off.
    """

    world: KillableWorld
    keep: bool = False
    kill_at: int = 0
    disturb: Disturbance | None = None
    forks: _Forks | None = None
    #: Seconds after which the run is given up.
    most: float = math.inf
    calls: int = 0
    ended: bool = False
    points: dict[tuple[int, float], Point] = field(default_factory=dict)

    def at(self, call: str, when: str) -> None:
        if self.ended:
            raise Killed
        self.calls += 1
        if self.calls == self.kill_at:
            self.ended = True
            raise Killed
        if self.disturb is not None and self.calls == self.disturb[0]:
            self.disturb[1](self.world)
        if self.forks is not None and self.forks.branch is None:
            self.forks.at(self)
        if not self.keep:
            return
        key = (self.world.written, self.world.now)
        if key not in self.points:
            self.points[key] = Point(self.calls, self.world.copy())
        point = self.points[key]
        point.kinds.add(Kind(self.world.between, call, when))
        point.calls += 1


class _Watched:
    """Stands before whatever is called, notes each call and knows nothing of any."""

    def __init__(self, recorder: Recorder, name: str, inner: object) -> None:
        self._recorder, self._name, self._inner = recorder, name, inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if callable(found):  # wrapped once
            found = self.__dict__[name] = _watched(self._recorder, f"{self._name}.{name}", found)
        return found


def _watched(recorder: Recorder, name: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    """Note the calls of a function, or of a coroutine, during which others may run."""

    @functools.wraps(inner)
    def plain(*args: Any, **keywords: Any) -> Any:
        recorder.at(name, "before")
        result = inner(*args, **keywords)
        recorder.at(name, "after")
        return result

    async def waiting(*args: Any, **keywords: Any) -> Any:
        recorder.at(name, "before")
        await asyncio.sleep(0)
        try:
            result = await inner(*args, **keywords)
        finally:
            recorder.at(name, "after")
        await asyncio.sleep(0)
        return result

    return waiting if inspect.iscoroutinefunction(inner) else plain


def ports(world: KillableWorld, recorder: Recorder) -> tuple[Ports, IstioTraffic]:
    """Return the ports of a new process, each watched."""
    traffic = IstioTraffic(cast("Cluster", _Watched(recorder, "cluster", world.objects)))
    api, time = _Api(world), _PrometheusTime(world)
    known: dict[str, Any] = {
        "plans": api,
        "traffic": traffic,
        "inventories": api,
        "leg_probe": api,
        "answers": AlikeAnswers(),
        "turns": Turns(1e6),
        "urgent_turns": Turns(1e6),
        "block_feed": _BlockFeed(world, time),
        "slo_feed": _OwnMetrics(world, time),
        "clock": _Clock(world),
        "dialect": PlayedDialect(),
        "templates": lambda namespace: world.templates,
        "sources": lambda namespace: (),
        "backtest": api.replay,
        "slots": asyncio.Semaphore(8),
        "unhurried": asyncio.Semaphore(8),
        "notifier": HttpNotifier(()),
        "heroku": None,
        "heroku_record": None,
        "records": None,
        "reports": None,
        "resolver": None,
    }
    wired: dict[str, Any] = {}
    for one in dataclasses.fields(Ports):
        port = known[one.name]
        if port is None or isinstance(port, AlikeAnswers | asyncio.Semaphore | PlayedDialect | Turns):
            wired[one.name] = port  # of the process itself, without a consequence, or not there
        elif inspect.isroutine(port):
            wired[one.name] = _watched(recorder, one.name, port)
        else:
            wired[one.name] = _Watched(recorder, one.name, port)
    return Ports(**wired), traffic


class _VirtualTime(selectors.SelectSelector):
    """Waits by letting the world's time pass."""

    def __init__(self, world: KillableWorld) -> None:
        super().__init__()
        self._world, self._turns = world, 0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits for nothing"
        self._turns = 0 if timeout > 0 else self._turns + 1
        assert self._turns < STUCK, "the loop goes round at one moment"
        if timeout > 0:
            self._world.pass_time(timeout)
        return []


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, world: KillableWorld) -> None:
        super().__init__(_VirtualTime(world))
        self._world = world
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._world.now - self._world.stopped - START


def _checked(
    world: KillableWorld, decide: Callable[..., Decision], plan: Plan, seen: Observation, now: float
) -> Decision:
    """Decide, and hold what leads to anything against the rules that do not bend."""
    decision = decide(plan, seen, now)
    if decision.actions or decision.status.reason != plan.status.reason:
        world.working, world.ahead = plan.status, now - world.now
        try:
            check(world, plan, seen, decision)
        except AssertionError as error:
            world.expect(False, f"decided: {error}")
    return decision


@dataclass
class Run:
    """What became of a world."""

    world: KillableWorld
    points: list[Point]
    calls: int
    faults: tuple[str, ...] = ()


def run(
    world: KillableWorld,
    *,
    most: float,
    keep: bool = False,
    kill_at: int = 0,
    disturb: Disturbance | None = None,
    forks: _Forks | None = None,
) -> Run:
    """Let a new process look after the plan until it is at its end.

    Parameters
    ----------
    most
        Seconds of the world's time after which it is given up.
    keep
        Whether to keep the world at every point.
    kill_at
        Number of the call at which it dies; :class:`Killed` is raised then.
    disturb
        What is done to the world at a call, and its number.
    forks
        What :func:`branched` needs.
    """
    recorder = Recorder(world, keep, kill_at, disturb, forks, most)
    began = world.now

    async def lives() -> None:
        wired, traffic = ports(world, recorder)
        watch = [world.body]
        loop = PlanLoop(wired, lambda: watch[0])

        def told(what: str, body: Json) -> None:
            asyncio.get_running_loop().call_later(WATCH_LAG, hears, what, body)

        def hears(what: str, body: Json) -> None:
            if what == "plan":
                watch[0] = body
                loop.notice(body)
            elif what == "template" or traffic.cache.observe_event("MODIFIED", body):
                loop.wake()

        world.listeners.append(told)
        running = asyncio.create_task(_looks_after(world, loop, recorder))
        while not (world.settled or recorder.ended) and world.now - began < recorder.most:  # noqa: ASYNC110 - time is what it waits for
            await asyncio.sleep(1.0)
        world.expect(
            recorder.ended or world.settled,
            f"no end within {recorder.most:.0f} s: {world.stored.reason}: {world.stored.message}",
        )
        killed, recorder.ended = recorder.ended, True
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if killed:
            raise Killed

    virtual = _VirtualLoop(world)
    with structlog.testing.capture_logs() as lines, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciler, "decide", functools.partial(_checked, world, decide))
        try:
            virtual.run_until_complete(lives())
        finally:
            virtual.close()
    world.listeners.clear()
    faults = tuple(f"{line['event']}: {line}" for line in lines if line["log_level"] == "error")
    return Run(world, list(recorder.points.values()), recorder.calls, faults)


def branched(world: KillableWorld, branches: Sequence[Branch]) -> list[Any]:
    """Let a new process look after the plan in several ways, and compute once what they have in common.

    Returns what each branch told, in their order.
    """
    forks = _Forks(branches)
    result: object = None
    try:
        other = run(world, most=max(branch.most for branch in branches), forks=forks)
        result = forks.branch.told(other) if forks.branch is not None else None
    except Killed:
        result = _Failed("it was killed")
    except BaseException:
        if forks.branch is None:
            raise
        result = _Failed(traceback.format_exc())
    if forks.branch is not None:
        forks.end(result)
    failed = [one.text for one in forks.results.values() if isinstance(one, _Failed)]
    assert not failed, "\n".join(failed)
    return [forks.results[number] for number in range(len(branches))]


async def _looks_after(world: KillableWorld, loop: PlanLoop, recorder: Recorder) -> None:
    """Do with a loop what the handlers do."""
    await loop.run(lambda: world.deleting)
    world.expect(world.deleting, "the loop has ended")
    while world.deleting and not world.gone:
        try:
            await loop.finalize(world.body)
        except (Conflict, Unavailable):
            await asyncio.sleep(DELETION_RETRY_SECONDS)
        else:
            recorder.at("finalizer", "before")
            world.gone = True
            world.wrote()
            recorder.at("finalizer", "after")
            loop.end()


def killed(point: Point, *, most: float, keep: bool = False, away: float = RESTART) -> Run:
    """Let a new process go on from what a killed one left."""
    world = point.world.copy()
    world.pass_time(away)
    return run(world, most=most, keep=keep)


# ---------------------------------------------------------------------------------------------------------- comparing


@dataclass(frozen=True)
class Comparison:
    """How a killed run differs from the undisturbed one.

    Parameters
    ----------
    differences
        What must not be.
    resumed
        Whether the ledger has ``Resumed`` for the cause of the rollback: all that is left of it is the route.
    delay
        Seconds by which the end, and by which the rollback came later.
    untold, twice
        Events that nobody was told, or more than once.
    """

    differences: tuple[str, ...]
    resumed: bool
    delay: float
    back_delay: float
    untold: int
    twice: int


def _culprit(entry: LedgerEntry) -> str:
    """Return the gate that led back, ``""`` where none did."""
    return entry.subject or "" if entry.decision == "RollBack" else ""


def cover(points: list[Point], known: Set[Kind] = frozenset()) -> list[Point]:
    """Choose few points so that there is one of every kind that is not known, and of every kind between two writes."""
    missing = {kind for point in points for kind in point.kinds if kind not in known or kind.torn}
    chosen = []
    while missing:
        best = max(points, key=lambda point: len(point.kinds & missing))
        chosen.append(best)
        missing -= best.kinds
    return chosen


def compare(truth: Run, other: Run) -> Comparison:
    """Compare a killed run with the undisturbed one."""
    a, b = truth.world, other.world
    found = [*b.broken, *other.faults]
    ledgers = [
        [(e.attempt, e.decision, e.from_weight, e.to_weight, e.reason, _culprit(e)) for e in w.stored.ledger]
        for w in (a, b)
    ]
    resumed = any(entry[4] == "Resumed" for entry in ledgers[1])
    if resumed and len(ledgers[0]) == len(ledgers[1]):
        ledgers = [
            [e if e[1] not in ("RollBack", "RolledBack") else (*e[:4], "", "") for e in entries] for entries in ledgers
        ]
    reasons = [w.stored.reason for w in (a, b)]
    if (resumed and reasons[1] == "Resumed") or a.gone:
        reasons[1] = reasons[0]
    for what, was, now in (
        ("phase", a.stored.phase, b.stored.phase),
        ("weight", a.stored.weight, b.stored.weight),
        ("attempt", a.stored.attempt, b.stored.attempt),
        ("reason", *reasons),
        ("route", a.route, b.route),
        ("gateway", a.live, b.live),
        ("weights", a.weights, b.weights),
        ("revisions", a.revisions, b.revisions),
        ("ledger", *ledgers),
        ("templates", a.stored.templates, b.stored.templates),
    ):
        if was != now:
            found.append(f"{what}: {now}, undisturbed {was}")
    told, heard = Counter(a.told_of), Counter(b.told_of)
    return Comparison(
        tuple(found),
        resumed,
        b.settled_at - a.settled_at if b.settled_at else 0.0,
        b.back_at - a.back_at if b.back_at else 0.0,
        sum((told - heard).values()),
        sum((heard - told).values()),
    )
