"""What one reconcile observes, as plain facts; :func:`cutover.domain.engine.decide.decide` judges them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cutover.api.v1alpha1 import BacktestStatus, CheckStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.alike.findings import PathAnswers
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.baseline.record import KeptRecord, RecordReading
from cutover.domain.dns import HostRecord
from cutover.domain.dynos import DynoUse
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.pairs import NO_PAIRS, Pairs
from cutover.domain.heroku import HerokuNews, HerokuReading
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.rollout import Rollout
from cutover.domain.slo.custom import SloReading
from cutover.domain.traffic import NOTHING, Capabilities, Probe, TrafficState


@dataclass(frozen=True, slots=True)
class Samples:
    """New blocks since the last consumed one, oldest first.

    Parameters
    ----------
    blocks
        Usable and unusable blocks, without holes in time.
    error
        Why Prometheus gave no answer; ``""`` if it did.
    scrape_seconds
        Seconds between two scrapes of the plan's gateways, as seen lately; ``None`` if they were not seen.
    """

    blocks: tuple[Block, ...] = ()
    error: str = ""
    scrape_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """Everything that one reconcile knows. ``None`` means that a fact could not be read, or was not needed.

    Parameters
    ----------
    traffic
        The route; ``None`` if the API server gave no answer.
    capabilities
        What the plan's traffic provider can do.
    inventory
        The objects that preflight judges; read in preflight only.
    capacity
        The objects that say how many replicas EKS can have; read while Heroku is down, if the plan may send all users to
        EKS.
    neighbours
        The objects that say who else sends requests to the legs; read while the share at the gateway does not fit.
    probe
        The newest probe of the Heroku leg.
    eks_probe
        The newest probe of the EKS leg; ``None`` where it is not asked, or not yet.
    pairs
        What is known from probes of both legs in pairs.
    answers
        The answers that users get now, and those of both legs, in the trial before the takeover; later those of both legs,
        where somebody asks for them.
    prepared_for
        Seconds since this process first saw the objects that the route refers to.
    samples
        New blocks.
    histogram
        Heroku's latencies since the takeover; read in the Baseline phase only.
    record
        What is known of Heroku's record of the time before the takeover; ``None`` where none is asked for.
    kept
        Whether the record is kept in full; ``None`` where that is not asked for, or not done yet.
    errors
        Why facts could not be read, in words for people.
    since
        Unix seconds at which this process began to observe the plan. Silence from before says nothing.
    slo_readings
        What was read for each custom SLO, by its name.
    templates
        Gate templates that the plan may refer to, by ``Kind/name``; a text says why a template could not be read.
    sources
        Names of the Prometheus servers that plans of this namespace may choose.
    queries
        Dashboard queries: PromQL for the mesh's metrics, by metric.
    backtest
        Result of the replay that the plan asks for; ``None`` until it is done.
    heroku
        What Heroku's API says about the app; asked in preflight and once Completed, ``None`` without a key for it.
    news
        What Heroku's API says of releases and the app during a cutover; ``None`` without a key for it.
    rollout
        What the workload runs, during a cutover; ``None`` if it was not read yet, or cannot be.
    dns
        What DNS says about the hosts, as far as it was asked; in preflight and once Completed.
    dynos
        What the web dynos use, as the drain recorded it; in preflight only.
    last_requests
        Requests at Heroku's router in the last 24 h, as the drain recorded them; once Completed only.
    audits
        What the audits find in this step; ``None`` before they were run.
    asked_anew
        Whether all that is looked at for somebody who asks for audits was looked at since the request.
    not_asked
        What of it gave no answer, with the reason.
    unwritten
        Whether the last write of the route failed, as the status says. Until a write succeeds, the route is written
        before the status.
    clock_ahead
        Seconds by which the time of the decision, which is that of the plan's Prometheus, is ahead of the operator's clock.
    remember_in
        Seconds until the notifications that were sent are worth a write of the status by themselves; ``None`` if the
        status has all of them.
    """

    traffic: TrafficState | None = None
    capabilities: Capabilities = NOTHING
    inventory: Inventory | None = None
    capacity: Inventory | None = None
    neighbours: Inventory | None = None
    probe: Probe | None = None
    eks_probe: Probe | None = None
    pairs: Pairs = NO_PAIRS
    answers: tuple[PathAnswers, ...] | None = None
    prepared_for: float | None = None
    samples: Samples = Samples()
    histogram: Histogram | None = None
    record: RecordReading | None = None
    kept: KeptRecord | None = None
    errors: tuple[str, ...] = ()
    since: float = 0.0
    slo_readings: Mapping[str, SloReading] = field(default_factory=dict)
    templates: Mapping[str, Template | str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    queries: Mapping[str, str] = field(default_factory=dict)
    backtest: BacktestStatus | None = None
    heroku: HerokuReading | None = None
    news: HerokuNews | None = None
    rollout: Rollout | None = None
    dns: tuple[HostRecord, ...] = ()
    dynos: DynoUse | None = None
    last_requests: float | None = None
    audits: tuple[CheckStatus, ...] | None = None
    asked_anew: bool = False
    not_asked: tuple[str, ...] = ()
    unwritten: bool = False
    clock_ahead: float = 0.0
    remember_in: float | None = None
