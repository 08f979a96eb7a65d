"""Every reason to hold: how it comes about, what it says, that nothing moves, and that harm still leads back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.kit.record import record
from tests.kit.states import HOLD_CASES, checked_world, judging_world
from tests.kit.target import READY, named
from tests.kit.world import DEAD, HEALTHY, Leg, World, asked_weight, kinds

from cutover.adapters.traffic.istio.provider import CAPABILITIES as ISTIO
from cutover.api.v1alpha1 import Phase
from cutover.domain.baseline.record import RecordReading
from cutover.domain.engine.actions import SetWeight
from cutover.domain.engine.conditions import STALLED
from cutover.domain.engine.decide import decide
from cutover.domain.holds import ALARMING, QUIET, HoldReason
from cutover.domain.preflight.registry import NAMES

#: All but the one that comes of an action that failed: tests/unit/test_plan_loop.py.
HOLDS = [reason for reason in HoldReason if reason is not HoldReason.ROUTE_NOT_WRITTEN]


@pytest.mark.parametrize("reason", HOLDS)
def test_hold(reason: HoldReason) -> None:
    case = HOLD_CASES[reason]
    w = case.make().until_reason(reason)
    for text in case.says:
        assert text in w.status.message
    assert w.status.weight == case.weight
    held = next(c for c in w.status.conditions if c.type == "Held")
    assert (held.status, held.reason, held.message) == ("True", reason, w.status.message)
    assert w.condition("Progressing") == "False"
    assert w.condition("Stalled") == ("True" if reason in STALLED else "False")
    kinds = [event.kind for event in w.told(reason)]
    assert kinds == ([] if reason in QUIET else ["Warning" if reason in ALARMING else "Normal"])
    told = [e.reason for e in w.status.ledger if e.reason == reason]
    assert len(told) == (0 if reason in QUIET else 1)
    # It is a hold: nothing moves, and it is not told again.
    w.run(20)
    assert w.status.weight == case.weight
    assert [event.kind for event in w.told(reason)] == kinds


#: What lets each of them go on, where time alone does not.
CURES: dict[HoldReason, Callable[[World], None]] = {
    HoldReason.INVALID_SPEC: lambda w: w.edit(schedule={"timeZone": "Europe/Paris"}),
    HoldReason.CAPABILITY_MISSING: lambda w: setattr(w, "capabilities", ISTIO),
    HoldReason.PREFLIGHT_FAILED: lambda w: setattr(w, "target", READY),
    HoldReason.TAKEOVER_FAILED: lambda w: (setattr(w, "heroku", HEALTHY), w.edit(attempt=2))[0],
    HoldReason.BASELINE_INCOMPLETE: lambda w: setattr(w, "record", RecordReading(record().reach, record())),
    HoldReason.TAKEOVER_DIFFERS: lambda w: setattr(w, "heroku", HEALTHY),
    HoldReason.SUSPENDED: lambda w: w.edit(suspend=False),
    HoldReason.AWAITING_APPROVAL: lambda w: w.annotations.update({"cutover.dev/approve": "a1-w25"}),
    HoldReason.OUTSIDE_WINDOW: lambda w: w.pass_time(3 * 3600),
    HoldReason.FROZEN: lambda w: w.edit(schedule={"freezes": []}),
    HoldReason.CEILING: lambda w: w.edit(ceiling=100),
    HoldReason.INSUFFICIENT_TRAFFIC: lambda w: setattr(w, "rate", 50.0),
    HoldReason.UNDECIDED: lambda w: setattr(w, "eks", HEALTHY),
    HoldReason.HARM_UNCONFIRMED: lambda w: (setattr(w, "eks", HEALTHY), setattr(w, "eks_to_probes", None))[0],
    HoldReason.EKS_PROBES_FAIL: lambda w: setattr(w, "eks_to_probes", None),
    HoldReason.NO_DATA: lambda w: setattr(w, "scrapes_lost", False),
    HoldReason.PROMETHEUS_UNAVAILABLE: lambda w: setattr(w, "prometheus_up", True),
    HoldReason.QUERY_ERROR: lambda w: w.problems.clear(),
    HoldReason.AMBIGUOUS: lambda w: w.problems.clear(),
    HoldReason.BOUND_EXCEEDED: lambda w: w.values.update(throttling=0.1),
    HoldReason.SHARE_NOT_OBSERVED: lambda w: setattr(w, "istiod_up", True),
    HoldReason.BOTH_LEGS_UNHEALTHY: lambda w: w.__dict__.update(heroku=HEALTHY, eks=HEALTHY),
    HoldReason.HEROKU_CANNOT_TAKE_BACK: lambda w: setattr(w, "heroku", HEALTHY),
    HoldReason.DRIFT_DETECTED: lambda w: None,
    HoldReason.ANSWERS_DIFFER: lambda w: setattr(w, "heroku", HEALTHY),
    HoldReason.SESSIONS_NOT_SHARED: lambda w: setattr(w, "unshared", 0.0),
    HoldReason.LEGS_DIFFER: lambda w: w.annotations.update({"cutover.dev/skip-hold": "a1-w25/LegsDiffer"}),
    HoldReason.BREACH: lambda w: setattr(w, "eks", HEALTHY),
    HoldReason.STEP_TIMEOUT: lambda w: setattr(w, "rate", 50.0),
    HoldReason.AWAITING_DECISION: lambda w: setattr(w, "rate", 50.0),
}


@pytest.mark.parametrize("reason", HOLDS)
def test_a_hold_ends_with_its_cause(reason: HoldReason) -> None:
    w = HOLD_CASES[reason].make().until_reason(reason)
    CURES[reason](w)
    before = HOLD_CASES[reason].weight or 0
    w.until(lambda status: (status.weight or 0) > before or status.phase is Phase.COMPLETED, within=3 * 3600)
    assert not w.decided("RollBack")


@pytest.mark.parametrize("reason", [r for r in HOLDS if HOLD_CASES[r].weight])
def test_harm_leads_back_from_every_hold(reason: HoldReason) -> None:
    """Once it can be seen, and there is a Heroku to go back to."""
    w = HOLD_CASES[reason].make().until_reason(reason)
    weight = w.status.weight
    if reason in (
        HoldReason.NO_DATA,
        HoldReason.PROMETHEUS_UNAVAILABLE,
        HoldReason.SHARE_NOT_OBSERVED,
        HoldReason.INSUFFICIENT_TRAFFIC,
        HoldReason.AWAITING_DECISION,
        HoldReason.STEP_TIMEOUT,
        HoldReason.BOTH_LEGS_UNHEALTHY,
        HoldReason.HARM_UNCONFIRMED,
        HoldReason.HEROKU_CANNOT_TAKE_BACK,
    ):
        CURES[reason](w)
    if reason is HoldReason.BREACH:
        w.edit(onBreach="RollBack")
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK, within=120)
    assert w.decided("RollBack") == [(weight, 0)]


def test_a_gateway_that_keeps_its_old_route_holds_and_does_not_roll_back() -> None:
    """EKS answers all that it gets, and gets half of it."""
    w = checked_world()
    w.stale = 0.5
    w.until_judging(10).until_reason(HoldReason.SHARE_NOT_OBSERVED)
    assert "EKS gets 5 % of this step's requests instead of 10 %" in w.status.message
    assert "is the route in force at every gateway" in w.status.message
    assert w.status.message.endswith("see istiod and the gateway's proxies")
    w.run(1800)
    assert (w.status.weight, w.decided("RollBack")) == (10, [])
    w.stale = 0.0
    w.until(lambda status: status.weight == 25)


# ------------------------------------------------------------------------------------------------------------- people


def test_an_approval_is_for_one_attempt_and_one_step() -> None:
    w = HOLD_CASES[HoldReason.AWAITING_APPROVAL].make().until_reason("AwaitingApproval")
    for wrong in ("a1-w100", "a2-w25", "yes"):
        w.annotations["cutover.dev/approve"] = wrong
        w.run(10)
        assert w.status.weight == 10
    w.annotations["cutover.dev/approve"] = "a1-w25"
    w.run(2)
    assert w.status.weight == 25


def test_a_window_opens_by_itself() -> None:
    w = HOLD_CASES[HoldReason.OUTSIDE_WINDOW].make().until_reason("OutsideWindow")
    w.pass_time(2 * 3600)
    w.until(lambda status: status.weight == 10, within=2 * 3600)
    assert w.status.since is not None
    assert f"{w.status.since:%H:%M}" == "13:00", "14:00 in Paris"


def test_suspension_holds_every_phase_before_the_end() -> None:
    w = checked_world(suspend=True)
    w.run(60)
    assert (w.status.phase, w.route) == (Phase.PENDING, None)
    w.edit(suspend=False)
    w.until(lambda status: status.weight == 0)
    w.edit(suspend=True)
    w.run(120)
    assert w.weights == [0]
    w.edit(suspend=False)
    w.until_judging(25)
    w.edit(suspend=True)
    w.run(300)
    assert (w.status.weight, w.status.reason) == (25, "Suspended")
    w.edit(suspend=False)
    w.until_phase(Phase.SOAKING)
    w.edit(suspend=True)
    w.run(300)
    assert (w.status.phase, w.status.reason) == (Phase.SOAKING, "Suspended")


# ----------------------------------------------------------------------------------------------------------- preflight


OLD = named("shop", "old", spec={"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"]})


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ({"ports": None}, "Service pdf does not exist; create it"),
        ({"ports": (8080,)}, "Service pdf has no port 80 (it has 8080)"),
        ({"ports": ()}, "(it has none)"),
        ({"replicas": None}, "Deployment pdf does not exist"),
        ({"replicas": (0, 0)}, "scaled to zero; scale it up"),
        ({"gateways": False}, "Gateway istio-ingress/public of another namespace does not exist"),
        ({"virtual_services": (OLD,)}, "pdf.example.com by VirtualService shop/old"),
    ],
)
def test_a_target_that_is_not_ready_keeps_the_route_untouched(there: dict[str, Any], says: str) -> None:
    w = checked_world()
    w.target = replace(READY, **there)
    w.run(60)
    assert (w.status.phase, w.status.reason, w.route) == (Phase.PREFLIGHT, "PreflightFailed", None)
    assert says in w.status.message
    assert [check.result for check in w.status.preflight].count("Failed") == 1
    w.target = READY
    w.until_phase(Phase.BASELINE)


def test_what_could_not_be_asked_is_unknown_and_holds() -> None:
    w = checked_world()
    w.target = None
    w.run(30)
    asked = [check.result for check in w.status.preflight if check.check != "client-address"]  # asks nobody
    assert set(asked) == {"Unknown"}
    assert (w.status.reason, w.route) == ("PreflightFailed", None)


def test_what_could_not_be_asked_is_asked_again_soon() -> None:
    w = checked_world()
    w.target = None
    w.reconcile()
    w.reconcile()
    assert w.reconcile() <= 2
    w.target = replace(READY, replicas=(2, 0))
    assert w.reconcile() == 10


def test_progress_of_a_target_is_told() -> None:
    w = checked_world()
    for available in (0, 1):
        w.target = replace(READY, replicas=(2, available))
        w.run(30)
        assert f"{available} of 2 replicas" in w.stored.message
        assert any(f"{available} of 2 replicas" in check.message for check in w.stored.preflight)
    writes = len(w.writes)
    w.run(120)
    assert len(w.writes) == writes


def test_nothing_is_taken_over_before_it_is_known_what_is_there() -> None:
    skip = [{"check": name, "reason": "we know"} for name in NAMES]  # as far as they can be
    w = checked_world(preflight={"skip": skip})
    w.routes_readable = False
    w.run(30)
    assert (w.status.reason, w.route, w.status.weight) == ("PreflightFailed", None, None)
    assert "could not be read" in w.status.message
    w.routes_readable = True
    w.until_phase(Phase.BASELINE)


def test_a_skipped_check_says_so_and_lets_pass() -> None:
    w = checked_world(preflight={"skip": [{"check": "workload", "reason": "scaled by KEDA"}]})
    w.target = replace(READY, replicas=(2, 0))
    w.until_phase(Phase.BASELINE)
    workload = next(check for check in w.status.preflight if check.check == "workload")
    assert (workload.result, workload.message) == ("Skipped", "skipped: scaled by KEDA")


def test_without_the_answer_the_route_itself_must_be_there() -> None:
    """Or another plan would take the host, as this one is past preflight and has no route."""
    w = checked_world(preflight={"skip": [{"check": "heroku-answers", "reason": "it wants a login"}]})
    w.until(lambda status: status.weight == 0)
    seen = w.observe()
    assert seen.traffic is not None
    not_written = replace(seen.traffic, weight=None, revision="", current=False)
    decision = decide(w.plan(), replace(seen, traffic=not_written), w.now)
    assert (decision.status.phase, kinds(decision)[-1], asked_weight(decision)) == (Phase.PREFLIGHT, SetWeight, 0)
    assert decide(w.plan(), replace(seen, traffic=None), w.now).status.phase is Phase.PREFLIGHT
    w.until_phase(Phase.BASELINE)


def test_heroku_must_answer_through_the_gateway_before_anything_moves() -> None:
    w = checked_world()
    w.heroku = DEAD
    w.run(60)
    assert (w.status.phase, w.status.reason, w.status.weight) == (Phase.PREFLIGHT, "PreflightFailed", None)
    assert "heroku-answers" in w.status.message
    assert "H10" in w.status.message
    w.heroku = HEALTHY
    w.until_phase(Phase.COMPLETED)


def test_a_takeover_that_does_not_reach_the_gateway_is_told() -> None:
    w = checked_world()
    while w.status.weight is None:
        w.pass_time(0.5)
        w.reconcile()
    w.istiod_up = False
    w.run(60)
    assert w.status.reason == "TakingOver"
    w.run(90)
    assert w.status.reason == "PreflightFailed"
    assert "the gateway does not have the route yet" in w.status.message


@pytest.mark.parametrize(
    ("ownership", "there", "says"),
    [
        ("Adopt", {"team_route": False}, "route-adoptable: VirtualService shop/pdf does not exist"),
        ("Adopt", {"team_http": ()}, "route-adoptable: VirtualService shop/pdf: none of its http routes goes to"),
        ("Adopt", {"writers": ("flagger",)}, "route-writers: flagger writes spec.http"),
        ("Delegate", {"team_http": ()}, "route-delegates: VirtualService shop/pdf: it does not delegate"),
    ],
)
def test_a_route_of_the_teams_that_does_not_fit_holds_before_it_is_touched(
    ownership: str, there: dict[str, Any], says: str
) -> None:
    istio = {"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"], "ownership": ownership}
    w = checked_world(traffic={"istio": {**istio, "virtualServiceRef": {"name": "pdf"}}})
    w.target = replace(READY, **there)
    w.run(30)
    assert (w.status.phase, w.status.reason, w.route) == (Phase.PREFLIGHT, "PreflightFailed", None)
    assert says in w.status.message
    w.target = READY
    w.until_phase(Phase.COMPLETED)
    assert says.partition(":")[0] in {one.check for one in w.status.preflight}


def test_who_makes_the_route_alone_has_no_checks_of_another() -> None:
    w = checked_world()
    w.until_phase(Phase.COMPLETED)
    assert not any(one.check.startswith("route-") for one in w.status.preflight)


def test_fields_without_effect_are_told() -> None:
    w = checked_world(
        baseline={"window": "7d"}, preflight={"skip": [{"check": "cpu-throttling", "reason": "no limits"}]}
    )
    w.step()
    condition = next(c for c in w.status.conditions if c.type == "NotYetSupported")
    assert "baseline:" in condition.message
    assert "no check 'cpu-throttling'" in condition.message
    w.edit(baseline={}, preflight={})
    w.step()
    condition = next(c for c in w.status.conditions if c.type == "NotYetSupported")
    assert condition.message.startswith("baseline:")  # nothing older than the takeover is asked for
    assert ";" not in condition.message


# ------------------------------------------------------------------------------------------------------------- baseline


def test_too_few_requests_for_thresholds_say_how_long_it_takes() -> None:
    w = checked_world()
    assert w.histogram is not None
    w.histogram = replace(w.histogram, cumulative={100.0: 190.0, float("inf"): 200.0})
    w.until_phase(Phase.BASELINE).run(200)
    assert w.status.reason == "InsufficientTraffic"
    assert "200 of 1,000 requests" in w.status.message
    assert "slowMs" in w.status.message


def test_a_histogram_without_bounds_of_the_mesh_is_told() -> None:
    w = checked_world()
    assert w.histogram is not None
    w.histogram = replace(w.histogram, cumulative={7.0: 4000.0, float("inf"): 5000.0})
    w.until_phase(Phase.BASELINE).run(60)
    assert (w.status.phase, w.status.reason) == (Phase.BASELINE, "NoData")
    assert "slowMs" in w.status.message


# ------------------------------------------------------------------------------------------------------------- timeout


def _late() -> World:
    return checked_world(
        steps=[{"weight": 10, "hold": "10s", "timeout": "2m", "onTimeout": "RollBack"}, {"weight": 100}]
    )


def test_a_timeout_rolls_back_where_the_plan_says_so() -> None:
    w = _late().until_judging(10)
    w.eks = Leg(errors=0.0065)
    w.until_phase(Phase.ROLLED_BACK, within=180)
    entry = next(e for e in w.status.ledger if e.decision == "RollBack")
    assert entry.reason == "StepTimeout"
    assert "10 % → 0 %: the step at 10 % has not passed within 2m" in entry.message


@pytest.mark.parametrize("blindness", ["prometheus_up", "scrapes_lost"])
def test_no_timeout_while_blind(blindness: str) -> None:
    w = _late().until_judging(10)
    setattr(w, blindness, blindness == "scrapes_lost")
    w.run(600)
    assert (w.status.phase, w.status.weight) == (Phase.SHIFTING, 10)


def test_no_timeout_right_after_a_restart_that_does_not_know_yet() -> None:
    w = _late().until_judging(10)
    w.pass_time(600)
    w.restart()
    w.prometheus_slow = True
    w.run(5)
    assert w.status.reason == "CatchingUp"
    w.prometheus_slow = False
    w.run(5)
    assert w.status.weight == 100, "the evidence was there all along"


@pytest.mark.parametrize("weight_seen", [True, False])
def test_a_timeout_does_not_go_back_to_a_dead_heroku(weight_seen: bool) -> None:
    if weight_seen:
        w = _late().until_judging(10)
        w.eks = Leg(errors=0.0065)
        w.run(30)
    else:
        w = _late().until(lambda status: status.weight == 10)
        w.istiod_up = False
    w.heroku = DEAD
    w.run(300)
    assert (w.status.weight, w.status.reason) == (10, "HerokuCannotTakeBack")


def test_people_who_take_their_time_do_not_time_out_a_step_that_has_passed() -> None:
    steps = [
        {"weight": 50, "hold": "10s", "timeout": "2m", "onTimeout": "RollBack"},
        {"weight": 100, "hold": "10s", "approval": "Manual"},
    ]
    w = checked_world(steps=steps).until_reason("AwaitingApproval").run(600)
    assert (w.status.weight, w.status.reason) == (50, "AwaitingApproval")
    w.annotations["cutover.dev/approve"] = "a1-w100"
    w.until_phase(Phase.COMPLETED)


def test_a_timeout_as_long_as_the_hold_can_be_kept() -> None:
    steps = [{"weight": 50, "hold": "3m", "timeout": "3m", "onTimeout": "RollBack"}, {"weight": 100, "hold": "10s"}]
    w = checked_world(steps=steps).until_phase(Phase.COMPLETED)
    assert w.weights == [0, 50, 100]


def test_the_soak_does_not_end_in_the_middle_of_a_suspicion() -> None:
    w = checked_world(soak="10m").until_phase(Phase.SOAKING)
    w.run(575)
    w.eks = Leg(errors=0.1)
    w.run(40)
    assert w.status.phase is Phase.SOAKING
    assert "EKS is worse (errors)" in w.status.message
    w.until_phase(Phase.ROLLED_BACK, within=200)


# ------------------------------------------------------------------------------------------------------ little traffic


def test_the_soak_does_not_end_while_eks_fails_though_the_evidence_is_young() -> None:
    w = judging_world(100, soak="10m", steps=[{"weight": 50, "hold": "30s"}, {"weight": 100}])
    w.until(lambda _: w.now - (w.status.checkpoint.observed_at or w.now) > 590, within=600)  # type: ignore[union-attr]
    w.eks = DEAD
    w.run(12)
    assert w.status.phase is Phase.SOAKING
    assert "EKS is worse" in w.status.message
    w.until_phase(Phase.ROLLED_BACK, within=30)


def test_little_traffic_is_held_with_an_estimate_and_passes_in_time() -> None:
    steps = [{"weight": 10, "hold": "10s"}, {"weight": 25, "hold": "10s"}, {"weight": 100, "hold": "10s"}]
    w = checked_world(steps=steps, rate=2.0)
    w.histogram = replace(w.histogram, cumulative={250.0: 5000.0, float("inf"): 5000.0}) if w.histogram else None
    w.until_reason("InsufficientTraffic", within=7200)
    assert "min at 2 requests/s" in w.status.message
    assert not w.told("InsufficientTraffic"), "it is no alarm"
    w.until(lambda status: status.weight == 25, within=4 * 3600)


def test_no_traffic_at_night_neither_advances_nor_rolls_back() -> None:
    w = judging_world(25)
    w.rate = 0.0
    w.run(3600)
    assert (w.status.phase, w.status.weight) == (Phase.SHIFTING, 25)
    w.rate = 50.0
    w.until_phase(Phase.COMPLETED)


def test_a_weight_that_nobody_requests_is_told_apart_from_one_that_is_not_live() -> None:
    w = checked_world().until(lambda status: status.weight == 10)
    w.rate = 0.01
    w.until_reason("InsufficientTraffic", within=300)
    assert "too few to see it" in w.status.message


def test_a_share_that_fits_but_of_too_few_requests_is_no_alarm() -> None:
    """At a request in four seconds a quarter cannot be told from a tenth within two minutes."""
    w = judging_world(10).until(lambda status: status.weight == 25)
    w.rate = 0.25
    w.until_reason("InsufficientTraffic", within=300)
    assert "that fits, but they are too few to tell 25 % from the 10 % before" in w.status.message
    assert not w.told(HoldReason.SHARE_NOT_OBSERVED)
