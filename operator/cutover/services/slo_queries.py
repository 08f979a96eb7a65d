"""The queries of one custom SLO: what is asked, and what is made of the answers.

Memory is bounded. Each answer has a longest length, is counted before the next is asked for, and then dropped; and samples
are kept of only as many SLOs as there are slots, of each at most :data:`MOST_SAMPLES`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from cutover.api.v1alpha1.gates import BoundSlo, RatioSlo
from cutover.domain.evidence.scrapes import REACH_IN_SCRAPES, Result, Source
from cutover.domain.evidence.selectors import milliseconds
from cutover.domain.slo import bounds
from cutover.domain.slo.expressions import LEAD_BLOCKS, ambiguity, rise, values_at
from cutover.domain.slo.promql import is_counter_selector, selectors
from cutover.domain.slo.ratio import Count, block_length, blocks_of, query_names
from cutover.domain.slo.series import MEMORY_SECONDS, SeriesReading, count
from cutover.domain.verdicts import Verdict
from cutover.ports.clock import Clock
from cutover.ports.errors import QueryRefused, Unavailable
from cutover.ports.prometheus import Prometheus
from cutover.services.reading import LONGEST_REPLAY
from cutover.services.slo_state import Edge, PlanState, SloState

_T = TypeVar("_T")

#: From so many samples on an answer is counted in a thread, so that the loop goes on meanwhile.
_MANY_SAMPLES = 2_000
#: Most samples of one SLO that are kept while its blocks are counted; each takes about 200 bytes.
MOST_SAMPLES = 25_000
#: Seconds until a refused query is repeated unchanged.
REFUSED_SECONDS = 60.0
#: A query of a quick plan is given up after so many seconds; the plan is slow from then on.
QUICK_SECONDS = 5.0
#: Seconds after which a query is aborted, in case that its client does not abort it.
_LONGEST_QUERY = 60.0
#: A round whose first query comes so many seconds after it was due is late.
_LATE_SECONDS = 1.0


class SloQueries:
    """Asks a Prometheus server about custom SLOs, and notes blocks, values and problems in their states.

    Parameters
    ----------
    client
        Returns the Prometheus server of a name. Raises Unavailable where there is none.
    clock
        The operator's clock.
    settle
        Seconds from the end of a block until it is read.

    Attributes
    ----------
    queries, errors
        Queries made, and how many of them failed.
    rounds_late
        Rounds that began late, because no slot was free.
    late_samples
        Samples that became visible after their block was read; their increments are in no block.
    """

    def __init__(self, client: Callable[[str], Prometheus], clock: Clock, settle: float) -> None:
        self.queries = 0
        self.errors = 0
        self.rounds_late = 0
        self.late_samples = 0
        self._client = client
        self._clock = clock
        self._settle = settle

    async def ask(self, plan: PlanState, gate: SloState, now: float) -> bool:
        """Make all queries of one SLO; return whether more of its blocks can be read at once."""
        if isinstance(gate.custom.slo, RatioSlo):
            return await self._ask_for_blocks(plan, gate, gate.custom.slo, now)
        await self._ask_for_values(plan, gate, gate.custom.slo, now)
        return False

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
                gate.note(Verdict.AMBIGUOUS, f"the query has {ambiguous}", now)
            elif not points or end - points[-1][0] > bounds.HOLE_IN_SCRAPES * step:
                why = "only values that are no numbers" if result and not points else "no value"
                gate.note(Verdict.NO_DATA, f"the query gives {why}; are its metrics there?", now)
            elif stale:
                gate.note(Verdict.NO_DATA, stale, now)
            else:
                gate.problem = None
        if _baseline_wanted(plan, gate):
            result = await self._query(plan, f"quantile_over_time(0.95, ({query}\n)[1d:5m])", now)
            gate.baseline, ambiguous = bounds.value_of(result)
            gate.asked_at = now
            if gate.baseline is None:
                gate.not_before = now + REFUSED_SECONDS
                if ambiguous:
                    gate.note(Verdict.AMBIGUOUS, f"over the last day the query has {ambiguous}", now)
                else:
                    gate.note(Verdict.NO_DATA, "the query gave no value in the last day", now)

    async def _ask_for_blocks(self, plan: PlanState, gate: SloState, slo: RatioSlo, now: float) -> bool:
        length = block_length(plan.subscription.block_seconds, gate.interval)
        start = gate.fetched
        if start is None:
            return False
        due = _floor(now - gate.settle, length)
        end = min(due, start + max(1, math.floor(gate.span / length)) * length)
        names = query_names(good=slo.good is not None)
        span = _Span(start, end, length, REACH_IN_SCRAPES * gate.interval)
        columns: dict[int, Sequence[Count]] = {}
        newest: dict[Source | int, float] = {}
        opened: dict[Source | int, float] = {}
        ambiguous = ""
        for number, query in enumerate(gate.custom.queries):
            if not is_counter_selector(query):
                with _Named(names[number]):
                    lead = LEAD_BLOCKS * length
                    result = await self._query_range(plan, query, start - lead, end, length)
                counts = partial(rise, result, start=start, end=end, length=length)
                columns[number] = await _counted(_samples(result), counts)
                found = await _counted(_samples(result), values_at, result, end)
                newest[number] = found[0][1] if found else math.nan
                for _, value in await _counted(_samples(result), values_at, result, start):
                    opened[number] = value
                if len(found) > 1:
                    ambiguous = ambiguous or f"{names[number]}: {ambiguity(found)}"
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
        gate.blocks.extend(blocks_of(in_order, good=slo.good is not None, start=start, length=length))
        gate.fetched, gate.asked_at = end, now
        if end >= due:
            gate.span = LONGEST_REPLAY
        if ambiguous:
            gate.note(Verdict.AMBIGUOUS, ambiguous, now)
        elif all(math.isnan(value) for value in newest.values()):
            message = f"none of the queries had a sample in {span.reach:g} s, not even the totals; are they right?"
            gate.note(Verdict.NO_DATA, message, now)
        elif stale:
            gate.note(Verdict.NO_DATA, stale, now)
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
        columns: dict[int, Sequence[Count]],
    ) -> SeriesReading:
        """Put the increments of plain selectors into the columns."""
        window = span.end - span.start + span.reach
        reading = SeriesReading()
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
        columns |= await _counted(reading.samples, partial(count, reading, **span._asdict()))
        if reading.unproven:
            memory = milliseconds(MEMORY_SECONDS)
            for selector in numbers:
                past = await self._query(plan, f"{selector}[{memory}]", span.end - window)
                await _counted(_MANY_SAMPLES, reading.add_past, past)
            columns |= await _counted(reading.samples, partial(count, reading, **span._asdict()))
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

    async def _query(self, plan: PlanState, promql: str, at: float) -> Result:
        return await self._ask(plan, lambda prometheus: prometheus.query(promql, at))

    async def _query_range(self, plan: PlanState, promql: str, start: float, end: float, step: float) -> Result:
        return await self._ask(plan, lambda prometheus: prometheus.query_range(promql, start, end, step))

    async def _ask(self, plan: PlanState, call: Callable[[Prometheus], Awaitable[Result]]) -> Result:
        """Make a query. Raises QueryRefused, PartialAnswer, Unavailable; for a quick plan TimeoutError."""
        if not plan.slow:
            return await self._answer(plan, call, QUICK_SECONDS)
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


def _baseline_wanted(plan: PlanState, gate: SloState) -> bool:
    return gate.custom.name in plan.subscription.baselines and gate.baseline is None


def _floor(at: float, step: float) -> float:
    return math.floor(at / step) * step
