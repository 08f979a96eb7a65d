"""Whether a weight that was written is in force. What was only written is never believed.

It depends on what the traffic provider can do:

======================  ==============================================================================================
It can …                A weight is in force when …
======================  ==============================================================================================
confirm a share         the requests show it (:mod:`cutover.domain.evidence.share`); or EKS answers none of them, and a
                        probe was answered with the weight's revision
stamp a revision only   a probe was answered with the weight's revision, the time that a rollback takes has passed since,
                        and some requests have come
neither                 it is never known: nothing moves, see :func:`missing_capabilities`
======================  ==============================================================================================
"""

from __future__ import annotations

from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.share import LEAST_REQUESTS, Pool, eks_silent, fits, pool
from cutover.domain.traffic import Capabilities


def missing_capabilities(can: Capabilities) -> str:
    """Say for want of what no weight may be raised with a provider; ``""`` where it has what is needed."""
    missing = []
    if not can.common_vantage:
        missing.append("does not count both legs in one place, so that they cannot be compared")
    if not can.probes_leg:
        missing.append("cannot send a request to Heroku by the plan's route, so that the way back cannot be tried")
    if not (can.confirms_share or (can.stamps_revision and can.probes_leg)):
        missing.append(
            "shows neither the share of the requests on EKS nor the revision of the route that answers, so that a weight "
            "is never known to be in force"
        )
    if not missing:
        return ""
    return f"the traffic provider ({can.provider}) {'; it '.join(missing)}: choose another one in spec.traffic"


def collect(
    can: Capabilities, before: Pool, block: Block, *, weight: int, previous: int, live_at: float | None
) -> Pool:
    """Add a block's requests to those by which a weight is confirmed.

    Parameters
    ----------
    can
        What the provider can do.
    before
        The requests so far.
    block
        Wholly after the weight was decided.
    weight, previous
        Percent of requests on EKS: as decided, and before that.
    live_at
        Unix seconds at which a probe was answered with the weight's revision; ``None`` if none was.
    """
    if can.confirms_share:
        # The block before this one began after the answer, so that its silence is not the previous weight's.
        live = live_at is not None and live_at <= 2 * block.start - block.end
        return pool(before, block, weight=weight, previous=previous, live=live)
    if not block.usable or not _answered(can, block, live_at):
        return before
    return Pool(before.eks + block.eks.requests, before.total + block.requests)


def confirmed(
    can: Capabilities, pooled: Pool, block: Block, *, weight: int, previous: int, live_at: float | None
) -> bool:
    """Tell whether a weight is in force at the end of a block; the parameters as for :func:`collect`."""
    answered = _answered(can, block, live_at)
    if can.confirms_share:
        return fits(pooled, weight=weight, previous=previous) or (answered and eks_silent(pooled, weight=weight))
    return answered and pooled.total >= LEAST_REQUESTS


def back_on_heroku(can: Capabilities, *, live_at: float | None, now: float) -> bool:
    """Tell whether an answer with the rollback's revision shows that all requests go to Heroku.

    Parameters
    ----------
    can
        What the provider can do.
    live_at
        Unix seconds at which a probe was answered with that revision; ``None`` if none was.
    now
        Unix seconds.
    """
    return can.stamps_revision and live_at is not None and now - live_at >= _settling(can)


def _answered(can: Capabilities, block: Block, live_at: float | None) -> bool:
    """Tell whether the whole block came after a probe was answered with the weight's revision."""
    return can.stamps_revision and live_at is not None and live_at + _settling(can) <= block.start


def _settling(can: Capabilities) -> float:
    """Return the seconds after which one answer speaks for all requests; where the share is seen, that does."""
    return 0.0 if can.confirms_share else can.rollback_seconds
