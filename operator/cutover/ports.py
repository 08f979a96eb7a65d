"""The outside world as the operator needs it. Adapters implement these; tests replace them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cutover.api.v1alpha1 import BacktestStatus, MigrationPlanStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.engine.actions import Finalize, SetWeight
from cutover.domain.evidence.counters import Counter, CounterLabels, L
from cutover.domain.evidence.scrapes import Result
from cutover.domain.observation import Samples
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.revision import Split
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.traffic import Capabilities, Probe, TrafficState


class Unavailable(Exception):
    """The other side could not be asked: an outage, a time-out, a missing permission. Its text is for people."""


class QueryRefused(Unavailable):
    """Prometheus was asked, and says that the query is wrong. Its text is for people and has the position."""


class PartialAnswer(Unavailable):
    """Prometheus answered, and warns that its answer is not complete. Its text is for people."""


class Understood:
    """Turns the errors of an answer of another shape into Unavailable.

    Parameters
    ----------
    product
        Whose metric it should be.
    """

    def __init__(self, product: str) -> None:
        self._product = product

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError):
            raise Unavailable(f"Prometheus' answer is not understood: is the metric {self._product}'s?") from error


class Conflict(Exception):
    """The object changed since it was read: read it again and decide anew."""


class Gone(Exception):
    """The object does not exist (any more)."""


class Plans(Protocol):
    """MigrationPlans in the API server."""

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        """Return the plan and its resourceVersion. Raises Gone, Unavailable."""

    async def write_status(self, plan: Plan, status: MigrationPlanStatus, resource_version: str) -> str:
        """Replace the status, fenced by the resourceVersion; return the new one. Raises Conflict, Gone, Unavailable."""

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        """Post an Event about the plan (``kind`` is Normal or Warning). Never raises: events are best effort."""


class Traffic(Protocol):
    """The provider that splits the host's requests between the legs."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    async def get(self, plan: Plan, wanted: Split | None, *, fresh: bool = False) -> TrafficState:
        """Compare the routing objects with what the plan asks for.

        Before the takeover nothing is asked for; the weight of the answer is then whatever does not go to Heroku. Served
        from the watch cache unless ``fresh``. Raises Unavailable.
        """

    async def prepare(self, plan: Plan) -> None:
        """Make what the route refers to, before the takeover; write only what differs. Raises Conflict, Unavailable."""

    async def set(self, plan: Plan, write: SetWeight) -> None:
        """Make the routing objects say what was decided; write only what differs. Raises Conflict, Unavailable.

        A route of another version than ``write.over`` is a conflict. Where ``write.supersedes`` names a raise, the route
        gets another version even if it says all of this already: that raise has to fail when it arrives. When the write
        expires, and what has to be confirmed before it, is not the provider's business.
        """

    async def finalize(self, plan: Plan, rest: Finalize) -> None:
        """Put traffic to rest as was decided, as the plan is deleted. Raises Conflict, Unavailable."""


class Inventories(Protocol):
    """The cluster's objects that preflight judges."""

    async def inventory(self, plan: Plan) -> Inventory:
        """Read what the plan's checks declare. Raises Unavailable."""


class LegProbe(Protocol):
    """Requests through the ingress gateway, as a user's would go."""

    async def probe(self, plan: Plan) -> Probe:
        """Ask the Heroku leg through the gateway. Never raises: a failure is an unhealthy probe."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """What the block feed must know of a plan to cut its blocks.

    Parameters
    ----------
    heroku, eks
        The name under which each leg's requests are counted.
    observers
        Namespaces of the processes whose counts are used, such as the ingress gateways.
    slow_ms, very_slow_ms
        Latency thresholds, histogram bounds in milliseconds; ``None`` while they are not known.
    block_seconds
        Length of a block.
    since
        Unix seconds: blocks that start then or later are wanted. The end of the last consumed block goes on after it.
    source
        Name of the Prometheus that has them, ``""`` for the default one.
    """

    heroku: str
    eks: str
    observers: tuple[str, ...]
    slow_ms: float | None
    very_slow_ms: float | None
    block_seconds: int
    since: float
    source: str = ""


class Dialect(Protocol):
    """How requests are counted where a traffic provider sees them: what to ask Prometheus for, and how to read it.

    What is the same for all is in :mod:`cutover.domain.evidence.counting`: resets, scrapes, cutting blocks.
    """

    @property
    def labels(self) -> type[CounterLabels]:
        """The labels that its counters are read with."""

    def subscription(self, plan: Plan) -> Subscription:
        """Say where a plan's requests are counted; without thresholds, and from the beginning."""

    def presence(self, observers: Iterable[str]) -> str:
        """Return the selector of the observers' ``up``."""

    def last_scrapes(self, observers: Iterable[str]) -> str:
        """Return the expression for the time of each observer's newest scrape, in Unix seconds."""

    def counters(self, subscriptions: Sequence[Subscription], legs: Iterable[str]) -> Sequence[str]:
        """Return the selectors of all counters from which the legs' blocks are cut, in the order of their queries."""

    def heroku_latencies(self, subscription: Subscription) -> str:
        """Return the selector of all latency buckets of a Heroku leg."""

    def dashboard_queries(self, subscription: Subscription) -> Mapping[str, str]:
        """Return PromQL by which people can look at a plan's metrics, by name of the metric. Nothing is decided by it."""


class Prometheus(Protocol):
    """One Prometheus, or what speaks its API."""

    @property
    def skew(self) -> float:
        """Seconds by which its clock is ahead of the operator's, as far as that is known."""

    async def compare_clocks(self) -> None:
        """Measure the skew. Raises Unavailable."""

    async def query(self, promql: str, at: float) -> Result:
        """Evaluate an expression at a time in Unix seconds. Raises QueryRefused, Unavailable."""

    async def counters(self, selector: str, at: float, labels: type[L]) -> Sequence[Counter[L]]:
        """Return the counters of a range selector, at a fraction of what :meth:`query` costs. Raises Unavailable."""

    async def query_range(self, promql: str, start: float, end: float, step: float) -> Result:
        """Evaluate an expression from ``start`` to ``end`` every ``step`` seconds. Raises QueryRefused, Unavailable."""


@dataclass(frozen=True, slots=True)
class SloTarget:
    """What must be asked for one plan's own gates.

    Parameters
    ----------
    source
        Name of the Prometheus, ``""`` for the default one.
    gates
        Rendered and checked gates.
    block_seconds
        Length of a block, which is also how often everything is asked.
    since
        Unix seconds by name of a ratio gate: end of the last block that was consumed.
    judged_from
        Unix seconds: a bound's values from before are of no use (another weight); ``None`` while only the newest is.
    baselines
        Names of bounds whose value before the migration is wanted.
    """

    source: str
    gates: tuple[CustomSlo, ...]
    block_seconds: int
    since: Mapping[str, float]
    judged_from: float | None
    baselines: frozenset[str] = frozenset()


class SloFeed(Protocol):
    """Answers to the plans' own queries. A slow one delays its own plan only."""

    def watch(self, key: str, target: SloTarget) -> None:
        """Ask for a plan's own gates from now on; called at every pass, cheap if unchanged."""

    def forget(self, key: str) -> None:
        """Stop."""

    def take(self, key: str) -> Mapping[str, SloReading]:
        """Return what is known, by gate: blocks since the last call, none twice; the newest points and problems."""


class BlockFeed(Protocol):
    """Blocks for all plans from one shared set of queries."""

    def now(self, source: str) -> float:
        """Return Unix seconds by a Prometheus' own clock, in which its blocks are; the operator's where none is known.

        What is compared with the times of blocks has to be of this clock. It jumps when a skew is measured anew.
        """

    def watch(self, key: str, subscription: Subscription) -> None:
        """Deliver the blocks of a plan from ``subscription.since`` on; called at every pass, cheap if unchanged."""

    def forget(self, key: str) -> None:
        """Stop."""

    def take(self, key: str) -> Samples:
        """Return, and drop, what became known since the last call: blocks in order, none twice."""

    async def histogram(self, subscription: Subscription) -> Histogram:
        """Return Heroku's latency histogram since ``subscription.since``. Raises Unavailable."""


class Notifier(Protocol):
    """Tells people of what is in the plans' ledgers, beside their loops. Nothing here waits or raises."""

    def tell(self, plan: Plan, told: Mapping[str, str]) -> None:
        """Take in what the ledger has that was not told yet; called for every status that is stored, cheap if unchanged.

        ``told`` is what the stored status remembers of :meth:`told`.
        """

    def told(self, uid: str) -> Mapping[str, str]:
        """Return, by receiver, up to which entry a plan was told; to be remembered with the next write of its status."""

    def overdue(self, uid: str, told: Mapping[str, str]) -> float | None:
        """Return the seconds until that is worth a write of its own, ``None`` where the status remembers all of it."""

    def forget(self, uid: str) -> None:
        """Let go of a plan that does not exist any more; what waits is still told."""


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Return Unix seconds."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world of all plans.

    Parameters
    ----------
    dialect
        Says where a plan's requests are counted.
    templates
        Returns the templates of gates that plans of a namespace may refer to, by ``Kind/name``; a text is why one
        cannot be read.
    sources
        Returns the names of the Prometheus servers that plans of a namespace may choose.
    backtest
        Replays a plan's gates on Heroku's traffic. Never raises: a failure is a result that says so.
    slots
        Bounds how many reconciles look at the world at a time.
    """

    plans: Plans
    traffic: Traffic
    inventories: Inventories
    leg_probe: LegProbe
    block_feed: BlockFeed
    slo_feed: SloFeed
    clock: Clock
    dialect: Dialect
    templates: Callable[[str], Mapping[str, Template | str]]
    sources: Callable[[str], tuple[str, ...]]
    backtest: Callable[[Plan, Subscription], Coroutine[Any, Any, BacktestStatus]]
    slots: asyncio.Semaphore
    notifier: Notifier

    def now(self, plan: Plan) -> float:
        """Return the time by which a plan is judged: that of its Prometheus, whose blocks are compared with it."""
        return self.block_feed.now(plan.spec.gates.prometheus or "") if plan.has_spec else self.clock.now()
