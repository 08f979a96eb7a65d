"""Edits of a plan that runs: each has one meaning, none makes the weight jump, and none lowers a guard in silence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit.world import DEAD, FAILING, HEALTHY, Leg, World, check, plan_spec

from cutover.api.v1alpha1 import Approval, LedgerEntry, MigrationPlanSpec, Mode, OnTimeout, Phase, Step
from cutover.domain import schedule
from cutover.domain.engine.actions import Decision
from cutover.domain.journal.spec_snapshot import changes, spec_snapshot
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.steps import current_step, next_step

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/plan-edits.md").read_text(encoding="utf-8")
FAST = {"block": "5s", "warmUp": "5s"}
FREEZE = {"from": "2027-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z", "reason": "winter sale"}
CLOSED = {"days": ["Sun"], "from": "09:00", "to": "10:00"}


def ladder(*weights: int, **of: dict[str, Any]) -> list[dict[str, Any]]:
    """Return steps that are held for ten minutes; ``of`` has other fields, by ``w<weight>``."""
    return [{"weight": weight, "hold": "10m", **of.get(f"w{weight}", {})} for weight in weights]


def watch(world: World, plan: Plan, seen: Observation, decision: Decision) -> None:
    """Hold one decision against the rules, and against what the spec asks of a step that begins."""
    check(world, plan, seen, decision)
    before, after, spec = plan.status, decision.status, plan.spec
    old, new = before.weight or 0, after.weight or 0
    lines = [entry for entry in after.ledger if entry not in before.ledger]
    if new < old:
        assert [entry.decision for entry in lines if entry.decision in ("Lower", "RollBack", "Withdraw")]
        return
    if new == old:
        return
    step, target, skipped = (
        current_step(spec, old),
        next_step(spec, old),
        {e.reason for e in lines if e.decision == "Skip"},
    )
    assert target is not None
    assert target.weight == new
    if target.approval is Approval.MANUAL:
        assert "; approved by" in lines[-1].message
    if spec.schedule is not None:
        at = lines[-1].at
        assert schedule.active_freeze(spec.schedule, at) is None or "Frozen" in skipped
        assert schedule.in_window(spec.schedule, at) or "OutsideWindow" in skipped
    if old and step is not None and "HoldTime" not in skipped:
        assert before.checkpoint is not None
        assert before.checkpoint.observed_at is not None
        assert world.now + world.ahead - before.checkpoint.observed_at >= step.hold.total_seconds() - 1e-6


def begun(**fields: Any) -> World:
    spec = {"steps": ladder(10, 25, 50, 100, w10={"hold": "10s"}), **fields}
    return World(spec=plan_spec(**spec), on_decision=watch)


_PLAYED: dict[str, World] = {}


def played(key: str, play: Callable[[], World]) -> World:
    """Return a world that is played once, and goes its own way from there."""
    if key not in _PLAYED:
        _PLAYED[key] = play()
    return _PLAYED[key].copy()


def at_25(**fields: Any) -> World:
    """A plan that has proven 25 % to be safe and has minutes to wait."""
    return played(
        str(fields), lambda: begun(**fields).until_judging(25).until(lambda status: status.gate == "safe").run(30)
    )


def started(weight: int) -> World:
    """A plan at a step, with all gates, or just before the first one."""
    if weight:
        return begun(gates={**FAST, "slos": SLOS}).until_judging(weight)
    w = begun(suspend=True)
    w.edit(suspend=False)
    return w.until_phase(Phase.SHIFTING)


# ------------------------------------------------------------------------------------------------------ one edit each


@dataclass(frozen=True)
class Case:
    """An edit at 25 %.

    Parameters
    ----------
    edit
        Fields of the spec.
    says
        What the ledger's new lines say: a decision and a part of its message.
    then
        What comes of it; by default nothing moves for a minute.
    begin
        Fields of the plan from its beginning.
    """

    edit: dict[str, Any]
    says: tuple[tuple[str, str], ...]
    then: Callable[[World], None] = field(default=lambda w: stays(w))
    begin: dict[str, Any] = field(default_factory=dict)


def stays(w: World) -> None:
    w.run(60)
    assert (w.status.weight, w.status.phase) == (25, Phase.SHIFTING)


def moves(weight: int, within: float = 60) -> Callable[[World], None]:
    def moved(w: World) -> None:
        assert w.status.weight in (25, weight)
        w.until(lambda status: status.weight == weight, within=within)

    return moved


def lowered(w: World) -> None:
    assert (w.status.weight, w.status.phase) == (12, Phase.SHIFTING)
    w.until_judging(12)


def gone_back(w: World) -> None:
    w.until_phase(Phase.ROLLED_BACK, within=10)


def bigger(w: World) -> None:
    """What was safe enough for 50 % is not enough for 100 %."""
    w.rate = 2.0  # it takes long to prove it
    w.run(20)
    assert w.status.weight == 25
    assert w.status.gate != "safe"


def noted(w: World) -> None:
    stays(w)
    assert w.status.attempt == 2
    assert not w.told("Retry")


def suspended(w: World) -> None:
    stays(w)
    assert w.status.reason == "Suspended"
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK, within=60)


def held_by(reason: str) -> Callable[[World], None]:
    def held(w: World) -> None:
        w.run(900)
        assert (w.status.weight, w.status.reason) == (25, reason)

    return held


def breached(w: World) -> None:
    w.eks = DEAD
    w.until_reason("Breach").run(30)
    assert w.status.weight == 25
    w.edit(onBreach="RollBack")
    gone_back(w)


def rewritten(w: World) -> None:
    stays(w)
    assert w.weights[-1] == 25


SLOS = [{"name": "errors", "errors": {}}, {"name": "latency", "latency": {"slowMs": 250, "verySlowMs": 1000}}]
SHORT = {"w10": {"hold": "10s"}}

CASES: dict[str, Case | None] = {
    "a step above the current weight is inserted": Case(
        {"steps": ladder(10, 25, 30, 50, 100, w25={"hold": "1s"})},
        (("Edit", "step 30 % is new (hold 10m)"), ("Advance", "25 % → 30 %")),
        moves(30),
    ),
    "a step below the current weight is inserted": Case(
        {"steps": ladder(10, 20, 25, 50, 100)}, (("Edit", "step 20 % is new (hold 10m)"),)
    ),
    "the next step is removed": Case(
        {"steps": ladder(10, 25, 100, w25={"hold": "1s"})}, (("Edit", "step 50 % was removed (hold 10m)"),), bigger
    ),
    "the current weight's step is removed": Case(
        {"steps": ladder(10, 50, 100, **SHORT)},
        (("Edit", "step 25 % was removed (hold 10m)"), ("Advance", "25 % → 50 %")),
        moves(50),
    ),
    "the current step's weight is changed": Case(
        {"steps": ladder(10, 30, 50, 100, **SHORT)},
        (
            ("Edit", "step 30 % is new (hold 10m)"),
            ("Edit", "step 25 % was removed (hold 10m)"),
            ("Advance", "25 % → 30 %"),
        ),
        moves(30),
    ),
    "`hold`": Case(
        {"steps": ladder(10, 25, 50, 100, **SHORT, w25={"hold": "1s"})},
        (("Edit", "edited: step 25 %: hold 10m → hold 1s"), ("Advance", "25 % → 50 %")),
        moves(50),
    ),
    "`timeout`, `onTimeout`": Case(
        # It has passed: its people may take their time.
        {"steps": ladder(10, 25, 50, 100, **SHORT, w25={"hold": "1s", "timeout": "2s", "onTimeout": "RollBack"})},
        (("Edit", "step 25 %: hold 10m → hold 1s, timeout 2s then RollBack"), ("Advance", "25 % → 50 %")),
        moves(50),
    ),
    "`minRequests`": Case(
        {"steps": ladder(10, 25, 50, 100, **SHORT, w25={"hold": "1s", "minRequests": 1_000_000})},
        (("Edit", "step 25 %: hold 10m → hold 1s, minRequests 1000000"),),
    ),
    "`approval`": Case(
        {"steps": ladder(10, 25, 50, 100, **SHORT, w25={"hold": "1s"}, w50={"approval": "Manual"})},
        (("Edit", "step 50 %: hold 10m → hold 10m, approval Manual"), ("Hold", "cutover.dev/approve=a1-w50")),
        held_by("AwaitingApproval"),
    ),
    "`soak`": Case({"soak": "10s"}, (("Edit", "edited: soak: 1m → 10s"),)),
    "`ceiling` raised": Case(
        {"ceiling": 100, "steps": ladder(10, 25, 50, 100, **SHORT, w25={"hold": "1s"}, w50={"approval": "Manual"})},
        (("Edit", "ceiling: 25 → 100"), ("Advance", "; approved by spec.ceiling 25 → 100")),
        moves(50),
        {"ceiling": 25},
    ),
    "`ceiling` below the current weight": Case(
        {"ceiling": 12}, (("Edit", "ceiling: 100 → 12"), ("Lower", "25 % → 12 %: spec.ceiling was lowered")), lowered
    ),
    "`ceiling: 0`": Case({"ceiling": 0}, (("Edit", "ceiling: 100 → 0"), ("RollBack", "spec.ceiling 0")), gone_back),
    "a gate is removed or added, `mode`, tolerances, queries": Case(
        {"gates": {**FAST, "slos": [{"name": "errors", "errors": {}, "mode": "Observe"}, SLOS[1]]}},
        (("Gates", "errors: Enforce → Observe"),),
        begin={"gates": {**FAST, "slos": SLOS}},
    ),
    "`falseRollbackRate`, `block`, `warmUp`, `gates.prometheus`": Case(
        {"gates": {"block": "10s", "warmUp": "10s", "falseRollbackRate": 0.001, "prometheus": "mimir-eu"}},
        (
            ("Edit", "gates.falseRollbackRate: 0.01 → 0.001"),
            ("Edit", "gates.block: 5s → 10s"),
            ("Edit", "gates.warmUp: 5s → 10s"),
            ("Edit", "gates.prometheus: default → mimir-eu"),
        ),
    ),
    "`schedule`": Case(
        {"schedule": {"freezes": [FREEZE]}, "steps": ladder(10, 25, 50, 100, **SHORT, w25={"hold": "1s"})},
        (("Edit", "schedule: UTC, 1 windows, 0 freezes ("), ("Hold", "frozen until 2027-02-01")),
        held_by("Frozen"),
        {"schedule": {"windows": [{"days": ["Mon"], "from": "00:00", "to": "23:59"}]}},
    ),
    "`preflight.skip`": Case(
        {"preflight": {"skip": [{"check": "workload", "reason": "KEDA"}]}},
        (("Edit", "preflight.skip: none → workload"),),
    ),
    "`onBreach`": Case(
        {"onBreach": "Hold"},
        (("Edit", "onBreach: RollBack → Hold"), ("Edit", "onBreach: Hold → RollBack"), ("RollBack", "EKS is worse")),
        breached,
    ),
    "`onHerokuDown`": Case(
        {"onHerokuDown": {"action": "Forward"}}, (("Edit", "onHerokuDown: Hold after 5m → Forward after 5m"),)
    ),
    "`gates.insufficientTraffic`": Case(
        {"gates": {"block": "5s", "warmUp": "5s", "slos": SLOS, "insufficientTraffic": "AskPeople"}},
        (("Edit", "gates.insufficientTraffic: Hold → AskPeople"),),
    ),
    "`onDelete`": Case({"onDelete": "EKS"}, (("Edit", "onDelete: Rest → EKS"),)),
    "`suspend`": Case({"suspend": True}, (("Edit", "suspend: false → true"), ("Hold", "spec.suspend")), suspended),
    "`attempt` raised": Case({"attempt": 2}, (), noted),
    "`baseline`": Case({"baseline": {"window": "1d", "backtest": True}}, ()),
    "`traffic.istio.firstByteTimeout`, `timeout`, `legHeader`, `traffic.probe`": Case(
        {
            "traffic": {
                "istio": {
                    "hosts": ["pdf.example.com"],
                    "gateways": ["istio-ingress/public"],
                    "firstByteTimeout": "20s",
                    "timeout": "1h",
                    "legHeader": False,
                },
                "probe": {"host": "pdf.example.com", "paths": ["/up"], "rate": 0.5},
            }
        },
        (
            ("Edit", "firstByteTimeout: 30s → 20s; timeout: none → 1h; legHeader: true → false"),
            ("Edit", "probe.host: default → pdf.example.com"),
            ("Edit", "probe.paths: / → /up"),
            ("Edit", "probe.rate: 0 → 0.5"),
        ),
        rewritten,
    ),
    "`traffic.preview`, `traffic.affinity`": Case(
        {
            "traffic": {
                "istio": {"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"]},
                "preview": {"header": {"name": "x-try-eks", "value": "1"}},
                "affinity": {"cookie": {"name": "cutover", "maxAge": "12h"}},
            }
        },
        (("Edit", "preview: none → header x-try-eks"), ("Edit", "affinity: none → ")),
    ),
    "`eks.workloadRef`": Case(
        {"eks": {"service": {"name": "pdf", "port": 80}, "workloadRef": {"name": "pdf-2"}}},
        (("Edit", "eks: pdf:80, pdf → pdf:80, pdf-2"),),
    ),
    # At weight 0: see below.
    "`heroku`, `eks.service` at weight 0; a host or gateway removed": None,
}


@pytest.mark.parametrize("restarted", [False, True], ids=["seen", "while nobody looks"])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case is not None])
def test_an_edit(name: str, restarted: bool) -> None:
    case = CASES[name]
    assert case is not None
    w = at_25(**case.begin)
    before = w.status.ledger
    w.edit(**case.edit)
    if restarted:
        w.restart()
        w.reconcile()
        w.pass_time(5)
    w.reconcile()
    case.then(w)
    lines = [entry for entry in w.status.ledger if entry not in before]
    for decision, text in case.says:
        assert any(entry.decision == decision and text in entry.message for entry in lines), (decision, text, lines)
    assert bool([e for e in lines if e.decision == "Edit"]) is any(decision == "Edit" for decision, _ in case.says)
    # It is told once.
    edits = [entry.message for entry in lines if entry.decision == "Edit"]
    assert len(edits) == len(set(edits))


def test_every_edit_has_its_row() -> None:
    table = PAGE.partition("## What each edit does")[2].partition("\n## ")[0]
    rows = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][2:]
    assert rows == list(CASES)


def test_every_field_of_a_spec_has_its_meaning() -> None:
    for model in (MigrationPlanSpec, Step):
        for name, one in model.model_fields.items():
            assert re.search(rf"`[^`]*\b{one.alias or name}\b", PAGE), f"what becomes of an edit of {name}?"


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            {"heroku": {"app": "other", "hostname": "other-1.herokuapp.com"}},
            "heroku: acme-pdf, acme-pdf-1a2b3c.herokuapp.com → other, other-1.herokuapp.com",
        ),
        (
            {"eks": {"service": {"name": "new", "port": 81}, "workloadRef": {"name": "pdf"}}},
            "eks: pdf:80, pdf → new:81",
        ),
        ({"gates": {**FAST, "slos": [{"name": "errors", "errors": {}}]}}, "gates.slos: errors, latency, answers ("),
        ({"gates": {**FAST, "slos": [{"name": "errors", "errors": {}, "mode": "Observe"}, SLOS[1]]}}, "gates.slos: "),
    ],
)
def test_an_edit_before_the_first_step(edit: dict[str, Any], says: str) -> None:
    w = begun(suspend=True)
    w.edit(suspend=False)
    w.until_phase(Phase.SHIFTING)
    w.edit(suspend=True)
    w.reconcile()
    w.edit(**edit)
    w.reconcile()
    assert says in w.status.ledger[-1].message
    assert w.status.ledger[-1].decision == "Edit"
    assert (w.status.weight, w.weights) == (0, [0])


def test_gates_that_are_edited_after_a_crash_in_the_first_step_are_told() -> None:
    """What they said is with the next checkpoint only."""
    w = begun(gates={**FAST, "slos": SLOS}).until(lambda status: status.weight == 10)
    w.reconcile()
    assert w.status.gates
    assert not w.stored.gates
    w.edit(gates={**FAST, "slos": [{"name": "errors", "errors": {}, "mode": "Observe"}, SLOS[1]]})
    w.restart()
    w.reconcile()
    assert "gates.slos: errors, latency (" in next(e for e in w.status.ledger if e.decision == "Edit").message


def test_an_edit_before_the_takeover_is_no_edit_of_a_plan_that_runs() -> None:
    w = begun(suspend=True)
    w.run(5)
    w.edit(suspend=False, soak="5s", ceiling=10)
    w.until_judging(10)
    assert "Edit" not in [entry.decision for entry in w.status.ledger]


def test_a_timeout_that_is_edited_to_be_over_acts_at_once() -> None:
    w = begun().until_judging(25)
    w.eks = Leg(errors=0.0065)
    w.run(300)
    assert w.status.weight == 25
    w.edit(steps=ladder(10, 25, 50, 100, w25={"hold": "1s", "timeout": "1m", "onTimeout": "RollBack"}))
    w.until_phase(Phase.ROLLED_BACK, within=15)
    assert next(e for e in w.status.ledger if e.decision == "RollBack").reason == "StepTimeout"


def test_many_edits_at_once_are_told_by_name() -> None:
    w = at_25()
    w.edit(
        steps=ladder(*range(1, 100, 6), 100),
        soak="1s",
        ceiling=99,
        onBreach="Hold",
        schedule={"freezes": [FREEZE]},
        preflight={"skip": [{"check": f"check-{number}", "reason": "x"} for number in range(32)]},
    )
    w.reconcile()
    entry = next(e for e in w.status.ledger if e.decision == "Edit")
    assert len(entry.message) <= 300
    assert entry.message.startswith("edited: ceiling, onBreach, soak, schedule, preflight.skip, steps 1, 7, ")
    assert entry.message.endswith(" % were changed")


# ------------------------------------------------------------------------------------------------------------ any edits


def specs(**fields: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


@st.composite
def any_steps(draw: st.DrawFn) -> list[dict[str, Any]]:
    weights = sorted(draw(st.sets(st.sampled_from([1, 5, 10, 20, 25, 30, 50, 75, 99]), max_size=5)))
    found = []
    for weight in [*weights, 100]:
        step = {"weight": weight, "hold": draw(st.sampled_from(["0s", "10s", "2m", "1h"]))}
        if draw(st.integers(0, 3)) == 0:
            step["approval"] = "Manual"
        if draw(st.integers(0, 3)) == 0:
            step |= {"timeout": "1h", "onTimeout": draw(st.sampled_from(["Hold", "RollBack"]))}
        found.append(step)
    return found


MODES = st.sampled_from(["Enforce", "Enforce", "Observe"])
TOLERANCES = st.sampled_from([{}, {"tolerate": {"ratio": 2.0, "margin": 0.01}}])


@st.composite
def any_gates(draw: st.DrawFn) -> dict[str, Any]:
    slos: list[dict[str, Any]] = [{"name": "errors", "errors": draw(TOLERANCES), "mode": draw(MODES)}]
    if draw(st.booleans()):
        slos.append({**SLOS[1], "mode": draw(MODES)})
    return {**FAST, "slos": slos, "falseRollbackRate": draw(st.sampled_from([0.01, 0.01, 0.001, 0.05]))}


EDITS = specs(
    steps=any_steps(),
    soak=st.sampled_from(["10s", "2m", "1h"]),
    ceiling=st.sampled_from([3, 10, 25, 30, 60, 100, 100, 100]),
    suspend=st.sampled_from([False, False, False, True]),
    onBreach=st.sampled_from(["RollBack", "Hold"]),
    onDelete=st.sampled_from(["Rest", "Heroku", "EKS", "Leave"]),
    schedule=st.sampled_from(
        [{}, {}, {"freezes": [FREEZE]}, {"windows": [CLOSED]}, {"freezes": [FREEZE], "windows": [CLOSED]}]
    ),
    preflight=st.sampled_from([{}, {"skip": [{"check": "workload", "reason": "KEDA"}]}]),
    gates=any_gates(),
    baseline=st.sampled_from([{}, {"window": "1d"}]),
)
COMMANDS = st.sampled_from(["approve", "skip", "skip", "none", "none", "nonsense"])
LEGS = st.sampled_from([HEALTHY, HEALTHY, HEALTHY, FAILING, Leg(errors=0.01)])


def lowers(old: MigrationPlanSpec, new: MigrationPlanSpec, *, judged: bool) -> Iterable[str]:
    """Return what must be named in the ledger: the guards that an edit lowers, as this test understands it."""
    if new.ceiling > old.ceiling:
        yield "ceiling"
    if new.soak < old.soak:
        yield "soak"
    if (old.on_breach, new.on_breach) == ("RollBack", "Hold"):
        yield "onBreach"
    if old.on_delete != "EKS" and new.on_delete == "EKS":
        yield "onDelete"
    if old.suspend and not new.suspend:
        yield "suspend"
    if {skip.check for skip in new.preflight.skip} - {skip.check for skip in old.preflight.skip}:
        yield "preflight.skip"
    if new.gates.false_rollback_rate < old.gates.false_rollback_rate:
        yield "gates.falseRollbackRate"
    calendars = [spec.schedule or schedule.Schedule() for spec in (old, new)]
    if set(calendars[0].freezes) - set(calendars[1].freezes) or (
        calendars[0].windows and calendars[0].windows != calendars[1].windows
    ):
        yield "schedule"
    steps = {step.weight: step for step in new.steps}
    for step in old.steps:
        now = steps.get(step.weight)
        if (
            now is None
            or now.hold < step.hold
            or (step.approval is Approval.MANUAL and now.approval is not Approval.MANUAL)
            or (step.timeout is not None and now.timeout is None)
            or (step.timeout and step.on_timeout is OnTimeout.ROLL_BACK and now.on_timeout is OnTimeout.HOLD)
        ):
            yield f"steps.{step.weight}"
    if judged:
        slos = {slo.name: slo for slo in new.gates.slos}
        for slo in old.gates.slos:
            kept = slos.get(slo.name)
            if kept is None and slo.answers is not None:
                continue  # a plan without it is judged by the defaults
            # The gates of latencies and answers stand in the ledger by their two metrics.
            name = "errors" if slo.errors is not None else "slow" if slo.latency is not None else "refused"
            if kept is None or (slo.mode is Mode.ENFORCE and kept.mode is Mode.OBSERVE) or kept.errors != slo.errors:
                yield f"gates.{name}"


def named(guard: str, lines: list[LedgerEntry]) -> bool:
    """Tell whether lines of the ledger name a guard."""
    if guard.startswith("gates.") and guard != "gates.falseRollbackRate":
        field = {"Gates": guard, "Edit": "gates.slos"}
        return any(entry.decision in field and field[entry.decision] in entry.edited for entry in lines)
    return any(entry.decision == "Edit" and guard in entry.edited for entry in lines)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    start=st.sampled_from([0, 10, 25]),
    edits=st.lists(
        st.tuples(EDITS, st.sampled_from([1, 30, 200]), LEGS, COMMANDS, st.booleans()), min_size=1, max_size=7
    ),
)
def test_whatever_is_edited_no_weight_jumps_and_no_guard_is_lowered_in_silence(
    start: int, edits: list[tuple[dict[str, Any], int, Leg, str, bool]]
) -> None:
    """The first is what :func:`watch` asserts of every single decision."""
    w = played(f"from {start}", lambda: started(start))
    for edit, seconds, leg, command, restart in edits:
        before, spec = w.status, w.spec
        w.edit(**edit)
        w.eks = leg
        weights = [step.weight for step in w.spec.steps if step.weight > (w.status.weight or 0)] or [100]
        match command:
            case "approve":
                w.annotations["cutover.dev/approve"] = f"a1-w{weights[0]} by jane"
            case "skip":
                w.annotations["cutover.dev/skip-hold"] = f"a1-w{weights[0]}/Frozen,OutsideWindow,HoldTime by jane"
            case "nonsense":
                w.annotations["cutover.dev/skip-hold"] = "everything by <b>"
        if restart:
            w.restart()
        judged = before.phase in (Phase.SHIFTING, Phase.SOAKING)
        w.reconcile()
        if judged:
            assert (w.status.weight or 0) <= w.spec.ceiling or w.status.reason == "Withdrawn"
        w.run(3)
        lines = [entry for entry in w.status.ledger if entry not in before.ledger]
        # Where nothing is judged any more nobody asks the gates; they are told once somebody does.
        judged = judged and w.status.phase in (Phase.SHIFTING, Phase.SOAKING)
        for guard in lowers(spec, w.spec, judged=judged):
            assert named(guard, lines), (guard, [(e.decision, e.message) for e in lines])
        for entry in lines:
            # People read the message, in which a step has its percent and a gate its name.
            words = [field.removeprefix("steps.").removeprefix("gates.") for field in entry.edited]
            assert all(word in entry.message for word in words), (entry.edited, entry.message)
        w.run(seconds)
        if w.status.phase in (Phase.ROLLED_BACK, Phase.COMPLETED):
            return


# ------------------------------------------------------------------------------------------------------------ the words


@given(EDITS, EDITS)
@settings(max_examples=200, derandomize=True)
def test_nothing_is_told_where_nothing_changed_and_something_where_it_did(
    one: dict[str, Any], two: dict[str, Any]
) -> None:
    old, new = plan_spec(**one), plan_spec(**two)
    before, after = spec_snapshot(old, 1), spec_snapshot(new, 1)
    said = changes(before, after, gates=True)
    assert len(said) <= 300
    assert bool(said) is (before != after)
    assert changes(before, spec_snapshot(old, 2), gates=True) == ""
    assert bool(list(lowers(old, new, judged=True))) <= bool(said)
    assert len(json.dumps(after.to_wire())) < 2048 + 256


def test_fields_that_an_older_version_did_not_know_are_no_edits() -> None:
    now = spec_snapshot(plan_spec(), 2)
    older = now.model_copy(update={"fields": {}})
    assert changes(older, now, gates=True) == ""
