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
    heroku, eks = Counts(93, 2, 93, 2, 0, refused=1), Counts(3, 3, 3, 3, 3)
    codes = {"200": 90, "503": 2, "404": 1}, {"500": 3}
    assert blocks_of(story.tsdb, 1) == [Block(START, START + 15, heroku, eks, "", *codes)]


def test_each_answer_is_in_one_class() -> None:
    story = Story()
    mix = {"200": 50, "304": 7, "302": 5, "401": 4, "404": 3, "429": 2, "503": 1}
    for leg in (HEROKU, EKS):
        for code, times in mix.items():
            story.gateway.serve(leg, code, times=times)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1)
    for leg in (block.heroku, block.eks):
        assert leg == Counts(requests=72, errors=1, timed=72, refused=7, redirected=5, throttled=2)
        assert leg.ok == 57
    assert block.heroku_codes == block.eks_codes == mix


def test_codes_of_all_gateways_are_added() -> None:
    story, other = Story(), Gateway("gw-1")
    other.serve(EKS, "404", times=9)
    other.scrape(story.tsdb, START - 10)
    for gateway, times in ((story.gateway, 2), (other, 3)):
        gateway.serve(EKS, "404", times=times)
        gateway.scrape(story.tsdb, START + 5)
    (block,) = blocks_of(story.tsdb, 1)
    assert block.eks_codes == {"404": 5}


def test_routing_faults_are_errors_of_heroku_only() -> None:
    story = Story()
    for leg in (HEROKU, EKS):
        story.gateway.serve(leg, "421", times=2)
        story.gateway.serve(leg, "495", times=3)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1)
    assert (block.heroku.errors, block.eks.errors) == (5, 0)


@pytest.mark.parametrize(("code", "shown"), [("0", {}), ("499", {}), ("101", {"101": 7})])
def test_what_is_nobodys_answer_is_in_neither_leg(code: str, shown: dict[str, float]) -> None:
    """A client that went away, and a WebSocket, whose duration is its life."""
    story = Story()
    story.gateway.requests[EKS, code] += 7
    common = {"destination_service": EKS, "response_code": code, "reporter": "source"}
    labels = {**story.gateway.labels, "source_workload_namespace": NAMESPACE, **common}
    for bound in ("250", "1000", "+Inf"):
        for at, value in ((START - 10, 0), (START + 5, 7)):
            story.tsdb.add(at, value, __name__=METRICS[1], le=bound, **labels)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1)
    assert block.eks == Counts()
    assert block.usable
    assert block.eks_codes == shown


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
    assert block == Block(START, START + 15, Counts(50, 0, 50), heroku_codes={"200": 50})


def test_leg_without_any_series_is_silent() -> None:
    tsdb, gateway = FakePrometheus(), Gateway("gw-0")
    for at in (-10, 5, 20):
        gateway.serve(HEROKU, times=10)
        gateway.scrape(tsdb, START + at)
    assert blocks_of(tsdb, 2) == [
        Block(START, START + 15, Counts(10, 0, 10), heroku_codes={"200": 10}),
        Block(START + 15, START + 30, Counts(10, 0, 10), heroku_codes={"200": 10}),
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
    (block,) = blocks_of(story.tsdb, 1)
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
    assert blocks_of(story.tsdb, 2)[1].gap == f"gateway gw-0 lost some of its counters; {Reading.keep_longer}"


def test_restart_that_shows_only_in_a_counter_that_is_gone() -> None:
    story = Story()
    story.gateway.serve(HEROKU, "404", times=5)
    story.scrape(0)
    story.gateway.restart()
    story.gateway.serve(HEROKU, "404", times=6)
    story.scrape(1)
    assert blocks_of(story.tsdb, 2)[1].gap == f"gateway gw-0 lost some of its counters; {Reading.keep_longer}"


# ------------------------------------------------------------------------------------ proxies that evict idle counters


def evict(story: Story, leg: str, code: str) -> None:
    """Let the proxy forget a counter, as Envoy does with one that was not used for its eviction interval."""
    del story.gateway.requests[leg, code]


@pytest.mark.parametrize(("before", "after"), [(5, 1), (3, 3), (2, 40), (80, 7), (1, 1)])
@pytest.mark.parametrize("away", [1, 2, 9])
def test_a_counter_that_was_evicted_begins_anew(before: int, after: int, away: int) -> None:
    """Others go on: the process did not restart, so that what comes back has counted from 0."""
    story = Story()
    story.gateway.serve(EKS, "500", times=before)
    story.scrape(0)
    evict(story, EKS, "500")
    for number in range(1, 1 + away):
        story.gateway.serve(HEROKU, times=10)
        story.scrape(number)
    story.gateway.serve(HEROKU, times=10)
    story.gateway.serve(EKS, "500", times=after)
    story.scrape(1 + away)
    blocks = blocks_of(story.tsdb, 2 + away)
    assert [block.gap for block in blocks] == [""] * (2 + away)
    assert [block.eks.errors for block in blocks] == [before, *[0.0] * away, after]


def test_a_counter_that_was_evicted_between_two_scrapes() -> None:
    story = Story()
    story.gateway.serve(HEROKU, times=100)
    story.gateway.serve(EKS, "500", times=7)
    story.scrape(0)
    evict(story, EKS, "500")
    story.gateway.serve(EKS, "500", times=2)
    story.gateway.serve(HEROKU, times=10)
    story.scrape(1)
    assert blocks_of(story.tsdb, 2)[1].eks.errors == 2


def test_a_counter_that_may_have_been_evicted_or_not_is_no_evidence_and_it_is_told_what_to_set() -> None:
    """Where servers forward samples one may be missing: the whole life of a counter must not look like one increment."""
    story = Story()
    story.gateway.serve(EKS, "500", times=6)
    story.scrape(0)
    evict(story, EKS, "500")
    story.gateway.serve(HEROKU, times=10)
    story.scrape(1)
    story.gateway.serve(EKS, "500", times=6)
    story.scrape(2)
    *known, last = blocks_of(story.tsdb, 3)
    assert all(block.usable for block in known)
    assert last.gap == f"gateway gw-0 was without a counter for a while that others had; {Reading.keep_longer}"


def test_eviction_at_one_gateway_and_a_restart_of_another() -> None:
    story = Story()
    other = Gateway("gw-1")
    other.serve(HEROKU, times=500)
    other.serve(EKS, "500", times=3)
    other.scrape(story.tsdb, START - 8)
    story.gateway.serve(EKS, "500", times=4)
    story.scrape(0)
    other.scrape(story.tsdb, START + 7)
    evict(story, EKS, "500")
    other.restart()
    for number in (1, 2):
        story.gateway.serve(HEROKU, times=10)
        story.gateway.serve(EKS, "500", times=number - 1)
        story.scrape(number)
        other.serve(HEROKU, times=20)
        other.serve(EKS, "500", times=1)
        other.scrape(story.tsdb, START + number * LENGTH + 7)
    blocks = blocks_of(story.tsdb, 3)
    assert [(block.gap, block.heroku.requests, block.eks.errors) for block in blocks[1:]] == [("", 30, 1), ("", 30, 2)]


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


FORGERS = {
    "another namespace": {"namespace": "hostile", "pod": "evil", "job": "apps", "instance": "10.0.0.9:8080"},
    # A job that gives its targets no namespace, so that an app may write one.
    "a target without a namespace": {
        "namespace": NAMESPACE,
        "pod": "gw-0",
        "job": "static",
        "instance": "10.0.0.9:80",
    },
    "another pod": {"namespace": NAMESPACE, "pod": "gw-9", "job": "gateways", "instance": "gw-9:15020"},
}


@pytest.mark.parametrize("labels", FORGERS.values(), ids=FORGERS)
@pytest.mark.parametrize("value", [1e6, math.nan, -1.0])
@pytest.mark.parametrize("code", ["200", "503"])
def test_what_is_of_no_gateways_scrape_target_does_not_count(labels: dict[str, str], value: float, code: str) -> None:
    """Whatever an app writes into its metrics: no errors of another's leg, no good answers that drown them, no NaN."""
    story = Story()
    story.gateway.serve(HEROKU, times=90)
    story.gateway.serve(EKS, "503", times=4)
    story.scrape(0)
    truth = blocks_of(story.tsdb, 1)
    forged = {"reporter": "source", "source_workload_namespace": NAMESPACE, "response_code": code, **labels}
    for leg in (HEROKU, EKS):
        for at, number in ((START - 10, 0.0), (START + 5, value)):
            story.tsdb.add(at, number, __name__=METRICS[0], destination_service=leg, **forged)
            story.tsdb.add(at, number, __name__=METRICS[1], destination_service=leg, le="odd", **forged)
    assert blocks_of(story.tsdb, 1) == truth
    assert sum(reading_of(story.tsdb, START, START + 15).refused.values()) == 4


def test_gateways_whose_scrape_target_lacks_up_do_not_count_and_it_is_told() -> None:
    story = Story()
    story.gateway.serve(HEROKU, times=90)
    story.scrape(0)
    (block,) = blocks_of(story.tsdb, 1, presence=False)
    assert block.gap == (
        "no samples; 8 counters are of no scrape target of istio-ingress: no up has their labels namespace, pod, job and"
        " instance"
    )


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
    """Gateways with any scrape times within reach, any traffic, restarts and evictions; and the truth of each block.

    The truth is what was counted until a scrape; what a restart loses after the last scrape nobody can know.
    """
    tsdb, restarts = FakePrometheus(), False
    truth: dict[int, tuple[float, float, float, float]] = defaultdict(lambda: (0.0, 0.0, 0.0, 0.0))
    for number in range(draw(st.integers(1, 3))):
        gateway = Gateway(f"gw-{number}")
        evicted = False
        gateway.serve(HEROKU, times=draw(st.integers(1, 2000)))
        if draw(st.booleans()):
            gateway.serve(EKS, times=draw(st.integers(1, 2000)))
        at = START - draw(st.integers(1, 30_000)) / 1000
        gateway.scrape(tsdb, at)
        while True:
            at = round(at + draw(st.integers(4_000, 37_000)) / 1000, 3)
            if at > START + 12 * LENGTH:
                break
            before, buckets = dict(gateway.requests), dict(gateway.buckets)
            # Of an evicted counter only the buckets are left. Without it, no scrape shows that they began anew.
            restarted = not evicted and draw(st.integers(0, 7)) == 0
            if restarted:
                gateway.restart()
                restarts = True
            added = {}
            # A restart shows only where a counter falls, and the buckets are of all codes.
            room = {
                leg: min([count for (of, _), count in buckets.items() if of == leg and count], default=1001) - 1
                for leg in (HEROKU, EKS)
            }
            for leg, code in ((HEROKU, "200"), (HEROKU, "503"), (EKS, "200"), (EKS, "503")):
                most = min(before.get((leg, code), 1001) - 1, room[leg]) if restarted else 1000
                times = draw(st.integers(0, max(0, most)))
                room[leg] -= times
                if times:
                    gateway.serve(leg, code, draw(st.sampled_from([10.0, 300.0, 3000.0])), times)
                elif code == "503" and (leg, code) in gateway.requests and draw(st.integers(0, 2)) == 0:
                    del gateway.requests[leg, code]  # as it was idle
                    evicted = restarts = True
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
            assert re.match(
                "gateway gw-. (lost some of its counters|was without a counter for a while|is new)", block.gap
            )


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
