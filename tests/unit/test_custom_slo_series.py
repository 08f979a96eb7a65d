"""From what a ratio's queries answered to blocks: every event in exactly one block, or a reason."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.fake_tsdb import START, FakePrometheus

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.slo.expressions import rise
from cutover.domain.slo.ratio import Count, block_length, blocks_of
from cutover.domain.slo.series import MEMORY_SECONDS, SeriesReading, count

LENGTH = 30
REACH = 75.0
SELECTORS = tuple(
    f'jobs_total{{leg="{leg}"{matcher}}}' for leg in ("heroku", "eks") for matcher in (',result="failed"', "")
)
Result = list[dict[str, Any]]


@dataclass
class App:
    """One process of a leg, which counts jobs by their result."""

    leg: str
    pod: str
    labels: dict[str, str] = field(default_factory=dict)
    jobs: Counter[str] = field(default_factory=Counter)

    def do(self, ok: int = 0, failed: int = 0) -> None:
        for result, times in (("ok", ok), ("failed", failed)):
            if times:
                self.jobs[result] += times

    def scrape(self, tsdb: FakePrometheus, at: float, *, counters: bool = True) -> None:
        target = {"namespace": "shop", "pod": self.pod, "job": "app", "instance": f"{self.pod}:8080", **self.labels}
        tsdb.add(at, 1, __name__="up", **target)
        if counters:
            for result, value in self.jobs.items():
                tsdb.add(at, value, __name__="jobs_total", leg=self.leg, result=result, **target)


def blocks(tsdb: FakePrometheus, number: int, first: int = 0, *, presence: bool = True) -> list[Block]:
    start, end = START + first * LENGTH, START + (first + number) * LENGTH
    window = round((end - start + REACH) * 1000)
    reading = SeriesReading()
    for query, selector in enumerate(SELECTORS):
        reading.add_selector(query, tsdb.select(f"{selector}[{window}ms]", end))
    if presence and (up := reading.presence_query()):
        reading.add_presence(tsdb.select(f"{up}[{window}ms]", end))
    columns = count(reading, start=start, end=end, length=LENGTH, reach=REACH)
    if reading.unproven:
        for selector in SELECTORS:
            reading.add_past(tsdb.select(f"{selector}[3600000ms]", end - window / 1000))
        columns = count(reading, start=start, end=end, length=LENGTH, reach=REACH)
    return blocks_of([columns[query] for query in range(4)], good=False, start=start, length=LENGTH)


class Story:
    """A process of each leg, scraped 5 s into every block from one block before the first."""

    def __init__(self) -> None:
        self.tsdb = FakePrometheus()
        self.heroku, self.eks = App("heroku", "dyno-1"), App("eks", "pdf-1")
        for app in (self.heroku, self.eks):
            app.do(ok=1000)
            app.scrape(self.tsdb, START - 25)

    def scrape(self, block: int, *apps: App) -> None:
        for app in apps or (self.heroku, self.eks):
            app.scrape(self.tsdb, START + block * LENGTH + 5)


def counts(block: Block) -> tuple[float, ...]:
    assert block.usable, block.gap
    return block.heroku.errors, block.heroku.requests, block.eks.errors, block.eks.requests


def test_counts_of_both_legs_and_the_first_failure_ever() -> None:
    story = Story()
    story.heroku.do(ok=40)
    story.eks.do(ok=7, failed=1)
    story.scrape(0)
    story.eks.do(ok=1, failed=2)
    story.scrape(1)
    assert [counts(block) for block in blocks(story.tsdb, 2)] == [(0, 40, 1, 8), (0, 0, 2, 3)]


def test_restart_counts_from_zero() -> None:
    story = Story()
    story.eks.jobs.clear()
    story.eks.do(ok=5, failed=3)
    story.scrape(0)
    assert [counts(block) for block in blocks(story.tsdb, 1)] == [(0, 0, 3, 8)]


def test_restart_that_some_counters_hide() -> None:
    story = Story()
    story.eks.do(failed=3)
    story.scrape(0)
    story.eks.jobs.clear()
    story.eks.do(ok=50, failed=9)
    story.scrape(1)
    assert blocks(story.tsdb, 2)[1].gap == "bad of EKS: scrape target pdf-1 lost some of its counters"


def test_restart_that_shows_only_in_a_counter_that_is_gone() -> None:
    story = Story()
    story.eks.do(failed=1)
    story.scrape(0)
    story.eks.jobs.clear()
    story.eks.do(ok=1500)
    story.scrape(1)
    assert blocks(story.tsdb, 2)[1].gap == "bad of EKS: scrape target pdf-1 lost some of its counters"


def test_pod_that_is_replaced() -> None:
    """The new one has served nothing at its first scrape, and is known by ``up`` only."""
    story = Story()
    new = App("eks", "pdf-2")
    story.scrape(0, story.heroku, story.eks, new)
    new.do(ok=20, failed=2)
    story.scrape(1, story.heroku, new)
    story.scrape(2, story.heroku, new)
    assert [counts(block) for block in blocks(story.tsdb, 3)] == [(0, 0, 0, 0), (0, 0, 2, 22), (0, 0, 0, 0)]


def test_target_that_comes_with_a_history_is_only_a_starting_point() -> None:
    story = Story()
    new = App("eks", "pdf-2")
    new.do(ok=12345)
    story.scrape(0)
    story.scrape(1, story.heroku, story.eks, new)
    new.do(ok=4)
    story.scrape(2, story.heroku, story.eks, new)
    first, second, third = blocks(story.tsdb, 3)
    assert (counts(first), counts(third)) == ((0, 0, 0, 0), (0, 0, 0, 4))
    assert second.gap == "total of EKS: scrape target pdf-2 is new, or was not scraped for 75 s"


@pytest.mark.parametrize("missing", [1, 2, 3, 10])
def test_relay_that_answers_without_the_counters_for_a_while(missing: int) -> None:
    """``up`` is 1 all the time (Istio's agent answers for the app): no lifetime must come back as an increment."""
    story = Story()
    for number in range(missing + 3):
        story.eks.do(ok=10)
        story.heroku.do(ok=1)
        story.heroku.scrape(story.tsdb, START + number * LENGTH + 5)
        story.eks.scrape(story.tsdb, START + number * LENGTH + 5, counters=not 1 <= number <= missing)
    found = blocks(story.tsdb, missing + 3)
    assert all(block.eks.requests in (0, 10) for block in found)
    assert "pdf-1" in found[1 + missing].gap
    assert found[2 + missing].usable


def test_missed_scrapes() -> None:
    story = Story()
    for number in range(7):
        story.eks.do(ok=10)
        story.scrape(number, story.heroku, *([story.eks] if number not in {1, 3, 4} else []))
    assert [block.gap for block in blocks(story.tsdb, 7)] == [
        "",
        "total of EKS: no samples",
        "",
        "total of EKS: no samples",
        "total of EKS: no samples",
        "total of EKS: scrape target pdf-1 is new, or was not scraped for 75 s",
        "",
    ]
    assert [block.eks.requests for block in blocks(story.tsdb, 7)] == [10, 0, 20, 0, 0, 0, 10]


def test_leg_that_has_nothing_yet_or_is_gone_is_empty() -> None:
    tsdb, heroku = FakePrometheus(), App("heroku", "dyno-1")
    eks = App("eks", "pdf-1")
    eks.do(ok=5)
    for number in range(-1, 8):
        heroku.do(ok=10)
        heroku.scrape(tsdb, START + number * LENGTH + 5)
        if number <= 1:
            eks.scrape(tsdb, START + number * LENGTH + 5)
    found = blocks(tsdb, 8)
    assert [block.gap for block in found] == ["", "", *["total of EKS: no samples"] * 2, "", "", "", ""]
    assert counts(found[7]) == (0, 10, 0, 0)


def test_nothing_at_all_is_no_evidence_of_silence() -> None:
    assert [block.gap for block in blocks(FakePrometheus(), 2)] == ["total of Heroku: no samples"] * 2


@pytest.mark.parametrize(
    "labels",
    [
        {"prometheus_replica": "prometheus-1"},
        {"replica": "1"},
        {"__replica__": "b"},
        {"job": "the-same-pods-again"},
        {"job": "the-same-pods-again", "instance": "10.0.0.1:15020"},
    ],
)
def test_same_process_known_twice_counts_once(labels: dict[str, str]) -> None:
    story = Story()
    twin = App("eks", "pdf-1", labels, story.eks.jobs)
    twin.scrape(story.tsdb, START - 11)
    for number in range(12):
        story.eks.do(ok=10, failed=number == 2)
        if not 4 <= number <= 8:  # then it is not scraped any more by the first one, and later is again
            story.eks.scrape(story.tsdb, START + number * LENGTH + 5)
        story.eks.do(ok=3, failed=number == 3)
        twin.scrape(story.tsdb, START + number * LENGTH + 19)
        story.scrape(number, story.heroku)
    found = blocks(story.tsdb, 12)
    # As the first one sees it: what happened after its scrape is in the next block.
    assert [block.eks.requests for block in found[:4]] == [10, 13, 14, 13]
    assert [number for number, block in enumerate(found) if block.gap] == [4, 5, 9]
    assert "not scraped by job" in found[4].gap
    assert "another job or Prometheus before" in found[5].gap
    assert "another job or Prometheus before" in found[9].gap
    assert [block.eks.requests for block in found[6:9]] == [13, 13, 13]
    assert found[11].eks.requests == 13


def test_first_failure_is_told_by_who_tells_of_all_events() -> None:
    """Another job saw it in the block before: its counts belong to other times."""
    story = Story()
    twin = App("eks", "pdf-1", {"job": "twin"}, story.eks.jobs)
    twin.scrape(story.tsdb, START - 11)
    for number in range(4):
        story.eks.do(ok=10)
        story.scrape(number)
        story.eks.do(failed=3 if number == 1 else 0)
        twin.scrape(story.tsdb, START + number * LENGTH + 19)
    assert [counts(block)[2:] for block in blocks(story.tsdb, 4)] == [(0, 10), (0, 10), (3, 13), (0, 10)]


def test_failures_that_another_target_of_the_pod_counts() -> None:
    story = Story()
    side = App("eks", "pdf-1", {"job": "sidecar", "instance": "pdf-1:9090"})
    reading, end = SeriesReading(), START + LENGTH
    side.do(failed=5)
    side.scrape(story.tsdb, START - 20)
    side.do(failed=2)
    side.scrape(story.tsdb, START + 9)
    story.eks.do(ok=10)
    story.scrape(0)
    for query, selector in enumerate((SELECTORS[0], SELECTORS[1], SELECTORS[2], 'jobs_total{leg="eks",job="app"}')):
        reading.add_selector(query, story.tsdb.select(f"{selector}[105000ms]", end))
    columns = count(reading, start=START, end=end, length=LENGTH, reach=REACH)
    assert (columns[2], columns[3]) == ([Count(2)], [Count(10)])


def test_parts_of_what_has_no_instance_begin_anew_one_by_one() -> None:
    tsdb = FakePrometheus()
    for at, first, second in ((-25.0, 100, 100), (5.0, 110, 4)):
        for dyno, value in (("web.1", first), ("web.2", second)):
            tsdb.add(START + at, value, __name__="jobs_total", leg="heroku", result="ok", dyno=dyno)
    assert counts(blocks(tsdb, 1)[0]) == (0, 14, 0, 0)


def test_metric_with_a_pod_of_its_own_is_present_by_job_and_instance() -> None:
    """CAdvisor's metrics: the pod is the one that is described, ``up`` is the node's."""
    tsdb, heroku = FakePrometheus(), App("heroku", "dyno-1")
    for at, value in ((-25.0, None), (5.0, 3)):
        heroku.do(ok=1)
        heroku.scrape(tsdb, START + at)
        tsdb.add(START + at, 1, __name__="up", job="kubelet", instance="node-7")
        if value:
            labels = {"leg": "eks", "result": "ok", "pod": "pdf-1", "job": "kubelet", "instance": "node-7"}
            tsdb.add(START + at, value, __name__="jobs_total", **labels)
    assert counts(blocks(tsdb, 1)[0]) == (0, 1, 0, 3)
    assert not blocks(tsdb, 1, presence=False)[0].usable


@pytest.mark.parametrize("value", [math.nan, -1.0, math.inf])
def test_what_is_no_count(value: float) -> None:
    story = Story()
    story.eks.jobs["ok"] = value  # type: ignore[assignment]
    story.scrape(0)
    assert blocks(story.tsdb, 1)[0].gap == "total of EKS: a counter of scrape target pdf-1 is not a number or negative"


def test_good_events_instead_of_bad_ones() -> None:
    columns = [[Count(95)], [Count(100)], [Count(3)], [Count(10)]]
    assert blocks_of(columns, good=True, start=START, length=30) == [
        Block(START, START + 30, Counts(100, 5), Counts(10, 7))
    ]
    columns[2] = [Count(11)]
    assert blocks_of(columns, good=True, start=START, length=30)[0].gap == "more good events than all events on EKS"
    assert blocks_of(columns, good=False, start=START, length=30)[0].gap == "more bad events than all events on EKS"


def matrix(*series: tuple[dict[str, str], dict[float, float]]) -> Result:
    return [
        {"metric": labels, "values": [[START + at, str(value)] for at, value in values.items()]}
        for labels, values in series
    ]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (matrix(({}, {0: 5, 30: 7, 60: 7})), [(2, ""), (0, "")]),
        (matrix(({}, {0: 5, 60: 7})), [(0, "no value")] * 2),
        (matrix(), [(0, "or vector(0)")] * 2),
        (matrix(({}, {0: 5, 30: 3, 60: 4})), [(0, "fell from 5 to 3"), (1, "")]),
        (matrix(({}, {0: 5, 30: math.nan, 60: 4})), [(0, "no count")] * 2),
        (matrix(({}, {0: -1, 30: 1, 60: 4})), [(0, "no count"), (3, "")]),
        (matrix(({"pod": "a"}, {0: 1}), ({"pod": "b"}, {30: 3, 60: 4})), [(0, "another series"), (1, "")]),
        (
            matrix(({"pod": "a"}, {0: 1, 30: 2, 60: 3}), ({"pod": "b"}, {30: 3})),
            [(0, 'it has 2 series where one is expected, such as pod="a" and pod="b"')] * 2,
        ),
    ],
)
def test_rise_of_an_expression(result: Result, expected: list[tuple[float, str]]) -> None:
    found = rise(result, start=START, end=START + 60, length=30)
    assert [one.value for one in found] == [value for value, _ in expected]
    for one, (_, text) in zip(found, expected, strict=True):
        assert text in one.gap
        assert bool(text) == bool(one.gap)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # A scrape that failed, of one process and of the only one.
        ({-30: 90, 0: 50, 30: 110}, [(0, "it fell, and is back at 110"), (0, "no value")]),
        ({-90: 90, -60: 0, -30: 0, 0: 0, 30: 95, 60: 96}, [(0, "it fell, and is back at 95"), (1, "")]),
        # A restart: what it counts from then on is less than it had.
        ({-30: 90, 0: 50, 30: 60, 60: 70}, [(10, ""), (10, "")]),
        ({-30: 50, 0: 50, 30: 60, 60: 60}, [(10, ""), (0, "")]),
    ],
)
def test_expression_that_fell_and_is_back(values: dict[float, float], expected: list[tuple[float, str]]) -> None:
    found = rise(matrix(({}, values)), start=START, end=START + 60, length=30)
    assert [one.value for one in found] == [value for value, _ in expected]
    for one, (_, text) in zip(found, expected, strict=True):
        assert text in one.gap
        assert bool(text) == bool(one.gap)


@st.composite
def histories(draw: st.DrawFn) -> tuple[FakePrometheus, dict[int, Counts], dict[int, Counts], bool]:
    """Processes of both legs with any scrape times within reach, restarts, late comers and some that end."""
    tsdb, restarts = FakePrometheus(), False
    truth: tuple[dict[int, Counts], ...] = (defaultdict(Counts), defaultdict(Counts))
    for which, leg in enumerate(("heroku", "eks")):
        for number in range(draw(st.integers(1, 2))):
            app = App(leg, f"{leg}-{number}")
            app.do(ok=draw(st.integers(1, 2000)))
            at = START - draw(st.integers(1, 70_000)) / 1000
            app.scrape(tsdb, at)
            while True:
                at = round(at + draw(st.integers(8_000, 74_000)) / 1000, 3)
                if at > START + 10 * LENGTH:
                    break
                before = dict(app.jobs)
                restarted = draw(st.integers(0, 7)) == 0
                if restarted:
                    app.jobs.clear()
                    restarts = True
                most = [max(0, before.get(kind, 300) - 1) if restarted else 300 for kind in ("ok", "failed")]
                ok, failed = (draw(st.integers(0, limit)) for limit in most)
                app.do(ok, failed)
                app.scrape(tsdb, at)
                truth[which][math.ceil((at - START) / LENGTH) - 1] += Counts(ok + failed, failed)
    return tsdb, truth[0], truth[1], restarts


@settings(max_examples=120, deadline=None)
@given(histories())
def test_blocks_are_the_truth(history: tuple[FakePrometheus, dict[int, Counts], dict[int, Counts], bool]) -> None:
    tsdb, heroku, eks, restarts = history
    for number, block in enumerate(blocks(tsdb, 10)):
        if block.usable:
            assert (block.heroku, block.eks) == (heroku[number], eks[number])
        elif "no samples" in block.gap:
            assert Counts() in (heroku[number], eks[number])
        else:
            assert restarts, block.gap
            assert re.search(
                "target .*(lost some of its counters|was without a counter for a while|is new, or was not scraped for)",
                block.gap,
            )


@settings(max_examples=60, deadline=None)
@given(histories(), st.lists(st.integers(1, 4), min_size=10, max_size=10))
def test_blocks_are_the_same_whichever_window_they_are_cut_from(
    history: tuple[FakePrometheus, dict[int, Counts], dict[int, Counts], bool], steps: list[int]
) -> None:
    tsdb, _, _, _ = history
    piecemeal: list[Block] = []
    for step in steps:
        piecemeal += blocks(tsdb, min(step, 10 - len(piecemeal)), first=len(piecemeal))
    assert piecemeal == blocks(tsdb, 10)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=40), st.data())
def test_windows_make_no_difference_where_jobs_and_counters_come_and_go(
    events: list[tuple[int, int]], data: st.DataObject
) -> None:
    """Two jobs that scrape one pod, each with holes, and a relay that loses the counters for a while."""
    tsdb, heroku, eks = FakePrometheus(), App("heroku", "dyno-1"), App("eks", "pdf-1")
    twin = App("eks", "pdf-1", {"job": "twin"}, eks.jobs)
    for step, (kind, times) in enumerate(events):
        at = START - 60 + 10 * step
        heroku.do(ok=1)
        heroku.scrape(tsdb, at)
        eks.do(ok=times, failed=times // 5)
        if kind != 1:
            eks.scrape(tsdb, at + 3, counters=kind != 3)
        if kind != 2:
            twin.scrape(tsdb, at + 7)
    cut = data.draw(st.integers(1, 9))
    assert blocks(tsdb, cut) + blocks(tsdb, 10 - cut, first=cut) == blocks(tsdb, 10)


@pytest.mark.parametrize(("scrape", "length"), [(1, 15), (15, 15), (20, 30), (30, 30), (45, 45), (300, 300)])
def test_blocks_are_whole_blocks_of_the_plan(scrape: int, length: int) -> None:
    assert block_length(15, scrape) == length


def test_presence_of_many_targets_is_asked_by_job() -> None:
    reading = SeriesReading()
    for number in range(500):
        labels = {"job": "app", "instance": f"10.0.0.{number}:80"}
        reading.add_selector(1, [{"metric": labels, "values": [[START, "1"]]}])
    assert reading.presence_query() == 'up{job=~"app"}'
    assert SeriesReading().presence_query() == ""
    assert MEMORY_SECONDS >= REACH
