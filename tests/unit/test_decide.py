"""The state machine, phase by phase: a world goes in, the status, the writes and the events come out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from tests.kit.world import (
    DEAD,
    FAILING,
    HANGING,
    HEALTHY,
    START,
    Leg,
    Route,
    World,
    asked_weight,
    check,
    kinds,
    plan_spec,
)

from cutover.api.opaque import Opaque
from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanSpec, MigrationPlanStatus, OnDelete, Phase
from cutover.domain.commands.annotations import ROLLBACK_ANNOTATION
from cutover.domain.engine.actions import Decision, Finalize, Prepare, SetWeight, Try, WriteStatus
from cutover.domain.engine.decide import decide, not_written, refuse
from cutover.domain.engine.phases.preflight import PREPARED_SECONDS
from cutover.domain.engine.probe_intervals import probe_interval
from cutover.domain.engine.wanted import samples_wanted
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.observation import Observation, Samples
from cutover.domain.plan import Plan
from cutover.domain.traffic import Probe


def world(**fields: Any) -> World:
    spec = {name: fields.pop(name) for name in list(fields) if name in SPEC_FIELDS}
    return World(spec=plan_spec(**spec), on_decision=check, **fields)


SPEC_FIELDS = frozenset(field.alias or name for name, field in MigrationPlanSpec.model_fields.items())


def at(weight: int, **fields: Any) -> World:
    """A world whose plan is judging at a weight."""
    key = f"{weight} {fields}"
    if key not in _REACHED:
        made = world(**fields)
        _REACHED[key] = made.until_judging(weight) if weight else made.until_phase(Phase.SHIFTING)
    return _REACHED[key].copy()


_REACHED: dict[str, World] = {}


# ---------------------------------------------------------------------------------------------------- the whole way up


def test_a_healthy_service_is_cut_over() -> None:
    w = world().until_phase(Phase.COMPLETED)
    assert w.weights == [0, 10, 25, 50, 100]
    assert w.decided("Advance") == [(0, 10), (10, 25), (25, 50), (50, 100)]
    assert [e.decision for e in w.status.ledger] == ["TakeOver", *["Advance"] * 4, "Complete"]
    assert (w.status.step, w.status.weight, w.status.reason) == ("4/4", 100, "Completed")
    assert w.condition("Completed") == w.condition("Ready") == "True"
    assert w.condition("Progressing") == w.condition("Held") == "False"
    assert [event.reason for event in w.events] == ["TakeOver", *["Advance"] * 4, "Completed"]
    assert all(event.kind == "Normal" for event in w.events)
    for entry in w.status.ledger[2:5]:
        counts = entry.gates[0].counts
        assert counts is not None, "a decision comes with its numbers"
        assert counts.eks is not None
        assert counts.eks.total > 0


def test_the_first_pass_checks_the_target_and_writes_no_route() -> None:
    w = world()
    w.reconcile()
    assert w.status.phase is Phase.PREFLIGHT
    assert w.status.weight is None
    assert [type(action) for _, action in w.actions] == [WriteStatus]
    assert w.status.attempt == 1
    assert w.status.observed_generation == 1


def test_the_takeover_is_at_weight_0_and_told() -> None:
    w = world()
    w.until(lambda status: status.weight == 0)
    done = [type(action) for _, action in w.actions]
    assert [kind for kind in done if kind is not WriteStatus] == [Prepare, Try, SetWeight]
    assert done[-2:] == [WriteStatus, SetWeight]
    assert w.route == Route(0, "a1-w0")
    assert w.events[-1].reason == "TakeOver"
    assert "pdf.example.com" in w.events[-1].message


def test_what_the_route_refers_to_is_there_for_a_while_before_the_route() -> None:
    """A gateway that learns of the route first answers 503."""
    w = world()
    w.until(lambda status: status.reason == "Trying")
    assert [type(action) for _, action in w.actions][-1] is Prepare
    prepared = w.prepared_at or 0.0
    w.pass_time(prepared + PREPARED_SECONDS - 1 - w.now)
    w.reconcile()
    assert w.status.weight is None
    w.restart()  # who has not seen it does not know how long it has been there
    w.reconcile()
    assert w.status.weight is None
    w.until(lambda status: status.weight == 0)
    assert w.now >= prepared + 2 * PREPARED_SECONDS - 1


def test_the_baseline_waits_for_users_requests() -> None:
    w = world(rate=0.0).until_phase(Phase.BASELINE).run(200)
    assert (w.status.phase, w.status.reason) == (Phase.BASELINE, "InsufficientTraffic")
    assert "DNS" in w.status.message
    w.rate = 50.0
    w.until_phase(Phase.SHIFTING)
    assert w.status.baseline is not None
    assert (w.status.baseline.slow_ms, w.status.baseline.very_slow_ms) == (250, 1000)


def test_thresholds_of_the_plan_need_no_histogram() -> None:
    slos = [{"name": "latency", "latency": {"slowMs": 250, "verySlowMs": 1000}}]
    w = world(histogram=None, gates={"block": "5s", "warmUp": "5s", "slos": slos})
    w.until_phase(Phase.COMPLETED)
    assert w.status.baseline is not None
    assert w.status.baseline.slow_ms is None


def test_a_step_is_left_no_earlier_than_its_hold_is_over() -> None:
    w = at(10, steps=[{"weight": 10, "hold": "5m"}, {"weight": 100, "hold": "30s"}])
    assert w.status.checkpoint is not None
    observed = w.status.checkpoint.observed_at
    assert observed is not None
    w.until(lambda status: status.weight == 100)
    assert w.now - observed >= 300
    assert w.now - observed < 310


def test_judgement_begins_when_the_share_is_seen_and_mixes_no_steps() -> None:
    w = world()
    w.until(lambda status: status.weight == 10)
    w.until(lambda status: status.weight == 25)
    assert w.status.checkpoint is not None
    evidence = load_evidence(w.status.checkpoint)
    assert evidence.total[1].requests == 0, "safety is earned anew"
    assert not evidence.safety
    assert evidence.harm, "harm stays known"
    w.until_judging(25)
    first = w.status.checkpoint.weight_since
    w.run(20)
    counted, truth = w.counted()
    assert counted == pytest.approx(truth, rel=1e-4)
    assert counted > 0
    assert w.status.checkpoint is not None
    assert w.status.checkpoint.observed_at is not None
    assert w.status.checkpoint.observed_at >= first + 5


def test_the_soak_is_at_least_as_long_as_the_last_steps_hold() -> None:
    w = world(soak="0s", steps=[{"weight": 50, "hold": "0s"}, {"weight": 100, "hold": "90s"}])
    w.until_phase(Phase.SOAKING)
    begun = w.now
    w.until_phase(Phase.COMPLETED)
    assert w.now - begun >= 85


@pytest.mark.parametrize("first", [1, 2, 3])
def test_a_first_step_of_one_percent_is_seen(first: int) -> None:
    w = world(steps=[{"weight": first, "hold": "30s"}, {"weight": 100, "hold": "30s"}])
    w.until_judging(first, within=300)
    assert w.decided("Advance") == [(0, first)]
    assert w.status.share is not None
    assert w.status.share.observed == pytest.approx(first, abs=0.5)


def test_steps_near_the_top_are_told_apart() -> None:
    w = world(steps=[{"weight": weight, "hold": "10s"} for weight in (50, 99, 100)])
    w.until_phase(Phase.SOAKING, within=3600)
    assert w.weights == [0, 50, 99, 100]


# ------------------------------------------------------------------------------------------------------- going back


@pytest.mark.parametrize("weight", [10, 25, 50, 100])
@pytest.mark.parametrize("fault", [FAILING, DEAD, HANGING, Leg(very_slow=0.3, slow=0.3)], ids=str)
def test_harm_rolls_back_from_every_step(weight: int, fault: Leg) -> None:
    w = at(weight, soak="10m")
    w.eks, onset = fault, w.now
    w.until_phase(Phase.ROLLED_BACK, within=240)
    assert w.route == Route(0, "a1-rollback")
    assert w.status.weight == 0
    entry = next(e for e in w.status.ledger if e.decision == "RollBack")
    assert (entry.from_weight, entry.to_weight, entry.reason) == (weight, 0, "EvidenceOfHarm")
    assert entry.gates
    # Where the probes' own evidence takes minutes, that is told meanwhile.
    slowly = ["HarmUnconfirmed"] if weight == 100 and fault.very_slow > 0.1 else []
    assert [e.reason for e in w.events if e.kind == "Warning"] in (["RollBack"], [*slowly, "RollBack"])
    assert w.condition("RolledBack") == "True"
    assert w.status.message.startswith(f"{weight} % → 0 %: EKS is worse")
    if fault in (DEAD, HANGING):
        assert entry.at.timestamp() - onset <= 5 * 5, "a dead leg is found within a few scrapes"


@pytest.mark.parametrize("weight", [10, 25, 50])
def test_a_leg_that_hangs_from_the_first_request_of_a_step_is_found(weight: int) -> None:
    w = world()
    w.until(lambda status: status.weight == weight)
    w.eks = HANGING
    w._hung.clear()
    begun = w.now
    w.until_phase(Phase.ROLLED_BACK, within=60)
    back = next(e for e in w.status.ledger if e.decision == "RollBack")
    assert back.at.timestamp() - begun <= 35, "before the route's time-out makes errors of the silence"
    assert back.reason == "EvidenceOfHarm"


def test_silence_before_the_gateway_has_the_route_is_no_evidence() -> None:
    w = at(10)
    w.istiod_up = False
    w.until(lambda status: status.weight == 25)
    w.eks = HANGING  # the 10 % that still go there
    w.run(60)
    assert w.status.checkpoint is not None
    assert w.status.checkpoint.observed_at is None
    w.istiod_up, w.eks = True, HEALTHY
    w.run(40)
    w.until_judging(25).run(30)
    assert w.status.phase is not Phase.ROLLED_BACK
    assert not w.decided("RollBack")


def test_a_rollback_waits_on_nothing_but_the_route() -> None:
    """No window, no approval, no ceiling, no suspension, no Prometheus any more, no status that can be written."""
    freeze = {"from": "2027-01-01T00:00:00Z", "to": "2027-03-01T00:00:00Z", "reason": "audit"}
    w = at(25)
    w.edit(suspend=True, ceiling=25, schedule={"timeZone": "UTC", "freezes": [freeze], "windows": []})
    w.run(10)
    w.eks = DEAD
    w.run(15)
    w.status_writes_fail = True
    w.run(15)
    assert w.route == Route(0, "a1-rollback"), "the route is written first"
    assert w.stored.phase is Phase.SHIFTING
    w.status_writes_fail = False
    w.until_phase(Phase.ROLLED_BACK)
    assert w.decided("RollBack") == [(25, 0)]


def test_a_rollback_goes_on_until_the_route_is_written() -> None:
    w = at(50)
    w.route_writes_fail = True
    w.eks = DEAD
    w.run(60)
    assert w.route is not None
    assert w.route.weight == 50
    assert w.stored.phase is Phase.SHIFTING, "what is not done is not claimed"
    w.route_writes_fail = False
    w.run(3)
    assert w.route == Route(0, "a1-rollback")


def test_rolled_back_is_said_once_the_gateway_answers_with_the_rollback() -> None:
    w = at(50)
    w.eks, w.istiod_up = DEAD, False
    w.until_phase(Phase.ROLLING_BACK)
    w.run(150)
    assert (w.status.phase, w.status.reason) == (Phase.ROLLING_BACK, "ShareNotObserved")
    assert w.condition("Reconciling") == "True"
    w.istiod_up = True
    w.until_phase(Phase.ROLLED_BACK, within=10)
    assert w.status.message.startswith("50 % → 0 %: EKS is worse"), "and why, not what was waited for"


def test_on_breach_hold_alarms_and_stays() -> None:
    w = at(25, onBreach="Hold")
    w.eks = DEAD
    w.until_reason("Breach").run(60)
    assert (w.status.phase, w.status.weight) == (Phase.SHIFTING, 25)
    assert w.route is not None
    assert w.route.weight == 25
    assert "cutover.dev/rollback=a1" in w.status.message
    assert [e.kind for e in w.told("Breach")] == ["Warning"]
    w.annotations["cutover.dev/rollback"] = "a1"
    w.until_phase(Phase.ROLLED_BACK, within=10)


def test_nothing_goes_back_to_a_heroku_that_is_as_sick() -> None:
    w = at(50)
    w.heroku = w.eks = Leg(errors=0.6)
    w.until_reason("BothLegsUnhealthy").run(60)
    assert (w.status.phase, w.status.weight) == (Phase.SHIFTING, 50)
    assert [e.kind for e in w.told("BothLegsUnhealthy")] == ["Warning"]
    w.heroku = w.eks = HEALTHY
    w.until_phase(Phase.COMPLETED, within=3600)
    assert not w.decided("RollBack")


@pytest.mark.parametrize("fault", [DEAD, HANGING], ids=["dead", "hanging"])
def test_a_dead_heroku_is_nothing_to_go_back_to(fault: Leg) -> None:
    w = at(50)
    w.heroku = fault
    w.until_reason("HerokuCannotTakeBack", within=60).run(60)
    assert (w.status.phase, w.status.weight) == (Phase.SHIFTING, 50)
    assert w.told("HerokuCannotTakeBack")[0].kind == "Warning"
    w.heroku = HEALTHY
    w.run(60)
    w.until_phase(Phase.COMPLETED, within=3600)


def test_without_control_a_rollback_asks_heroku_first() -> None:
    w = at(100, soak="10m")
    w.capabilities = replace(w.capabilities, probes_eks=False)
    w.eks = DEAD
    w.run(60)
    w.probes_answered = False
    w.restart()
    w.until_reason("Judging", within=120).run(10)
    assert w.status.phase is Phase.SOAKING
    assert "asking Heroku" in w.status.message
    w.probes_answered = True
    w.until_phase(Phase.ROLLED_BACK, within=15)


def test_without_control_nothing_goes_back_to_a_heroku_that_does_not_answer() -> None:
    w = at(100, soak="10m")
    w.eks = w.heroku = DEAD
    w.until_reason("BothLegsUnhealthy", within=25).run(240)
    assert (w.status.phase, w.status.weight) == (Phase.SOAKING, 100)
    w.heroku = HEALTHY
    w.until_phase(Phase.ROLLED_BACK, within=30)


@pytest.mark.parametrize("weight", [0, 10, 50, 100])
def test_a_person_asks_to_go_back(weight: int) -> None:
    w = at(weight)
    if not weight:
        w.edit(suspend=True)
    w.annotations["cutover.dev/rollback"] = "a1"
    if not weight:
        w.edit(suspend=False)
    w.until_phase(Phase.ROLLED_BACK, within=10)
    assert w.decided("RollBack") == [(weight, 0)]
    assert max(value or 0 for value in w.weights) == weight, "not one more step"
    w.run(60)
    assert w.route == Route(0, "a1-rollback")


def test_a_wish_for_another_attempt_is_not_obeyed() -> None:
    w = at(10)
    w.annotations["cutover.dev/rollback"] = "a2"
    w.run(20)
    assert w.status.phase is Phase.SHIFTING


def test_a_person_asks_to_go_back_after_completion() -> None:
    w = world().until_phase(Phase.COMPLETED)
    w.annotations["cutover.dev/rollback"] = "a1"
    w.until_phase(Phase.ROLLED_BACK, within=10)
    assert w.route == Route(0, "a1-rollback")


# ---------------------------------------------------------------------------------------------------- crash and restart


def test_a_rollback_that_died_before_its_status_is_resumed_and_never_undone() -> None:
    w = at(50)
    w.eks = DEAD
    w.until_phase(Phase.ROLLING_BACK)
    again = at(50)
    again.eks = DEAD
    again.crash_at = (len(w.actions) - 2, "after")  # the route is written, the status is not
    again.until(lambda status: again.route is not None and again.route.weight == 0)
    assert again.stored.phase is Phase.SHIFTING
    again.prometheus_up = False  # and nothing can be read again
    written = len(again.weights)
    again.until_phase(Phase.ROLLED_BACK, within=30)
    assert again.weights[written - 1 :] == [0]
    assert again.decided("RollBack") == [(50, 0)]
    assert any(e.reason in ("Resumed", "EvidenceOfHarm") for e in again.status.ledger)


def test_a_resumed_rollback_says_the_reason_where_it_is_still_known() -> None:
    w = at(50)
    w.set_route(Route(0, "a1-rollback"))
    w.annotations["cutover.dev/rollback"] = "a1"
    w.reconcile()
    assert w.status.phase is Phase.ROLLING_BACK
    assert w.status.reason == "Requested"


def test_a_rollback_in_the_pass_that_noted_a_raised_attempt_is_resumed_too() -> None:
    w = at(50)
    w.edit(attempt=2)
    w.set_route(Route(0, "a2-rollback"))  # the status still says attempt 1
    w.until_phase(Phase.ROLLED_BACK, within=10).run(30)
    assert w.weights == [0, 10, 25, 50, 0]
    assert (w.status.phase, w.status.attempt) == (Phase.ROLLED_BACK, 2)


def test_an_advance_that_died_before_the_route_is_finished() -> None:
    w = at(10)
    w.route_writes_fail = True
    w.until(lambda status: w.stored.weight == 25)
    assert w.route is not None
    assert w.route.weight == 10
    w.restart()
    w.route_writes_fail = False
    w.reconcile()
    assert w.route == Route(25, "a1-w25")
    assert w.decided("Advance") == [(0, 10), (10, 25)]


def test_a_restart_does_not_move_before_it_knows_what_happened_meanwhile() -> None:
    """The hold is over by the clock, and the evidence was good when the process died; EKS has failed since."""
    w = at(10, steps=[{"weight": 10, "hold": "20m"}, {"weight": 100, "hold": "30s"}])
    w.until(lambda status: status.gate == "safe").run(60)
    w.restart()
    w.eks = DEAD
    w.pass_time(1200)
    w.restart()
    w.prometheus_slow = True
    w.run(3)
    assert w.status.weight == 10
    assert w.status.reason == "CatchingUp"
    w.prometheus_slow = False
    w.until_phase(Phase.ROLLED_BACK, within=10)
    assert w.weights == [0, 10, 0]


def test_evidence_survives_a_restart_and_counts_once() -> None:
    calm, killed = at(25), at(25)
    calm.run(12)
    for _ in range(4):
        killed.run(3)
        killed.restart()
    # What was not in a checkpoint is read again.
    calm.run(10)
    killed.run(10)
    for w in (calm, killed):
        counted, truth = w.counted()
        assert counted == pytest.approx(truth, rel=1e-4)
    assert killed.status.checkpoint is not None
    assert calm.status.checkpoint is not None
    assert killed.status.checkpoint.consumed_until == pytest.approx(calm.status.checkpoint.consumed_until, abs=5)


def _crashes() -> list[tuple[int, str]]:
    undisturbed = _short_way()
    return [(number, when) for number in range(len(undisturbed.actions)) for when in ("before", "after")]


def _short_way(crash_at: tuple[int, str] | None = None, *, sick: bool = False) -> World:
    steps = [{"weight": 25, "hold": "15s"}, {"weight": 100, "hold": "10s"}]
    w = world(steps=steps, soak="20s", crash_at=crash_at)
    if sick:
        w.until(lambda status: status.weight == 100 or w.now > START + 70)
        w.eks = DEAD
        return w.until_phase(Phase.ROLLED_BACK)
    return w.until_phase(Phase.COMPLETED)


def test_a_crash_at_any_action_changes_nothing_in_the_end() -> None:
    undisturbed = _short_way()
    decisions = [(e.decision, e.from_weight, e.to_weight, e.reason) for e in undisturbed.status.ledger]
    for crash in _crashes():
        crashed = _short_way(crash)
        assert crashed.weights == undisturbed.weights == [0, 25, 100], crash
        assert crashed.route == undisturbed.route
        assert [(e.decision, e.from_weight, e.to_weight, e.reason) for e in crashed.status.ledger] == decisions, crash
        assert (crashed.status.phase, crashed.status.reason) == (undisturbed.status.phase, undisturbed.status.reason)
        assert abs(crashed.now - undisturbed.now) <= 15, crash


def test_a_crash_at_any_action_of_a_rollback_ends_at_heroku() -> None:
    undisturbed = _short_way(sick=True)
    for number in range(len(undisturbed.actions)):
        for when in ("before", "after"):
            crashed = _short_way((number, when), sick=True)
            assert crashed.weights == undisturbed.weights == [0, 25, 0], (number, when)
            assert crashed.route == undisturbed.route == Route(0, "a1-rollback")
            assert crashed.decided("RollBack") == [(25, 0)]


# ----------------------------------------------------------------------------------------------------- quiet and small


@pytest.mark.parametrize("eks", [HEALTHY, DEAD])
def test_what_is_routine_may_come_later(eks: Leg) -> None:
    """It says nothing new to people, moves nothing, and is all there is to do."""
    w = world()
    routine: list[Decision] = []

    def look(_: World, plan: Plan, __: Observation, decision: Decision) -> None:
        if WriteStatus(may_wait=True) in decision.actions:
            before, after = plan.status, decision.status
            assert (kinds(decision), decision.events) == ([WriteStatus], ())
            assert (after.phase, after.weight, after.reason, after.ledger) == (
                before.phase,
                before.weight,
                before.reason,
                before.ledger,
            )
            routine.append(decision)

    w.on_decision = look
    w.until_judging(25)
    w.eks = eks
    w.until_phase(Phase.COMPLETED if eks is HEALTHY else Phase.ROLLED_BACK)
    assert routine


def test_a_quiet_tick_writes_nothing_and_checkpoints_come_once_a_minute() -> None:
    w = at(10, steps=[{"weight": 10, "hold": "30m"}, {"weight": 100}])
    before, actions = len(w.writes), len(w.actions)
    w.run(600)
    times = [at for at, _ in w.writes[before:]]
    assert 9 <= len(times) <= 10
    assert all(later - earlier >= 60 for earlier, later in pairwise(times))
    assert len(w.actions) - actions == len(times), "no route writes"


@pytest.mark.parametrize("end", ["completed", "rolled back"])
def test_at_rest_nothing_is_written(end: str) -> None:
    w = at(10)
    if end == "rolled back":
        w.eks = DEAD
        w.until_phase(Phase.ROLLED_BACK)
    else:
        w.until_phase(Phase.COMPLETED)
    done = len(w.actions)
    w.run(3600)
    w.restart()
    w.run(600)
    assert len(w.actions) == done
    assert not samples_wanted(w.status)
    assert probe_interval(w.plan()) is None


def test_the_status_stays_small() -> None:
    w = at(10, onBreach="Hold")
    for round_ in range(60):
        w.set_route(Route(round_ % 100, "a1-w10", (f"tool-{round_}" * 30,)))
        w.step()
    assert len(w.status.ledger) == 30
    w.prometheus_up = False  # check() and World hold every write below 32 KiB
    w.run(30)


def test_texts_of_others_are_cut() -> None:
    w = world()
    w.step()
    plan = replace(w.plan(), unreadable="x" * 50_000)
    status = decide(plan, w.observe(), w.now).status
    assert len(status.message) <= 1000
    assert len(status.ledger[-1].message) <= 300
    assert len(status.to_wire()["conditions"][0]["message"]) <= 1000


# -------------------------------------------------------------------------------------------- what people change


def test_a_raised_ceiling_goes_on_and_keeps_its_evidence() -> None:
    w = world(ceiling=10)
    w.until_reason("Ceiling")
    w.edit(ceiling=25)
    w.step()
    assert w.status.weight == 25


@pytest.mark.parametrize(("ceiling", "weight"), [(25, 25), (30, 30), (5, 5)])
def test_a_lowered_ceiling_lowers_the_weight(ceiling: int, weight: int) -> None:
    w = at(50)
    w.edit(ceiling=ceiling)
    w.reconcile()
    assert (w.status.weight, w.status.phase) == (weight, Phase.SHIFTING)
    assert w.decided("Lower") == [(50, weight)]
    w.until_judging(weight).until_reason("Ceiling")
    w.edit(ceiling=100)
    w.until_phase(Phase.COMPLETED, within=1800)


def test_a_ceiling_of_0_is_a_rollback() -> None:
    w = at(50)
    w.edit(ceiling=0)
    w.until_phase(Phase.ROLLED_BACK, within=10)
    assert w.decided("RollBack") == [(50, 0)]


def test_a_lowered_ceiling_reopens_a_completed_plan() -> None:
    w = world().until_phase(Phase.COMPLETED)
    w.edit(ceiling=50)
    w.run(5)
    assert (w.status.phase, w.status.weight) == (Phase.SHIFTING, 50)
    w.until_judging(50).run(10)
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK, within=60)


def test_a_new_attempt_starts_from_nothing() -> None:
    w = at(50)
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK).run(60)
    w.eks = HEALTHY
    w.edit(attempt=2)
    w.reconcile()
    assert (w.status.phase, w.status.attempt, w.status.weight) == (Phase.PREFLIGHT, 2, 0)
    assert w.route == Route(0, "a2-w0")
    assert w.status.checkpoint is not None
    evidence = load_evidence(w.status.checkpoint)
    assert not evidence.harm
    assert w.status.gates == ()
    assert w.told("Retry")
    w.until_phase(Phase.COMPLETED)
    assert w.weights == [0, 10, 25, 50, 0, 10, 25, 50, 100]
    assert {e.attempt for e in w.status.ledger} == {1, 2}


def test_a_retry_that_died_before_the_route_converges() -> None:
    w = at(10)
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK)
    w.eks, w.route_writes_fail = HEALTHY, True
    w.edit(attempt=2)
    w.reconcile()
    assert w.stored.attempt == 2
    w.restart()
    w.route_writes_fail = False
    w.run(5)
    assert w.route == Route(0, "a2-w0")
    w.until_phase(Phase.COMPLETED)


@pytest.mark.parametrize(
    "phase", [Phase.PENDING, Phase.PREFLIGHT, Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED]
)
def test_an_attempt_raised_while_one_goes_on_is_noted_and_tries_nothing(phase: Phase) -> None:
    w = world()
    if phase is not Phase.PENDING:
        w.until_phase(phase)
    weights = list(w.weights)
    w.edit(attempt=2)
    w.step()
    assert w.status.attempt == 2
    assert not w.told("Retry")
    assert [value or 0 for value in w.weights[: len(weights)]] == [value or 0 for value in weights]
    w.until_phase(Phase.COMPLETED)
    assert sorted(set(w.weights)) == [0, 10, 25, 50, 100]


def test_an_attempt_raised_in_the_middle_of_a_rollback_starts_after_it() -> None:
    w = at(50)
    w.eks = DEAD
    w.until_phase(Phase.ROLLING_BACK)
    w.edit(attempt=2)
    w.eks = HEALTHY
    w.until_phase(Phase.COMPLETED)
    assert w.told("RolledBack")
    assert w.status.attempt == 2


def test_steps_can_be_inserted_and_dropped_in_mid_run() -> None:
    w = at(25)
    w.edit(steps=[{"weight": 10}, {"weight": 30, "hold": "10s"}, {"weight": 100, "hold": "10s"}])
    w.until_phase(Phase.COMPLETED)
    assert w.weights == [0, 10, 25, 30, 100]
    assert w.status.step == "3/3"


def test_a_bigger_next_step_needs_its_own_evidence() -> None:
    """What was safe enough to go to 2 % is not enough to go to 100 %."""
    w = at(
        1,
        steps=[{"weight": 1, "hold": "10s"}, {"weight": 2, "hold": "10s"}, {"weight": 100, "hold": "10s"}],
        ceiling=1,
    )
    w.until_reason("Ceiling")
    assert w.status.gate == "safe"
    w.edit(steps=[{"weight": 1, "hold": "10s"}, {"weight": 100, "hold": "10s"}], ceiling=100)
    w.run(30)
    assert w.status.weight == 1
    assert w.status.gate != "safe"
    w.until_phase(Phase.COMPLETED, within=7200)


@pytest.mark.parametrize(
    ("phase", "weight", "on_eks", "rests"),
    [
        # Before the takeover there may be the route of an earlier plan.
        (Phase.PENDING, None, OnDelete.LEAVE, OnDelete.LEAVE),
        (Phase.PREFLIGHT, None, OnDelete.LEAVE, OnDelete.LEAVE),
        # Only evidence moves weight up.
        (Phase.PREFLIGHT, 0, OnDelete.HEROKU, OnDelete.HEROKU),
        (Phase.BASELINE, 0, OnDelete.HEROKU, OnDelete.HEROKU),
        (Phase.SHIFTING, 0, OnDelete.HEROKU, OnDelete.HEROKU),
        (Phase.SHIFTING, 50, OnDelete.HEROKU, OnDelete.HEROKU),
        (Phase.ROLLING_BACK, 0, OnDelete.HEROKU, OnDelete.HEROKU),
        (Phase.ROLLED_BACK, 0, OnDelete.HEROKU, OnDelete.HEROKU),
        # Only the end of the soak says that it is for good.
        (Phase.SHIFTING, 100, OnDelete.EKS, OnDelete.HEROKU),
        (Phase.SOAKING, 100, OnDelete.EKS, OnDelete.HEROKU),
        (Phase.COMPLETED, 100, OnDelete.EKS, OnDelete.EKS),
    ],
)
@pytest.mark.parametrize("end", list(OnDelete))
def test_deletion_puts_traffic_to_rest_in_every_phase(
    phase: Phase, weight: int | None, on_eks: OnDelete, rests: OnDelete, end: OnDelete
) -> None:
    at = datetime.fromtimestamp(START, UTC)
    moved = {"at": at, "attempt": 1, "decision": "Advance", "from_weight": 0, "to_weight": weight or 0, "reason": "x"}
    status = MigrationPlanStatus(phase=phase, weight=weight, ledger=(LedgerEntry(**moved),))
    decision = decide(
        Plan("shop", "pdf", "1", 1, plan_spec(onDelete=end), status, deleting=True), Observation(), START
    )
    wanted = {OnDelete.EKS: on_eks, OnDelete.REST: rests}.get(end, end)
    (action,) = decision.actions
    assert isinstance(action, Finalize)
    assert action.end is wanted
    weights = {OnDelete.HEROKU: 0, OnDelete.EKS: 100, OnDelete.LEAVE: None}
    assert (action.route.split.weight if action.route is not None else None) == weights[wanted]
    told = ["Warning"] if end is OnDelete.EKS and wanted is not end else []
    assert [event.kind for event in decision.events] == (
        ["Normal"] if end is OnDelete.REST and weight is not None else told
    )
    assert decision.status == status


def at_rest(status: MigrationPlanStatus, annotations: dict[str, str] | None = None, **spec: object) -> OnDelete:
    plan = Plan("shop", "pdf", "1", 1, plan_spec(**spec), status, annotations=annotations or {}, deleting=True)
    (action,) = decide(plan, Observation(), START).actions
    assert isinstance(action, Finalize)
    return action.end


@pytest.mark.parametrize("end", [OnDelete.REST, OnDelete.EKS])
def test_a_deleted_plan_without_a_way_back_stays_where_it_is(end: OnDelete) -> None:
    shifting = MigrationPlanStatus(phase=Phase.SHIFTING, weight=50)
    assert at_rest(shifting, onDelete=end, onBreach="Hold") is OnDelete.LEAVE
    # Before the first step there is nothing to lose, and an adopted VirtualService comes back.
    assert at_rest(shifting.evolve(weight=0), onDelete=end, onBreach="Hold") is OnDelete.HEROKU


def test_who_left_a_dead_heroku_does_not_go_back_to_it_by_a_deletion() -> None:
    w = world().until_phase(Phase.SOAKING)
    assert w.status.checkpoint is not None
    forwarded = w.status.evolve(checkpoint=w.status.checkpoint.evolve(forwarded=True))
    assert (at_rest(w.status), at_rest(forwarded)) == (OnDelete.HEROKU, OnDelete.LEAVE)


def test_a_rollback_that_was_asked_for_is_not_undone_by_a_deletion() -> None:
    """It may be in the route already, and the process may have died before it could write that down."""
    w = world().until_phase(Phase.COMPLETED)
    assert at_rest(w.status) is OnDelete.EKS
    assert at_rest(w.status, {ROLLBACK_ANNOTATION: "a1"}) is OnDelete.LEAVE
    assert at_rest(w.status, ceiling=0) is OnDelete.LEAVE
    assert at_rest(w.status, {ROLLBACK_ANNOTATION: "a2"}) is OnDelete.EKS


# ------------------------------------------------------------------------------------------ back after the end


def ask_back(w: World, way: str) -> None:
    if way == "annotation":
        w.annotations[ROLLBACK_ANNOTATION] = "a1"
    else:
        w.edit(ceiling=0 if way == "ceiling 0" else 50)


@pytest.mark.parametrize("way", ["annotation", "ceiling 0", "ceiling 50"])
def test_after_the_end_users_go_back_once_heroku_answers(way: str) -> None:
    w = world().until_phase(Phase.COMPLETED)
    w.heroku = DEAD
    ask_back(w, way)
    w.until_reason("HerokuCannotTakeBack", within=30)
    w.run(600)
    assert (w.status.phase, w.status.weight, w.route) == (Phase.COMPLETED, 100, Route(100, "a1-w100"))
    assert "HTTP 503 (H10)" in w.status.message
    assert w.condition("Held") == "True"
    w.heroku = HEALTHY
    w.run(30)
    assert w.status.phase is (Phase.SHIFTING if way == "ceiling 50" else Phase.ROLLED_BACK)
    assert w.status.weight == (50 if way == "ceiling 50" else 0)


def test_the_last_answer_in_the_soak_is_no_answer_of_now() -> None:
    w = world().until_phase(Phase.COMPLETED)
    w.run(3600)
    ask_back(w, "annotation")
    for age, phase in ((30.0, Phase.COMPLETED), (5.0, Phase.ROLLING_BACK)):
        seen = replace(w.observe(), probe=Probe(w.now - age, "a1-w100", healthy=True, detail="HTTP 200"))
        assert decide(w.plan(), seen, w.now).status.phase is phase


def test_a_request_to_go_back_can_be_taken_back() -> None:
    w = world().until_phase(Phase.COMPLETED)
    w.heroku = DEAD
    ask_back(w, "annotation")
    w.until_reason("HerokuCannotTakeBack", within=30)
    del w.annotations[ROLLBACK_ANNOTATION]
    w.run(30)
    assert (w.status.phase, w.status.weight, w.condition("Held")) == (Phase.COMPLETED, 100, "False")
    assert probe_interval(w.plan()) is None


def test_who_cannot_ask_heroku_goes_back_at_once() -> None:
    w = world().until_phase(Phase.COMPLETED)
    w.capabilities = replace(w.capabilities, probes_leg=False)
    ask_back(w, "annotation")
    w.reconcile()
    assert w.status.phase is Phase.ROLLING_BACK


@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.SOAKING])
def test_before_the_end_a_rollback_asks_nobody(phase: Phase) -> None:
    w = at(50) if phase is Phase.SHIFTING else world().until_phase(Phase.SOAKING)
    w.heroku = DEAD
    ask_back(w, "annotation")
    w.reconcile()
    assert w.status.phase is Phase.ROLLING_BACK


# --------------------------------------------------------------------------------------------------------------- drift


@pytest.mark.parametrize("edited", [0, 50, 100])
def test_somebodys_edit_is_put_back_named_and_seen_again(edited: int) -> None:
    w = at(25)
    w.run(10)
    w.set_route(Route(edited, "a1-w25", ("kubectl-edit",)))
    w.reconcile()
    assert w.route == Route(25, "a1-w25")
    assert w.status.reason == "DriftDetected"
    assert "kubectl-edit" in w.status.message
    assert f"({edited} % to EKS)" in w.status.message
    assert w.told("DriftDetected")[0].kind == "Warning"
    assert w.status.checkpoint is not None
    assert w.status.checkpoint.observed_at is None
    assert w.status.checkpoint.previous_weight == edited
    assert w.status.ledger[-1].decision == "Repair"
    w.until_judging(25)
    assert w.condition("Held") == "False"
    w.until_phase(Phase.COMPLETED)


def test_a_deleted_route_is_made_again_and_seen_again() -> None:
    w = at(25)
    w.run(10)
    w.set_route(None)
    w.reconcile()
    assert w.route == Route(25, "a1-w25")
    assert w.status.reason == "DriftDetected"
    assert "deleted" in w.status.message
    assert w.status.checkpoint is not None
    assert w.status.checkpoint.observed_at is None


def test_a_tool_that_edits_again_and_again_does_not_fill_the_ledger() -> None:
    w = at(25)
    for _ in range(40):
        w.set_route(Route(50, "a1-w25", ("argocd-controller",)))
        w.run(5)
    assert [e.decision for e in w.status.ledger].count("Repair") == 1
    assert w.status.reason == "DriftDetected"
    w.run(60)
    assert w.status.reason != "DriftDetected"


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.ROLLED_BACK])
def test_an_edit_at_rest_is_put_back_and_named(phase: Phase) -> None:
    w = at(10)
    if phase is Phase.ROLLED_BACK:
        w.eks = DEAD
    w.until_phase(phase)
    before = w.route
    assert before is not None
    w.set_route(Route(50, before.revision, ("kubectl-edit",)))
    w.reconcile()
    assert w.route == before
    assert "kubectl-edit" in w.told("DriftDetected")[-1].message


def test_an_edit_does_not_hide_a_rollback() -> None:
    w = at(50)
    w.set_route(Route(0, "a1-rollback", ("kubectl-edit",)))
    w.restart()
    w.until_phase(Phase.ROLLED_BACK, within=10)
    assert w.weights[-1] == 0


# ------------------------------------------------------------------------------------------------- outages and oddities


@pytest.mark.parametrize("phase", [Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING])
def test_an_outage_of_prometheus_holds_in_every_phase_that_needs_it(phase: Phase) -> None:
    w = at(10) if phase is Phase.SHIFTING else world().until_phase(phase)
    weights = list(w.weights)
    w.prometheus_up = False
    w.run(400)
    assert w.status.phase is phase
    assert w.weights == weights
    assert w.status.reason == "PrometheusUnavailable"
    assert w.told("PrometheusUnavailable")[0].kind == "Warning"
    w.prometheus_up = True
    w.until_phase(Phase.COMPLETED)
    assert not w.decided("RollBack")


def test_harm_during_an_outage_of_prometheus_is_found_after_it() -> None:
    w = at(25)
    w.prometheus_up = False
    w.eks = DEAD
    w.run(120)
    assert w.status.weight == 25
    w.prometheus_up = True
    w.until_phase(Phase.ROLLED_BACK, within=15)


def test_an_outage_of_the_api_server_loses_nothing() -> None:
    w = at(25, steps=[{"weight": 25, "hold": "10m"}, {"weight": 100}])
    w.run(5)
    w.status_writes_fail = w.route_writes_fail = True
    w.routes_readable = False
    w.run(90)
    assert w.stored.weight == 25
    w.status_writes_fail = w.route_writes_fail = False
    w.routes_readable = True
    w.run(10)
    assert w.status.weight == 25, "the hold is longer than all of this"
    counted, truth = w.counted()
    assert counted == pytest.approx(truth, rel=1e-4)
    assert counted > 50 * 90 * 0.25 * 0.8, "what was seen in the outage is in it"
    w.until_phase(Phase.COMPLETED, within=1200)


def test_nothing_advances_while_the_route_cannot_be_read() -> None:
    w = at(25)
    w.routes_readable = False
    w.run(120)
    assert w.status.weight == 25
    assert "route cannot be read" in w.status.message
    w.routes_readable = True
    w.until_phase(Phase.COMPLETED)


def test_evidence_that_cannot_be_read_is_earned_anew() -> None:
    w = at(25)
    w.run(20)
    assert w.working.checkpoint is not None
    broken = w.working.checkpoint.model_copy(update={"evidence": Opaque('{"v": 99}')})
    w.working = w.stored = w.working.model_copy(update={"checkpoint": broken})
    w.until_phase(Phase.COMPLETED)
    assert w.weights == [0, 10, 25, 50, 100]


def test_a_checkpoint_that_was_removed_is_begun_anew() -> None:
    w = at(25)
    w.working = w.stored = w.working.model_copy(update={"checkpoint": None})
    w.run(5)
    assert w.status.weight == 25, "without evidence nothing moves"
    w.until_phase(Phase.COMPLETED)
    assert w.weights == [0, 10, 25, 50, 100]


def test_a_spec_that_cannot_be_read_is_said_and_nothing_else_is_done() -> None:
    body = {"metadata": {"namespace": "shop", "name": "pdf", "uid": "1", "generation": 3}, "spec": {}}
    decision = refuse(Plan.refused(body, "spec.heroku: Field required"), START)
    assert kinds(decision) == [WriteStatus]
    assert decision.status.reason == "InvalidSpec"
    assert "spec.heroku" in decision.status.message
    assert next(c.status for c in decision.status.conditions if c.type == "Stalled") == "True"
    again = refuse(replace(Plan.refused(body, "spec.heroku: Field required"), status=decision.status), START + 60)
    assert again.actions == ()


def test_a_spec_that_cannot_be_read_any_more_keeps_the_way_back_open() -> None:
    w = at(25)
    plan = replace(w.plan(), unreadable="spec.steps: new in v1beta1", generation=2)
    decision = decide(plan, w.observe(), w.now)
    assert decision.status.reason == "InvalidSpec"
    assert decision.status.weight == 25
    w.eks = DEAD
    w.pass_time(40)
    plan = replace(w.plan(), unreadable="spec.steps: new in v1beta1", generation=2)
    assert decide(plan, w.observe(), w.now).status.phase is Phase.ROLLING_BACK


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({"gates": {"slos": [{"name": "one", "errors": {}}, {"name": "two", "errors": {}}]}}, "more than one errors"),
        ({"schedule": {"timeZone": "Europe", "windows": []}}, "'Europe' is not a known time zone"),
    ],
)
def test_a_spec_that_is_edited_to_nonsense_is_told_and_keeps_the_way_back_open(
    edit: dict[str, Any], says: str
) -> None:
    w = at(25)
    w.edit(**edit)
    w.run(20)
    assert (w.status.reason, w.status.weight) == ("InvalidSpec", 25)
    assert says in w.status.message
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK, within=120)


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.ROLLED_BACK])
def test_a_spec_that_is_edited_to_nonsense_at_rest_is_told(phase: Phase) -> None:
    w = at(10)
    if phase is Phase.ROLLED_BACK:
        w.eks = DEAD
    w.until_phase(phase)
    weights = list(w.weights)
    w.edit(schedule={"timeZone": "Europe/Atlantis"}, attempt=2)
    w.run(30)
    assert (w.status.phase, w.status.reason) == (phase, "InvalidSpec")
    assert w.condition("Stalled") == "True"
    assert w.weights == weights
    w.edit(schedule={"timeZone": "Europe/Paris"})
    w.run(30)
    assert w.condition("Stalled") == "False"
    assert (w.status.phase is Phase.COMPLETED) is (phase is Phase.COMPLETED), "a new attempt starts once it is mended"


def test_a_hold_of_the_same_reason_and_another_cause_is_told_within_a_minute() -> None:
    w = at(25)
    w.prometheus_up = False
    w.until_reason("PrometheusUnavailable").run(90)
    plan, seen, at_last = w.plan(), w.observe(), w.writes[-1][0]
    assert WriteStatus not in kinds(decide(plan, seen, w.now))
    other = replace(seen, samples=Samples(error="Prometheus answered HTTP 401"))
    assert WriteStatus not in kinds(decide(plan, other, at_last + 30))
    told = decide(plan, other, at_last + 61)
    assert WriteStatus in kinds(told)
    assert told.status.message == "Prometheus answered HTTP 401"


@pytest.mark.parametrize("back", [5.0, 3600.0])
def test_a_clock_that_is_set_back_is_told_and_believes_no_probe_from_the_future(back: float) -> None:
    w = at(50, soak="1h").until_judging(100)
    w.capabilities = replace(w.capabilities, probes_eks=False)
    plan, seen = w.plan(), w.observe()
    decision = decide(plan, seen, w.now - back)
    assert (decision.status.reason == "NoData") is (back > 60)
    # EKS is dead then, and nobody has asked Heroku since the clock was set.
    w.eks = DEAD
    w.pass_time(180)
    seen = w.observe()
    assert seen.probe is not None
    stale = replace(seen, probe=replace(seen.probe, at=w.now + back))
    assert decide(w.plan(), stale, w.now).status.reason == ("EvidenceOfHarm" if back < 60 else "BothLegsUnhealthy")


def _raise_not_written() -> World:
    """25 % is in the status, and the route still says 10 %."""
    w = at(10)
    w.route_writes_fail = True
    w.until(lambda status: w.stored.weight == 25)
    assert w.route == Route(10, "a1-w10")
    return w


@pytest.mark.parametrize(
    "edit",
    [
        {"suspend": True},
        {"schedule": {"windows": [{"days": ["Sun"], "from": "09:00", "to": "10:00"}]}},
        {"schedule": {"timeZone": "Nowhere"}},
    ],
    ids=str,
)
def test_a_raise_that_was_not_written_is_withdrawn_where_something_holds_it_by_now(edit: dict[str, Any]) -> None:
    w = _raise_not_written()
    w.edit(**edit)
    w.route_writes_fail = False
    w.reconcile()
    assert (w.status.weight, w.route) == (10, Route(10, "a1-w10"))
    assert w.decided("Withdraw") == [(25, 10)]
    w.run(120)
    assert w.weights == [0, 10]
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK, within=120)


def test_a_raise_that_was_not_written_is_withdrawn_while_blind() -> None:
    w = _raise_not_written()
    w.prometheus_up = w.route_writes_fail = False
    w.run(30)
    assert (w.status.weight, w.weights) == (10, [0, 10])


def test_a_raise_that_could_not_be_written_for_long_has_to_be_earned_anew() -> None:
    w = _raise_not_written()
    w.eks = DEAD
    w.run(300)
    w.route_writes_fail = False
    w.until_phase(Phase.ROLLED_BACK, within=60)
    assert w.weights == [0, 10, 0], "nothing rose on evidence from before the outage"
    again = _raise_not_written()
    again.run(90)
    assert again.status.weight == 25, "no status says that a raise is off while it may still reach the route"
    again.route_writes_fail = False
    again.reconcile()
    assert (again.status.weight, again.decided("Withdraw")) == (10, [(25, 10)])
    again.until_phase(Phase.COMPLETED)
    assert again.weights == [0, 10, 25, 50, 100]


def test_nothing_advances_on_a_route_that_is_not_as_it_should_be() -> None:
    w = at(10)
    while True:
        seen = w.observe()
        assert seen.traffic is not None
        strayed = decide(w.plan(), replace(seen, traffic=replace(seen.traffic, current=False)), w.now)
        assert strayed.status.weight == 10
        assert asked_weight(strayed) == 10
        if decide(w.plan(), seen, w.now).status.weight == 25:
            break
        w.step()
    assert "written anew" in strayed.status.message


def test_a_tool_that_fights_over_anything_but_the_weights_does_not_keep_a_plan_from_going_back() -> None:
    w = at(25)
    writes = len(w.writes)
    for second in range(300):
        w.set_route(Route(25, "a1-w25", ("policy-controller",)))
        w.reconcile()
        w.pass_time(1)
        if second == 60:
            assert [e.decision for e in w.status.ledger].count("Repair") == 1
            assert "policy-controller" in w.told("DriftDetected")[-1].message
            assert len(w.writes) - writes <= 4
            assert w.status.weight == 25, "what was seen meanwhile is no evidence of safety"
            w.eks = FAILING
        if w.status.phase is Phase.ROLLING_BACK:
            break
    assert 60 < second < 299, "it goes back because of the harm, and does"


@pytest.mark.parametrize("back", [False, True])
def test_a_route_that_cannot_be_written_is_told_and_changes_nothing_else(back: bool) -> None:
    w = at(25)
    w.route_writes_fail = True
    if back:
        w.annotations["cutover.dev/rollback"] = "a1"
    else:
        w.until(lambda status: status.weight == 50)
    plan = w.plan()
    decision = decide(plan, w.observe(), w.now)
    assert asked_weight(decision) == (0 if back else 50)
    told = not_written(plan, decision, "admission webhook istiod: connection refused", w.now)
    assert kinds(told) == [WriteStatus]
    assert (told.status.phase, told.status.weight) == (plan.status.phase, plan.status.weight)
    assert told.status.checkpoint is not None
    assert plan.status.checkpoint is not None
    assert told.status.checkpoint.evidence == plan.status.checkpoint.evidence, "the blocks that led to it count later"
    assert told.status.reason == "RouteNotWritten"
    assert "admission webhook istiod" in told.status.message
    assert ("25 % → 0 %" in told.status.message) is back, "a rollback says why it is wanted"
    assert [event.kind for event in told.events] == ["Warning"]
    again = not_written(replace(plan, status=told.status), decision, "admission webhook istiod", w.now + 5)
    assert again.actions == ()
    assert again.events == ()
