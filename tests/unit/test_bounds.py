"""A bound fails on a sustained breach only, and never on what is not known."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutover.api.v1alpha1.gates import BoundSlo
from cutover.domain.slo.bounds import BoundJudgement, freshness_query, judge, points_of, stale, value_of
from cutover.domain.slo.custom import QueryProblem, SloReading
from cutover.domain.slo.judge import bound_limits
from cutover.domain.verdicts import Verdict

NOW = 1_800_000_000.0
STEP = 30


def slo(
    *,
    most: float | None = None,
    least: float | None = None,
    times: float | None = None,
    lasting: int = 120,
    step: int = STEP,
) -> BoundSlo:
    return BoundSlo.model_validate(
        {
            "query": "x",
            "max": most,
            "min": least,
            "timesBaseline": times,
            "for": timedelta(seconds=lasting),
            "scrapeInterval": timedelta(seconds=step),
        }
    )


def reading(*values: float | None, newest: float = NOW - 2, **more: Any) -> SloReading:
    """Values every 30 s, oldest first; None is a hole."""
    points = tuple(
        (newest - STEP * age, value)
        for age, value in zip(range(len(values) - 1, -1, -1), values, strict=True)
        if value is not None
    )
    return SloReading(asked_at=more.pop("asked_at", NOW), points=points, **more)


def said(
    bound: BoundSlo, seen: SloReading, *, baseline: float | None = None, since: float = 0.0, now: float = NOW
) -> BoundJudgement:
    return judge(bound, seen, baseline=baseline, since=since, now=now)


TABLE: list[tuple[tuple[float | None, ...], Verdict, float]] = [
    ((0.1,), Verdict.PASS, 0),
    ((0.9, 0.9, 0.9, 0.9, 0.9, 0.1), Verdict.PASS, 0),
    ((0.25,), Verdict.PASS, 0),
    ((0.9,), Verdict.UNDECIDED, 0),
    ((0.9, 0.9, 0.9, 0.9), Verdict.UNDECIDED, 90),
    ((0.1, 0.9, 0.9, 0.9, 0.9), Verdict.UNDECIDED, 90),
    ((0.9, 0.9, 0.1, 0.9, 0.9), Verdict.UNDECIDED, 30),
    ((0.9, 0.9, 0.9, 0.9, 0.9), Verdict.FAIL, 120),
    ((0.1, 0.9, 0.9, 0.9, 0.9, 0.9), Verdict.FAIL, 120),
    ((0.9, None, 0.9, 0.9, 0.9), Verdict.FAIL, 120),
    ((0.9, None, 0.9, None, 0.9), Verdict.FAIL, 120),
    ((0.9, None, None, 0.9, 0.9, 0.9), Verdict.UNDECIDED, 60),
    ((0.9, 0.9, None, None, 0.9), Verdict.UNDECIDED, 0),
]


@pytest.mark.parametrize(("values", "verdict", "outside"), TABLE)
def test_verdict_of_a_maximum(values: tuple[float | None, ...], verdict: Verdict, outside: float) -> None:
    judged = said(slo(most=0.25), reading(*values))
    assert (judged.verdict, judged.outside_seconds or 0, judged.number) == (verdict, outside, values[-1])
    assert bool(judged.why) is (verdict is Verdict.NO_DATA)


@pytest.mark.parametrize(("values", "verdict", "outside"), TABLE)
def test_verdict_of_a_minimum(values: tuple[float | None, ...], verdict: Verdict, outside: float) -> None:
    judged = said(slo(least=-0.25), reading(*(None if value is None else -value for value in values)))
    assert (judged.verdict, judged.outside_seconds or 0) == (verdict, outside)


def test_between() -> None:
    both = slo(least=2, most=5)
    assert said(both, reading(3)).verdict is Verdict.PASS
    assert said(both, reading(6, 1, 6, 1, 6)).verdict is Verdict.FAIL
    assert (bound_limits(both).min, bound_limits(both).max) == (2, 5)


def test_one_sample_is_enough_only_where_that_is_asked_for() -> None:
    assert said(slo(most=1, lasting=0), reading(2)).verdict is Verdict.FAIL
    assert said(slo(most=1, lasting=1), reading(2)).verdict is Verdict.UNDECIDED


def test_values_of_another_weight_are_not_judged() -> None:
    seen = reading(9, 9, 9, 9, 9, 9)
    assert said(slo(most=1), seen).verdict is Verdict.FAIL
    assert said(slo(most=1), seen, since=NOW - 70).verdict is Verdict.UNDECIDED
    assert said(slo(most=1), seen, since=NOW).verdict is Verdict.UNDECIDED
    assert said(slo(most=1), seen, since=NOW, now=NOW + 10).number is None


def test_old_values_are_no_values() -> None:
    assert said(slo(most=1), reading(0.5, newest=NOW - 60)).verdict is Verdict.PASS
    old = said(slo(most=1), reading(0.5, newest=NOW - 61))
    assert (old.verdict, old.why) == (Verdict.NO_DATA, "the newest value is 1 min 1 s old")
    assert said(slo(most=1), reading(9, 9, 9, 9, 9, newest=NOW - 61)).verdict is Verdict.NO_DATA
    late = said(slo(most=1), reading(9, 9, 9, 9, 9), now=NOW + 121)
    assert (late.verdict, late.why) == (
        Verdict.NO_DATA,
        "Prometheus was asked 2 min 1 s ago for the last time; does it answer?",
    )


def test_short_scrape_interval_is_no_reason_to_call_an_answer_old() -> None:
    """A plan asks once in a block, which may be longer."""
    quick = slo(most=1, step=1)
    assert said(quick, SloReading(asked_at=NOW - 15, points=((NOW - 17, 0.5),))).verdict is Verdict.PASS


def test_nothing_yet() -> None:
    assert said(slo(most=1), SloReading()).verdict is Verdict.UNDECIDED
    assert said(slo(most=1), SloReading(asked_at=NOW), since=NOW - 20).verdict is Verdict.UNDECIDED
    assert said(slo(most=1), SloReading(asked_at=NOW), since=NOW - 200).verdict is Verdict.NO_DATA


@pytest.mark.parametrize("verdict", [Verdict.NO_DATA, Verdict.QUERY_ERROR, Verdict.AMBIGUOUS])
def test_problem_is_the_verdict_also_in_a_breach(verdict: Verdict) -> None:
    problem = QueryProblem(verdict, "because", NOW - 5)
    judged = said(slo(most=1), reading(9, 9, 9, 9, 9, problem=problem))
    assert (judged.verdict, judged.why) == (verdict, "because")


def test_times_the_baseline() -> None:
    bound = slo(times=2)
    assert said(bound, reading(0.6), baseline=0.31).verdict is Verdict.PASS
    failed = said(bound, reading(1, 1, 1, 1, 1), baseline=0.31)
    assert failed.verdict is Verdict.FAIL
    both = slo(times=2, most=0.5)
    assert said(both, reading(0.55), baseline=0.31).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize(
    ("baseline", "text"), [(None, "not known"), (0.0, "was 0; write max"), (-3.0, "was -3"), (math.nan, "was nan")]
)
def test_baseline_that_says_nothing(baseline: float | None, text: str) -> None:
    judged = said(slo(times=2), reading(9, 9, 9, 9, 9), baseline=baseline)
    assert judged.verdict is Verdict.NO_DATA
    assert text in judged.why
    # What is known is judged all the same.
    assert said(slo(times=2, most=5), reading(9, 9, 9, 9, 9), baseline=baseline).verdict is Verdict.FAIL
    assert said(slo(times=2, most=5), reading(1), baseline=baseline).verdict is Verdict.NO_DATA


values = st.lists(st.none() | st.floats(-10, 10), min_size=1, max_size=30)
lasting = st.integers(0, 600)


@settings(max_examples=300)
@given(values, lasting, st.floats(-5, 5), st.integers(0, 900))
def test_fails_on_as_many_points_as_asked_for_and_never_on_fewer(
    found: list[float | None], seconds: int, most: float, since: int
) -> None:
    judged = said(slo(most=most, lasting=seconds), reading(*found), since=NOW - since)
    points = [point for point in reading(*found).points if point[0] >= NOW - since]
    outside: list[float] = []
    for at, value in reversed(points):
        if value <= most or (outside and outside[-1] - at > 2 * STEP):
            break
        outside.append(at)
    fails = bool(outside) and NOW - outside[0] <= 2 * STEP and outside[0] - outside[-1] >= seconds
    assert (judged.verdict is Verdict.FAIL) is fails
    if fails:
        newest = points[-1][0]
        breach = [point for point in points if point[0] >= newest - (judged.outside_seconds or 0)]
        assert len(breach) >= 1 + math.ceil(seconds / (2 * STEP))
        assert all(value > most for at, value in points if at >= newest - seconds)
        assert judged.outside_seconds is not None
        assert judged.outside_seconds >= seconds


ORDER = {Verdict.PASS: 0, Verdict.UNDECIDED: 1, Verdict.FAIL: 2}


@settings(max_examples=300)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12), lasting, st.floats(-5, 5), st.floats(0, 5))
def test_larger_maximum_is_never_worse(found: list[float], seconds: int, most: float, more: float) -> None:
    strict, mild = (said(slo(most=limit, lasting=seconds), reading(*found)) for limit in (most, most + more))
    assert ORDER[mild.verdict] <= ORDER[strict.verdict]
    assert (mild.outside_seconds or 0) <= (strict.outside_seconds or 0)


@settings(max_examples=200)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=12), lasting, lasting)
def test_longer_for_is_never_worse(found: list[float], seconds: int, more: int) -> None:
    short, long = (said(slo(most=1, lasting=one), reading(*found)) for one in (seconds, seconds + more))
    assert ORDER[long.verdict] <= ORDER[short.verdict]


@settings(max_examples=200)
@given(values)
def test_mirrored_values_have_the_mirrored_verdict(found: list[float | None]) -> None:
    above = said(slo(most=2), reading(*found))
    below = said(slo(least=-2), reading(*(None if value is None else -value for value in found)))
    assert (above.verdict, above.outside_seconds) == (below.verdict, below.outside_seconds)


def test_points_of_an_answer() -> None:
    series: list[dict[str, Any]] = [
        {"metric": {"pod": "a"}, "values": [[10, "1"], [20, "NaN"], [30, "+Inf"], [40, "2.5"], [50, "3"]]}
    ]
    assert points_of(series) == (((10.0, 1.0), (40.0, 2.5), (50.0, 3.0)), "")
    other = {"metric": {"pod": "b"}, "values": [[40, "7"]]}
    # What was ambiguous is over.
    assert points_of([*series, other]) == (((10.0, 1.0), (50.0, 3.0)), "")
    other["values"].append([50, "7"])
    points, ambiguous = points_of([*series, other])
    assert points == ((10.0, 1.0),)
    assert ambiguous == '2 series where one is expected, such as pod="a" and pod="b"'
    assert points_of([]) == ((), "")


def test_value_of_an_answer() -> None:
    assert value_of([]) == (None, "")
    assert value_of([{"metric": {}, "value": [5, "0.25"]}]) == (0.25, "")
    assert value_of([{"metric": {}, "value": [5, "NaN"]}]) == (None, "")
    same: list[dict[str, Any]] = [{"metric": {"a": "1"}, "value": [5, "1"]}] * 2
    assert value_of(same) == (None, "2 series where one is expected, with the same labels")


def test_freshness_of_all_selectors_in_one_query() -> None:
    selectors = ('a{x="1"}', "b")
    assert freshness_query(selectors) == (
        'label_replace(max(timestamp(a{x="1"})), "selector", "0", "", "")'
        ' or label_replace(max(timestamp(b)), "selector", "1", "", "")'
    )
    answer: list[dict[str, Any]] = [
        {"metric": {"selector": "0"}, "value": [NOW, str(NOW - 10)]},
        {"metric": {"selector": "1"}, "value": [NOW, str(NOW - 61.2)]},
    ]
    assert stale(answer, selectors, now=NOW, limit=60) == "the newest sample of b is 61 s old"
    assert stale(answer[:1], selectors, now=NOW, limit=60) == ""
