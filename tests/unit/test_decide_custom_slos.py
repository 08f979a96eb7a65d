"""Gates on the team's own metrics: what moves because of them, what does not, and what people are told."""

from __future__ import annotations

from typing import Any

import pytest
from tests.kit.custom_slos import BOUND, ERRORS, FROM_TEMPLATE, RATIO, TEMPLATE, gates_of, template
from tests.kit.world import DEAD, FAILING, HEALTHY, LATENCIES, World, check, plan_spec

from cutover.api.v1alpha1 import BacktestStatus, MigrationPlanStatus, Phase
from cutover.domain.engine.wanted import backtest_wanted
from cutover.domain.evidence.ingest import load
from cutover.domain.holds import HoldReason
from cutover.domain.slo.custom import QueryProblem
from cutover.domain.slo.judge import GRACE_SECONDS
from cutover.domain.verdicts import Verdict

#: Steps that stay at 10 % for long, and that wait there for an approval with a timeout.
LONG = [{"weight": 10, "hold": "2h"}, {"weight": 25}, {"weight": 100}]
IMPATIENT: list[dict[str, Any]] = [
    {"weight": 10, "hold": "10s", "timeout": "4m", "onTimeout": "RollBack"},
    {"weight": 25, "approval": "Manual"},
    {"weight": 100},
]


def world(*slos: dict[str, Any], rate: float = 100.0, **fields: Any) -> World:
    made = World(spec=plan_spec(**{"gates": gates_of(*slos), **fields}), rate=rate, on_decision=check)
    made.values["throttling"], made.wrong["checkout"] = 0.1, (0.01, 0.01)
    return made


def verdict(w: World, name: str) -> str:
    return next(one.verdict for one in w.status.gates if one.name == name)


def own_harm(status: MigrationPlanStatus) -> float:
    """Evidence of harm of the one ratio, as if it were alone."""
    if status.checkpoint is None or not status.checkpoint.custom_slos:
        return 0.0
    evidence = load(status.checkpoint.custom_slos[0].evidence)
    return evidence.harm_purse.total + sum(evidence.harm.get("errors", ()))


def is_held(w: World, reason: HoldReason) -> bool:
    return w.condition("Held") == "True" and w.status.reason == reason


def completed(status: MigrationPlanStatus) -> bool:
    return status.phase is Phase.COMPLETED


def rolled_back(status: MigrationPlanStatus) -> bool:
    return status.phase is Phase.ROLLED_BACK


# ------------------------------------------------------------------------------------------------------------- bounds


def test_good_gates_let_a_plan_through() -> None:
    w = world(BOUND, RATIO).until(completed, within=3600)
    assert w.decided("Advance") == [(0, 10), (10, 25), (25, 50), (50, 100)]
    assert not w.decided("RollBack")


def test_a_bound_that_is_exceeded_leads_back_and_tells_by_what() -> None:
    w = world(BOUND).until_judging(25)
    w.values["throttling"] = 0.4
    w.until(rolled_back, within=120)
    entry = next(e for e in w.status.ledger if e.decision == "RollBack")
    assert (entry.from_weight, entry.reason) == (25, "BoundExceeded")
    assert "throttling" in entry.message
    assert "0.4" in entry.message
    assert 'throttling: throttled_ratio{namespace="shop"}' in entry.queries
    assert "throttling" in [one.name for one in entry.gates]


def test_a_single_sample_outside_leads_nowhere() -> None:
    w = world(BOUND).until_judging(25)
    w.values["throttling"] = 0.9
    w.run(20)
    w.values["throttling"] = 0.1
    w.until(completed, within=3600)
    assert not w.decided("RollBack")


def test_nothing_advances_while_a_bound_is_outside_for_a_moment() -> None:
    w = world({**BOUND, "bound": {**BOUND["bound"], "for": "1h"}}).until_judging(10)
    w.values["throttling"] = 0.4
    w.run(300)
    assert w.status.weight == 10
    assert "throttling" in w.status.message
    assert verdict(w, "throttling") == Verdict.UNDECIDED
    w.values["throttling"] = 0.1
    w.until_judging(25)


def test_a_bound_that_is_exceeded_before_anything_moves_holds() -> None:
    w = world(BOUND)
    w.values["throttling"] = 0.4
    w.until_reason(HoldReason.BOUND_EXCEEDED)
    assert w.status.weight == 0
    w.run(120)
    assert not w.decided("Advance")
    w.values["throttling"] = 0.1
    w.until_judging(10)


def test_no_series_before_anything_moves_hold_nothing() -> None:
    """Of an app without requests there is often nothing to see."""
    w = world(BOUND)
    w.values["throttling"] = None
    w.until_judging(10)
    w.until_reason(HoldReason.NO_DATA, within=300)
    assert not w.decided("RollBack")
    w.values["throttling"] = 0.1
    w.until_judging(25)


def test_a_bound_leads_nowhere_where_heroku_does_not_answer() -> None:
    w = world(BOUND).until_judging(50)
    w.probes_answered = False
    w.until_reason(HoldReason.HEROKU_CANNOT_TAKE_BACK)
    w.values["throttling"] = 0.4
    w.until_reason(HoldReason.BOTH_LEGS_UNHEALTHY, within=60)
    assert w.status.weight == 50
    w.probes_answered = True
    w.until(rolled_back, within=60)


def test_a_bound_holds_where_the_plan_says_so() -> None:
    w = world(BOUND, onBreach="Hold").until_judging(25)
    w.values["throttling"] = 0.4
    w.until_reason(HoldReason.BREACH, within=120)
    assert "throttling" in w.status.message
    assert w.status.weight == 25


def test_a_bound_leads_back_from_the_soak_too() -> None:
    w = world(BOUND, soak="1h").until_judging(100)
    w.values["throttling"] = 0.4
    w.until(rolled_back, within=120)
    (entry,) = [e for e in w.status.ledger if e.decision == "RollBack"]
    assert (entry.from_weight, entry.reason) == (100, "BoundExceeded")


def test_a_bound_is_measured_by_what_was_before() -> None:
    slo = {**BOUND, "bound": {k: v for k, v in BOUND["bound"].items() if k != "max"} | {"timesBaseline": 2}}
    w = world(slo)
    w.run(200)
    assert w.status.phase is Phase.BASELINE
    assert "throttling" in w.status.message
    w.baselines["throttling"] = 0.2
    w.until_judging(10)
    assert w.status.baseline is not None
    assert [(one.gate, one.value) for one in w.status.baseline.bounds] == [("throttling", 0.2)]
    w.values["throttling"] = 0.39
    w.run(90)
    assert not w.decided("RollBack")
    w.values["throttling"] = 0.41
    w.until(rolled_back, within=120)


def test_a_bound_leads_nowhere_while_both_legs_are_ill() -> None:
    """What they share, such as the database, is ill then: Heroku is no rescue, though it answers a probe."""
    w = world(BOUND, steps=LONG).until_judging(10).run(60)
    w.heroku = w.eks = FAILING
    w.values["throttling"] = 0.4
    w.until_reason(HoldReason.BOTH_LEGS_UNHEALTHY, within=120)
    w.run(300)
    assert (w.status.weight, w.decided("RollBack")) == (10, [])
    w.heroku = w.eks = HEALTHY
    w.until(rolled_back, within=180)


def test_a_bound_says_nothing_before_its_weight_is_seen() -> None:
    w = world({**BOUND, "bound": {**BOUND["bound"], "for": "0s"}})
    w.until_phase(Phase.SHIFTING)
    w.istiod_up = False
    w.until(lambda status: status.weight == 10)
    w.values["throttling"] = 0.4
    w.run(60)
    assert verdict(w, "throttling") == Verdict.UNDECIDED
    assert not w.decided("RollBack")
    w.istiod_up = True
    w.until(rolled_back, within=120)


def test_the_record_from_before_is_of_the_query_that_it_was_asked_of() -> None:
    """Percent instead of fractions: a hundred times what it was is what it was."""
    bound = {k: v for k, v in BOUND["bound"].items() if k != "max"} | {"timesBaseline": 2}
    w = world({**BOUND, "bound": bound})
    w.baselines["throttling"] = 0.1
    w.until_judging(10)
    w.values["throttling"], w.points["throttling"] = 10.0, []
    w.edit(gates=gates_of({**BOUND, "bound": {**bound, "query": f"100 * {bound['query']}"}}))
    w.run(300)
    assert (w.status.weight, w.decided("RollBack")) == (10, [])
    assert is_held(w, HoldReason.NO_DATA)
    assert "max" in w.status.message


# ------------------------------------------------------------------------------------------------------------- ratios


def test_evidence_of_a_ratio_is_of_the_queries_and_limits_that_it_was_earned_with() -> None:
    w = world(RATIO, rate=500.0, steps=LONG).until_judging(10).run(300)
    assert verdict(w, "checkout") == Verdict.PASS
    other = {**RATIO["ratio"], "bad": 'payment_total{leg="{{ leg }}",result="failed"}'}
    w.edit(gates=gates_of({**RATIO, "ratio": other}))
    w.run(10)
    assert verdict(w, "checkout") == Verdict.UNDECIDED
    w.run(300)
    assert verdict(w, "checkout") == Verdict.PASS
    w.edit(gates=gates_of({**RATIO, "ratio": {**other, "advance": {"ratio": 1, "margin": 0.0001}}}))
    w.run(10)
    assert verdict(w, "checkout") != Verdict.PASS


def test_a_ratio_that_was_never_seen_of_heroku_leads_nowhere_at_full_weight() -> None:
    """Nobody knows what is normal for it: there is nothing to compare with any more."""
    w = world(soak="1h").until_judging(100).run(60)
    w.wrong["checkout"] = (0.2, 0.2)
    w.edit(gates=gates_of(RATIO))
    w.run(1200)
    assert (w.status.weight, w.decided("RollBack")) == (100, [])
    assert is_held(w, HoldReason.NO_DATA)
    assert "Heroku" in w.status.message


def test_a_ratio_that_is_enforced_late_goes_on_with_its_evidence() -> None:
    w = world({**RATIO, "mode": "Observe"}, steps=LONG).until_judging(10)
    w.wrong["checkout"] = (0.01, 0.3)
    w.until(lambda status: any((g.name, g.verdict) == ("checkout", "Fail") for g in status.gates))
    w.run(60)
    assert not w.decided("RollBack"), "what is only observed leads nowhere"
    w.edit(gates=gates_of(RATIO))
    w.until(rolled_back, within=30)
    assert w.decided("RollBack") == [(10, 0)]


def test_a_ratio_that_is_worse_leads_back_and_is_named() -> None:
    w = world(RATIO).until_judging(25)
    w.wrong["checkout"] = (0.01, 0.3)
    w.until(rolled_back, within=600)
    entry = next(e for e in w.status.ledger if e.decision == "RollBack")
    assert entry.reason == "EvidenceOfHarm"
    assert "checkout" in entry.message
    assert "events" in entry.message
    assert 'checkout: checkout_total{leg="eks",result="failed"}' in entry.queries


def test_a_ratio_that_goes_wrong_on_both_legs_leads_nowhere() -> None:
    w = world(RATIO).until_judging(25)
    w.wrong["checkout"] = (0.3, 0.3)
    w.run(900)
    assert not w.decided("RollBack")


def test_a_ratio_without_events_holds_and_says_so() -> None:
    w = world(RATIO).until_judging(10)
    w.events_of["checkout"].clear()
    del w.wrong["checkout"]
    w.until_reason(HoldReason.NO_DATA, within=600)
    assert "checkout" in w.status.message
    assert w.status.weight == 10


def test_a_crash_neither_loses_nor_doubles_the_evidence_of_a_ratio() -> None:
    straight = world(RATIO).until_judging(25).run(120)
    crashed = world(RATIO).until_judging(25).run(45)
    crashed.restart()
    crashed.run(40).restart()
    crashed.run(35)
    crashed.pass_time(straight.now - crashed.now)
    straight.reconcile()
    crashed.reconcile()
    (here,), (there,) = (w.status.checkpoint.custom_slos if w.status.checkpoint else () for w in (straight, crashed))
    assert here.consumed_until == there.consumed_until
    one, other = load(here.evidence), load(there.evidence)
    assert (one.total, one.blocks, one.gaps) == (other.total, other.blocks, other.gaps)
    assert one.total[1].requests > 0
    # Each dump rounds.
    assert one.harm["errors"] == pytest.approx(other.harm["errors"], rel=1e-3)


def test_evidence_of_a_ratio_is_dropped_with_the_attempt_and_with_the_gate() -> None:
    w = world(RATIO).until_judging(25)
    w.wrong["checkout"] = (0.01, 0.3)
    w.until(rolled_back, within=600)
    w.wrong["checkout"] = (0.01, 0.01)
    w.edit(attempt=2)
    w.until_judging(10)
    assert verdict(w, "checkout") != Verdict.FAIL
    w.edit(gates={"block": "5s", "warmUp": "5s", "slos": [ERRORS]})
    w.run(15)
    assert w.status.checkpoint is not None
    assert w.status.checkpoint.custom_slos == ()


# ----------------------------------------------------------------------------------------------------- only observed


@pytest.mark.parametrize("mode", ["Enforce", "Observe"])
def test_what_is_only_observed_moves_nothing(mode: str) -> None:
    w = world({**BOUND, "mode": mode}, {**RATIO, "mode": mode}).until_judging(25)
    w.values["throttling"], w.wrong["checkout"] = 0.4, (0.01, 0.3)
    if mode == "Enforce":
        w.until(rolled_back, within=600)
        return
    w.run(300)
    assert verdict(w, "throttling") == Verdict.FAIL
    assert verdict(w, "checkout") == Verdict.FAIL
    w.until(completed, within=3600)
    assert not w.decided("RollBack")
    assert {one.name: str(one.mode) for one in w.status.gates if one.name in ("throttling", "checkout")} == {
        "throttling": "Observe",
        "checkout": "Observe",
    }


def test_errors_that_are_only_observed_move_nothing_but_a_dead_leg_does() -> None:
    gates = {"block": "5s", "warmUp": "5s", "slos": [{**ERRORS, "mode": "Observe"}, RATIO]}
    w = world(gates=gates).until_judging(25)
    w.eks = type(w.eks)(errors=0.2)
    w.run(300)
    assert verdict(w, "errors") == Verdict.FAIL
    assert not w.decided("RollBack")
    w.eks = DEAD
    w.until(rolled_back, within=120)


def test_a_plan_whose_gates_are_all_observed_does_not_start() -> None:
    gates = {"slos": [{**ERRORS, "mode": "Observe"}, BOUND]}
    w = world(gates=gates).until_reason(HoldReason.INVALID_SPEC)
    assert "gates.slos" in w.status.message
    w.edit(gates={"slos": [{**ERRORS, "mode": "Observe"}, BOUND, RATIO]})
    w.until_judging(10)


# ------------------------------------------------------------------------------------------------------ no verdict

PROBLEMS = {
    Verdict.NO_DATA: ("no series", HoldReason.NO_DATA),
    Verdict.QUERY_ERROR: ("1:5: parse error: unexpected <op:->", HoldReason.QUERY_ERROR),
    Verdict.AMBIGUOUS: ("3 series where one is expected", HoldReason.AMBIGUOUS),
}


@pytest.mark.parametrize("slo", [BOUND, RATIO], ids=["bound", "ratio"])
@pytest.mark.parametrize("kind", PROBLEMS)
def test_without_a_verdict_nothing_moves(slo: dict[str, Any], kind: Verdict) -> None:
    text, reason = PROBLEMS[kind]
    w = world(slo).until_judging(25)
    began = w.now
    w.problems[slo["name"]] = QueryProblem(kind, text, w.now)
    w.until_reason(reason, within=300)
    assert w.now - began >= GRACE_SECONDS[kind]
    assert slo["name"] in w.status.message
    assert text in w.status.message
    assert verdict(w, slo["name"]) == kind
    w.run(600)
    assert (w.status.weight, w.decided("RollBack")) == (25, [])
    del w.problems[slo["name"]]
    w.until(completed, within=3600)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_without_a_verdict_of_what_is_only_observed_the_plan_goes_on(kind: Verdict) -> None:
    w = world({**BOUND, "mode": "Observe"}).until_judging(25)
    w.problems["throttling"] = QueryProblem(kind, "it is broken", w.now)
    w.run(10)
    assert verdict(w, "throttling") == kind
    w.until(completed, within=3600)
    assert w.weights == [0, 10, 25, 50, 100]


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_missing_verdict_is_no_reason_for_a_timeout_to_lead_back(kind: Verdict) -> None:
    steps = [{"weight": 10, "hold": "10s", "timeout": "2m", "onTimeout": "RollBack"}, {"weight": 100}]
    w = world(BOUND, steps=steps).until_judging(10)
    w.problems["throttling"] = QueryProblem(kind, "it is broken", w.now)
    w.run(600)
    assert not w.decided("RollBack")
    assert is_held(w, PROBLEMS[kind][1])


def test_harm_leads_back_whatever_the_own_gates_say() -> None:
    w = world(BOUND, RATIO).until_judging(25)
    for name in ("throttling", "checkout"):
        w.problems[name] = QueryProblem(Verdict.QUERY_ERROR, "it is broken", w.now)
    w.run(60)
    assert {verdict(w, name) for name in ("throttling", "checkout")} == {Verdict.QUERY_ERROR}
    w.eks = DEAD
    w.until(rolled_back, within=60)
    assert w.decided("RollBack") == [(25, 0)]


def test_queries_that_were_not_asked_yet_are_no_failure() -> None:
    w = world(BOUND)
    w.asked = False
    w.run(30)
    assert (w.status.phase, w.status.reason) == (Phase.PREFLIGHT, "Preflight")
    assert "gate-queries: gate throttling: not asked yet" in w.status.message
    assert not w.events
    w.until_reason(HoldReason.PREFLIGHT_FAILED, within=200)
    w.asked = True
    w.until_judging(10)


def test_a_query_that_is_refused_keeps_a_plan_from_starting() -> None:
    w = world(BOUND)
    w.problems["throttling"] = QueryProblem(Verdict.QUERY_ERROR, "1:5: parse error: unexpected <op:->", w.now)
    w.until_reason(HoldReason.PREFLIGHT_FAILED)
    assert "gate-queries: gate throttling: 1:5: parse error" in w.status.message
    assert w.status.weight is None
    assert w.route is None
    del w.problems["throttling"]
    w.until_judging(10)


def test_prometheus_away_leads_nowhere() -> None:
    w = world(BOUND, RATIO).until_judging(25)
    w.values["throttling"] = 0.4
    w.prometheus_up = False
    w.run(600)
    assert w.status.weight == 25
    assert w.status.reason == HoldReason.PROMETHEUS_UNAVAILABLE


@pytest.mark.parametrize("slo", [BOUND, RATIO], ids=["bound", "ratio"])
@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_step_that_has_passed_does_not_time_out_for_a_query_without_an_answer(
    slo: dict[str, Any], kind: Verdict
) -> None:
    """It waits for its approval; the hold for want of a verdict has not come yet."""
    w = world(slo, rate=500.0, steps=IMPATIENT).until_judging(10).run(300)
    assert w.status.reason == HoldReason.AWAITING_APPROVAL
    w.problems[slo["name"]] = QueryProblem(kind, "it is broken", w.now)
    w.run(20)
    del w.problems[slo["name"]]
    w.run(20)
    assert (w.status.weight, w.decided("RollBack")) == (10, [])


def test_a_step_that_has_passed_does_not_time_out_for_a_single_sample_outside() -> None:
    w = world(BOUND, rate=500.0, steps=IMPATIENT).until_judging(10).run(300)
    assert w.status.reason == HoldReason.AWAITING_APPROVAL
    w.values["throttling"] = 0.4
    w.run(10)
    w.values["throttling"] = 0.1
    w.run(30)
    assert (w.status.weight, w.decided("RollBack")) == (10, [])


@pytest.mark.parametrize("slo", [BOUND, RATIO], ids=["bound", "ratio"])
@pytest.mark.parametrize("kind", PROBLEMS)
def test_the_soak_does_not_end_without_a_verdict(slo: dict[str, Any], kind: Verdict) -> None:
    w = world(slo, rate=500.0, soak="2m").until_judging(100, within=1800)
    w.run(110)
    w.problems[slo["name"]] = QueryProblem(kind, "it is broken", w.now)
    w.run(60)
    assert w.status.phase is Phase.SOAKING
    assert slo["name"] in w.status.message
    del w.problems[slo["name"]]
    w.until(completed, within=60)


@pytest.mark.parametrize("kind", PROBLEMS)
def test_a_verdict_that_is_missing_is_told_also_beside_evidence_that_is_not_enough_in_company(kind: Verdict) -> None:
    """Alone it would fail: that must not hide that nothing has been seen since."""
    w = world(RATIO, BOUND, steps=LONG).until_judging(10)
    w.wrong["checkout"] = (0.01, 0.3)
    w.until(lambda status: own_harm(status) >= 100)
    assert not w.decided("RollBack")
    w.problems["checkout"] = QueryProblem(kind, "it is broken", w.now)
    w.pending_own.clear()
    del w.wrong["checkout"]
    w.run(15)
    assert not w.decided("RollBack")
    assert verdict(w, "checkout") == kind


# ------------------------------------------------------------------------------------------------- what observing holds


def test_a_record_that_only_an_observed_bound_needs_holds_nothing() -> None:
    bound = {k: v for k, v in BOUND["bound"].items() if k != "max"} | {"timesBaseline": 2}
    w = world({**BOUND, "mode": "Observe", "bound": bound}).until_judging(10)
    assert verdict(w, "throttling") == Verdict.NO_DATA
    w.until(completed, within=3600)


def test_latencies_that_are_only_observed_need_no_traffic_first() -> None:
    latency = {"name": "latency", "mode": "Observe", "latency": {}}
    w = world(latency)
    w.histogram = type(LATENCIES)({100.0: 5.0, float("inf"): 5.0})
    w.until_judging(10)
    assert not w.told(HoldReason.INSUFFICIENT_TRAFFIC)


def test_a_template_that_only_an_observed_gate_needs_holds_nothing() -> None:
    w = world({**FROM_TEMPLATE, "mode": "Observe"})
    w.templates[TEMPLATE] = template(0.25)
    w.until_judging(10)
    del w.templates[TEMPLATE]
    w.until(completed, within=3600)
    assert w.weights == [0, 10, 25, 50, 100]


# ------------------------------------------------------------------------------------------------------- plan's edits


def test_an_edit_that_lowers_a_guard_is_told() -> None:
    w = world(BOUND, RATIO, steps=LONG).until_judging(10).run(30)
    wider = {"name": "errors", "errors": {"tolerate": {"ratio": 2, "margin": 0.1}}}
    looser = {**BOUND, "bound": {**BOUND["bound"], "max": 0.9}}
    gates = {"block": "5s", "warmUp": "5s", "slos": [wider, looser, {**RATIO, "mode": "Observe"}]}
    w.edit(gates=gates)
    w.run(10).restart()
    w.run(30)
    (entry,) = [entry for entry in w.status.ledger if entry.decision == "Gates"]
    assert (entry.reason, entry.from_weight, entry.to_weight) == ("PlanEdited", 10, 10)
    assert "errors: harm above 1.25 p + 0.1 %" in entry.message
    assert "throttling: at most 0.25" in entry.message
    assert "checkout: Enforce → Observe" in entry.message
    w.edit(gates=gates_of())
    w.run(30)
    assert "throttling was removed" in w.status.ledger[-1].message
    assert w.decided("Gates") == [(10, 10), (10, 10)]


# --------------------------------------------------------------------------------------------------------- templates


def test_a_template_that_is_missing_keeps_a_plan_from_starting() -> None:
    w = world(FROM_TEMPLATE).until_reason(HoldReason.INVALID_SPEC)
    assert "cpu-throttling" in w.status.message
    w.templates[TEMPLATE] = template(0.25)
    w.until_judging(10)
    (entry,) = w.status.templates
    assert (entry.gate, entry.template, entry.generation) == ("throttling", TEMPLATE, 1)
    assert not w.decided("Gates")


def test_a_template_is_waited_for_a_moment_after_a_start() -> None:
    """The watch tells of one after the other; a plan is not called invalid meanwhile."""
    w = world(FROM_TEMPLATE)
    w.run(2)
    w.templates[TEMPLATE] = template(0.25)
    w.until_judging(10)
    assert not w.told(HoldReason.INVALID_SPEC)


def test_a_change_of_a_template_waits_for_the_next_step_and_is_told() -> None:
    w = world(FROM_TEMPLATE, steps=[{"weight": 10, "hold": "5m"}, {"weight": 100}])
    w.templates[TEMPLATE] = template(0.25)
    w.until_judging(10)
    w.values["throttling"] = 0.2
    w.templates[TEMPLATE] = template(0.15, generation=2)
    w.run(120)
    w.restart()
    w.run(120)
    assert (w.status.weight, verdict(w, "throttling")) == (10, Verdict.PASS)
    w.until_judging(100)
    assert w.decided("Gates") == [(10, 10)]
    entry = next(e for e in w.status.ledger if e.decision == "Gates")
    assert entry.reason == "TemplateChanged"
    assert "1 → 2" in entry.message
    w.until(rolled_back, within=120)


def test_a_template_that_is_deleted_keeps_a_plan_from_the_next_step() -> None:
    w = world(FROM_TEMPLATE)
    w.templates[TEMPLATE] = template(0.25)
    w.until_judging(10)
    del w.templates[TEMPLATE]
    w.until_reason(HoldReason.INVALID_SPEC, within=600)
    assert w.status.weight == 10
    w.values["throttling"] = 0.4
    w.until(rolled_back, within=120)


# ------------------------------------------------------------------------------------------------ before it moves


def test_a_backtest_is_waited_for_and_told() -> None:
    w = world(baseline={"backtest": True, "window": "10m"})
    w.until_phase(Phase.BASELINE).run(100)
    assert "for the backtest for another" in w.status.message
    assert not backtest_wanted(w.plan(), w.now)
    w.until_reason("Backtesting")
    assert backtest_wanted(w.plan(), w.now)
    w.run(300)
    assert w.status.phase is Phase.BASELINE
    w.backtest = BacktestStatus(runs=200, false_rollbacks=1, stuck=0, message="1 of 200 rolled back")
    w.until_judging(10)
    assert w.status.baseline is not None
    assert w.status.baseline.backtest == w.backtest


def test_a_plan_may_only_choose_a_prometheus_that_it_is_allowed() -> None:
    gates = {"block": "5s", "warmUp": "5s", "prometheus": "secret-one"}
    w = world(gates=gates).until_reason(HoldReason.INVALID_SPEC)
    assert "gates.prometheus" in w.status.message
    assert "mimir-eu" in w.status.message
    w.edit(gates={**gates, "prometheus": "mimir-eu"})
    w.until_judging(10)
