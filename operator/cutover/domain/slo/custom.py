"""Custom SLOs, on the team's metrics: what is asked of Prometheus, and what came back."""

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
        Of the SLO.
    mode
        Whether its verdict decides.
    slo
        What is tolerated.
    queries
        Rendered PromQL. Of a ratio: Heroku's bad (or good) events, all of Heroku's, EKS' bad (or good), all of EKS'.
        Of a bound: its one query.
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
        """What differs where other queries are asked: what was learned from those is of no use."""
        match self.slo:
            case RatioSlo():
                return _short_of((self.queries, self.slo.good is None))
            case BoundSlo():
                return _short_of(self.queries)

    @property
    def limit_digest(self) -> str:
        """What differs where a comparison tolerates something else; ``""`` of a bound."""
        return _short_of((self.slo.tolerate, self.slo.advance)) if isinstance(self.slo, RatioSlo) else ""


def _short_of(what: object) -> str:
    return f"{zlib.crc32(repr(what).encode()):08x}"


@dataclass(frozen=True, slots=True)
class QueryProblem:
    """Why a custom SLO has no numbers.

    Parameters
    ----------
    verdict
        NO_DATA, QUERY_ERROR or AMBIGUOUS.
    message
        For people: what is wrong and what to do.
    since
        Unix seconds since when.
    """

    verdict: Verdict
    message: str
    since: float


@dataclass(frozen=True, slots=True)
class SloReading:
    """What became known of a custom SLO since the last reconciliation.

    Parameters
    ----------
    asked_at
        Unix seconds of the newest complete round of its queries, 0 before the first.
    blocks
        Of a ratio: new blocks, oldest first. ``Counts.requests`` are all events and ``Counts.errors`` the bad ones.
    points
        Of a bound: evaluation times in Unix seconds and values, oldest first, for as far back as its ``for`` asks. A
        time without a value (no series, stale samples) is missing in it.
    baseline
        Of a bound with ``timesBaseline``, where it was asked for: the 95th percentile of the last day.
    problem
        Why the newest round gave nothing, or ``None``.
    """

    asked_at: float = 0.0
    blocks: tuple[Block, ...] = ()
    points: tuple[tuple[float, float], ...] = ()
    baseline: float | None = None
    problem: QueryProblem | None = None


_LONGEST_VALUE = 60


def differing(series: Sequence[Mapping[str, str]]) -> str:
    """Return in which label several series differ, with an example, for people."""
    for label in sorted(set().union(*series)):
        values = dict.fromkeys(labels.get(label, "") for labels in series)
        if len(values) > 1:
            one, other = (shorten(value, _LONGEST_VALUE) for value in list(values)[:2])
            return f'such as {label}="{one}" and {label}="{other}"'
    return "with the same labels"
