"""The input of a decision: the plan, the observation and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.engine.outcome import NEXT_BLOCK, Requeue
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.slo.templates import Resolution, custom_slos


def resolve(plan: Plan, templates: Mapping[str, Template | str], *, frozen: bool = True) -> Resolution:
    """Return the plan's custom SLOs with their gate templates filled in.

    Parameters
    ----------
    plan
        The plan.
    templates
        Gate templates as they are now, by ``Kind/name``; a text says why a template could not be read.
    frozen
        Whether templates that are in force stay in force; a changed template then waits for the next step.
    """
    return custom_slos(
        plan.spec,
        plan_name=plan.name,
        namespace=plan.namespace,
        frozen=plan.status.templates if frozen else (),
        kept=plan.status.templates,
        templates=templates,
    )


@dataclass(frozen=True, slots=True)
class Context:
    """The input of every question of a decision.

    Parameters
    ----------
    plan
        The plan with its working status.
    seen
        What was observed for this decision.
    now
        Unix seconds.
    """

    plan: Plan
    seen: Observation
    now: float

    @property
    def spec(self) -> MigrationPlanSpec:
        """The plan's spec."""
        return self.plan.spec

    @property
    def time(self) -> datetime:
        """``now``, as the status writes it."""
        return datetime.fromtimestamp(self.now, UTC)

    @property
    def block_seconds(self) -> float:
        """Length of a block."""
        return self.plan.spec.gates.block.total_seconds()

    @property
    def hosts(self) -> str:
        """The hosts whose traffic is shifted, for a message."""
        return ", ".join(self.plan.spec.traffic.hosts)

    def resolve(self, *, frozen: bool = True) -> Resolution:
        """Return the plan's custom SLOs; see :func:`resolve`."""
        return resolve(self.plan, self.seen.templates, frozen=frozen)

    def wait(self, seconds: float) -> Requeue:
        """Return when to reconcile again for something that ends in some seconds: at the next block at the latest."""
        return seconds if seconds < self.block_seconds else NEXT_BLOCK

    def waited(self, since: float) -> float:
        """Return the seconds that have passed since a time while this process observed the plan.

        Silence from before the process started is no reason for an alarm.
        """
        return self.now - max(since, self.seen.since)

    def in_phase_since(self, status: MigrationPlanStatus) -> float:
        """Return the Unix seconds at which the current phase or step began."""
        return status.since.timestamp() if status.since is not None else self.now
