"""Heroku is down: who may send all users to EKS, when, and what comes after."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.kit.builders import plan as plan_values
from tests.kit.states import checked_world, judging_world
from tests.kit.target import READY, Target
from tests.kit.world import DEAD, FAILING, HANGING, HEALTHY, Leg, World, kinds

from cutover.api.v1alpha1 import LedgerEntry, Phase
from cutover.domain.commands.annotations import FORWARD_ANNOTATION
from cutover.domain.engine.actions import SetWeight, WriteStatus
from cutover.domain.engine.decide import decide
from cutover.domain.preflight import registry
from cutover.domain.preflight.capacity import READS, capacity_for_all
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.resources import HORIZONTAL_POD_AUTOSCALERS
from cutover.domain.traffic import Probe

JANE = "by jane@example.com at 2027-01-11T10:00:00Z"
FORWARD = {"action": "Forward", "after": "2m"}
FROZEN = {"freezes": [{"from": "2027-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z", "reason": "winter sale"}]}
#: Long enough for a proof that is older than a fault.
STEPS = [{"weight": 10, "hold": "30s"}, {"weight": 50, "hold": "1h"}, {"weight": 100, "hold": "30s"}]


def lines(world: World, decision: str) -> list[LedgerEntry]:
    return [entry for entry in world.status.ledger if entry.decision == decision]


def ask(world: World, text: str = f"a1 {JANE}") -> None:
    world.annotations[FORWARD_ANNOTATION] = text


def judging(weight: int = 50, **fields: Any) -> World:
    return judging_world(weight, **{"steps": STEPS, "soak": "10m", **fields})


def without_heroku() -> World:
    """Return a world at 10 %, held because Heroku is dead."""
    w = judging(10)
    w.heroku = DEAD
    return w.until_reason("HerokuCannotTakeBack")


# ------------------------------------------------------------------------------------------------------------ a command


@pytest.mark.parametrize(
    "heroku",
    [DEAD, HANGING, Leg(errors=0.6)],
    ids=["dead", "hangs", "mostly fails"],
)
def test_a_person_sends_all_users_to_eks_and_the_way_back_opens_again(heroku: Leg) -> None:
    w = judging(10)
    w.heroku = heroku
    w.until_reason("HerokuCannotTakeBack")
    ask(w)
    w.run(2)
    (entry,) = lines(w, "Forward")
    assert (entry.reason, entry.from_weight, entry.to_weight) == ("Requested", 10, 100)
    assert f"asked for by the annotation {FORWARD_ANNOTATION} {JANE}" in entry.message
    assert entry.by == JANE.removeprefix("by ")
    assert "EKS answered" in entry.message
    assert [(event.kind, event.message) for event in w.told("Forward")] == [("Warning", entry.message)]
    w.run(120)
    if heroku.well:
        assert (w.status.reason, w.status.phase) == ("Soaking", Phase.SOAKING)
    else:
        assert (w.status.weight, w.status.reason) == (100, "HerokuCannotTakeBack")
        assert w.status.message.startswith("all traffic was sent to EKS because Heroku was down; ")
        assert w.condition("Held") == "True"
        assert w.told("HerokuCannotTakeBack")
    w.heroku = HEALTHY
    w.until_reason("Soaking", within=60)
    assert w.status.weight == 100, "it stays where it was sent"
    assert "the way back is open again" in w.status.message
    assert len(lines(w, "Forward")) == 1
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK)
    assert w.decided("RollBack") == [(100, 0)]


@pytest.mark.parametrize("heroku", [Leg(refused=0.99), Leg(throttled=0.99)], ids=["refuses", "throttles"])
def test_a_heroku_without_good_answers_is_down_for_a_person_who_asks(heroku: Leg) -> None:
    w = judging(10)
    w.heroku = heroku
    w.until_reason("HerokuCannotTakeBack").run(900)
    ask(w)
    w.run(2)
    assert [(entry.reason, entry.to_weight) for entry in lines(w, "Forward")] == [("Requested", 100)]


def test_without_a_way_back_the_soak_does_not_end_and_harm_is_held() -> None:
    w = judging(50)
    w.heroku = DEAD
    w.until_reason("HerokuCannotTakeBack")
    ask(w)
    w.run(600)
    assert (w.status.phase, w.status.reason) == (Phase.SHIFTING, "HerokuCannotTakeBack")
    w.eks = DEAD
    w.until_reason("BothLegsUnhealthy")
    assert w.status.weight == 100
    w.heroku = HEALTHY
    w.until_phase(Phase.ROLLED_BACK, within=60)


def test_neither_calendar_nor_approval_is_asked() -> None:
    steps = [{"weight": 10, "hold": "30s"}, {"weight": 100, "approval": "Manual"}]
    w = judging(10, steps=steps)
    w.edit(schedule=FROZEN)
    w.heroku = DEAD
    ask(w)  # before the operator has seen it
    w.until(lambda status: status.weight == 100, within=30)
    assert not lines(w, "Refuse")


def suspended(w: World) -> None:
    w.heroku = DEAD
    w.edit(suspend=True)


def lowered(w: World) -> None:
    w.heroku = DEAD
    w.edit(ceiling=50)


def eks_is_worse(w: World) -> None:
    w.eks = FAILING
    w.edit(onBreach="Hold")
    w.until_reason("Breach")
    w.heroku = DEAD


@pytest.mark.parametrize(
    ("weight", "prepare", "why"),
    [
        (0, lambda w: setattr(w, "heroku", DEAD), "no traffic is on EKS"),
        (10, suspended, "spec.suspend is set; set it to false"),
        (10, lowered, "spec.ceiling is 50; raise it to 100"),
        (10, lambda w: None, "Heroku answers, and while it does only evidence moves weight up"),
        (10, eks_is_worse, "EKS answered"),
    ],
    ids=["0 %", "suspended", "ceiling", "Heroku is well", "EKS is worse"],
)
def test_what_is_refused_is_told_once_and_never_acts_later(
    weight: int, prepare: Callable[[World], None], why: str
) -> None:
    w = judging(10) if weight else checked_world(steps=STEPS, ceiling=0).until_reason("Ceiling")
    prepare(w)
    if w.heroku is DEAD:
        w.run(45)
    ask(w)
    w.run(45)
    (entry,) = lines(w, "Refuse")
    assert entry.reason == "Forward"
    assert entry.message.startswith(f"{FORWARD_ANNOTATION} says 'a1 {JANE}': {why}")
    assert [event.kind for event in w.told("Refuse")] == ["Warning"]
    w.restart()
    w.edit(suspend=False, ceiling=100)
    w.eks = HEALTHY
    w.run(300)
    w.heroku = DEAD
    w.run(120)
    assert not lines(w, "Forward")
    assert len(lines(w, "Refuse")) == 1


@pytest.mark.parametrize("text", [f"a1 {JANE} ", f"  a1 {JANE}\n"])
def test_white_space_around_a_command_makes_it_no_other(text: str) -> None:
    w = judging(10)
    ask(w, text)
    w.run(300)
    w.heroku = DEAD
    w.run(30)
    assert not lines(w, "Forward")
    assert len(lines(w, "Refuse")) == 1


def test_a_text_that_is_no_command_is_refused_once_and_not_kept() -> None:
    w = judging(10)
    ask(w, "now, please! " * 20_000)
    w.run(300)
    assert len(lines(w, "Refuse")) == 1
    assert not w.status.void


def test_a_command_that_is_given_anew_counts() -> None:
    w = judging(10)
    ask(w, "a1")
    w.run(45)
    assert len(lines(w, "Refuse")) == 1
    w.edit(suspend=True)
    w.heroku = DEAD
    w.run(60)
    del w.annotations[FORWARD_ANNOTATION]
    w.edit(suspend=False)
    w.run(5)
    ask(w, "a1")
    w.run(5)
    assert [entry.to_weight for entry in lines(w, "Forward")] == [100]


def test_a_command_waits_for_what_is_not_known_and_says_so() -> None:
    w = without_heroku()
    w.prometheus_up = False
    ask(w)
    w.run(60)
    assert w.status.weight == 10
    assert f"all traffic goes to EKS, asked for by the annotation {FORWARD_ANNOTATION} {JANE}" in w.status.message
    w.prometheus_up = True
    w.until(lambda status: status.weight == 100, within=30)


def test_a_weight_that_cannot_show_because_heroku_hangs_is_no_obstacle() -> None:
    w = judging(10).until(lambda status: status.weight == 50)
    w.heroku = HANGING
    w.run(20)
    checkpoint = w.status.checkpoint
    assert checkpoint is not None
    assert checkpoint.observed_at is None
    ask(w)
    w.until(lambda status: status.weight == 100, within=9)
    w.until(lambda status: status.reason == "HerokuCannotTakeBack", within=60)


def test_the_status_is_fenced_before_the_route_is_written() -> None:
    w = without_heroku()
    ask(w)
    assert kinds(decide(w.plan(), w.observe(), w.now)) == [WriteStatus, SetWeight]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_dies_on_the_way_changes_nothing(number: int, when: str) -> None:
    w = without_heroku()
    ask(w)
    w.crash_at = (w._attempted + number, when)
    w.until(lambda status: status.weight == 100, within=60)
    w.run(60)
    assert w.weights == [0, 10, 100]
    assert len(lines(w, "Forward")) == 1


def test_a_route_that_cannot_be_written_is_given_up_once_heroku_answers() -> None:
    w = without_heroku()
    w.route_writes_fail = True
    ask(w)
    w.run(20)
    assert w.stored.weight == 100
    assert not lines(w, "Withdraw"), "neither the calendar nor Heroku's state takes it back"
    w.heroku = HEALTHY
    w.run(2)
    w._ask_heroku()  # beside the loop, whose reconciles fail
    w.run(2)
    w.route_writes_fail = False
    w.run(60)
    (entry,) = lines(w, "Withdraw")
    assert "Heroku answers again" in entry.message
    assert w.weights == [0, 10]
    assert len(lines(w, "Forward")) == 1


def test_after_a_lowered_ceiling_it_does_not_count_any_more() -> None:
    w = without_heroku()
    ask(w)
    w.until(lambda status: status.weight == 100, within=30)
    w.edit(ceiling=50)
    w.until(lambda status: status.weight == 50, within=30)
    w.edit(ceiling=100)
    w.run(120)
    assert len(lines(w, "Forward")) == 1


@pytest.mark.parametrize(
    ("rate", "answers", "failures", "weight"),
    [(50.0, True, 0, 100), (50.0, False, 2, 10), (50.0, False, 1, 10), (0.1, True, 0, 100), (0.1, False, 2, 10)],
)
def test_the_probe_of_eks_counts_beside_its_users(rate: float, answers: bool, failures: int, weight: int) -> None:
    w = without_heroku()
    w.rate = rate
    w.run(90)
    ask(w)
    detail = "HTTP 200" if answers else "HTTP 503"
    probe = Probe(w.now, "a1-w10", answers, detail, failures)
    decision = decide(w.plan(), replace(w.observe(), eks_probe=probe), w.now)
    assert decision.status.weight == weight
    assert answers or detail in decision.status.message + decision.status.ledger[-1].message


# ------------------------------------------------------------------------------------------------------------- by itself


def proven(**fields: Any) -> World:
    """Return a world whose EKS leg has been proven safe at 50 % for a while."""
    w = judging(50, onHerokuDown=FORWARD, **fields)
    return w.run(240)


@pytest.mark.parametrize("heroku", [DEAD, HANGING], ids=["dead", "hangs"])
def test_the_plan_sends_all_users_to_eks_when_heroku_has_been_down_for_so_long(heroku: Leg) -> None:
    w = proven()
    w.heroku = heroku
    down = w.now
    w.until_reason("HerokuCannotTakeBack").run(10)
    assert "spec.onHerokuDown is Forward: all traffic goes to EKS in" in w.status.message
    w.until(lambda status: status.weight == 100, within=240)
    assert w.now - down >= 120
    (entry,) = lines(w, "Forward")
    assert entry.reason == "HerokuDown"
    assert "Deployment pdf has 2 replicas ready" in entry.message
    assert "Heroku has been down for 2 min" in entry.message
    w.until_reason("HerokuCannotTakeBack")
    w.heroku = HEALTHY
    w.until_phase(Phase.COMPLETED)


def test_heroku_that_answers_in_between_begins_anew() -> None:
    w = proven()
    for _ in range(4):
        w.heroku = DEAD
        w.run(90)
        w.heroku = HEALTHY
        w.run(40)
    assert w.status.weight == 50
    assert not lines(w, "Forward")


def test_a_heroku_that_answers_its_probe_is_not_left_without_a_person() -> None:
    """Users' requests get lost on the way to it: that is no reason to move everybody."""
    w = proven()
    w.heroku = DEAD
    w.until(lambda status: "all traffic goes to EKS in" in status.message).run(60)
    probe = Probe(w.now, "a1-w50", healthy=True, detail="HTTP 200", status=200)
    decision = decide(w.plan(), replace(w.observe(), probe=probe), w.now)
    assert "the probe of the Heroku leg does not fail" in decision.status.message
    assert decision.status.weight == 50


def few_replicas(w: World) -> None:
    w.target = replace(READY, replicas=(4, 1))


@pytest.mark.parametrize(
    ("make", "prepare", "why"),
    [
        (lambda: judging(50).run(240), lambda w: None, ""),
        (proven, lambda w: w.edit(suspend=True), "spec.suspend is set"),
        (lambda: proven(ceiling=50), lambda w: None, "spec.ceiling is 50"),
        (proven, few_replicas, "Deployment pdf has 1 of 4 replicas ready"),
        (proven, lambda w: setattr(w, "target", None), "have not been read yet"),
        (proven, lambda w: setattr(w, "eks", Leg(errors=0.3)), "EKS answered"),
        (lambda: judging(50, onHerokuDown=FORWARD), lambda w: None, "had not been proven safe at 50 %"),
    ],
    ids=["Hold", "suspended", "ceiling", "few replicas", "replicas unknown", "EKS fails", "not proven"],
)
def test_what_keeps_it_from_acting_is_told(
    make: Callable[[], World], prepare: Callable[[World], None], why: str
) -> None:
    w = make()
    w.heroku = DEAD
    w.until_reason("HerokuCannotTakeBack")
    prepare(w)
    w.run(240)
    assert w.status.weight == 50
    assert not lines(w, "Forward")
    assert why in w.status.message
    assert ("onHerokuDown" in w.status.message) is bool(why)


def test_others_on_the_service_do_not_make_heroku_look_down() -> None:
    """With requests that are not the plan's, EKS gets more than its share, and so Heroku less."""
    w = proven()
    w.others = 3 * w.rate
    w.until_reason("ShareNotObserved").run(600)
    assert w.status.weight == 50
    assert not lines(w, "Forward")


def test_a_time_that_nobody_watched_does_not_count() -> None:
    w = proven()
    w.heroku = DEAD
    w.until_reason("HerokuCannotTakeBack")
    w.pass_time(600)
    w.restart()
    w.run(60)
    assert w.status.weight == 50
    w.until(lambda status: status.weight == 100, within=120)


# -------------------------------------------------------------------------------------------------------------- capacity


@pytest.mark.parametrize(
    ("weight", "target", "enough", "said"),
    [
        (50, Target(replicas=(2, 2)), True, "without a HorizontalPodAutoscaler, so that each gets 2 times"),
        (49, Target(replicas=(2, 2)), False, "more than 2 times is too much"),
        (10, Target(replicas=(2, 2), autoscaled_to=10), True, "at most 10 by HorizontalPodAutoscaler pdf"),
        (10, Target(replicas=(2, 2), autoscaled_to=9), False, "each gets 2.2 times"),
        (10, Target(replicas=(4, 4), autoscaled_to=2), False, "each gets 10 times"),
        (99, Target(replicas=(2, 1)), False, "1 of 2 replicas ready"),
        (99, Target(replicas=(0, 0)), False, "0 of 0 replicas ready"),
        (99, Target(replicas=None), False, "Deployment pdf does not exist"),
    ],
)
def test_replicas_are_enough_up_to_twice_their_requests(weight: int, target: Target, enough: bool, said: str) -> None:
    plan = plan_values()
    found = capacity_for_all(plan, target.inventory(plan), weight)
    assert (found.enough, said in found.text) == (enough, True), found


def test_replicas_that_could_not_be_read_are_not_enough() -> None:
    plan = plan_values()
    assert not capacity_for_all(plan, None, 50).enough
    unread = replace(READY.inventory(plan), unread={HORIZONTAL_POD_AUTOSCALERS: "needs verb list"})
    assert (capacity_for_all(plan, unread, 50).enough, capacity_for_all(plan, unread, 50).text) == (
        False,
        "needs verb list",
    )


def test_an_autoscaler_of_another_namespace_or_workload_does_not_count() -> None:
    plan = plan_values()
    inventory = Target(replicas=(2, 2), autoscaled_to=10).inventory(plan)
    (ours,) = inventory.all(HORIZONTAL_POD_AUTOSCALERS)
    for other in (
        {**ours, "metadata": {**ours["metadata"], "namespace": "other"}},
        {**ours, "spec": {**ours["spec"], "scaleTargetRef": {"kind": "Deployment", "name": "other"}}},
    ):
        there = Inventory(inventory.objects, {**inventory.lists, HORIZONTAL_POD_AUTOSCALERS: [other]})
        assert not capacity_for_all(plan, there, 10).enough


@pytest.mark.parametrize(
    ("target", "result", "said"),
    [
        (Target(replicas=(2, 2), autoscaled_to=10), "Passed", ""),
        (READY, "Warned", "onHerokuDown can act only from 50 % on: at 10 % Deployment pdf has 2 replicas ready"),
    ],
)
def test_preflight_tells_from_which_weight_on_it_can_act(target: Target, result: str, said: str) -> None:
    w = checked_world(onHerokuDown=FORWARD)
    plan = w.plan()
    statuses = {one.check: one for one in registry.before_takeover(plan, target.inventory(plan))}
    check = statuses["forward-capacity"]
    assert (check.result, said in check.message) == (result, True)
    assert set(READS) <= set(registry.reads(plan))


@pytest.mark.parametrize("eks", [Leg(refused=0.99), Leg(throttled=0.99)], ids=["refuses", "throttles"])
def test_nobody_is_sent_to_an_eks_without_good_answers(eks: Leg) -> None:
    w = judging(50)
    w.run(60)
    w.heroku = HANGING
    w.run(120)
    w.eks, w.eks_to_probes = eks, HEALTHY
    w.run(90)
    ask(w)
    w.run(60)
    assert (w.status.weight, lines(w, "Forward")) == (50, [])
