"""Heroku is down: whether all users go to EKS, which no evidence of safety decides but a leg that is missing.

A person's command does it at once, and ``spec.onHerokuDown`` after a time; neither asks the calendar or for an approval.
Both need an EKS leg that answers well by itself, and neither exceeds the ceiling, passes a suspended plan or begins at 0 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from cutover.api.durations import span
from cutover.api.v1alpha1 import Checkpoint, DownAction, MigrationPlanStatus, Phase
from cutover.domain.commands.annotations import FORWARD_ANNOTATION, Command
from cutover.domain.engine import moves
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import blind, incapable, invalid
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.people import forwarding, refuse_forward
from cutover.domain.engine.way_back import (
    PROBE_LIFETIME_SECONDS,
    answers_too_little,
    heroku_answers,
    heroku_fails,
    probe_text,
)
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.evidence.judge import ALIVE_FRACTION, HARM_HOLD, Evidence
from cutover.domain.evidence.memory import recent_sum, unhealthy
from cutover.domain.evidence.mix import good_answers
from cutover.domain.preflight.capacity import capacity_for_all

#: Seconds by which the proof of safety must be older than Heroku's fault. Against a control that fails any leg looks good,
#: and a fault shows some blocks and probes after it began.
PROOF_LEAD_SECONDS = 60.0
#: Seconds for which a person's command waits for Heroku to fail where it still answers: the person may know first.
PATIENCE_SECONDS = 30.0
#: EKS requests by which its answers are judged like a leg's; with fewer none of them may fail.
JUDGED_REQUESTS, LEAST_REQUESTS = 10, 3


@dataclass(frozen=True, slots=True)
class Forwarding:
    """Whether all users go to EKS.

    Parameters
    ----------
    status
        The status, with a refused command.
    move
        The move to 100 %, if it is made now.
    waits
        Why it is asked for and not made yet, in words for the message of the hold; ``""`` if it is not asked for.
    """

    status: MigrationPlanStatus
    move: Outcome | None = None
    waits: str = ""


def watch_heroku(context: Context, checkpoint: Checkpoint, assessment: Assessment, weight: int) -> Checkpoint:
    """Note since when Heroku is down, and since when the gates have let the next step begin while it was not."""
    if not 0 < weight < 100:
        return checkpoint
    if _down(context, checkpoint, assessment, weight):
        since = checkpoint.heroku_down_since
        return checkpoint if since is not None else checkpoint.evolve(heroku_down_since=context.now)
    proven = checkpoint.proven_at
    if not assessment.safe:
        proven = None
    elif proven is None and heroku_answers(context):
        proven = context.now
    if (checkpoint.heroku_down_since, checkpoint.proven_at) == (None, proven):
        return checkpoint
    return checkpoint.evolve(heroku_down_since=None, proven_at=proven)


def forward(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment
) -> Forwarding:
    """Decide whether all users go to EKS because Heroku is down.

    Parameters
    ----------
    context
        The input of the decision.
    status
        The status with the newest checkpoint.
    checkpoint
        The checkpoint, from :func:`watch_heroku`.
    assessment
        What the gates say.
    """
    if status.phase is not Phase.SHIFTING or not 0 < (status.weight or 0) < 100:
        return Forwarding(status)
    if (command := forwarding(context, status)) is not None:
        return _commanded(context, status, checkpoint, assessment, command)
    if context.spec.on_heroku_down.action is DownAction.HOLD or checkpoint.heroku_down_since is None:
        return Forwarding(status)
    return _by_itself(context, status, checkpoint, assessment, checkpoint.heroku_down_since)


def _commanded(
    context: Context,
    status: MigrationPlanStatus,
    checkpoint: Checkpoint,
    assessment: Assessment,
    command: Command,
) -> Forwarding:
    """Obey a person's command at once, refuse it, or wait for what is not known yet."""
    asked = f"all traffic goes to EKS, asked for by the annotation {FORWARD_ANNOTATION} {command.who}"
    if hold := invalid(context) or incapable(context):
        return Forwarding(refuse_forward(context, status, f"{hold.reason}: {hold.message}"))
    down = _down(context, checkpoint, assessment, status.weight or 0) or _unanswered(context)
    if not down:
        since = checkpoint.forward_asked_at
        if since is None:
            since, status = context.now, status.evolve(checkpoint=checkpoint.evolve(forward_asked_at=context.now))
        if context.waited(since) < PATIENCE_SECONDS or not heroku_answers(context):
            return Forwarding(status, waits=f"{asked}, if Heroku is down; waiting for its probe to show that")
        why = "Heroku answers, and while it does only evidence moves weight up; when it is down give the command anew"
        status = status.evolve(checkpoint=checkpoint.evolve(forward_asked_at=None))
        return Forwarding(refuse_forward(context, status, why))
    well, said = _eks(context, checkpoint, assessment)
    if well is False:
        return Forwarding(refuse_forward(context, status, f"{said}: going there would not help users"))
    if well is None or context.seen.traffic is None:
        what = said if well is None else "the route cannot be read"
        return Forwarding(
            status, waits=f"{asked}, once EKS is known to answer well and the route can be read; so far: {what}"
        )
    message = f"asked for by the annotation {FORWARD_ANNOTATION} {command.who}; {down}; {said}"
    return Forwarding(status, moves.forward(context, status, "Requested", message, by=command.who))


def _by_itself(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment, since: float
) -> Forwarding:
    """Send all users to EKS as ``spec.onHerokuDown`` says, or tell what that waits for."""
    spec, weight = context.spec, status.weight or 0
    asked = "spec.onHerokuDown is Forward"

    def not_now(why: str) -> Forwarding:
        return Forwarding(status, waits=f"{asked}, but {why}")

    if hold := invalid(context) or incapable(context):
        return not_now(hold.message)
    if spec.suspend:
        return not_now("spec.suspend is set")
    if spec.ceiling < 100:
        return not_now(f"spec.ceiling is {spec.ceiling}")
    if not heroku_fails(context):
        # Others' requests to EKS make Heroku's share look too small. Without a person it takes the probe, too.
        return not_now("the probe of the Heroku leg does not fail")
    if checkpoint.proven_at is None or checkpoint.proven_at > since - PROOF_LEAD_SECONDS:
        return not_now(f"EKS had not been proven safe at {weight} % for a minute when Heroku went down")
    well, said = _eks(context, checkpoint, assessment)
    if not well:
        return not_now(said)
    capacity = capacity_for_all(context.plan, context.seen.capacity, weight)
    if not capacity.enough:
        return not_now(capacity.text)
    if context.seen.traffic is None:
        return not_now("the route cannot be read")
    # By what this process has watched: in a time that nobody watched Heroku may have been well.
    left = spec.on_heroku_down.after.total_seconds() - context.waited(since)
    if left > 0:
        return Forwarding(status, waits=f"{asked}: all traffic goes to EKS in {span(left)} if Heroku stays down")
    down = _down(context, checkpoint, assessment, weight)
    message = f"{asked}; Heroku has been down for {span(context.now - since)}: {down}; {said}; {capacity.text}"
    return Forwarding(status, moves.forward(context, status, "HerokuDown", message))


def _down(context: Context, checkpoint: Checkpoint, assessment: Assessment, weight: int) -> str:
    """Return in words that Heroku is down, by its probes or its users' requests; ``""`` if it is not."""
    probe, legs = context.seen.probe, assessment.legs
    if probe is not None and not probe.healthy and heroku_fails(context):
        return probe_text(context)
    evidence = load_evidence(checkpoint)
    # Without a judged block, what is known of its users' requests is from before the weight was set.
    if not evidence.total_seconds or _recovered(context, evidence, weight):
        return ""
    if answers_too_little(context, legs):
        return "Heroku answers far fewer requests than its weight"
    return "Heroku has answered no request for a minute" if legs.heroku_silent else ""


def _recovered(context: Context, evidence: Evidence, weight: int) -> bool:
    """Tell whether Heroku answers its probe and, in the newest blocks, its users: evidence that it is dead fades slower."""
    if not heroku_answers(context) or not evidence.recent:
        return False
    heroku, eks = evidence.recent[-1].heroku, evidence.recent[-1].eks
    expected = heroku.requests
    if context.rules.requests_drawn:
        expected = max(expected, eks.requests * (100 - weight) / weight)
    good = good_answers(evidence.reference)
    return 1 <= good.of(heroku) >= ALIVE_FRACTION * good.share * expected and not unhealthy(
        heroku, evidence, context.rules
    )


def _unanswered(context: Context) -> str:
    """Return in words that the newest probe failed; one failure is enough to tell a person, who has other sources."""
    probe = context.seen.probe
    return probe_text(context) if probe is not None and not probe.healthy else ""


def _eks(context: Context, checkpoint: Checkpoint, assessment: Assessment) -> tuple[bool | None, str]:
    """Return whether EKS answers well by its own counts and its newest probe, and that in words; ``None`` if unknown.

    Heroku is no measure here: it is what fails. A probe stands in for users where they are too few.
    """
    if hold := blind(context, checkpoint):
        return None, hold.message
    legs = assessment.legs
    if legs.harm >= HARM_HOLD:
        return False, f"evidence of harm is {legs.harm:.0f} of {legs.harm_limit:.0f}"
    evidence = load_evidence(checkpoint)
    if checkpoint.observed_at is not None:
        eks = recent_sum(evidence.recent)[1]
        when = "in the last minute"
    else:
        # The weight cannot show at the gateway while one leg answers nothing; the newest blocks do without it.
        eks = sum((block.eks for block in context.seen.samples.blocks if block.usable), Counts())
        when = "in the newest blocks"
    good = good_answers(evidence.reference)
    well = good.of(eks)
    said = f"EKS answered {well:,.0f} of {eks.requests:,.0f} requests well {when}"
    probe = context.seen.eks_probe
    asked = probe is not None and abs(context.now - probe.at) <= PROBE_LIFETIME_SECONDS
    if probe is not None and asked:
        said = f"{said}, and its probe {'well' if probe.healthy else f'with {probe.detail}'}"
        if not probe.healthy:
            return (False if probe.failures > 1 else None), said
    if eks.requests < LEAST_REQUESTS:
        return (True if asked else None), said
    if eks.requests < JUDGED_REQUESTS:
        return not eks.errors and well >= ALIVE_FRACTION * good.share * eks.requests, said
    return not unhealthy(eks, evidence, context.rules), said
