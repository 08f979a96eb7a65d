"""What a command of kubectl-cutover will do: decided from the plan, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.kit.screens import held_for, in_phase, seen
from tests.kit.states import checked_world, judging_world
from tests.kit.world import World

from cutover.api.v1alpha1 import MigrationPlan, Phase
from cutover.cli.exits import CliError, Exit
from cutover.cli.intents import commands, edits, git
from cutover.cli.intents.intent import Author, Intent
from cutover.domain.commands.annotations import read
from cutover.domain.commands.refusals import refusals
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan

JANE = Author("jane@example.com", datetime(2027, 1, 11, 10, 0, tzinfo=UTC))
AT = "2027-01-11T10:00:00Z"
Ask = Callable[[Plan], Intent]


def rollback(plan: Plan) -> Intent:
    return commands.rollback(plan, JANE)


def approve(plan: Plan) -> Intent:
    return commands.approve(plan, JANE)


def annotation(intent: Intent) -> str:
    ((_, value),) = intent.patch["metadata"]["annotations"].items()
    return str(value)


WRITES: list[tuple[Ask, str, str]] = [
    (rollback, "in mid-cutover", f"a1 by jane@example.com at {AT}"),
    (rollback, "soaking", f"a1 by jane@example.com at {AT}"),
    (approve, HoldReason.AWAITING_APPROVAL, f"a1-w25 by jane@example.com at {AT}"),
    (lambda plan: commands.proceed(plan, JANE), HoldReason.AWAITING_DECISION, f"a1-w25 by jane@example.com at {AT}"),
    (lambda plan: commands.skip(plan, JANE), HoldReason.FROZEN, f"a1-w10/Frozen by jane@example.com at {AT}"),
    (
        lambda plan: commands.skip(plan, JANE, ("HoldTime", "Frozen")),
        "in mid-cutover",
        f"a1-w50/Frozen,HoldTime by jane@example.com at {AT}",
    ),
    (lambda plan: commands.forward(plan, JANE), HoldReason.HEROKU_CANNOT_TAKE_BACK, f"a1 by jane@example.com at {AT}"),
]


def plan_of(name: str) -> Plan:
    return held_for(HoldReason(name))[0] if name in set(HoldReason) else in_phase(name)[0]


@pytest.mark.parametrize(("ask", "name", "value"), WRITES)
def test_what_is_written_is_a_command_that_the_operator_takes(ask: Ask, name: str, value: str) -> None:
    plan = plan_of(name)
    intent = ask(plan)
    assert annotation(intent) == value
    assert intent.patch == {"metadata": {"annotations": {intent.annotation: value}}}
    assert read(intent.annotation, value) is not None
    given = {**plan.annotations, intent.annotation: value}
    assert not list(refusals(given, spec=plan.spec, status=plan.status))
    assert intent.effects[-1] == f"This writes {intent.annotation}={value}"


def test_a_refusal_of_what_is_not_written_yet_names_nothing_to_remove() -> None:
    plan = plan_of("in mid-cutover")
    low = replace(plan, spec=plan.spec.model_copy(update={"ceiling": 50}))
    with pytest.raises(CliError, match=r"spec.ceiling is 50; raise it to 100, then ask again$"):
        commands.forward(low, JANE)


def test_raising_the_ceiling_to_100_forbids_nothing() -> None:
    assert not any("No step above" in one for one in edits.ceiling(plan_of(HoldReason.CEILING), 100).effects)
    assert "No step above 10 % begins." in edits.ceiling(plan_of("in mid-cutover"), 10).effects


REFUSED: list[tuple[Ask, str, str]] = [
    (approve, "in mid-cutover", "needs no approval"),
    (approve, "rolled back", "no step can begin in this attempt"),
    (approve, "soaking", "there is no step above"),
    (
        lambda plan: commands.approve(plan, JANE, 30),
        HoldReason.AWAITING_APPROVAL,
        "no step at 30 % ahead; there are 25 %, 100 %",
    ),
    (lambda plan: commands.approve(plan, JANE, 10), HoldReason.AWAITING_APPROVAL, "no step at 10 % ahead"),
    (lambda plan: commands.proceed(plan, JANE), HoldReason.INSUFFICIENT_TRAFFIC, "set it to AskPeople in Git"),
    (lambda plan: commands.skip(plan, JANE), HoldReason.CEILING, "Ceiling cannot be skipped: raise spec.ceiling"),
    (lambda plan: commands.skip(plan, JANE), HoldReason.BOTH_LEGS_UNHEALTHY, "cannot be skipped: it means that users"),
    (lambda plan: commands.skip(plan, JANE, ("Lunch",)), "in mid-cutover", "there is no hold Lunch"),
    (lambda plan: commands.skip(plan, JANE), "in mid-cutover", "is not held; name what to skip: OutsideWindow"),
    (lambda plan: commands.forward(plan, JANE), "before the first step", "no traffic is on EKS"),
    (edits.retry, "in mid-cutover", "another attempt begins after a rollback only"),
]


@pytest.mark.parametrize(("ask", "name", "why"), REFUSED)
def test_what_the_operator_would_refuse_is_not_written(ask: Ask, name: str, why: str) -> None:
    with pytest.raises(CliError) as refusal:
        ask(plan_of(name))
    assert refusal.value.code is Exit.REFUSED
    assert why in str(refusal.value)


DONE: list[tuple[Ask, str, str]] = [
    (rollback, "rolled back", "is RolledBack already"),
    (rollback, "rolling back", "is RollingBack already"),
    (lambda plan: commands.forward(plan, JANE), "soaking", "is at 100 % already"),
    (edits.suspend, HoldReason.SUSPENDED, "is suspended already"),
    (edits.resume, "in mid-cutover", "is not suspended"),
    (lambda plan: edits.ceiling(plan, 25), HoldReason.CEILING, "has the ceiling 25 already"),
]


@pytest.mark.parametrize(("ask", "name", "why"), DONE)
def test_what_is_so_already_is_told_and_is_no_failure(ask: Ask, name: str, why: str) -> None:
    with pytest.raises(CliError, match=why) as told:
        ask(plan_of(name))
    assert told.value.code is Exit.DONE


def test_a_second_approval_is_told() -> None:
    plan = plan_of(HoldReason.AWAITING_APPROVAL)
    given = replace(plan, annotations={"cutover.dev/approve": "a1-w25 by bob"})
    with pytest.raises(CliError, match="says so already, by bob") as told:
        approve(given)
    assert told.value.code is Exit.DONE
    # Of another step, or void: it says nothing about this one.
    for given_then, void in (
        ({"cutover.dev/approve": "a1-w10"}, None),
        ({"cutover.dev/approve": "a1-w25"}, {"cutover.dev/approve": "a1-w25"}),
    ):
        again = replace(plan, annotations=given_then, status=plan.status.evolve(void=void))
        assert annotation(approve(again)).startswith("a1-w25 by jane")


@pytest.mark.parametrize("name", ["auth0|jane", "", "x" * 200, "a at b"])
def test_who_cannot_be_named_is_not(name: str) -> None:
    intent = commands.rollback(plan_of("in mid-cutover"), Author(name, JANE.at))
    assert annotation(intent) == f"a1 at {AT}"


# ------------------------------------------------------------------------------------------------------ with the operator


def obeyed(world: World, ask: Ask, reached: str, within: float = 600) -> None:
    """Give an operator what is written, and see that the effect is known when it is there, and not before."""
    intent = ask(seen(world)[0])
    assert not intent.later
    assert intent.seen(world.stored) == ""
    for name, value in intent.patch.get("metadata", {}).get("annotations", {}).items():
        world.annotations = {**world.annotations, name: value}
    if "spec" in intent.patch:
        world.edit(**intent.patch["spec"])
    world.until(lambda _: intent.seen(world.stored) != "", within=within)
    assert reached in intent.seen(world.stored)


def test_the_effects_of_commands_are_seen() -> None:
    w = checked_world(steps=[{"weight": 10, "hold": "10s"}, {"weight": 25, "approval": "Manual"}, {"weight": 100}])
    w.until_reason("AwaitingApproval")
    obeyed(w, approve, "the step at 25 % has begun")
    obeyed(w, edits.suspend, "nothing rises")
    obeyed(w, edits.resume, "it goes on")
    obeyed(w, lambda plan: edits.ceiling(plan, 10), "the ceiling is 10 %")
    obeyed(w, rollback, "all traffic is on Heroku")
    obeyed(w, edits.retry, "attempt 2 has begun")


def test_a_ceiling_of_nothing_rolls_back() -> None:
    w = judging_world(25)
    obeyed(w, lambda plan: edits.ceiling(plan, 0), "all traffic is on Heroku")


def test_a_skip_lets_the_step_begin() -> None:
    freeze = {"from": "2027-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z", "reason": "winter sale"}
    w = checked_world(schedule={"freezes": [freeze]}).until_reason("Frozen")
    obeyed(w, lambda plan: commands.skip(plan, JANE), "the step at 10 % has begun")


def test_a_word_ahead_of_time_is_not_waited_for() -> None:
    w = checked_world(steps=[{"weight": 10, "hold": "10m"}, {"weight": 100, "approval": "Manual"}]).until_judging(10)
    intent = approve(seen(w)[0])
    assert intent.later.startswith("it counts when the step is ready; now Judging: ")
    early = commands.rollback(in_phase("baseline")[0], JANE)
    assert early.later == "the plan is in Baseline; it counts before the first step begins"


# ---------------------------------------------------------------------------------------------------------------- Git


def test_the_change_for_git_is_the_same_word() -> None:
    plan = plan_of(HoldReason.CEILING)
    intent = edits.ceiling(plan, 50)
    assert intent.git.splitlines()[1:] == [
        "--- a/pdf.yaml",
        "+++ b/pdf.yaml",
        " spec:",
        "-  ceiling: 25",
        "+  ceiling: 50",
        '# git commit -m "Raise the ceiling of pdf to 50 %"',
    ]
    assert intent.effects[0] == "The step at 50 % is approved by it, and may begin on evidence."
    given = approve(plan_of(HoldReason.AWAITING_APPROVAL)).git
    assert f'+    cutover.dev/approve: "a1-w25 by jane@example.com at {AT}"' in given
    assert "+  ceiling: 0" in rollback(plan_of("in mid-cutover")).git
    assert commands.forward(plan_of(HoldReason.HEROKU_CANNOT_TAKE_BACK), JANE).git == ""


@pytest.mark.parametrize(
    ("metadata", "who"),
    [
        ({}, ""),
        (
            {
                "labels": {
                    "kustomize.toolkit.fluxcd.io/name": "pdf",
                    "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
                }
            },
            "Flux (Kustomization flux-system/pdf)",
        ),
        (
            {"labels": {"helm.toolkit.fluxcd.io/name": "x", "helm.toolkit.fluxcd.io/namespace": "y"}},
            "Flux (HelmRelease y/x)",
        ),
        ({"annotations": {"argocd.argoproj.io/tracking-id": "x"}}, "Argo CD"),
        ({"managedFields": [{"manager": "argocd-controller"}]}, "Argo CD"),
        ({"managedFields": [{"manager": "kustomize-controller"}]}, "Flux"),
        ({"managedFields": [{"manager": "kubectl-client-side-apply"}]}, ""),
    ],
)
def test_who_applies_a_plan_from_git(metadata: dict[str, Any], who: str) -> None:
    assert git.from_git({"metadata": metadata}) == who
    plan = plan_of("in mid-cutover")
    said = git.caution(edits.suspend(plan), who)
    assert said == "" if not who else "undoes an edit of its spec at the next interval" in said
    assert ("leaves this annotation alone" in git.caution(rollback(plan), who)) is bool(who)


def test_a_ceiling_between_steps_with_affinity() -> None:
    plan = plan_of("in mid-cutover")
    spec = plan.spec.to_wire()
    spec["traffic"]["affinity"] = {"cookie": {}}
    body = {"apiVersion": "cutover.dev/v1alpha1", "kind": "MigrationPlan", "metadata": {"name": "pdf"}, "spec": spec}
    sticky = replace(plan, spec=MigrationPlan.from_wire(body).spec)
    with pytest.raises(CliError, match="name the weight of one of the steps"):
        edits.ceiling(sticky, 30)
    assert edits.ceiling(sticky, 50).patch == {"spec": {"ceiling": 50}}
    assert plan.status.phase is Phase.SHIFTING
