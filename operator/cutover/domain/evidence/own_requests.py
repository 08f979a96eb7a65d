"""Takes the operator's own requests out of the counts: its probes of EKS go the users' way, and count as the users' there.

Each probe that the plan's route answered is one request of its class. It is taken out of the first block that ends
after the answer and has such a request; a scrape may bring it one block later. So no share, no pace and no ratio of the
users' requests has probes in it, but for a moment after a start, as probes of the process before are not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from cutover.domain.evidence.answers import Answer, answer_of
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.traffic import Probe

LATEST_SECONDS = 120.0
"""Seconds after which a probe that no block showed is given up: the gateway did not count it."""


class OwnRequest(NamedTuple):
    """One request that the metrics have, and users did not make.

    Parameters
    ----------
    at
        Unix seconds of its answer, by Prometheus' clock.
    code
        HTTP status of its answer.
    counts
        The request as a block has it.
    """

    at: float
    code: str
    counts: Counts


def own_request(probe: Probe, at: float, *, slow_ms: float | None, very_slow_ms: float | None) -> OwnRequest | None:
    """Return what the metrics have of an answered probe of EKS; ``None`` if they have nothing of it.

    Parameters
    ----------
    at
        Unix seconds of the answer.
    slow_ms, very_slow_ms
        The plan's thresholds in milliseconds; ``None`` if unknown or unused.
    """
    if not probe.status:
        return None
    code = str(probe.status)
    answer, milliseconds = answer_of(code, heroku=False), 1000.0 * probe.seconds
    counts = Counts(
        requests=1.0,
        errors=float(answer is Answer.ERROR),
        timed=1.0,
        slow=float(slow_ms is not None and milliseconds > slow_ms),
        very_slow=float(very_slow_ms is not None and milliseconds > very_slow_ms),
        refused=float(answer is Answer.REFUSED),
        redirected=float(answer is Answer.REDIRECTED),
        throttled=float(answer is Answer.THROTTLED),
    )
    return OwnRequest(at, code, counts)


def without_own_requests(
    blocks: Iterable[Block], own: Iterable[OwnRequest]
) -> tuple[tuple[Block, ...], tuple[OwnRequest, ...]]:
    """Return the blocks without the operator's own requests, and those that no block has shown yet.

    Parameters
    ----------
    blocks
        New blocks in the order of time.
    own
        In the order of the answers.
    """
    cleared, left = [], tuple(own)
    for block in blocks:
        eks, codes, waiting = block.eks, dict(block.eks_codes), []
        for one in left:
            if one.at > block.end:
                waiting.append(one)
            elif block.usable and (rest := _without(eks, one.counts)) is not None:
                eks = rest
                codes[one.code] = codes.get(one.code, 0.0) - 1.0
            elif block.end - one.at < LATEST_SECONDS and block.usable:
                waiting.append(one)
        left = tuple(waiting)
        left_codes = {code: number for code, number in codes.items() if number > 0}
        cleared.append(block if eks is block.eks else replace(block, eks=eks, eks_codes=left_codes))
    return tuple(cleared), left


def _without(counts: Counts, own: Counts) -> Counts | None:
    """Return counts without one request; ``None`` if they have none of its class."""
    requests = counts.requests - own.requests
    classes = {
        name: getattr(counts, name) - getattr(own, name) for name in ("errors", "refused", "redirected", "throttled")
    }
    if min(requests, *classes.values()) < 0 or sum(classes.values()) + counts.excepted > requests:
        return None
    # Durations are counted a moment later, and the operator's own clock differs from the proxy's.
    slow, very_slow = max(0.0, counts.slow - own.slow), max(0.0, counts.very_slow - own.very_slow)
    timed = max(counts.timed - own.timed, slow, very_slow)
    return counts._replace(requests=requests, timed=timed, slow=slow, very_slow=very_slow, **classes)
