"""Collects the Observation that one plan's decision is made on.

What cannot be read is reported as missing, not guessed. Slow requests run beside the loop, see
:mod:`cutover.services.background`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import structlog

from cutover.api.v1alpha1 import BacktestStatus, Phase
from cutover.domain.alike.findings import PathAnswers
from cutover.domain.alike.page import Page
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.engine.wanted import (
    answers_wanted,
    audit_asked_at,
    backtest_wanted,
    capacity_wanted,
    compares_again,
    neighbours_wanted,
    route_wanted,
    samples_wanted,
)
from cutover.domain.evidence.pairs import NO_PAIRS
from cutover.domain.evidence.tolerances import thresholds, thresholds_wanted
from cutover.domain.observation import Observation, Samples
from cutover.domain.plan import Plan
from cutover.domain.preflight import capacity, registry
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.slo.custom import SloReading
from cutover.domain.traffic import Probe, TrafficState
from cutover.ports.all import Ports
from cutover.ports.block_feed import BlockSubscription
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.services.advice import Advice
from cutover.services.background import BackgroundFact
from cutover.services.comparing import Asked, compare, question
from cutover.services.leg_watch import LegWatch
from cutover.services.probing import Probing
from cutover.services.record_watch import RecordWatch
from cutover.services.slo_readings import SloReadings
from cutover.services.working_status import PENDING_BLOCKS, WorkingStatus

log = structlog.get_logger("cutover")

T = TypeVar("T")

#: Seconds between two reads of EKS' replicas, while Heroku is down, and of all routes, while the share does not fit.
CAPACITY_SECONDS, NEIGHBOURS_SECONDS = 30.0, 60.0
#: Seconds until answers that users get are asked for again, while something about them holds the takeover.
ANSWERS_SECONDS = 30.0
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
        self.probes = Probing(ports, working, now=self._now, news=wake, patience=SLEPT_SECONDS)
        self.answers: BackgroundFact[Asked] = BackgroundFact(
            "answers that users get", now=self._now, news=wake, is_news=_others
        )
        self.capacity: BackgroundFact[Inventory] = BackgroundFact(
            "capacity of EKS", now=self._now, news=wake, is_news=_first, patience=SLEPT_SECONDS
        )
        self.neighbours: BackgroundFact[Inventory] = BackgroundFact(
            "other routes to the legs", now=self._now, news=wake, is_news=_first, patience=SLEPT_SECONDS
        )
        self._slos = SloReadings(ports, working)
        self.legs = LegWatch(ports, now=self._now, news=wake)
        self.advice = Advice(ports, now=self._now, news=wake)
        self.record = RecordWatch(ports, now=self._now, news=wake)
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
            seen = replace(seen, since=now, probe=None, eks_probe=None, pairs=NO_PAIRS)
        self._looked = now
        return seen, now

    async def listed_anew(self, plan: Plan, seen: Observation) -> Observation:
        """Return an observation with what preflight judges, all of it read now."""
        try:
            return replace(seen, inventory=await self._ports.inventories.inventory(plan, fresh=True))
        except (Conflict, Gone, Unavailable) as outage:
            return replace(seen, inventory=None, errors=(*seen.errors, str(outage)))

    def unreadable(self, plan: Plan) -> Observation:
        """Return the observation for a plan without a spec: only what is still to be written."""
        return Observation(unwritten=self._working.unwritten, remember_in=self._working.remember_in(plan))

    def expect_next(self, seconds: float) -> None:
        """Note in how many seconds after the last observation the next is due."""
        self._due = self._looked + seconds

    def stop(self) -> None:
        """Stop the background requests, and the feeds of the plan."""
        self.probes.stop()
        self.answers.stop()
        self.capacity.stop()
        self.neighbours.stop()
        self.legs.stop()
        self.advice.stop()
        self.record.stop()
        self.backtest.stop()
        if self._working.plan is not None:
            self._ports.block_feed.forget(self._working.plan.key)
            self._ports.slo_feed.forget(self._working.plan.key)

    def _begin_anew(self, now: float) -> None:
        self._since = now
        self.probes.forget()
        self.answers.forget()
        self.capacity.forget()
        self.neighbours.forget()

    def _now(self) -> float:
        return self._ports.now(self._working.plan) if self._working.plan is not None else self._ports.clock.now()

    async def _observe(self, plan: Plan) -> Observation:
        ports, errors = self._ports, list[str]()
        self._renew(plan)
        self._since = min(self._since, ports.now(plan))
        self.legs.note_names(plan)
        slow, very_slow = thresholds(plan.spec, plan.status)
        subscription = replace(ports.dialect.subscription(plan), slow_ms=slow, very_slow_ms=very_slow)
        sources = ports.sources(plan.namespace)
        may = not subscription.source or subscription.source in sources
        traffic, inventory = await self._objects(plan, errors)
        samples = self._understood(
            "blocks",
            lambda: self._blocks(plan, subscription, may=may),
            lambda problem: Samples(self._working.pending, problem),
        )
        histogram = await self._histogram(plan, subscription, errors) if may else None
        templates = ports.templates(plan.namespace)
        probe = self.probes.heroku(plan)
        eks_alone, eks_paired = self.probes.eks(plan)
        answers = self._answers(plan, probe, eks_alone)
        record = self.record.reading(plan)
        readings = self._understood(
            "answers to custom SLOs",
            lambda: self._slos.readings(plan, templates if may else None, self._since),
            lambda _: dict[str, SloReading](),  # their blocks are missing, which holds
        )
        seen = Observation(
            traffic=traffic,
            capabilities=ports.traffic.capabilities,
            inventory=inventory,
            capacity=self._capacity(plan),
            neighbours=self._neighbours(plan),
            probe=probe,
            eks_probe=eks_alone or eks_paired,
            pairs=self.probes.pairs,
            answers=answers,
            prepared_for=self._working.prepared_for(plan),
            samples=samples,
            histogram=histogram,
            record=record,
            kept=self.record.kept(plan, record),
            errors=tuple(errors),
            since=self._since,
            slo_readings=readings,
            templates=templates,
            sources=sources,
            queries=ports.dialect.dashboard_queries(subscription),
            backtest=self._backtest_result(plan, subscription),
            heroku=self.legs.app(plan),
            news=self.legs.news(plan, heroku_fails=self.probes.heroku_fails),
            rollout=self.legs.rollout(plan),
            dns=self.advice.dns(plan),
            dynos=self.advice.dynos(plan),
            last_requests=self.advice.last_requests(plan),
            audits=self.advice.audits(plan),
            unwritten=self._working.unwritten,
            clock_ahead=ports.now(plan) - ports.clock.now(),
            remember_in=self._working.remember_in(plan),
        )
        awaited = answers is None and answers_wanted(plan, (probe, eks_alone), ports.traffic.capabilities)
        return self._asked_anew(plan, seen) if not awaited else seen

    def _renew(self, plan: Plan) -> None:
        """Have all that somebody asks for by an annotation looked at once more."""
        since = audit_asked_at(plan.status)
        if since is None:
            return
        self.answers.renew(since)
        self.advice.renew(since)
        self.legs.renew(plan, since)

    def _asked_anew(self, plan: Plan, seen: Observation) -> Observation:
        """Return the observation with whether somebody who asks for audits can be answered."""
        since = audit_asked_at(plan.status)
        if since is None or not (
            self.answers.renewed(since) and self.advice.renewed(since) and self.legs.renewed(plan, since)
        ):
            return seen
        return replace(seen, asked_anew=True, not_asked=(*seen.errors, *self.advice.problems))

    def _understood(self, what: str, read: Callable[[], T], otherwise: Callable[[str], T]) -> T:
        """Read evidence; with a problem where that fails, as a command to roll back has to be obeyed without evidence."""
        try:
            return read()
        except Exception:
            log.exception("evidence is not understood", what=what)
            return otherwise(f"the {what} are not understood; the operator's log has the reason")

    async def _objects(self, plan: Plan, errors: list[str]) -> tuple[TrafficState | None, Inventory | None]:
        """Read the route and, in preflight, the objects that its checks judge."""
        status = plan.status
        traffic: TrafficState | None = None
        inventory: Inventory | None = None
        try:
            # In preflight also before the takeover: an earlier plan may have left a route that carries traffic.
            if status.weight is not None or status.phase is Phase.PREFLIGHT:
                provider = self._ports.traffic
                traffic = await provider.get(plan, route_wanted(plan, provider.capabilities))
            if status.phase is Phase.PREFLIGHT:
                anew = audit_asked_at(status) is not None
                inventory = await self._ports.inventories.inventory(plan, fresh=anew)
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
        working.pending = (*working.pending, *self.probes.without_own_requests(news.blocks))
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
        except Exception:
            log.exception("evidence is not understood", what="histogram")
            errors.append("Heroku's latencies are not understood; the operator's log has the reason")
        return None

    # ---------------------------------------------------------------------------------------------- beside the loop

    def _answers(self, plan: Plan, *probes: Probe | None) -> tuple[PathAnswers, ...] | None:
        """Return the answers that users get and will get, if they are those to what the plan asks now."""
        if not answers_wanted(plan, probes, self._ports.traffic.capabilities):
            self.answers.drop()
            return None
        asked = self.answers.fact.value
        answered = asked is not None and asked.question == question(plan)
        # After the takeover somebody asks for them, once.
        lifetime = math.inf if compares_again(plan.status) else ANSWERS_SECONDS
        fact = self.answers.keep(lambda: self._compare(plan), lifetime if answered else 0.0)
        return fact.value.answers if answered and fact.value is not None else None

    async def _compare(self, plan: Plan) -> Asked:
        """Ask for the answers. The last of EKS may be in the first block after the takeover."""
        asked = await compare(self._ports.answers, plan)
        for each in asked.answers:
            if isinstance(each.eks, Page):
                now = self._ports.now(plan)
                self.probes.note_request(Probe(now, "", healthy=True, detail="", status=each.eks.status), now)
        return asked

    def _capacity(self, plan: Plan) -> Inventory | None:
        """Return the objects that say how many replicas EKS can have, if they are not outdated."""
        if not capacity_wanted(plan):
            self.capacity.drop()
            return None
        fact = self.capacity.keep(lambda: self._ports.inventories.inventory(plan, capacity.READS), CAPACITY_SECONDS)
        return None if fact.stale(self._now(), 2 * CAPACITY_SECONDS) else fact.value

    def _neighbours(self, plan: Plan) -> Inventory | None:
        """Return the objects that say who else sends requests to the legs."""
        if not neighbours_wanted(plan.status):
            self.neighbours.drop()
            return None
        reads = registry.neighbour_reads(plan)
        return self.neighbours.keep(lambda: self._ports.inventories.inventory(plan, reads), NEIGHBOURS_SECONDS).value

    def _backtest_result(self, plan: Plan, subscription: BlockSubscription) -> BacktestStatus | None:
        """Return the result of the backtest that the plan asks for, once there is one. It runs once."""
        if not backtest_wanted(plan, self._ports.now(plan)):
            self.backtest.drop()
            return None
        return self.backtest.keep(lambda: self._ports.backtest(plan, subscription), math.inf).value


def _first(before: Inventory | None, inventory: Inventory) -> bool:  # noqa: ARG001
    return before is None


def _others(before: Asked | None, asked: Asked) -> bool:
    return before != asked
