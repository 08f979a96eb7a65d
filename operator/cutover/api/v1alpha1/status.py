"""The status of a MigrationPlan, which only the operator writes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, Self, Unpack

from pydantic import Field, PlainSerializer
from pydantic.dataclasses import dataclass

from cutover.api.deferred import Deferred
from cutover.api.model import COMPACT, Model, Time
from cutover.api.opaque import Opaque
from cutover.api.v1alpha1.gates import Mode

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import (
        AuditChanges,
        BaselineChanges,
        CheckpointChanges,
        ComparisonChanges,
        CustomSloChanges,
        LedgerEntryChanges,
        ReleasesChanges,
        StatusChanges,
    )

#: Decisions kept in ``status.ledger``; the oldest go first.
LEDGER_LENGTH = 30
#: Characters of a message in the status, which may quote others. The message of the plan is repeated in the conditions.
LONGEST_MESSAGE = 1000


class Phase(StrEnum):
    """Phase of a plan."""

    PENDING = "Pending"
    PREFLIGHT = "Preflight"
    BASELINE = "Baseline"
    SHIFTING = "Shifting"
    SOAKING = "Soaking"
    COMPLETED = "Completed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"


def _round_share(value: float) -> float:
    return round(value, 1)  # more digits are noise, and make the column ragged


class GateKind(StrEnum):
    """What a gate compares."""

    COMPARATIVE = "Comparative"
    """The legs' requests, by the mesh's metrics."""
    RATIO = "Ratio"
    """The legs' events, by a custom SLO's counters."""
    BOUND = "Bound"
    """A custom SLO's value with a limit."""


@dataclass(config=COMPACT, frozen=True, slots=True)
class Share:
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
class ProbesStatus:
    """The operator's own requests to both legs at the same time, apart from the users' requests."""

    pairs: int = Field(description="Pairs that were asked since the operator began to.")
    against_eks: int = Field(description="Pairs in which Heroku answered, and better than EKS.")
    against_heroku: int = Field(description="Pairs in which EKS answered, and better than Heroku.")
    both_failed: int = Field(description="Pairs in which neither leg answered.")
    in_a_row: int = Field(description="Newest pairs in a row that speak against EKS.")
    harm: float = Field(description="Evidence that EKS answers worse.")
    harm_limit: float = Field(description="Evidence that is enough.")
    verdict: str = Field(description="Alike, Unsure, EksWorse, HerokuFails, BothFail or Unknown.")
    safety: float | None = Field(
        default=None,
        description="Evidence of this step that EKS answers well enough for the next; absent unless"
        " gates.insufficientTraffic is AcceptProbes.",
    )
    safety_limit: float | None = Field(default=None, description="Evidence of safety that the next step needs.")
    sentence: str = Field(default="", description="The numbers as a sentence, for people; programs read the fields.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class Estimate:
    """What the next step still needs of EKS' requests, and how long that takes if the step goes on as so far."""

    text: str = Field(description="The estimate in words, such as: about 40 min at 1.1 requests/s.")
    requests_per_second: float = Field(description="Requests of both legs per second in this step.")
    seconds: int | None = Field(
        default=None,
        description="Seconds until the evidence of safety and minRequests are enough; absent if unknown, as without"
        " requests.",
    )
    eks_requests: int | None = Field(
        default=None, description="Requests that EKS has to answer until then; absent if unknown."
    )


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

    harm: ToleranceStatus | None = Field(default=None, description="Beyond this EKS is worse.")
    advance: ToleranceStatus | None = Field(
        default=None,
        description="Within this the next step is safe. The margin is for all traffic: it is divided by the next weight.",
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
        description="With baseline.source, what EKS is held against for harm: Heroku, HerokuAndRecord, EarlierSteps or Record.",
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


@dataclass(config=COMPACT, frozen=True, slots=True)
class AnswersStatus:
    """Answers of both legs by HTTP status in this step: the five most frequent of each, and the others together.

    An upgraded connection, such as a WebSocket, is counted as 101 when it ends.
    """

    heroku: dict[str, int] = Field(default_factory=dict, description="Heroku's answers.")
    eks: dict[str, int] = Field(default_factory=dict, description="EKS' answers.")


class CheckResult(StrEnum):
    """Result of a preflight check; Failed and Unknown hold the plan."""

    PASSED = "Passed"
    FAILED = "Failed"
    WARNED = "Warned"
    UNKNOWN = "Unknown"
    SKIPPED = "Skipped"


class CheckStatus(Model):
    """A preflight check and its result."""

    check: str = Field(description="Name of the check.")
    result: CheckResult = Field(
        description="Failed and Unknown hold the plan; Warned is shown and holds nothing; Skipped is due to preflight.skip."
    )
    message: str = Field(
        default="",
        description="What to do.",
        # For the API server alone: a longer one, which an earlier version wrote, is cut with the next write.
        json_schema_extra={"maxLength": LONGEST_MESSAGE},
    )


#: Characters that are kept of the annotation ``cutover.dev/audit``.
LONGEST_REQUEST = 120


class AuditStatus(Model):
    """What somebody asked for by the annotation ``cutover.dev/audit``: the audits, and both legs' answers, as they are now."""

    request: str = Field(
        description="Value of the annotation.",
        # For the API server alone, as for CheckStatus.
        json_schema_extra={"maxLength": LONGEST_REQUEST},
    )
    asked_at: Time = Field(description="When the operator took note of it.")
    answered_at: Time | None = Field(
        default=None, description="When all of it had been looked at and was in status.preflight; absent before."
    )
    message: str = Field(
        default="",
        description="What could not be looked at, and why; empty if all of it was.",
        json_schema_extra={"maxLength": LONGEST_MESSAGE},
    )

    def evolve(self, **changes: Unpack[AuditChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class DecommissionState(StrEnum):
    """State of something on Heroku that is to be switched off."""

    OPEN = "Open"
    DONE = "Done"
    UNKNOWN = "Unknown"


class DecommissionItem(Model):
    """Something on Heroku that is to be switched off once the plan is Completed."""

    item: str = Field(
        description="What it is: dns, requests, jobs, dynos, plan, domains, databases, add-ons, drains, app."
    )
    state: DecommissionState = Field(description="Unknown where neither Heroku's API nor DNS nor the drain tells.")
    message: str = Field(default="", description="What is there, what to do, and what it costs not to.")


class BoundBaseline(Model):
    """The value of a bound's query before the migration."""

    gate: str = Field(description="Name of the SLO.")
    value: float = Field(description="95th percentile of the last day.")
    query_digest: str = Field(default="", description="Digest of the query.")


class BacktestStep(Model):
    """Prediction of a backtest for one step."""

    weight: int = Field(description="Percent of requests to EKS.")
    requests: int = Field(description="EKS requests for a proof of safety, the median.")
    seconds: int = Field(description="Seconds at the weight, the median.")
    slowest_seconds: int = Field(description="Seconds at the weight that 9 of 10 runs stay below.")


class BacktestStatus(Model):
    """Result of a backtest: what the gates do with Heroku compared with itself."""

    runs: int = Field(description="Cutovers that were replayed.")
    false_rollbacks: int = Field(description="Cutovers that were rolled back although nothing was wrong.")
    stuck: int = Field(description="Cutovers that were stuck at a step, or reached the end of the record.")
    seconds: int | None = Field(
        default=None, description="Seconds for the whole cutover without the soak, the median."
    )
    steps: tuple[BacktestStep, ...] = Field(default=(), description="Predictions for each step.")
    message: str = Field(default="", description="The result in a sentence, or why there is none.")


class RecordStatus(Model):
    """What Heroku did before the takeover; hour by hour in the ConfigMap."""

    source: str = Field(description="Who counted: Drain or Gateway.")
    since: Time = Field(description="Start of the record.")
    until: Time = Field(description="End of the record.")
    coverage: float = Field(description="Part of the window's minutes that were recorded without loss.")
    requests: int = Field(description="Requests.")
    errors: float = Field(description="Fraction of the requests that failed.")
    refused: float = Field(description="Fraction that was refused.")
    redirected: float = Field(description="Fraction that was redirected.")
    throttled: float = Field(description="Fraction that was throttled.")
    median_ms: float | None = Field(default=None, description="Half of the requests took at most so long.")
    p95_ms: float | None = Field(default=None, description="95 % of the requests took at most so long.")
    p99_ms: float | None = Field(default=None, description="99 % of the requests took at most so long.")
    peak_per_second: float = Field(description="Requests per second in the busiest hour.")
    peak_hour: str = Field(default="", description="The busiest hour of the week, such as Tue 14:00, in UTC.")
    dispersion: float = Field(
        default=1.0, description="How many times more the errors differ from day to day than by chance."
    )
    releases: int | None = Field(
        default=None, description="Releases within the record; absent where neither the drain nor Heroku's API tells."
    )
    last_release: Time | None = Field(default=None, description="When the last of them was made.")
    config_map: str = Field(default="", description="ConfigMap with the whole record.")


class ComparisonStatus(Model):
    """Heroku since the takeover, compared with the same hours before."""

    since: Time = Field(description="Requests since then are compared.")
    verdict: Literal["Comparing", "Alike", "Differs", "TooFew", "Skipped"] = Field(description="The result.")
    message: str = Field(default="", description="The result in a sentence.")
    earlier: tuple[float, ...] = Field(
        default=(), description="Counts of an earlier comparison, which are left out, for the operator itself."
    )

    def evolve(self, **changes: Unpack[ComparisonChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class BaselineStatus(Model):
    """The record of Heroku before the first step."""

    since: Time
    requests: int = 0
    slow_ms: float | None = None
    very_slow_ms: float | None = None
    bounds: tuple[BoundBaseline, ...] = Field(
        default=(), description="Values of the bounds' queries before the migration."
    )
    backtest: BacktestStatus | None = Field(default=None, description="Result of the backtest.")
    record: RecordStatus | None = Field(
        default=None, description="What Heroku did before the takeover; absent without baseline.source."
    )
    takeover: ComparisonStatus | None = Field(
        default=None, description="Heroku since the takeover, compared with the same hours before."
    )
    hours: Opaque | None = Field(
        default=None,
        description="What was normal for Heroku in each hour of the week, as JSON for the operator itself; absent without a"
        " record, or where Heroku has differed from it since the takeover.",
    )

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
    gates: tuple[GateNumbers, ...] = Field(default=(), description="The gates' numbers at that moment.")
    queries: tuple[str, ...] = Field(default=(), description="PromQL of the custom SLOs.")
    subject: str | None = Field(
        default=None,
        description="What the decision is about: the gate that caused a rollback, a refused annotation, or who edited the route.",
    )
    by: str | None = Field(
        default=None,
        description="Who asked for it, and when: as the annotation says, or the field manager that wrote it or the spec.",
    )

    def evolve(self, **changes: Unpack[LedgerEntryChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class CustomSloEvidence(Model):
    """State for a restarted operator to go on judging one custom SLO that compares the legs."""

    gate: str = Field(description="Name of the SLO.")
    query_digest: str = Field(default="", description="Digest of the queries that the evidence is from.")
    limit_digest: str = Field(default="", description="Digest of the limits that the evidence is for.")
    consumed_until: float = Field(description="Unix seconds of the end of the last consumed block.")
    gaps: int = Field(default=0, description="Newest blocks in a row that could not be judged.")
    evidence: Opaque = Field(default=Opaque(), description="The judge's state, as JSON for the operator itself.")

    def evolve(self, **changes: Unpack[CustomSloChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class ResolvedTemplate(Model):
    """A gate template as it was when the step began; it stays in force until the next step."""

    gate: str = Field(description="Name of the SLO.")
    template: str = Field(description="Kind and name, such as ClusterGateTemplate/cpu-throttling.")
    generation: int = Field(description="Generation of the template.")
    definition: str = Field(description="The resolved gate, as JSON for the operator itself.")


class SpecSnapshot(Model):
    """Snapshot of the spec fields that protect users; the ledger records every edit of them."""

    generation: int = Field(description="Generation of the spec.")
    ceiling: int = Field(description="The spec's ceiling.")
    steps: dict[str, str] = Field(description="The spec's steps, by weight.")
    fields: dict[str, str] = Field(description="Other fields of the spec, by path.")


class ApprovedStep(Model):
    """A step that was approved by raising the ceiling that held it back."""

    weight: int = Field(description="Weight of the step.")
    by: str = Field(description="The old and the new ceiling, and who raised it.")


@dataclass(config=COMPACT, frozen=True, slots=True)
class RouteRecord:
    """What is known of the route that the operator has written. Labels and annotations of the route itself may be edited."""

    name: str = Field(
        default="",
        description="Kind and name of the object with the weights, once the operator has written it. The operator writes"
        " it again after any edit, also if its labels and annotations are gone.",
    )
    originals: tuple[str, ...] = Field(
        default=(),
        description="Digests of the original routes that the operator keeps in an adopted object, the newest first. What"
        " has another digest is not restored.",
    )
    trial: str = Field(
        default="",
        description="Kind and name of the object in which the operator's probes have a route while users have none of the"
        " operator's.",
    )
    undoable: bool = Field(
        default=False,
        description="Whether users get their own route back if Heroku does not answer over the operator's: from the takeover"
        " until it is confirmed, where they had one.",
    )


class Checkpoint(Model):
    """State for a restarted operator to go on judging where it stopped."""

    at: float = Field(default=0.0, description="Unix seconds of this checkpoint.")
    weight_since: float = Field(description="Unix seconds at which the current weight was decided.")
    previous_weight: int = Field(
        default=0,
        ge=0,
        le=100,
        description="Weight before that. The new weight is observed once it can be told from this one.",
    )
    share_pool: tuple[float, float] = Field(
        default=(0.0, 0.0), description="Requests to EKS and to both legs, pooled until the weight is observed."
    )
    forwarded: bool = Field(
        default=False, description="Whether all traffic was sent to EKS because Heroku was down, not on evidence."
    )
    proven_at: float | None = Field(
        default=None,
        description="Unix seconds at which all gates first let the next step begin, in this step and while Heroku answered.",
    )
    forward_asked_at: float | None = Field(
        default=None,
        description="Unix seconds since when a command to send all traffic to EKS waits for Heroku to fail.",
    )
    heroku_down_since: float | None = Field(
        default=None, description="Unix seconds since when Heroku is down without a break; absent while it answers."
    )
    live_at: float | None = Field(
        default=None, description="Unix seconds at which a probe first returned the current route's revision."
    )
    observed_at: float | None = Field(
        default=None, description="Unix seconds at which the weight was observed at the gateway."
    )
    next_weight: int = Field(default=0, description="Weight of the next step, which the evidence of safety is for.")
    consumed_until: float = Field(default=0.0, description="Unix seconds of the end of the last consumed block.")
    gaps: int = Field(default=0, description="Newest blocks in a row that could not be judged.")
    gap: str = Field(default="", description="Why the newest block could not be judged.")
    ambiguous: bool = Field(
        default=False, description="Whether the newest block could not be judged for counters of several clusters."
    )
    evidence: Opaque = Field(
        default=Opaque(), description="The judge's state, as JSON for the operator itself; people read the gates."
    )
    pace: Opaque = Field(
        default=Opaque(), description="Requests of the last hour, minute by minute, as JSON for the operator itself."
    )
    custom_slos: tuple[CustomSloEvidence, ...] = Field(
        default=(), description="State of each custom SLO that compares the legs."
    )

    def evolve(self, **changes: Unpack[CheckpointChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class LegName(StrEnum):
    """One of the two legs."""

    HEROKU = "Heroku"
    EKS = "EKS"


class TemplateDigests(Model):
    """Digests of the workload's Pod template. No value of it is kept."""

    code: str = Field(description="Digest of images, commands and arguments.")
    config: str = Field(description="Digest of environment, volumes and the template's annotations.")
    rest: str = Field(description="Digest of all else, such as resources and probes.")
    restart: str = Field(
        default="", description="Digest of the time at which `kubectl rollout restart` was last called."
    )


class ReleasesStatus(Model):
    """What each leg runs, as last seen, and whether code or configuration changed on one of them only."""

    of: str = Field(description="The app and the workload that this is about.")
    heroku_version: int | None = Field(
        default=None, description="Number of the release that is in force on Heroku; absent while it is unknown."
    )
    heroku_code: str = Field(default="", description="Digest of the slug's or image's identifier.")
    heroku_at: Time | None = Field(default=None, description="When a new release was last seen on Heroku.")
    dynos: dict[str, int] | None = Field(default=None, description="Number of dynos by process type.")
    sizes: dict[str, str] | None = Field(default=None, description="Size of the dynos by process type.")
    maintenance: bool | None = Field(default=None, description="Whether Heroku's maintenance mode is on.")
    certificate: str = Field(
        default="", description="Hosts with the last day of Heroku's certificate, as told in the week before that day."
    )
    eks: TemplateDigests | None = Field(default=None, description="The workload's Pod template.")
    rolling: tuple[str, ...] = Field(
        default=(), description="What changes with the workload's rollout that is under way; empty without one."
    )
    level: str = Field(
        default="", description="EKS' code and configuration when the legs were last taken to be alike."
    )
    ahead: LegName | None = Field(
        default=None, description="The leg whose code or configuration changed, while the other's did not since."
    )
    change: str = Field(default="", description="What changed there.")
    evidence_from: float | None = Field(
        default=None,
        description="Unix seconds from which on evidence of safety is about the present code; earlier evidence was dropped.",
    )
    problem: str = Field(
        default="", description="Why Heroku's API does not say what runs there. Nothing is held for it."
    )

    def evolve(self, **changes: Unpack[ReleasesChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)


class BlockStatus(Model):
    """The length of the plan's blocks, and what it follows from."""

    # The loops of all plans count with them.
    scrape_seconds: float = Field(
        gt=0, le=600, description="Seconds between two scrapes of the gateways, as seen in their samples."
    )
    seconds: int = Field(ge=1, le=600, description="Seconds of a block.")


class HeldStatus(Model):
    """Why the plan does not move, for the table."""

    reason: str = Field(description="Reason of the hold, in one word.")
    since: Time = Field(description="Since when the plan is held for this reason.")


@dataclass(config=COMPACT, frozen=True, slots=True, kw_only=True)
class Condition:
    """A standard Kubernetes condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: Time
    observed_generation: int


class MigrationPlanStatus(Model):
    """What the operator is doing, why, and on which numbers."""

    observed_generation: int = Field(default=-1, description="Generation of the spec that this status is about.")
    phase: Phase = Field(default=Phase.PENDING, description="Phase of the plan.")
    attempt: int = Field(default=0, ge=0, le=10_000, description="The spec's attempt that this status is about.")
    step: str = Field(default="", description="Current step of all steps, such as 2/4.")
    weight: int | None = Field(
        default=None, ge=0, le=100, description="Desired percent of requests to EKS; unset before takeover."
    )
    eks: str = Field(
        default="",
        description="Percent of requests to EKS for the table: 25, or 10→25 while the gateway has not shown the new weight.",
    )
    held: HeldStatus | None = Field(default=None, description="Why the plan does not move; absent while it does.")
    trouble: int = Field(
        default=0,
        ge=0,
        le=3,
        description="How much the plan needs a person, to sort by: 0 none, 1 it waits, 2 somebody should look, 3 users may be"
        " harmed.",
    )
    share: Share | None = Field(default=None, description="Percent of requests seen on the EKS leg at the gateway.")
    since: Time | None = Field(default=None, description="Start of the current phase or step.")
    reason: str = Field(default="", description="Reason of the current state, in one word.")
    message: str = Field(default="", description="Reason of the current state, in one sentence with the numbers.")
    gate: str = Field(
        default="", description="Short summary of the gates for the table; empty while nothing is judged."
    )
    gates: Annotated[Sequence[GateStatus], Deferred] = Field(default=(), description="State of each gate.")
    answers: AnswersStatus | None = Field(
        default=None, description="Answers of both legs by HTTP status since the weight was confirmed."
    )
    evidence: EvidenceStatus | None = Field(default=None, description="Evidence of all enforced comparisons together.")
    probes: ProbesStatus | None = Field(default=None, description="What probes of both legs in pairs say.")
    estimate: Estimate | None = Field(
        default=None, description="Estimate of what is missing until the next step may begin; absent at 0 and 100 %."
    )
    templates: tuple[ResolvedTemplate, ...] = Field(default=(), description="Gate templates that are in force.")
    preflight: tuple[CheckStatus, ...] = Field(default=(), description="Result of each preflight check.")
    audit: AuditStatus | None = Field(
        default=None, description="The last request for the audits and both legs' answers; absent before any."
    )
    decommission: tuple[DecommissionItem, ...] = Field(
        default=(),
        description="What to switch off on Heroku, in this order, once the plan is Completed; empty before.",
    )
    baseline: BaselineStatus | None = Field(default=None, description="Record of Heroku before the first step.")
    blocks: BlockStatus | None = Field(
        default=None, description="Length of the plan's blocks; unset until the gateways' scrapes were seen."
    )
    ledger: tuple[LedgerEntry, ...] = Field(default=(), description="The last decisions, oldest first.")
    notified: dict[str, str] | None = Field(
        default=None, description="Last decision that was sent to each receiver of notifications."
    )
    checkpoint: Checkpoint | None = Field(default=None, description="State for a restarted operator.")
    route: RouteRecord | None = Field(default=None, description="The route that the operator has written.")
    releases: ReleasesStatus | None = Field(
        default=None, description="What each leg runs, from the takeover to the end of the soak."
    )
    failed_takeover: int | None = Field(
        default=None,
        description="Attempt in which users got their own route back, as Heroku did not answer over the operator's. The plan"
        " is held until spec.attempt is higher.",
    )
    spec_snapshot: SpecSnapshot | None = Field(
        default=None,
        description="Snapshot of the spec at the last reconcile; the ledger records edits since.",
    )
    approved: ApprovedStep | None = Field(
        default=None, description="Step that was approved by raising the ceiling, in this attempt."
    )
    void: dict[str, str] | None = Field(
        default=None,
        description="Annotations that are void, with their values: given before the weight was lowered, or refused for good.",
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, Reconciling, Stalled, Progressing, Held, Completed and RolledBack.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def evolve(self, **changes: Unpack[StatusChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)
