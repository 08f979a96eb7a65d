"""Answers to the plans' own queries: blocks of their ratios, and the values of their bounds.

These queries are whatever a team writes, so that each plan is asked for by itself, one query at a time, and few plans at
once. A plan whose queries hang hurts itself only: the next time it is asked for in a lane of its own kind, and what it
misses in the meantime is read later, at its own times (see :mod:`cutover.domain.slo.series`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cutover.api.v1alpha1.gates import BoundSlo, RatioSlo
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.scrapes import REACH_IN_SCRAPES, Result, Source
from cutover.domain.evidence.selectors import milliseconds
from cutover.domain.slo import bounds
from cutover.domain.slo import series as own_series
from cutover.domain.slo.custom import CustomSlo, QueryProblem, SloReading
from cutover.domain.slo.promql import is_counter_selector, selectors
from cutover.domain.verdicts import Verdict
from cutover.ports.clock import Clock
from cutover.ports.errors import PartialAnswer, QueryRefused, Unavailable
from cutover.ports.prometheus import Prometheus
from cutover.ports.slo_feed import SloSubscription

_logger = logging.getLogger(__name__)

#: Blocks that are asked for at once: the longest time of a replay, in seconds, and what it shrinks to without an answer.
LONGEST_REPLAY, _SHORTEST_REPLAY = 3600.0, 300.0
#: Older blocks are not delivered: no checkpoint is that old.
OLDEST_BLOCK = 24 * 3600.0
#: Seconds until a query that was refused is asked again unchanged.
REFUSED_SECONDS = 60.0
#: Rounds in a row that a plan may skip until people are told.
SKIPS_UNTIL_TOLD = 3
#: Of all turns, these are for plans whose queries take long: they wait for each other, and nobody for them. A plan
#: belongs to them if its last round took more than this part of a block, or from the first query on that is not answered
#: within so many seconds.
_SLOW_TURNS = 2
_SLOW_PART = 1 / 3
_QUICK_SECONDS = 5.0
#: Seconds after which a query is given up, in case that its client does not.
_LONGEST_QUERY = 60.0
#: Blocks kept after they were handed out, for a plan that was reloaded after a conflict.
_KEPT = 24
#: A plan that does not take its blocks is not served any further.
_MOST_WAITING = 1000
#: Seconds between two looks at what is due, and at most without one: the clock may have been set.
_GRAIN, _LONGEST_SLEEP = 0.1, 60.0
#: A round that begins so many seconds after it was due is late.
_LATE_SECONDS = 1.0
_NOT_UNDERSTOOD = "Prometheus' answer is not understood: it is not that of a vector of numbers"


@dataclass(slots=True, eq=False)
class _Gate:
    """What is known of one gate.

    Parameters
    ----------
    own
        The gate.
    settle
        Seconds after the end of a block at which it can be read. Doubled where a sample was seen too late.
    asked_at, points, baseline, problem
        As in `SloReading`.
    evaluated
        Unix seconds of a bound's newest evaluation.
    taken, fetched
        Ends of the last blocks that were handed out, and that are known; ``None`` before the first is wanted.
    blocks
        The last that were handed out, for a plan that goes back, and then those that wait.
    not_before
        Unix seconds before which it is not asked for.
    span
        Seconds of blocks that are asked for at most.
    edge
        What was known at the end of the last block when it was read.
    """

    own: CustomSlo
    settle: float
    asked_at: float = 0.0
    points: bounds.Points = ()
    baseline: float | None = None
    problem: QueryProblem | None = None
    evaluated: float = 0.0
    taken: float | None = None
    fetched: float | None = None
    blocks: deque[Block] = field(default_factory=deque)
    not_before: float = 0.0
    span: float = LONGEST_REPLAY
    edge: _Edge | None = None

    @property
    def interval(self) -> float:
        """Seconds between two scrapes of what it reads."""
        return self.own.slo.scrape_interval.total_seconds()

    def seek(self, position: float, *, again: bool) -> None:
        """Go on after another block; read it ``again`` where it is not kept."""
        if self.taken is None or self.fetched is None:
            self.taken = self.fetched = position
        elif position != self.taken:
            if self.blocks and self.blocks[0].start <= position <= self.fetched:
                self.taken = position
            elif again:
                self.blocks.clear()
                self.taken = self.fetched = position

    def hand_out(self) -> tuple[Block, ...]:
        """Return the blocks that wait, and keep some for a plan that goes back."""
        if self.taken is None:
            return ()
        taken = self.taken
        blocks = tuple(block for block in self.blocks if block.end > taken)
        self.taken = self.fetched
        while len(self.blocks) > _KEPT:
            self.blocks.popleft()
        return blocks


@dataclass(slots=True, eq=False)
class _Plan:
    """One plan's gates, and when they are asked for.

    Parameters
    ----------
    target
        What was asked for last.
    gates
        By name.
    due
        Unix seconds of the next round, by the operator's clock.
    round
        The round that is under way.
    asking
        Name of the gate that is asked for in it.
    skipped
        Rounds in a row that could not begin because the one before was under way.
    spent
        Seconds that the round's queries took, without the waiting for a turn.
    slow
        Whether its queries take long.
    urgent
        Whether there is a gate that was never asked for.
    began_for
        When the round that is under way was due, until its first query is asked.
    """

    target: SloSubscription
    gates: dict[str, _Gate] = field(default_factory=dict)
    due: float = 0.0
    round: asyncio.Task[None] | None = None
    asking: str = ""
    skipped: int = 0
    spent: float = 0.0
    slow: bool = False
    urgent: bool = False
    began_for: float | None = None


class PrometheusSloFeed:
    """Asks the plans' own queries; implements :class:`cutover.ports.slo_feed.SloFeed`.

    Parameters
    ----------
    client
        Returns the Prometheus of a name. Raises Unavailable where there is none.
    clock
        The operator's clock.
    on_news
        Called with a plan's key when something became known.
    settle
        Seconds after the end of a block at which it is read: until then its scrapes are seen.
    concurrency
        Queries at a time, for all plans; at least 2.

    Attributes
    ----------
    queries, errors
        Queries asked, and how many of them failed.
    rounds_skipped
        Rounds that did not take place because the plan's one before was under way.
    rounds_late
        Rounds that began later than they should, for want of a turn.
    late_samples
        Times that a sample was seen after its block had been read; its increments are in no block.
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
        self._plans: dict[str, _Plan] = {}
        self._changed = asyncio.Event()

    def watch(self, key: str, target: SloSubscription) -> None:
        """Ask for a plan's own gates from now on.

        Call it at every pass, with the ends of the last blocks that were consumed: it costs next to nothing where those
        are the last that were taken, and goes back or forth otherwise. A gate with other queries begins anew.
        """
        plan = self._plans.get(key)
        before = plan.target if plan is not None else None
        if plan is None or plan.target.source != target.source:
            self.forget(key)
            plan = self._plans[key] = _Plan(target)
        plan.target = target
        if before is None or before.gates != target.gates or before.source != target.source:
            known, plan.gates = plan.gates, {}
            for own in target.gates:
                gate = known.get(own.name)
                if gate is not None and _same(gate.own, own):
                    gate.own = own
                else:
                    gate = _Gate(own, self._settle)
                    # At once: after a restart, or since somebody waits to see whether the new query is right.
                    plan.due, plan.urgent = self._clock.now(), True
                    self._changed.set()
                plan.gates[own.name] = gate
        now = self._now(target.source)
        for gate in plan.gates.values():
            name = gate.own.name
            since = target.since.get(name)
            if isinstance(gate.own.slo, RatioSlo) and since is not None:
                length = own_series.block_length(target.block_seconds, gate.interval)
                position = math.ceil(max(since, now - OLDEST_BLOCK) / length) * length
                gate.seek(position, again=before is None or before.since.get(name) != since)
            if name not in target.baselines:
                gate.baseline = None

    def forget(self, key: str) -> None:
        """Stop asking for a plan."""
        plan = self._plans.pop(key, None)
        if plan is not None and plan.round is not None:
            plan.round.cancel()

    def take(self, key: str) -> Mapping[str, SloReading]:
        """Return what is known, by gate: blocks since the last call, none twice; the newest points and problems."""
        plan = self._plans.get(key)
        if plan is None:
            return {}
        return {
            name: SloReading(gate.asked_at, gate.hand_out(), gate.points, gate.baseline, gate.problem)
            for name, gate in plan.gates.items()
        }

    async def run(self) -> None:
        """Serve all plans, for ever."""
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
        """Begin the rounds that are due, and return them."""
        now = self._clock.now()
        started = []
        for key, plan in list(self._plans.items()):
            if now < plan.due <= now + 2 * plan.target.block_seconds:
                continue  # later than that it would be only where the clock was set back
            due, plan.due = plan.due, self._next_round(key, plan.target, now)
            if plan.round is not None and not plan.round.done():
                if not plan.urgent:
                    self._skip(key, plan)
                continue
            plan.began_for, plan.urgent = due, False
            plan.round = asyncio.create_task(self._round(key, plan), name=f"own queries of {key}")
            started.append(plan.round)
        return started

    def _skip(self, key: str, plan: _Plan) -> None:
        self.rounds_skipped += 1
        plan.skipped += 1
        gate = plan.gates.get(plan.asking)
        if plan.skipped >= SKIPS_UNTIL_TOLD and gate is not None:
            _note(gate, Verdict.NO_DATA, _too_slow(plan), self._now(plan.target.source))
            self._on_news(key)

    def _next_round(self, key: str, target: SloSubscription, now: float) -> float:
        """Return when a plan is asked for next: after the end of a block, and not all plans in the same instant."""
        length = target.block_seconds
        phase = self._settle + length / 2 * (zlib.crc32(key.encode()) % 1024) / 1024 - self._skew(target.source)
        return (math.floor((now - phase) / length) + 1) * length + phase

    async def _round(self, key: str, plan: _Plan) -> None:
        """Ask for all gates of a plan that are due, one after the other."""
        began, plan.spent = self._clock.now(), 0.0
        news = more = False
        for gate in list(plan.gates.values()):
            now = self._now(plan.target.source)
            if plan.gates.get(gate.own.name) is gate and self._due(plan, gate, now):
                plan.asking = gate.own.name
                known = gate.asked_at, gate.problem
                more |= await self._ask_for(plan, gate, now)
                news |= known != (gate.asked_at, gate.problem)
        plan.asking = ""
        plan.slow = plan.spent > plan.target.block_seconds * _SLOW_PART
        if self._clock.now() - began <= plan.target.block_seconds:
            plan.skipped = 0
        if self._plans.get(key) is not plan:
            return
        if more or plan.urgent:
            plan.due = self._clock.now()
            self._changed.set()
        if news:
            self._on_news(key)

    async def _ask_for(self, plan: _Plan, gate: _Gate, now: float) -> bool:
        """Ask for one gate; return whether there is more to be read of it at once."""
        asked = self._clock.now()
        more = False
        try:
            if isinstance(gate.own.slo, BoundSlo):
                await self._ask_for_values(plan, gate, gate.own.slo, now)
            else:
                more = await self._ask_for_blocks(plan, gate, gate.own.slo, now)
            if plan.skipped >= SKIPS_UNTIL_TOLD and self._clock.now() - asked > plan.target.block_seconds:
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
            # What Prometheus may answer to any query is not to be foreseen; it must not end the plan's rounds.
            _logger.exception("the answer for gate %s is not understood", gate.own.name)
            _note(gate, Verdict.NO_DATA, _NOT_UNDERSTOOD, now)
        return more

    def _due(self, plan: _Plan, gate: _Gate, now: float) -> bool:
        if now < gate.not_before:
            return False
        if isinstance(gate.own.slo, BoundSlo):
            return True  # what of it is new is found out with its times
        if gate.fetched is None or gate.taken is None:
            return False
        length = own_series.block_length(plan.target.block_seconds, gate.interval)
        if (gate.fetched - gate.taken) / length >= _MOST_WAITING:
            return False
        return gate.fetched + length + gate.settle <= now

    async def _ask_for_values(self, plan: _Plan, gate: _Gate, slo: BoundSlo, now: float) -> None:
        (query,) = gate.own.queries
        step, target = gate.interval, plan.target
        end = _floor(now - self._settle, step)
        first = end if target.judged_from is None else math.ceil(target.judged_from / step) * step
        start = max(first, end - (math.ceil(slo.for_.total_seconds() / step) + 1) * step)
        if start <= end and end > gate.evaluated:
            result = await self._query_range(plan, query, start, end, step)
            points, ambiguous = bounds.points_of(result)
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

    async def _ask_for_blocks(self, plan: _Plan, gate: _Gate, slo: RatioSlo, now: float) -> bool:
        length = own_series.block_length(plan.target.block_seconds, gate.interval)
        start = gate.fetched
        if start is None:
            return False
        due = _floor(now - gate.settle, length)
        end = min(due, start + max(1, math.floor(gate.span / length)) * length)
        names = own_series.query_names(good=slo.good is not None)
        span = _Span(start, end, length, REACH_IN_SCRAPES * gate.interval)
        columns: dict[int, Sequence[own_series.Count]] = {}
        newest: dict[Source | int, float] = {}
        opened: dict[Source | int, float] = {}
        ambiguous = ""
        for number, query in enumerate(gate.own.queries):
            if not is_counter_selector(query):
                with _Named(names[number]):
                    lead = own_series.LEAD_BLOCKS * length
                    result = await self._query_range(plan, query, start - lead, end, length)
                columns[number] = own_series.rise(result, start=start, end=end, length=length)
                found = own_series.values_at(result, end)
                newest[number] = found[0][1] if found else math.nan
                for _, value in own_series.values_at(result, start):
                    opened[number] = value
                if len(found) > 1:
                    ambiguous = ambiguous or f"{names[number]}: {own_series.ambiguity(found)}"
        # Prometheus gives old samples as an expression's value for five minutes: that would look like silence.
        stale = await self._stale(plan, gate, [gate.own.queries[number] for number in columns], end)
        plain = {n: selectors(query)[0] for n, query in enumerate(gate.own.queries) if n not in columns}
        if plain:
            reading = await self._read(plan, plain, names, span, columns)
            newest.update((source, at) for source, at in reading.newest(end).items())
            opened.update((source, at) for source, at in reading.newest(start).items())
        if gate.fetched != start:
            return True  # the plan went back meanwhile
        self._watch_for_late_samples(gate, start, opened)
        gate.edge = _Edge(end, gate.settle, newest)
        in_order = [columns[number] for number in range(len(names))]
        gate.blocks.extend(own_series.blocks_of(in_order, good=slo.good is not None, start=start, length=length))
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

    async def _stale(self, plan: _Plan, gate: _Gate, queries: Sequence[str], at: float) -> str:
        """Return which sample that expressions read is too old, if one is."""
        read = list(dict.fromkeys(selector for query in queries for selector in selectors(query)))
        if not read:
            return ""
        result = await self._query(plan, bounds.freshness_query(read), at)
        return bounds.stale(result, read, now=at, limit=bounds.HOLE_IN_SCRAPES * gate.interval)

    async def _read(
        self,
        plan: _Plan,
        plain: Mapping[int, str],
        names: Sequence[str],
        span: _Span,
        columns: dict[int, Sequence[own_series.Count]],
    ) -> own_series.SeriesReading:
        """Count what plain selectors counted; put it into the columns."""
        window = span.end - span.start + span.reach
        results: dict[str, Result] = {}  # both legs may have the same total
        reading = own_series.SeriesReading()
        for number, selector in plain.items():
            if selector not in results:
                with _Named(names[number]):
                    results[selector] = await self._query(plan, f"{selector}[{milliseconds(window)}]", span.end)
            reading.add_selector(number, results[selector])
        if presence := reading.presence_query():
            reading.add_presence(await self._query(plan, f"{presence}[{milliseconds(window)}]", span.end))
        columns |= own_series.count(reading, **span._asdict())
        if reading.unproven:
            memory = milliseconds(own_series.MEMORY_SECONDS)
            past = [await self._query(plan, f"{selector}[{memory}]", span.end - window) for selector in results]
            reading.add_past(past)
            columns |= own_series.count(reading, **span._asdict())
        return reading

    def _watch_for_late_samples(self, gate: _Gate, start: float, opened: Mapping[Source | int, float]) -> None:
        """Wait longer where what was read as the end of a block looks otherwise now that it is the next one's begin."""
        edge = gate.edge
        if edge is None or edge.end != start:
            return
        if any(value > edge.newest.get(what, math.inf) for what, value in opened.items()):
            self.late_samples += 1
            if gate.settle == edge.settle:  # else it was read too early, but would not be any more
                gate.settle = min(2 * gate.settle, max(gate.settle, gate.interval))

    def _skew(self, source: str) -> float:
        try:
            return self._client(source).skew
        except Unavailable:
            return 0.0

    def _now(self, source: str) -> float:
        """Return the time by a Prometheus' clock in Unix seconds, as far as that is known."""
        return self._clock.now() + self._skew(source)

    async def _query(self, plan: _Plan, promql: str, at: float) -> Result:
        return await self._ask(plan, lambda prometheus: prometheus.query(promql, at))

    async def _query_range(self, plan: _Plan, promql: str, start: float, end: float, step: float) -> Result:
        return await self._ask(plan, lambda prometheus: prometheus.query_range(promql, start, end, step))

    async def _ask(self, plan: _Plan, call: Callable[[Prometheus], Awaitable[Result]]) -> Result:
        """Ask a query when it is the plan's turn. Raises QueryRefused, PartialAnswer, Unavailable."""
        if not plan.slow:
            try:
                async with self._turns:
                    return await self._answer(plan, call, _QUICK_SECONDS)
            except TimeoutError:
                plan.slow = True  # and asked again, where it keeps nobody waiting but its like
        async with self._slow_turns:
            try:
                return await self._answer(plan, call, _LONGEST_QUERY)
            except TimeoutError:
                raise Unavailable(f"Prometheus did not answer within {_LONGEST_QUERY:g} s") from None

    async def _answer(self, plan: _Plan, call: Callable[[Prometheus], Awaitable[Result]], seconds: float) -> Result:
        began = self._clock.now()
        if plan.began_for is not None:
            self.rounds_late += began - plan.began_for > _LATE_SECONDS
            plan.began_for = None
        self.queries += 1
        try:
            async with asyncio.timeout(seconds):
                return await call(self._client(plan.target.source))
        except (TimeoutError, Unavailable):
            self.errors += 1
            raise
        finally:
            plan.spent += self._clock.now() - began


class _Span(NamedTuple):
    """Which blocks are read, and how far back samples have a say."""

    start: float
    end: float
    length: int
    reach: float


class _Edge(NamedTuple):
    """What was known at the end of the last block when it was read: each source's newest sample, or a query's value."""

    end: float
    settle: float
    newest: Mapping[Source | int, float]


class _Named:
    """Puts the name of a query before what Prometheus says against it."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, QueryRefused):
            raise QueryRefused(f"{self._name}: {error}") from error


def _same(one: CustomSlo, other: CustomSlo) -> bool:
    """Tell whether what is known of a gate is of use for its new version."""
    if one.queries != other.queries or one.slo.scrape_interval != other.slo.scrape_interval:
        return False
    match one.slo, other.slo:
        case RatioSlo(), RatioSlo():
            return (one.slo.good is None) == (other.slo.good is None)
        case _:
            return isinstance(one.slo, BoundSlo) and isinstance(other.slo, BoundSlo)


def _note(gate: _Gate, verdict: Verdict, message: str, now: float) -> None:
    known = gate.problem
    gate.problem = QueryProblem(verdict, message, known.since if known and known.verdict is verdict else now)


def _too_slow(plan: _Plan) -> str:
    return (
        f"Prometheus does not answer its queries within the {plan.target.block_seconds} s between two rounds,"
        f" {plan.skipped} of which were skipped; make them cheaper, with a recording rule for instance"
    )


def _baseline_wanted(plan: _Plan, gate: _Gate) -> bool:
    return gate.own.name in plan.target.baselines and gate.baseline is None


def _floor(at: float, step: float) -> float:
    return math.floor(at / step) * step
