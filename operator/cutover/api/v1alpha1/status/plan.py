"""The status of a MigrationPlan, which only the operator writes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal, Self, Unpack

from pydantic import Field
from pydantic.dataclasses import dataclass

from cutover.api.deferred import Deferred
from cutover.api.model import COMPACT, Model, Time
from cutover.api.v1alpha1.status.baseline import BaselineStatus
from cutover.api.v1alpha1.status.checkpoint import Checkpoint
from cutover.api.v1alpha1.status.decommission import DecommissionItem
from cutover.api.v1alpha1.status.gates import EvidenceStatus, GateStatus
from cutover.api.v1alpha1.status.in_force import ApprovedStep, ResolvedTemplate, SpecSnapshot
from cutover.api.v1alpha1.status.ledger import LedgerEntry
from cutover.api.v1alpha1.status.preflight import AuditStatus, CheckStatus
from cutover.api.v1alpha1.status.releases import ReleasesStatus
from cutover.api.v1alpha1.status.requests import AnswersStatus, Estimate, ProbesStatus, Share
from cutover.api.v1alpha1.status.route import RouteRecord

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import StatusChanges


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
