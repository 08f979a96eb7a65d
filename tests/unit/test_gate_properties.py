"""What holds of the judge for whatever it is fed."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutover.core.blocks import Block, Counts
from cutover.core.evidence import Bag
from cutover.core.gate import Evidence, GateRules, Judgement, begin_step, consume, judge

WEIGHTS = (1.0, 10.0, 50.0, 75.0, 95.0, 100.0)


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    """Possible counts of a leg, from nothing to a million requests a block."""
    requests = draw(st.one_of(st.integers(0, 50), st.integers(0, 1_000_000)))
    timed = draw(st.one_of(st.just(requests), st.integers(0, requests)))
    return Counts(
        float(requests),
        float(draw(st.integers(0, requests))),
        float(timed),
        float(draw(st.integers(0, timed))),
        float(draw(st.integers(0, timed))),
    )


anything = st.floats(allow_nan=True, allow_infinity=True)
nonsense = st.builds(Counts, anything, anything, anything, anything, anything)
blocks = st.lists(st.tuples(counts(), counts(), st.sampled_from(["", "", "", "missed scrape"])), max_size=25)


def run(legs: list[tuple[Counts, Counts, str]], weight: float, seconds: float, evidence: Evidence) -> Evidence:
    rules = GateRules(block_seconds=seconds)
    start = evidence.last_end
    for number, (heroku, eks, gap) in enumerate(legs):
        block = Block(start + number * seconds, start + (number + 1) * seconds, heroku, eks, gap)
        evidence = consume(evidence, block, rules=rules, weight=weight, next_weight=100, observed_at=start)
    return evidence


def ask(evidence: Evidence, weight: float) -> Judgement:
    return judge(evidence, rules=GateRules(), weight=weight, next_weight=100)


def wealth(evidence: Evidence) -> list[float]:
    bags: list[Bag] = [evidence.alive, evidence.heroku, *evidence.harm.values(), *evidence.safety.values()]
    money = [evidence.alive_purse, evidence.heroku_purse, evidence.harm_purse]
    return [*(part for bag in bags for part in bag), *(purse.total for purse in money), evidence.safety_money]


@settings(max_examples=120, deadline=None)
@given(
    first=blocks,
    second=blocks,
    weights=st.sampled_from(list(itertools.pairwise(WEIGHTS))),
    seconds=st.sampled_from([5.0, 15.0, 60.0]),
)
def test_numbers_stay_numbers_and_survive_storage(
    first: list[tuple[Counts, Counts, str]],
    second: list[tuple[Counts, Counts, str]],
    weights: tuple[float, float],
    seconds: float,
) -> None:
    evidence = run(first, weights[0], seconds, Evidence())
    evidence = run(second, weights[1], seconds, begin_step(evidence))
    assert all(math.isfinite(part) and part >= 0 for part in wealth(evidence))
    judgement = ask(evidence, weights[1])
    assert math.isfinite(judgement.harm)
    assert math.isfinite(judgement.safety)
    assert judgement.harm == pytest.approx(sum(metric.harm for metric in judgement.metrics))
    for estimate in (judgement.eks_requests_needed, judgement.seconds_to_safe):
        assert estimate is None or (math.isfinite(estimate) and estimate >= 0)
    assert not (judgement.worse and judgement.safe)

    text = json.dumps(evidence.dump(), allow_nan=False, separators=(",", ":"))
    assert len(text) <= 1536
    again = ask(Evidence.load(json.loads(text)), weights[1])
    assert again.harm == pytest.approx(judgement.harm, rel=1e-4)
    assert again.safety == pytest.approx(judgement.safety, rel=1e-4)
    assert again.heroku_wealth == pytest.approx(judgement.heroku_wealth, rel=1e-4)
    assert (again.heroku_silent, again.both_unhealthy) == (judgement.heroku_silent, judgement.both_unhealthy)


@settings(max_examples=60, deadline=None)
@given(legs=blocks, weight=st.sampled_from(WEIGHTS))
def test_the_same_blocks_give_the_same_evidence(legs: list[tuple[Counts, Counts, str]], weight: float) -> None:
    evidence = run(legs, weight, 15.0, Evidence())
    assert run(legs, weight, 15.0, Evidence()) == evidence
    # Blocks that come again, after a restart, count once.
    rules = GateRules()
    for number, (heroku, eks, gap) in enumerate(legs):
        block = Block(number * 15.0, (number + 1) * 15.0, heroku, eks, gap)
        assert consume(evidence, block, rules=rules, weight=weight, next_weight=100, observed_at=0) is evidence


@settings(max_examples=100, deadline=None)
@given(heroku=nonsense, eks=nonsense, weight=st.sampled_from(WEIGHTS))
def test_nonsense_is_never_bet_on(heroku: Counts, eks: Counts, weight: float) -> None:
    before = run([(Counts(900, 9, 900, 40, 1), Counts(100, 1, 100, 4, 0), "")] * 5, weight, 15.0, Evidence())
    after = run([(heroku, eks, "")], weight, 15.0, before)
    assert all(math.isfinite(part) and part >= 0 for part in wealth(after))
    assert math.isfinite(ask(after, weight).harm)


@settings(max_examples=100, deadline=None)
@given(requests=st.integers(0, 100_000), legs=st.integers(1, 30), weight=st.sampled_from(WEIGHTS[:-1]))
def test_a_leg_without_any_fault_is_never_worse(requests: int, legs: int, weight: float) -> None:
    eks = requests * weight / (100 - weight)
    well = (Counts(requests, 0, requests, 0, 0), Counts(eks, 0, eks, 0, 0), "")
    assert ask(run([well] * legs, weight, 15.0, Evidence()), weight).harm <= 1 + 1e-9


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=15,
)


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from(sorted(Evidence().dump())), value=json_values)
def test_a_damaged_dump_is_refused_or_read_but_never_crashes(key: str, value: Any) -> None:
    data = Evidence().dump()
    data[key] = value
    try:
        evidence = Evidence.load(data)
    except ValueError as error:
        assert "stored evidence" in str(error)  # noqa: PT017 - not raising is fine as well
    else:
        assert math.isfinite(ask(evidence, 10).harm)
