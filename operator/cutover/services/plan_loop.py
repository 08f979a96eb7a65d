"""Observe, decide, apply: one plan's loop.

The loop holds the working status, which is ahead of the stored one by the evidence since the last checkpoint. It loses
nothing by being killed: what it knows beyond the checkpoint is in Prometheus, at the same timestamps.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import structlog
from pydantic import ValidationError

from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import GROUP, BacktestStatus, MigrationPlanStatus, Phase
from cutover.api.v1alpha1.templates import Template
from cutover.domain.engine.actions import Action, Decision, Event, Finalize, Prepare, SetWeight, WriteStatus
from cutover.domain.engine.context import resolve
from cutover.domain.engine.decide import decide, not_written, refuse
from cutover.domain.engine.heroku import PROBE_LIFETIME_SECONDS
from cutover.domain.engine.route import RAISE_LIFETIME_SECONDS
from cutover.domain.engine.wanted import (
    backtest_wanted,
    baselines_wanted,
    custom_slos_wanted,
    probe_interval,
    samples_wanted,
)
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.tolerances import thresholds, thresholds_wanted
from cutover.domain.observation import Histogram, Observation, Plan, Probe, Samples, TrafficState
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.revision import desired_revision, raise_called_off
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.metrics import DECISION_DELAY, JUDGING_DELAY, LOOKED_AT, PASSES
from cutover.ports import (
    Clock,
    Conflict,
    Dialect,
    Gateway,
    Gone,
    Inventories,
    Metrics,
    Notifier,
    Plans,
    SloFeed,
    SloTarget,
    Subscription,
    Traffic,
    Unavailable,
)

log = structlog.get_logger("cutover")

#: Seconds until a pass that failed is made again: a rollback sooner than anything else.
RETRY_SECONDS, ROLLBACK_RETRY_SECONDS = 2.0, 0.5
#: Blocks after which the next one is overdue, and is looked for without being woken by it.
OVERDUE_BLOCKS = 1.5
#: Where a plan's phase asks for a probe no more often than this, a Heroku leg that answered well is asked for the next one
#: after so long: an answer is believed for a minute. One that failed is asked again as soon as the phase says. Each plan
#: has a time of its own within the spread, so that those that were begun together do not stay together.
SELDOM_PROBE_SECONDS, WELL_PROBE_SECONDS, PROBE_SPREAD_SECONDS = 10.0, 20.0, 10.0
#: Seconds, or a third of a block, for which a checkpoint waits at most. All plans' decisions come at the end of the same block.
CHECKPOINT_WAIT_SECONDS = 5.0
#: Seconds until the next pass after a fault of ours.
FAULT_RETRY_SECONDS = 5.0
#: Seconds for which a route may fail to be written until the status says so: a hiccup is not worth a write.
TELL_UNWRITTEN_SECONDS = 5.0
#: A route that was put back so often within so many seconds is fought over: each further pass waits for the pause, or two
#: tools would write as fast as the API server can.
REPAIRS_AT_ONCE, FIGHT_SECONDS, FIGHT_PAUSE_SECONDS = 3, 10.0, 2.0
#: A pass that comes, or is done, so many seconds later than it should was not slow: the machine slept.
SLEPT_SECONDS = 60.0
#: Conflicts in a row that are answered at once; more of them are no coincidence.
CONFLICTS_AT_ONCE = 3
#: Writes without an answer that are recognised when they come back; an outage may make thousands. One that is not is
#: taken for somebody else's, which costs the Event of its decision and nothing else.
UNANSWERED_WRITES = 32
#: Seconds until a plan is looked at again whose status cannot be read; an edit of it is seen at once.
UNREADABLE_RETRY_SECONDS = 60.0
#: Blocks that wait for a write to succeed. Later ones are left in Prometheus' history until it does.
PENDING_BLOCKS = 240


class _StatusUnreadable(Exception):
    """A plan's status is not one that this version understands, and no earlier one is known."""

    def __init__(self, plan: Plan, problem: str) -> None:
        super().__init__(problem)
        self.plan = plan


class _RouteUnavailable(Unavailable):
    """It is the route that could not be written; the status may still take it."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The outside world of all plans.

    Parameters
    ----------
    dialect
        Says where a plan's requests are counted.
    templates
        Returns the templates of gates that plans of a namespace may refer to, by ``Kind/name``; a text is why one
        cannot be read.
    sources
        Returns the names of the Prometheus servers that plans of a namespace may choose.
    backtest
        Replays a plan's gates on Heroku's traffic. Never raises: a failure is a result that says so.
    slots
        Bounds how many passes look at the world at a time.
    """

    plans: Plans
    traffic: Traffic
    inventories: Inventories
    gateway: Gateway
    metrics: Metrics
    own: SloFeed
    clock: Clock
    dialect: Dialect
    templates: Callable[[str], Mapping[str, Template | str]]
    sources: Callable[[str], tuple[str, ...]]
    backtest: Callable[[Plan, Subscription], Coroutine[Any, Any, BacktestStatus]]
    slots: asyncio.Semaphore
    notifier: Notifier


class PlanLoop:
    """Reconciles one plan until it is gone.

    Parameters
    ----------
    ports
        The outside world.
    source
        Returns the newest MigrationPlan object that the watch knows, as the API server sent it.

    Attributes
    ----------
    last_reconciled
        Unix seconds at which the last pass ended well; 0 before the first.
    failing_since
        Unix seconds since when passes fail, 0 if the last one did not.
    rollback_waits_since
        Unix seconds since when a rollback cannot be written to the route, 0 if none waits.
    """

    def __init__(self, ports: Ports, source: Callable[[], Mapping[str, Any]]) -> None:
        self._ports = ports
        self._source = source
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._ended = False
        self._plan: Plan | None = None
        self._version = ""
        self._stored = MigrationPlanStatus()
        # What was last sent to the API server, as that has it, so that it compares equal when the watch brings it back.
        self._written = self._stored
        self._pending: tuple[Block, ...] = ()
        self._judged_until = 0.0
        self._pending_own: dict[str, tuple[Block, ...]] = {}
        self._unanswered: deque[tuple[MigrationPlanStatus, Decision]] = deque(maxlen=UNANSWERED_WRITES)
        self._untold: list[Event] = []
        self._conflicts = 0
        self._unwritten = False
        self._prepared_at: float | None = None
        self._prepared: object = None
        self._repairs: deque[float] = deque(maxlen=REPAIRS_AT_ONCE)
        self._probe: Probe | None = None
        self._probe_started = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._next_probe: asyncio.TimerHandle | None = None
        self._backtesting: asyncio.Task[BacktestStatus] | None = None
        self._began = self._due = math.inf  # the last pass, and the next one, by the same clock
        self._since = math.inf  # by the clock of Prometheus, which may turn out to be behind of what was thought
        self.last_reconciled = 0.0
        self.failing_since = 0.0
        self.rollback_waits_since = 0.0
        self.rollbacks = 0

    @property
    def plan(self) -> Plan | None:
        """The plan with its working status, ``None`` before the first pass."""
        return self._plan

    def wake(self) -> None:
        """Make the next pass now."""
        self._wake.set()

    def end(self) -> None:
        """Make no more passes: the plan does not exist any more."""
        self._ended = True
        if self._plan is not None:
            self._ports.notifier.forget(self._plan.uid)
        self.wake()

    def notice(self, body: Mapping[str, Any]) -> None:
        """Wake up where people have changed the plan; the operator's own writes come back here too."""
        plan, metadata = self._plan, body["metadata"]
        if plan is None or metadata.get("generation") != plan.generation or _commands(metadata) != _commands(plan):
            self.wake()

    async def run(self, stopped: Callable[[], bool]) -> None:
        """Make passes until the plan is gone or ``stopped`` says so (it is asked after each wake-up)."""
        looked_at = False
        try:
            while not (self._ended or stopped()):
                self._wake.clear()
                try:
                    delay = await self.reconcile()
                    if not looked_at:
                        looked_at = True
                        LOOKED_AT.inc()
                except Exception:
                    # A fault of ours; the next pass may do without it. Nobody else looks after this plan.
                    metadata = self._source()["metadata"]
                    log.exception("pass failed", plan=f"{metadata['namespace']}/{metadata['name']}")
                    self._failed()
                    delay = FAULT_RETRY_SECONDS
                if delay is None:
                    return
                if self._fought_over():
                    await asyncio.sleep(FIGHT_PAUSE_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
        finally:
            if looked_at:
                LOOKED_AT.dec()
            for task in (self._probing, self._next_probe, self._backtesting):
                if task is not None:
                    task.cancel()
            if self._plan is not None:
                self._ports.metrics.forget(self._plan.key)
                self._ports.own.forget(self._plan.key)

    async def reconcile(self) -> float | None:
        """Make one pass; return the seconds until the next, or ``None`` when the plan is gone."""
        async with self._lock:
            delay = await self._reconcile()
            self._due = self._began + (delay or 0.0)
            return delay

    async def finalize(self, body: Mapping[str, Any]) -> None:
        """Put the traffic of a deleted plan to rest. Raises Conflict, Gone, Unavailable.

        Parameters
        ----------
        body
            The object as it is now: people may change ``onDelete`` while its deletion waits.
        """
        self.wake()
        async with self._lock:
            self._source = lambda: body
            try:
                plan = self._read()
            except _StatusUnreadable as unreadable:
                # As of a plan that knows nothing yet: traffic may go to Heroku, and without evidence never to EKS.
                plan = unreadable.plan
                log.warning("deleted with a status that cannot be read", plan=plan.key, problem=str(unreadable))
            if not plan.has_spec:
                # There is nothing to render a route from, and no use in a plan that cannot be deleted.
                log.warning("not put to rest: the plan cannot be read", plan=plan.key, problem=plan.unreadable)
                return
            decision = decide(replace(plan, deleting=True), Observation(), self._now(plan))
            try:
                await self._apply(plan, decision)
            except (Conflict, Unavailable) as outage:
                message = f"the deletion waits until traffic is put to rest: {outage}"
                await self._ports.plans.event(plan, "Warning", "NotPutToRest", message)
                raise
            for event in decision.events:
                await self._ports.plans.event(plan, event.kind, event.reason, event.message)
            end = next(action.end for action in decision.actions if isinstance(action, Finalize))
            log.info("put to rest", plan=plan.key, end=end, declared=plan.spec.on_delete)

    # ---------------------------------------------------------------------------------------------------- one pass

    async def _reconcile(self) -> float | None:
        PASSES.inc()
        try:
            plan = self._read()
        except _StatusUnreadable as unreadable:
            return await self._leave_alone(unreadable)
        if plan.deleting:
            return None  # the deletion handler puts traffic to rest
        if plan.has_spec:
            # Not for the writes: a checkpoint that waits for its turn must not keep another plan from going back.
            # Nor is a plan with users on EKS to wait for others: what it looks at is in caches.
            on_eks = plan.status.weight or plan.status.phase is Phase.ROLLING_BACK
            turn: contextlib.AbstractAsyncContextManager[None] = (
                contextlib.nullcontext() if on_eks else self._ports.slots
            )
            async with turn:
                seen, now = await self._look(plan)
            decision = decide(plan, seen, now)
            if seen.inventory is not None:
                # Lists of all namespaces are not to stay in memory while writes wait.
                seen = replace(seen, inventory=None)
            self._judged(plan)
        else:
            seen = Observation()
            decision = refuse(plan, self._now(plan))
        decision = self._remembering(plan, decision)
        if decision.routine:
            await self._let_others_decide(plan)
        try:
            await self._apply(plan, decision, seen.traffic)
        except Gone:
            return None
        except Conflict as conflict:
            log.info("changed meanwhile, deciding anew", plan=plan.key, detail=str(conflict))
            self._conflicts += 1
            if self._conflicts > CONFLICTS_AT_ONCE:
                self._failed()
            return await self._reread(plan, back=decision.status.phase is Phase.ROLLING_BACK)
        except Unavailable as outage:
            self._failed()
            back = decision.status.phase is Phase.ROLLING_BACK
            log.warning("not applied", plan=plan.key, phase=decision.status.phase, problem=str(outage), rollback=back)
            if isinstance(outage, _RouteUnavailable):
                if back:
                    self.rollback_waits_since = self.rollback_waits_since or self._ports.clock.now()
                await self._tell_unwritten(decision, str(outage))
            return ROLLBACK_RETRY_SECONDS if back else RETRY_SECONDS
        self.last_reconciled, self.failing_since, self._conflicts = self._ports.clock.now(), 0.0, 0
        self.rollback_waits_since = 0.0
        return self._until_next(plan, decision)

    async def _let_others_decide(self, plan: Plan) -> None:
        """Wait for a while, unless there is news: what takes time shall not keep other plans' decisions waiting."""
        longest = min(CHECKPOINT_WAIT_SECONDS, plan.spec.gates.block.total_seconds() / 3)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(longest * (1 + _own_part(plan)) / 2):
                await self._wake.wait()

    def _judged(self, plan: Plan) -> None:
        """Note how late a block was judged; once, however often its decision has to be made again."""
        if self._pending and self._pending[-1].end != self._judged_until:
            self._judged_until = self._pending[-1].end
            JUDGING_DELAY.observe(self._now(plan) - self._judged_until)

    def _until_next(self, plan: Plan, decision: Decision) -> float:
        """Return the seconds until the next pass. One that waits for the next block is woken by it, a little later."""
        if plan.has_spec and samples_wanted(decision.status):
            block = plan.spec.gates.block.total_seconds()
            delay = OVERDUE_BLOCKS * block if decision.requeue_after == block else decision.requeue_after
            # Heroku is asked again once a pass has seen its last answer, which has to be young when the next block comes.
            return min(delay, PROBE_LIFETIME_SECONDS / 2)
        return decision.requeue_after

    def _remembering(self, plan: Plan, decision: Decision) -> Decision:
        """Write down who was told what along with the next write, or alone after a minute."""
        left = self._ports.notifier.overdue(plan.uid, self._stored.notified or {})
        if left is None:
            return decision
        if left > 0:
            return replace(decision, requeue_after=min(decision.requeue_after, left))
        if WriteStatus() in decision.actions:
            return decision
        # Last: nothing of what was decided waits for it.
        return replace(decision, actions=(*decision.actions, WriteStatus()))

    async def _write_status(self, plan: Plan, status: MigrationPlanStatus) -> MigrationPlanStatus:
        """Write the status and who was told what; return it as the API server has it. Raises like the port."""
        status = status.model_copy(update={"notified": dict(self._ports.notifier.told(plan.uid)) or None})
        self._written = MigrationPlanStatus.model_validate(status.to_wire())
        self._version = await self._ports.plans.write_status(plan, status, self._version)
        return self._written

    async def _tell_unwritten(self, decision: Decision, problem: str) -> None:
        """Say in the status that the route cannot be written; it goes first from then on, until it can."""
        now = self._ports.clock.now()
        if self._plan is None or self._unwritten or 0 <= now - self.failing_since < TELL_UNWRITTEN_SECONDS:
            return
        told = not_written(self._plan, decision, problem, self._now(self._plan))
        try:
            if told.actions:
                self._stored = await self._write_status(self._plan, told.status)
        except (Conflict, Gone, Unavailable) as outage:
            log.warning("not told", plan=self._plan.key, problem=str(outage))
            return
        self._unwritten = True
        # The blocks that led to the decision stay: it is made again, from them.
        self._plan = replace(self._plan, status=told.status)
        self._ports.notifier.tell(self._plan, self._stored.notified or {})
        self._untold += told.events  # nothing waits for an Event

    def _fought_over(self) -> bool:
        """Tell whether somebody else edits the route as fast as it is put back."""
        now = self._ports.clock.now()
        return len(self._repairs) == REPAIRS_AT_ONCE and 0 <= now - self._repairs[0] < FIGHT_SECONDS

    def _now(self, plan: Plan) -> float:
        """Return the time by which a plan is judged: that of its Prometheus, whose blocks are compared with it."""
        return self._ports.metrics.now(plan.spec.gates.prometheus or "") if plan.has_spec else self._ports.clock.now()

    def _prepared_for(self, plan: Plan) -> float | None:
        """Return the seconds since what the route refers to was seen to be there."""
        if self._prepared_at is None or self._prepared != (plan.spec.heroku, plan.spec.traffic):
            return None
        passed = self._now(plan) - self._prepared_at
        return passed if passed >= 0 else None  # the clock was set back

    async def _leave_alone(self, unreadable: _StatusUnreadable) -> float | None:
        """Tell that the stored status cannot be read. Nothing is written: whoever wrote it may come back."""
        if unreadable.plan.deleting:
            return None
        message = (
            f"status: {unreadable}; traffic stays as it is until an operator that understands it runs, or the status is"
            " removed, which starts the plan at Preflight; to go back to Heroku now, delete the plan with onDelete: Heroku"
        )
        if not self.failing_since:
            log.error("status cannot be read", plan=unreadable.plan.key, problem=str(unreadable))
        self._failed()
        await self._ports.plans.event(unreadable.plan, "Warning", "StatusUnreadable", message)
        return UNREADABLE_RETRY_SECONDS

    def _failed(self) -> None:
        now = self._ports.clock.now()
        self.failing_since = min(self.failing_since or now, now)  # the clock may have been set back

    def _read(self) -> Plan:
        """Take the newest of what the watch knows and what this loop has written. Raises _StatusUnreadable."""
        body = self._source()
        version = body["metadata"]["resourceVersion"]
        if self._plan is None or _newer(version, self._version):
            self._adopt(self._understood(body), version)
        assert self._plan is not None
        return self._plan

    def _understood(self, body: Mapping[str, Any]) -> Plan:
        """Return the plan; for a part that cannot be read the last one that could. Raises _StatusUnreadable."""
        problem = ""
        try:
            return Plan.from_object(body)
        except ValidationError:
            try:
                MigrationPlanStatus.model_validate(body.get("status") or {})
            except ValidationError as error:
                problem = problem_text(error)
                body = {**body, "status": {}}
        try:
            plan = Plan.from_object(body)
        except ValidationError as error:
            plan = self._refused(body, error)
        if not problem:
            return plan
        if self._plan is None or self._plan.uid != plan.uid:
            raise _StatusUnreadable(plan, problem)
        # Somebody has edited it under this loop, whose own is ahead, and replaces it with the next write.
        log.warning("status cannot be read: the operator's own stays in force", plan=plan.key, problem=problem)
        return replace(plan, status=self._stored)

    def _refused(self, body: Mapping[str, Any], error: ValidationError) -> Plan:
        """Keep the last spec that could be read in force: its way back is open.

        The API server refuses what this version does not understand; only a CRD of another version lets it pass.
        """
        refused = Plan.refused(body, problem_text(error))
        if self._plan is not None and self._plan.uid == refused.uid:
            return replace(refused, spec=self._plan.spec)
        return refused

    def _adopt(self, plan: Plan, version: str) -> None:
        """Take over a newer object; its status only where somebody else wrote it, as ours is ahead."""
        working, known = self._plan, self._stored
        made = next((decision for status, decision in self._unanswered if status == plan.status), None)
        if working is None or plan.uid != working.uid:
            self._stored = plan.status
        elif plan.status == self._stored:
            plan = replace(plan, status=working.status)
        elif made is not None:
            # A write of ours of which only the answer was lost.
            self._stored = plan.status
            plan = replace(plan, status=made.status)
            self._settle(working, plan, made)
        else:
            self._stored, self._pending, self._pending_own = plan.status, (), {}
        self._plan, self._version = plan, version
        if self._stored is not known:
            # Only what is stored: anything else may still be decided otherwise.
            self._ports.notifier.tell(replace(plan, status=self._stored), self._stored.notified or {})

    async def _reread(self, plan: Plan, *, back: bool) -> float | None:
        try:
            fresh, version = await self._ports.plans.read(plan.namespace, plan.name)
        except Gone:
            return None
        except (Conflict, Unavailable) as outage:
            self._failed()
            log.warning("not read", plan=plan.key, problem=str(outage))
            return ROLLBACK_RETRY_SECONDS if back else RETRY_SECONDS
        if fresh.uid != plan.uid:
            return None  # another one by the same name, which has its own loop
        if self._version == version or _newer(version, self._version):
            self._adopt(fresh, version)
        return 0.0 if self._conflicts <= CONFLICTS_AT_ONCE else RETRY_SECONDS

    async def _look(self, plan: Plan) -> tuple[Observation, float]:
        """Observe, and return when; where the machine slept, as after a start: what was seen before is not how things are."""
        began = self._now(plan)
        if began - self._due > SLEPT_SECONDS:
            self._since, self._probe = began, None
        seen = await self._observe(plan)
        now = self._began = self._now(plan)
        if now - began > SLEPT_SECONDS:
            self._since, self._probe = now, None
            seen = replace(seen, since=now, probe=None)
        return seen, now

    async def _observe(self, plan: Plan) -> Observation:
        """Collect what the plan's phase needs; what cannot be read is told, not guessed."""
        ports, status, errors = self._ports, plan.status, list[str]()
        self._since = min(self._since, self._now(plan))
        traffic: TrafficState | None = None
        inventory: Inventory | None = None
        histogram: Histogram | None = None
        samples = Samples()
        subscription = ports.dialect.subscription(plan)
        sources = ports.sources(plan.namespace)
        may = not subscription.source or subscription.source in sources
        slow, very_slow = thresholds(plan.spec, status)
        try:
            # In preflight before the takeover, too: an earlier plan may have left a route that carries traffic.
            if status.weight is not None or status.phase is Phase.PREFLIGHT:
                traffic = await ports.traffic.get(plan, status.weight)
            if status.phase is Phase.PREFLIGHT:
                inventory = await ports.inventories.inventory(plan)
        except (Conflict, Gone, Unavailable) as outage:
            errors.append(str(outage))
        if not may:
            # Nor is anything read that was read before the plan was edited.
            ports.metrics.forget(plan.key)
            samples = Samples(error=f"plans of this namespace may not ask the Prometheus {subscription.source!r}")
        elif samples_wanted(status) and status.checkpoint is not None:
            # Blocks that wait for a write were delivered once.
            since = self._pending[-1].end if self._pending else status.checkpoint.consumed_until
            subscription = replace(subscription, slow_ms=slow, very_slow_ms=very_slow, since=since)
            if len(self._pending) < PENDING_BLOCKS:
                ports.metrics.watch(plan.key, subscription)
                news = ports.metrics.take(plan.key)
                self._pending = (*self._pending, *news.blocks)
                samples = replace(news, blocks=self._pending)
            else:
                ports.metrics.forget(plan.key)
                samples = Samples(self._pending)
            if status.phase is Phase.BASELINE and thresholds_wanted(plan.spec) and status.checkpoint.observed_at:
                start = status.baseline.since.timestamp() if status.baseline else self._since
                try:
                    histogram = await ports.metrics.histogram(replace(subscription, since=start))
                except Unavailable as outage:
                    errors.append(str(outage))
        else:
            ports.metrics.forget(plan.key)
        self._ask_heroku(plan)
        templates = ports.templates(plan.namespace)
        return Observation(
            traffic=traffic,
            capabilities=ports.traffic.capabilities,
            inventory=inventory,
            probe=self._probe,
            prepared_for=self._prepared_for(plan),
            samples=samples,
            histogram=histogram,
            errors=tuple(errors),
            since=self._since,
            own=self._read_own(plan, templates if may else None),
            templates=templates,
            sources=sources,
            queries=ports.dialect.dashboard_queries(
                replace(subscription, slow_ms=slow, very_slow_ms=very_slow, since=0.0)
            ),
            backtest=self._backtest(plan, subscription),
        )

    def _read_own(self, plan: Plan, templates: Mapping[str, Template | str] | None) -> Mapping[str, SloReading]:
        """Return what became known of the team's own gates, with the blocks that wait for a write.

        Nothing is asked without ``templates``.
        """
        status, own = plan.status, self._ports.own
        gates = resolve(plan, templates).gates if templates is not None and custom_slos_wanted(status) else ()
        if not gates:
            own.forget(plan.key)
            self._pending_own = {}
            return {}
        readings: Mapping[str, SloReading] = {}
        if max(map(len, self._pending_own.values()), default=0) < PENDING_BLOCKS:
            own.watch(plan.key, self._own_target(plan, gates))
            readings = own.take(plan.key)
        else:
            own.forget(plan.key)
        for name, reading in readings.items():
            if reading.blocks:
                self._pending_own[name] = (*self._pending_own.get(name, ()), *reading.blocks)
        pending = {name: SloReading(blocks=blocks) for name, blocks in self._pending_own.items()}
        return {
            **pending,
            **{name: replace(reading, blocks=self._pending_own.get(name, ())) for name, reading in readings.items()},
        }

    def _own_target(self, plan: Plan, gates: tuple[CustomSlo, ...]) -> SloTarget:
        status, checkpoint = plan.status, plan.status.checkpoint
        consumed = {one.gate: one.consumed_until for one in checkpoint.custom_slos} if checkpoint else {}
        # Before the takeover, from when this process looks at the plan: "now" would move on with every pass.
        start = checkpoint.consumed_until if checkpoint else self._since
        waiting = {name: blocks[-1].end for name, blocks in self._pending_own.items()}
        return SloTarget(
            source=plan.spec.gates.prometheus or "",
            gates=gates,
            block_seconds=int(plan.spec.gates.block.total_seconds()),
            since={gate.name: waiting.get(gate.name, consumed.get(gate.name, start)) for gate in gates},
            judged_from=checkpoint.observed_at if checkpoint and status.weight else None,
            baselines=frozenset(baselines_wanted(status, gates)),
        )

    def _backtest(self, plan: Plan, subscription: Subscription) -> BacktestStatus | None:
        """Run the replay that the plan asks for beside the loop, once; return its result."""
        if not backtest_wanted(plan, self._now(plan)):
            return None
        if self._backtesting is None:
            self._backtesting = asyncio.create_task(self._ports.backtest(plan, subscription))
            self._backtesting.add_done_callback(lambda _: self.wake())
        if not self._backtesting.done():
            return None
        result, self._backtesting = self._backtesting.result(), None
        return result

    def _ask_heroku(self, plan: Plan, *, due: bool = False) -> None:
        """Probe the Heroku leg beside the loop: a leg that does not answer must not delay a rollback.

        The next one is made on time rather than with a pass: those of all plans come at the end of the same block, when
        there is enough to do. A pass makes one that is overdue.
        """
        if self._next_probe is not None:
            self._next_probe.cancel()
            self._next_probe = None
        interval = probe_interval(plan.status)
        if interval is None:
            self._probe = None
            return
        if self._probing is not None and not self._probing.done():
            return
        if self._probe is not None and self._probe.healthy and interval >= SELDOM_PROBE_SECONDS:
            interval = WELL_PROBE_SECONDS + PROBE_SPREAD_SECONDS * _own_part(plan)
        now = self._ports.clock.now()
        if not due and 0 <= now - self._probe_started < interval:  # a clock that was set back stops nothing
            left = self._probe_started + interval - now
            self._next_probe = asyncio.get_running_loop().call_later(left, self._ask_heroku_again)
            return
        self._probe_started = now
        self._probing = asyncio.create_task(self._ask(plan))

    def _ask_heroku_again(self) -> None:
        self._next_probe = None
        if self._plan is not None:
            self._ask_heroku(self._plan, due=True)

    async def _ask(self, plan: Plan) -> None:
        before, asked = self._probe, self._now(plan)
        try:
            probe = await self._ports.gateway.probe(plan)
        except Exception as fault:
            # Of ours; without an answer the plan would wait for one and nobody would know why.
            log.exception("probe failed", plan=plan.key)
            probe = Probe(self._ports.clock.now(), "", healthy=False, detail=f"could not be made: {fault!r}")
        failures = 0 if probe.healthy else 1 + (before.failures if before is not None else 0)
        if self._now(plan) - asked > SLEPT_SECONDS:
            return
        # Not by the operator's clock, which may have been set meanwhile.
        self._probe = replace(probe, at=min(asked, self._now(plan)), failures=failures)
        if before is None or (before.revision, before.healthy) != (self._probe.revision, self._probe.healthy):
            self.wake()

    async def _apply(self, plan: Plan, decision: Decision, traffic: TrafficState | None = None) -> None:
        """Do what was decided, in order. Raises Conflict, Gone, Unavailable at the first action that fails.

        A route is written over the one that was decided on, and a raise only while the status that asks for it is in
        force, be it that it was written or that it was read just now: a process that was asleep is not to raise anything.
        """
        decided = replace(plan, status=decision.status)
        lowers = (decision.status.weight or 0) < (plan.status.weight or 0)
        # Where the route could not be written, its weight has been in the status since the first try; and none says that a
        # raise is off while that may still reach the route.
        actions = sorted(decision.actions, key=_is_status) if self._unwritten or lowers else decision.actions
        in_force = False
        for action in actions:
            match action:
                case WriteStatus():
                    try:
                        self._stored = await self._write_status(plan, decision.status)
                    except (Conflict, Unavailable):  # the conflict may be with our own, sent twice
                        self._unanswered.append((self._written, decision))
                        raise
                    self._settle(plan, decided, decision)
                    in_force = True
                case Prepare():
                    with _writing_routes():
                        await self._ports.traffic.prepare(decided)
                    self._prepared_at, self._prepared = self._now(plan), (plan.spec.heroku, plan.spec.traffic)
                case SetWeight(weight):
                    raises = traffic is not None and (traffic.weight or 0) < weight
                    if raises and self._now(plan) - self._began > RAISE_LIFETIME_SECONDS:
                        raise Conflict(f"{plan.key}: the evidence for {weight} % has grown old meanwhile")
                    if raises and not in_force:
                        await self._confirm(plan)
                    version = traffic.version if traffic is not None else None
                    # A route that is rolled back was so since that raise.
                    called_off = lowers and decision.status.phase is not Phase.ROLLING_BACK
                    supersedes = raise_called_off(plan.status) if called_off else ""
                    with _writing_routes():
                        await self._ports.traffic.set(decided, weight, seen=version, supersedes=supersedes)
                    if desired_revision(plan.status) == desired_revision(decision.status):
                        self._repairs.append(self._ports.clock.now())
                case Finalize(end):
                    await self._ports.traffic.finalize(plan, end)
        self._unwritten = False
        if not plan.deleting:
            self._settle(plan, decided, decision)
        while self._untold:
            event = self._untold.pop(0)
            await self._ports.plans.event(plan, event.kind, event.reason, event.message)

    async def _confirm(self, plan: Plan) -> None:
        """Read whether the plan is still what was decided on. Raises Conflict, Gone, Unavailable."""
        _, version = await self._ports.plans.read(plan.namespace, plan.name)
        if version != self._version:
            raise Conflict(f"{plan.key} has changed meanwhile")

    def _settle(self, plan: Plan, decided: Plan, decision: Decision) -> None:
        """Make the decision the working status. Once it is written it holds, and is told, if the route follows later."""
        if self._plan is decided:
            return
        if self._pending:
            DECISION_DELAY.observe(self._now(plan) - self._pending[-1].end)
        self._plan, self._pending, self._pending_own = decided, (), {}
        self._unanswered.clear()
        self._tell(plan, decision)
        self._ports.notifier.tell(decided, self._stored.notified or {})
        self._untold += decision.events

    def _tell(self, plan: Plan, decision: Decision) -> None:
        """Log one line a decision: transitions, not passes."""
        before, after = plan.status, decision.status
        if after.phase is Phase.ROLLING_BACK and before.phase is not Phase.ROLLING_BACK:
            self.rollbacks += 1
        if (before.phase, before.weight, before.reason) != (after.phase, after.weight, after.reason):
            log.info(
                "decision",
                plan=plan.key,
                attempt=after.attempt,
                phase=after.phase,
                step=after.step,
                weight=after.weight,
                reason=after.reason,
                message=after.message,
            )


@contextlib.contextmanager
def _writing_routes() -> Iterator[None]:
    try:
        yield
    except Unavailable as outage:
        raise _RouteUnavailable(str(outage)) from outage


def _is_status(action: Action) -> bool:
    return isinstance(action, WriteStatus)


def _commands(source: Mapping[str, Any] | Plan) -> dict[str, str]:
    """Return the annotations through which people speak to the operator."""
    annotations = source.annotations if isinstance(source, Plan) else source.get("annotations") or {}
    return {name: value for name, value in annotations.items() if name.startswith(f"{GROUP}/")}


def _own_part(plan: Plan) -> float:
    """Return a number from 0 to 1 that each plan has for itself, so that not all do the same at once."""
    return crc32(plan.uid.encode()) / 2**32


def _newer(version: str, than: str) -> bool:
    """Compare resourceVersions; the API server promises that they are numbers that rise."""
    return int(version) > int(than or 0)
