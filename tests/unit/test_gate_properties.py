"""What holds of the judge for whatever it is fed."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import (
    DEFAULT_METRICS,
    Evidence,
    GateRules,
    Judgement,
    RatioJudgement,
    begin_step,
    combine,
    consume,
    judge,
)
from cutover.domain.evidence.wager import Bag

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
    bags += evidence.observed.values()
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
    *metrics, alive = judgement.metrics
    assert judgement.harm == pytest.approx(max(alive.harm, sum(metric.harm for metric in metrics)))
    for estimate in (judgement.eks_requests_needed, judgement.seconds_to_safe):
        assert estimate is None or (math.isfinite(estimate) and estimate >= 0)
    assert not (judgement.worse and judgement.safe)

    text = json.dumps(evidence.dump(), allow_nan=False, separators=(",", ":"))
    assert len(text) <= 3072
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


modes = st.tuples(*[st.booleans()] * len(DEFAULT_METRICS))


def in_modes(enforced: tuple[bool, ...]) -> GateRules:
    """Return the rules where these metrics are enforced, and the others only observed."""
    rules = zip(DEFAULT_METRICS, enforced, strict=True)
    return GateRules(metrics=tuple(replace(rule, enforced=has_a_say) for rule, has_a_say in rules))


@settings(max_examples=100, deadline=None)
@given(passes=st.lists(st.tuples(modes, st.integers(0, 3)), max_size=30), last=modes)
def test_no_change_of_modes_makes_money(passes: list[tuple[tuple[bool, ...], int]], last: tuple[bool, ...]) -> None:
    """With no bet won, nothing that people do to the modes may raise any evidence above what a test begins with."""
    evidence = Evidence()
    for number, (enforced, legs) in enumerate(passes):
        heroku, eks = Counts(900 * legs, legs, 900 * legs), Counts(100 * legs, 0, 100 * legs)
        block = Block(number * 15.0, (number + 1) * 15.0, heroku, eks)
        evidence = consume(evidence, block, rules=in_modes(enforced), weight=10, next_weight=100, observed_at=-1000)
        for rules in (in_modes(enforced), in_modes(last)):
            judgement = judge(evidence, rules=rules, weight=10, next_weight=100)
            assert judgement.harm <= 1 + 1e-9
            assert all(metric.harm <= 1 + 1e-9 for metric in judgement.metrics)


@settings(max_examples=100, deadline=None)
@given(
    harms=st.lists(st.tuples(st.floats(0, 1e9), st.floats(0.01, 1)), max_size=4),
    legs=blocks,
    enforced=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_gates_together_are_one_test(
    harms: list[tuple[float, float]], legs: list[tuple[Counts, Counts, str]], enforced: list[bool]
) -> None:
    main = ask(run(legs, 10.0, 15.0, Evidence()), 10)
    own = []
    for number, ((harm, weight), has_a_say) in enumerate(zip(harms, enforced, strict=False)):
        rules = GateRules(metrics=(replace(DEFAULT_METRICS[0], stake=1.0, enforced=has_a_say),), alive_stake=0.0)
        bags = {"errors": (harm, 0.0, 0.0, 0.0)}
        evidence = Evidence(harm=bags, observed=bags)
        own.append(RatioJudgement(f"own-{number}", judge(evidence, rules=rules, weight=10, next_weight=100), weight))
    judgement = combine(main, own)
    shares = [1.0, *(gate.stake for gate in own)]
    alone = [main.harm, *(gate.judgement.metrics[0].harm * gate.judgement.metrics[0].enforced for gate in own)]
    # Rolled back only where one is beyond its own part of alpha, and these parts add up to alpha.
    assert judgement.worse == any(
        harm * share / sum(shares) >= main.harm_limit for harm, share in zip(alone, shares, strict=True)
    )
    assert judgement.worse == any(m.verdict == "Fail" for m in judgement.metrics if m.enforced)
    assert not (judgement.worse and judgement.safe)
    assert judgement.safe <= main.safe


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
