"""The judge's memory of blocks: the step's counts, the last minute, Heroku's silence, and the reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.metrics import counts_of, ratio, reference_of
from cutover.domain.evidence.mix import UNKNOWN_GOOD, add_codes, good_answers, hardly_good
from cutover.domain.evidence.rules import GateRules, MetricName
from cutover.domain.evidence.state import Evidence, Recent

RECENT_SECONDS, RECENT_BIN_SECONDS = 45.0, 15.0
"""The recent window and its slots, in seconds: with the current slot it is a minute at most."""
SICK_RATIO, SICK_FACTOR, SICK_REQUESTS = 0.05, 5.0, 10.0
"""A leg is unhealthy above this fraction and this many times the reference, with at least this many requests."""


def remember(evidence: Evidence, block: Block, *, rules: GateRules, weight: float) -> Evidence:
    """Add a block to the step's counts, the recent window, Heroku's silence and the reference."""
    heroku, eks, seconds = block.heroku, block.eks, block.end - block.start
    kept, left = _slide(evidence.recent, block)
    reference = evidence.reference
    # The reference grows by slots that have left the recent window, and only if Heroku was healthy in it. Grown by each
    # new block, the first seconds of an incident, too few to show, would make the rest of the incident look normal.
    # A custom SLO's ratio can have any value while all is well, so it has no such check.
    if not (rules.legs and unhealthy(recent_sum((*left, *kept))[0], evidence, rules)):
        for slot in left:
            reference += slot.heroku
    evidence = evidence._replace(
        total=(evidence.total[0] + heroku, evidence.total[1] + eks),
        total_seconds=evidence.total_seconds + seconds,
        blocks=evidence.blocks + 1,
        empty=evidence.empty + (block.requests == 0),
        recent=kept,
        reference=reference,
        codes=(add_codes(evidence.codes[0], block.heroku_codes), add_codes(evidence.codes[1], block.eks_codes)),
    )
    if weight >= 100 or not rules.legs:
        return evidence
    if heroku.requests > 0:
        return evidence._replace(silent_seconds=0.0, silent_expected=0.0)
    return evidence._replace(
        silent_seconds=evidence.silent_seconds + seconds,
        silent_expected=evidence.silent_expected + eks.requests * (100.0 - weight) / weight,
    )


def _slide(recent: tuple[Recent, ...], block: Block) -> tuple[tuple[Recent, ...], tuple[Recent, ...]]:
    """Return the slots of the recent window with one more block, and the slots that have left it."""
    slot = math.floor(block.start / RECENT_BIN_SECONDS)
    heroku, eks = block.heroku, block.eks
    # Slots, not decaying sums: an incident of any size has left them after at most a minute.
    horizon = block.end - RECENT_SECONDS
    kept = [r for r in recent if (r.slot + 1) * RECENT_BIN_SECONDS > horizon and r.slot <= slot]
    left = tuple(r for r in recent if (r.slot + 1) * RECENT_BIN_SECONDS <= horizon)
    if kept and kept[-1].slot == slot:
        last = kept.pop()
        heroku, eks = last.heroku + heroku, last.eks + eks
    return (*kept, Recent(slot, heroku, eks)), left


def recent_sum(recent: Sequence[Recent]) -> tuple[Counts, Counts]:
    """Return the counts of Heroku and of EKS in the recent window."""
    heroku = eks = Counts()
    for r in recent:
        heroku, eks = heroku + r.heroku, eks + r.eks
    return heroku, eks


def both_unhealthy(recent: tuple[Counts, Counts], evidence: Evidence, rules: GateRules) -> bool:
    """Tell whether both legs lately answer far worse than Heroku did while it was healthy.

    Parameters
    ----------
    recent
        The counts of both legs in the recent window, from :func:`recent_sum`.
    evidence
        The judge's state.
    rules
        The plan's rules.
    """
    return all(unhealthy(leg, evidence, rules) for leg in recent)


def unhealthy(counts: Counts, evidence: Evidence, rules: GateRules) -> bool:
    """Tell whether a leg's requests fail or are very slow far more often than Heroku's did while it was healthy.

    Where the plan judges the mix of answers, a leg that hardly gives a good answer any more is unhealthy as well: learned
    as what is normal, a Heroku that refuses everybody would make an EKS that answers look worse.
    """
    names: tuple[MetricName, ...] = ("errors", "verySlow")
    for name in names:
        bad, total = counts_of(counts, name)
        limit = max(SICK_RATIO, SICK_FACTOR * ratio(*reference_of(evidence, name)))
        if total >= SICK_REQUESTS and bad > limit * total:
            return True
    if not rules.same_answers or counts.requests < SICK_REQUESTS:
        return False
    good = good_answers(evidence.reference)
    return good is not UNKNOWN_GOOD and hardly_good(counts, good)
