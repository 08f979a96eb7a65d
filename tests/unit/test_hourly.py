"""Heroku's record as a reference: what it says of an hour, what is tolerated by it, and that it makes no false harm."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.record import END, HOUR, hour, record

from cutover.api.opaque import Opaque
from cutover.domain.baseline.record import Record
from cutover.domain.baseline.reference import (
    Spread,
    hourly_reference,
    spread_of,
    weight_of,
    without_incidents,
)
from cutover.domain.evidence import wager
from cutover.domain.evidence.betting import with_hour, with_witness
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.hourly import (
    HOURS,
    NO_REFERENCE,
    HourlyReference,
    Normal,
    hour_of_week,
    keep_hours,
    limits_alone,
    load_hours,
    witness_limit,
)
from cutover.domain.evidence.judge import DEFAULT_METRICS, Evidence, GateRules, MetricRule, begin_step, consume, judge
from cutover.domain.evidence.live_key import live_key
from cutover.domain.evidence.metrics import frozen_limit, upper_limit
from cutover.domain.evidence.pace import Pace, keep_pace
from cutover.domain.evidence.rules import ANSWERS, MetricName, Reference

RULES = GateRules()
RULE: Mapping[str, MetricRule] = {rule.name: rule for rule in DEFAULT_METRICS}
ERRORS, REFUSED, SLOW = RULE["errors"], RULE["refused"], RULE["slow"]
#: Heroku in the steps before: 0.1 % errors, 4 % slow, 2 % refused.
STEPS = Counts(20_000, 20, 20_000, 800, 20, refused=400)
X = (250.0, 1000.0)
_PARTS = st.floats(1e-5, 0.6)


def known(steps: Counts = STEPS, at: float = END + 60) -> Evidence:
    return Evidence.start(steps)._replace(last_end=at, thresholds=X)


def every_hour(usual: float, upper: float, name: MetricName = "errors", **fields: Any) -> HourlyReference:
    terms = {"codes": "", "thresholds": X, **fields}
    return HourlyReference.of({name: [Normal(usual, upper)] * HOURS}, **terms)


# ---------------------------------------------------------------------------------------------------------- the table


@given(st.dictionaries(st.integers(0, HOURS - 1), st.tuples(_PARTS, _PARTS), max_size=5))
def test_an_hour_says_what_was_kept_of_it_and_never_less(parts: dict[int, tuple[float, float]]) -> None:
    normals = [Normal(min(parts[number]), max(parts[number])) if number in parts else None for number in range(HOURS)]
    kept = HourlyReference.of({"errors": normals}, codes="", thresholds=X)
    again = load_hours(Opaque(keep_hours(kept).text))
    assert again == kept
    for number in {0, HOURS - 1, *parts}:
        normal = normals[number]
        at = END + HOUR * ((number - hour_of_week(END)) % HOURS)
        found = again.normal(known(at=at + 1800), "errors")
        assert (found is None) == (normal is None)
        if found is not None and normal is not None:
            assert found.reached == pytest.approx(normal.reached, abs=1e-5)
            assert normal.upper <= found.upper <= normal.upper + 2e-5
        assert again.normal(known(at=at + HOUR), "errors") == found, "a block that ends with an hour belongs to it"


def test_what_was_counted_otherwise_is_not_known() -> None:
    for name in ("refused", "redirected"):
        hours = every_hour(0.01, 0.02, name, codes="without 404")
        assert hours.normal(known(), name) is None
        assert hours.normal(known()._replace(counted="without 404"), name) is not None
    for which, name in enumerate(("slow", "verySlow")):
        hours = every_hour(0.01, 0.02, name)
        assert hours.normal(known(), name) is not None
        other = tuple(bound + 1 if number == which else bound for number, bound in enumerate(X))
        assert hours.normal(known()._replace(thresholds=other), name) is None
    assert every_hour(0.01, 0.02).normal(known(), "slow") is None
    assert NO_REFERENCE.normal(known(), "errors") is None


_GOOD = keep_hours(every_hour(0.01, 0.02)).text


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": None},
        {"codes": 7},
        {"thresholds": [1]},
        {"thresholds": "x"},
        {"thresholds": [1, "x"]},
        {"hours": []},
        {"hours": {"errors": "no base64!"}},
        {"hours": {"errors": base64.b64encode(b"short").decode()}},
        {"hours": {"errors": None}},
    ],
)
def test_a_reference_that_somebody_edited_knows_no_hour(change: Mapping[str, Any]) -> None:
    assert load_hours(Opaque(_GOOD)).tables
    assert not load_hours(Opaque(json.dumps({**json.loads(_GOOD), **change}))).tables


@given(st.text() | st.integers(0, len(_GOOD)).map(lambda end: _GOOD[:end] + "x" + _GOOD[end:]))
def test_no_text_ends_it(text: str) -> None:
    found = load_hours(Opaque(text))
    assert found.normal(known(), "errors") is None or "hours" in text


def test_it_is_small() -> None:
    everything = hourly_reference(record(source="Gateway"), RULES, (25.0, 100.0))
    assert set(everything.tables) == {rule.name for rule in DEFAULT_METRICS}
    assert len(keep_hours(everything).text) < 5 * 1024


# ------------------------------------------------------------------------------------------------------- the tolerated


@pytest.mark.parametrize(
    ("rule", "normal", "moment", "hour"),
    [
        # The hour is known to be good: no floor of 1 %, but what a live Heroku would allow that does as the steps did.
        (ERRORS, Normal(0.001, 0.0012), 0.01, 1.25 * upper_limit(20, 20_000, 0.001) + 0.001),
        (ERRORS, Normal(0.001, 0.004), 0.01, 1.25 * 0.004 + 0.001),
        # The record is not sure of it: as without the record, not more.
        (ERRORS, Normal(0.001, 0.05), 0.01, 0.01),
        # It is worse than the steps were, every week.
        (ERRORS, Normal(0.04, 0.05), 1.25 * 0.04 + 0.001, 1.25 * 0.04 + 0.001),
        (ERRORS, Normal(0.04, 0.041), 1.25 * 0.04 + 0.001, 1.25 * 0.04 + 0.001),
        (
            SLOW,
            Normal(0.01, 0.02),
            None,
            1.25 * upper_limit(800, 20_000, 0.001) + 0.005,
        ),  # the steps were as slow as that
        (REFUSED, Normal(0.02, 0.022), None, 1.5 * upper_limit(400, 20_000, 0.001) + 0.01),
        (REFUSED, Normal(0.6, 0.7), (1 + 0.6) / 2, (1 + 0.6) / 2),
    ],
)
def test_what_is_tolerated_at_100(rule: MetricRule, normal: Normal, moment: float | None, hour: float) -> None:
    limits = limits_alone(known(), rule, RULES, every_hour(*normal, rule.name))
    assert limits is not None
    assert limits.by_record
    frozen = frozen_limit(known(), rule, rule.harm, RULES.reference_doubt)
    assert limits.moment == pytest.approx(frozen if moment is None else moment, rel=0.01)
    assert limits.hour == pytest.approx(hour, rel=0.01)


def test_without_a_record_it_is_as_ever() -> None:
    for hours in (None, NO_REFERENCE):
        for rule in DEFAULT_METRICS:
            limits = limits_alone(known(), rule, RULES, hours)
            assert limits is not None
            assert (limits.moment, limits.by_record) == (limits.hour, False)
            assert limits.moment == frozen_limit(known(), rule, rule.harm, RULES.reference_doubt)
        assert limits_alone(known(Counts()), SLOW, RULES, hours) is None
        assert witness_limit(known(), ERRORS, RULES, hours) is None


def test_a_latency_whose_evidence_was_lost_is_judged_by_the_record_within_its_floor() -> None:
    limits = limits_alone(known(Counts()), SLOW, RULES, every_hour(0.01, 0.012, "slow"))
    assert limits is not None
    assert limits.moment == limits.hour == SLOW.floor


@given(
    st.sampled_from(DEFAULT_METRICS),
    st.integers(1, 10**6),
    _PARTS,
    st.tuples(_PARTS, _PARTS),
)
def test_the_record_never_makes_the_judge_stricter_than_a_live_heroku(
    rule: MetricRule, requests: int, part: float, sides: tuple[float, float]
) -> None:
    bad = part * requests
    steps = Counts(requests, bad, requests, bad, bad, bad, 0.0) if rule.name != "redirected" else Counts(requests)
    usual, upper = min(sides), max(sides)
    evidence = known(steps)
    limits = limits_alone(evidence, rule, RULES, every_hour(usual, upper, rule.name))
    frozen = frozen_limit(evidence, rule, rule.harm, RULES.reference_doubt)
    assert limits is not None
    assert frozen is not None
    assert frozen <= limits.moment <= 1
    assert limits.hour <= limits.moment
    # What a live Heroku would allow that is as bad as the record's hour may be, or as the steps were; or what is allowed anyway.
    for live in (usual, bad / requests if rule.name != "redirected" else 0.0):
        allowed = min(rule.harm.ratio * live + rule.harm.margin, (1 + live) / 2)
        assert limits.hour >= allowed - 2e-5
    allowed = min(rule.harm.ratio * upper + rule.harm.margin, (1 + upper) / 2)
    assert limits.hour >= min(allowed, limits.moment) - 2e-5


# ------------------------------------------------------------------------------------------------------------ the bets

_NATS = st.lists(st.floats(-50, 50), min_size=4, max_size=4).map(tuple)


@given(
    st.integers(0, 60),
    st.integers(60, 5000),
    st.floats(1e-4, 0.1),
    st.floats(1.0, 20.0),
    st.floats(0.1, 3),
    st.floats(0.1, 3),
)
def test_a_bet_on_the_hour_is_never_worth_more_than_on_its_limit_alone_nor_less_than_without(
    bad: int, total: int, limit: float, wider: float, cap: float, hour_cap: float
) -> None:
    narrow = wager.log_factors(wager.WORSE, bad, 0.0, total, 0.0, limit)
    wide = wager.log_factors(wager.WORSE, bad, 0.0, total, 0.0, min(limit * wider, 0.9))
    for both, least, most in zip(with_hour(wide, narrow, cap, hour_cap), wide, narrow, strict=True):
        assert min(least, cap) - 1e-9 <= both <= most + 1e-9
        assert both <= max(cap, hour_cap)


@given(cast("st.SearchStrategy[tuple[float, ...]]", _NATS), cast("st.SearchStrategy[tuple[float, ...]]", _NATS))
def test_a_witness_lifts_the_temper_and_nothing_else(live: tuple[float, ...], alone: tuple[float, ...]) -> None:
    assert with_witness(live, None, 2.0) == tuple(one / 2.0 for one in live)
    for one, said, found in zip(live, alone, with_witness(live, alone, 2.0), strict=True):
        assert found <= one
        assert found >= min(one, one / 2)
        if said >= one:
            assert found == one


@pytest.mark.parametrize("heroku", [0.0005, 0.01, 0.2])
@pytest.mark.parametrize("limit", [1e-4, 0.002, 0.05])
@pytest.mark.parametrize("requests", [(5, 95), (40, 760)])
def test_beside_a_thin_heroku_the_bets_stay_fair_whatever_the_record_says(
    heroku: float, limit: float, requests: tuple[int, int]
) -> None:
    """EKS at the border of what is tolerated, both legs in an incident that the record knows nothing of: expectation, exactly."""
    total_a, total_b = requests
    mean_a, mean_b = total_a * heroku, total_b * (1.25 * heroku + 0.001)
    c = 1.25 * total_b / total_a
    expected = [0.0] * len(wager.WORSE)
    for bad_a in range(round(mean_a + 12 * math.sqrt(mean_a) + 12)):
        for bad_b in range(round(mean_b + 12 * math.sqrt(mean_b) + 12)):
            live = wager.log_factors(wager.WORSE, bad_b, bad_a, total_b, c, 0.001)
            alone = wager.log_factors(wager.WORSE, bad_b, 0.0, total_b, 0.0, limit)
            chance = math.exp(_poisson(bad_a, mean_a) + _poisson(bad_b, mean_b))
            for number, nats in enumerate(with_witness(live, alone, 2.0)):
                expected[number] += chance * math.exp(nats)
    assert max(expected) <= 1 + 1e-6


def _poisson(count: int, mean: float) -> float:
    return count * math.log(mean) - mean - math.lgamma(count + 1)


# ------------------------------------------------------------------------------------------------- the judge, together


def watched(
    errors: float, hours: HourlyReference | None, *, weight: int = 100, seconds: float = 3600.0, per_block: int = 750
) -> tuple[float, Evidence]:
    """Return the seconds until EKS is worse, and the evidence; infinity for never."""
    rng, evidence = np.random.default_rng(7), begin_step(known(at=END))
    for number in range(round(seconds / 15)):
        at, part = END + 15.0 * number, weight / 100
        eks = round(per_block * part)
        heroku = per_block - eks
        counts = (Counts(heroku, rng.binomial(heroku, 0.001), heroku), Counts(eks, rng.binomial(eks, errors), eks))
        block = Block(at, at + 15, *counts, thresholds=X)
        evidence = consume(
            evidence, block, rules=RULES, weight=weight, next_weight=100, observed_at=END - 60, hours=hours
        )
        if judge(evidence, rules=RULES, weight=weight, next_weight=100, hours=hours).worse:
            return block.end - END, evidence
    return math.inf, evidence


def test_what_the_floor_hides_is_found_by_the_record() -> None:
    sure, unsure = every_hour(0.001, 0.0012), every_hour(0.001, 0.05)
    assert watched(0.007, None)[0] == watched(0.007, unsure)[0] == math.inf
    assert watched(0.007, sure)[0] < 1800
    assert watched(0.001, sure)[0] == math.inf
    # What is far above either is found as soon.
    assert watched(0.1, sure)[0] <= watched(0.1, None)[0] < 300


def test_five_bad_minutes_of_an_hour_are_not_known_to_be_harm() -> None:
    assert watched(0.007, every_hour(0.001, 0.0012), seconds=300)[1].harm["errors"] != ()
    assert watched(0.007, every_hour(0.001, 0.0012), seconds=300)[0] == math.inf


def test_an_hour_that_is_bad_every_week_is_no_harm_and_turns_no_key() -> None:
    bad = every_hour(0.04, 0.05)
    assert watched(0.04, None)[0] < 600
    assert watched(0.04, bad)[0] == math.inf
    pace = keep_pace(Pace(), Block(END, END + 15, Counts(), Counts(750, 30)), judged=True)
    assert live_key(pace, known(), RULES).metric == "errors"
    assert not live_key(pace, known(), RULES, bad)
    # The key looks at seconds: that the hour is better proves nothing of them.
    few = keep_pace(Pace(), Block(END, END + 15, Counts(), Counts(750, 10)), judged=True)
    assert not live_key(few, known(), RULES, every_hour(0.0001, 0.0002))


def test_beside_a_thin_heroku_harm_is_found_sooner() -> None:
    with_it, without = (watched(0.02, hours, weight=90)[0] for hours in (every_hour(0.001, 0.0012), None))
    assert with_it < 0.8 * without < math.inf
    # A record that finds nothing wrong lifts nothing, and where Heroku is not thin it is not asked.
    assert watched(0.02, every_hour(0.05, 0.06), weight=90)[0] >= without
    assert watched(0.02, every_hour(0.001, 0.0012), weight=50) == watched(0.02, None, weight=50)


@pytest.mark.parametrize(
    ("weight", "hours", "reference"),
    [
        (100, None, None),
        (25, None, None),
        (100, every_hour(0.001, 0.002), Reference.RECORD),
        (100, NO_REFERENCE, Reference.EARLIER_STEPS),
        (90, every_hour(0.001, 0.002), Reference.HEROKU_AND_RECORD),
        (90, NO_REFERENCE, Reference.HEROKU),
        (50, every_hour(0.001, 0.002), Reference.HEROKU),
    ],
)
def test_each_gate_says_what_eks_was_held_against(
    weight: int, hours: HourlyReference | None, reference: Reference | None
) -> None:
    judgement = judge(known(), rules=RULES, weight=weight, next_weight=100, hours=hours)
    errors = judgement.metrics[0]
    assert (errors.name, errors.reference) == ("errors", reference)
    assert judgement.alive is not None
    assert judgement.alive.reference is None
    if reference is Reference.RECORD:
        assert errors.tolerated == pytest.approx(1.25 * 0.00221 + 0.001, rel=0.05)


# ---------------------------------------------------------------------------------------------------- from the record


def hours_of(known_record: Record, name: MetricName = "errors", rules: GateRules = RULES) -> list[Normal | None]:
    found = hourly_reference(known_record, rules, X)
    start = END - HOUR * hour_of_week(END)
    return [found.normal(known(at=start + HOUR * number + 60), name) for number in range(HOURS)]


def test_a_record_without_dispersion_is_nearly_as_sure_as_its_counts() -> None:
    # 0.1 % of 360,000 requests by day, of 18,000 by night.
    assert {round(one.upper, 4) for one in hours_of(record()) if one is not None} == {0.0013, 0.0026}
    assert None not in hours_of(record())


def _weekly(spread: float, seed: int = 0) -> Callable[[int], Mapping[str, float]]:
    levels = np.exp(np.random.default_rng(seed).normal(0, spread, 1000))
    return lambda number: {"errors": 0.001 * float(levels[number])}


def test_the_more_its_weeks_differ_the_less_sure_it_is() -> None:
    upper = [np.mean([one.upper for one in hours_of(record(answers=_weekly(by))) if one]) for by in (0, 0.1, 0.3, 0.6)]
    assert upper == sorted(upper)
    assert upper[2] > 2 * upper[0]


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_real_fraction_of_another_week_is_below_the_limit(spread: float, seed: int) -> None:
    rng, draw = np.random.default_rng(seed), _weekly(spread, seed)

    def counted(number: int) -> Mapping[str, float]:
        # The kit counts exactly what it is told: so what chance adds is told.
        requests = 3600 * (50.0 if 7 <= (number + 10) % 24 < 20 else 2.5)
        return {"errors": rng.poisson(requests * draw(number)["errors"]) / requests}

    hours = hours_of(record(answers=counted))
    later = [draw(400 + number)["errors"] for number in range(HOURS)]
    assert not [one for one, real in zip(hours, later, strict=True) if one is not None and real > one.upper]


def test_a_habit_of_the_night_is_normal_and_an_outage_of_one_week_is_not() -> None:
    def answers(number: int) -> Mapping[str, float]:
        start = END - HOUR * (336 - number)
        night = hour_of_week(start) % 24 == 3
        return {"errors": 0.5 if number == 60 else 0.05 if night else 0.001}

    hours = hours_of(record(answers=answers))
    for number, one in enumerate(hours):
        if one is not None:
            assert (one.reached > 0.04) == (number % 24 == 3)
            assert one.upper < 0.1


def test_an_incident_is_told_from_chance() -> None:
    assert without_incidents([(1, 1000), (500, 1000)], ERRORS) == [(1, 1000)]
    assert without_incidents([(300, 1000), (310, 1000)], ERRORS) == [(300, 1000), (310, 1000)]
    assert without_incidents([(0, 50), (1, 50)], ERRORS) == [(0, 50), (1, 50)]


@pytest.mark.parametrize("days", [0.5, 1.0])
def test_a_record_without_the_same_hours_is_no_reference(days: float) -> None:
    assert hourly_reference(record(days), RULES, X) == replace(NO_REFERENCE, thresholds=(0.0, 0.0))


def test_a_record_of_a_week_knows_the_hours_of_the_day() -> None:
    hours = hours_of(record(7))
    assert hours[14] == hours[38] is not None


def test_where_the_hour_of_the_week_has_few_requests_that_of_all_days_counts() -> None:
    few = hours_of(record(rate=lambda _: 0.5))
    assert few[14] == few[38] is not None
    assert set(hours_of(record(rate=lambda _: 0.005))) == {None}


def test_the_router_s_times_are_no_reference_for_the_gateway_s() -> None:
    bounds = (25.0, 100.0)
    assert set(hourly_reference(record(), RULES, bounds).tables) == {"errors", *ANSWERS}
    assert set(hourly_reference(record(source="Gateway"), RULES, bounds).tables) > {"slow", "verySlow"}
    assert set(hourly_reference(record(source="Gateway"), RULES, (None, None)).tables) == {"errors", *ANSWERS}


_CELLS = st.lists(
    st.lists(
        st.tuples(st.floats(0, 1), st.integers(1, 10**6)).map(lambda cell: (cell[0] * cell[1], float(cell[1]))),
        max_size=5,
    ),
    max_size=80,
)


@given(_CELLS)
def test_any_record_has_a_dispersion_or_too_few_hours(groups: list[list[tuple[float, float]]]) -> None:
    spread = spread_of(groups)
    pairs = sum(max(len(group) - 1, 0) for group in groups)
    assert (spread is None) == (pairs < 24)
    if spread is not None:
        assert 1 <= spread.clumps < math.inf
        assert 0 <= spread.drift < math.inf


@given(
    st.floats(0, 1), st.integers(1, 10**9), st.integers(2, 50), st.floats(1, 1e4), st.floats(0, 100), st.floats(1, 3)
)
def test_dispersion_makes_counts_weigh_less(
    part: float, total: int, hours: int, clumps: float, drift: float, more: float
) -> None:
    weight = weight_of(part * total, total, hours, Spread(clumps, drift))
    assert 0 < weight <= total * (1 + 1e-9)
    assert weight_of(part * total, total, hours, Spread(clumps * more, drift)) <= weight * (1 + 1e-9)
    assert weight_of(part * total, total, hours, Spread(clumps, drift * more)) <= weight * (1 + 1e-9)
    assert weight_of(part * total, total, hours, Spread(1.0, 0.0)) == pytest.approx(total)


def test_hours_that_were_not_recorded_say_nothing() -> None:
    holes = record(minutes=lambda number: 0 if number < 168 else 60)
    assert hours_of(holes)[14] is not None  # by the days of the other week
    empty = replace(record(), hours=tuple(hour(one.start, 0.0) for one in record().hours))
    assert hourly_reference(empty, RULES, X).tables == {}
