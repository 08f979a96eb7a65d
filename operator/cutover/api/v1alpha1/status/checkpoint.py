"""The state from which a restarted operator goes on judging."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, Unpack

from pydantic import Field

from cutover.api.model import Model
from cutover.api.opaque import Opaque

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import CheckpointChanges, CustomSloChanges


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
