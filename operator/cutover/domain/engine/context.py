"""The input of a decision: the plan, the observation and the time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.engine.outcome import NEXT_BLOCK, Requeue
from cutover.domain.evidence.hourly import NO_REFERENCE, HourlyReference, load_hours
from cutover.domain.evidence.judge import GateRules
from cutover.domain.evidence.lengths import in_force
from cutover.domain.evidence.probe_key import ProbeKey, probe_key
from cutover.domain.evidence.tolerances import gate_rules
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.slo.templates import Resolution, custom_slos
from cutover.domain.traffic import Capabilities


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


@dataclass(frozen=True)
class Context:
    """The input of every question of a decision. What several questions derive from it is computed once.

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

    @cached_property
    def time(self) -> datetime:
        """``now``, as the status writes it."""
        return datetime.fromtimestamp(self.now, UTC)

    @property
    def wall_time(self) -> datetime:
        """The time by the operator's own clock, for calendars: Prometheus' clock is for what Prometheus counted."""
        return datetime.fromtimestamp(self.now - self.seen.clock_ahead, UTC)

    @cached_property
    def block_seconds(self) -> float:
        """Length of a block."""
        return float(in_force(self.plan.spec, self.plan.status).seconds)

    @property
    def hosts(self) -> str:
        """The hosts whose traffic is shifted, for a message."""
        return ", ".join(self.plan.spec.traffic.hosts)

    @cached_property
    def rules(self) -> GateRules:
        """The judge's rules."""
        return gate_rules(self.spec)

    @cached_property
    def hours(self) -> HourlyReference | None:
        """What was normal for Heroku in each hour of the week; ``None`` if the plan asks for no record of that time."""
        recorded = self.plan.status.baseline
        if self.spec.baseline.source is None or recorded is None or recorded.record is None:
            return None
        return load_hours(recorded.hours) if recorded.hours is not None else NO_REFERENCE

    @cached_property
    def slos(self) -> Resolution:
        """The plan's custom SLOs; gate templates that are in force stay in force."""
        return resolve(self.plan, self.seen.templates)

    @cached_property
    def newest_slos(self) -> Resolution:
        """The plan's custom SLOs with gate templates as they are now, for the next step."""
        return resolve(self.plan, self.seen.templates, frozen=False)

    @cached_property
    def probes_say(self) -> ProbeKey:
        """What the probes of both legs in pairs say now."""
        return probe_key(self.seen.pairs, self.now, limit=self.rules.harm_limit, block_seconds=self.block_seconds)

    @cached_property
    def can(self) -> Capabilities:
        """What the traffic provider can do for this plan.

        Where users are split and not requests, one user's requests are all on one leg: the share of requests is the weight only
        on average over very many users, so that it neither confirms a weight nor contradicts it.
        """
        can = self.seen.capabilities
        return can if self.rules.requests_drawn else replace(can, confirms_share=False)

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
