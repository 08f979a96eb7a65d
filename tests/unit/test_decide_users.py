"""Decisions where users are drawn and not requests: the share of requests says nothing, and probes stand in for it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.kit.builders import spec_fields
from tests.kit.states import checked_world
from tests.kit.world import DEAD, FAILING, HANGING, Leg, World

from cutover.api.v1alpha1 import Phase
from cutover.domain.evidence.tolerances import between_users, gate_rules
from cutover.domain.holds import HoldReason

TRAFFIC: dict[str, Any] = {**spec_fields()["traffic"], "affinity": {"cookie": {}}}


def world(**fields: Any) -> World:
    traffic = fields.pop("traffic", TRAFFIC)
    return checked_world(traffic=traffic, **fields)


@pytest.mark.parametrize("percent", [5.0, 60.0])
def test_a_share_that_is_far_from_the_weight_neither_holds_nor_rolls_back(percent: float) -> None:
    """One busy client is on the one leg or the other."""
    w = world()
    w.rate, w.eks_percent = 150.0, percent
    w.until_phase(Phase.COMPLETED)
    assert [weight for weight in w.weights if weight] == [10, 25, 50, 100]
    shown = [status.share.observed for _, status in w.writes if status.share is not None and status.weight == 25]
    assert shown[-1] == percent, "it is shown"


def test_without_affinity_such_a_share_is_none_of_the_weight() -> None:
    w = checked_world()
    w.eks_percent = 60.0
    w.until_reason(HoldReason.SHARE_NOT_OBSERVED)


def test_a_weight_is_confirmed_by_the_revision() -> None:
    w = world().until_judging(10)
    w.istiod_up = False
    w.until(lambda status: status.weight == 25)
    w.run(60)
    assert w.status.checkpoint is not None
    assert w.status.checkpoint.observed_at is None, "no answer has the revision yet"
    w.istiod_up = True
    w.until_judging(25)


@pytest.mark.parametrize("weight", [10, 25, 50])
@pytest.mark.parametrize("eks", [DEAD, FAILING])
def test_a_leg_that_fails_is_left(weight: int, eks: Leg) -> None:
    w = world().until_judging(weight)
    begun, w.eks = w.now, eks
    w.until_phase(Phase.ROLLED_BACK)
    assert w.status.ledger[-2].reason == "EvidenceOfHarm"
    assert w.now - begun < (60 if eks is DEAD else 180)


@pytest.mark.parametrize("weight", [10, 50])
def test_a_leg_that_hangs_is_left_by_the_probes_before_its_requests_time_out(weight: int) -> None:
    w = world().until_judging(weight)
    begun, w.eks = w.now, HANGING
    w.until_phase(Phase.ROLLED_BACK)
    entry = next(entry for entry in w.status.ledger if entry.decision == "RollBack")
    assert entry.subject == "probes"
    assert w.now - begun < 60


def test_probes_alone_leave_no_leg_that_answers_its_users() -> None:
    w = world().until_judging(25)
    w.eks_to_probes = DEAD
    w.until_reason(HoldReason.EKS_PROBES_FAIL)
    w.run(300)
    assert w.status.weight == 25


def test_few_users_who_are_away_for_a_minute_are_no_outage() -> None:
    w = world().until_judging(10)
    w.eks_percent = 0.0
    w.run(120)
    assert w.status.weight == 10
    assert w.status.phase is Phase.SHIFTING
    w.eks_percent = 100.0
    w.run(120)
    assert (w.status.weight, w.status.phase) == (10, Phase.SHIFTING)
    assert w.status.checkpoint is not None
    assert w.status.checkpoint.heroku_down_since is None, "it answers its probes"


def test_one_client_that_fails_on_heroku_keeps_no_plan_from_its_rollback() -> None:
    w = world().until_judging(25)
    w.heroku = Leg(errors=0.49)
    w.run(90)
    assert w.status.reason != HoldReason.HEROKU_CANNOT_TAKE_BACK, "it answers its probes"
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK)


def test_harm_begins_at_twice_herokus_ratio_and_never_below_what_the_plan_tolerates() -> None:
    for rule in gate_rules(world().spec).metrics:
        assert rule.harm.ratio == 2.0
    (rule, *_) = gate_rules(checked_world().spec).metrics
    assert rule.harm.ratio == 1.25
    assert between_users(replace(rule, harm=replace(rule.harm, ratio=3.0))).harm.ratio == 3.0
    gates = {"block": "5s", "slos": [{"name": "errors", "errors": {"tolerate": {"ratio": 4, "margin": 0.01}}}]}
    assert gate_rules(world(gates=gates).spec).metrics[0].harm.ratio == 4.0


def test_legs_whose_users_get_other_answers_hold_nothing_for_that_alone() -> None:
    """One client that is refused on Heroku all the time is none of those on EKS."""
    fewer = {"heroku": Leg(refused=0.2), "eks": Leg(refused=0.05)}
    w = world().until_judging(10)
    w.heroku, w.eks = fewer["heroku"], fewer["eks"]
    w.until(lambda status: status.weight == 25)
    w = checked_world().until_judging(10)
    w.heroku, w.eks = fewer["heroku"], fewer["eks"]
    w.until_reason(HoldReason.ANSWERS_DIFFER)


def test_what_is_between_the_tolerances_holds_and_is_not_advanced() -> None:
    w = world().until_judging(25)
    w.heroku, w.eks = Leg(slow=0.1), Leg(slow=0.18)
    w.run(1800)
    assert (w.status.weight, w.status.phase) == (25, Phase.SHIFTING)


def test_pairs_are_asked_in_every_step() -> None:
    w = world().until_judging(10)
    w.run(40)
    asked = w.pairs.asked
    w.run(40)
    assert w.pairs.asked > asked
    weights = [weight for weight in w.weights if weight is not None]
    assert all(a < b for a, b in pairwise(weights))
