"""Counts of the operator's parts, as its collector exports them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class BlockQueries:
    """The queries for blocks."""

    queries: int = 12
    errors: int = 1
    refused: int = 0
    last_success: float = 0.0
    lateness: float = 0.25


@dataclass
class SloQueries:
    """The queries of custom SLOs."""

    queries: int = 40
    errors: int = 2
    rounds_skipped: int = 3
    rounds_late: int = 2
    late_samples: int = 1


@dataclass
class Sent:
    """What a receiver of notifications was sent."""

    sent: int = 7
    failures: int = 4
    waiting: int = 2
    dropped: Counter[str] = field(default_factory=lambda: Counter({"refused": 1}))
