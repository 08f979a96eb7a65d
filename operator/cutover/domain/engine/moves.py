"""Every change of weight or phase, with its line in the ledger and its Event.

Whether a move is right is decided by the phases. Each function takes the status before the move and returns the status
or the outcome after it.
"""

from __future__ import annotations

from enum import StrEnum

from cutover.api.opaque import Opaque
from cutover.api.v1alpha1 import BaselineStatus, Checkpoint, MigrationPlanStatus, Phase, ResolvedTemplate
from cutover.domain.decommission import checklist
from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.wanted import COMPARED
from cutover.domain.evidence.answers import UPGRADED
from cutover.domain.evidence.ingest import keep, load_evidence
from cutover.domain.evidence.judge import begin_step
from cutover.domain.journal.ledger import note
from cutover.domain.preflight.registry import warnings
from cutover.domain.slo.judge import begin_step_of_custom_slos


def begin_checkpoint(context: Context, status: MigrationPlanStatus, *, previous: int) -> Checkpoint:
    """Return a checkpoint that waits for a new weight. Evidence of harm stays; evidence of safety is earned anew.

    Parameters
    ----------
    previous
        Percent that the gateway may still have: the new weight is confirmed once it can be told from this one.
    """
    before = status.checkpoint
    return Checkpoint(
        at=context.now,
        weight_since=context.now,
        previous_weight=previous,
        consumed_until=max(
            before.consumed_until if before is not None else context.now, context.now - 2 * context.block_seconds
        ),
        evidence=keep(begin_step(load_evidence(before))) if before is not None else Opaque(),
        custom_slos=begin_step_of_custom_slos(before.custom_slos) if before is not None else (),
        pace=before.pace if before is not None else Opaque(),
    )


def at_weight(context: Context, status: MigrationPlanStatus, weight: int) -> MigrationPlanStatus:
    """Ask for a weight, and begin to wait until the gateway shows it."""
    return status.evolve(
        weight=weight,
        since=context.time,
        gate="",
        answers=None,
        evidence=None,
        estimate=None,
        checkpoint=begin_checkpoint(context, status, previous=status.weight or 0),
    )


def enter(context: Context, status: MigrationPlanStatus, phase: Phase) -> MigrationPlanStatus:
    """Begin a phase."""
    return status.evolve(phase=phase, since=context.time, decommission=())


def take_over(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Route the hosts' traffic, all of it to Heroku."""
    message = f"traffic of {context.hosts} is routed by the operator, all of it to Heroku"
    if warned_of := warnings(status.preflight):
        message = f"{message}; preflight warns: {warned_of}"
    ledger = note(status, "TakeOver", to=0, reason="PreflightPassed", message=message, now=context.time)
    taken = at_weight(context, status, 0).evolve(ledger=ledger, failed_takeover=None)
    return Outcome(taken, "TakingOver", message, events=(Event("Normal", "TakeOver", message),), requeue=1)


def begin_baseline(
    context: Context, status: MigrationPlanStatus, templates: tuple[ResolvedTemplate, ...]
) -> MigrationPlanStatus:
    """Begin to record Heroku's traffic, with the gate templates that are in force from now on."""
    before = status.baseline
    known = BaselineStatus(since=context.time)
    if before is not None:
        # A later attempt has no other takeover, and no other record of the time before.
        compared = before.takeover if before.takeover is not None and before.takeover.verdict in COMPARED else None
        known = known.evolve(record=before.record, takeover=compared)
    return enter(context, status, Phase.BASELINE).evolve(
        baseline=known,
        checkpoint=begin_checkpoint(context, status, previous=0),
        templates=templates,
    )


class AdvanceReason(StrEnum):
    """Why a step begins, as the ledger has it."""

    EVIDENCE_OF_SAFETY = "EvidenceOfSafety"
    BASELINE_RECORDED = "BaselineRecorded"
    """The first step: there is Heroku's record to compare with, and no evidence about EKS yet."""
    PROBES_OF_SAFETY = "ProbesOfSafety"
    """Pairs of probes proved EKS good enough, in place of users' requests, of which there were too few."""
    REQUESTED = "Requested"
    """A person asked for it in place of evidence."""


def advance(
    context: Context,
    status: MigrationPlanStatus,
    weight: int,
    reason: AdvanceReason,
    message: str,
    events: tuple[Event, ...],
    *,
    by: str,
) -> Outcome:
    """Go up to the next step.

    Parameters
    ----------
    events
        Events that come before that of the move.
    by
        Who approved it or asked for it; ``""`` for nobody.
    """
    ledger = note(status, "Advance", to=weight, reason=reason, message=message, by=by, now=context.time)
    moved = at_weight(context, status, weight).evolve(ledger=ledger)
    return Outcome(moved, "AwaitingShare", message, events=(*events, Event("Normal", "Advance", message)), requeue=1)


def forward(context: Context, status: MigrationPlanStatus, reason: str, message: str, *, by: str = "") -> Outcome:
    """Send all traffic to EKS, because Heroku is down: the one move up without evidence that the weight is safe."""
    text = f"{status.weight or 0} % → 100 %: {message}"
    ledger = note(status, "Forward", to=100, reason=reason, message=text, by=by, now=context.time)
    before = status.checkpoint
    moved = at_weight(context, status, 100)
    if before is not None and moved.checkpoint is not None:
        # Kept for the case that the raise never reaches the route and is withdrawn.
        kept = moved.checkpoint.evolve(
            forwarded=True, proven_at=before.proven_at, heroku_down_since=before.heroku_down_since
        )
        moved = moved.evolve(checkpoint=kept)
    event = Event("Warning", "Forward", text)
    return Outcome(moved.evolve(ledger=ledger), "AwaitingShare", text, events=(event,), requeue=1)


def lower(
    context: Context, status: MigrationPlanStatus, weight: int, message: str, void: dict[str, str] | None, *, by: str
) -> Outcome:
    """Go down to a lowered ceiling.

    Parameters
    ----------
    void
        Annotations, with their values, that are void from now on: they were given for the weight that is left.
    by
        Who edited the spec; ``""`` if that is unknown.
    """
    lowered = enter(context, at_weight(context, status, weight), Phase.SHIFTING).evolve(
        ledger=note(status, "Lower", to=weight, reason="Ceiling", message=message, by=by, now=context.time),
        approved=None,
        void=void,
    )
    return Outcome(lowered, "AwaitingShare", message, events=(Event("Normal", "Lower", message),), requeue=1)


def withdraw(context: Context, status: MigrationPlanStatus, weight: int, message: str) -> Outcome:
    """Take back a raise that never reached the route."""
    before, lowered = status.checkpoint, at_weight(context, status, weight)
    if before is not None and before.forwarded and lowered.checkpoint is not None:
        # The gateway has had this weight all the time.
        kept = lowered.checkpoint.evolve(proven_at=before.proven_at, heroku_down_since=before.heroku_down_since)
        lowered = lowered.evolve(checkpoint=kept)
    lowered = lowered.evolve(
        ledger=note(status, "Withdraw", to=weight, reason="NotWritten", message=message, now=context.time)
    )
    return Outcome(lowered, "Withdrawn", message, events=(Event("Normal", "Withdraw", message),), requeue=1)


def go_down_to(context: Context, status: MigrationPlanStatus, weight: int, message: str) -> Outcome:
    """Go down from a weight that the status asks for, but no decision led to."""
    ledger = note(status, "Withdraw", to=weight, reason="StatusDoubted", message=message, now=context.time)
    down = at_weight(context, status, weight).evolve(ledger=ledger)
    if weight > 0 or status.phase in (Phase.SOAKING, Phase.COMPLETED):
        down = enter(context, down, Phase.SHIFTING)
    return Outcome(down, "Withdrawn", message, events=(Event("Warning", "StatusDoubted", message),), requeue=1)


def complete(context: Context, status: MigrationPlanStatus, message: str) -> Outcome:
    """End the soak: all traffic stays on EKS, and is not judged any more."""
    ledger = note(status, "Complete", to=100, reason="SoakOver", message=message, now=context.time)
    # Heroku's API, DNS and the drain are asked from now on, and tell more.
    items = checklist(context.plan, None, (), None)
    done = enter(context, status, Phase.COMPLETED).evolve(ledger=ledger, gate="", decommission=items)
    return Outcome(done, "Completed", message, events=(Event("Normal", "Completed", message),), requeue=300)


def roll_back(
    context: Context,
    status: MigrationPlanStatus,
    reason: str,
    message: str,
    *,
    culprit: str | None = None,
    by: str = "",
) -> Outcome:
    """Send all traffic back to Heroku. The gates stay in the status, as the reason.

    Parameters
    ----------
    culprit
        The gate that caused the rollback, if a gate did.
    by
        Who asked for it; ``""`` for nobody.
    """
    text = f"{status.weight or 0} % → 0 %: {message}{_sockets(status)}"
    ledger = note(status, "RollBack", to=0, reason=reason, message=text, subject=culprit, by=by, now=context.time)
    back = enter(context, at_weight(context, status, 0), Phase.ROLLING_BACK).evolve(
        ledger=ledger, gate=status.gate, answers=status.answers, evidence=status.evidence
    )
    return Outcome(back, reason, text, events=(Event("Warning", "RollBack", text),), requeue=0.5)


def _sockets(status: MigrationPlanStatus) -> str:
    """Tell of upgraded connections, which no route moves: those that ended are counted, those that are open are not."""
    ended = load_evidence(status.checkpoint).codes[1].get(UPGRADED, 0.0) if status.checkpoint is not None else 0.0
    if not ended:
        return ""
    return f"; {ended:,.0f} WebSockets ended on EKS; open ones stay there"


def end_rollback(context: Context, status: MigrationPlanStatus, reason: str, cause: str) -> Outcome:
    """End the rollback: all traffic is on Heroku.

    Parameters
    ----------
    reason, cause
        What caused the rollback, in a word and in a sentence.
    """
    message = f"all traffic is on Heroku; {cause}"
    # The gates' numbers and queries are in the ledger entry of the rollback.
    without_gates = status.evolve(gates=())
    ledger = note(without_gates, "RolledBack", to=0, reason=reason, message=message, now=context.time)
    done = enter(context, status, Phase.ROLLED_BACK).evolve(ledger=ledger, gate="")
    return Outcome(done, reason, cause, events=(Event("Normal", "RolledBack", message),))


def retry(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Begin another attempt. Evidence is dropped: the last attempt's would end this one at once."""
    attempt = context.spec.attempt
    message = f"attempt {attempt} starts"
    fresh = status.evolve(
        attempt=attempt,
        gates=(),
        gate="",
        evidence=None,
        estimate=None,
        share=None,
        probes=None,
        checkpoint=None,
        templates=(),
        releases=None,
        approved=None,
        void=None,
    )
    ledger = note(fresh, "Retry", to=0, reason="AttemptRaised", message=message, now=context.time)
    anew = enter(context, at_weight(context, fresh, 0), Phase.PREFLIGHT).evolve(ledger=ledger)
    return Outcome(anew, "Preflight", message, events=(Event("Normal", "Retry", message),), requeue=0)
