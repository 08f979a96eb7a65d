"""What the pairs say now."""

from __future__ import annotations

from enum import StrEnum

from cutover.domain.evidence.pairs import Pairs

IN_A_ROW = 6
"""Pairs in a row that must speak against EKS."""

FRESH_SECONDS = 60.0
"""Seconds after which the newest pair says nothing about now."""

FAILS = 2
"""Unhealthy answers in a row with which a leg counts as failing; a single one is noise."""

SHORTEST_OUTAGE, LONGEST_OUTAGE = 12.0, 25.0
"""Seconds that an outage of EKS alone must last at least, with short and with long blocks. Most restarts are shorter."""


class ProbeKey(StrEnum):
    """What the pairs say now."""

    UNKNOWN = "Unknown"
    """There is no young pair."""
    ALIKE = "Alike"
    """Nothing speaks against a leg."""
    UNSURE = "Unsure"
    """Some pairs speak against EKS, not yet enough of them."""
    EKS_WORSE = "EksWorse"
    """Enough pairs speak against EKS, and Heroku answers."""
    HEROKU_FAILS = "HerokuFails"
    """Heroku does not answer, EKS does."""
    BOTH_FAIL = "BothFail"
    """Neither leg answers."""


def probe_key(pairs: Pairs, now: float, *, limit: float, block_seconds: float) -> ProbeKey:
    """Return what a plan's pairs say.

    Parameters
    ----------
    pairs
        What is known from them.
    now
        Unix seconds.
    limit
        Evidence of harm at which EKS counts as worse, ``1/alpha``.
    block_seconds
        Length of the plan's blocks.
    """
    last = pairs.last
    if last is None or abs(now - last.done) > FRESH_SECONDS:
        return ProbeKey.UNKNOWN
    if pairs.both_row >= FAILS:
        return ProbeKey.BOTH_FAIL
    if pairs.heroku_row >= FAILS:
        return ProbeKey.HEROKU_FAILS
    # The newest pair of a leg that is only worse may be good; but not all of a minute.
    proven = pairs.harm >= limit and now - pairs.against_at <= FRESH_SECONDS
    if pairs.heroku_row == 0 and (proven or in_a_row(pairs, block_seconds)):
        return ProbeKey.EKS_WORSE
    return ProbeKey.UNSURE if pairs.row else ProbeKey.ALIKE


def in_a_row(pairs: Pairs, block_seconds: float) -> bool:
    """Tell whether an outage of EKS alone is long enough, by pairs in a row."""
    return (
        pairs.last is not None
        and pairs.row >= IN_A_ROW
        and pairs.last.done - pairs.row_since >= outage_seconds(block_seconds)
    )


def outage_seconds(block_seconds: float) -> float:
    """Return the seconds for which pairs in a row must speak against EKS.

    A plan with short blocks wants to roll back soon; with long blocks, the metrics take longer than this anyway.
    """
    return min(max(2.0 * block_seconds, SHORTEST_OUTAGE), LONGEST_OUTAGE)
