"""Differences between the route in the cluster and the status.

The route may be rolled back already, not raised yet, or edited by another controller or by a person.
"""

from __future__ import annotations

from dataclasses import replace

from cutover.api.durations import span
from cutover.api.model import computed
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase, RouteRecord
from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held_raise
from cutover.domain.engine.moves import begin_checkpoint, go_down_to, withdraw
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.way_back import heroku_answers
from cutover.domain.engine.writes import raise_expires, raise_in_flight
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.ingest import keep, load_evidence
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.journal.ledger import led_to_weight, note_repair
from cutover.domain.revision import desired_revision, revision, rollback_revision
from cutover.domain.traffic import TrafficState


def rolled_back_attempt(context: Context, status: MigrationPlanStatus) -> int | None:
    """Return the attempt whose route was rolled back by a process that died before it wrote the status."""
    traffic = context.seen.traffic
    if traffic is None or status.phase not in (Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED):
        return None
    # That process may also have begun a raised attempt.
    attempts = range(status.attempt, max(status.attempt, context.spec.attempt) + 1)
    return next((attempt for attempt in attempts if traffic.revision == rollback_revision(attempt)), None)


def when_written(context: Context) -> Context:
    """Return the context as of the write of the route: later blocks belong to another weight."""
    seen = context.seen
    if seen.traffic is None or seen.traffic.written_at is None:
        return context
    until = seen.traffic.written_at + 1  # the API server leaves out the fraction of a second

    def blocks(known: tuple[Block, ...]) -> tuple[Block, ...]:
        return tuple(block for block in known if block.end <= until)

    slo_readings = {
        name: replace(
            reading,
            blocks=blocks(reading.blocks),
            points=tuple(point for point in reading.points if point[0] <= until),
        )
        for name, reading in seen.slo_readings.items()
    }
    samples = replace(seen.samples, blocks=blocks(seen.samples.blocks))
    written = replace(seen, samples=samples, slo_readings=slo_readings)
    return replace(context, seen=written, now=min(context.now, until))


def withdrawn(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Withdraw a raise that never reached the route, once its evidence is too old or a hold applies."""
    checkpoint, traffic, weight = status.checkpoint, context.seen.traffic, status.weight or 0
    if checkpoint is None or not raise_in_flight(status, traffic):
        return None
    before = checkpoint.previous_weight
    if hold := held_raise(context, status, before):
        why = f"{hold.reason}: {hold.message}"
    elif checkpoint.forwarded and heroku_answers(context):
        why = "Heroku answers again"
    elif context.now > raise_expires(status, traffic, context.now):
        why = f"the evidence is {span(context.now - checkpoint.weight_since)} old"
    else:
        return None
    message = f"{weight} % → {before} %: {weight} % could not be written to the route, and now {why}"
    return withdraw(context, status, before, message)


#: Phases in which all traffic is on Heroku, and on EKS.
_ON_HEROKU = (Phase.PREFLIGHT, Phase.BASELINE, Phase.ROLLING_BACK, Phase.ROLLED_BACK)
_ON_EKS = (Phase.SOAKING, Phase.COMPLETED)


def doubted(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Go down where the status asks for a higher weight than its phase, its ledger, its checkpoint and the route support.

    A status that somebody edited must not send more users to EKS; it may send fewer.
    """
    traffic, weight = context.seen.traffic, status.weight or 0
    if weight > 0 and status.phase in _ON_HEROKU:
        message = f"{weight} % → 0 %: the status asks for {weight} %, but in phase {status.phase} EKS gets no requests"
        return go_down_to(context, status, 0, message)
    if weight < 100 and status.phase in _ON_EKS:
        message = f"{weight} %: the status asks for {weight} %, but phase {status.phase} needs 100 %; back to Shifting, where it is judged"
        return go_down_to(context, status, weight, message)
    if traffic is None or traffic.weight is None or traffic.weight >= weight or _was_decided(status, traffic):
        return None
    message = (
        f"{weight} % → {traffic.weight} %: the status asks for {weight} %, which no decision in its ledger led to, and"
        f" the route is at {traffic.weight} %; did somebody edit the status?"
    )
    return go_down_to(context, status, traffic.weight, message)


def _was_decided(status: MigrationPlanStatus, traffic: TrafficState) -> bool:
    """Tell whether ledger and checkpoint support a weight that is higher than the route's."""
    checkpoint = status.checkpoint
    if checkpoint is None or not led_to_weight(status):
        return False
    # The operator's own route of a lower weight is that of the step before. Other routes were edited, and are put back.
    before = traffic.weight or 0
    own = not traffic.foreign and traffic.revision == revision(status.attempt, before)
    return not own or checkpoint.previous_weight == before


def put_back(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Put a foreign edit of the weights back; the gateway then has to show the weight again."""
    traffic = context.seen.traffic
    gone = traffic is not None and traffic.weight is None
    if traffic is None or traffic.current or not (traffic.foreign or gone):
        return None
    weight = status.weight or 0
    if (traffic.weight, traffic.revision) == (weight, desired_revision(status)):
        return None
    who = f"edited by {', '.join(traffic.foreign)}" if traffic.foreign else "deleted or made unreadable"
    seen = "no readable weight" if gone else f"{traffic.weight} % to EKS"
    message, subject = f"the route was {who} ({seen}); put back to {weight} %", f"{who}: {seen}"
    previous = weight if traffic.weight is None else traffic.weight
    reason = HoldReason.DRIFT_DETECTED
    forwarded = status.checkpoint is not None and status.checkpoint.forwarded
    repaired = status.evolve(
        checkpoint=begin_checkpoint(context, status, previous=previous).evolve(forwarded=forwarded),
        ledger=note_repair(status, reason=reason, message=message, subject=subject, now=context.time),
    )
    events = (Event("Warning", reason, message),)
    return Outcome(repaired, reason, message, hold=Hold(reason, message), events=events, requeue=1)


def repaired(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Record a foreign edit that left the weights alone: it is put back, and the judging goes on.

    A tool that repeats such an edit must not keep a plan from rolling back. Evidence of safety is dropped.
    """
    traffic, checkpoint = context.seen.traffic, status.checkpoint
    if traffic is None or traffic.current or not traffic.foreign or checkpoint is None:
        return status
    editors = ", ".join(traffic.foreign)
    message = f"the route was edited by {editors} (not its weights); put back"
    evidence = load_evidence(checkpoint)._replace(safety={}, safety_money=1.0)
    return status.evolve(
        checkpoint=checkpoint.evolve(evidence=keep(evidence)),
        ledger=note_repair(
            status, reason=HoldReason.DRIFT_DETECTED, message=message, subject=editors, now=context.time
        ),
    )


def recorded(context: Context, status: MigrationPlanStatus) -> MigrationPlanStatus:
    """Record the route that the operator has written, as edits may remove all marks from the route itself.

    It is recorded once it has been seen as the operator writes it: an object that was never the plan's is never recorded.
    Digests of the original routes are recorded before these are written.
    """
    traffic, before = context.seen.traffic, status.route or RouteRecord()
    if traffic is None:
        return status
    if status.weight is None:
        # A trial ends where the edited spec names another object.
        moved = before.trial not in ("", traffic.name)
        return status.evolve(route=RouteRecord(name=before.name, originals=before.originals)) if moved else status
    written = context.plan.status.weight is not None and traffic.current and traffic.weight is not None
    taking_over = context.plan.status.weight is None
    confirmed = status.checkpoint is not None and status.checkpoint.observed_at is not None
    after = computed(
        RouteRecord,
        name=traffic.name if written else before.name,
        originals=traffic.originals,
        undoable=traffic.gives_back if taking_over else before.undoable and not confirmed,
    )
    return status if after == before else status.evolve(route=after)


def tell_edits(context: Context, outcome: Outcome) -> Outcome:
    """Add an Event for a foreign edit that is put back in a phase that does not wait for the weight."""
    traffic = context.seen.traffic
    known = outcome.reason == HoldReason.DRIFT_DETECTED
    if known or outcome.status.weight is None or traffic is None or traffic.current or not traffic.foreign:
        return outcome
    message = f"the route was edited by {', '.join(traffic.foreign)}; put back to {outcome.status.weight} %"
    event = Event("Warning", HoldReason.DRIFT_DETECTED, message)
    return replace(outcome, events=(*outcome.events, event))
