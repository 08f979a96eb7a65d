"""What an edit of the gates does to evidence that is there already."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import (
    DEFAULT_METRICS,
    Evidence,
    GateRules,
    Tolerance,
    begin_step,
    consume,
    judge,
    learn,
)

RULES = GateRules()
THRESHOLDS = (500.0, 2500.0)
Thresholds = tuple[float | None, float | None]


def leg(requests: float, errors: float = 0, slow: float = 0, very_slow: float = 0) -> Counts:
    return Counts(requests, errors, requests, slow, very_slow)


def feed(
    evidence: Evidence,
    heroku: Counts,
    eks: Counts,
    *,
    blocks: int = 1,
    rules: GateRules = RULES,
    weight: float = 10,
    thresholds: Thresholds = THRESHOLDS,
) -> Evidence:
    for _ in range(blocks):
        start = evidence.last_end
        block = Block(start, start + 15, heroku, eks, thresholds=thresholds)
        evidence = consume(evidence, block, rules=rules, weight=weight, next_weight=100, observed_at=-1000)
    return evidence


def harm(evidence: Evidence, rules: GateRules = RULES, weight: float = 10) -> float:
    return judge(evidence, rules=rules, weight=weight, next_weight=100).harm


def with_errors(harm: Tolerance | None = None, advance: Tolerance | None = None) -> GateRules:
    errors = DEFAULT_METRICS[0]
    errors = replace(errors, harm=harm or errors.harm, advance=advance or errors.advance)
    return replace(RULES, metrics=(errors, *DEFAULT_METRICS[1:]))


WIDER = with_errors(harm=Tolerance(1.25, 0.00375))
WELL, WORSE = (leg(6750, 7), leg(750, 1)), (leg(6750, 7), leg(750, 5))


def nearly_rolled_back() -> Evidence:
    """EKS fails 0.67 % against 0.1 %, until half of the evidence that rolls back is there."""
    evidence = feed(Evidence(), *WELL, blocks=20)
    while harm(evidence) < 50:
        evidence = feed(evidence, *WORSE)
    return evidence


@pytest.mark.parametrize(
    "wider", [WIDER, with_errors(harm=Tolerance(4, 0.001)), with_errors(harm=Tolerance(0.5, 0.01))]
)
def test_harm_under_a_narrower_tolerance_is_no_harm_under_a_wider_one(wider: GateRules) -> None:
    evidence = nearly_rolled_back()
    assert harm(evidence, wider) < 1
    after = feed(evidence, *WELL, rules=wider)
    assert harm(after, wider) < 1
    assert after.harm["slow"] == pytest.approx(feed(evidence, *WELL).harm["slow"])
    # What the bag held is lost, and the purse pays on as before.
    assert after.harm_purse == feed(evidence, *WELL).harm_purse
    assert harm(feed(after, *WELL), RULES) < 1  # edited back, it stays lost


def test_who_widens_a_tolerance_in_time_is_not_rolled_back() -> None:
    """EKS is at the border of the new tolerance."""
    rolled_back = widened = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rules, evidence = RULES, Evidence()
        for _ in range(300):
            heroku, eks = leg(6750, rng.binomial(6750, 0.001)), leg(750, rng.binomial(750, 0.005))
            evidence = feed(evidence, heroku, eks, rules=rules)
            if harm(evidence, rules) >= 100:
                rolled_back += rules is WIDER
                break
            rules = WIDER if harm(evidence, rules) >= 50 else rules
        widened += rules is WIDER
    assert widened >= 5
    assert rolled_back == 0


def test_harm_stays_harm_under_a_narrower_tolerance() -> None:
    evidence = nearly_rolled_back()
    narrower = with_errors(harm=Tolerance(1.25, 0.0005))
    assert harm(evidence, narrower) == pytest.approx(harm(evidence))
    assert feed(evidence, *WORSE, rules=narrower).harm["errors"][1] > evidence.harm["errors"][1]


def test_a_proof_holds_for_the_margin_that_was_proven_and_for_wider_ones() -> None:
    evidence = feed(Evidence(), *WELL, blocks=40)
    wider, narrower = with_errors(advance=Tolerance(1.5, 0.01)), with_errors(advance=Tolerance(1.5, 0.004))
    for rules, safe in ((RULES, True), (wider, True), (narrower, False)):
        assert judge(evidence, rules=rules, weight=10, next_weight=100).safe == safe
    after = feed(evidence, *WELL, rules=narrower)
    assert not after.proven
    assert harm(after, narrower) == pytest.approx(harm(feed(evidence, *WELL)))


def test_tolerances_that_nobody_edits_survive_storage() -> None:
    rules = with_errors(harm=Tolerance(1.2345678901, 0.00123456789))
    evidence = feed(Evidence(), *WORSE, rules=rules, blocks=10)
    loaded = Evidence.load(json.loads(json.dumps(evidence.dump())))
    assert harm(feed(loaded, *WORSE, rules=rules), rules) == pytest.approx(
        harm(feed(evidence, *WORSE, rules=rules), rules), rel=1e-4
    )


# --- thresholds of latency -------------------------------------------------------------------------------------------


def before_full(thresholds: Thresholds = THRESHOLDS) -> Evidence:
    """Ten minutes at 50 %: 1 % slower than X1, 0.1 % slower than X2."""
    usual = leg(1000, 1, 10, 1)
    evidence = feed(Evidence(), usual, usual, blocks=40, weight=50, thresholds=thresholds)
    return begin_step(evidence)


def at_full(evidence: Evidence, eks: Counts, thresholds: Thresholds) -> Evidence:
    return feed(evidence, Counts(), eks, blocks=120, weight=100, thresholds=thresholds)


def test_what_was_normal_by_another_threshold_is_not_held_against_eks() -> None:
    """X1 is lowered at 100 %, and 15 % were always slower than the new one."""
    after = at_full(before_full(), leg(1000, 1, 150, 1), (250.0, 2500.0))
    judgement = judge(after, rules=RULES, weight=100, next_weight=100)
    assert not judgement.worse
    slow, very_slow = judgement.metrics[1:3]
    assert (slow.tolerated, slow.harm) == (None, pytest.approx(0, abs=0.2))
    assert very_slow.tolerated == pytest.approx(0.01)
    # The other latency is judged as before, and so is this one while nothing is edited.
    assert harm(at_full(before_full(), leg(1000, 1, 150, 40), (250.0, 2500.0)), weight=100) >= 100
    assert harm(at_full(before_full(), leg(1000, 1, 150, 1), THRESHOLDS), weight=100) >= 100


def test_a_new_threshold_begins_with_new_evidence_and_learns_what_is_normal() -> None:
    slow = leg(1000, 1, 200, 1)
    evidence = feed(feed(Evidence(), WELL[0], WELL[1], blocks=20), leg(9000, 9, 90, 9), slow, blocks=8)
    assert sum(evidence.harm["slow"]) > 1
    after = feed(evidence, leg(9000, 9, 900, 9), leg(1000, 1, 100, 1), thresholds=(250.0, 2500.0))
    assert sum(after.harm["slow"]) < 0.1
    assert after.harm["verySlow"] == pytest.approx(
        feed(evidence, leg(9000, 9, 900, 9), leg(1000, 1, 100, 1)).harm["verySlow"]
    )
    after = feed(after, leg(9000, 9, 900, 9), leg(1000, 1, 100, 1), thresholds=(250.0, 2500.0), blocks=40)
    loaded = Evidence.load(json.loads(json.dumps(after.dump())))
    for kept in (after, loaded):
        at_100 = judge(kept, rules=RULES, weight=100, next_weight=100)
        assert at_100.metrics[1].tolerated == pytest.approx(1.25 * 0.1 + 0.005, rel=0.03)


def test_requests_from_before_the_thresholds_were_known_were_not_fast() -> None:
    """An hour of traffic in which nothing was slow only because nobody knew what is slow."""
    evidence = Evidence()
    for n in range(240):
        unknown = Block(n * 15.0, n * 15.0 + 15, leg(1000, 1), thresholds=(None, 2500.0))
        evidence = learn(evidence, unknown)
    assert evidence.reference.requests > 200_000
    usual = leg(1000, 1, 45, 0)
    evidence = begin_step(feed(evidence, usual, usual, blocks=20, weight=50))
    slow = judge(evidence, rules=RULES, weight=100, next_weight=100).metrics[1]
    assert slow.tolerated is not None
    assert slow.tolerated > 1.25 * 0.045 + 0.005
