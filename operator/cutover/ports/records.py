"""Heroku's records of the time before the takeover: reading them, and keeping them in full."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cutover.domain.baseline.record import Record, RecordReading
from cutover.domain.baseline.used import Quantity
from cutover.domain.plan import Plan


@dataclass(frozen=True, slots=True)
class RecordQuestion:
    """Which record a plan asks for; where two differ, what was read for one says nothing about the other.

    Parameters
    ----------
    source
        ``Drain`` or ``Gateway``.
    prometheus
        Name of the Prometheus server, ``""`` for the default.
    leg
        The name under which Heroku's requests are counted.
    observers
        Namespaces of what counts them.
    hours
        Hours of the window.
    least
        Part of the window that has to be recorded before the hours are read.
    until
        Unix seconds, a whole hour, at which the record ends; ``None`` for the last whole hour.
    """

    source: str
    prometheus: str
    leg: str
    observers: tuple[str, ...]
    hours: int
    least: float
    until: float | None = None


class UsageQueries(Protocol):
    """PromQL for what is used beside requests."""

    def usage(self, plan: Plan, seconds: float) -> Mapping[Quantity, str]:
        """Return a query for each quantity that it knows, over seconds before their time.

        Each has one result, but those of databases, which have one for each ``addon``.
        """


class Records(Protocol):
    """Records of all plans, one read at a time, so that none is in the way of blocks and custom SLOs."""

    def question(self, plan: Plan) -> RecordQuestion | str | None:
        """Return which record a plan asks for; ``None`` if it asks for none, and why there can be none as a text."""

    async def read(self, plan: Plan, question: RecordQuestion, known: RecordReading | None) -> RecordReading:
        """Read how far a record reaches back and, where that is enough, its hours. Raises Unavailable.

        Parameters
        ----------
        known
            What was read for the same question before; whole hours that are over do not change.
        """

    async def keep(self, plan: Plan, record: Record) -> str:
        """Keep a record in full in a ConfigMap, and return its name. Raises Unavailable."""
