"""Holds for a share of requests that does not fit the weight: not seen yet, too small or too large."""

from __future__ import annotations

from cutover.api.durations import span
from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus
from cutover.domain.engine.context import Context
from cutover.domain.evidence.share import LEAST_REQUESTS, Pool, fits_weight
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.preflight import registry
from cutover.domain.revision import desired_revision

#: Seconds (or eight blocks, if longer) after which a weight that cannot be seen at the gateway is a hold.
SHARE_DEADLINE_SECONDS = 120.0


def unseen(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint) -> Hold | None:
    """Return the hold for a weight that the gateway has not shown for too long.

    Until then the hold for an edit of the route that was put back stays.
    """
    can = context.can
    deadline = max(SHARE_DEADLINE_SECONDS, 8 * context.block_seconds, 2 * can.rollback_seconds)
    if context.waited(checkpoint.weight_since) < deadline:
        return Hold(HoldReason.DRIFT_DETECTED, status.message) if status.reason == HoldReason.DRIFT_DETECTED else None
    pooled, probe, wanted = Pool(*checkpoint.share_pool), context.seen.probe, desired_revision(status)
    since = f"{status.weight or 0} % was set {span(context.now - checkpoint.weight_since)} ago"
    elsewhere = probe is not None and probe.revision not in ("", wanted)
    if pooled.total < LEAST_REQUESTS and not elsewhere:
        return Hold(
            HoldReason.INSUFFICIENT_TRAFFIC,
            f"{since}, and {pooled.total:.0f} requests are too few to see it at the gateway; it goes on with more "
            "traffic",
        )
    if crowd := crowded(context, status, pooled):
        return Hold(HoldReason.SHARE_NOT_OBSERVED, crowd)
    # A rollback that is not proven yet stays an alarm.
    if status.weight and not elsewhere and fits_weight(pooled, status.weight):
        return Hold(
            HoldReason.INSUFFICIENT_TRAFFIC,
            f"{since}, and EKS is seen with {pooled.percent:.1f} % of {pooled.total:,.0f} requests: that fits, but they are "
            f"too few to tell {status.weight} % from the {checkpoint.previous_weight} % before; it goes on with more traffic",
        )
    seen = f"{pooled.percent:.1f} % of {pooled.total:,.0f} requests" if pooled.percent is not None else "no requests"
    route = probe.revision or probe.detail if probe is not None else "unknown"
    return Hold(
        HoldReason.SHARE_NOT_OBSERVED,
        f"{since}, but EKS is seen with {seen}; the gateway's route is {route} (wanted: {wanted})"
        + (f"; see {can.where_to_look}" if can.where_to_look else ""),
    )


def share_off(context: Context, status: MigrationPlanStatus) -> Hold:
    """Return the hold for a step in which EKS gets fewer requests than its weight, and answers those that it gets."""
    can = context.can
    seen = f"{status.share.observed:g} %" if status.share is not None else "less"
    return Hold(
        HoldReason.SHARE_NOT_OBSERVED,
        f"EKS gets {seen} of this step's requests instead of {status.weight or 0} %, and answers those that it gets: is the "
        "route in force at every gateway, or do requests last for minutes? It goes on once the whole share is seen"
        + (f"; see {can.where_to_look}" if can.where_to_look else ""),
    )


def share_over(context: Context, status: MigrationPlanStatus) -> Hold:
    """Return the hold for a step in which EKS has got more requests than its weight explains, while Heroku answers."""
    seen = f"{status.share.observed:g} %" if status.share is not None else "more"
    return Hold(
        HoldReason.SHARE_NOT_OBSERVED,
        f"EKS has got {seen} of this step's requests although its weight is {status.weight or 0}: {_who_else(context)}; or"
        " Heroku did not answer for a while. It goes on once the share of the whole step fits",
    )


def _who_else(context: Context) -> str:
    """Return who sends requests to the legs beside the plan's route, as far as it is known, and what to do."""
    if named := registry.neighbours(context.plan, context.seen.neighbours):
        return named
    return (
        f"other routes or clients send to {context.spec.eks.service.name}.{context.plan.namespace} through the same gateway,"
        " and the gates cannot tell them apart; have them use a second Service with the same selector"
    )


def crowded(context: Context, status: MigrationPlanStatus, pooled: Pool) -> str:
    """Return the sentence that EKS gets more requests than its weight explains; ``""`` if it does not, or nobody knows.

    The pool begins anew with each block that does not speak for the weight, so it has the requests of about one block.
    """
    weight, probe = status.weight or 0, context.seen.probe
    if pooled.percent is None or pooled.percent <= weight or fits_weight(pooled, weight):
        return ""
    if weight and not context.rules.requests_drawn:
        return ""  # a few users may make many of the requests
    if weight and (probe is None or probe.revision != desired_revision(status)):
        return ""  # the gateway may have another weight
    rate = pooled.eks / context.block_seconds
    got = f"EKS gets {rate:.1f} requests/s" + (f", {pooled.percent:.1f} % of all," if weight else "")
    return f"{got} although its weight is {weight}: {_who_else(context)}"
