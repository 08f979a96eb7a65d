"""The length of a plan's blocks, which follows the scrape interval of the gateways.

A block needs a scrape of each gateway: one without any is unusable. So blocks are a whole number of scrape intervals,
or long beside one. The interval is seen in the samples, not configured: it is set elsewhere, by other people, and kinds of
installations differ (kube-prometheus-stack scrapes every 30 s, Istio's own samples every 15 s).

The length in force is in the status. So a restarted operator cuts the same blocks, and a new length begins with a
decision: no block of it is read before the blocks of the old one are consumed.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cutover.api.v1alpha1 import BlockStatus, MigrationPlanSpec, MigrationPlanStatus, format_duration

#: Shortest block that is chosen, in seconds. Shorter ones cost more and find nothing sooner: a cap is for 15 s.
LEAST_SECONDS = 5.0
#: Seconds between two scrapes, and of a block, until a scrape interval was seen.
UNSEEN_SECONDS = 15.0
#: Scrape intervals in a block above which it need not be a whole number of them.
_MANY_SCRAPES = 4
#: Longest multiple, in seconds, that is tried for a whole number of seconds.
_LONGEST_MULTIPLE = 60.0


class BlockLength(NamedTuple):
    """The length of a plan's blocks, and the scrape interval that it is for, in seconds."""

    seconds: int
    scrape_seconds: float


def in_force(spec: MigrationPlanSpec, status: MigrationPlanStatus) -> BlockLength:
    """Return the length of a plan's blocks now."""
    if status.blocks is not None:
        return BlockLength(status.blocks.seconds, status.blocks.scrape_seconds)
    named = spec.gates.block
    return BlockLength(round(UNSEEN_SECONDS if named is None else named.total_seconds()), UNSEEN_SECONDS)


def next_length(
    spec: MigrationPlanSpec, before: BlockStatus | None, seen_scrape_seconds: float | None
) -> BlockStatus | None:
    """Return the length that is in force from the next block on.

    Parameters
    ----------
    spec
        The plan's spec; the length that it names is the shortest that is used.
    before
        The length so far.
    seen_scrape_seconds
        Seconds between two scrapes of the plan's gateways, as seen now; ``None`` if they were not seen.
    """
    scrape = seen_scrape_seconds or (before.scrape_seconds if before is not None else None)
    if scrape is None:
        return None
    named = spec.gates.block
    seconds = block_length(scrape, LEAST_SECONDS if named is None else named.total_seconds())
    if before is not None and (before.scrape_seconds, before.seconds) == (scrape, seconds):
        return before
    return BlockStatus(scrape_seconds=scrape, seconds=seconds)


def block_length(scrape_seconds: float, least: float) -> int:
    """Return the shortest length of a block in whole seconds, at least ``least``, that suits a scrape interval.

    That is a whole number of intervals. Where no such number has whole seconds within a minute, or the block has many
    intervals anyway, the length is rounded up: its blocks then differ by a scrape.
    """
    if least >= _MANY_SCRAPES * scrape_seconds and least == round(least):
        return round(least)
    fewest = max(1, math.ceil(least / scrape_seconds - 1e-9))
    for count in range(fewest, max(fewest, math.floor(_LONGEST_MULTIPLE / scrape_seconds)) + 1):
        if abs(count * scrape_seconds - round(count * scrape_seconds)) < 1e-6:
            return round(count * scrape_seconds)
    return math.ceil(fewest * scrape_seconds)


def lengthened(spec: MigrationPlanSpec, blocks: BlockStatus | None) -> str:
    """Return the sentence that a plan names a length that its scrapes do not allow; ``""`` if they do."""
    named = spec.gates.block
    if named is None or blocks is None or blocks.seconds == named.total_seconds():
        return ""
    what = "shorter than" if named.total_seconds() < blocks.scrape_seconds else "not a multiple of"
    return (
        f"gates.block: {format_duration(named)} is {what} the time between two scrapes of the gateways,"
        f" {blocks.scrape_seconds:g} s, so blocks of {blocks.seconds} s are judged; write {blocks.seconds}s, leave the field"
        " out, or scrape the gateways more often"
    )
