"""Delivery of what the plans' own queries answer: each block once, problems in words, and nobody waits for another."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from tests.kit.fake_tsdb import START, FakePrometheus
from tests.kit.manual_clock import ManualClock

from cutover.api.v1alpha1.gates import BoundSlo, Mode, RatioSlo
from cutover.domain.evidence.blocks import Block
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.verdicts import Verdict
from cutover.ports.errors import PartialAnswer, QueryRefused, Unavailable
from cutover.ports.slo_feed import SloSubscription
from cutover.services import slo_queries
from cutover.services.slo_feed import PrometheusSloFeed
from cutover.services.slo_queries import REFUSED_SECONDS

LENGTH = 15
Labels = Mapping[str, str]
Answer = Callable[[float], list[tuple[Labels, float]]]


class Server:
    """A Prometheus: raw samples for selectors, anything else by what a test says."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.tsdb = FakePrometheus()
        self.answers: dict[str, Answer] = {}
        self.faults: dict[str, Exception] = {}
        self.hanging: dict[str, asyncio.Event] = {}
        self.ages: dict[str, float] = {}
        self.asked: list[str] = []
        self.at_once = self.most_at_once = 0
        self.skew = 0.0

    async def _ask(self, promql: str) -> None:
        self.asked.append(promql)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            await asyncio.sleep(0)
            for part, event in self.hanging.items():
                if part in promql:
                    await event.wait()
            for part, fault in self.faults.items():
                if part in promql:
                    raise fault
        finally:
            self.at_once -= 1

    async def query(self, promql: str, at: float) -> list[dict[str, Any]]:
        await self._ask(promql)
        if promql.endswith("ms]"):
            return self.tsdb.select(promql, at)
        if "timestamp(" in promql:
            selectors = re.findall(r'max\(timestamp\((.*?)\)\), "selector", "(\d+)"', promql)
            return [
                {"metric": {"selector": number}, "value": [at, str(at - self.ages.get(selector, 5.0))]}
                for selector, number in selectors
            ]
        return [{"metric": dict(labels), "value": [at, str(value)]} for labels, value in self.answers[promql](at)]

    async def query_range(self, promql: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        await self._ask(promql)
        found: dict[frozenset[tuple[str, str]], list[list[Any]]] = {}
        for number in range(round((end - start) / step) + 1):
            at = start + number * step
            for labels, value in self.answers[promql](at):
                found.setdefault(frozenset(labels.items()), []).append([at, str(value)])
        return [{"metric": dict(labels), "values": values} for labels, values in found.items()]


def ratio(name: str = "jobs", plan: str = "pdf", *, scrape: int = 15, good: bool = False) -> CustomSlo:
    kind = "ok" if good else "failed"
    queries = tuple(
        f'jobs_total{{plan="{plan}",leg="{leg}"{matcher}}}'
        for leg in ("heroku", "eks")
        for matcher in (f',result="{kind}"', "")
    )
    slo = RatioSlo.model_validate({"good" if good else "bad": "x", "total": "x", "scrapeInterval": f"{scrape}s"})
    return CustomSlo(name, Mode.ENFORCE, slo, queries)


def sums(plan: str = "pdf") -> CustomSlo:
    queries = tuple(f"sum({leg}_{what}_{plan})" for leg in ("heroku", "eks") for what in ("bad", "total"))
    return replace(ratio("sums"), queries=queries)


def bound(query: str = "throttled", name: str = "cpu", **more: Any) -> CustomSlo:
    slo = BoundSlo.model_validate({"query": "x", "max": 1, "for": "60s", "scrapeInterval": "30s", **more})
    return CustomSlo(name, Mode.ENFORCE, slo, (query,))


class FeedRig:
    """Jobs on both legs of some plans, a scrape every 15 s, and a runner that begins rounds when a test says so."""

    def __init__(self, plans: int = 1) -> None:
        self.clock = ManualClock()
        self.server = Server(self.clock)
        self.news: list[str] = []
        self.plans = plans
        self.scrape_at = START - 25.0
        self.own = self.fresh()
        self.scrape_to(START)

    def fresh(self, **more: Any) -> PrometheusSloFeed:
        self.own = PrometheusSloFeed(lambda source: self.server, self.clock, on_news=self.news.append, **more)
        return self.own

    def scrape_to(self, time: float) -> None:
        while self.scrape_at <= time:
            number = round((self.scrape_at - START + 25) / 15)
            for plan in range(self.plans):
                for leg, each in (("heroku", 10), ("eks", 2)):
                    common = {"plan": name(plan), "leg": leg, "pod": f"{leg}-{plan}", "job": "app", "instance": leg}
                    for result, value in (("ok", 100 + each * number), ("failed", number // 3)):
                        self.server.tsdb.add(self.scrape_at, value, __name__="jobs_total", result=result, **common)
                    self.server.tsdb.add(self.scrape_at, 1, __name__="up", **common)
            self.scrape_at += 15

    async def to(self, time: float, *, wait: bool = True, step: float = 1.0) -> None:
        """Let time go by, with rounds as they are due."""
        while self.clock.time < time:
            self.clock.time = min(self.clock.time + step, time)
            self.scrape_to(self.clock.time)
            await self.rounds(wait=wait)

    async def rounds(self, *, wait: bool = True) -> None:
        tasks = self.own.start_rounds()
        if wait and tasks:
            await asyncio.gather(*tasks)
        for _ in range(20):
            await asyncio.sleep(0)


def name(plan: int) -> str:
    return "pdf" if not plan else f"pdf-{plan}"


def target(*gates: CustomSlo, since: float = START, **more: Any) -> SloSubscription:
    ratios = {gate.name: since for gate in gates if isinstance(gate.slo, RatioSlo)}
    return SloSubscription("", gates, LENGTH, ratios, more.pop("judged_from", START), **more)


def ends(blocks: tuple[Block, ...]) -> list[float]:
    return [block.end - START for block in blocks]


@pytest.fixture
async def world() -> AsyncIterator[FeedRig]:
    made = FeedRig()
    yield made
    for event in made.server.hanging.values():
        event.set()
    for key in list(made.own._plans):
        made.own.forget(key)


async def test_a_plan_that_cannot_be_timed_stops_no_other(world: FeedRig) -> None:
    world.own.watch("ns/ill", target(bound()))
    world.own.watch("ns/pdf", target(ratio()))
    world.own._plans["ns/ill"].subscription = replace(target(bound()), block_seconds=0)
    await world.to(START + 8 * LENGTH)
    assert len(world.own.take("ns/pdf")["jobs"].blocks) >= 6
    assert not world.own.take("ns/ill")["cpu"].points


async def test_blocks_come_once_in_order_and_are_the_same_after_a_restart(world: FeedRig) -> None:
    gate = ratio()
    world.own.watch("ns/pdf", target(gate))
    got: list[Block] = []
    while world.clock.time < START + 20 * LENGTH:
        await world.to(world.clock.time + 37)
        blocks = world.own.take("ns/pdf")["jobs"].blocks
        got += blocks
        world.own.watch("ns/pdf", target(gate, since=got[-1].end))
    assert ends(tuple(got)) == [LENGTH * (number + 1) for number in range(len(got))]
    assert len(got) >= 19
    assert all(block.usable for block in got)
    assert {block.heroku.requests - block.heroku.errors for block in got} == {10}
    assert {block.eks.requests - block.eks.errors for block in got} == {2}
    assert sum(block.eks.errors for block in got) == sum(block.heroku.errors for block in got) >= 6
    assert world.own.late_samples == 0
    again = world.fresh()
    again.watch("ns/pdf", target(gate, since=START + 5 * LENGTH))
    await world.rounds()
    assert list(again.take("ns/pdf")["jobs"].blocks) == got[5:]


async def test_good_events(world: FeedRig) -> None:
    world.own.watch("ns/pdf", target(ratio(), ratio("good", good=True)))
    await world.to(START + 10 * LENGTH)
    taken = world.own.take("ns/pdf")
    assert taken["good"].blocks == taken["jobs"].blocks != ()


async def test_blocks_that_a_plan_could_not_keep_are_given_again_and_nothing_is_asked(world: FeedRig) -> None:
    world.own.watch("ns/pdf", target(ratio()))
    await world.to(START + 4 * LENGTH)
    first = world.own.take("ns/pdf")["jobs"].blocks
    asked = len(world.server.asked)
    world.own.watch("ns/pdf", target(ratio(), since=START + LENGTH))
    assert world.own.take("ns/pdf")["jobs"].blocks == first[1:]
    assert len(world.server.asked) == asked


async def test_replay_is_bounded_in_time_and_in_pieces(world: FeedRig) -> None:
    world.clock.time = START
    await world.to(START + 5000, step=5000)
    world.own.watch("ns/pdf", target(ratio()))
    asked = len(world.server.asked)
    await world.rounds()
    assert len(world.server.asked) - asked == 5
    assert 230 <= len(world.own.take("ns/pdf")["jobs"].blocks) <= 240
    await world.rounds()
    blocks = world.own.take("ns/pdf")["jobs"].blocks
    assert ends(blocks)[-1] >= 4980
    world.own.watch("ns/old", target(ratio(), since=START - 1e6))
    await world.rounds()
    assert world.own.take("ns/old")["jobs"].blocks[0].start >= world.clock.time - 24 * 3600


async def test_new_pod_that_served_nothing_yet_is_asked_for_its_past(world: FeedRig) -> None:
    world.own.watch("ns/pdf", target(ratio()))
    new = {"plan": "pdf", "leg": "eks", "pod": "new", "job": "app", "instance": "new"}
    for number in range(-2, 8):
        world.server.tsdb.add(START + number * LENGTH + 3, 1, __name__="up", **new)
        if number >= 4:
            value = 7 * (number - 3)
            world.server.tsdb.add(START + number * LENGTH + 3, value, __name__="jobs_total", result="ok", **new)
    # Of another one it is known that it counted before: what relays it was in trouble.
    back = {"plan": "pdf", "leg": "heroku", "pod": "back", "job": "app", "instance": "back"}
    for number in range(-20, 8):
        world.server.tsdb.add(START + number * LENGTH + 3, 1, __name__="up", **back)
        if number < -10 or number >= 6:
            value = 1000 + number
            world.server.tsdb.add(START + number * LENGTH + 3, value, __name__="jobs_total", result="ok", **back)
    await world.to(START + 9 * LENGTH)
    blocks = world.own.take("ns/pdf")["jobs"].blocks
    assert [block.eks.requests - block.eks.errors for block in blocks[3:6]] == [2, 9, 9]
    assert [block.gap for block in blocks if block.gap] == [
        "total of Heroku: scrape target back is new, or was not scraped for 37.5 s"
    ]
    # Once for each of the four selectors, and each of the two counters.
    assert sum(query.endswith("[3600000ms]") for query in world.server.asked) == 8


async def test_plan_that_goes_back_while_it_is_asked_for(world: FeedRig) -> None:
    world.own.watch("ns/pdf", target(ratio(), since=START + 3 * LENGTH))
    await world.to(START + 3 * LENGTH)
    hangs = world.server.hanging["up{"] = asyncio.Event()
    await world.to(START + 5 * LENGTH, wait=False)
    world.own.watch("ns/pdf", target(ratio(), since=START + LENGTH))
    hangs.set()
    await world.to(START + 6 * LENGTH)
    assert ends(world.own.take("ns/pdf")["jobs"].blocks) == [LENGTH * number for number in (2, 3, 4, 5)]


async def test_expressions_are_counted_at_the_ends_of_blocks(world: FeedRig) -> None:
    gate = sums()
    for query, each in zip(gate.queries, (1, 10, 0, 2), strict=True):
        world.server.answers[query] = lambda at, each=each: [({}, each * (at - START) / LENGTH + 50)]
    world.server.answers[gate.queries[0]] = lambda at: [] if at == START + 30 else [({}, (at - START) / LENGTH)]
    world.own.watch("ns/pdf", target(gate))
    await world.to(START + 5 * LENGTH)
    blocks = world.own.take("ns/pdf")["sums"].blocks
    assert [block.gap for block in blocks] == [
        "",
        "bad of Heroku: it has no value; where that means 0, add: or vector(0)",
        "bad of Heroku: it has no value; where that means 0, add: or vector(0)",
        "",
    ]
    assert (blocks[0].heroku.errors, blocks[0].heroku.requests, blocks[0].eks.requests) == (1, 10, 2)


async def test_expression_that_is_back_after_a_missed_scrape(world: FeedRig) -> None:
    gate = sums()
    for query in gate.queries:
        world.server.answers[query] = lambda at: [({}, 0 if at == START + 30 else at - START + 500)]
    world.own.watch("ns/pdf", target(gate))
    await world.to(START + 5 * LENGTH)
    blocks = world.own.take("ns/pdf")["sums"].blocks
    assert [block.usable for block in blocks] == [True, False, False, True]
    assert "it fell, and is back at 545" in blocks[2].gap


async def test_expression_with_several_series_is_ambiguous_for_as_long(world: FeedRig) -> None:
    gate = sums()
    for query in gate.queries:
        world.server.answers[query] = lambda at: [({"pod": "a"}, at - START)]
    world.server.answers[gate.queries[3]] = lambda at: [({"pod": p}, at) for p in ("ab" if at < START + 40 else "a")]
    world.own.watch("ns/pdf", target(gate))
    await world.to(START + 2 * LENGTH)
    problem = world.own.take("ns/pdf")["sums"].problem
    assert problem is not None
    assert problem.verdict is Verdict.AMBIGUOUS
    assert problem.message == 'total of EKS: it has 2 series where one is expected, such as pod="a" and pod="b"'
    await world.to(START + 5 * LENGTH)
    reading = world.own.take("ns/pdf")["sums"]
    assert reading.problem is None
    assert [block.usable for block in reading.blocks] == [False, False, True]


async def test_stale_samples_of_an_expression_are_no_silence(world: FeedRig) -> None:
    gate = sums()
    for query in gate.queries:
        world.server.answers[query] = lambda at: [({}, 5)]
    world.server.ages["eks_total_pdf"] = 31.0
    world.own.watch("ns/pdf", target(gate))
    await world.to(START + 2 * LENGTH)
    problem = world.own.take("ns/pdf")["sums"].problem
    assert problem is not None
    assert (problem.verdict, problem.message) == (
        Verdict.NO_DATA,
        "the newest sample of eks_total_pdf is 31 s old",
    )


async def test_queries_without_any_series_are_no_data(world: FeedRig) -> None:
    world.own.watch("ns/pdf", target(ratio(plan="typo")))
    await world.to(START + 2 * LENGTH)
    reading = world.own.take("ns/pdf")["jobs"]
    assert reading.problem is not None
    assert (reading.problem.verdict, reading.problem.message) == (
        Verdict.NO_DATA,
        "none of the queries had a sample in 37.5 s, not even the totals; are they right?",
    )
    assert len(reading.blocks) == 1
    assert reading.blocks[0].gap


async def test_refused_query_says_where_and_is_not_asked_all_the_time(world: FeedRig) -> None:
    gate = ratio()
    world.server.faults['leg="eks",result'] = QueryRefused("1:11: parse error: unexpected <by>")
    world.own.watch("ns/pdf", target(gate))
    await world.to(START + 2 * LENGTH)
    problem = world.own.take("ns/pdf")["jobs"].problem
    assert problem is not None
    assert (problem.verdict, problem.message) == (
        Verdict.QUERY_ERROR,
        "bad of EKS: 1:11: parse error: unexpected <by>",
    )
    assert "ns/pdf" in world.news
    times = sum('leg="eks",result' in query for query in world.server.asked)
    await world.to(START + 2 * LENGTH + REFUSED_SECONDS - LENGTH)
    assert sum('leg="eks",result' in query for query in world.server.asked) - times <= 1
    # Another query is asked at once, and no block is lost.
    world.own.watch("ns/pdf", target(replace(gate, queries=(*gate.queries[:2], gate.queries[3], gate.queries[3]))))
    await world.rounds()
    reading = world.own.take("ns/pdf")["jobs"]
    assert reading.problem is None
    assert ends(reading.blocks)[0] == LENGTH


async def test_outage_is_no_verdict_and_loses_nothing(world: FeedRig) -> None:
    world.own.watch("ns/pdf", target(ratio()))
    await world.to(START + 2 * LENGTH)
    world.server.faults["jobs_total"] = Unavailable("Prometheus at x cannot be connected to")
    await world.to(START + 9 * LENGTH)
    problem = world.own.take("ns/pdf")["jobs"].problem
    assert problem is not None
    assert (problem.verdict, problem.message) == (Verdict.NO_DATA, "Prometheus at x cannot be connected to")
    assert START + 2 * LENGTH < problem.since < START + 4 * LENGTH
    world.server.faults.clear()
    await world.to(START + 10 * LENGTH)
    reading = world.own.take("ns/pdf")["jobs"]
    assert reading.problem is None
    assert ends(reading.blocks)[-1] == 9 * LENGTH
    assert world.own.errors > 0


@pytest.mark.parametrize("gate", [ratio(), bound()])
async def test_partial_answer_is_no_answer(world: FeedRig, gate: CustomSlo) -> None:
    world.server.faults[""] = PartialAnswer("Prometheus warns that its answer is not complete: store gone")
    world.own.watch("ns/pdf", target(gate))
    await world.to(START + 4 * LENGTH)
    reading = world.own.take("ns/pdf")[gate.name]
    assert reading.problem is not None
    assert reading.problem.verdict is Verdict.QUERY_ERROR
    assert not reading.blocks
    assert not reading.points


@pytest.mark.parametrize("gate", [ratio(), bound()])
async def test_answer_of_another_shape(world: FeedRig, gate: CustomSlo, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nonsense(*args: Any) -> Any:
        return [{"value": "x"}]

    monkeypatch.setattr(world.server, "query", nonsense)
    monkeypatch.setattr(world.server, "query_range", nonsense)
    world.own.watch("ns/pdf", target(gate))
    await world.to(START + 4 * LENGTH)
    problem = world.own.take("ns/pdf")[gate.name].problem
    assert problem is not None
    assert problem.verdict is Verdict.NO_DATA
    assert "not understood" in problem.message


async def test_values_of_a_bound(world: FeedRig) -> None:
    world.server.answers["throttled"] = lambda at: [({}, at - START)]
    world.own.watch("ns/pdf", target(bound(), judged_from=START + 40))
    await world.to(START + 55)
    assert world.own.take("ns/pdf")["cpu"] == SloReading()  # nothing is old enough to be of this weight
    await world.to(START + 190)
    reading = world.own.take("ns/pdf")["cpu"]
    # The last ``for`` and one step, at times that do not depend on when it is asked.
    assert reading.points == tuple((START + at, at) for at in (90, 120, 150, 180))
    assert reading.problem is None
    assert 182 <= reading.asked_at - START <= 190
    assert world.own.take("ns/pdf")["cpu"] == reading
    assert len(world.news) == 5  # from 60 s on, as often as there is a new value
    world.own.watch("ns/pdf", target(bound(), judged_from=None))
    await world.to(START + 220)
    assert world.own.take("ns/pdf")["cpu"].points == ((START + 210, 210),)


@pytest.mark.parametrize(
    ("answer", "verdict", "message"),
    [
        (lambda at: [], Verdict.NO_DATA, "the query gives no value; are its metrics there?"),
        (
            lambda at: [({}, math.nan)],
            Verdict.NO_DATA,
            "the query gives only values that are no numbers; are its metrics there?",
        ),
        (
            lambda at: [({"pod": pod}, 1) for pod in "abc"],
            Verdict.AMBIGUOUS,
            'the query has 3 series where one is expected, such as pod="a" and pod="b"',
        ),
        (
            lambda at: [({}, 1)] if at < START + 30 else [],
            Verdict.NO_DATA,
            "the query gives no value; are its metrics there?",
        ),
    ],
)
async def test_bound_without_a_value(world: FeedRig, answer: Answer, verdict: Verdict, message: str) -> None:
    world.server.answers["throttled"] = answer
    world.own.watch("ns/pdf", target(bound(**{"for": "300s"})))
    await world.to(START + 160)
    problem = world.own.take("ns/pdf")["cpu"].problem
    assert problem is not None
    assert (problem.verdict, problem.message) == (verdict, message)


async def test_stale_samples_are_no_value(world: FeedRig) -> None:
    query = 'sum(rate(a{x="1"}[2m])) / sum(b offset 5m)'
    world.server.answers[query] = lambda at: [({}, 0.5)]
    world.server.ages["b"] = 61.0
    world.own.watch("ns/pdf", target(bound(query)))
    await world.to(START + 100)
    problem = world.own.take("ns/pdf")["cpu"].problem
    assert problem is not None
    assert (problem.verdict, problem.message) == (Verdict.NO_DATA, "the newest sample of b is 61 s old")
    since = problem.since
    world.server.ages["b"] = 65.0
    await world.to(START + 140)
    problem = world.own.take("ns/pdf")["cpu"].problem
    assert problem is not None
    assert problem.since == since
    world.server.ages["b"] = 60.0
    await world.to(START + 180)
    assert world.own.take("ns/pdf")["cpu"].problem is None


async def test_value_before_the_migration_is_asked_for_once(world: FeedRig) -> None:
    gate = bound(timesBaseline=2)
    query = "quantile_over_time(0.95, (throttled\n)[1d:5m])"
    world.server.answers["throttled"] = lambda at: [({}, 0.5)]
    world.server.answers[query] = lambda at: []
    world.own.watch("ns/pdf", target(gate, baselines=frozenset({"cpu"})))
    await world.to(START + 20)
    reading = world.own.take("ns/pdf")["cpu"]
    assert reading.baseline is None
    assert reading.problem is not None
    assert reading.problem.message == "the query gave no value in the last day"
    world.server.answers[query] = lambda at: [({}, 0.25)]
    await world.to(START + 300)
    assert world.own.take("ns/pdf")["cpu"].baseline == 0.25
    assert world.own.take("ns/pdf")["cpu"].problem is None
    assert world.server.asked.count(query) == 2
    world.own.watch("ns/pdf", target(gate))
    assert world.own.take("ns/pdf")["cpu"].baseline is None


async def test_query_that_hangs_delays_its_own_plan_only() -> None:
    world = FeedRig(plans=2)
    world.server.hanging["hangs"] = asyncio.Event()
    world.server.answers["hangs"] = lambda at: [({}, 0.5)]
    world.own.watch("ns/slow", target(bound("hangs")))
    world.own.watch("ns/pdf-1", target(ratio(plan="pdf-1")))
    await world.to(START + 12 * LENGTH, wait=False)
    assert ends(world.own.take("ns/pdf-1")["jobs"].blocks)[-1] >= 10 * LENGTH
    problem = world.own.take("ns/slow")["cpu"].problem
    assert problem is not None
    assert problem.verdict is Verdict.NO_DATA
    assert "does not answer its queries within the 15 s" in problem.message
    assert "ns/slow" in world.news
    assert world.own.rounds_skipped >= 3
    assert sum("hangs" in query for query in world.server.asked) == 1
    world.server.hanging["hangs"].set()
    await world.to(START + 20 * LENGTH)
    reading = world.own.take("ns/slow")["cpu"]
    assert reading.problem is None
    assert reading.points
    world.own.forget("ns/slow")


@pytest.mark.usefixtures("virtual_time")
async def test_plans_that_hang_have_few_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them keeps others waiting once, and then only its like."""
    monkeypatch.setattr("cutover.services.slo_queries.QUICK_SECONDS", 0.02)
    world = FeedRig()
    world.server.hanging["hangs"] = asyncio.Event()
    for number in range(30):
        world.own.watch(f"ns/slow-{number}", target(bound("hangs")))
    world.own.start_rounds()
    world.own.watch("ns/pdf", target(ratio()))
    world.clock.time += LENGTH + 10
    world.scrape_to(world.clock.time)
    await world.rounds(wait=False)
    assert world.server.most_at_once <= 8
    await asyncio.sleep(0.5)
    assert world.own.take("ns/pdf")["jobs"].blocks
    assert world.server.at_once == 2
    before = len(world.server.asked)
    world.own.watch("ns/pdf", target(ratio(), bound("throttled")))
    world.server.answers["throttled"] = lambda at: [({}, 0.5)]
    await world.rounds(wait=False)
    assert world.own.take("ns/pdf")["cpu"].points
    assert len(world.server.asked) - before == 2  # nothing else was in the way
    for number in range(30):
        world.own.forget(f"ns/slow-{number}")
    await world.rounds(wait=False)
    assert world.server.at_once == 0


async def test_thousand_plans_do_not_ask_in_the_same_instant() -> None:
    world = FeedRig()
    world.server.answers["throttled"] = lambda at: [({}, 0.5)]
    for number in range(1000):
        world.own.watch(f"ns/{number}", target(bound(scrapeInterval="15s")))
    await world.rounds()
    assert world.server.most_at_once <= 8
    per_instant = []
    while world.clock.time < START + 2 * LENGTH:
        before = len(world.server.asked)
        await world.to(world.clock.time + 0.5, step=0.5)
        per_instant.append(len(world.server.asked) - before)
    assert max(per_instant) <= 350  # of 2,000 in a round
    assert sum(per_instant[-30:]) == 2000
    assert world.own.rounds_late == 0


async def test_run_serves_and_stops(world: FeedRig) -> None:
    world.server.answers["throttled"] = lambda at: [({}, 0.5)]
    heard = asyncio.Event()
    world.own = PrometheusSloFeed(lambda source: world.server, world.clock, on_news=lambda key: heard.set())
    task = asyncio.create_task(world.own.run())
    await asyncio.sleep(0)
    world.clock.time = START + 40
    world.own.watch("ns/pdf", target(bound()))
    await heard.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.own.take("ns/pdf")["cpu"].points


async def test_sample_that_is_seen_late_makes_it_wait_longer(world: FeedRig) -> None:
    world.server.tsdb.delay, world.server.tsdb.now = 20.0, START
    world.own.watch("ns/pdf", target(ratio()))
    for second in range(1, 12 * LENGTH):
        world.server.tsdb.now = START + second
        await world.to(START + second)
    assert world.own.late_samples >= 1
    blocks = world.own.take("ns/pdf")["jobs"].blocks
    assert sum(block.heroku.requests - block.heroku.errors for block in blocks[-3:]) == 30


async def test_time_is_that_of_prometheus(world: FeedRig) -> None:
    world.server.answers["throttled"] = lambda at: [({}, 0.5)]
    world.server.skew = 3600.0
    world.own.watch("ns/pdf", target(bound()))
    await world.to(START + 40)
    reading = world.own.take("ns/pdf")["cpu"]
    assert reading.points[-1][0] == START + 3630
    assert reading.asked_at > START + 3600


async def test_unknown_source_is_an_outage(world: FeedRig) -> None:
    def nowhere(source: str) -> Any:
        raise Unavailable(f"there is no Prometheus {source}")

    own = PrometheusSloFeed(nowhere, world.clock, on_news=world.news.append)
    own.watch("ns/pdf", target(bound()))
    world.own = own
    await world.to(START + 40)
    problem = own.take("ns/pdf")["cpu"].problem
    assert problem is not None
    assert problem.verdict is Verdict.NO_DATA


async def test_what_is_forgotten_is_not_asked_for(world: FeedRig) -> None:
    world.own.watch("ns/pdf", target(ratio()))
    await world.to(START + 2 * LENGTH)
    world.own.forget("ns/pdf")
    asked = len(world.server.asked)
    await world.to(START + 4 * LENGTH)
    assert len(world.server.asked) == asked
    assert world.own.take("ns/pdf") == {}


# ------------------------------------------------------------------------------------------------------------- memory


async def test_a_selector_of_too_many_samples_is_read_in_smaller_pieces(
    world: FeedRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.to(START + 40 * LENGTH, step=40 * LENGTH)
    monkeypatch.setattr(slo_queries, "MOST_SAMPLES", 120)  # of six series: 20 scrapes
    world.own.watch("ns/pdf", target(ratio()))
    await world.to(world.clock.time + 1)
    problem = world.own.take("ns/pdf")["jobs"].problem
    assert problem is not None
    assert problem.verdict is Verdict.NO_DATA
    assert "more than 120 samples" in problem.message
    assert "recording rule" in problem.message
    await world.to(START + 60 * LENGTH)
    reading = world.own.take("ns/pdf")["jobs"]
    assert reading.problem is None
    assert ends(reading.blocks) == [LENGTH * (number + 1) for number in range(59)]


async def test_answers_of_only_so_many_slos_are_in_memory() -> None:
    """One slot for quick plans: the next plan's first query comes after the last of the plan before."""
    world = FeedRig(3)
    world.fresh(concurrency=2)
    await world.to(START + 3 * LENGTH)
    for plan in range(3):
        world.own.watch(f"ns/{name(plan)}", target(ratio(plan=name(plan))))
    await world.rounds()
    asked = [re.findall(r'plan="([^"]*)",leg', query) for query in world.server.asked if "jobs_total" in query]
    assert [found[0] for found in asked] == [name(plan) for plan in range(3) for _ in range(4)]
