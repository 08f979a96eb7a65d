"""The gates' verdicts with their numbers."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field
from pydantic.dataclasses import dataclass

from cutover.api.model import COMPACT
from cutover.api.v1alpha1.gates import Mode


class GateKind(StrEnum):
    """What a gate compares."""

    COMPARATIVE = "Comparative"
    """The legs' requests, by the mesh's metrics."""
    RATIO = "Ratio"
    """The legs' events, by a custom SLO's counters."""
    BOUND = "Bound"
    """A custom SLO's value with a limit."""


@dataclass(config=COMPACT, frozen=True, slots=True)
class EvidenceStatus:
    """Evidence of harm and of safety, and how much of each decides."""

    harm: float = Field(description="Evidence of harm.")
    harm_limit: float = Field(description="Evidence of harm at which EKS counts as worse.")
    safety: float | None = Field(default=None, description="Evidence that the next step is safe.")
    safety_limit: float | None = Field(default=None, description="Evidence of safety that the next step needs.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class LegCounts:
    """Counts of one leg."""

    bad: float = Field(description="Requests or events that went wrong.")
    total: float = Field(description="All requests or events.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateCounts:
    """Counts of both legs in the step; for alive, in the last minute."""

    heroku: LegCounts | None = Field(
        default=None,
        description="Heroku's counts; for alive, the good answers expected of EKS by Heroku's counts. Absent at 100 %.",
    )
    eks: LegCounts | None = Field(
        default=None, description="EKS' counts; for alive, the good answers, with the missing answers as bad."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateRatios:
    """Bad fraction of each leg, from 0 to 1; absent if nothing was counted."""

    heroku: float | None = Field(default=None, description="Heroku's fraction.")
    eks: float | None = Field(default=None, description="EKS' fraction.")
    tolerated: float | None = Field(
        default=None, description="At 100 %, without a control: the fraction above which EKS is worse."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class ToleranceStatus:
    """Tolerance: ``ratio`` times Heroku's fraction, plus ``margin``."""

    ratio: float = Field(description="Factor on Heroku's fraction.")
    margin: float = Field(description="Fraction that is added.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateLimits:
    """Limits of a gate: ``harm`` and ``advance`` for a comparison, the other fields for a bound."""

    harm: ToleranceStatus | None = Field(default=None, description="Tolerance for harm: beyond it EKS is worse.")
    advance: ToleranceStatus | None = Field(
        default=None,
        description="Tolerance for safety: within it the next step is safe. The margin is for all traffic: it is divided by the next weight.",
    )
    codes: str | None = Field(
        default=None, description="Which HTTP statuses count as refused or redirected; absent if all of them do."
    )
    min: float | None = Field(default=None, description="Smallest value that is tolerated.")
    max: float | None = Field(default=None, description="Largest value that is tolerated.")
    times_baseline: float | None = Field(
        default=None, description="Largest value that is tolerated, in multiples of the baseline."
    )
    for_seconds: float | None = Field(
        default=None, description="Seconds outside without a break after which the bound fails."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateNumbers:
    """The verdict of a gate, with its numbers."""

    name: str = Field(description="Name of the SLO.")
    verdict: str = Field(
        description="Pass, Fail, Undecided, InsufficientTraffic, NoData, QueryError or Ambiguous; only Fail rolls back."
    )
    kind: GateKind = Field(default=GateKind.COMPARATIVE, description="What the gate compares.")
    mode: Mode = Field(default=Mode.ENFORCE, description="Enforce: the verdict decides. Observe: it is only shown.")
    counts: GateCounts | None = Field(default=None, description="Counts of both legs.")
    ratios: GateRatios | None = Field(default=None, description="Bad fractions of both legs.")
    evidence: EvidenceStatus | None = Field(default=None, description="Evidence of a comparison.")
    limits: GateLimits | None = Field(default=None, description="Limits of the gate.")
    reference: str | None = Field(
        default=None,
        description="With baseline.source, what EKS is compared with for harm: Heroku, HerokuAndRecord, EarlierSteps or Record.",
    )
    value: float | None = Field(default=None, description="Newest value of a bound.")
    outside_seconds: float | None = Field(
        default=None,
        description="Seconds for which the value has been outside without a break; absent while it is inside.",
    )
    baseline: float | None = Field(
        default=None, description="Value of a bound before the migration, if the limits need it."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateStatus(GateNumbers):
    """The current state of a gate."""

    sentence: str = Field(
        default="", description="The verdict's numbers as a sentence, for people; programs read the fields."
    )
    samples: int = Field(
        default=0,
        description="Requests or events of both legs that were judged in this step; for a bound, its judged values.",
    )
    queries: tuple[str, ...] = Field(default=(), description="PromQL to look at the gate's metrics in Prometheus.")
    query_digest: str | None = Field(default=None, description="Digest of a custom SLO's queries.")
