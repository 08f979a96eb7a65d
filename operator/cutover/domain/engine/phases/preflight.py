"""The Preflight phase: the checks before the takeover, the takeover at weight 0, and the checks after it."""

from __future__ import annotations

from cutover.api.durations import span
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held, too_early
from cutover.domain.engine.moves import begin_baseline, enter, take_over
from cutover.domain.engine.outcome import Outcome
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.preflight.registry import after_takeover, awaited, before_takeover, passed, summary, unanswered
from cutover.domain.revision import desired_revision

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
    """Check the target, take the traffic over at weight 0, and check that Heroku answers through the gateway."""
    spec, seen, resolved = context.spec, context.seen, context.resolve()
    checks = before_takeover(context.plan, seen.inventory, resolved.gates, seen.slo_readings)
    status = status.evolve(preflight=checks)
    if not passed(checks):
        return _not_ready(context, status)
    if spec.suspend:
        message = "spec.suspend is set; set it to false to go on"
        return held(context, status, Hold(HoldReason.SUSPENDED, message))
    if status.weight is None:
        return _before_takeover(context, status)
    after = after_takeover(context.plan, seen.inventory, seen.probe, desired_revision(status))
    status = status.evolve(preflight=(*checks, *after))
    if not passed(after):
        if awaited(after) and too_early(context, status):
            return Outcome(status, "TakingOver", summary(after), requeue=1)
        return _failed(context, status, summary(after), requeue=2)
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


def _before_takeover(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Take over once no other route has the hosts, and the gateways know the destinations."""
    traffic = context.seen.traffic
    if traffic is None:  # needed even if all checks are skipped
        unread = "whether a route of an earlier plan is there could not be read"
        return _failed(context, status, "; ".join((unread, *context.seen.errors)), requeue=2)
    if there := traffic.weight:
        otherwise = f"a route sends {there} % elsewhere already, and the takeover would send it all to Heroku"
        return _failed(context, status, traffic.in_the_way or otherwise, requeue=10)
    prepared = context.seen.prepared_for
    left = PREPARED_SECONDS - (prepared or 0.0)
    if left > 0:
        message = f"the gateways receive the route's destinations; the takeover is in {span(left)}"
        return Outcome(status, "TakingOver", message, requeue=left, prepare=prepared is None)
    return take_over(context, status)


def _failed(context: Context, status: MigrationPlanStatus, detail: str, *, requeue: float) -> Outcome:
    return held(context, status, Hold(HoldReason.PREFLIGHT_FAILED, detail), requeue=requeue)
