"""The Preflight phase: the checks before the takeover, the trial of both legs, and the takeover at weight 0.

In the trial the operator's probes have a route at the gateway, and users go as they went before. What would break for users,
such as a Service that nobody answers behind, breaks for the probes first.
"""

from __future__ import annotations

from dataclasses import replace

from cutover.api.durations import span
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase, RouteRecord
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held, too_early
from cutover.domain.engine.moves import begin_baseline, enter
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.phases.record import awaited_record, take_over_with_record
from cutover.domain.engine.phases.takeover import takeover_held, undo
from cutover.domain.engine.share_holds import SHARE_DEADLINE_SECONDS
from cutover.domain.engine.wanted import takeover_failed, trial_begun, undoable
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.preflight.registry import awaited, before_takeover, in_trial, passed, summary, unanswered
from cutover.domain.revision import desired_revision
from cutover.domain.traffic import Leg, TrafficState

#: Seconds between the write of the objects that a route refers to and the write of the route. A control plane that
#: debounces changes (Istio for at most 10 s, ``PILOT_DEBOUNCE_MAX``) would push both at once, and gateways answer 503 while
#: they know the route but not yet its destinations.
PREPARED_SECONDS = 10.0


def pending(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Start preflight, unless the plan is suspended."""
    if context.spec.suspend:
        message = "spec.suspend is set; set it to false to start"
        return held(context, status, Hold(HoldReason.SUSPENDED, message))
    return Outcome(enter(context, status, Phase.PREFLIGHT), "Preflight", "checking the target", requeue=0)


def preflight(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Check the target, try both legs before users have the route, take the traffic over at weight 0, and try again."""
    spec, seen, resolved = context.spec, context.seen, context.slos
    record = seen.record.record if seen.record is not None else None
    checks = before_takeover(
        context.plan,
        seen.inventory,
        resolved.gates,
        seen.slo_readings,
        seen.heroku,
        dns=seen.dns,
        dynos=seen.dynos,
        record=record,
    )
    status = status.evolve(preflight=checks)
    if takeover_failed(context.plan):
        return takeover_held(context, status)
    if undone := undo(context, status):
        return undone
    if not passed(checks):
        return _not_ready(context, status)
    if spec.suspend:
        message = "spec.suspend is set; set it to false to go on"
        return held(context, status, Hold(HoldReason.SUSPENDED, message))
    if status.weight is None:
        if unready := awaited_record(context, status):
            return unready
        if unready := _without_route(context, status):
            return unready
        if not seen.capabilities.tries:
            return take_over_with_record(context, status)
    tried = in_trial(
        context.plan,
        seen.inventory,
        {Leg.HEROKU: seen.probe, Leg.EKS: seen.eks_probe},
        asks_eks=seen.capabilities.probes_eks,
        revision=desired_revision(status),
        answers=seen.answers,
    )
    status = status.evolve(preflight=(*checks, *tried))
    if not passed(tried):
        # A Heroku that fails right after the takeover is answered by giving users their own route back.
        if (awaited(tried) or undoable(status)) and _young(context, status):
            return Outcome(status, "Trying" if status.weight is None else "TakingOver", summary(tried), requeue=1)
        return _failed(context, status, summary(tried), requeue=2)
    if status.weight is None:
        return take_over_with_record(context, status)
    if seen.traffic is None or not seen.traffic.current:
        # Heroku's answer proves the route; if that check is skipped, only this does.
        return Outcome(status, "TakingOver", "the route is being written", requeue=1)
    started = begin_baseline(context, status, resolved.resolved)
    return Outcome(started, "Recording", "recording Heroku's traffic at the gateway", requeue=0)


def _not_ready(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Hold until all checks pass; answers that come by themselves get some time first."""
    detail = "; ".join((summary(status.preflight), *context.seen.errors))
    if awaited(status.preflight) and too_early(context, status):
        return Outcome(status, "Preflight", detail, requeue=1)
    # An API server or a Prometheus that gave no answer may answer soon, without anything to mend.
    return _failed(context, status, detail, requeue=2 if unanswered(status.preflight) else 10)


def _without_route(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Wait until no other route has the hosts, the gateways know the destinations, and the probes have a route."""
    traffic = context.seen.traffic
    if traffic is None:  # needed even if all checks are skipped
        unread = "it could not be read whether an earlier plan has left a route"
        return _failed(context, status, "; ".join((unread, *context.seen.errors)), requeue=2)
    if there := traffic.weight:
        otherwise = f"a route sends {there} % elsewhere already, and the takeover would send it all to Heroku"
        return _failed(context, status, traffic.in_the_way or otherwise, requeue=10)
    prepared = context.seen.prepared_for
    left = PREPARED_SECONDS - (prepared or 0.0)
    if left > 0:
        message = f"the gateways receive the route's destinations; both legs are asked in {span(left)}"
        return Outcome(status, "Trying", message, requeue=left, prepare=prepared is None)
    if context.seen.capabilities.tries and not traffic.current:
        return _begin_trial(context, status, traffic)
    return None


def _begin_trial(context: Context, status: MigrationPlanStatus, traffic: TrafficState) -> Outcome:
    """Give the probes a route, again where somebody has taken it away."""
    if trial_begun(context.plan) and traffic.foreign and not too_early(context, status):
        editors = ", ".join(traffic.foreign)
        message = (
            f"{traffic.name}: the route of the operator's probes is taken out again by {editors}, which would take the"
            " users' route out too; make it leave the routes alone"
        )
        return replace(_failed(context, status, message, requeue=10), tries=True)
    message = "both legs are asked through the gateway, before users' requests follow the operator's route"
    before = status.route or RouteRecord()
    route = RouteRecord(name=before.name, originals=before.originals, trial=traffic.name)
    return Outcome(status.evolve(route=route), "Trying", message, requeue=1, tries=True)


def _young(context: Context, status: MigrationPlanStatus) -> bool:
    """Tell whether the route is so new that its first answers may still come."""
    traffic = context.seen.traffic
    written = traffic.written_at if traffic is not None and status.weight is None else None
    return too_early(context, status) if written is None else context.waited(written) < SHARE_DEADLINE_SECONDS


def _failed(context: Context, status: MigrationPlanStatus, detail: str, *, requeue: float) -> Outcome:
    return held(context, status, Hold(HoldReason.PREFLIGHT_FAILED, detail), requeue=requeue)
