"""Which answers are good, and whether both legs give the same mix."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.kit.gate_traces import Regression, Run, Traffic, blocks_of, cutover

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, Judgement, begin_step, consume, judge, learn
from cutover.domain.evidence.metrics import frozen_limit, plausible
from cutover.domain.evidence.mix import MOST_CODES, OTHER, Good, add_codes, good_answers, recounted, top_codes

RULES = GateRules()


def legs(**parts: tuple[float, float]) -> tuple[Counts, Counts]:
    """Return 900 requests of Heroku and 100 of EKS, with a fraction of each leg's answers in some classes."""
    heroku, eks = (
        Counts(total, timed=total, **{name: total * fractions[leg] for name, fractions in parts.items()})
        for leg, total in enumerate((900.0, 100.0))
    )
    return heroku, eks


def fed(evidence: Evidence, pair: tuple[Counts, Counts], blocks: int, weight: float = 10) -> Evidence:
    for _ in range(blocks):
        start = evidence.last_end
        block = Block(start, start + 15, *pair)
        evidence = consume(evidence, block, rules=RULES, weight=weight, next_weight=100, observed_at=-100)
    return evidence


def recorded(pair: tuple[Counts, Counts], blocks: int = 20) -> Evidence:
    """Return the evidence after some time at weight 0."""
    evidence = Evidence()
    for number in range(blocks):
        evidence = learn(evidence, Block(15.0 * number, 15.0 * number + 15, pair[0] + pair[1]))
    return begin_step(evidence)


def ask(evidence: Evidence, weight: float = 10) -> Judgement:
    return judge(evidence, rules=RULES, weight=weight, next_weight=100)


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        (Counts(), Good()),
        (Counts(49, refused=49), Good()),  # too few to tell
        (Counts(1000, errors=500), Good(share=1.0)),
        (Counts(1000, refused=300, redirected=300), Good(share=0.4)),
        (Counts(1000, refused=800, redirected=100), Good(refused=True, share=0.9)),
        (Counts(1000, refused=100, redirected=800), Good(redirected=True, share=0.9)),
        (Counts(1000, throttled=990), Good(share=0.01)),
    ],
)
def test_which_answers_are_good(reference: Counts, expected: Good) -> None:
    assert good_answers(reference) == expected


@pytest.mark.parametrize("answers", ["refused", "redirected", "throttled", "excepted"])
def test_a_leg_without_good_answers_is_dead(answers: str) -> None:
    well = legs(refused=(0.05, 0.05), redirected=(0.1, 0.1))
    evidence = fed(recorded(well), well, 8)
    assert not ask(evidence).worse
    eks = Counts(100.0, timed=100.0, **{answers: 100.0})
    judgement = ask(fed(evidence, (well[0], eks), 2))
    assert judgement.worse
    assert judgement.main_metric == "alive"


def test_heroku_is_not_dead_where_eks_answers_what_heroku_refuses() -> None:
    """Somebody has to be able to go back to it."""
    usual = legs(refused=(0.4, 0.4))
    judgement = ask(fed(recorded(usual), legs(refused=(0.4, 0.0)), 40))
    assert not judgement.heroku_dead
    assert judgement.differences.fewer["refused"] >= 100


@pytest.mark.parametrize("part", [{"refused": (1.0, 0.4)}, {"throttled": (1.0, 0.0)}, {"errors": (1.0, 0.0)}])
def test_heroku_is_dead_where_it_gives_no_good_answers_any_more(part: dict[str, tuple[float, float]]) -> None:
    judgement = ask(fed(recorded(legs(refused=(0.4, 0.4))), legs(**part), 20))
    assert judgement.heroku_dead


@pytest.mark.parametrize(
    ("part", "found"),
    [
        ({"refused": (0.1, 0.0)}, "refused"),
        ({"redirected": (0.1, 0.0)}, "redirected"),
        ({"throttled": (0.1, 0.0)}, "throttled"),
    ],
)
def test_fewer_answers_of_a_class_are_a_difference_and_no_harm(
    part: dict[str, tuple[float, float]], found: str
) -> None:
    judgement = ask(fed(Evidence(), legs(**part), 40))
    assert [name for name, evidence in judgement.differences.fewer.items() if evidence >= 100] == [found]
    assert judgement.harm < 10
    assert judgement.safe, "only the hold keeps it from the next step, and a person may skip that"


def test_a_difference_is_over_soon_after_its_cause() -> None:
    evidence = fed(Evidence(), legs(refused=(0.1, 0.0)), 200)
    assert ask(evidence).differences.largest >= 100
    assert ask(fed(evidence, legs(refused=(0.1, 0.1)), 40)).differences.largest < 100
    assert not begin_step(evidence).unequal


def test_more_throttled_on_eks_is_a_difference_too() -> None:
    judgement = ask(fed(Evidence(), legs(throttled=(0.0, 0.1)), 40))
    assert judgement.differences.throttled >= 100
    assert not judgement.worse


@pytest.mark.parametrize("answers", ["refused", "redirected"])
def test_sessions_that_the_legs_do_not_share_show_against_the_record(answers: str) -> None:
    """A fifth of the requests has a session: at 50 % half of them fail on either leg, and the legs are alike."""
    evidence = recorded(legs(refused=(0.02, 0.02)))
    pair = (Counts(500, timed=500, **{answers: 60}), Counts(500, timed=500, **{answers: 60}))
    judgement = ask(fed(evidence, pair, 40, weight=50), 50)
    assert judgement.differences.sessions >= 100
    assert max(judgement.differences.fewer.values()) < 10
    assert not judgement.worse
    unknown = fed(Evidence(), pair, 40, weight=50)
    assert ask(unknown, 50).differences.sessions == 0, "nothing was recorded"


def test_one_leg_that_refuses_more_is_no_question_of_sessions() -> None:
    evidence = recorded(legs(refused=(0.02, 0.02)))
    assert ask(fed(evidence, legs(refused=(0.02, 0.1)), 20)).differences.sessions < 1


@pytest.mark.parametrize("rate", [5, 50, 500])
def test_a_healthy_mix_is_neither_harm_nor_a_difference(rate: float) -> None:
    traffic = Traffic(rate=rate, refused=0.05, redirected=0.2, bursts=0.5)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        run = Run(GateRules(block_seconds=15), Evidence.start())
        for weight, next_weight in ((10, 25), (25, 50), (50, 100)):
            blocks = blocks_of(rng, traffic, weight=weight, seconds=600, block=15, start=run.now)
            assert run.step(blocks, weight, next_weight, until=_differs) is None
        assert cutover(rng, traffic, run.rules, block=15) == ""


def _differs(judgement: Judgement) -> bool:
    return judgement.worse or judgement.differences.largest >= judgement.differences.limit


@pytest.mark.parametrize(
    ("regression", "rate", "seconds"),
    [
        (Regression(onset=300, refused=1.0), 50, 60),
        (Regression(onset=300, redirected=1.0), 50, 60),
        (Regression(onset=300, refused=0.1), 50, 360),
        (Regression(onset=300, redirected=0.1), 50, 360),
    ],
)
def test_regressions_of_the_mix_are_found(regression: Regression, rate: float, seconds: float) -> None:
    traffic = Traffic(rate=rate, refused=0.05, redirected=0.05)
    for seed in range(5):
        run = Run(GateRules(block_seconds=15), Evidence.start(Counts(3000, refused=150, redirected=150)))
        blocks = blocks_of(
            np.random.default_rng(seed), traffic, weight=10, seconds=900, block=15, regression=regression
        )
        end = run.step(blocks, 10, 25, until=lambda judgement: judgement.worse)
        assert end is not None
        assert regression.onset < end <= regression.onset + seconds


def test_without_a_control_a_night_of_bots_is_tolerated_and_a_leg_that_refuses_all_is_not() -> None:
    refused = next(rule for rule in RULES.metrics if rule.name == "refused")
    assert frozen_limit(Evidence.start(Counts(1000, refused=20)), refused, refused.harm) == pytest.approx(0.09)
    assert frozen_limit(Evidence.start(Counts(1000, refused=600)), refused, refused.harm) == pytest.approx(0.8)


def test_classes_are_parts_of_the_requests() -> None:
    assert plausible(Counts(10, 2, refused=3, redirected=3, throttled=1, excepted=1))
    assert not plausible(Counts(10, 2, refused=3, redirected=3, throttled=1, excepted=2))
    assert not plausible(Counts(10, refused=-1))


def test_other_codes_begin_anew_and_make_nothing_look_worse() -> None:
    usual = legs(excepted=(0.1, 0.1))
    evidence = fed(recorded(usual), legs(refused=(0.0, 0.3), excepted=(0.1, 0.1)), 8)
    assert sum(evidence.harm["refused"]) > 10
    anew = recounted(evidence, "without 404")
    assert "refused" not in anew.harm
    assert anew.harm["errors"] == evidence.harm["errors"]
    assert anew.harm_purse == evidence.harm_purse
    assert (anew.record.refused, anew.record.excepted) == (evidence.record.excepted, 0)
    assert Evidence.load(json.loads(json.dumps(anew.dump()))).counted == "without 404"


def test_codes_that_nobody_counted_take_no_room() -> None:
    codes = add_codes({}, {})
    for number in range(400, 500):
        codes = add_codes(codes, {str(number): 1.0, "200": 10.0})
    assert len(codes) <= MOST_CODES
    assert sum(codes.values()) == 1100
    assert top_codes(codes, 1) == {"200": 1000, OTHER: 100}
    assert top_codes({"200": 5.0, "404": 7.0}, 5) == {"404": 7, "200": 5}


def test_answers_are_counted_in_the_step_and_survive_storage() -> None:
    evidence = Evidence()
    pair = legs(refused=(0.1, 0.1))
    block = Block(0.0, 15.0, *pair, "", {"200": 810.0, "404": 90.0}, {"200": 90.0, "404": 10.0})
    evidence = consume(evidence, block, rules=RULES, weight=10, next_weight=25, observed_at=-100)
    evidence = consume(
        evidence, replace(block, start=15.0, end=30.0), rules=RULES, weight=10, next_weight=25, observed_at=-100
    )
    kept = Evidence.load(json.loads(json.dumps(evidence.dump())))
    assert kept.codes == evidence.codes == ({"200": 1620, "404": 180}, {"200": 180, "404": 20})
    assert begin_step(kept).codes == ({}, {})
