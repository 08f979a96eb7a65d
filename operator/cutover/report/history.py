"""What Prometheus still has of a cutover: lines over time, and figures of both legs over spans of time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cutover.domain.baseline.used import Quantity
from cutover.domain.traffic import Leg


class Measure(StrEnum):
    """What is measured of a leg over time."""

    RATE = "rate"
    """Requests per second."""
    ERRORS = "errors"
    """Fraction of requests that failed."""
    P95 = "p95"
    """95th percentile of latency in milliseconds."""


@dataclass(frozen=True, slots=True)
class Line:
    """One measure of one leg.

    Parameters
    ----------
    leg
        The leg.
    points
        Unix seconds with their values, in order; a value that is no number is a gap in the data.
    """

    leg: Leg
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A span of time of one leg that is to be described by figures.

    Parameters
    ----------
    label
        What the span is, for people.
    leg
        The leg.
    since, until
        Unix seconds.
    """

    label: str
    leg: Leg
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of a leg over a span; ``None`` where Prometheus has no data."""

    requests: float | None = None
    errors: float | None = None
    """Fraction of the requests that failed."""
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    """Percentiles of latency in milliseconds, interpolated between the bounds of the gateways' histogram."""


@dataclass(frozen=True, slots=True)
class History:
    """All that was asked of Prometheus.

    Parameters
    ----------
    lines
        Lines by measure.
    figures
        Spans with their figures.
    throttled
        Fraction of 100 ms periods in which a container of the workload was stopped for its CPU limit, over time; empty where
        nothing tells.
    used
        What the workload used while EKS had all requests; without what nothing tells.
    problems
        What could not be asked, and why.
    """

    lines: dict[Measure, tuple[Line, ...]]
    figures: tuple[tuple[Span, Figures], ...] = ()
    throttled: tuple[tuple[float, float], ...] = ()
    used: Mapping[Quantity, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
