"""One plan's loop: read, observe, decide, apply, sleep.

A kill loses nothing: what the loop knows beyond the stored status is in Prometheus, at the same timestamps.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, assert_never

import structlog

from cutover.api.v1alpha1 import GROUP, Phase
from cutover.domain.engine.actions import Decision, Finalize, WakeAfter, WakeAtBlock
from cutover.domain.engine.decide import decide, not_written, refuse
from cutover.domain.engine.writes import claims
from cutover.domain.evidence.lengths import in_force
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.metrics import JUDGING_DELAY, RECONCILED_PLANS, RECONCILES
from cutover.ports.all import Ports
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.scale.turns import let_others_decide
from cutover.services.apply import Applier, RouteUnavailable
from cutover.services.observing import Observer
from cutover.services.working_status import StatusUnreadable, WorkingStatus, newer

log = structlog.get_logger("cutover")

#: Seconds until a failed reconcile is repeated; a rollback is repeated soonest.
RETRY_SECONDS, ROLLBACK_RETRY_SECONDS = 2.0, 0.5
#: Seconds until the next reconcile after a bug raised an exception.
FAULT_RETRY_SECONDS = 5.0
#: Seconds until the status says that the route cannot be written: a short outage is not worth a write.
TELL_UNWRITTEN_SECONDS = 5.0
#: Seconds between reconciles of a plan whose route another writer edits as fast as the operator restores it.
FIGHT_PAUSE_SECONDS = 2.0
#: Consecutive conflicts after which the plan is reconciled at once; more conflicts count as failures.
CONFLICTS_AT_ONCE = 3
#: Seconds until a plan with an unreadable status is reconciled again; an edit of it wakes the loop at once.
UNREADABLE_RETRY_SECONDS = 60.0


class PlanLoop:
    """Reconciles one plan until the plan is deleted.

    Parameters
    ----------
    ports
        The outside world.
    source
        Returns the newest MigrationPlan object of the watch, as the API server sent it.

    Attributes
    ----------
    last_reconciled
        Unix seconds at which the last reconcile succeeded; 0 before the first.
    failing_since
        Unix seconds since when reconciles fail; 0 if the last reconcile succeeded.
    rollback_waits_since
        Unix seconds since when a rollback cannot be written to the route; 0 if no rollback waits.
    """

    def __init__(self, ports: Ports, source: Callable[[], Mapping[str, Any]]) -> None:
        self._ports = ports
        self._source = source
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._ended = False
        self._working = WorkingStatus(ports)
        self._observer = Observer(ports, self._working, self.wake)
        self._applier = Applier(
            ports,
            self._working,
            lambda plan: let_others_decide(plan.uid, in_force(plan.spec, plan.status).seconds, self._wake),
        )
        self._judged_until = 0.0
        self._conflicts = 0
        self.last_reconciled = 0.0
        self.failing_since = 0.0
        self.rollback_waits_since = 0.0

    @property
    def plan(self) -> Plan | None:
        """The plan with its working status, ``None`` before the first reconcile."""
        return self._working.plan

    @property
    def rollbacks(self) -> int:
        """Rollbacks decided by this process."""
        return self._working.rollbacks

    def wake(self) -> None:
        """Reconcile now."""
        self._wake.set()

    def end(self) -> None:
        """Stop reconciling: the plan does not exist any more.

        A reconcile that is under way stops before it writes. A decision that is being applied goes on until its first write
        finds the plan gone. Then :meth:`run` stops the plan's feeds.
        """
        self._ended = True
        if self.plan is not None:
            self._ports.notifier.forget(self.plan.uid)
        self.wake()

    def notice(self, body: Mapping[str, Any]) -> None:
        """Wake up where a person changed the plan. The watch delivers the operator's own writes here, too."""
        plan, metadata = self.plan, body["metadata"]
        if plan is None or metadata.get("generation") != plan.generation or _commands(metadata) != _commands(plan):
            self.wake()

    async def run(self, stopped: Callable[[], bool]) -> None:
        """Reconcile until the plan is gone or ``stopped`` returns true; it is called after each wake-up.

        However it ends, also in the middle of a reconcile, the plan's feeds and background requests stop.
        """
        looked_at = False
        try:
            while not (self._ended or stopped()):
                self._wake.clear()
                try:
                    delay = await self.reconcile()
                    if not looked_at:
                        looked_at = True
                        RECONCILED_PLANS.inc()
                except Exception:
                    # A bug. The next reconcile may avoid it, and no other loop reconciles this plan.
                    metadata = self._source()["metadata"]
                    log.exception("reconcile failed", plan=f"{metadata['namespace']}/{metadata['name']}")
                    self._failed()
                    delay = FAULT_RETRY_SECONDS
                if delay is None:
                    return
                if self._applier.fought_over:
                    await asyncio.sleep(FIGHT_PAUSE_SECONDS)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(delay):
                        await self._wake.wait()
        finally:
            if looked_at:
                RECONCILED_PLANS.dec()
            self._observer.stop()

    async def reconcile(self) -> float | None:
        """Reconcile once; return the seconds until the next reconcile, or ``None`` when the plan is gone."""
        async with self._lock:
            delay = await self._reconcile()
            self._observer.expect_next(delay or 0.0)
            return delay

    async def finalize(self, body: Mapping[str, Any]) -> None:
        """Leave the traffic of a deleted plan where it has to stay. Raises Conflict, Gone, Unavailable.

        Parameters
        ----------
        body
            The object as it is now: a person may change ``onDelete`` while the deletion waits.
        """
        self.wake()
        async with self._lock:
            self._source = lambda: body
            try:
                plan = self._working.read(body)
            except StatusUnreadable as unreadable:
                # As for a new plan: without evidence traffic may go to Heroku, and never to EKS.
                plan = unreadable.plan
                log.warning("deleted with a status that cannot be read", plan=plan.key, problem=str(unreadable))
            if not plan.has_spec:
                # Without a spec no route can be rendered, and a plan must not be undeletable.
                log.warning("not put to rest: the plan cannot be read", plan=plan.key, problem=plan.unreadable)
                return
            leaving = replace(plan, deleting=True)
            decision = decide(leaving, Observation(), self._ports.now(plan))
            try:
                await self._applier.apply(leaving, decision)
            except (Conflict, Unavailable) as outage:
                message = f"the deletion waits until traffic is put to rest: {outage}"
                await self._ports.plans.event(plan, "Warning", "NotPutToRest", message)
                raise
            end = next(action.end for action in decision.actions if isinstance(action, Finalize))
            log.info("put to rest", plan=plan.key, end=end, declared=plan.spec.on_delete)

    # ------------------------------------------------------------------------------------------------- one reconcile

    async def _reconcile(self) -> float | None:
        RECONCILES.inc()
        try:
            plan = self._working.read(self._source())
        except StatusUnreadable as unreadable:
            return await self._leave_alone(unreadable)
        if plan.deleting:
            return None  # the deletion handler puts traffic to rest
        decision = await self._decide(plan)
        if self._ended:
            return None
        back = decision.status.phase is Phase.ROLLING_BACK
        try:
            await self._applier.apply(plan, decision)
        except Gone:
            return None
        except Conflict as conflict:
            log.info("changed meanwhile, deciding again", plan=plan.key, detail=str(conflict))
            self._conflicts += 1
            if self._conflicts > CONFLICTS_AT_ONCE:
                self._failed()
            return await self._reread(plan, back=back)
        except Unavailable as outage:
            return await self._not_applied(plan, decision, outage, back=back)
        self.last_reconciled, self.failing_since, self._conflicts = self._ports.clock.now(), 0.0, 0
        self.rollback_waits_since = 0.0
        return _seconds(decision)

    async def _decide(self, plan: Plan) -> Decision:
        """Observe and decide."""
        if not plan.has_spec:
            return refuse(plan, self._ports.now(plan), self._observer.unreadable(plan))
        # The slot does not cover the writes: a checkpoint that waits for its turn must not delay another plan's rollback.
        # A plan with users on EKS needs no slot: what it observes is in caches.
        on_eks = plan.status.weight or plan.status.phase is Phase.ROLLING_BACK
        turn: contextlib.AbstractAsyncContextManager[None] = contextlib.nullcontext() if on_eks else self._ports.slots
        async with turn:
            seen, now = await self._observer.look(plan)
        decision = decide(plan, seen, now)
        if claims(plan, decision) and seen.inventory is not None and seen.inventory.earlier:
            # What was listed a moment ago does not have what another plan has written since.
            async with self._ports.slots:
                seen = await self._observer.listed_anew(plan, seen)
            decision = decide(plan, seen, now)
        self._note_judged(plan)
        return decision

    def _note_judged(self, plan: Plan) -> None:
        """Record how late a block was judged; once, however often the decision is repeated."""
        pending = self._working.pending
        if pending and pending[-1].end != self._judged_until:
            self._judged_until = pending[-1].end
            JUDGING_DELAY.observe(self._ports.now(plan) - self._judged_until)

    # ------------------------------------------------------------------------------------------ conflicts and outages

    async def _not_applied(self, plan: Plan, decision: Decision, outage: Unavailable, *, back: bool) -> float:
        """Log an outage; return the seconds until the next try."""
        self._failed()
        log.warning("not applied", plan=plan.key, phase=decision.status.phase, problem=str(outage), rollback=back)
        if isinstance(outage, RouteUnavailable):
            if back:
                self.rollback_waits_since = self.rollback_waits_since or self._ports.clock.now()
            await self._tell_unwritten(decision, str(outage))
        return ROLLBACK_RETRY_SECONDS if back else RETRY_SECONDS

    async def _tell_unwritten(self, decision: Decision, problem: str) -> None:
        """Write into the status that the route cannot be written. From then on the route is written before the status."""
        plan, now = self.plan, self._ports.clock.now()
        if plan is None or self._working.unwritten or 0 <= now - self.failing_since < TELL_UNWRITTEN_SECONDS:
            return
        try:
            await self._working.tell_unwritten(not_written(plan, decision, problem, self._ports.now(plan)))
        except (Conflict, Gone, Unavailable) as outage:
            log.warning("not told", plan=plan.key, problem=str(outage))

    async def _reread(self, plan: Plan, *, back: bool) -> float | None:
        """Read the plan after a conflict; return the seconds until the next reconcile, ``None`` if it is gone."""
        try:
            fresh, version = await self._ports.plans.read(plan.namespace, plan.name)
        except Gone:
            return None
        except (Conflict, Unavailable) as outage:
            self._failed()
            log.warning("not read", plan=plan.key, problem=str(outage))
            return ROLLBACK_RETRY_SECONDS if back else RETRY_SECONDS
        if fresh.uid != plan.uid:
            return None  # another plan of the same name, which has its own loop
        if self._working.version == version or newer(version, self._working.version):
            self._working.adopt(fresh, version)
        return 0.0 if self._conflicts <= CONFLICTS_AT_ONCE else RETRY_SECONDS

    async def _leave_alone(self, unreadable: StatusUnreadable) -> float | None:
        """Report that the stored status cannot be read. Nothing is written: its writer, another version, may run again."""
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


def _seconds(decision: Decision) -> float:
    """Return the seconds to sleep; the next block wakes the plan earlier."""
    match decision.wake:
        case WakeAfter(seconds) | WakeAtBlock(seconds):
            return seconds
        case _:
            assert_never(decision.wake)


def _commands(source: Mapping[str, Any] | Plan) -> dict[str, str]:
    """Return the annotations that are commands to the operator."""
    annotations = source.annotations if isinstance(source, Plan) else source.get("annotations") or {}
    return {name: value for name, value in annotations.items() if name.startswith(f"{GROUP}/")}
