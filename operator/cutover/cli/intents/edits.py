"""Edits of the spec by a person."""

from __future__ import annotations

from collections.abc import Sequence

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.cli.exits import CliError, Exit
from cutover.cli.intents.git import as_yaml, spec_change
from cutover.cli.intents.intent import Intent, Seen, refused
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan
from cutover.domain.steps import next_step

# -------------------------------------------------------------------------------------------------------------- spec


def suspend(plan: Plan) -> Intent:
    """Hold the weight where it is. Raises CliError."""
    if plan.spec.suspend:
        raise CliError(f"{plan.key} is suspended already", Exit.DONE)
    weight = plan.status.weight or 0
    effects = [f"No step begins and the soak does not end; the weight stays at {weight} %.", "Harm still leads back."]
    return _edit(
        plan,
        "suspend",
        True,
        question=f"Suspend {plan.key}?",
        effects=effects,
        seen=lambda _: "the operator has taken note: nothing rises",
        message="Suspend {name}",
    )


def resume(plan: Plan) -> Intent:
    """Go on after suspend. Raises CliError."""
    if not plan.spec.suspend:
        raise CliError(f"{plan.key} is not suspended", Exit.DONE)
    return _edit(
        plan,
        "suspend",
        False,
        question=f"Resume {plan.key}?",
        effects=["Steps begin again, as evidence, calendar, approvals and ceiling allow."],
        seen=lambda now: "" if now.reason == HoldReason.SUSPENDED else "it goes on",
        message="Resume {name}",
    )


def retry(plan: Plan) -> Intent:
    """Begin another attempt after a rollback. Raises CliError."""
    status, attempt = plan.status, max(plan.spec.attempt, plan.status.attempt)
    failed = status.failed_takeover is not None and status.failed_takeover == attempt
    if status.phase is not Phase.ROLLED_BACK and not failed:
        raise refused(f"{plan.key} is {status.phase}: another attempt begins after a rollback only")
    if plan.spec.attempt > status.attempt:
        raise CliError(f"{plan.key}: attempt {plan.spec.attempt} is asked for already", Exit.DONE)
    wanted = attempt + 1
    return _edit(
        plan,
        "attempt",
        wanted,
        question=f"Begin attempt {wanted} of {plan.key}?",
        effects=[
            "It begins with Preflight, and with no evidence; users stay on Heroku until the first step.",
            "Annotations of earlier attempts no longer count.",
        ],
        seen=lambda now: f"attempt {now.attempt} has begun ({now.phase})" if now.attempt >= wanted else "",
        message=f"Try {{name}} again: attempt {wanted}",
    )


def ceiling(plan: Plan, weight: int) -> Intent:
    """Set the weight that is never exceeded. Raises CliError."""
    before, current = plan.spec.ceiling, plan.status.weight or 0
    if weight == before:
        raise CliError(f"{plan.key} has the ceiling {weight} already", Exit.DONE)
    if plan.spec.traffic.affinity is not None and weight and all(step.weight != weight for step in plan.spec.steps):
        raise refused("with traffic.affinity users move with the steps; name the weight of one of the steps, or 0")
    effects = []
    held_back = next_step(plan.spec, before)
    if weight == 0:
        effects.append("All traffic goes back to Heroku, and the attempt ends, as by rollback.")
    elif weight < current:
        effects.append(
            f"The weight is lowered from {current} % to {weight} %. Earlier approvals and skips no longer count."
        )
    elif weight > before and held_back is not None and held_back.weight <= weight:
        effects.append(f"The step at {held_back.weight} % is approved by it, and may begin on evidence.")
        effects.append("Steps after it that need an approval still need their own.")
    if weight < 100:
        effects.append(f"No step above {weight} % begins.")
    elif not effects:
        effects.append("No step is held back any more, and each begins on evidence.")

    def seen(now: MigrationPlanStatus) -> str:
        if weight == 0 and current:
            return "all traffic is on Heroku" if now.phase is Phase.ROLLED_BACK else ""
        return f"the ceiling is {weight} %" if (now.weight or 0) <= weight else ""

    verb = "Raise" if weight > before else "Lower"
    return _edit(
        plan,
        "ceiling",
        weight,
        question=f"{verb} the ceiling of {plan.key} from {before} to {weight} %?",
        effects=effects,
        seen=seen,
        message=f"{verb} the ceiling of {{name}} to {weight} %",
    )


def _edit(
    plan: Plan, name: str, value: bool | int, *, question: str, effects: Sequence[str], seen: Seen, message: str
) -> Intent:
    before = getattr(plan.spec, name)

    def seen_by_operator(now: MigrationPlanStatus) -> str:
        return seen(now) if now.observed_generation > plan.generation else ""

    return Intent(
        question=question,
        effects=(*effects, f"This writes spec.{name}: {as_yaml(before)} -> {as_yaml(value)}"),
        patch={"spec": {name: value}},
        git=spec_change(plan, name, before, value, message),
        seen=seen_by_operator,
    )
