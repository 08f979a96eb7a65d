"""The mix of answers in a cutover: what leads back, what holds, and what a person may skip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.kit.states import HOLD_CASES, checked_world, judging_world
from tests.kit.world import HEALTHY, Leg, World

from cutover.api.v1alpha1 import LedgerEntry, Phase
from cutover.domain.commands.annotations import SKIP_ANNOTATION
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.holds import HoldReason

OBSERVED = [
    {"name": "errors", "errors": {}},
    {"name": "latency", "latency": {}},
    {"name": "answers", "answers": {}, "mode": "Observe"},
]
SHORT = {"block": "5s", "warmUp": "5s"}


def lines(w: World, decision: str) -> list[LedgerEntry]:
    return [entry for entry in w.status.ledger if entry.decision == decision]


@pytest.mark.parametrize("leg", [Leg(refused=0.999), Leg(redirected=0.999), Leg(throttled=0.999)])
@pytest.mark.parametrize("slos", [None, [{"name": "errors", "errors": {}}]])
def test_a_leg_that_refuses_or_redirects_everybody_goes_back_as_fast_as_a_dead_one(
    leg: Leg, slos: list[dict[str, Any]] | None
) -> None:
    gates = SHORT if slos is None else {**SHORT, "slos": slos}
    steps = [{"weight": 10, "hold": "5m"}, {"weight": 100}]
    w = judging_world(10, rate=100.0, gates=gates, steps=steps).run(60)
    w.eks = leg
    w.until_phase(Phase.ROLLING_BACK, within=20)
    (entry,) = lines(w, "RollBack")
    assert (entry.reason, entry.subject) == ("EvidenceOfHarm", "alive")


def test_a_rollback_names_both_mixes() -> None:
    w = judging_world(10, rate=100.0)
    w.eks = Leg(refused=0.999)
    w.until_phase(Phase.ROLLED_BACK)
    (entry,) = lines(w, "RollBack")
    assert "Heroku answers 200 99.9 %, 500 0.1 %; EKS 401 99.9 %, 500 0.1 %" in entry.message
    assert w.status.answers is not None
    assert w.status.answers.eks["401"] > 0


@pytest.mark.parametrize(("leg", "culprit"), [(Leg(refused=0.1), "refused"), (Leg(redirected=0.1), "redirected")])
def test_a_leg_that_refuses_or_redirects_some_goes_back(leg: Leg, culprit: str) -> None:
    w = judging_world(10, rate=100.0)
    w.eks = leg
    w.until_phase(Phase.ROLLED_BACK, within=600)
    (entry,) = lines(w, "RollBack")
    assert entry.subject == culprit
    assert [gate.name for gate in entry.gates if gate.verdict == "Fail"] == [culprit]


@pytest.mark.parametrize(
    "leg",
    [
        Leg(refused=0.3, redirected=0.2),
        Leg(refused=0.97),  # an API that everybody tries without a token
        Leg(redirected=0.97),  # a shortener of links
    ],
)
def test_a_service_that_refuses_or_redirects_many_is_well_if_both_legs_do(leg: Leg) -> None:
    w = checked_world(rate=100.0)
    w.heroku = w.eks = leg
    w.until_phase(Phase.COMPLETED, within=1800)
    assert not w.decided("RollBack")


@pytest.mark.parametrize("normal", [Leg(refused=0.97), Leg(redirected=0.97)])
@pytest.mark.parametrize("broken", [Leg(errors=1.0), Leg(hangs=True)])
def test_where_most_are_refused_or_redirected_a_dead_leg_is_still_found(normal: Leg, broken: Leg) -> None:
    w = checked_world(rate=100.0, ceiling=0)
    w.heroku = w.eks = normal
    w.until_reason("Ceiling").run(90)
    w.edit(ceiling=100)
    w.until_judging(10)
    w.eks = broken
    w.until_phase(Phase.ROLLING_BACK, within=25)
    (entry,) = lines(w, "RollBack")
    assert entry.subject == "alive"


def test_answers_that_are_only_observed_move_nothing() -> None:
    w = judging_world(10, rate=100.0, gates={**SHORT, "slos": OBSERVED})
    w.eks = Leg(refused=0.999)
    w.until_phase(Phase.COMPLETED, within=1800)
    assert not w.decided("RollBack")
    assert {gate.name: gate.mode for gate in w.status.gates if gate.name in ("refused", "redirected")} == {
        "refused": "Observe",
        "redirected": "Observe",
    }


def test_fewer_that_are_only_observed_hold_nothing() -> None:
    w = checked_world(rate=100.0, gates={**SHORT, "slos": OBSERVED})
    w.heroku = Leg(refused=0.12)
    w.until_phase(Phase.COMPLETED, within=1800)


@pytest.mark.parametrize(
    ("heroku", "eks", "says"),
    [
        (Leg(refused=0.1), HEALTHY, "EKS refuses fewer requests than Heroku"),
        (Leg(redirected=0.1), HEALTHY, "EKS redirects fewer requests than Heroku"),
        (Leg(throttled=0.1), HEALTHY, "Heroku throttles more requests (429) than EKS"),
        (HEALTHY, Leg(throttled=0.1), "EKS throttles more requests (429) than Heroku"),
    ],
)
def test_answers_that_differ_without_harm_hold(heroku: Leg, eks: Leg, says: str) -> None:
    w = judging_world(10, rate=100.0)
    w.heroku, w.eks = heroku, eks
    w.until_reason(HoldReason.ANSWERS_DIFFER)
    assert w.status.message.startswith(says)
    w.run(600)
    assert (w.status.weight, w.status.reason) == (10, HoldReason.ANSWERS_DIFFER)
    assert not w.decided("RollBack")


@pytest.mark.parametrize("reason", [HoldReason.ANSWERS_DIFFER, HoldReason.SESSIONS_NOT_SHARED])
def test_a_person_skips_a_difference_for_one_step(reason: HoldReason) -> None:
    case = HOLD_CASES[reason]
    w = case.make().until_reason(reason)
    following = 25 if case.weight == 10 else 100
    w.annotations[SKIP_ANNOTATION] = f"a1-w{following}/{reason} by jane@example.com"
    w.until(lambda status: status.weight == following, within=300)
    (skip,) = lines(w, "Skip")
    assert skip.reason == reason
    assert "jane@example.com" in skip.message
    if following == 25:
        w.until_reason(reason)
        assert w.status.weight == 25, "the step has used it up"


def test_a_step_that_waits_for_equal_answers_times_out() -> None:
    steps = [{"weight": 10, "hold": "10s", "timeout": "5m", "onTimeout": "RollBack"}, {"weight": 100}]
    w = judging_world(10, rate=100.0, steps=steps)
    w.heroku = Leg(refused=0.12)
    w.until_phase(Phase.ROLLED_BACK, within=600)
    (entry,) = lines(w, "RollBack")
    assert entry.reason == "StepTimeout"
    assert "AnswersDiffer: EKS refuses fewer" in entry.message


def test_sessions_that_the_legs_do_not_share_are_harm_at_first() -> None:
    w = judging_world(10, rate=100.0)
    w.unshared = 0.1
    w.until_phase(Phase.ROLLED_BACK, within=600)
    assert lines(w, "RollBack")[0].subject == "refused"


def test_the_status_has_both_mixes_by_code() -> None:
    w = judging_world(25, rate=100.0)
    w.heroku = w.eks = replace(HEALTHY, refused=0.02, redirected=0.05)
    w.run(30)
    answers = w.status.answers
    assert answers is not None
    assert list(answers.heroku)[:3] == ["200", "302", "401"]
    assert list(answers.eks)[:3] == ["200", "302", "401"]
    assert w.status.checkpoint is not None
    codes = load_evidence(w.status.checkpoint).codes
    assert (round(codes[0]["302"]), round(codes[1]["302"])) == (answers.heroku["302"], answers.eks["302"])


def test_a_rollback_tells_of_sockets_which_it_does_not_move() -> None:
    w = judging_world(25)
    w.eks_sockets = 2.0
    w.run(60)
    w.eks = Leg(errors=0.5)
    w.until(lambda status: status.phase is Phase.ROLLING_BACK)
    assert "WebSockets ended on EKS; open ones stay there" in w.status.ledger[-1].message


def _counted(w: World) -> tuple[float, float]:
    assert w.status.checkpoint is not None
    heroku, eks = load_evidence(w.status.checkpoint).codes
    return sum(heroku.values()), sum(eks.values())


def test_the_mixes_are_of_one_step() -> None:
    w = judging_world(10, rate=100.0).run(30)
    assert _counted(w)[1] > 0
    w.until(lambda status: status.weight == 25)
    assert w.status.answers is None
    assert _counted(w) == (0, 0)


def test_an_edit_of_the_codes_is_recorded_and_begins_anew() -> None:
    w = judging_world(10, rate=100.0)
    w.eks = Leg(refused=0.1)
    w.run(45)
    answers = {"name": "answers", "answers": {"except": [401]}}
    w.edit(gates={**SHORT, "slos": [*OBSERVED[:2], answers]})
    w.run(10)
    (entry,) = lines(w, "Gates")
    assert "refused: harm above 1.1 p + 0.25 %, safe within 1.25 p + 1 % → " in entry.message
    assert "without 401" in entry.message
    assert w.status.checkpoint is not None
    evidence = load_evidence(w.status.checkpoint)
    assert evidence.counted == "without 401"
    assert sum(evidence.harm["refused"]) < 0.1


# ------------------------------------------------------------------------------------------- a Heroku without good answers

HOURS = [{"weight": weight, "hold": "5m"} for weight in (10, 25, 50)] + [{"weight": 100}]
NO_GOOD = [Leg(refused=0.99), Leg(redirected=0.99), Leg(throttled=0.99)]


@pytest.mark.parametrize("incident", NO_GOOD, ids=str)
def test_a_heroku_without_good_answers_never_becomes_what_is_normal(incident: Leg) -> None:
    """Or users would be rolled back onto it, as soon as EKS fails a little."""
    w = judging_world(10, steps=HOURS)
    w.heroku = incident
    w.run(1800)
    w.eks = Leg(errors=0.2)
    w.run(600)
    assert (w.status.phase, w.status.weight) == (Phase.SHIFTING, 10)
    assert [entry.decision for entry in w.status.ledger if entry.decision == "RollBack"] == []


@pytest.mark.parametrize("incident", [Leg(refused=0.9), Leg(redirected=0.9), Leg(throttled=0.9)], ids=str)
def test_no_step_begins_while_both_legs_have_no_good_answers(incident: Leg) -> None:
    """The proofs of a good step are still there when a login service goes down for both legs."""
    w = judging_world(25, steps=HOURS)
    w.run(255)
    w.heroku = w.eks = incident
    w.run(120)
    assert (w.status.weight, w.status.reason) == (25, HoldReason.BOTH_LEGS_UNHEALTHY)


def test_answers_that_are_only_observed_make_no_leg_unhealthy() -> None:
    w = judging_world(25, steps=HOURS, gates={"slos": OBSERVED})
    w.heroku = w.eks = Leg(refused=0.9)
    w.run(900)
    assert not w.told(HoldReason.BOTH_LEGS_UNHEALTHY)
