"""*Alive* where EKS gets fewer requests than its weight, or has not answered the long ones yet."""

from __future__ import annotations

import json

import pytest

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, Judgement, begin_step, consume, judge

RULES = GateRules(block_seconds=5)
LENGTH, WEIGHT = 5.0, 10
HEROKU = Counts(450, 0, 450)
"""In 5 s, of 100 requests/s."""
POLLS = (30_000.0, 60_000.0)
"""Thresholds of an app whose long polls take 25 s."""
Thresholds = tuple[float | None, float | None]


def feed(
    evidence: Evidence, eks: Counts, *, blocks: int = 1, heroku: Counts = HEROKU, thresholds: Thresholds = POLLS
) -> Evidence:
    for _ in range(blocks):
        start = evidence.last_end
        block = Block(start, start + LENGTH, heroku, eks, thresholds=thresholds)
        evidence = consume(evidence, block, rules=RULES, weight=WEIGHT, next_weight=25, observed_at=0)
    return evidence


def ask(evidence: Evidence) -> Judgement:
    return judge(evidence, rules=RULES, weight=WEIGHT, next_weight=25)


def answered(requests: float, errors: float = 0) -> Counts:
    return Counts(requests, errors, requests)


def blocks_to_worse(evidence: Evidence, eks: Counts) -> int:
    for blocks in range(1, 20):
        evidence = feed(evidence, eks)
        if ask(evidence).worse:
            return blocks
    return 20


@pytest.mark.parametrize("thresholds", [POLLS, (None, None)], ids=["latency is judged", "it is not"])
@pytest.mark.parametrize("short", [0, 20])
def test_requests_that_last_are_not_missing_before_they_could_have_ended(short: int, thresholds: Thresholds) -> None:
    """Of 50 requests in 5 s so many are short; the others are long polls, and Heroku's from before the step end all along."""
    evidence = Evidence()
    for _ in range(5):
        evidence = feed(evidence, answered(short), thresholds=thresholds)
        assert not ask(evidence).worse
        assert not ask(evidence).share_off
    evidence = feed(evidence, answered(50), thresholds=thresholds, blocks=30)
    assert ask(evidence).harm < 1
    assert blocks_to_worse(evidence, answered(0)) <= 4


def test_what_fails_need_not_last() -> None:
    assert blocks_to_worse(Evidence(), answered(50, errors=50)) <= 3


def test_a_leg_that_hangs_from_the_first_request_on_is_found_where_requests_are_short() -> None:
    evidence = Evidence()
    for _ in range(6):
        evidence = feed(evidence, answered(0), thresholds=(500.0, 2500.0))
    assert ask(evidence).worse


HALF = answered(25)
"""What EKS answers where one of two gateways has no route to it."""


def stale(blocks: int = 100) -> Evidence:
    return feed(Evidence(), HALF, blocks=blocks, heroku=Counts(475, 0, 475))


def test_a_leg_that_answers_all_that_it_gets_is_not_dead() -> None:
    evidence = Evidence()
    for _ in range(100):
        evidence = feed(evidence, HALF, heroku=Counts(475, 0, 475))
        assert not ask(evidence).worse
    judgement = ask(Evidence.load(json.loads(json.dumps(evidence.dump()))))
    assert judgement.share_off
    assert not judgement.safe
    # Once the whole share is seen, the step goes on.
    evidence = feed(evidence, answered(50), blocks=20)
    assert not ask(evidence).share_off
    assert ask(evidence).safe


@pytest.mark.parametrize("eks", [answered(25, errors=25), answered(0)])
def test_a_leg_that_fails_what_it_gets_is_found(eks: Counts) -> None:
    assert blocks_to_worse(stale(), eks) <= 4


def test_half_of_the_answers_are_missed_once_all_of_them_came() -> None:
    well = feed(Evidence(), answered(50), blocks=30)
    assert not ask(well).share_off
    loaded = Evidence.load(json.loads(json.dumps(well.dump())))
    for evidence in (well, loaded):
        after = feed(evidence, answered(20), blocks=20)
        assert ask(after).worse
        assert ask(after).main_metric == "alive"


def test_each_step_has_to_show_its_share() -> None:
    evidence = begin_step(feed(Evidence(), answered(50), blocks=30))
    assert not ask(feed(evidence, answered(20), blocks=20)).worse


def test_few_requests_that_eks_does_not_get_are_no_silence() -> None:
    """A gateway without the route, and two requests expected of EKS in a block: every third block is empty."""
    evidence = Evidence()
    for _ in range(200):
        for got in (0, 1, 2):
            evidence = feed(evidence, answered(got), heroku=answered(18))
            assert not ask(evidence).worse


# ------------------------------------------------------------------------------------------ more than the weight explains


@pytest.mark.parametrize(("eks", "over"), [(50, False), (60, False), (75, True), (200, True)])
def test_a_step_is_not_safe_by_what_eks_answers_to_others(eks: int, over: bool) -> None:
    judgement = ask(feed(Evidence(), answered(eks), blocks=60))
    assert judgement.share_over is over
    assert judgement.safe is not over


def test_few_requests_say_nothing_of_the_share() -> None:
    """Three of ten requests at 10 % are no proof of anything."""
    evidence = feed(Evidence(), answered(3), heroku=Counts(7, 0, 7))
    assert not ask(evidence).share_over


def test_the_step_goes_on_when_its_whole_share_fits_again() -> None:
    evidence = feed(Evidence(), answered(80), blocks=10)
    assert ask(evidence).share_over
    evidence = feed(evidence, answered(50), blocks=120)
    assert not ask(evidence).share_over
    assert ask(evidence).safe


def test_each_step_has_a_share_of_its_own() -> None:
    assert not ask(begin_step(feed(Evidence(), answered(200), blocks=10))).share_over
