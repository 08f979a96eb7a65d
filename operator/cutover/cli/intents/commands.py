"""Operator commands, which are annotations that ask for something once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cutover.api.v1alpha1 import Approval, Phase, Step
from cutover.cli.exits import CliError, Exit
from cutover.cli.intents.git import annotation_change, spec_change
from cutover.cli.intents.intent import Author, Intent, Seen, refused
from cutover.domain.commands.annotations import Command, Skippable, read, skip_hold, write
from cutover.domain.commands.annotations import approve as approve_command
from cutover.domain.commands.annotations import forward as forward_command
from cutover.domain.commands.annotations import proceed as proceed_command
from cutover.domain.commands.annotations import rollback as rollback_command
from cutover.domain.commands.refusals import refusals
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan
from cutover.domain.steps import next_step
from cutover.domain.texts import plain

#: Phases in which a rollback is obeyed at once.
_OBEY = (Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED)

# ------------------------------------------------------------------------------------------------------- annotations


def rollback(plan: Plan, author: Author) -> Intent:
    """Go back to Heroku now. Raises CliError."""
    status = plan.status
    if status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        raise CliError(f"{plan.key} is {status.phase} already: {plain(status.message)}", Exit.DONE)
    weight = status.weight or 0
    effects = [
        f"{weight} % of users' requests go back to Heroku, at once: no evidence, calendar or approval is waited for."
        if weight
        else "Nothing is on EKS yet: the first step will not begin, and the plan ends as RolledBack.",
        "The attempt is over. Another one begins with Preflight and without evidence (retry).",
    ]
    if status.phase is Phase.COMPLETED:
        effects.append("The plan is complete: the rollback waits until Heroku answers.")
    return _command(
        plan,
        rollback_command(_attempt(plan)),
        author,
        question=f"Roll {plan.key} back to Heroku?",
        effects=effects,
        seen=lambda now: "all traffic is on Heroku" if now.phase is Phase.ROLLED_BACK else "",
        git=spec_change(plan, "ceiling", plan.spec.ceiling, 0, "Roll {name} back: ceiling 0"),
        later=""
        if status.phase in _OBEY
        else f"the plan is in {status.phase}; it counts before the first step begins",
    )


def forward(plan: Plan, author: Author) -> Intent:
    """Send all users to EKS while Heroku is down. Raises CliError."""
    if plan.status.weight == 100:
        raise CliError(f"{plan.key} is at 100 % already: {plain(plan.status.message)}", Exit.DONE)
    now = plan.status.weight or 0
    effects = (
        f"If Heroku is down and EKS answers well, all requests go to EKS at once ({now} % now).",
        "This needs no evidence of safety, no calendar window and no approval.",
        "There is no way back until Heroku answers again.",
        "If Heroku is not down, the operator refuses the command; it does not count later.",
    )
    return _command(
        plan,
        forward_command(_attempt(plan)),
        author,
        question=f"Send all users of {plan.key} to EKS?",
        effects=effects,
        seen=lambda now: "all traffic is meant for EKS" if now.weight == 100 else "",
        git="",
    )


def approve(plan: Plan, author: Author, weight: int | None = None) -> Intent:
    """Approve a step, by default the next one. Raises CliError."""
    step = _step(plan, weight)
    if step.approval is not Approval.MANUAL:
        raise refused(f"the step at {step.weight} % of {plan.key} needs no approval: evidence alone decides")
    effects = [f"The step at {step.weight} % may begin. It still waits for evidence, the calendar and the ceiling."]
    if plan.spec.ceiling < step.weight:
        effects.append(f"spec.ceiling ({plan.spec.ceiling}) holds it back: raising it in Git approves the step, too.")
    return _for_step(plan, approve_command(_attempt(plan), step.weight), author, step, effects, "Approve")


def proceed(plan: Plan, author: Author) -> Intent:
    """Let the next step begin in place of evidence. Raises CliError."""
    step = _step(plan, None)
    effects = [
        f"The step at {step.weight} % may begin without enough evidence, on your word, while nothing speaks against EKS.",
        "From then on evidence decides again: harm rolls the plan back, or holds it with onBreach: Hold.",
    ]
    return _for_step(plan, proceed_command(_attempt(plan), step.weight), author, step, effects, "Proceed with")


def skip(plan: Plan, author: Author, holds: Sequence[str] = ()) -> Intent:
    """Let the next step begin in spite of holds, by default the present one. Raises CliError."""
    step, held = _step(plan, None), plan.status.held
    named = tuple(holds) or ((held.reason,) if held is not None else ())
    if not named:
        raise refused(f"{plan.key} is not held; name what to skip: {', '.join(Skippable)}")
    command = replace(skip_hold(_attempt(plan), step.weight), holds=frozenset(named))
    effects = [f"The step at {step.weight} % may begin in spite of {', '.join(named)}, once; all else is asked for."]
    return _for_step(plan, command, author, step, effects, f"Skip {', '.join(named)} for")


def _for_step(plan: Plan, command: Command, author: Author, step: Step, effects: Sequence[str], verb: str) -> Intent:
    """Return an intent that lets a step begin. Its effect is waited for where nothing but the word is missing."""
    text = plan.annotations.get(command.annotation)
    given = read(command.annotation, text) if text else None
    same = given is not None and (given.attempt, given.weight, given.holds) == (
        command.attempt,
        command.weight,
        command.holds,
    )
    if given is not None and same and not _void(plan, command.annotation):
        raise CliError(f"{plan.key}: {command.annotation} says so already, {given.who}", Exit.DONE)
    held = plan.status.held
    waits = {HoldReason.AWAITING_APPROVAL, HoldReason.AWAITING_DECISION, *map(str, command.holds)}
    upcoming = next_step(plan.spec, plan.status.weight or 0)
    alone = held is not None and held.reason in waits and upcoming is not None and upcoming.weight == step.weight
    said = f"{plan.status.reason}: {plain(plan.status.message)}" if plan.status.reason else plan.status.phase
    return _command(
        plan,
        command,
        author,
        question=f"{verb} the step at {step.weight} % of {plan.key}?",
        effects=effects,
        seen=lambda now: f"the step at {now.weight} % has begun" if (now.weight or 0) >= step.weight else "",
        later="" if alone else f"it counts when the step is ready; now {said}",
    )


def _command(
    plan: Plan,
    command: Command,
    author: Author,
    *,
    question: str,
    effects: Sequence[str],
    seen: Seen,
    git: str | None = None,
    later: str = "",
) -> Intent:
    signed = _signed(command, author)
    value = write(signed)
    given = {**plan.annotations, command.annotation: value}
    _refuse(plan, given, command.annotation)
    return Intent(
        question=question,
        effects=(*effects, f"This writes {command.annotation}={value}"),
        patch={"metadata": {"annotations": {command.annotation: value}}},
        git=annotation_change(plan, command.annotation, value, question) if git is None else git,
        seen=seen,
        annotation=command.annotation,
        later=later,
    )


def _signed(command: Command, author: Author) -> Command:
    """Add who asks and when; no name where none can be written, which the chart's policy then does not ask for.

    The time makes each text another one: a command that was refused for good counts when it is given anew.
    """
    dated = replace(command, at=author.at)
    signed = replace(dated, name=author.name)
    try:
        write(signed)
    except ValueError:
        return dated
    return signed


def _refuse(plan: Plan, annotations: Mapping[str, str], annotation: str) -> None:
    """Raise what the operator would say, before anything is written."""
    # What was void is given anew, with another text.
    status = plan.status.evolve(void=None)
    for one in refusals(annotations, spec=plan.spec, status=status):
        if one.annotation == annotation:
            raise refused(f"{plan.key}: {one.beforehand}")


def _void(plan: Plan, annotation: str) -> bool:
    return (plan.status.void or {}).get(annotation) == plan.annotations.get(annotation, "").strip()


def _attempt(plan: Plan) -> int:
    return plan.status.attempt or plan.spec.attempt


def _step(plan: Plan, weight: int | None) -> Step:
    current = plan.status.weight or 0
    if plan.status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        raise refused(
            f"{plan.key} is {plan.status.phase}: no step can begin in this attempt; retry begins another one"
        )
    if weight is None:
        upcoming = next_step(plan.spec, current)
        if upcoming is None:
            raise refused(f"{plan.key} is at {current} %: there is no step above")
        return upcoming
    for step in plan.spec.steps:
        if step.weight == weight > current:
            return step
    there = ", ".join(f"{step.weight} %" for step in plan.spec.steps if step.weight > current)
    raise refused(
        f"{plan.key} at {current} % has no step at {weight} % ahead" + (f"; there are {there}" if there else "")
    )
