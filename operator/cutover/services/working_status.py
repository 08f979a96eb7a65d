"""The working status: what one plan's loop knows beyond what is stored.

It is ahead of the stored status by the evidence since the last checkpoint, and by the blocks that wait for a write to
succeed. Nothing is lost with it: what is in memory only is in Prometheus, at the same timestamps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import structlog
from pydantic import ValidationError

from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.engine.actions import Decision, Event
from cutover.domain.evidence.blocks import Block
from cutover.domain.plan import Plan
from cutover.metrics import DECISION_DELAY
from cutover.ports import Conflict, Ports, Unavailable

log = structlog.get_logger("cutover")

#: Writes without an answer that are recognised when they come back; an outage may make thousands. A write that is not
#: recognised is taken for somebody else's, which costs the Event of its decision and nothing else.
UNANSWERED_WRITES = 32
#: Blocks that wait for a write to succeed. Later ones are left in Prometheus' history until it does.
PENDING_BLOCKS = 240


class StatusUnreadable(Exception):
    """A plan's status is not one that this version understands, and no earlier one is known."""

    def __init__(self, plan: Plan, problem: str) -> None:
        super().__init__(problem)
        self.plan = plan


class WorkingStatus:
    """What one loop knows of its plan.

    Parameters
    ----------
    ports
        The outside world.

    Attributes
    ----------
    plan
        The plan with its working status, ``None`` before it was first read.
    version
        The resourceVersion that the next write of the status is fenced by.
    stored
        The status as the API server has it.
    pending, pending_custom
        Blocks that were delivered and led to no decision that is stored; of the mesh, and by name of a custom SLO.
    untold
        Events of what was decided, which wait until the actions are done.
    unwritten
        Whether the route could not be written and the status says so.
    rollbacks
        Rollbacks decided by this process.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self.plan: Plan | None = None
        self.version = ""
        self.stored = MigrationPlanStatus()
        self.pending: tuple[Block, ...] = ()
        self.pending_custom: dict[str, tuple[Block, ...]] = {}
        self.untold: list[Event] = []
        self.unwritten = False
        self.rollbacks = 0
        # What was sent without an answer, as the API server would have it, so that it is known when the watch brings it.
        self._unanswered: deque[tuple[MigrationPlanStatus, Decision]] = deque(maxlen=UNANSWERED_WRITES)
        self._prepared: tuple[float, object] | None = None

    # ------------------------------------------------------------------------------------------------ what others wrote

    def read(self, body: Mapping[str, Any]) -> Plan:
        """Return the newer of what the watch knows and what this loop has written. Raises StatusUnreadable."""
        version = body["metadata"]["resourceVersion"]
        if self.plan is None or newer(version, self.version):
            self.adopt(self._understood(body), version)
        assert self.plan is not None
        return self.plan

    def adopt(self, plan: Plan, version: str) -> None:
        """Take over a newer object; its status only where somebody else wrote it, as the working status is ahead."""
        working, known = self.plan, self.stored
        made = next((decision for status, decision in self._unanswered if status == plan.status), None)
        if working is None or plan.uid != working.uid:
            self.stored = plan.status
        elif plan.status == self.stored:
            plan = replace(plan, status=working.status)
        elif made is not None:
            # A write of ours of which only the answer was lost.
            self.stored = plan.status
            plan = replace(plan, status=made.status)
            self.settle(working, plan, made)
        else:
            self.stored, self.pending, self.pending_custom = plan.status, (), {}
        self.plan, self.version = plan, version
        if self.stored is not known:
            # Only what is stored: anything else may still be decided otherwise.
            self._ports.notifier.tell(replace(plan, status=self.stored), self.stored.notified or {})

    def _understood(self, body: Mapping[str, Any]) -> Plan:
        """Return the plan; for a part that cannot be read the last one that could. Raises StatusUnreadable."""
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
        if self.plan is None or self.plan.uid != plan.uid:
            raise StatusUnreadable(plan, problem)
        # Somebody has edited it under this loop, whose own is ahead, and replaces it with the next write.
        log.warning("status cannot be read: the operator's own stays in force", plan=plan.key, problem=problem)
        return replace(plan, status=self.stored)

    def _refused(self, body: Mapping[str, Any], error: ValidationError) -> Plan:
        """Keep the last spec that could be read in force: its way back is open.

        The API server refuses what this version does not understand; only a CRD of another version lets it pass.
        """
        refused = Plan.refused(body, problem_text(error))
        if self.plan is not None and self.plan.uid == refused.uid:
            return replace(refused, spec=self.plan.spec)
        return refused

    # ------------------------------------------------------------------------------------------------ what this loop does

    async def write(self, plan: Plan, decided: Plan, decision: Decision) -> None:
        """Write the decided status, which is in force from then on. Raises Conflict, Gone, Unavailable."""
        sent = self._to_send(plan, decision.status)
        try:
            await self._send(plan, sent)
        except (Conflict, Unavailable):  # the conflict may be with our own write, sent twice
            self._unanswered.append((self._as_stored(sent), decision))
            raise
        self.settle(plan, decided, decision)

    async def tell_unwritten(self, told: Decision) -> None:
        """Write a status that says that the route cannot be written. Raises Conflict, Gone, Unavailable.

        The blocks that led to the decision stay: it is made again, from them.
        """
        assert self.plan is not None
        if told.actions:
            await self._send(self.plan, self._to_send(self.plan, told.status))
        self.unwritten = True
        self.plan = replace(self.plan, status=told.status)
        self._ports.notifier.tell(self.plan, self.stored.notified or {})
        self.untold += told.events  # nothing waits for an Event

    async def confirm(self, plan: Plan) -> None:
        """Read whether the plan is still what was decided on. Raises Conflict, Gone, Unavailable."""
        _, version = await self._ports.plans.read(plan.namespace, plan.name)
        if version != self.version:
            raise Conflict(f"{plan.key} has changed meanwhile")

    def settle(self, plan: Plan, decided: Plan, decision: Decision) -> None:
        """Make the decision the working status. Once it is written it holds, and is told, if the route follows later."""
        if self.plan is decided:
            return
        if self.pending:
            DECISION_DELAY.observe(self._ports.now(plan) - self.pending[-1].end)
        self.plan, self.pending, self.pending_custom = decided, (), {}
        self._unanswered.clear()
        self._log(plan, decision)
        self._ports.notifier.tell(decided, self.stored.notified or {})
        self.untold += decision.events

    def note_prepared(self, plan: Plan) -> None:
        """Note that what the route refers to is there."""
        self._prepared = (self._ports.now(plan), (plan.spec.heroku, plan.spec.traffic))

    def prepared_for(self, plan: Plan) -> float | None:
        """Return the seconds since what the route refers to was seen to be there; ``None`` if it was not."""
        if self._prepared is None or self._prepared[1] != (plan.spec.heroku, plan.spec.traffic):
            return None
        passed = self._ports.now(plan) - self._prepared[0]
        return passed if passed >= 0 else None  # the clock was set back

    def remember_in(self, plan: Plan) -> float | None:
        """Return the seconds until who was told what is worth a write; ``None`` where the status remembers all."""
        return self._ports.notifier.overdue(plan.uid, self.stored.notified or {})

    def _to_send(self, plan: Plan, status: MigrationPlanStatus) -> MigrationPlanStatus:
        return status.evolve(notified=dict(self._ports.notifier.told(plan.uid)) or None)

    async def _send(self, plan: Plan, sent: MigrationPlanStatus) -> None:
        self.version = await self._ports.plans.write_status(plan, sent, self.version)
        self.stored = self._as_stored(sent)

    @staticmethod
    def _as_stored(sent: MigrationPlanStatus) -> MigrationPlanStatus:
        """Return the status as the API server has it, so that it compares equal when the watch brings it back."""
        return MigrationPlanStatus.model_validate(sent.to_wire())

    def _log(self, plan: Plan, decision: Decision) -> None:
        """Log one line a decision: transitions, not reconciles."""
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


def newer(version: str, than: str) -> bool:
    """Compare resourceVersions; the API server promises that they are numbers that rise."""
    return int(version) > int(than or 0)
