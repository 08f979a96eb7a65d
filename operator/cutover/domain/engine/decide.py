"""The order of the questions that decide whether the weight moves.

:func:`decide` takes a plan and an observation, asks one question after the other and stops at the first answer: what the
plan's status becomes, and what has to be written. The answers are in :mod:`cutover.domain.engine.phases`, one file for
each question. The order and the conditions of the writes are in :mod:`cutover.domain.engine.writes`.

Each decision derives its writes from the difference between the cluster and the status, so the next reconcile repairs
what a crash between two writes left.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import assert_never

from cutover.api.v1alpha1 import LONGEST_MESSAGE, CheckStatus, HeldStatus, MigrationPlanStatus, Phase
from cutover.domain.engine.actions import Decision, WriteStatus
from cutover.domain.engine.audits import tell_audits
from cutover.domain.engine.conditions import conditions
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held, incapable, invalid
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.people import commanded, note_edits, note_refusals, tell_refusals
from cutover.domain.engine.phases.baseline import baseline
from cutover.domain.engine.phases.judging import judge
from cutover.domain.engine.phases.preflight import pending, preflight
from cutover.domain.engine.phases.rest import completed, once_heroku_answers, put_to_rest, rolled_back
from cutover.domain.engine.phases.rollback import found_rolled_back, rolling_back
from cutover.domain.engine.phases.takeover import already_given_back, give_back
from cutover.domain.engine.releases import note_changes, tell_changes
from cutover.domain.engine.route import doubted, recorded, rolled_back_attempt, tell_edits
from cutover.domain.engine.support import not_yet_supported
from cutover.domain.engine.templates import await_templates, unchanged_while_reading
from cutover.domain.engine.trouble import trouble
from cutover.domain.engine.writes import decision_of
from cutover.domain.evidence.lengths import lengthened, next_length
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.steps import progress, shift_text
from cutover.domain.texts import is_plain, plain, shorten


def decide(plan: Plan, observation: Observation, now: float) -> Decision:
    """Decide what happens to a plan.

    Parameters
    ----------
    plan
        The plan with its working status.
    observation
        What was observed for this decision.
    now
        Unix seconds.
    """
    if plan.deleting:
        return put_to_rest(plan)
    context = Context(plan, observation, now)
    return _conclude(context, _outcome(context))


def refuse(plan: Plan, now: float, observation: Observation | None = None) -> Decision:
    """Hold a plan whose spec cannot be read (``plan.unreadable``); nothing else can be decided.

    Parameters
    ----------
    plan
        The plan with its working status.
    now
        Unix seconds.
    observation
        What is known without a spec.
    """
    context = Context(plan, observation or Observation(), now)
    return _conclude(context, held(context, plan.status, Hold(HoldReason.INVALID_SPEC, plan.unreadable)))


def not_written(plan: Plan, decision: Decision, problem: str, now: float) -> Decision:
    """Hold a plan because the route of a decision could not be written, so that the status shows it.

    Parameters
    ----------
    plan
        The plan before the decision, or after the part of the decision that succeeded.
    decision
        The decision whose route could not be written.
    problem
        Why the write failed, in words for people.
    now
        Unix seconds.
    """
    context = Context(plan, Observation(), now)
    message = f"the route to {decision.status.weight or 0} % cannot be written: {problem}; it is tried on"
    if decision.status.phase is Phase.ROLLING_BACK:
        message = f"{decision.status.message}: {message}"
    told = _conclude(context, held(context, plan.status, Hold(HoldReason.ROUTE_NOT_WRITTEN, message)))
    return replace(told, actions=tuple(action for action in told.actions if isinstance(action, WriteStatus)))


def _outcome(context: Context) -> Outcome:
    """Look at operator commands and at the route first, then at the phase."""
    status = note_refusals(context, note_edits(context, context.plan.status))
    status = note_changes(context, status)
    if (attempt := rolled_back_attempt(context, status)) is not None:
        return found_rolled_back(context, status.evolve(attempt=attempt))
    if already_given_back(context, status):
        return give_back(context, status, "the operator was restarted while it gave users their own route back")
    status = _with_raised_attempt(context, status)
    if asked := commanded(context, status):
        return once_heroku_answers(context, status, asked)
    if answer := doubted(context, status) or _invalid(context, status):
        return answer
    match status.phase:
        case Phase.PENDING:
            return pending(context, status)
        case Phase.PREFLIGHT:
            return preflight(context, status)
        case Phase.BASELINE:
            return baseline(context, status)
        case Phase.SHIFTING | Phase.SOAKING:
            return judge(context, status)
        case Phase.COMPLETED:
            return completed(context, status)
        case Phase.ROLLING_BACK:
            return rolling_back(context, status)
        case Phase.ROLLED_BACK:
            return rolled_back(context, status)
        case _:
            assert_never(status.phase)


def _with_raised_attempt(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Note an attempt that was raised without a rollback before it, so that it does not start a retry later."""
    back = status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    # A route that could not be read may be rolled back.
    unread = status.weight is not None and context.seen.traffic is None
    if back or unread or status.attempt == context.spec.attempt:
        return status
    return status.evolve(attempt=context.spec.attempt, approved=None)


def _invalid(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Hold a spec that asks for what cannot be done, in the phases that judge no traffic.

    Traffic on EKS is judged even if the spec is invalid; there :func:`cutover.domain.engine.holds.blocked` holds.
    """
    match status.phase:
        case Phase.PENDING | Phase.PREFLIGHT:
            if hold := invalid(context):
                return await_templates(context, status) or held(context, status, hold)
            if hold := incapable(context):
                return held(context, status, hold, requeue=300)
        case Phase.COMPLETED | Phase.ROLLED_BACK:
            if hold := invalid(context):
                return unchanged_while_reading(context, status) or held(context, status, hold, requeue=300)
        case Phase.BASELINE | Phase.SHIFTING | Phase.SOAKING | Phase.ROLLING_BACK:
            pass
        case _:
            assert_never(status.phase)
    return None


def _held(before: HeldStatus | None, hold: Hold | None, now: datetime) -> HeldStatus | None:
    """Return the hold for the table; another reason begins anew, however long the plan has been held for others."""
    if hold is None or (before is not None and before.reason == hold.reason):
        return before if hold is not None else None
    return HeldStatus(reason=hold.reason, since=now)


def _conclude(context: Context, outcome: Outcome) -> Decision:
    """Derive the decision from an outcome: the conditions, the writes and their order."""
    plan = context.plan
    outcome = tell_changes(context, tell_audits(context, tell_refusals(context, tell_edits(context, outcome))))
    status, reason = _readable(recorded(context, outcome.status)), str(outcome.reason)
    message = _readable_text(outcome.message)
    if outcome.events:
        events = (replace(one, message=_readable_text(one.message)) for one in outcome.events)
        outcome = replace(outcome, events=tuple(events))
    # From the next block on: those of this decision had the length of before.
    blocks = next_length(plan.spec, status.blocks, context.seen.samples.scrape_seconds) if plan.has_spec else None
    concluded = status.evolve(
        blocks=blocks or status.blocks,
        observed_generation=plan.generation,
        attempt=status.attempt or plan.spec.attempt,
        step=progress(plan.spec, status.weight),
        since=status.since or context.time,
        eks=shift_text(status),
        held=_held(plan.status.held, outcome.hold, context.time),
        trouble=trouble(status.phase, outcome.hold),
        reason=reason,
        message=message,
        conditions=conditions(
            plan.status,
            phase=status.phase,
            hold=outcome.hold and replace(outcome.hold, message=message),
            reason=reason,
            message=message,
            unsupported=() if plan.unreadable else not_yet_supported(plan.spec),
            lengthened=lengthened(plan.spec, blocks) if plan.has_spec else "",
            generation=plan.generation,
            now=context.time,
        ),
    )
    return decision_of(plan, context.seen, outcome, concluded, context.now)


def _readable(status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Return the status with texts of checks that are safe to show, and short, as they may quote others.

    The texts of the ledger and of the gates are so from the beginning.
    """
    if not all(len(check.message) <= LONGEST_MESSAGE and is_plain(check.message) for check in status.preflight):
        checks = (
            CheckStatus(check=check.check, result=check.result, message=_readable_text(check.message))
            for check in status.preflight
        )
        status = status.evolve(preflight=tuple(checks))
    return status


def _readable_text(text: str) -> str:
    return plain(shorten(text, LONGEST_MESSAGE))
