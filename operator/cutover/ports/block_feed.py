"""Blocks of all plans, and the dialect that says where their requests are counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from cutover.domain.baseline.histogram import Histogram
from cutover.domain.evidence.answers import ALL_CODES, Codes
from cutover.domain.evidence.counters import CounterLabels
from cutover.domain.evidence.lengths import UNSEEN_SECONDS, in_force
from cutover.domain.evidence.tolerances import codes
from cutover.domain.observation import Samples
from cutover.domain.plan import Plan


@dataclass(frozen=True, slots=True)
class BlockSubscription:
    """Which blocks a plan wants, and where its requests are counted.

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
    scrape_seconds
        Seconds between two scrapes of the gateways that the length is for.
    since
        Unix seconds: only blocks that start then or later are wanted. It follows the end of the last consumed block.
    source
        Name of the Prometheus server that has the counters, ``""`` for the default.
    codes
        Which codes count as refused or redirected.
    """

    heroku: str
    eks: str
    observers: tuple[str, ...]
    slow_ms: float | None
    very_slow_ms: float | None
    block_seconds: int
    since: float
    source: str = ""
    codes: Codes = ALL_CODES
    scrape_seconds: float = UNSEEN_SECONDS

    @classmethod
    def of_plan(cls, plan: Plan, *, heroku: str, eks: str, observers: tuple[str, ...]) -> Self:
        """Return a plan's subscription, without thresholds, and with ``since`` 0."""
        length = in_force(plan.spec, plan.status)
        return cls(
            heroku=heroku,
            eks=eks,
            observers=observers,
            slow_ms=None,
            very_slow_ms=None,
            block_seconds=length.seconds,
            since=0.0,
            source=plan.spec.gates.prometheus or "",
            codes=codes(plan.spec),
            scrape_seconds=length.scrape_seconds,
        )


class Dialect(Protocol):
    """How requests are counted where a traffic provider sees them: what to ask Prometheus for, and how to read it.

    What all dialects share is in :mod:`cutover.domain.evidence.counting`: resets, scrapes, cutting blocks.
    """

    @property
    def labels(self) -> type[CounterLabels]:
        """The labels that the dialect's counters are read with."""

    def subscription(self, plan: Plan) -> BlockSubscription:
        """Return where a plan's requests are counted; without thresholds, and with ``since`` 0."""

    def presence(self, observers: Iterable[str]) -> str:
        """Return the selector of the observers' ``up``."""

    def last_scrapes(self, observers: Iterable[str]) -> str:
        """Return the expression for the time of each observer's newest scrape, in Unix seconds."""

    def foreign_counters(self, observers: Iterable[str]) -> str:
        """Return the expression that counts counters which name the observers and are of other scrape targets."""

    def counters(self, subscriptions: Sequence[BlockSubscription], legs: Iterable[str]) -> Sequence[str]:
        """Return the selectors of all counters from which the legs' blocks are cut, in the order of their queries."""

    def losses(self, subscription: BlockSubscription) -> str | None:
        """Return the selector of counters that rise in a block which is not whole; ``None`` where nothing tells of losses."""

    def heroku_latencies(self, subscription: BlockSubscription) -> str:
        """Return the selector of all latency buckets of a Heroku leg."""

    def dashboard_queries(self, subscription: BlockSubscription) -> Mapping[str, str]:
        """Return PromQL for dashboards by name of the metric; the operator decides nothing by it."""


class BlockFeed(Protocol):
    """Blocks for all plans from one shared set of queries."""

    def now(self, source: str) -> float:
        """Return Unix seconds by a Prometheus server's clock, or by the operator's where that is not known.

        Times of blocks are of the server's clock: compare them with this time only. It jumps when the skew is measured
        again.
        """

    def watch(self, key: str, subscription: BlockSubscription) -> None:
        """Deliver the blocks of a plan from ``subscription.since`` on; called at every reconcile, cheap if unchanged."""

    def forget(self, key: str) -> None:
        """Stop delivering a plan's blocks."""

    def take(self, key: str) -> Samples:
        """Return, and drop, the blocks that became known since the last call, in order and each once."""

    async def histogram(self, subscription: BlockSubscription) -> Histogram:
        """Return Heroku's latency histogram since ``subscription.since``. Raises Unavailable."""
