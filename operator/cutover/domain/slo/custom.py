"""A custom SLO: its rendered queries for Prometheus, and what was read."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cutover.api.v1alpha1.gates import BoundSlo, Mode, RatioSlo
from cutover.domain.evidence.blocks import Block
from cutover.domain.texts import shorten
from cutover.domain.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class CustomSlo:
    """A custom SLO, its templates resolved and its placeholders filled in.

    Parameters
    ----------
    name
        Name of the SLO.
    mode
        Whether its verdict decides.
    slo
        The SLO's limits and unrendered queries.
    queries
        Rendered PromQL. For a ratio: Heroku's bad (or good) events, all Heroku events, EKS' bad (or good) events, all EKS
        events. For a bound: its query.
    """

    name: str
    mode: Mode
    slo: RatioSlo | BoundSlo
    queries: tuple[str, ...]

    @property
    def enforced(self) -> bool:
        """Whether its verdict decides."""
        return self.mode is Mode.ENFORCE

    @property
    def query_digest(self) -> str:
        """Digest of the queries: with another digest, what was learned is of no use."""
        match self.slo:
            case RatioSlo():
                return _digest_of((self.queries, self.slo.good is None))
            case BoundSlo():
                return _digest_of(self.queries)

    @property
    def limit_digest(self) -> str:
        """Digest of a ratio's limits; ``""`` for a bound."""
        return _digest_of((self.slo.tolerate, self.slo.advance)) if isinstance(self.slo, RatioSlo) else ""


def _digest_of(value: object) -> str:
    return f"{zlib.crc32(repr(value).encode()):08x}"


@dataclass(frozen=True, slots=True)
class QueryProblem:
    """Why a custom SLO has no numbers.

    Parameters
    ----------
    verdict
        NO_DATA, QUERY_ERROR or AMBIGUOUS.
    message
        What is wrong and what to do, for people.
    since
        Unix seconds at which the problem began.
    """

    verdict: Verdict
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class SloReading:
    """What was read for a custom SLO since the last reconcile.

    Parameters
    ----------
    asked_at
        Unix seconds of the newest complete round of its queries; 0 before the first.
    blocks
        For a ratio: new blocks, oldest first. ``Counts.requests`` has all events and ``Counts.errors`` the bad ones.
    points
        For a bound: evaluation times in Unix seconds and values, oldest first, back to the start of its ``for``. A time
        without a value (no series, stale samples) is left out.
    baseline
        For a bound with ``timesBaseline``, if it was asked for: the 95th percentile of the last day.
    problem
        Why the newest round gave nothing; ``None`` if it did.
    """

    asked_at: float = 0.0
    blocks: tuple[Block, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    baseline: float | None = None
    problem: QueryProblem | None = None


_LONGEST_VALUE = 60


def differing(series: Sequence[Mapping[str, str]]) -> str:
    """Return the label in which several series differ, with an example, for people."""
    for label in sorted(set().union(*series)):
        values = dict.fromkeys(labels.get(label, "") for labels in series)
        if len(values) > 1:
            first, second = (shorten(value, _LONGEST_VALUE) for value in list(values)[:2])
            return f'such as {label}="{first}" and {label}="{second}"'
    return "with the same labels"
