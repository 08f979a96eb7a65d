"""All ports that a plan's loop uses, in one object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from cutover.api.v1alpha1 import BacktestStatus
from cutover.api.v1alpha1.templates import Template
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockFeed, BlockSubscription, Dialect
from cutover.ports.clock import Clock
from cutover.ports.inventories import Inventories
from cutover.ports.leg_probe import LegProbe
from cutover.ports.notifier import Notifier
from cutover.ports.plans import Plans
from cutover.ports.slo_feed import SloFeed
from cutover.ports.traffic import TrafficProvider


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
    slots
        Bounds how many reconciles run at a time.
    """

    plans: Plans
    traffic: TrafficProvider
    inventories: Inventories
    leg_probe: LegProbe
    block_feed: BlockFeed
    slo_feed: SloFeed
    clock: Clock
    dialect: Dialect
    templates: Callable[[str], Mapping[str, Template | str]]
    sources: Callable[[str], tuple[str, ...]]
    backtest: Callable[[Plan, BlockSubscription], Coroutine[Any, Any, BacktestStatus]]
    slots: asyncio.Semaphore
    notifier: Notifier

    def now(self, plan: Plan) -> float:
        """Return the time by which a plan is judged: that of its Prometheus server, as its blocks have."""
        return self.block_feed.now(plan.spec.gates.prometheus or "") if plan.has_spec else self.clock.now()
