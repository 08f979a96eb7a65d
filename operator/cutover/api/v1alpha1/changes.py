"""The arguments of ``evolve``: names and types of the status fields that a transition may change, for mypy.

Copies of a model are not validated, as a plan is copied several times at each reconcile, so only these types keep a
transition from writing a field that does not exist. A unit test compares each type with its model.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, TypedDict

from cutover.api.opaque import Opaque
from cutover.api.v1alpha1.status.baseline import (
    BacktestStatus,
    BaselineStatus,
    BoundBaseline,
    ComparisonStatus,
    RecordStatus,
)
from cutover.api.v1alpha1.status.checkpoint import Checkpoint, CustomSloEvidence
from cutover.api.v1alpha1.status.decommission import DecommissionItem
from cutover.api.v1alpha1.status.gates import EvidenceStatus, GateNumbers, GateStatus
from cutover.api.v1alpha1.status.in_force import ApprovedStep, ResolvedTemplate, SpecSnapshot
from cutover.api.v1alpha1.status.ledger import LedgerEntry
from cutover.api.v1alpha1.status.plan import BlockStatus, Condition, HeldStatus, Phase
from cutover.api.v1alpha1.status.preflight import AuditStatus, CheckStatus
from cutover.api.v1alpha1.status.releases import LegName, ReleasesStatus, TemplateDigests
from cutover.api.v1alpha1.status.requests import AnswersStatus, Estimate, ProbesStatus, Share
from cutover.api.v1alpha1.status.route import RouteRecord


class AuditChanges(TypedDict, total=False):
    """Fields of :class:`AuditStatus` that its answer changes."""

    answered_at: datetime | None
    message: str


class BaselineChanges(TypedDict, total=False):
    """Fields of :class:`BaselineStatus` that are recorded one after another."""

    requests: int
    slow_ms: float | None
    very_slow_ms: float | None
    bounds: tuple[BoundBaseline, ...]
    backtest: BacktestStatus | None
    record: RecordStatus | None
    takeover: ComparisonStatus | None
    hours: Opaque | None


class ComparisonChanges(TypedDict, total=False):
    """Fields of :class:`ComparisonStatus` that its result changes."""

    verdict: Literal["Comparing", "Alike", "Differs", "TooFew", "Skipped"]
    message: str


class CheckpointChanges(TypedDict, total=False):
    """Fields of :class:`Checkpoint` that blocks and probes change; a new weight begins a new checkpoint."""

    at: float
    share_pool: tuple[float, float]
    forwarded: bool
    proven_at: float | None
    forward_asked_at: float | None
    heroku_down_since: float | None
    live_at: float | None
    observed_at: float | None
    next_weight: int
    consumed_until: float
    gaps: int
    gap: str
    ambiguous: bool
    evidence: Opaque
    pace: Opaque
    custom_slos: tuple[CustomSloEvidence, ...]


class CustomSloChanges(TypedDict, total=False):
    """Fields of :class:`CustomSloEvidence` that a new step changes."""

    evidence: Opaque


class LedgerEntryChanges(TypedDict, total=False):
    """Fields of :class:`LedgerEntry` that are cut if the ledger is too long."""

    message: str
    gates: tuple[GateNumbers, ...]
    queries: tuple[str, ...]
    edited: tuple[str, ...]


class ReleasesChanges(TypedDict, total=False):
    """Fields of :class:`ReleasesStatus` that releases and rollouts change."""

    heroku_version: int | None
    heroku_code: str
    heroku_at: datetime | None
    dynos: dict[str, int] | None
    sizes: dict[str, str] | None
    maintenance: bool | None
    certificate: str
    eks: TemplateDigests | None
    rolling: tuple[str, ...]
    level: str
    ahead: LegName | None
    change: str
    evidence_from: float | None
    problem: str


class StatusChanges(TypedDict, total=False):
    """Fields of :class:`MigrationPlanStatus`."""

    observed_generation: int
    phase: Phase
    attempt: int
    step: str
    weight: int | None
    eks: str
    held: HeldStatus | None
    trouble: int
    share: Share | None
    since: datetime | None
    reason: str
    message: str
    gate: str
    gates: Sequence[GateStatus]
    answers: AnswersStatus | None
    evidence: EvidenceStatus | None
    probes: ProbesStatus | None
    estimate: Estimate | None
    templates: tuple[ResolvedTemplate, ...]
    preflight: tuple[CheckStatus, ...]
    audit: AuditStatus | None
    decommission: tuple[DecommissionItem, ...]
    baseline: BaselineStatus | None
    blocks: BlockStatus | None
    ledger: tuple[LedgerEntry, ...]
    notified: dict[str, str] | None
    checkpoint: Checkpoint | None
    route: RouteRecord | None
    releases: ReleasesStatus | None
    failed_takeover: int | None
    spec_snapshot: SpecSnapshot | None
    approved: ApprovedStep | None
    void: dict[str, str] | None
    conditions: tuple[Condition, ...]
