"""What to ask Prometheus for a report, by the dialect that names a plan's counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg
from cutover.report.history import Measure


class HistoryQueries(Protocol):
    """PromQL for the lines and figures of a report; nothing is decided by them."""

    @property
    def product(self) -> str:
        """Who counts, for messages about an answer that is not understood."""

    @property
    def label(self) -> str:
        """The label by which a result's legs are told apart."""

    def legs(self, plan: Plan) -> Mapping[str, Leg]:
        """Return the legs by the values of :attr:`label`."""

    def measure(self, plan: Plan, measure: Measure, seconds: float) -> str:
        """Return the query for a measure of both legs, over a window of seconds before each point."""

    def figures(self, plan: Plan, seconds: float) -> Mapping[str, str]:
        """Return the queries for the fields of :class:`cutover.report.history.Figures`, over seconds before their time."""
