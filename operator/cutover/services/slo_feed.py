"""Answers to the queries of custom SLOs: blocks of ratios, and values of bounds.

Teams write these queries, so that the cost of a query is unknown. The queries of a plan run one at a time, and those of few
plans at once. A plan whose queries hang delays only itself: its next queries wait in a lane for slow plans, and the blocks
that it misses are read later, at their own times (see :mod:`cutover.domain.slo.series`).

Memory is bounded too. Each answer has a longest length, is counted before the next is asked for, and then dropped; and
samples are kept of only as many SLOs as there are slots, of each at most :data:`MOST_SAMPLES`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from cutover.api.v1alpha1.gates import BoundSlo, RatioSlo
from cutover.domain.evidence.scrapes import REACH_IN_SCRAPES, Result, Source
from cutover.domain.evidence.selectors import milliseconds
from cutover.domain.slo import bounds
from cutover.domain.slo import series as slo_series
from cutover.domain.slo.custom import QueryProblem, SloReading
from cutover.domain.slo.promql import is_counter_selector, selectors
from cutover.domain.verdicts import Verdict
from cutover.ports.clock import Clock
from cutover.ports.errors import PartialAnswer, QueryRefused, Unavailable
from cutover.ports.prometheus import Prometheus
from cutover.ports.slo_feed import SloSubscription
from cutover.services.reading import LONGEST_REPLAY, MOST_WAITING, OLDEST_BLOCK
from cutover.services.slo_state import Edge, PlanState, SloState, same_queries

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")

#: What the longest time of one query, in seconds, shrinks to without an answer.
_SHORTEST_REPLAY = 60.0
#: From so many samples on an answer is counted in a thread, so that the loop goes on meanwhile.
_MANY_SAMPLES = 2_000
#: Most samples of one SLO that are kept while its blocks are counted; each takes about 200 bytes.
MOST_SAMPLES = 25_000
#: Seconds until a refused query is repeated unchanged.
REFUSED_SECONDS = 60.0
#: Consecutive skipped rounds after which the plan's status says so.
SKIPS_UNTIL_TOLD = 3
#: Queries at a time of plans with slow queries: these plans wait for each other, and other plans do not wait for them. A
#: plan is slow if its last round took more than the fraction of a block, or from its first query on that takes longer than
#: the seconds.
_SLOW_TURNS = 2
_SLOW_PART = 1 / 3
_QUICK_SECONDS = 5.0
#: Seconds after which a query is aborted, in case that its client does not abort it.
_LONGEST_QUERY = 60.0
#: Shortest and longest sleep between two checks of what is due; the longest because the clock may have been set.
_GRAIN, _LONGEST_SLEEP = 0.1, 60.0
#: A round that begins so many seconds after it was due is late.
_LATE_SECONDS = 1.0
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
    queries, errors
        Queries made, and how many of them failed.
    rounds_skipped
        Rounds that were skipped because the plan's previous round was under way.
    rounds_late
        Rounds that began late, because no slot was free.
    late_samples
        Samples that became visible after their block was read; their increments are in no block.
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
        self.queries = 0
        self.errors = 0
        self.rounds_skipped = 0
        self.rounds_late = 0
        self.late_samples = 0
        self._client = client
        self._clock = clock
        self._on_news = on_news
        self._settle = settle
        slow = min(_SLOW_TURNS, concurrency // 2)
        self._turns, self._slow_turns = asyncio.Semaphore(concurrency - slow), asyncio.Semaphore(slow)
        self._plans: dict[str, PlanState] = {}
        self._changed = asyncio.Event()

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
                length = slo_series.block_length(subscription.block_seconds, gate.interval)
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
            _note(gate, Verdict.NO_DATA, _too_slow(plan), self._now(plan.subscription.source))
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
            more = await self._in_turn(plan, lambda: self._ask_all(plan, gate, now))
            if plan.skipped >= SKIPS_UNTIL_TOLD and self._clock.now() - asked > plan.subscription.block_seconds:
                _note(gate, Verdict.NO_DATA, _too_slow(plan), now)
        except QueryRefused as refusal:
            _note(gate, Verdict.QUERY_ERROR, str(refusal), now)
            gate.not_before = now + REFUSED_SECONDS
        except PartialAnswer as warning:
            _note(gate, Verdict.QUERY_ERROR, str(warning), now)
        except Unavailable as outage:
            _note(gate, Verdict.NO_DATA, str(outage), now)
            gate.span = max(gate.span / 2, _SHORTEST_REPLAY)
        except Exception:
            # Answers to arbitrary queries may surprise; they must not end the plan's rounds.
            _logger.exception("the answer for gate %s is not understood", gate.custom.name)
            _note(gate, Verdict.NO_DATA, _NOT_UNDERSTOOD, now)
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

    async def _ask_all(self, plan: PlanState, gate: SloState, now: float) -> bool:
        """Make all queries of one SLO; return whether more of its blocks can be read at once."""
        if isinstance(gate.custom.slo, RatioSlo):
            return await self._ask_for_blocks(plan, gate, gate.custom.slo, now)
        await self._ask_for_values(plan, gate, gate.custom.slo, now)
        return False

    def _due(self, plan: PlanState, gate: SloState, now: float) -> bool:
        if now < gate.not_before:
            return False
        if isinstance(gate.custom.slo, BoundSlo):
            return True  # its evaluation times decide what is new
        if gate.fetched is None or gate.delivered is None:
            return False
        length = slo_series.block_length(plan.subscription.block_seconds, gate.interval)
        if (gate.fetched - gate.delivered) / length >= MOST_WAITING:
            return False
        return gate.fetched + length + gate.settle <= now

    async def _ask_for_values(self, plan: PlanState, gate: SloState, slo: BoundSlo, now: float) -> None:
        (query,) = gate.custom.queries
        step, subscription = gate.interval, plan.subscription
        end = _floor(now - self._settle, step)
        first = end if subscription.judged_from is None else math.ceil(subscription.judged_from / step) * step
        start = max(first, end - (math.ceil(slo.for_.total_seconds() / step) + 1) * step)
        if start <= end and end > gate.evaluated:
            result = await self._query_range(plan, query, start, end, step)
            points, ambiguous = await _counted(_samples(result), bounds.points_of, result)
            stale = await self._stale(plan, gate, [query], now) if points else ""
            gate.points, gate.evaluated, gate.asked_at = points, end, now
            if ambiguous:
                _note(gate, Verdict.AMBIGUOUS, f"the query has {ambiguous}", now)
            elif not points or end - points[-1][0] > bounds.HOLE_IN_SCRAPES * step:
                why = "only values that are no numbers" if result and not points else "no value"
                _note(gate, Verdict.NO_DATA, f"the query gives {why}; are its metrics there?", now)
            elif stale:
                _note(gate, Verdict.NO_DATA, stale, now)
            else:
                gate.problem = None
        if _baseline_wanted(plan, gate):
            result = await self._query(plan, f"quantile_over_time(0.95, ({query}\n)[1d:5m])", now)
            gate.baseline, ambiguous = bounds.value_of(result)
            gate.asked_at = now
            if gate.baseline is None:
                gate.not_before = now + REFUSED_SECONDS
                if ambiguous:
                    _note(gate, Verdict.AMBIGUOUS, f"over the last day the query has {ambiguous}", now)
                else:
                    _note(gate, Verdict.NO_DATA, "the query gave no value in the last day", now)

    async def _ask_for_blocks(self, plan: PlanState, gate: SloState, slo: RatioSlo, now: float) -> bool:
        length = slo_series.block_length(plan.subscription.block_seconds, gate.interval)
        start = gate.fetched
        if start is None:
            return False
        due = _floor(now - gate.settle, length)
        end = min(due, start + max(1, math.floor(gate.span / length)) * length)
        names = slo_series.query_names(good=slo.good is not None)
        span = _Span(start, end, length, REACH_IN_SCRAPES * gate.interval)
        columns: dict[int, Sequence[slo_series.Count]] = {}
        newest: dict[Source | int, float] = {}
        opened: dict[Source | int, float] = {}
        ambiguous = ""
        for number, query in enumerate(gate.custom.queries):
            if not is_counter_selector(query):
                with _Named(names[number]):
                    lead = slo_series.LEAD_BLOCKS * length
                    result = await self._query_range(plan, query, start - lead, end, length)
                rise = partial(slo_series.rise, result, start=start, end=end, length=length)
                columns[number] = await _counted(_samples(result), rise)
                found = await _counted(_samples(result), slo_series.values_at, result, end)
                newest[number] = found[0][1] if found else math.nan
                for _, value in await _counted(_samples(result), slo_series.values_at, result, start):
                    opened[number] = value
                if len(found) > 1:
                    ambiguous = ambiguous or f"{names[number]}: {slo_series.ambiguity(found)}"
        # Prometheus uses old samples for an expression's value for five minutes: that would look like silence.
        stale = await self._stale(plan, gate, [gate.custom.queries[number] for number in columns], end)
        plain = {n: selectors(query)[0] for n, query in enumerate(gate.custom.queries) if n not in columns}
        if plain:
            reading = await self._read(plan, plain, names, span, columns)
            newest.update((source, at) for source, at in reading.newest(end).items())
            opened.update((source, at) for source, at in reading.newest(start).items())
        if gate.fetched != start:
            return True  # the plan sought back meanwhile
        self._watch_for_late_samples(gate, start, opened)
        gate.edge = Edge(end, gate.settle, newest)
        in_order = [columns[number] for number in range(len(names))]
        gate.blocks.extend(slo_series.blocks_of(in_order, good=slo.good is not None, start=start, length=length))
        gate.fetched, gate.asked_at = end, now
        if end >= due:
            gate.span = LONGEST_REPLAY
        if ambiguous:
            _note(gate, Verdict.AMBIGUOUS, ambiguous, now)
        elif all(math.isnan(value) for value in newest.values()):
            message = f"none of the queries had a sample in {span.reach:g} s, not even the totals; are they right?"
            _note(gate, Verdict.NO_DATA, message, now)
        elif stale:
            _note(gate, Verdict.NO_DATA, stale, now)
        else:
            gate.problem = None
        return end < due

    async def _stale(self, plan: PlanState, gate: SloState, queries: Sequence[str], at: float) -> str:
        """Return which sample of the expressions is too old; ``""`` if none is."""
        read = list(dict.fromkeys(selector for query in queries for selector in selectors(query)))
        if not read:
            return ""
        result = await self._query(plan, bounds.freshness_query(read), at)
        return bounds.stale(result, read, now=at, limit=bounds.HOLE_IN_SCRAPES * gate.interval)

    async def _read(
        self,
        plan: PlanState,
        plain: Mapping[int, str],
        names: Sequence[str],
        span: _Span,
        columns: dict[int, Sequence[slo_series.Count]],
    ) -> slo_series.SeriesReading:
        """Put the increments of plain selectors into the columns."""
        window = span.end - span.start + span.reach
        reading = slo_series.SeriesReading()
        numbers: dict[str, list[int]] = {}  # both legs may have the same total
        for number, selector in plain.items():
            numbers.setdefault(selector, []).append(number)
        for selector, queries in numbers.items():
            with _Named(names[queries[0]]):
                result = await self._query(plan, f"{selector}[{milliseconds(window)}]", span.end)
            if (samples := len(queries) * _samples(result)) <= MOST_SAMPLES:
                for number in queries:
                    await _counted(samples, reading.add_selector, number, result)
            del result  # before the next answer comes
            if reading.samples > MOST_SAMPLES or samples > MOST_SAMPLES:
                raise Unavailable(
                    f"{names[queries[0]]}: more than {MOST_SAMPLES} samples in {window:g} s; write a selector of fewer"
                    " series, or record a sum of them with a recording rule"
                )
        if presence := reading.presence_query():
            scrapes = await self._query(plan, f"{presence}[{milliseconds(window)}]", span.end)
            await _counted(len(scrapes) * 20, reading.add_presence, scrapes)
        columns |= await _counted(reading.samples, partial(slo_series.count, reading, **span._asdict()))
        if reading.unproven:
            memory = milliseconds(slo_series.MEMORY_SECONDS)
            for selector in numbers:
                past = await self._query(plan, f"{selector}[{memory}]", span.end - window)
                await _counted(_MANY_SAMPLES, reading.add_past, past)
            columns |= await _counted(reading.samples, partial(slo_series.count, reading, **span._asdict()))
        return reading

    def _watch_for_late_samples(self, gate: SloState, start: float, opened: Mapping[Source | int, float]) -> None:
        """Double ``settle`` where the samples at the end of the last block have changed since it was read."""
        edge = gate.edge
        if edge is None or edge.end != start:
            return
        if any(value > edge.newest.get(what, math.inf) for what, value in opened.items()):
            self.late_samples += 1
            if gate.settle == edge.settle:  # otherwise it is longer already than when the block was read
                gate.settle = min(2 * gate.settle, max(gate.settle, gate.interval))

    def _skew(self, source: str) -> float:
        try:
            return self._client(source).skew
        except Unavailable:
            return 0.0

    def _now(self, source: str) -> float:
        """Return Unix seconds by a Prometheus server's clock, as well as it is known."""
        return self._clock.now() + self._skew(source)

    async def _query(self, plan: PlanState, promql: str, at: float) -> Result:
        return await self._ask(plan, lambda prometheus: prometheus.query(promql, at))

    async def _query_range(self, plan: PlanState, promql: str, start: float, end: float, step: float) -> Result:
        return await self._ask(plan, lambda prometheus: prometheus.query_range(promql, start, end, step))

    async def _ask(self, plan: PlanState, call: Callable[[Prometheus], Awaitable[Result]]) -> Result:
        """Make a query. Raises QueryRefused, PartialAnswer, Unavailable; for a quick plan TimeoutError."""
        if not plan.slow:
            return await self._answer(plan, call, _QUICK_SECONDS)
        try:
            return await self._answer(plan, call, _LONGEST_QUERY)
        except TimeoutError:
            raise Unavailable(f"Prometheus did not answer within {_LONGEST_QUERY:g} s") from None

    async def _answer(
        self, plan: PlanState, call: Callable[[Prometheus], Awaitable[Result]], seconds: float
    ) -> Result:
        began = self._clock.now()
        if plan.began_for is not None:
            self.rounds_late += began - plan.began_for > _LATE_SECONDS
            plan.began_for = None
        self.queries += 1
        try:
            async with asyncio.timeout(seconds):
                return await call(self._client(plan.subscription.source))
        except (TimeoutError, Unavailable):
            self.errors += 1
            raise
        finally:
            plan.spent += self._clock.now() - began


async def _counted(samples: int, function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function that goes through so many samples; in a thread if they are many."""
    if samples < _MANY_SAMPLES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


def _samples(result: Result) -> int:
    return sum(len(item["values"]) for item in result)


class _Span(NamedTuple):
    """Which blocks are read, and how long before them samples count."""

    start: float
    end: float
    length: int
    reach: float


class _Named:
    """Puts the name of a query before Prometheus' refusal."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, QueryRefused):
            raise QueryRefused(f"{self._name}: {error}") from error


def _note(gate: SloState, verdict: Verdict, message: str, now: float) -> None:
    known = gate.problem
    gate.problem = QueryProblem(verdict, message, known.since if known and known.verdict is verdict else now)


def _too_slow(plan: PlanState) -> str:
    return (
        f"Prometheus does not answer its queries within the {plan.subscription.block_seconds} s between two rounds,"
        f" {plan.skipped} of which were skipped; make them cheaper, with a recording rule for instance"
    )


def _baseline_wanted(plan: PlanState, gate: SloState) -> bool:
    return gate.custom.name in plan.subscription.baselines and gate.baseline is None


def _floor(at: float, step: float) -> float:
    return math.floor(at / step) * step
