"""The working status: what one plan's loop knows beyond the stored status.

It is ahead of the stored status by the evidence since the last checkpoint, and by the blocks that wait for a successful
write. A crash loses nothing: what is only in memory is in Prometheus, at the same timestamps.
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
from cutover.ports.all import Ports
from cutover.ports.errors import Conflict, Unavailable
from cutover.services.ledger_log import LedgerLog

log = structlog.get_logger("cutover")

#: Unanswered writes that are recognised when the watch delivers them; an outage may produce thousands. A write that is not
#: recognised counts as another writer's, which costs the Event of its decision and nothing else.
UNANSWERED_WRITES = 32
#: Blocks that wait for a successful write. Later blocks stay in Prometheus' history until then.
PENDING_BLOCKS = 240

_NONE = MigrationPlanStatus()


class StatusUnreadable(Exception):
    """A plan's status that this version cannot read, without an earlier status to use instead."""

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
        The plan with its working status, ``None`` before the first read.
    version
        The resourceVersion that fences the next write of the status.
    stored
        The status as the API server has it.
    pending, pending_custom
        Delivered blocks that no stored decision has consumed: the mesh's, and those of custom SLOs by name.
    untold
        Events of decisions, which wait until the actions are done.
    unwritten
        Whether the route could not be written and the status says so.
    rollbacks
        Rollbacks decided by this process.
    """

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self.plan: Plan | None = None
        self.version = ""
        self._stored = _NONE
        self._sent: MigrationPlanStatus | None = None
        self.pending: tuple[Block, ...] = ()
        self.pending_custom: dict[str, tuple[Block, ...]] = {}
        self.untold: list[Event] = []
        self.unwritten = False
        self.rollbacks = 0
        # Statuses that were sent without an answer, as the API server would store them, to recognise them in the watch.
        self._unanswered: deque[tuple[MigrationPlanStatus, Decision]] = deque(maxlen=UNANSWERED_WRITES)
        self._prepared: tuple[float, object] | None = None
        self._ledger_log = LedgerLog()

    @property
    def stored(self) -> MigrationPlanStatus:
        """The status as the API server has it, equal to what the watch delivers.

        After a write of this loop it is made when somebody asks: that takes longer than most decisions, and few ask.
        """
        if self._sent is not None:
            self._stored, self._sent = self._as_stored(self._sent), None
        return self._stored

    @stored.setter
    def stored(self, status: MigrationPlanStatus) -> None:
        self._stored, self._sent = status, None

    @property
    def notified(self) -> Mapping[str, str]:
        """What the stored status remembers of delivered notifications, by receiver."""
        return (self._sent or self._stored).notified or {}

    # ------------------------------------------------------------------------------------------------ what others wrote

    def read(self, body: Mapping[str, Any]) -> Plan:
        """Return the plan of the watch or the one that this loop has written, whichever is newer. Raises StatusUnreadable."""
        version = body["metadata"]["resourceVersion"]
        if self.plan is None or newer(version, self.version):
            self.adopt(self._understood(body), version)
        assert self.plan is not None
        return self.plan

    def adopt(self, plan: Plan, version: str) -> None:
        """Adopt a newer object; its status only where another writer wrote it, as the working status is ahead."""
        working, known = self.plan, self.stored
        made = next((decision for status, decision in self._unanswered if status == plan.status), None)
        if working is None or plan.uid != working.uid:
            self.stored = plan.status
        elif plan.status == self.stored:
            plan = replace(plan, status=working.status)
        elif made is not None:
            # Our own write, of which only the answer was lost.
            self.stored = plan.status
            plan = replace(plan, status=made.status)
            self.settle(working, plan, made)
        else:
            self.stored, self.pending, self.pending_custom = plan.status, (), {}
        self.plan, self.version = plan, version
        if self.stored is not known:
            # Only of what is stored: other decisions may still change.
            self._tell(replace(plan, status=self.stored))

    def _understood(self, body: Mapping[str, Any]) -> Plan:
        """Return the plan, with the last readable version of a part that cannot be read. Raises StatusUnreadable."""
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
        # Another writer edited it. This loop's status is ahead, and replaces it with the next write.
        log.warning("status cannot be read: the operator's own status stays in force", plan=plan.key, problem=problem)
        return replace(plan, status=self.stored)

    def _refused(self, body: Mapping[str, Any], error: ValidationError) -> Plan:
        """Keep the last readable spec in force, so that the plan can still roll back.

        The API server refuses a spec that this version cannot read, unless the CRD is of another version.
        """
        refused = Plan.refused(body, problem_text(error))
        if self.plan is not None and self.plan.uid == refused.uid:
            return replace(refused, spec=self.plan.spec)
        return refused

    # ------------------------------------------------------------------------------------------------ what this loop does

    async def write(self, plan: Plan, decided: Plan, decision: Decision) -> None:
        """Write the decided status; from then on it is in force. Raises Conflict, Gone, Unavailable."""
        sent = self._to_send(plan, decision.status)
        try:
            await self._send(plan, sent)
        except (Conflict, Unavailable):  # the conflict may be with our own write, which was sent twice
            self._unanswered.append((self._as_stored(sent), decision))
            raise
        self.settle(plan, decided, decision)

    async def tell_unwritten(self, told: Decision) -> None:
        """Write a status that says that the route cannot be written. Raises Conflict, Gone, Unavailable.

        The blocks of the decision are kept: the decision is made again from them.
        """
        assert self.plan is not None
        if told.actions:
            await self._send(self.plan, self._to_send(self.plan, told.status))
        self.unwritten = True
        self.plan = replace(self.plan, status=told.status)
        self._tell(self.plan)
        self.untold += told.events  # posted after the next actions

    async def confirm(self, plan: Plan) -> None:
        """Check that the plan has not changed since the decision. Raises Conflict, Gone, Unavailable."""
        _, version = await self._ports.plans.read(plan.namespace, plan.name)
        if version != self.version:
            raise Conflict(f"{plan.key} has changed meanwhile")

    def settle(self, plan: Plan, decided: Plan, decision: Decision) -> None:
        """Make the decision the working status. A written decision is in force and reported even before its route."""
        if self.plan is decided:
            return
        if self.pending:
            DECISION_DELAY.observe(self._ports.now(plan) - self.pending[-1].end)
        self.plan, self.pending, self.pending_custom = decided, (), {}
        self._unanswered.clear()
        self._log(plan, decision)
        self._tell(decided)
        self.untold += decision.events

    def note_prepared(self, plan: Plan) -> None:
        """Note that the objects that the route refers to exist."""
        self._prepared = (self._ports.now(plan), (plan.spec.heroku, plan.spec.traffic))

    def prepared_for(self, plan: Plan) -> float | None:
        """Return the seconds since the objects that the route refers to were seen; ``None`` if they were not seen."""
        if self._prepared is None or self._prepared[1] != (plan.spec.heroku, plan.spec.traffic):
            return None
        elapsed = self._ports.now(plan) - self._prepared[0]
        return elapsed if elapsed >= 0 else None  # the clock was set back

    def remember_in(self, plan: Plan) -> float | None:
        """Return the seconds until delivered notifications are worth a write; ``None`` where the status has all of them."""
        return self._ports.notifier.overdue(plan.uid, self.notified)

    def _tell(self, plan: Plan) -> None:
        """Tell people and the log of what is new in the ledger."""
        self._ledger_log.write(plan)
        self._ports.notifier.tell(plan, self.notified)
        if self._ports.reports is not None:
            self._ports.reports.tell(plan)

    def _to_send(self, plan: Plan, status: MigrationPlanStatus) -> MigrationPlanStatus:
        return status.evolve(notified=dict(self._ports.notifier.told(plan.uid)) or None)

    async def _send(self, plan: Plan, sent: MigrationPlanStatus) -> None:
        self.version = await self._ports.plans.write_status(plan, sent, self.version)
        self._sent, self._stored = sent, _NONE

    @staticmethod
    def _as_stored(sent: MigrationPlanStatus) -> MigrationPlanStatus:
        """Return the status as the API server stores it, so that it equals what the watch delivers."""
        return MigrationPlanStatus.model_validate(sent.to_wire())

    def _log(self, plan: Plan, decision: Decision) -> None:
        """Log one line for each transition, not for each reconcile."""
        before, after = plan.status, decision.status
        if after.phase is Phase.ROLLING_BACK and before.phase is not Phase.ROLLING_BACK:
            self.rollbacks += 1
        if (before.phase, before.weight, before.reason) != (after.phase, after.weight, after.reason):
            log.info(
                "transition",
                plan=plan.key,
                attempt=after.attempt,
                phase=after.phase,
                step=after.step,
                weight=after.weight,
                reason=after.reason,
                message=after.message,
            )


def newer(version: str, than: str) -> bool:
    """Compare resourceVersions; the API server guarantees that they are rising numbers."""
    return int(version) > int(than or 0)
