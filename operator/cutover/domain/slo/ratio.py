"""Blocks of a custom SLO's ratio, from the counts of its four queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cutover.domain.evidence.blocks import Block, Counts

_LEGS = ("Heroku", "EKS")


class Count(NamedTuple):
    """The count of one query in one block, or why it is unknown."""

    value: float
    gap: str = ""


def block_length(block_seconds: int, scrape_interval: float) -> int:
    """Return the seconds of a ratio's block: a multiple of the plan's block, and at least a scrape interval."""
    return math.ceil(scrape_interval / block_seconds) * block_seconds


def query_names(*, good: bool) -> tuple[str, str, str, str]:
    """Return the names of a ratio's four queries for messages, in the order of ``CustomSlo.queries``."""
    events = "good" if good else "bad"
    return f"{events} of Heroku", "total of Heroku", f"{events} of EKS", "total of EKS"


def blocks_of(columns: Sequence[Sequence[Count]], *, good: bool, start: float, length: int) -> list[Block]:
    """Combine the counts of the four queries into blocks.

    Parameters
    ----------
    columns
        Counts of each query, in the order of ``CustomSlo.queries``.
    good
        Whether the first query of each leg counts good events.
    start
        Unix seconds at which the first block begins.
    length
        Seconds of a block.
    """
    names = query_names(good=good)
    blocks = []
    for number, counts in enumerate(zip(*columns, strict=True)):
        opens, closes = start + number * length, start + (number + 1) * length
        gap = next((f"{name}: {count.gap}" for name, count in zip(names, counts, strict=True) if count.gap), "")
        if not gap:
            gap = next(
                (
                    f"more {names[0].split()[0]} events than all events on {_LEGS[leg]}"
                    for leg in (0, 1)
                    if counts[2 * leg].value > counts[2 * leg + 1].value
                ),
                "",
            )
        if gap:
            blocks.append(Block(opens, closes, gap=gap))
            continue
        heroku, eks = (
            Counts(total.value, total.value - events.value if good else events.value)
            for events, total in (counts[:2], counts[2:])
        )
        blocks.append(Block(opens, closes, heroku, eks))
    return blocks
