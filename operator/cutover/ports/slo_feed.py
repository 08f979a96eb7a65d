"""Answers to the queries of custom SLOs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cutover.domain.slo.custom import CustomSlo, SloReading


@dataclass(frozen=True, slots=True)
class SloSubscription:
    """What is queried for one plan's custom SLOs.

    Parameters
    ----------
    source
        Name of the Prometheus server, ``""`` for the default.
    gates
        Rendered and checked custom SLOs.
    block_seconds
        Length of a block, which is also the interval between two rounds of queries.
    since
        Unix seconds by name of a ratio: end of the last block that was consumed.
    judged_from
        Unix seconds: a bound's earlier values do not count, as the weight was another; ``None`` while only the newest
        value counts.
    baselines
        Names of bounds whose value before the migration is wanted.
    """

    source: str
    gates: tuple[CustomSlo, ...]
    block_seconds: int
    since: Mapping[str, float]
    judged_from: float | None
    baselines: frozenset[str] = frozenset()


class SloFeed(Protocol):
    """Answers to the queries of custom SLOs. Slow queries delay their own plan only."""

    def watch(self, key: str, subscription: SloSubscription) -> None:
        """Query for a plan's custom SLOs from now on; called at every reconcile, cheap if unchanged."""

    def forget(self, key: str) -> None:
        """Stop querying for a plan."""

    def take(self, key: str) -> Mapping[str, SloReading]:
        """Return readings by SLO: the blocks since the last call, each once; the newest values and problems."""
