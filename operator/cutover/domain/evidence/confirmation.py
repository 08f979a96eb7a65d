"""Whether a weight is in force at the gateway. That it was written proves nothing.

The proof depends on what the traffic provider can do:

======================  ==============================================================================================
It can …                A weight is in force when …
======================  ==============================================================================================
confirm a share         the requests show it (:mod:`cutover.domain.evidence.share`); or EKS answers none of them, and a
                        probe was answered with the weight's revision
stamp a revision only   a probe was answered with the weight's revision, the time that a rollback takes has passed since,
                        and some requests have come
neither                 this is never known: nothing moves, see :func:`missing_capabilities`
======================  ==============================================================================================
"""

from __future__ import annotations

from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.share import LEAST_REQUESTS, Pool, eks_silent, fits, pool
from cutover.domain.traffic import Capabilities


def missing_capabilities(can: Capabilities) -> str:
    """Return which capabilities a provider lacks for raising a weight; ``""`` if it has all of them."""
    missing = []
    if not can.common_vantage:
        missing.append("does not count both legs in one place, so that they cannot be compared")
    if not can.probes_leg:
        missing.append(
            "cannot send a request to Heroku through the plan's route, so that the way back cannot be tried"
        )
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
    """Add a block's requests to the pool that confirms a weight.

    Parameters
    ----------
    can
        What the provider can do.
    before
        The pool so far.
    block
        A block that lies wholly after the decision on the weight.
    weight, previous
        Percent of requests to EKS: as decided, and before the decision.
    live_at
        Unix seconds at which a probe first returned the weight's revision; ``None`` if no probe did.
    """
    if can.confirms_share:
        # The block before this one began after that probe, so its silence does not come from the previous weight.
        live = live_at is not None and live_at <= 2 * block.start - block.end
        return pool(before, block, weight=weight, previous=previous, live=live)
    if not block.usable or not _answered(can, block, live_at):
        return before
    return Pool(before.eks + block.eks.requests, before.total + block.requests)


def confirmed(
    can: Capabilities, pooled: Pool, block: Block, *, weight: int, previous: int, live_at: float | None
) -> bool:
    """Tell whether a weight is in force at the end of a block; parameters as for :func:`collect`."""
    answered = _answered(can, block, live_at)
    if can.confirms_share:
        return fits(pooled, weight=weight, previous=previous) or (answered and eks_silent(pooled, weight=weight))
    return answered and pooled.total >= LEAST_REQUESTS


def back_on_heroku(can: Capabilities, *, live_at: float | None, now: float) -> bool:
    """Tell whether a probe with the rollback's revision proves that all requests go to Heroku.

    Parameters
    ----------
    can
        What the provider can do.
    live_at
        Unix seconds at which a probe first returned that revision; ``None`` if no probe did.
    now
        Unix seconds.
    """
    return can.stamps_revision and live_at is not None and now - live_at >= _settling(can)


def _answered(can: Capabilities, block: Block, live_at: float | None) -> bool:
    """Tell whether the whole block lies after a probe that returned the weight's revision."""
    return can.stamps_revision and live_at is not None and live_at + _settling(can) <= block.start


def _settling(can: Capabilities) -> float:
    """Return the seconds after which one probe speaks for all requests; 0 if the share confirms them."""
    return 0.0 if can.confirms_share else can.rollback_seconds
