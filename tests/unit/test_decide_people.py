"""What people decide about a running plan: by annotations and in Git; obeyed once, named in the ledger, or answered."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.kit.custom_slos import FROM_TEMPLATE, TEMPLATE, gates_of, template
from tests.kit.world import DEAD, Leg, World, check, kinds, plan_spec

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus, Phase
from cutover.domain.commands.annotations import APPROVE_ANNOTATION, ROLLBACK_ANNOTATION, SKIP_ANNOTATION, Writer
from cutover.domain.engine.actions import WriteStatus
from cutover.domain.engine.decide import decide
from cutover.domain.engine.templates import TEMPLATES_SECONDS
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan

JANE = "by jane@example.com at 2027-01-11T10:00:00Z"
FLUX = Writer("kustomize-controller", "2027-01-11T09:00:00Z")
FROZEN = {"freezes": [{"from": "2027-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z", "reason": "winter sale"}]}
CLOSED = {"windows": [{"days": ["Sun"], "from": "09:00", "to": "10:00"}]}
BOTH = FROZEN | CLOSED
HELD = {HoldReason.FROZEN: FROZEN, HoldReason.OUTSIDE_WINDOW: CLOSED}


@dataclass
class Team(World):
    """A world in which the API server knows who wrote what."""

    writers: dict[str, Writer] = field(default_factory=dict)

    def plan(self) -> Plan:
        return replace(super().plan(), writers=self.writers)

    def lines(self, decision: str) -> list[LedgerEntry]:
        return [entry for entry in self.working.ledger if entry.decision == decision]


def team(rate: float = 50.0, **fields: Any) -> Team:
    return Team(spec=plan_spec(**fields), rate=rate, on_decision=check)


def manual(**fields: Any) -> Team:
    steps = [
        {"weight": 10, "hold": "10s"},
        {"weight": 25, "hold": "10s", "approval": "Manual"},
        {"weight": 50, "hold": "10s", "approval": "Manual"},
        {"weight": 100, "hold": "10s"},
    ]
    return team(steps=steps, **fields)


def weight_is(weight: int) -> Any:
    return lambda status: status.weight == weight


# ---------------------------------------------------------------------------------------------------------- who it was


@pytest.mark.parametrize(
    ("text", "writer", "who"),
    [
        (f"a1 {JANE}", None, JANE),
        ("a1 by jane@example.com", Writer("kubectl-annotate", "2027-01-11T10:00:00Z"), JANE),
        ("a1", Writer("kubectl-annotate"), "by the field manager kubectl-annotate"),
    ],
)
def test_who_asks_to_go_back_is_named(text: str, writer: Writer | None, who: str) -> None:
    w = team().until_judging(10)
    w.annotations[ROLLBACK_ANNOTATION] = text
    if writer is not None:
        w.writers[ROLLBACK_ANNOTATION] = writer
    w.until_phase(Phase.ROLLED_BACK, within=10)
    said = f"10 % → 0 %: asked for by the annotation cutover.dev/rollback {who}"
    assert [entry.message for entry in w.lines("RollBack")] == [said]
    assert [entry.by for entry in w.lines("RollBack")] == [who.removeprefix("by ")]
    assert [event.message for event in w.told("RollBack")] == [said]
    assert w.status.message == said


def test_who_approves_is_named() -> None:
    w = manual().until_reason("AwaitingApproval")
    w.annotations[APPROVE_ANNOTATION] = f"a1-w25 {JANE}"
    w.until(weight_is(25), within=5)
    assert w.lines("Advance")[-1].message.endswith(f"; approved {JANE}")
    assert w.lines("Advance")[-1].by == JANE.removeprefix("by ")
    assert w.told("Advance")[-1].message.endswith(f"; approved {JANE}")
    w.until_reason("AwaitingApproval").run(30)
    assert w.status.weight == 25, "it was for one step"


def test_who_lowers_the_ceiling_is_named() -> None:
    w = team().until_judging(50)
    w.writers["spec"] = FLUX
    w.edit(ceiling=10)
    w.reconcile()
    (entry,) = w.lines("Lower")
    assert entry.message == (
        "50 % → 10 %: spec.ceiling was lowered by the field manager kustomize-controller at 2027-01-11T09:00:00Z"
    )
    assert entry.by == "the field manager kustomize-controller at 2027-01-11T09:00:00Z"
    w.edit(ceiling=0)
    w.until_phase(Phase.ROLLED_BACK, within=10)
    assert w.lines("RollBack")[0].by == entry.by
    assert {one.by for one in w.lines("Edit")} == {entry.by}
    assert {one.by for one in w.lines("RolledBack")} == {None}
    assert "asked for by spec.ceiling 0 by the field manager kustomize-controller" in w.lines("RollBack")[0].message


# -------------------------------------------------------------------------------------------------------- what it is for


def test_a_raised_ceiling_approves_the_first_step_that_it_held_back_and_no_other() -> None:
    w = manual(ceiling=10).until_reason("Ceiling")
    w.writers["spec"] = FLUX
    w.edit(ceiling=100)
    w.until(weight_is(25), within=5)
    assert w.lines("Advance")[-1].message.endswith(
        "; approved by spec.ceiling 10 → 100 by the field manager kustomize-controller at 2027-01-11T09:00:00Z"
    )
    (entry,) = w.lines("Edit")
    assert entry.message == (
        "edited by the field manager kustomize-controller at 2027-01-11T09:00:00Z: ceiling: 10 → 100"
    )
    w.until_reason("AwaitingApproval").run(30)
    assert w.status.weight == 25


def test_a_step_that_no_ceiling_held_back_is_not_approved_by_raising_it() -> None:
    w = manual(ceiling=25).until_judging(10)
    w.edit(ceiling=100)
    w.until_reason("AwaitingApproval").run(30)
    assert w.status.weight == 10, "25 % was below the ceiling all along"
    w.annotations[APPROVE_ANNOTATION] = "a1-w25"
    w.until(weight_is(50))
    assert "; approved by spec.ceiling 25 → 100" in w.lines("Advance")[-1].message


def test_a_ceiling_that_is_raised_while_nobody_looks_approves_too() -> None:
    w = manual(ceiling=10).until_reason("Ceiling")
    w.edit(ceiling=25)
    w.restart()
    w.until(weight_is(25), within=15)
    assert "; approved by spec.ceiling 10 → 25" in w.lines("Advance")[-1].message


def test_a_ceiling_that_is_lowered_again_takes_its_approval_back() -> None:
    w = manual(ceiling=10).until_judging(10)
    w.edit(ceiling=25)
    w.reconcile()
    assert w.status.approved is not None
    w.edit(ceiling=20)
    w.reconcile()
    assert w.status.approved is None


def test_an_approval_ends_with_its_attempt() -> None:
    w = manual(ceiling=10).until_judging(10)
    w.edit(ceiling=25)
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK)
    w.eks = Leg()
    w.annotations[APPROVE_ANNOTATION] = "a1-w25"
    w.edit(attempt=2)
    w.until_reason("AwaitingApproval").run(30)
    assert (w.status.weight, w.status.attempt) == (10, 2)


def test_an_approval_by_the_ceiling_ends_when_the_attempt_is_raised() -> None:
    w = manual(ceiling=10).until_judging(10)
    w.edit(ceiling=25, suspend=True)
    w.reconcile()
    assert w.status.approved is not None
    w.edit(attempt=2, suspend=False)
    w.until_reason("AwaitingApproval").run(30)
    assert w.status.weight == 10


def test_what_was_given_before_the_weight_was_lowered_counts_no_more() -> None:
    w = manual()
    w.annotations[APPROVE_ANNOTATION] = f"a1-w25 {JANE}"
    w.until_judging(25)
    w.edit(ceiling=10)
    w.until_judging(10)
    w.edit(ceiling=20)  # which approves nothing
    w.annotations[SKIP_ANNOTATION] = "a1-w25/HoldTime"
    w.edit(ceiling=100, steps=[{"weight": 10}, {"weight": 20}, {"weight": 25, "approval": "Manual"}, {"weight": 100}])
    w.run(15 * 60)
    w.until_reason("AwaitingApproval", within=3600)
    assert w.status.weight == 20
    assert "given before the weight was lowered" in w.status.message
    assert any("given before the weight was lowered" in entry.message for entry in w.lines("Refuse"))
    w.annotations[APPROVE_ANNOTATION] = "a1-w25 by joe"
    w.until(weight_is(25), within=5)
    assert w.lines("Advance")[-1].message.endswith("; approved by joe")


# ---------------------------------------------------------------------------------------------------------------- skips


@pytest.mark.parametrize("reason", HELD)
def test_a_hold_of_the_calendar_is_skipped_for_one_step(reason: HoldReason) -> None:
    w = team(schedule=HELD[reason]).until_reason(reason)
    w.annotations[SKIP_ANNOTATION] = f"a1-w10/{reason} {JANE}"
    w.until(weight_is(10), within=5)
    skip, advance = w.status.ledger[-2:]
    assert (skip.decision, skip.reason, skip.from_weight, skip.to_weight) == ("Skip", reason, 0, 0)
    assert skip.message.startswith(f"{reason} is skipped, asked for by the annotation cutover.dev/skip-hold {JANE}: ")
    assert "ready for 10 %" in skip.message
    assert (skip.by, advance.by) == (JANE.removeprefix("by "), None)
    assert advance.decision == "Advance"
    assert [event.message for event in w.told("Skip")] == [skip.message]
    w.until_reason(reason).run(60)
    assert w.status.weight == 10, "the step has used it up"
    assert len(w.told("Skip")) == 1


def test_several_holds_are_skipped_only_if_each_is_named() -> None:
    w = team(schedule=BOTH).until_reason("Frozen")
    w.annotations[SKIP_ANNOTATION] = "a1-w10/Frozen"
    w.until_reason("OutsideWindow").run(20)
    assert w.status.weight == 0
    w.annotations[SKIP_ANNOTATION] = "a1-w10/Frozen,OutsideWindow"
    w.until(weight_is(10), within=5)
    assert [entry.reason for entry in w.lines("Skip")] == ["Frozen", "OutsideWindow"]


def test_the_hold_time_is_skipped_on_evidence_only() -> None:
    steps = [{"weight": 10, "hold": "2h"}, {"weight": 100, "hold": "10s"}]
    w = team(steps=steps).until_judging(10)
    w.annotations[SKIP_ANNOTATION] = f"a1-w100/HoldTime {JANE}"
    w.eks = Leg(errors=0.0065)  # neither proven good nor harmful
    w.run(300)
    assert w.status.weight == 10
    w.eks = Leg()
    w.until(weight_is(100), within=1800)
    (skip,) = w.lines("Skip")
    assert (skip.reason, "10 % for another" in skip.message) == ("HoldTime", True)


def test_what_is_not_in_the_way_is_not_skipped() -> None:
    w = team()
    w.annotations[SKIP_ANNOTATION] = "a1-w25/OutsideWindow,Frozen,HoldTime"
    w.until_judging(10)
    w.edit(steps=[{"weight": 10, "hold": "0s"}, {"weight": 25}, {"weight": 100}])
    w.until(weight_is(25))
    assert not w.lines("Skip")


@pytest.mark.parametrize("blocker", ["ceiling", "suspend", "approval", "heroku"])
def test_a_skip_skips_nothing_else(blocker: str) -> None:
    fields = {"ceiling": {"ceiling": 10}, "suspend": {}, "heroku": {}, "approval": {}}[blocker]
    last = {"weight": 100, "approval": "Manual"} if blocker == "approval" else {"weight": 100}
    w = team(steps=[{"weight": 10, "hold": "30s"}, last], schedule={}, **fields).until_judging(10)
    w.edit(schedule=BOTH, suspend=blocker == "suspend")
    w.annotations[SKIP_ANNOTATION] = "a1-w100/OutsideWindow,Frozen,HoldTime"
    if blocker == "heroku":
        w.heroku = DEAD
    w.run(600)
    assert w.status.weight == 10
    assert not w.lines("Skip")


@pytest.mark.parametrize("reason", [HoldReason.INSUFFICIENT_TRAFFIC, HoldReason.UNDECIDED, HoldReason.STEP_TIMEOUT])
def test_no_person_can_stand_in_for_evidence(reason: HoldReason) -> None:
    w = team().until_judging(10)
    w.rate = 0.1
    w.annotations[SKIP_ANNOTATION] = f"a1-w25/{reason} {JANE}"
    w.until_reason("InsufficientTraffic").run(600)
    assert w.status.weight == 10
    (entry,) = w.lines("Refuse")
    assert entry.reason == "SkipHold"
    assert f"{reason} cannot be skipped: only evidence moves weight up" in entry.message
    assert [(event.kind, event.message) for event in w.told("Refuse")] == [("Warning", entry.message)]


def test_a_raise_that_was_skipped_for_and_not_written_yet_is_not_withdrawn() -> None:
    w = team(schedule=FROZEN).until_reason("Frozen")
    w.annotations[SKIP_ANNOTATION] = "a1-w10/Frozen"
    w.route_writes_fail = True
    w.run(20)
    assert w.stored.weight == 10
    w.route_writes_fail = False
    w.until_judging(10)
    assert not w.lines("Withdraw")


def test_a_skip_that_died_before_the_route_is_told_once() -> None:
    calm = team(schedule=FROZEN).until_reason("Frozen")
    for number in range(4):
        for when in ("before", "after"):
            w = calm.copy()
            w.annotations = {SKIP_ANNOTATION: "a1-w10/Frozen"}
            w.crash_at = (w._attempted + number, when)
            w.until_judging(10)
            assert [entry.decision for entry in w.status.ledger[-2:]] == ["Skip", "Advance"]
            assert w.weights == [0, 10]


# ------------------------------------------------------------------------------------------------------ what is answered


@pytest.mark.parametrize(
    ("annotation", "text", "reason"),
    [
        (ROLLBACK_ANNOTATION, "true", "Rollback"),
        (ROLLBACK_ANNOTATION, "a7", "Rollback"),
        (APPROVE_ANNOTATION, "yes", "Approval"),
        (APPROVE_ANNOTATION, "a1-w33", "Approval"),
        (SKIP_ANNOTATION, "a1-w25/Ceiling", "SkipHold"),
        (SKIP_ANNOTATION, "all", "SkipHold"),
    ],
)
def test_a_wish_that_cannot_be_obeyed_is_answered_once(annotation: str, text: str, reason: str) -> None:
    w = manual().until_reason("AwaitingApproval")
    w.annotations[annotation] = text
    w.run(60).restart()
    w.run(60)
    (entry,) = w.lines("Refuse")
    assert entry.reason == reason
    assert f"{annotation} says '{text}': " in entry.message
    assert [event.kind for event in w.told("Refuse")] == ["Warning"]
    assert (w.status.weight, w.status.phase) == (10, Phase.SHIFTING)
    assert (entry.message in w.status.message) is (annotation == APPROVE_ANNOTATION), "where somebody waits for it"
    # The hold goes on being the same one.
    assert len([e for e in w.status.ledger if e.reason == "AwaitingApproval"]) == 1
    w.annotations[annotation] = {"Rollback": "a1", "Approval": "a1-w25", "SkipHold": "a1-w25/Frozen"}[reason]
    w.run(60)
    assert len(w.lines("Refuse")) == 1


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.PREFLIGHT, Phase.BASELINE, Phase.SOAKING, Phase.COMPLETED])
def test_a_malformed_wish_is_answered_in_every_phase(phase: Phase) -> None:
    w = team()
    if phase is not Phase.PENDING:
        w.until_phase(phase)
    w.annotations[ROLLBACK_ANNOTATION] = "now!"
    w.reconcile()
    assert len(w.lines("Refuse")) == 1
    assert w.stored.ledger[-1].decision == "Refuse"


def test_wishes_that_change_all_the_time_do_not_cost_more_than_the_ledger_holds() -> None:
    w = team().until_judging(10)
    for number in range(100):
        w.annotations[ROLLBACK_ANNOTATION] = f"now {number} " + "x" * 300
        w.reconcile()
    assert len(w.status.ledger) == 30
    writes = len(w.writes)
    w.reconcile()
    assert len(w.writes) == writes


# ------------------------------------------------------------------------------------------------- templates after a start


def _renamed() -> World:
    """A plan whose gate was pointed at another template while the operator was down."""
    w = World(spec=plan_spec(gates=gates_of(FROM_TEMPLATE)), rate=100.0, on_decision=check)
    w.values["throttling"] = 0.1
    w.templates[TEMPLATE] = template(0.25)
    w.until_judging(10)
    other = {**FROM_TEMPLATE, "template": {**FROM_TEMPLATE["template"], "name": "other"}}
    w.edit(gates=gates_of(other))
    return w


def test_a_plan_is_not_called_invalid_while_its_templates_are_read() -> None:
    w = _renamed()
    known, before = dict(w.templates), w.status
    w.templates.clear()
    w.restart()
    for _ in range(3):
        w.reconcile()
        w.pass_time(1)
        assert (w.status.reason, w.status.message) == (before.reason, before.message)
        assert w.condition("Stalled") == "False"
        assert [one.name for one in w.status.gates] == [one.name for one in before.gates]
    w.templates = {"ClusterGateTemplate/other": next(iter(known.values()))}
    w.run(20)
    assert not w.told(HoldReason.INVALID_SPEC)
    assert "throttling was removed" not in str(w.status.ledger)
    assert w.status.phase is Phase.SHIFTING


def test_templates_in_force_need_not_be_read_to_go_on() -> None:
    w = World(spec=plan_spec(gates=gates_of(FROM_TEMPLATE)), rate=100.0, on_decision=check)
    w.values["throttling"] = 0.1
    w.templates[TEMPLATE] = template(0.25)
    w.until_judging(10)
    w.templates.clear()
    w.prometheus_up = False
    w.restart()
    w.reconcile()
    assert w.status.reason == HoldReason.PROMETHEUS_UNAVAILABLE


def test_a_template_that_stays_away_is_told_after_that_moment() -> None:
    w = _renamed()
    w.templates.clear()
    w.restart()
    w.run(TEMPLATES_SECONDS + 5)
    assert w.status.reason == HoldReason.INVALID_SPEC
    # An operator that is started then goes on saying so.
    held = w.told(HoldReason.INVALID_SPEC)
    w.restart()
    w.run(20)
    assert w.status.reason == HoldReason.INVALID_SPEC
    assert w.condition("Held") == "True"
    assert w.told(HoldReason.INVALID_SPEC) == held


def test_harm_leads_back_while_templates_are_read() -> None:
    w = _renamed()
    w.templates.clear()
    w.eks = DEAD
    w.pass_time(60)
    w.restart()
    w.reconcile()
    assert w.status.phase is Phase.ROLLING_BACK


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.ROLLED_BACK])
def test_a_plan_at_rest_is_not_called_invalid_while_its_templates_are_read(phase: Phase) -> None:
    w = _renamed()
    w.templates["ClusterGateTemplate/other"] = next(iter(w.templates.values()))
    if phase is Phase.ROLLED_BACK:
        w.eks = DEAD
    w.until_phase(phase, within=1800)
    w.working = w.stored = w.stored.model_copy(update={"templates": ()})
    w.templates.clear()
    w.restart()
    reason, writes = w.status.reason, len(w.writes)
    w.reconcile()
    assert (w.status.reason, w.condition("Stalled")) == (reason, "False")
    assert len(w.writes) == writes


# ---------------------------------------------------------------------------------------------------------------- quiet


def test_a_plan_of_an_older_version_is_not_told_of_edits_that_nobody_saw() -> None:
    w = team().until_judging(10)
    w.working = w.stored = w.stored.model_copy(update={"spec_snapshot": None})
    w.edit(soak="10s")
    w.run(10)
    assert not w.lines("Edit")
    assert w.status.spec_snapshot is not None
    w.edit(soak="5s")
    w.reconcile()
    assert [entry.message for entry in w.lines("Edit")] == ["edited: soak: 10s → 5s"]


def test_a_spec_that_was_not_looked_at_yet_cost_no_write() -> None:
    w = team().until_phase(Phase.COMPLETED)
    w.working = w.stored = w.stored.model_copy(update={"spec_snapshot": None})
    assert WriteStatus not in kinds(decide(w.plan(), w.observe(), w.now))


def test_what_is_kept_of_people_reads_back() -> None:
    w = manual(ceiling=10).until_judging(10)
    w.annotations[APPROVE_ANNOTATION] = "a1-w25"
    w.edit(ceiling=50)
    w.until(weight_is(25))
    w.edit(ceiling=5)
    w.run(20)
    wire = w.stored.to_wire()
    assert wire["void"] == {APPROVE_ANNOTATION: "a1-w25"}
    assert wire["specSnapshot"]["ceiling"] == 5
    assert MigrationPlanStatus.from_wire(wire) == w.stored
