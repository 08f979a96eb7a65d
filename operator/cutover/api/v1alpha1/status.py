"""What the operator answers in a plan's status."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, Self, Unpack

from pydantic import Field, PlainSerializer
from pydantic.dataclasses import dataclass

from cutover.api.model import COMPACT, Model, Time
from cutover.api.opaque import Opaque
from cutover.api.v1alpha1.gates import Mode

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import (
        BaselineChanges,
        CheckpointChanges,
        CustomSloChanges,
        LedgerEntryChanges,
        StatusChanges,
    )

#: Decisions kept in ``status.ledger``; the oldest go first.
LEDGER_LENGTH = 30


class Phase(StrEnum):
    """Where a plan is."""

    PENDING = "Pending"
    PREFLIGHT = "Preflight"
    BASELINE = "Baseline"
    SHIFTING = "Shifting"
    SOAKING = "Soaking"
    COMPLETED = "Completed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"


def _round_share(value: float) -> float:
    return round(value, 1)  # more digits are noise, and make a ragged column


class GateKind(StrEnum):
    """What a gate compares."""

    COMPARATIVE = "Comparative"
    """The legs' requests, by the mesh's own metrics."""
    RATIO = "Ratio"
    """The legs' events, by a custom SLO's counters."""
    BOUND = "Bound"
    """A custom SLO's value with a limit."""


class Share(Model):
    """Percent of requests seen on the EKS leg at the gateway."""

    observed: Annotated[float, PlainSerializer(_round_share, return_type=float, when_used="json")] = Field(
        description="Percent, 0 to 100, to a tenth."
    )
    at: Time = Field(description="When it was observed.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class EvidenceStatus:
    """Evidence of harm and of safety, and how much of each decides."""

    harm: float = Field(description="Evidence of harm.")
    harm_limit: float = Field(description="Evidence of harm that rolls back.")
    safety: float | None = Field(default=None, description="Evidence that the next step is safe.")
    safety_limit: float | None = Field(default=None, description="Evidence of safety that the next step needs.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class LegCounts:
    """What was counted on one leg."""

    bad: float = Field(description="Requests or events that went wrong.")
    total: float = Field(description="All of them.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateCounts:
    """What was counted in the step; for alive, in the last minute."""

    heroku: LegCounts | None = Field(
        default=None,
        description="Heroku's; of alive, the good answers that EKS should have given, judged by Heroku's. Absent at 100 %.",
    )
    eks: LegCounts | None = Field(
        default=None, description="EKS'; of alive, good answers, those that are missing among them as bad."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateRatios:
    """Bad ones of all, from 0 to 1; absent where nothing was counted."""

    heroku: float | None = Field(default=None, description="Heroku's.")
    eks: float | None = Field(default=None, description="EKS'.")
    tolerated: float | None = Field(
        default=None, description="Above this EKS is worse, at 100 %, where there is no control to compare with."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class ToleranceStatus:
    """Tolerated are ``ratio`` times Heroku's fraction, plus ``margin``."""

    ratio: float = Field(description="Factor on Heroku's fraction.")
    margin: float = Field(description="Fraction that is added to it.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateLimits:
    """What is tolerated: of a comparison ``harm`` and ``advance``, of a bound the others."""

    harm: ToleranceStatus | None = Field(default=None, description="Beyond this EKS is worse.")
    advance: ToleranceStatus | None = Field(
        default=None,
        description="Within this the next step is safe. The margin is of all traffic: it is divided by the next weight.",
    )
    min: float | None = Field(default=None, description="Smallest value that is tolerated.")
    max: float | None = Field(default=None, description="Largest value that is tolerated.")
    times_baseline: float | None = Field(
        default=None, description="Largest value that is tolerated, in multiples of the baseline."
    )
    for_seconds: float | None = Field(
        default=None, description="Seconds outside, without a break, that are a failure."
    )


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateNumbers:
    """What a gate says, and on what numbers."""

    name: str = Field(description="Name of the SLO.")
    verdict: str = Field(
        description="Pass, Fail, Undecided, InsufficientTraffic, NoData, QueryError or Ambiguous; only Fail rolls back."
    )
    kind: GateKind = Field(default=GateKind.COMPARATIVE, description="What is compared with what.")
    mode: Mode = Field(default=Mode.ENFORCE, description="Observe: shown only.")
    counts: GateCounts | None = Field(default=None, description="What was counted.")
    ratios: GateRatios | None = Field(default=None, description="The bad fractions.")
    evidence: EvidenceStatus | None = Field(default=None, description="The evidence of a comparison.")
    limits: GateLimits | None = Field(default=None, description="What is tolerated.")
    value: float | None = Field(default=None, description="A bound's newest value.")
    outside_seconds: float | None = Field(
        default=None,
        description="For how many seconds it has been outside without a break; absent while it is inside.",
    )
    baseline: float | None = Field(default=None, description="A bound's value before anything moved, if it is needed.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class GateStatus(GateNumbers):
    """What a gate says now."""

    sentence: str = Field(default="", description="The same in words. For people only: programs read the fields.")
    samples: int = Field(
        default=0, description="Requests or events of both legs that were judged in this step; values of a bound."
    )
    queries: tuple[str, ...] = Field(default=(), description="What Prometheus is asked, to look at it yourself.")
    query_digest: str | None = Field(
        default=None, description="Another one means that a custom SLO asks other queries."
    )


class CheckResult(StrEnum):
    """What a preflight check says; Failed and Unknown hold the plan."""

    PASSED = "Passed"
    FAILED = "Failed"
    WARNED = "Warned"
    UNKNOWN = "Unknown"
    SKIPPED = "Skipped"


class CheckStatus(Model):
    """One preflight check."""

    check: str = Field(description="Name of the check.")
    result: CheckResult = Field(
        description="Failed and Unknown hold the plan; Warned is told and holds nothing; Skipped is by preflight.skip."
    )
    message: str = Field(default="", description="What to do.")


class BoundBaseline(Model):
    """What a bound's query gave before anything moved."""

    gate: str = Field(description="Name of the SLO.")
    value: float = Field(description="95th percentile of the last day.")
    query_digest: str = Field(default="", description="Another one means another query.")


class BacktestStep(Model):
    """What a replay predicts for one step."""

    weight: int = Field(description="Percent of requests to EKS.")
    requests: int = Field(description="EKS requests that prove it safe, the median.")
    seconds: int = Field(description="Time at the weight, the median.")
    slowest_seconds: int = Field(description="What 9 of 10 stay below.")


class BacktestStatus(Model):
    """What the gates would have done with Heroku compared with itself."""

    runs: int = Field(description="Cutovers that were replayed.")
    false_rollbacks: int = Field(description="Those that were rolled back, though there was nothing to find.")
    stuck: int = Field(description="Those that did not get to the end of the record.")
    seconds: int | None = Field(default=None, description="Time for the whole cutover without the soak, the median.")
    steps: tuple[BacktestStep, ...] = Field(default=(), description="Each step.")
    message: str = Field(default="", description="The same in a sentence, or why there is none.")


class BaselineStatus(Model):
    """What was recorded of Heroku before anything moved."""

    since: Time
    requests: int = 0
    slow_ms: float | None = None
    very_slow_ms: float | None = None
    bounds: tuple[BoundBaseline, ...] = Field(default=(), description="What the bounds' queries gave.")
    backtest: BacktestStatus | None = Field(default=None, description="What a replay of the gates predicts.")

    def evolve(self, **changes: Unpack[BaselineChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class LedgerEntry(Model):
    """One decision with its numbers."""

    at: Time
    attempt: int
    decision: str
    from_weight: int
    to_weight: int
    reason: str
    message: str = ""
    gates: tuple[GateNumbers, ...] = Field(default=(), description="What the gates said at that moment.")
    queries: tuple[str, ...] = Field(default=(), description="What Prometheus was asked by the custom SLOs.")
    subject: str | None = Field(
        default=None,
        description="What the decision is about: the gate that caused a rollback, a refused annotation, or who edited the route.",
    )

    def evolve(self, **changes: Unpack[LedgerEntryChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class CustomSloEvidence(Model):
    """What a restarted operator needs to go on judging one custom SLO that compares the legs."""

    gate: str = Field(description="Name of the SLO.")
    query_digest: str = Field(default="", description="Another one means that it was earned with other queries.")
    limit_digest: str = Field(default="", description="Another one means that it was earned with other limits.")
    consumed_until: float = Field(description="Unix seconds; end of the last judged block.")
    gaps: int = Field(default=0, description="Blocks in a row, up to the last one, that could not be judged.")
    evidence: Opaque = Field(default=Opaque(), description="The judge's state, as JSON for the operator itself.")

    def evolve(self, **changes: Unpack[CustomSloChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class ResolvedTemplate(Model):
    """A template as it was when the step began: it stays in force until the next."""

    gate: str = Field(description="Name of the SLO.")
    template: str = Field(description="Kind and name, as ClusterGateTemplate/cpu-throttling.")
    generation: int = Field(description="The template's generation.")
    definition: str = Field(description="The gate that came of it, as JSON for the operator itself.")


class SpecSnapshot(Model):
    """What the spec said when it was last looked at, as far as it guards users: no edit of it goes untold."""

    generation: int = Field(description="The spec's generation.")
    ceiling: int = Field(description="Its ceiling.")
    steps: dict[str, str] = Field(description="Its steps, by their weights.")
    fields: dict[str, str] = Field(description="Its other fields, by their paths.")


class ApprovedStep(Model):
    """A step that may begin because the ceiling that held it back was raised."""

    weight: int = Field(description="Percent of the step.")
    by: str = Field(description="From what to what the ceiling was raised, and who did it.")


class Checkpoint(Model):
    """What a restarted operator needs to go on judging where it was."""

    at: float = Field(default=0.0, description="Unix seconds of this checkpoint.")
    weight_since: float = Field(description="Unix seconds at which the current weight was decided.")
    previous_weight: int = Field(
        default=0, ge=0, le=100, description="Weight before that; seeing the new one means telling them apart."
    )
    share_pool: tuple[float, float] = Field(
        default=(0.0, 0.0), description="Requests to EKS and to both legs, pooled until the weight is seen."
    )
    live_at: float | None = Field(
        default=None, description="Unix seconds; when a probe first saw the current route at the gateway."
    )
    observed_at: float | None = Field(
        default=None, description="Unix seconds; when the weight was seen at the gateway."
    )
    next_weight: int = Field(default=0, description="Next step's weight, which the evidence of safety is for.")
    consumed_until: float = Field(default=0.0, description="Unix seconds; end of the last judged block.")
    gaps: int = Field(default=0, description="Blocks in a row, up to the last one, that could not be judged.")
    evidence: Opaque = Field(
        default=Opaque(), description="The judge's state, as JSON for itself: people read the gates."
    )
    custom_slos: tuple[CustomSloEvidence, ...] = Field(
        default=(), description="The same for each custom SLO that compares the legs."
    )

    def evolve(self, **changes: Unpack[CheckpointChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class Condition(Model):
    """A standard Kubernetes condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: Time
    observed_generation: int


class MigrationPlanStatus(Model):
    """What the operator is doing, why, and on what numbers."""

    observed_generation: int = Field(default=-1, description="Generation of the spec that this status is about.")
    phase: Phase = Field(default=Phase.PENDING, description="Where the plan is.")
    attempt: int = Field(default=0, description="The spec's attempt that this status is about.")
    step: str = Field(default="", description="Current step of all steps, such as 2/4.")
    weight: int | None = Field(
        default=None, ge=0, le=100, description="Desired percent of requests to EKS; unset before takeover."
    )
    share: Share | None = Field(default=None, description="Percent of requests seen on the EKS leg at the gateway.")
    since: Time | None = Field(default=None, description="Start of the current phase or step.")
    reason: str = Field(default="", description="Why it is there, in one word.")
    message: str = Field(default="", description="Why it is there, in one sentence with the numbers.")
    gate: str = Field(default="", description="Short summary of the gates for the table.")
    gates: tuple[GateStatus, ...] = Field(default=(), description="What each gate says.")
    evidence: EvidenceStatus | None = Field(default=None, description="What the gates that decide say together.")
    templates: tuple[ResolvedTemplate, ...] = Field(default=(), description="Templates of gates that are in force.")
    preflight: tuple[CheckStatus, ...] = Field(default=(), description="What each preflight check says.")
    baseline: BaselineStatus | None = Field(
        default=None, description="What was recorded of Heroku before the first step."
    )
    ledger: tuple[LedgerEntry, ...] = Field(default=(), description="The last decisions, oldest first.")
    notified: dict[str, str] | None = Field(
        default=None, description="The last decision that each receiver of notifications was told."
    )
    checkpoint: Checkpoint | None = Field(default=None, description="For the operator itself, after a restart.")
    spec_snapshot: SpecSnapshot | None = Field(
        default=None,
        description="What the spec said when it was last looked at: what of it is edited is in the ledger.",
    )
    approved: ApprovedStep | None = Field(
        default=None, description="Step that was approved by raising the ceiling, in this attempt."
    )
    void: dict[str, str] | None = Field(
        default=None, description="Annotations that count no more, as they were given before the weight was lowered."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, Reconciling, Stalled, Progressing, Held, Completed and RolledBack.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def evolve(self, **changes: Unpack[StatusChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)
