"""Gates on the team's own metrics: what moves because of them, what does not, and what people are told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from world import DEAD, World, check, plan_spec

from cutover.api.templates import from_object
from cutover.api.v1alpha1 import BacktestStatus, MigrationPlanStatus, Phase
from cutover.core.decide import backtest_wanted
from cutover.core.holds import HoldReason
from cutover.core.judging import load
from cutover.core.own import QueryProblem
from cutover.core.own_judging import GRACE_SECONDS
from cutover.core.verdicts import Verdict

ERRORS: dict[str, Any] = {"name": "errors", "errors": {}}
BOUND: dict[str, Any] = {
    "name": "throttling",
    "bound": {
        "query": 'throttled_ratio{namespace="{{ namespace }}"}',
        "max": 0.25,
        "for": "30s",
        "scrapeInterval": "5s",
    },
}
RATIO: dict[str, Any] = {
    "name": "checkout",
    "ratio": {
        "bad": 'checkout_total{leg="{{ leg }}",result="failed"}',
        "total": 'checkout_total{leg="{{ leg }}"}',
        "scrapeInterval": "5s",
    },
}
FROM_TEMPLATE: dict[str, Any] = {
    "name": "throttling",
    "template": {"name": "cpu-throttling", "parameters": [{"name": "container", "value": "web"}]},
}
TEMPLATE = "ClusterGateTemplate/cpu-throttling"


def template(limit: float, generation: int = 1) -> Any:
    return from_object(
        {
            "metadata": {"name": "cpu-throttling", "generation": generation},
            "spec": {
                "description": "CPU limits stop the app while its dashboards are green.",
                "parameters": [{"name": "container", "type": "String"}],
                "bound": {
                    "query": 'throttled_ratio{container="{{ container }}"}',
                    "max": str(limit),
                    "for": "30s",
                    "scrapeInterval": "5s",
                },
            },
        }
    )


def world(*slos: dict[str, Any], rate: float = 100.0, **fields: Any) -> World:
    gates = {"block": "5s", "warmUp": "5s", "slos": [ERRORS, *slos]}
    made = World(spec=plan_spec(**{"gates": gates, **fields}), rate=rate, on_decision=check)
    made.values["throttling"], made.wrong["checkout"] = 0.1, (0.01, 0.01)
    return made


def verdict(w: World, name: str) -> str:
    return next(one.verdict for one in w.status.gates if one.name == name)


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
    assert any(text.startswith("throttling: ") for text in entry.gates)


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


# ------------------------------------------------------------------------------------------------------------- ratios


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
    straight.tick()
    crashed.tick()
    (here,), (there,) = (w.status.checkpoint.own if w.status.checkpoint else () for w in (straight, crashed))
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
    assert w.status.checkpoint.own == ()


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
    w.until(completed, within=3600)


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
    w.eks = DEAD
    w.until(rolled_back, within=60)


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
