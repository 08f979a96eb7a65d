"""Answers to the queries of custom SLOs: blocks of ratios, and values of bounds.

Teams write these queries, so that the cost of a query is unknown. The queries of a plan run one at a time, and those of few
plans at once. A plan whose queries hang delays only itself: its next queries wait in a lane for slow plans, and the blocks
that it misses are read later, at their own times (see :mod:`cutover.domain.slo.series`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from cutover.api.v1alpha1.gates import BoundSlo, RatioSlo
from cutover.domain.slo.custom import SloReading
from cutover.domain.slo.ratio import block_length
from cutover.domain.verdicts import Verdict
from cutover.ports.clock import Clock
from cutover.ports.errors import PartialAnswer, QueryRefused, Unavailable
from cutover.ports.prometheus import Prometheus
from cutover.ports.slo_feed import SloSubscription
from cutover.services.reading import MOST_WAITING, OLDEST_BLOCK
from cutover.services.slo_queries import REFUSED_SECONDS, SloQueries
from cutover.services.slo_state import PlanState, SloState, same_queries

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: What the longest time of one query, in seconds, shrinks to without an answer.
_SHORTEST_REPLAY = 60.0
#: Consecutive skipped rounds after which the plan's status says so.
SKIPS_UNTIL_TOLD = 3
#: Queries at a time of plans with slow queries: these plans wait for each other, and other plans do not wait for them. A
#: plan is slow if its last round took more than the fraction of a block, or from its first query on that takes longer than
#: `QUICK_SECONDS` in `slo_queries`.
_SLOW_TURNS = 2
_SLOW_PART = 1 / 3
#: Shortest and longest sleep between two checks of what is due; the longest because the clock may have been set.
_GRAIN, _LONGEST_SLEEP = 0.1, 60.0
_NOT_UNDERSTOOD = "Prometheus' answer is not understood: it is not that of a vector of numbers"


class PrometheusSloFeed:
    """Queries custom SLOs; implements :class:`cutover.ports.slo_feed.SloFeed`.

    Parameters
    ----------
    client
        Returns the Prometheus server of a name. Raises Unavailable where there is none.
    clock
        The operator's clock.
    on_news
        Called with a plan's key when a reading changed.
    settle
        Seconds from the end of a block until it is read: by then its scrapes are visible.
    concurrency
        SLOs of all plans that are queried at a time; at least 2.

    Attributes
    ----------
    rounds_skipped
        Rounds that were skipped because the plan's previous round was under way.
    """

    def __init__(
        self,
        client: Callable[[str], Prometheus],
        clock: Clock,
        *,
        on_news: Callable[[str], None],
        settle: float = 2.0,
        concurrency: int = 8,
    ) -> None:
        self.rounds_skipped = 0
        self._client = client
        self._clock = clock
        self._on_news = on_news
        self._settle = settle
        self._asking = SloQueries(client, clock, settle)
        slow = min(_SLOW_TURNS, concurrency // 2)
        self._turns, self._slow_turns = asyncio.Semaphore(concurrency - slow), asyncio.Semaphore(slow)
        self._plans: dict[str, PlanState] = {}
        self._changed = asyncio.Event()

    @property
    def queries(self) -> int:
        """Queries made."""
        return self._asking.queries

    @property
    def errors(self) -> int:
        """Queries that failed."""
        return self._asking.errors

    @property
    def rounds_late(self) -> int:
        """Rounds that began late, because no slot was free."""
        return self._asking.rounds_late

    @property
    def late_samples(self) -> int:
        """Samples that became visible after their block was read; their increments are in no block."""
        return self._asking.late_samples

    def watch(self, key: str, subscription: SloSubscription) -> None:
        """Query a plan's custom SLOs from now on.

        Call it at every reconcile, with the ends of the last consumed blocks: it is cheap where those are the last delivered
        blocks, and seeks otherwise. An SLO with changed queries starts over.
        """
        plan = self._plans.get(key)
        before = plan.subscription if plan is not None else None
        if plan is None or plan.subscription.source != subscription.source:
            self.forget(key)
            plan = self._plans[key] = PlanState(subscription)
        plan.subscription = subscription
        if before is None or before.gates != subscription.gates or before.source != subscription.source:
            known, plan.gates = plan.gates, {}
            for slo in subscription.gates:
                gate = known.get(slo.name)
                if gate is not None and same_queries(gate.custom, slo):
                    gate.custom = slo
                else:
                    gate = SloState(slo, self._settle)
                    # At once: after a restart, or because the author of a new query waits for its result.
                    plan.due, plan.urgent = self._clock.now(), True
                    self._changed.set()
                plan.gates[slo.name] = gate
        now = self._now(subscription.source)
        for gate in plan.gates.values():
            name = gate.custom.name
            since = subscription.since.get(name)
            if isinstance(gate.custom.slo, RatioSlo) and since is not None:
                length = block_length(subscription.block_seconds, gate.interval)
                position = math.ceil(max(since, now - OLDEST_BLOCK) / length) * length
                if before is not None and before.block_seconds != subscription.block_seconds:
                    gate.delivered = gate.fetched = None  # blocks of the other length fit no boundary
                    gate.blocks.clear()
                gate.seek(position, again=before is None or before.since.get(name) != since)
            if name not in subscription.baselines:
                gate.baseline = None

    def forget(self, key: str) -> None:
        """Stop querying for a plan."""
        plan = self._plans.pop(key, None)
        if plan is not None and plan.round is not None:
            plan.round.cancel()

    def take(self, key: str) -> Mapping[str, SloReading]:
        """Return readings by SLO: the blocks since the last call, each once; the newest values and problems."""
        plan = self._plans.get(key)
        if plan is None:
            return {}
        return {
            name: SloReading(gate.asked_at, gate.deliver(), gate.points, gate.baseline, gate.problem)
            for name, gate in plan.gates.items()
        }

    async def run(self) -> None:
        """Query for all plans. Never returns."""
        try:
            while True:
                self._changed.clear()
                self.start_rounds()
                now = self._clock.now()
                due = min((plan.due for plan in self._plans.values()), default=now + _LONGEST_SLEEP)
                try:
                    async with asyncio.timeout(min(max(due - now, _GRAIN), _LONGEST_SLEEP)):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        finally:
            for plan in self._plans.values():
                if plan.round is not None:
                    plan.round.cancel()

    def start_rounds(self) -> list[asyncio.Task[None]]:
        """Start the rounds that are due, and return them."""
        now = self._clock.now()
        started = []
        for key, plan in list(self._plans.items()):
            if now < plan.due <= now + 2 * plan.subscription.block_seconds:
                continue  # a later due time comes from a clock that was set back
            try:
                due, plan.due = plan.due, self._next_round(key, plan.subscription, now)
            except Exception:
                # A bug that one plan triggers must not stop the queries of all others.
                _logger.exception("the next queries of custom SLOs have no time")
                plan.due = now + _LONGEST_SLEEP
                continue
            if plan.round is not None and not plan.round.done():
                if not plan.urgent:
                    self._skip(key, plan)
                continue
            plan.began_for, plan.urgent = due, False
            plan.round = asyncio.create_task(self._round(key, plan), name=f"custom SLOs of {key}")
            started.append(plan.round)
        return started

    def _skip(self, key: str, plan: PlanState) -> None:
        self.rounds_skipped += 1
        plan.skipped += 1
        gate = plan.gates.get(plan.asking)
        if plan.skipped >= SKIPS_UNTIL_TOLD and gate is not None:
            gate.note(Verdict.NO_DATA, _too_slow(plan), self._now(plan.subscription.source))
            self._on_news(key)

    def _next_round(self, key: str, subscription: SloSubscription, now: float) -> float:
        """Return when a plan's next round is due: after the end of a block, and spread over the plans."""
        length = subscription.block_seconds
        phase = self._settle + length / 2 * (zlib.crc32(key.encode()) % 1024) / 1024 - self._skew(subscription.source)
        return (math.floor((now - phase) / length) + 1) * length + phase

    async def _round(self, key: str, plan: PlanState) -> None:
        """Query all SLOs of a plan that are due, one after the other."""
        began, plan.spent = self._clock.now(), 0.0
        news = more = False
        for gate in list(plan.gates.values()):
            now = self._now(plan.subscription.source)
            if plan.gates.get(gate.custom.name) is gate and self._due(plan, gate, now):
                plan.asking = gate.custom.name
                known = gate.asked_at, gate.problem
                more |= await self._ask_for(plan, gate, now)
                news |= known != (gate.asked_at, gate.problem)
        plan.asking = ""
        plan.slow = plan.spent > plan.subscription.block_seconds * _SLOW_PART
        if self._clock.now() - began <= plan.subscription.block_seconds:
            plan.skipped = 0
        if self._plans.get(key) is not plan:
            return
        if more or plan.urgent:
            plan.due = self._clock.now()
            self._changed.set()
        if news:
            self._on_news(key)

    async def _ask_for(self, plan: PlanState, gate: SloState, now: float) -> bool:
        """Query one SLO; return whether more of its blocks can be read at once."""
        asked = self._clock.now()
        more = False
        try:
            more = await self._in_turn(plan, lambda: self._asking.ask(plan, gate, now))
            if plan.skipped >= SKIPS_UNTIL_TOLD and self._clock.now() - asked > plan.subscription.block_seconds:
                gate.note(Verdict.NO_DATA, _too_slow(plan), now)
        except QueryRefused as refusal:
            gate.note(Verdict.QUERY_ERROR, str(refusal), now)
            gate.not_before = now + REFUSED_SECONDS
        except PartialAnswer as warning:
            gate.note(Verdict.QUERY_ERROR, str(warning), now)
        except Unavailable as outage:
            gate.note(Verdict.NO_DATA, str(outage), now)
            gate.span = max(gate.span / 2, _SHORTEST_REPLAY)
        except Exception:
            # Answers to arbitrary queries may surprise; they must not end the plan's rounds.
            _logger.exception("the answer for gate %s is not understood", gate.custom.name)
            gate.note(Verdict.NO_DATA, _NOT_UNDERSTOOD, now)
        return more

    async def _in_turn(self, plan: PlanState, ask: Callable[[], Awaitable[bool]]) -> bool:
        """Query one SLO with a slot. Without an answer in time it starts over in the lane for slow plans."""
        if not plan.slow:
            try:
                async with self._turns:
                    return await ask()
            except TimeoutError:
                plan.slow = True
        async with self._slow_turns:
            return await ask()

    def _due(self, plan: PlanState, gate: SloState, now: float) -> bool:
        if now < gate.not_before:
            return False
        if isinstance(gate.custom.slo, BoundSlo):
            return True  # its evaluation times decide what is new
        if gate.fetched is None or gate.delivered is None:
            return False
        length = block_length(plan.subscription.block_seconds, gate.interval)
        if (gate.fetched - gate.delivered) / length >= MOST_WAITING:
            return False
        return gate.fetched + length + gate.settle <= now

    def _skew(self, source: str) -> float:
        try:
            return self._client(source).skew
        except Unavailable:
            return 0.0

    def _now(self, source: str) -> float:
        """Return Unix seconds by a Prometheus server's clock, as well as it is known."""
        return self._clock.now() + self._skew(source)


def _too_slow(plan: PlanState) -> str:
    return (
        f"Prometheus does not answer its queries within the {plan.subscription.block_seconds} s between two rounds,"
        f" {plan.skipped} of which were skipped; make them cheaper, with a recording rule for instance"
    )
