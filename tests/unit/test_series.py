"""From samples to blocks: every request in exactly one block, or a reason."""

from __future__ import annotations

import math
import re
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.fake_tsdb import BOUNDS, EKS, HEROKU, NAMESPACE, START, FakePrometheus, Gateway, unquote

from cutover.adapters.dialects.istio.counters import IstioLabels
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.counters import Counter
from cutover.domain.evidence.counting import Reading, cumulative, cut
from cutover.domain.evidence.selectors import bounds_matcher, matcher

LENGTH = 15
REACH = 37.5
METRICS = ("istio_requests_total", "istio_request_duration_milliseconds_bucket")


def reading_of(tsdb: FakePrometheus, start: float, end: float, presence: bool = True) -> Reading:
    window = f"[{round((end - start + REACH) * 1000)}ms]"
    reading = Reading()
    if presence:
        reading.add_presence(tsdb.select("up{}" + window, end))
    for metric in METRICS:
        reading.add_counters(Counter.of(item, IstioLabels) for item in tsdb.select(metric + "{}" + window, end))
    return reading


def blocks_of(
    tsdb: FakePrometheus,
    blocks: int,
    first: int = 0,
    slow: float | None = 250.0,
    very_slow: float | None = 1000.0,
    presence: bool = True,
) -> list[Block]:
    start, end = START + first * LENGTH, START + (first + blocks) * LENGTH
    return cut(
        reading_of(tsdb, start, end, presence),
        heroku=HEROKU,
        eks=EKS,
        namespaces=[NAMESPACE],
        slow_ms=slow,
        very_slow_ms=very_slow,
        start=start,
        end=end,
        length=LENGTH,
        reach=REACH,
    )


class Story:
    """A gateway that is scraped 5 s into every block, from one block before the first."""

    def __init__(self) -> None:
        self.tsdb = FakePrometheus()
        self.gateway = Gateway("gw-0")
        self.gateway.serve(HEROKU, times=1000)
        self.gateway.serve(EKS, times=500)
        self.gateway.scrape(self.tsdb, START - 10)

    def scrape(self, block: int) -> None:
        self.gateway.scrape(self.tsdb, START + block * LENGTH + 5)


def test_counts_of_both_legs() -> None:
    story = Story()
    story.gateway.serve(HEROKU, times=90)
    story.gateway.serve(HEROKU, "503", 300, times=2)
    story.gateway.serve(HEROKU, "404", times=1)
    story.gateway.serve(EKS, "500", 2000, times=3)
    story.scrape(0)
    assert blocks_of(story.tsdb, 1) == [
        Block(START, START + 15, Counts(93, 2, 93, 2, 0), Counts(3, 3, 3, 3, 3)),
    ]


def test_routing_faults_are_errors_of_heroku_only() -> None:
    story = Story()
    for leg in (HEROKU, EKS):
        story.gateway.serve(leg, "421", times=2)
        story.gateway.serve(leg, "495", times=3)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1)
    assert (block.heroku.errors, block.eks.errors) == (5, 0)


def test_clients_that_went_away_are_in_neither_leg() -> None:
    story = Story()
    story.gateway.requests[EKS, "0"] += 7
    common = {"destination_service": EKS, "response_code": "0", "reporter": "source"}
    labels = {**story.gateway.labels, "source_workload_namespace": NAMESPACE, **common}
    for bound in ("250", "1000", "+Inf"):
        for at, value in ((START - 10, 0), (START + 5, 7)):
            story.tsdb.add(at, value, __name__=METRICS[1], le=bound, **labels)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1)
    assert block.eks == Counts()
    assert block.usable


def test_without_thresholds_nothing_is_slow() -> None:
    story = Story()
    story.gateway.serve(EKS, milliseconds=5000, times=10)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1, slow=None, very_slow=None)
    assert block.eks == Counts(10, 0, 10, 0, 0)
    (block,) = blocks_of(story.tsdb, 1, slow=250, very_slow=None)
    assert block.eks == Counts(10, 0, 10, 10, 0)
    (block,) = blocks_of(story.tsdb, 1, slow=250, very_slow=250)
    assert block.eks == Counts(10, 0, 10, 10, 10)


def test_silence_is_evidence() -> None:
    story = Story()
    story.gateway.serve(HEROKU, times=50)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1)
    assert block == Block(START, START + 15, Counts(50, 0, 50))


def test_leg_without_any_series_is_silent() -> None:
    tsdb, gateway = FakePrometheus(), Gateway("gw-0")
    for at in (-10, 5, 20):
        gateway.serve(HEROKU, times=10)
        gateway.scrape(tsdb, START + at)
    assert blocks_of(tsdb, 2) == [
        Block(START, START + 15, Counts(10, 0, 10)),
        Block(START + 15, START + 30, Counts(10, 0, 10)),
    ]


def test_gateway_that_served_nothing_yet() -> None:
    tsdb, gateway = FakePrometheus(), Gateway("gw-0")
    gateway.scrape(tsdb, START + 5)
    assert blocks_of(tsdb, 1) == [Block(START, START + 15)]
    assert blocks_of(tsdb, 1, presence=False) == [Block(START, START + 15, gap="no samples")]


def test_counter_born_at_a_known_gateway_counts_from_zero() -> None:
    story = Story()
    story.gateway.serve(EKS, "503", times=4)
    story.scrape(0)
    for presence in (True, False):
        (block,) = blocks_of(story.tsdb, 1, presence=presence)
        assert block.eks == Counts(4, 4, 4)


def test_new_gateway_makes_one_block_unusable() -> None:
    story = Story()
    other = Gateway("gw-1")
    other.serve(HEROKU, times=12345)
    for number in range(3):
        story.gateway.serve(HEROKU, times=10)
        story.scrape(number)
        if number:
            other.serve(HEROKU, times=5)
            other.scrape(story.tsdb, START + number * LENGTH + 7)
    first, second, third = blocks_of(story.tsdb, 3)
    assert (first.heroku.requests, third.heroku.requests) == (10, 15)
    assert second.gap == "gateway gw-1 is new, or was not scraped for 37.5 s"


def test_agent_that_answers_without_counters_for_a_while() -> None:
    """Istio's agent is up and its proxy does not answer it: a lifetime must not come back as one increment."""
    for missing in (1, 2, 3, 4):
        story = Story()
        for number in range(8):
            story.gateway.serve(HEROKU, times=10)
            if 1 <= number < 1 + missing:
                story.tsdb.add(START + number * LENGTH + 5, 1, __name__="up", **story.gateway.labels)
            else:
                story.scrape(number)
        blocks = blocks_of(story.tsdb, 8)
        assert len(blocks) == 8
        assert all(block.heroku.requests in (0, 10) for block in blocks)
        assert blocks[1 + missing].gap
        assert all(block.usable for block in blocks[2 + missing :])


def test_gateway_that_goes_away() -> None:
    story = Story()
    other = Gateway("gw-1")
    other.serve(HEROKU, times=99)
    other.scrape(story.tsdb, START - 8)
    for number in range(3):
        story.gateway.serve(HEROKU, times=10)
        story.scrape(number)
        if number == 0:
            other.serve(HEROKU, times=5)
            other.scrape(story.tsdb, START + 7)
    assert [(block.heroku.requests, block.gap) for block in blocks_of(story.tsdb, 3)] == [(15, ""), (10, ""), (10, "")]


def test_restart_of_the_gateway_counts_from_zero() -> None:
    story = Story()
    story.gateway.restart()
    story.gateway.serve(HEROKU, times=30)
    story.gateway.serve(EKS, "500", times=2)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1)
    assert (block.heroku, block.eks) == (Counts(30, 0, 30), Counts(2, 2, 2))


def test_restart_that_some_counters_hide() -> None:
    """5 errors before and 8 after a restart look like 3: such a block is not judged."""
    story = Story()
    story.gateway.serve(EKS, "500", times=5)
    story.scrape(0)
    story.gateway.restart()
    story.gateway.serve(HEROKU, times=30)
    story.gateway.serve(EKS, "500", times=8)
    story.scrape(1)
    assert blocks_of(story.tsdb, 2)[1].gap == "gateway gw-0 lost some of its counters"


def test_restart_that_shows_only_in_a_counter_that_is_gone() -> None:
    story = Story()
    story.gateway.serve(HEROKU, "404", times=1)
    story.scrape(0)
    story.gateway.restart()
    story.gateway.serve(HEROKU, times=1001)
    story.gateway.serve(EKS, times=600)
    story.scrape(1)
    assert blocks_of(story.tsdb, 2)[1].gap == "gateway gw-0 lost some of its counters"


def test_missed_scrapes() -> None:
    story = Story()
    for number in range(7):
        story.gateway.serve(HEROKU, times=10)
        if number not in {1, 3, 4}:
            story.scrape(number)
    blocks = blocks_of(story.tsdb, 7)
    assert [block.gap for block in blocks] == [
        "",
        "no samples",
        "",
        "no samples",
        "no samples",
        "gateway gw-0 is new, or was not scraped for 37.5 s",
        "",
    ]
    assert [block.heroku.requests for block in blocks] == [10, 0, 20, 0, 0, 0, 10]


def test_failed_scrape_is_none() -> None:
    story = Story()
    story.tsdb.add(START + 5, 0, __name__="up", **story.gateway.labels)
    assert blocks_of(story.tsdb, 1)[0].gap == "no samples"


def test_another_pod_of_the_namespace_is_no_witness_for_the_gateway() -> None:
    story = Story()
    story.tsdb.add(START + 5, 1, __name__="up", namespace=NAMESPACE, pod="istiod", job="istiod", instance="x")
    assert blocks_of(story.tsdb, 1)[0].gap == "no samples"


@pytest.mark.parametrize("value", [math.nan, -1.0, math.inf])
def test_what_is_no_count(value: float) -> None:
    story = Story()
    story.gateway.requests[EKS, "200"] = value  # type: ignore[assignment]
    story.scrape(0)
    assert blocks_of(story.tsdb, 1)[0].gap == "a counter of gateway gw-0 is not a number or negative"


def test_bound_that_the_histogram_does_not_have() -> None:
    story = Story()
    story.gateway.serve(EKS)
    story.scrape(0)
    assert blocks_of(story.tsdb, 1, slow=300)[0].gap == "gateway gw-0 has no latency bucket of 300 ms"


def test_buckets_that_contradict() -> None:
    story = Story()
    story.gateway.buckets[EKS, 250.0] += 9
    story.scrape(0)
    assert blocks_of(story.tsdb, 1)[0].gap == "the latency buckets of gateway gw-0 contradict each other"


@pytest.mark.parametrize(
    "labels",
    [
        {"prometheus_replica": "prometheus-1"},
        {"replica": "1"},
        {"job": "the-same-pods-again", "instance": "10.0.0.1:15090"},
    ],
)
def test_same_gateway_known_twice_counts_once(labels: dict[str, str]) -> None:
    story = Story()
    twin = Gateway("gw-0", labels)
    twin.requests, twin.buckets = story.gateway.requests, story.gateway.buckets
    twin.scrape(story.tsdb, START - 9)
    for number in range(3):
        story.gateway.serve(HEROKU, times=10)
        if number < 2:
            story.scrape(number)
        twin.scrape(story.tsdb, START + number * LENGTH + 6)
    # The other takes over where the first has nothing.
    assert [block.heroku.requests for block in blocks_of(story.tsdb, 3)] == [10, 10, 10]


def test_gateways_without_a_pod_are_told_apart_by_their_instance() -> None:
    tsdb, gateways = FakePrometheus(), [Gateway("gw-0", {"pod": ""}), Gateway("gw-1", {"pod": ""})]
    for gateway in gateways:
        gateway.serve(HEROKU, times=1000)
        gateway.scrape(tsdb, START - 10)
        gateway.serve(HEROKU, times=10)
        gateway.scrape(tsdb, START + 5)
    (block,) = blocks_of(tsdb, 1)
    assert (block.gap, block.heroku.requests) == ("", 20)
    gateways[1].restart()
    gateways[1].serve(HEROKU, times=3)
    gateways[1].scrape(tsdb, START + 20)
    assert blocks_of(tsdb, 2)[1].heroku.requests == 3


def test_gateways_of_other_namespaces_do_not_count() -> None:
    story = Story()
    other = Gateway("gw-9")
    other.serve(HEROKU)
    for at in (-10.0, 5.0):
        other.serve(HEROKU, times=7)
        for (destination, code), value in other.requests.items():
            labels = {**other.labels, "namespace": "elsewhere", "source_workload_namespace": "elsewhere"}
            story.tsdb.add(
                START + at, value, __name__=METRICS[0], destination_service=destination, response_code=code, **labels
            )
    story.gateway.serve(HEROKU, times=2)
    story.scrape(0)
    assert blocks_of(story.tsdb, 1)[0].heroku.requests == 2


def test_sample_at_the_boundary_belongs_to_the_block_that_it_ends() -> None:
    story = Story()
    for at in (0.0, 15.0, 30.0, 30.001):
        story.gateway.serve(HEROKU, times=1)
        story.gateway.scrape(story.tsdb, START + at)
    assert [block.heroku.requests for block in blocks_of(story.tsdb, 3)] == [1, 1, 1]


def test_histogram_survives_restarts_and_leaves_out_what_is_not_known() -> None:
    story = Story()
    newcomer = Gateway("gw-1")
    newcomer.serve(HEROKU, times=5000)
    for number in range(4):
        story.gateway.serve(HEROKU, milliseconds=20, times=10)
        story.gateway.serve(HEROKU, milliseconds=400, times=3)
        story.scrape(number)
        if number == 1:
            story.gateway.restart()
        if number >= 2:
            newcomer.serve(HEROKU, times=1)
            newcomer.scrape(story.tsdb, START + number * LENGTH + 6)
    end = START + 4 * LENGTH
    found = cumulative(reading_of(story.tsdb, START, end), HEROKU, [NAMESPACE], start=START, end=end, reach=REACH)
    assert found == {250.0: 41.0, 1000.0: 53.0, math.inf: 53.0}


@st.composite
def histories(draw: st.DrawFn) -> tuple[FakePrometheus, dict[int, tuple[float, float, float, float]], bool]:
    """Gateways with any scrape times within reach, any traffic, and restarts; and the truth of each block.

    The truth is what was counted until a scrape; what a restart loses after the last scrape nobody can know.
    """
    tsdb, restarts = FakePrometheus(), False
    truth: dict[int, tuple[float, float, float, float]] = defaultdict(lambda: (0.0, 0.0, 0.0, 0.0))
    for number in range(draw(st.integers(1, 3))):
        gateway = Gateway(f"gw-{number}")
        gateway.serve(HEROKU, times=draw(st.integers(1, 2000)))
        if draw(st.booleans()):
            gateway.serve(EKS, times=draw(st.integers(1, 2000)))
        at = START - draw(st.integers(1, 30_000)) / 1000
        gateway.scrape(tsdb, at)
        while True:
            at = round(at + draw(st.integers(4_000, 37_000)) / 1000, 3)
            if at > START + 12 * LENGTH:
                break
            before = dict(gateway.requests)
            restarted = draw(st.integers(0, 7)) == 0
            if restarted:
                gateway.restart()
                restarts = True
            added = {}
            for leg, code in ((HEROKU, "200"), (HEROKU, "503"), (EKS, "200"), (EKS, "503")):
                # A restart shows only where a counter falls.
                most = before.get((leg, code), 1000) - 1 if restarted else 1000
                times = draw(st.integers(0, max(0, most)))
                if times:
                    gateway.serve(leg, code, draw(st.sampled_from([10.0, 300.0, 3000.0])), times)
                added[leg, code] = times
            gateway.scrape(tsdb, at)
            heroku, heroku_errors = added[HEROKU, "200"] + added[HEROKU, "503"], added[HEROKU, "503"]
            eks, eks_errors = added[EKS, "200"] + added[EKS, "503"], added[EKS, "503"]
            block = math.ceil((at - START) / LENGTH) - 1
            old = truth[block]
            truth[block] = (old[0] + heroku, old[1] + heroku_errors, old[2] + eks, old[3] + eks_errors)
    return tsdb, truth, restarts


@settings(max_examples=150, deadline=None)
@given(histories())
def test_blocks_are_the_truth(
    history: tuple[FakePrometheus, dict[int, tuple[float, float, float, float]], bool],
) -> None:
    tsdb, truth, restarts = history
    for number, block in enumerate(blocks_of(tsdb, 12)):
        found = (block.heroku.requests, block.heroku.errors, block.eks.requests, block.eks.errors)
        if block.usable:
            assert found == truth[number]
            assert (block.heroku.timed, block.eks.timed) == (found[0], found[2])
        elif block.gap == "no samples":
            assert truth[number] == (0, 0, 0, 0)
        else:
            assert restarts, block.gap
            assert re.fullmatch("gateway .*(lost some of its counters|was without a counter for a while)", block.gap)


@settings(max_examples=60, deadline=None)
@given(histories(), st.lists(st.integers(1, 5), min_size=12, max_size=12))
def test_blocks_are_the_same_whichever_window_they_are_cut_from(
    history: tuple[FakePrometheus, dict[int, tuple[float, float, float, float]], bool], steps: list[int]
) -> None:
    tsdb, _, _ = history
    at_once = blocks_of(tsdb, 12)
    piecemeal: list[Block] = []
    for step in steps:
        piecemeal += blocks_of(tsdb, min(step, 12 - len(piecemeal)), first=len(piecemeal))
    assert piecemeal == at_once


@given(st.lists(st.text(), min_size=1, max_size=4), st.text())
def test_matcher_matches_its_values_and_nothing_else(values: list[str], other: str) -> None:
    found = re.fullmatch(r'pod=~("(?:[^"\\]|\\.)*")', matcher("pod", values), re.DOTALL)
    assert found, "a value ended the string"
    assert "\n" not in found[1]
    pattern = unquote(found[1])
    assert all(re.fullmatch(pattern, value) for value in values)
    assert bool(re.fullmatch(pattern, other)) == (other in values)


def test_matcher_is_written_as_prometheus_reads_it() -> None:
    assert matcher("pod", ["a.b", 'c"d', "a.b"]) == r'pod=~"a\\.b|c\"d"'


def test_bounds_in_all_their_spellings() -> None:
    found = bounds_matcher([*BOUNDS[:2], 0.5, 3_600_000.0])
    pattern = unquote(found.removeprefix("le=~"))
    for spelling in ("250", "250.0", "1000", "0.5", "3600000", "3600000.0", "3.6e+06", "+Inf"):
        assert re.fullmatch(pattern, spelling), spelling
    for spelling in ("2500", "50", "25", "Inf"):
        assert not re.fullmatch(pattern, spelling), spelling
