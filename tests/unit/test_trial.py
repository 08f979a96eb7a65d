"""The trial: what is found before users' requests follow the operator's route, and that it leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.kit.world import DEAD, HANGING, HEALTHY, ROUTE_NAME, Leg, Route, World, check, plan_spec

from cutover.api.v1alpha1 import CheckResult, Phase, RouteRecord
from cutover.domain.engine.actions import EndTrial, Finalize, Prepare, SetWeight, Try, WriteStatus
from cutover.domain.engine.decide import decide
from cutover.domain.engine.probe_intervals import HELD_TRIAL_SECONDS, eks_probe_interval, probe_interval
from cutover.domain.engine.wanted import route_wanted
from cutover.domain.revision import Trial

TRIED = Route(None, "a1-trial")


def world(**fields: Any) -> World:
    spec = {name: fields.pop(name) for name in ("preflight",) if name in fields}
    return World(spec=plan_spec(**spec), on_decision=check, **fields)


def trying(**fields: Any) -> World:
    """A world in which the probes' route was just written."""
    w = world(**fields)
    while w.route is None:
        w.step()
    assert w.route == TRIED
    return w


def results(w: World) -> dict[str, CheckResult]:
    return {one.check: one.result for one in w.status.preflight}


def messages(w: World) -> dict[str, str]:
    return {one.check: one.message for one in w.status.preflight}


# ------------------------------------------------------------------------------------------------------- what it finds


@pytest.mark.parametrize("fault", [DEAD, HANGING], ids=["refuses", "hangs"])
@pytest.mark.parametrize("leg", ["heroku", "eks"])
def test_a_leg_that_does_not_answer_is_found_before_users_meet_it(leg: str, fault: Leg) -> None:
    w = world(**{leg: fault})
    w.run(400)
    assert (w.status.phase, w.status.weight, w.status.reason) == (Phase.PREFLIGHT, None, "PreflightFailed")
    assert w.route == TRIED
    assert not w.blocks or sum(block.heroku.requests + block.eks.requests for block in w.blocks) == 0
    other = {"heroku": "eks", "eks": "heroku"}[leg]
    assert results(w)[f"{leg}-answers"] is CheckResult.FAILED
    assert results(w)[f"{other}-answers"] is CheckResult.PASSED
    assert "503" in w.status.message
    setattr(w, leg, HEALTHY)
    w.until(lambda status: status.weight == 0, within=10)
    assert w.route == Route(0, "a1-w0")
    w.until_phase(Phase.BASELINE, within=10)


def test_a_leg_that_is_not_asked_for_is_not_waited_for() -> None:
    skip = [{"check": name, "reason": "we know"} for name in ("heroku-answers", "eks-answers")]
    w = world(preflight={"skip": skip}, heroku=DEAD, eks=DEAD)
    w.until_phase(Phase.BASELINE, within=30)
    assert results(w)["eks-answers"] is CheckResult.SKIPPED


def test_the_legs_are_asked_again_once_users_have_the_route() -> None:
    w = trying().until(lambda status: status.weight == 0)
    w.heroku = DEAD
    w.run(5)
    assert (w.status.phase, w.status.weight) == (Phase.PREFLIGHT, 0)
    assert results(w)["heroku-answers"] is CheckResult.FAILED
    w.heroku = HEALTHY
    w.until_phase(Phase.BASELINE)


def test_an_answer_that_met_another_route_proves_nothing() -> None:
    w = trying(istiod_up=False)
    w.run(60)
    assert (w.status.weight, w.status.reason) == (None, "Trying")
    w.run(100)
    assert (w.status.weight, w.status.reason) == (None, "PreflightFailed")
    assert "the gateway does not have the route yet" in w.status.message
    w.istiod_up = True
    w.until(lambda status: status.weight == 0, within=10)


def test_nobody_is_asked_before_the_probes_have_a_route() -> None:
    w = world()
    w.until(lambda status: status.reason == "Trying")
    assert w.prepared_at is not None
    assert (probe_interval(w.plan()), eks_probe_interval(w.plan())) == (None, None)
    w = trying()
    assert (probe_interval(w.plan()), eks_probe_interval(w.plan())) == (1.0, 1.0)


def test_a_trial_that_waits_for_people_asks_less_often() -> None:
    w = trying(eks=DEAD).run(10)
    assert probe_interval(w.plan()) == eks_probe_interval(w.plan()) == HELD_TRIAL_SECONDS


def test_in_the_trial_of_another_attempt_the_legs_are_asked_again() -> None:
    w = trying(eks=DEAD).run(10)
    w.edit(attempt=2)
    w.run(10)
    assert w.route == Route(None, "a2-trial")
    w.eks = HEALTHY
    w.until(lambda status: status.weight == 0, within=10)
    assert w.route == Route(0, "a2-w0")


def test_a_provider_without_trials_takes_over_first() -> None:
    w = world()
    w.capabilities = replace(w.capabilities, tries=False)
    w.until_phase(Phase.BASELINE)
    done = [type(action) for _, action in w.actions if not isinstance(action, WriteStatus)]
    assert done == [Prepare, SetWeight]
    assert results(w)["heroku-answers"] is CheckResult.PASSED


def test_somebody_who_takes_the_probes_route_out_again_is_named() -> None:
    w = trying(eks=DEAD).run(150)
    for _ in range(3):
        w.set_route(Route(None, "", ("argocd",)))
        w.step()
        assert w.status.reason == "PreflightFailed"
        assert "argocd" in w.status.message
        assert w.route == TRIED


# --------------------------------------------------------------------------------------------------- it leaves no trace


def test_a_suspended_plan_has_no_trial() -> None:
    w = trying(eks=DEAD)
    w.edit(suspend=True)
    w.step()
    assert (w.status.reason, w.route) == ("Suspended", None)
    done = len(w.actions)
    w.run(120)
    assert [action for _, action in w.actions[done:] if not isinstance(action, WriteStatus)] == []
    assert probe_interval(w.plan()) is None
    w.eks = HEALTHY
    w.edit(suspend=False)
    w.until(lambda status: status.weight == 0, within=30)


def test_a_suspended_plan_has_no_trial_whatever_else_it_lacks() -> None:
    w = trying()
    w.target = None
    w.edit(suspend=True)
    w.step()
    assert (w.status.reason, w.route) == ("PreflightFailed", None)


def test_a_deleted_plan_has_no_trial() -> None:
    w = trying()
    w.deleting = True
    decision = decide(w.plan(), w.observe(), w.now)
    assert [type(action) for action in decision.actions] == [EndTrial, Finalize]
    w.reconcile()
    assert w.route is None


def test_a_trial_ends_where_the_edited_plan_names_another_object() -> None:
    w = trying(eks=DEAD)
    w.working = w.working.evolve(route=RouteRecord(trial="VirtualService old"))
    decision = decide(w.plan(), w.observe(), w.now)
    assert decision.actions[:2] == (EndTrial("VirtualService old"), WriteStatus())
    assert decision.status.route == RouteRecord()
    assert not any(isinstance(action, Try) for action in decision.actions)


def test_after_the_takeover_nothing_of_the_trial_is_recorded() -> None:
    w = trying()
    assert w.status.route == RouteRecord(trial=ROUTE_NAME)
    assert route_wanted(w.plan(), w.capabilities) == Trial(1)
    w.until_phase(Phase.BASELINE)
    assert w.status.route == RouteRecord(name=ROUTE_NAME)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("fault", [HEALTHY, DEAD], ids=["well", "EKS refuses"])
def test_a_crash_in_the_trial_changes_nothing(when: str, fault: Leg) -> None:
    for number in range(8):
        w = world(eks=fault, crash_at=(number, when))
        if fault is HEALTHY:
            w.until_phase(Phase.BASELINE, within=40)
            assert (w.status.weight, w.route) == (0, Route(0, "a1-w0"))
            continue
        w.run(40)
        assert (w.status.weight, w.route) == (None, TRIED)
        w.edit(suspend=True)
        w.run(20)
        assert w.route is None
