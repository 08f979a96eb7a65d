"""The operator as ``factory`` puts it together, in this process, against a fake API server over real HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.kit.alike import AlikeAnswers
from tests.kit.builders import NAMESPACE, plan_body
from tests.kit.fake_api import DEPLOYMENTS, GATEWAYS, PLANS, SERVICES, VIRTUAL_SERVICES, FakeApi, Json
from tests.kit.target import OPEN_SERVER

from cutover import factory
from cutover.adapters.clocks import SystemClock
from cutover.adapters.kube.client import Cluster
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.adapters.traffic.istio.live import split_weight
from cutover.adapters.traffic.istio.rendering import render
from cutover.api.v1alpha1 import BacktestStatus, MigrationPlanStatus
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.evidence.blocks import Block
from cutover.domain.observation import Samples
from cutover.domain.plan import Plan
from cutover.domain.revision import HEADER, desired_split
from cutover.domain.slo.custom import SloReading
from cutover.domain.traffic import Leg, Probe
from cutover.kopf_app.running import serve
from cutover.ports.block_feed import BlockSubscription
from cutover.ports.slo_feed import SloSubscription
from cutover.services.operator import Operator
from cutover.settings import Settings

FINALIZER = "cutover.dev/traffic"


@dataclass
class FakeBlockFeed:
    """Prometheus: knows of no request unless a test says so."""

    watched: dict[str, BlockSubscription] = field(default_factory=dict)
    blocks: dict[str, list[Block]] = field(default_factory=dict)

    def watch(self, key: str, subscription: BlockSubscription) -> None:
        self.watched[key] = subscription

    def forget(self, key: str) -> None:
        self.watched.pop(key, None)

    def take(self, key: str) -> Samples:
        return Samples(tuple(self.blocks.pop(key, ())))

    async def histogram(self, subscription: BlockSubscription) -> Histogram:
        return Histogram({})

    def now(self, source: str) -> float:
        return time.time()


@dataclass
class FakeSloFeed:
    """Custom SLOs: each bound has the value that a test gives it."""

    values: dict[str, float] = field(default_factory=dict)
    watched: dict[str, SloSubscription] = field(default_factory=dict)

    def watch(self, key: str, subscription: SloSubscription) -> None:
        self.watched[key] = subscription

    def forget(self, key: str) -> None:
        self.watched.pop(key, None)

    def take(self, key: str) -> dict[str, SloReading]:
        gates = self.watched[key].gates if key in self.watched else ()
        now = time.time()
        return {
            gate.name: SloReading(now, points=((now, self.values[gate.name]),) if gate.name in self.values else ())
            for gate in gates
        }


async def no_backtest(plan: Plan, subscription: BlockSubscription) -> BacktestStatus:
    raise AssertionError("no plan asks for it")


@dataclass
class FakeLegProbe:
    """The gateway: has the route that the API server has, and Heroku answers well."""

    api: FakeApi

    async def probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        route = self.api.raw(VIRTUAL_SERVICES, plan.namespace, f"cutover-{plan.name}")
        # The probes' routes come first; in a trial there are no others.
        revision = route["spec"]["http"][0]["headers"]["response"]["set"][HEADER] if route else ""
        return Probe(time.time(), revision, healthy=True, detail="HTTP 200", status=200)


@dataclass
class KopfRig:
    """What a test has at hand.

    Attributes
    ----------
    request_timeout
        Seconds for which the operator waits for an answer of the API server; a busy machine gives none for a while.
    operator
        The running operator, or the last that ran. It has a thread and a loop of its own, as Kopf takes every task of its
        loop for its own when it stops.
    leftovers
        What still ran when it had stopped.
    """

    api: FakeApi
    settings: Settings
    block_feed: FakeBlockFeed
    slo_feed: FakeSloFeed = field(default_factory=FakeSloFeed)
    request_timeout: float = 3.0
    operator: Operator | None = None
    leftovers: list[str] = field(default_factory=list)

    def plan(self, name: str = "pdf") -> Json | None:
        return self.api.raw(PLANS, NAMESPACE, name)

    def status(self, name: str = "pdf") -> Json:
        status: Json = (self.plan(name) or {}).get("status") or {}
        return status

    def weight(self, name: str = "pdf") -> int | None:
        """Return the percent of requests that the route sends to EKS."""
        route = self.api.raw(VIRTUAL_SERVICES, NAMESPACE, f"cutover-{name}")
        return None if route is None else split_weight(route, parsed(self.plan(name) or plan_body(name)))

    def reconciles(self, name: str = "pdf") -> int:
        return RECONCILES.get(f"{NAMESPACE}/{name}", 0)

    async def until(self, what: str, condition: Callable[[], Any], seconds: float = 60.0) -> None:
        """Wait for something; a machine may be busy, and the wait ends as soon as it is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"not within {seconds:g} s: {what}; {self.status()}")

    async def until_phase(self, phase: str, name: str = "pdf", seconds: float = 60.0) -> None:
        await self.until(f"{name}: {phase}", lambda: self.status(name).get("phase") == phase, seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the operator, and stop it as a signal would."""
        started, errors = threading.Event(), list[BaseException]()
        stop: Callable[[], Any] = started.clear

        async def operate() -> None:
            nonlocal stop
            loop, flag = asyncio.get_running_loop(), asyncio.Event()
            stop = lambda: loop.call_soon_threadsafe(flag.set)  # noqa: E731
            cluster = await Cluster.connect(self.settings.kubeconfig, request_timeout=self.request_timeout)
            self.operator = factory.assemble(
                self.settings,
                cluster,
                FakeLegProbe(self.api),
                AlikeAnswers(),
                self.block_feed,
                self.slo_feed,
                SystemClock(),
                sources=lambda namespace: (),
                backtest=no_backtest,
                notifier=HttpNotifier(()),
            )
            started.set()
            try:
                await serve(self.settings, self.operator, flag)
            finally:
                self.leftovers = [str(task) for task in asyncio.all_tasks() - {asyncio.current_task()}]
                await cluster.close()

        def run() -> None:
            try:
                asyncio.run(operate())
            except BaseException as error:  # noqa: BLE001
                errors.append(error)
            finally:
                started.set()

        thread = threading.Thread(target=run)
        thread.start()
        await asyncio.to_thread(started.wait)
        try:
            yield
        finally:
            stop()
            await asyncio.to_thread(thread.join, 60)
            assert not thread.is_alive(), "the operator does not stop"
            assert errors == []


#: Reconciles by plan.
RECONCILES: dict[str, int] = {}


def shifting(weight: int = 25) -> Json:
    """Return the status of a plan that is being judged."""
    now = time.time()
    checkpoint = {"at": now, "weightSince": now - 60, "observedAt": now - 50, "consumedUntil": now}
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 60))
    moved = {"attempt": 1, "decision": "Advance", "fromWeight": 10, "reason": "EvidenceOfSafety"}
    return MigrationPlanStatus.model_validate(
        {"observedGeneration": 1, "phase": "Shifting", "attempt": 1, "weight": weight, "since": stamp}
        | {"step": "2/4", "checkpoint": checkpoint, "ledger": [{**moved, "at": stamp, "toWeight": weight}]}
    ).to_wire()


async def make_target(api: FakeApi, name: str) -> None:
    """Make what a team has in the cluster before it writes a plan."""

    def named(name: str, spec: Json, namespace: str = NAMESPACE) -> Json:
        return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}

    await api.write(SERVICES, named(name, {"ports": [{"port": 80}]}))
    deployment = named(name, {"replicas": 2})
    await api.write(DEPLOYMENTS, {**deployment, "status": {"availableReplicas": 2}})
    gateway = named("public", {"selector": {"istio": "ingress"}, "servers": [OPEN_SERVER]}, "istio-ingress")
    await api.write(GATEWAYS, gateway)


def route(name: str, weight: int) -> Json:
    """Return the VirtualService that the operator has written for a plan that is shifting."""
    plan = parsed(plan_body(name))
    status = plan.status.model_copy(update={"attempt": 1, "weight": weight})
    body = render(plan, desired_split(status))[-1]
    own = {"manager": "cutover", "operation": "Update", "fieldsV1": {"f:spec": {}}}
    return {**body, "metadata": {**body["metadata"], "managedFields": [own]}}


def parsed(body: Mapping[str, Any]) -> Plan:
    metadata = {"uid": "unknown", "resourceVersion": "1", **body["metadata"]}
    return Plan.from_object({**body, "metadata": metadata})


async def halfway(world: KopfRig, **spec: Any) -> None:
    """Make a plan that has half of its requests on EKS, with its route."""
    await world.api.write(PLANS, plan_body(status=shifting(50), **spec))
    await world.api.write(VIRTUAL_SERVICES, route("pdf", 50))


async def looked_after(world: KopfRig) -> None:
    """Wait until the operator has seen the plan, and holds its deletion back."""
    await world.until("a reconcile", lambda: world.reconciles() > 0)
    await world.until("the finalizer", lambda: FINALIZER in (world.plan() or {})["metadata"].get("finalizers", ()))


async def gone(world: KopfRig, seconds: float = 60.0) -> None:
    """Wait until the plan is away, and the operator has forgotten it."""
    await world.until("gone", lambda: world.plan() is None, seconds)
    assert world.operator is not None
    loops = world.operator.loops
    await world.until("no loop", lambda: not loops)
    # A loop that is told to end in the middle of a reconcile finishes it, and forgets the plan then.
    await world.until("nobody asks for its metrics", lambda: world.block_feed.watched == {})
