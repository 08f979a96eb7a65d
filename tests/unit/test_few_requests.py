"""Few requests: what a step still needs is told from its first minute on, and people may decide where the plan allows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.kit.builders import spec_fields
from tests.kit.custom_slos import gates_of
from tests.kit.states import checked_world, judging_world
from tests.kit.world import DEAD, HEALTHY, Leg, World

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus, Phase
from cutover.domain.backtest.few_requests import needs
from cutover.domain.commands.annotations import PROCEED_ANNOTATION
from cutover.domain.evidence.rules import CAP_SECONDS
from cutover.domain.evidence.tolerances import gate_rules

JANE = "by jane@example.com at 2027-01-11T10:00:00Z"
ASK = {**gates_of(), "insufficientTraffic": "AskPeople"}


def lines(world: World, decision: str) -> list[LedgerEntry]:
    return [entry for entry in world.status.ledger if entry.decision == decision]


def thin(rate: float = 0.5, **fields: Any) -> World:
    """Return a world that has come to 10 % and has few requests from then on."""
    w = judging_world(10, **{"gates": ASK, **fields})
    w.rate = rate
    return w


# ------------------------------------------------------------------------------------------------------------ the ledger


def test_the_first_step_is_not_said_to_have_evidence() -> None:
    w = judging_world(25)
    assert [(entry.from_weight, entry.reason) for entry in lines(w, "Advance")] == [
        (0, "BaselineRecorded"),
        (10, "EvidenceOfSafety"),
    ]


# ------------------------------------------------------------------------------------------------------------ estimates


@pytest.mark.parametrize("rate", [10.0, 50.0])
def test_an_estimate_is_there_from_the_first_minute_on_and_holds(rate: float) -> None:
    steps = [{"weight": 10, "hold": "10s"}, {"weight": 25, "hold": "10s"}, {"weight": 100, "hold": "10s"}]
    w = judging_world(10, steps=steps, rate=rate)
    w.run(55)
    estimate, begun = w.status.estimate, w.now
    assert estimate is not None
    assert estimate.seconds is not None
    assert estimate.eks_requests is not None
    assert estimate.text == f"about {estimate.text.split('about ')[1]}"
    assert f"at {estimate.requests_per_second:.2g} requests/s" in estimate.text
    w.until(lambda status: status.weight == 25, within=4 * estimate.seconds + 60)
    assert w.now - begun == pytest.approx(estimate.seconds, rel=0.5, abs=30)
    assert w.stored.estimate is None, "a new weight has not been seen yet"


def test_what_a_step_takes_at_least_holds_where_requests_are_many() -> None:
    """A bet gains only so much in its time, so a step takes as long with ten times the requests."""
    steps = [{"weight": 10, "hold": "10s"}, {"weight": 25, "hold": "10s"}, {"weight": 100, "hold": "10s"}]
    w = judging_world(10, steps=steps, rate=500.0)
    least = needs(w.plan().spec.steps, gate_rules(w.plan().spec), w.rate)[0].seconds
    began = w.status.checkpoint.observed_at
    assert began is not None
    w.until(lambda status: status.weight == 25, within=4 * least)
    assert least <= w.now - began <= least + 2 * CAP_SECONDS
    assert least > 60


def test_without_any_request_there_is_no_estimate_and_it_says_so() -> None:
    w = judging_world(10)
    w.rate = 0.0
    w.eks = DEAD
    w.run(20)
    assert MigrationPlanStatus.from_wire(w.stored.to_wire()) == w.stored


# ---------------------------------------------------------------------------------------------------------- minRequests


def test_min_requests_are_needed_beside_the_evidence() -> None:
    steps = [{"weight": 10, "hold": "30s", "minRequests": 1500}, {"weight": 25, "hold": "30s"}, {"weight": 100}]
    w = checked_world(steps=steps).until_reason("InsufficientTraffic")
    assert "evidence of safety" in w.status.message
    w.run(150)
    assert w.status.reason == "InsufficientTraffic"
    assert "every gate is within its margin" in w.status.message
    assert "of at least 1,500 EKS requests (minRequests), about" in w.status.message
    estimate = w.status.estimate
    assert estimate is not None
    assert estimate.seconds == pytest.approx((estimate.eks_requests or 0) / 5, rel=0.05)
    w.until(lambda status: status.weight == 25)
    (eks,) = [gate.counts.eks for gate in lines(w, "Advance")[-1].gates if gate.name == "errors" and gate.counts]
    assert eks is not None
    assert eks.total >= 1500


def test_min_requests_of_the_last_step_keep_the_soak_from_ending() -> None:
    steps = [{"weight": 50, "hold": "30s"}, {"weight": 100, "hold": "30s", "minRequests": 9000}]
    w = checked_world(steps=steps).until_phase(Phase.SOAKING)
    w.until_reason("InsufficientTraffic")
    assert "of at least 9,000 requests (minRequests)" in w.status.message
    w.until_phase(Phase.COMPLETED)


def test_a_step_without_its_requests_has_not_passed_when_its_time_is_over() -> None:
    step = {"weight": 10, "hold": "30s", "minRequests": 100_000, "timeout": "3m", "onTimeout": "RollBack"}
    w = checked_world(steps=[step, {"weight": 100}]).until_phase(Phase.ROLLED_BACK)
    assert lines(w, "RollBack")[0].reason == "StepTimeout"


# --------------------------------------------------------------------------------------------------------------- probes


def by_probes(**fields: Any) -> World:
    """Return a world with few requests at 10 %, whose plan accepts a pair of probes a second in their place."""
    gates = {**gates_of(), "insufficientTraffic": "AcceptProbes"}
    return thin(gates=gates, traffic={**spec_fields()["traffic"], "probe": {"rate": 1}}, **fields)


def test_probes_decide_where_the_traffic_brings_no_evidence() -> None:
    w = by_probes().until(lambda status: "pairs of probes: evidence of safety" in status.message)
    assert w.status.reason == "InsufficientTraffic"
    w.until(lambda status: status.weight == 25, within=600)
    entry = lines(w, "Advance")[-1]
    assert entry.reason == "ProbesOfSafety"
    assert "pairs of probes: evidence of safety" in entry.message
    w.until(lambda status: status.probes is not None and (status.probes.safety or 20) < 20)
    assert w.status.weight == 25, "each step needs evidence of its own"


@pytest.mark.parametrize("eks", [Leg(refused=0.08), Leg(errors=0.08), Leg(very_slow=0.08)])
def test_probes_that_eks_answers_worse_do_not_decide(eks: Leg) -> None:
    w = by_probes()
    w.eks_to_probes = eks
    w.until_phase(Phase.ROLLED_BACK)
    assert [entry.to_weight for entry in lines(w, "Advance")] == [10]
    assert "EKS answered worse than Heroku in" in lines(w, "RollBack")[0].message


def test_a_person_is_not_asked_where_probes_decide() -> None:
    w = by_probes()
    w.annotations[PROCEED_ANNOTATION] = f"a1-w25 {JANE}"
    w.run(5)
    (entry,) = lines(w, "Refuse")
    assert "gates.insufficientTraffic is AcceptProbes" in entry.message


# ------------------------------------------------------------------------------------------------------- a person's word


def test_a_person_decides_where_the_traffic_brings_no_evidence() -> None:
    w = thin().until_reason("AwaitingDecision")
    assert "nothing speaks against EKS" in w.status.message
    assert f"annotate the plan {PROCEED_ANNOTATION}=a1-w25" in w.status.message
    assert len(lines(w, "Hold")) == 1
    w.run(300)
    assert w.status.weight == 10
    w.annotations[PROCEED_ANNOTATION] = f"a1-w25 {JANE}"
    w.run(5)
    assert w.status.weight == 25
    entry = lines(w, "Advance")[-1]
    assert entry.reason == "Requested"
    assert f"asked for by the annotation {PROCEED_ANNOTATION} {JANE} in place of evidence" in entry.message
    assert entry.by == JANE.removeprefix("by ")
    assert "evidence of safety" in entry.message
    w.run(1800)
    assert w.status.weight == 25, "it was for one step"


def test_a_plan_that_does_not_allow_it_refuses() -> None:
    w = thin(gates=gates_of())
    w.annotations[PROCEED_ANNOTATION] = f"a1-w25 {JANE}"
    w.until_reason("InsufficientTraffic").run(300)
    assert w.status.weight == 10
    (entry,) = lines(w, "Refuse")
    assert entry.reason == "Proceed"
    assert "gates.insufficientTraffic is Hold" in entry.message


def refuses(w: World) -> None:
    w.eks, w.eks_to_probes = Leg(errors=0.0, refused=1.0), HEALTHY


def fails(w: World) -> None:
    w.eks = Leg(errors=0.5)


def heroku_dies(w: World) -> None:
    w.heroku = DEAD


def frozen(w: World) -> None:
    freeze = {"from": "2027-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z", "reason": "winter sale"}
    w.edit(schedule={"freezes": [freeze]})


@pytest.mark.parametrize(
    "against",
    [
        fails,
        refuses,
        heroku_dies,
        frozen,
        lambda w: w.edit(suspend=True),
        lambda w: w.edit(ceiling=10),
        lambda w: setattr(w, "prometheus_up", False),
    ],
    ids=["EKS fails", "EKS refuses", "Heroku is down", "frozen", "suspended", "ceiling", "blind"],
)
def test_a_word_counts_only_while_nothing_speaks_against_it(against: Callable[[World], None]) -> None:
    w = thin().until_reason("AwaitingDecision")
    against(w)
    w.run(600)
    w.annotations[PROCEED_ANNOTATION] = f"a1-w25 {JANE}"
    w.run(300)
    assert (w.status.weight or 0) <= 10


def test_where_traffic_is_enough_nobody_stands_in_for_evidence() -> None:
    errors = {"tolerate": {"ratio": 1.25, "margin": 0.02}, "advance": {"ratio": 1.0, "margin": 0.0005}}
    w = judging_world(10, gates={**ASK, "slos": [{"name": "errors", "errors": errors}]})
    w.eks = Leg(errors=0.01)
    w.run(300)
    assert "more requests would not prove EKS good enough either" in w.status.message
    w.annotations[PROCEED_ANNOTATION] = f"a1-w25 {JANE}"
    w.until_reason("Undecided").run(600)
    assert w.status.weight == 10


def test_min_requests_come_before_a_persons_word() -> None:
    steps = [{"weight": 10, "hold": "30s", "minRequests": 60}, {"weight": 25, "hold": "30s"}, {"weight": 100}]
    w = thin(steps=steps)
    w.annotations[PROCEED_ANNOTATION] = f"a1-w25 {JANE}"
    w.until(lambda status: status.weight == 25, within=3600)
    (eks,) = [gate.counts.eks for gate in lines(w, "Advance")[-1].gates if gate.name == "errors" and gate.counts]
    assert eks is not None
    assert eks.total >= 60
    assert lines(w, "Advance")[-1].reason == "Requested"
