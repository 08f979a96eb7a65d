"""Heroku's latencies over the baseline, as a histogram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Histogram:
    """Heroku's latency histogram over the baseline: requests at or below each bound.

    Parameters
    ----------
    cumulative
        Requests at or below each bound, by the bound in milliseconds (``inf`` for all requests), rising.
    """

    cumulative: Mapping[float, float]

    @property
    def total(self) -> float:
        """Requests in the histogram."""
        return self.cumulative.get(float("inf"), 0.0)
