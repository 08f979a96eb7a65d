"""All ports that a plan's loop uses, in one object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from cutover.api.v1alpha1 import BacktestStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.plan import Plan
from cutover.ports.answers import Answers
from cutover.ports.block_feed import BlockFeed, BlockSubscription, Dialect
from cutover.ports.clock import Clock
from cutover.ports.heroku import HerokuApi
from cutover.ports.heroku_record import HerokuRecord
from cutover.ports.inventories import Inventories
from cutover.ports.leg_probe import LegProbe
from cutover.ports.notifier import Notifier
from cutover.ports.plans import Plans
from cutover.ports.records import Records
from cutover.ports.reports import Reports
from cutover.ports.resolver import Resolver
from cutover.ports.slo_feed import SloFeed
from cutover.ports.traffic import TrafficProvider
from cutover.scale.turns import Turns

#: Requests of all plans for background facts that no decision waits for, such as the audits', at a time.
UNHURRIED_REQUESTS = 4
#: Pairs of probes a second of all plans together: where nothing is wrong, and urgent ones, of plans that have to know at once. If more
#: are due, as with a thousand plans at 100 %, or in an incident of many, each plan asks less often.
CALM_PAIRS_PER_SECOND, URGENT_PAIRS_PER_SECOND = 30.0, 70.0


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world, shared by the loops of all plans.

    Parameters
    ----------
    dialect
        Says where a plan's requests are counted.
    templates
        Returns the gate templates that plans of a namespace may refer to, by ``Kind/name``; a text says why a template
        cannot be read.
    sources
        Returns the names of the Prometheus servers that plans of a namespace may choose.
    backtest
        Replays a plan's gates on Heroku's traffic. Never raises: a failure is a result that says so.
    heroku
        Heroku's Platform API.
    reports
        Keeps the reports of plans that end; ``None`` where nobody wants them.
    resolver
        DNS.
    heroku_record
        The drain's record.
    records
        Heroku's records of the time before the takeover.
    slots
        Bounds how many reconciles run at a time.
    unhurried
        Bounds how many requests for facts that no decision waits for run at a time.
    turns, urgent_turns
        Bound how many pairs of probes all plans together ask in a second. An urgent pair waits for no calm one.
    """

    plans: Plans
    traffic: TrafficProvider
    inventories: Inventories
    leg_probe: LegProbe
    answers: Answers
    block_feed: BlockFeed
    slo_feed: SloFeed
    clock: Clock
    dialect: Dialect
    templates: Callable[[str], Mapping[str, Template | str]]
    sources: Callable[[str], tuple[str, ...]]
    backtest: Callable[[Plan, BlockSubscription], Coroutine[Any, Any, BacktestStatus]]
    slots: asyncio.Semaphore
    notifier: Notifier
    heroku: HerokuApi | None = None
    reports: Reports | None = None
    resolver: Resolver | None = None
    heroku_record: HerokuRecord | None = None
    records: Records | None = None
    unhurried: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(UNHURRIED_REQUESTS))
    turns: Turns = field(default_factory=lambda: Turns(CALM_PAIRS_PER_SECOND))
    urgent_turns: Turns = field(default_factory=lambda: Turns(URGENT_PAIRS_PER_SECOND))

    def now(self, plan: Plan) -> float:
        """Return the time by which a plan is judged: that of its Prometheus server, as its blocks have."""
        return self.block_feed.now(plan.spec.gates.prometheus or "") if plan.has_spec else self.clock.now()
