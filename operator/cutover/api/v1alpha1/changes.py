"""The arguments of ``evolve``: names and types of the status fields that a transition may change, for mypy.

Copies of a model are not validated, as a plan is copied several times at each reconcile, so only these types keep a
transition from writing a field that does not exist. A unit test compares each type with its model.
"""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict

from cutover.api.opaque import Opaque
from cutover.api.v1alpha1.status import (
    ApprovedStep,
    BacktestStatus,
    BaselineStatus,
    BoundBaseline,
    Checkpoint,
    CheckStatus,
    Condition,
    CustomSloEvidence,
    EvidenceStatus,
    GateNumbers,
    GateStatus,
    LedgerEntry,
    Phase,
    ResolvedTemplate,
    Share,
    SpecSnapshot,
)


class BaselineChanges(TypedDict, total=False):
    """Fields of :class:`BaselineStatus` that are recorded one after another."""

    requests: int
    slow_ms: float | None
    very_slow_ms: float | None
    bounds: tuple[BoundBaseline, ...]
    backtest: BacktestStatus | None


class CheckpointChanges(TypedDict, total=False):
    """Fields of :class:`Checkpoint` that blocks and probes change; a new weight begins a new checkpoint."""

    at: float
    share_pool: tuple[float, float]
    live_at: float | None
    observed_at: float | None
    next_weight: int
    consumed_until: float
    gaps: int
    evidence: Opaque
    custom_slos: tuple[CustomSloEvidence, ...]


class CustomSloChanges(TypedDict, total=False):
    """Fields of :class:`CustomSloEvidence` that a new step changes."""

    evidence: Opaque


class LedgerEntryChanges(TypedDict, total=False):
    """Fields of :class:`LedgerEntry` that are cut if the ledger is too long."""

    message: str
    gates: tuple[GateNumbers, ...]
    queries: tuple[str, ...]


class StatusChanges(TypedDict, total=False):
    """Fields of :class:`MigrationPlanStatus`."""

    observed_generation: int
    phase: Phase
    attempt: int
    step: str
    weight: int | None
    share: Share | None
    since: datetime | None
    reason: str
    message: str
    gate: str
    gates: tuple[GateStatus, ...]
    evidence: EvidenceStatus | None
    templates: tuple[ResolvedTemplate, ...]
    preflight: tuple[CheckStatus, ...]
    baseline: BaselineStatus | None
    ledger: tuple[LedgerEntry, ...]
    notified: dict[str, str] | None
    checkpoint: Checkpoint | None
    spec_snapshot: SpecSnapshot | None
    approved: ApprovedStep | None
    void: dict[str, str] | None
    conditions: tuple[Condition, ...]
