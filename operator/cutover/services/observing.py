"""Collects the Observation that one plan's decision is made on.

What cannot be read is reported as missing, not guessed. Slow requests run beside the loop, see
:mod:`cutover.services.background`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import structlog

from cutover.api.v1alpha1 import BacktestStatus, Phase
from cutover.api.v1alpha1.templates import Template
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.engine.context import resolve
from cutover.domain.engine.wanted import (
    backtest_wanted,
    baselines_wanted,
    custom_slos_wanted,
    probe_interval,
    samples_wanted,
)
from cutover.domain.evidence.tolerances import thresholds, thresholds_wanted
from cutover.domain.observation import Observation, Samples
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.revision import desired_split
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.traffic import Probe, TrafficState
from cutover.ports.all import Ports
from cutover.ports.block_feed import BlockSubscription
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.ports.slo_feed import SloSubscription
from cutover.scale.turns import spread_part
from cutover.services.background import BackgroundFact
from cutover.services.working_status import PENDING_BLOCKS, WorkingStatus

log = structlog.get_logger("cutover")

#: Where a plan's phase wants probes no more often than the first number, a healthy Heroku leg is probed at the second
#: interval: an answer counts for a minute. A leg that failed is probed again as soon as the phase says. The spread gives each
#: plan an interval of its own, so that plans that started together do not stay in step.
SELDOM_PROBE_SECONDS, WELL_PROBE_SECONDS, PROBE_SPREAD_SECONDS = 10.0, 20.0, 10.0
#: Where a reconcile begins or ends so many seconds late, the machine slept.
SLEPT_SECONDS = 60.0


class Observer:
    """Observes one plan.

    Parameters
    ----------
    ports
        The outside world.
    working
        The plan's working status, with the blocks that wait for a write.
    wake
        Starts the next reconcile now; called when a background fact changed.
    """

    def __init__(self, ports: Ports, working: WorkingStatus, wake: Callable[[], None]) -> None:
        self._ports = ports
        self._working = working
        self._since = math.inf  # by Prometheus' clock, which may turn out to be behind the first estimate
        self._looked = self._due = math.inf  # the last observation, and when the next is due, by the same clock
        self.probe: BackgroundFact[Probe] = BackgroundFact(
            "probe of the Heroku leg", now=self._now, news=wake, is_news=_another_answer, patience=SLEPT_SECONDS
        )
        self.backtest: BackgroundFact[BacktestStatus] = BackgroundFact("backtest", now=self._now, news=wake)

    async def look(self, plan: Plan) -> tuple[Observation, float]:
        """Return an observation and its time in Unix seconds.

        After the machine slept, earlier observations are outdated and are dropped, as at a start.
        """
        began = self._ports.now(plan)
        if began - self._due > SLEPT_SECONDS:
            self._begin_anew(began)
        seen = await self._observe(plan)
        now = self._ports.now(plan)
        if now - began > SLEPT_SECONDS:
            self._begin_anew(now)
            seen = replace(seen, since=now, probe=None)
        self._looked = now
        return seen, now

    def unreadable(self, plan: Plan) -> Observation:
        """Return the observation for a plan without a spec: only what is still to be written."""
        return Observation(unwritten=self._working.unwritten, remember_in=self._working.remember_in(plan))

    def expect_next(self, seconds: float) -> None:
        """Note in how many seconds after the last observation the next is due."""
        self._due = self._looked + seconds

    def stop(self) -> None:
        """Stop the background requests, and the feeds of the plan."""
        self.probe.stop()
        self.backtest.stop()
        if self._working.plan is not None:
            self._ports.block_feed.forget(self._working.plan.key)
            self._ports.slo_feed.forget(self._working.plan.key)

    def _begin_anew(self, now: float) -> None:
        self._since = now
        self.probe.forget()

    def _now(self) -> float:
        return self._ports.now(self._working.plan) if self._working.plan is not None else self._ports.clock.now()

    async def _observe(self, plan: Plan) -> Observation:
        ports, errors = self._ports, list[str]()
        self._since = min(self._since, ports.now(plan))
        slow, very_slow = thresholds(plan.spec, plan.status)
        subscription = replace(ports.dialect.subscription(plan), slow_ms=slow, very_slow_ms=very_slow)
        sources = ports.sources(plan.namespace)
        may = not subscription.source or subscription.source in sources
        traffic, inventory = await self._objects(plan, errors)
        samples = self._blocks(plan, subscription, may=may)
        histogram = await self._histogram(plan, subscription, errors) if may else None
        templates = ports.templates(plan.namespace)
        return Observation(
            traffic=traffic,
            capabilities=ports.traffic.capabilities,
            inventory=inventory,
            probe=self._leg_probe(plan),
            prepared_for=self._working.prepared_for(plan),
            samples=samples,
            histogram=histogram,
            errors=tuple(errors),
            since=self._since,
            slo_readings=self._custom_slos(plan, templates if may else None),
            templates=templates,
            sources=sources,
            queries=ports.dialect.dashboard_queries(subscription),
            backtest=self._backtest_result(plan, subscription),
            unwritten=self._working.unwritten,
            remember_in=self._working.remember_in(plan),
        )

    async def _objects(self, plan: Plan, errors: list[str]) -> tuple[TrafficState | None, Inventory | None]:
        """Read the route and, in preflight, the objects that its checks judge."""
        status = plan.status
        traffic: TrafficState | None = None
        inventory: Inventory | None = None
        try:
            # In preflight also before the takeover: an earlier plan may have left a route that carries traffic.
            if status.weight is not None or status.phase is Phase.PREFLIGHT:
                wanted = desired_split(status) if status.weight is not None else None
                traffic = await self._ports.traffic.get(plan, wanted)
            if status.phase is Phase.PREFLIGHT:
                inventory = await self._ports.inventories.inventory(plan)
        except (Conflict, Gone, Unavailable) as outage:
            errors.append(str(outage))
        return traffic, inventory

    def _blocks(self, plan: Plan, subscription: BlockSubscription, *, may: bool) -> Samples:
        """Return the blocks that no stored decision has consumed.

        Parameters
        ----------
        may
            Whether plans of this namespace may use the Prometheus server that the plan names.
        """
        feed, working, checkpoint = self._ports.block_feed, self._working, plan.status.checkpoint
        if not may:
            # Blocks that were read before the plan was edited are dropped, too.
            feed.forget(plan.key)
            return Samples(error=f"plans of this namespace may not use the Prometheus {subscription.source!r}")
        if not samples_wanted(plan.status) or checkpoint is None:
            feed.forget(plan.key)
            return Samples()
        if len(working.pending) >= PENDING_BLOCKS:
            feed.forget(plan.key)
            return Samples(working.pending)
        # The blocks that wait for a write are not delivered again.
        since = working.pending[-1].end if working.pending else checkpoint.consumed_until
        feed.watch(plan.key, replace(subscription, since=since))
        news = feed.take(plan.key)
        working.pending = (*working.pending, *news.blocks)
        return replace(news, blocks=working.pending)

    async def _histogram(self, plan: Plan, subscription: BlockSubscription, errors: list[str]) -> Histogram | None:
        """Read Heroku's latencies where the plan has to choose thresholds from them."""
        status = plan.status
        observed = status.checkpoint is not None and status.checkpoint.observed_at
        if status.phase is not Phase.BASELINE or not observed or not thresholds_wanted(plan.spec):
            return None
        start = status.baseline.since.timestamp() if status.baseline else self._since
        try:
            return await self._ports.block_feed.histogram(replace(subscription, since=start))
        except Unavailable as outage:
            errors.append(str(outage))
            return None

    # ------------------------------------------------------------------------------------------------------ custom SLOs

    def _custom_slos(self, plan: Plan, templates: Mapping[str, Template | str] | None) -> Mapping[str, SloReading]:
        """Return new readings of the custom SLOs, with the blocks that wait for a write.

        Without ``templates`` nothing is queried.
        """
        working, feed = self._working, self._ports.slo_feed
        wanted = templates is not None and custom_slos_wanted(plan.status)
        gates = resolve(plan, templates).gates if templates is not None and wanted else ()
        if not gates:
            feed.forget(plan.key)
            working.pending_custom = {}
            return {}
        readings: Mapping[str, SloReading] = {}
        if max(map(len, working.pending_custom.values()), default=0) < PENDING_BLOCKS:
            feed.watch(plan.key, self._slo_subscription(plan, gates))
            readings = feed.take(plan.key)
        else:
            feed.forget(plan.key)
        for name, reading in readings.items():
            if reading.blocks:
                working.pending_custom[name] = (*working.pending_custom.get(name, ()), *reading.blocks)
        pending = {name: SloReading(blocks=blocks) for name, blocks in working.pending_custom.items()}
        return {
            **pending,
            **{
                name: replace(reading, blocks=working.pending_custom.get(name, ()))
                for name, reading in readings.items()
            },
        }

    def _slo_subscription(self, plan: Plan, gates: tuple[CustomSlo, ...]) -> SloSubscription:
        status, checkpoint = plan.status, plan.status.checkpoint
        consumed = (
            {evidence.gate: evidence.consumed_until for evidence in checkpoint.custom_slos} if checkpoint else {}
        )
        # Before the takeover, since this process first saw the plan: the current time would advance with every reconcile.
        start = checkpoint.consumed_until if checkpoint else self._since
        waiting = {name: blocks[-1].end for name, blocks in self._working.pending_custom.items()}
        return SloSubscription(
            source=plan.spec.gates.prometheus or "",
            gates=gates,
            block_seconds=int(plan.spec.gates.block.total_seconds()),
            since={gate.name: waiting.get(gate.name, consumed.get(gate.name, start)) for gate in gates},
            judged_from=checkpoint.observed_at if checkpoint and status.weight else None,
            baselines=frozenset(baselines_wanted(status, gates)),
        )

    # ---------------------------------------------------------------------------------------------- beside the loop

    def _leg_probe(self, plan: Plan) -> Probe | None:
        """Return the newest probe of the Heroku leg, and schedule the next."""
        interval = probe_interval(plan.status)
        if interval is None:
            self.probe.drop()
            return None
        probe = self.probe.fact.value
        if probe is not None and probe.healthy and interval >= SELDOM_PROBE_SECONDS:
            interval = WELL_PROBE_SECONDS + PROBE_SPREAD_SECONDS * spread_part(plan.uid)
        return self.probe.keep(lambda: self._ask_heroku(plan), interval).value

    async def _ask_heroku(self, plan: Plan) -> Probe:
        before, asked = self.probe.fact.value, self._ports.now(plan)
        try:
            probe = await self._ports.leg_probe.probe(plan)
        except Exception as fault:
            # A bug. Without an answer the plan would wait for a probe, and its status would not say why.
            log.exception("probe failed", plan=plan.key)
            probe = Probe(self._ports.clock.now(), "", healthy=False, detail=f"could not be made: {fault!r}")
        failures = 0 if probe.healthy else 1 + (before.failures if before is not None else 0)
        # By Prometheus' clock, as the operator's may have been set meanwhile.
        return replace(probe, at=min(asked, self._ports.now(plan)), failures=failures)

    def _backtest_result(self, plan: Plan, subscription: BlockSubscription) -> BacktestStatus | None:
        """Return the result of the backtest that the plan asks for, once there is one. It runs once."""
        if not backtest_wanted(plan, self._ports.now(plan)):
            self.backtest.drop()
            return None
        return self.backtest.keep(lambda: self._ports.backtest(plan, subscription), math.inf).value


def _another_answer(before: Probe | None, probe: Probe) -> bool:
    return before is None or (before.revision, before.healthy) != (probe.revision, probe.healthy)
