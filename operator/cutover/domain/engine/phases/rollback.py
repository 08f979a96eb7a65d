"""The RollingBack phase: whether all traffic is on Heroku, and the cause of a rollback that only the route shows."""

from __future__ import annotations

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.engine.consume import consume_blocks, observed_share
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held, too_early
from cutover.domain.engine.moves import end_rollback, roll_back
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.people import commanded
from cutover.domain.engine.phases.judging import judge
from cutover.domain.engine.phases.rest import last_rollback
from cutover.domain.engine.route import when_written
from cutover.domain.evidence.confirmation import back_on_heroku
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.revision import rollback_revision

#: Seconds after a start in which a rollback that is already in the route may wait for its cause.
CAUSE_SECONDS = 30.0


def rolling_back(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Wait until the gateway confirms the rollback, by the revision of an answer or by the share."""
    checkpoint = consume_blocks(context, status)
    status = status.evolve(checkpoint=checkpoint, share=observed_share(checkpoint))
    probe, (reason, cause) = context.seen.probe, last_rollback(status)
    answered = (
        probe is not None
        and probe.revision == rollback_revision(status.attempt)
        and back_on_heroku(context.can, live_at=checkpoint.live_at, now=context.now)
    )
    if not answered and checkpoint.observed_at is None:
        message = f"waiting for 0 % to be seen at the gateway; {cause}"
        if too_early(context, status):
            return Outcome(status, "RollingBack", message, requeue=1)
        return held(context, status, Hold(HoldReason.SHARE_NOT_OBSERVED, message), requeue=1)
    return end_rollback(context, status, reason, cause)


def found_rolled_back(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Record a rollback that is already in the route, with its cause if the cause can still be found.

    Parameters
    ----------
    status
        The status, in the attempt that was rolled back.
    """
    # Usually it can be found: a command, or the evidence up to the write.
    again = commanded(context, status)
    if again is None and status.phase is not Phase.COMPLETED:
        again = judge(when_written(context), status)
    if again is not None and again.status.phase is Phase.ROLLING_BACK:
        return again
    samples = context.seen.samples
    young = 0 <= context.now - context.seen.since < CAUSE_SECONDS
    if not samples.blocks and not samples.error and young and status.phase is not Phase.COMPLETED:
        # The first blocks arrive after the first reconcile, and the traffic is already on Heroku.
        message = "the route is rolled back; reading what led to it"
        return Outcome(context.plan.status, "CatchingUp", message, requeue=1, route=False)
    return roll_back(context, status, "Resumed", "the route was rolled back before it could be written down")
