"""Executes a decision: its actions, one after the other, exactly as they were decided.

Nothing is added, left out or reordered here. Each action says what it needs and what it may wait for.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import assert_never

from cutover.domain.engine.actions import Decision, EndTrial, Finalize, GiveBack, Prepare, SetWeight, Try, WriteStatus
from cutover.domain.plan import Plan
from cutover.ports.all import Ports
from cutover.ports.errors import Conflict, Unavailable
from cutover.services.working_status import WorkingStatus

#: A route that was restored so often within so many seconds has another writer: each further reconcile then pauses, or two
#: tools would write as fast as the API server answers.
REPAIRS_AT_ONCE, FIGHT_SECONDS = 3, 10.0


class RouteUnavailable(Unavailable):
    """The route could not be written. The status may still be writable."""


class Applier:
    """Executes the decisions of one plan.

    Parameters
    ----------
    ports
        The outside world.
    working
        The plan's working status; a decision's status replaces it once that is written.
    wait_turn
        Waits until other plans have decided; called before a write that may wait.
    """

    def __init__(self, ports: Ports, working: WorkingStatus, wait_turn: Callable[[Plan], Awaitable[None]]) -> None:
        self._ports = ports
        self._working = working
        self._wait_turn = wait_turn
        self._repairs: deque[float] = deque(maxlen=REPAIRS_AT_ONCE)

    @property
    def fought_over(self) -> bool:
        """Whether another writer edits the route as fast as the operator restores it."""
        now = self._ports.clock.now()
        return len(self._repairs) == REPAIRS_AT_ONCE and 0 <= now - self._repairs[0] < FIGHT_SECONDS

    async def apply(self, plan: Plan, decision: Decision) -> None:
        """Execute a decision, up to the first action that fails, and post its Events.

        Raises
        ------
        Conflict
            An object changed since the decision: decide again.
        Gone
            The plan does not exist any more.
        RouteUnavailable
            The route could not be written.
        Unavailable
            The status could not be written, or the answer to the write was lost.
        """
        decided = replace(plan, status=decision.status)
        for action in decision.actions:
            match action:
                case WriteStatus():
                    if action.may_wait:
                        await self._wait_turn(plan)
                    await self._working.write(plan, decided, decision)
                case Prepare():
                    with _writing_routes():
                        await self._ports.traffic.prepare(decided)
                    self._working.note_prepared(plan)
                case Try():
                    with _writing_routes():
                        await self._ports.traffic.try_out(decided, action)
                case GiveBack():
                    with _writing_routes():
                        # What the status says after it knows nothing of the team's routes any more.
                        await self._ports.traffic.give_back(plan, action)
                case EndTrial():
                    with _writing_routes():
                        await self._ports.traffic.end_trial(plan, action)
                case SetWeight():
                    await self._set_weight(plan, decided, action)
                case Finalize():
                    await self._ports.traffic.finalize(plan, action)
                case _:
                    assert_never(action)
        self._working.unwritten = False
        if plan.deleting:
            self._working.untold += decision.events
        else:
            self._working.settle(plan, decided, decision)
        while self._working.untold:
            event = self._working.untold.pop(0)
            await self._ports.plans.event(plan, event.kind, event.reason, event.message)

    async def _set_weight(self, plan: Plan, decided: Plan, action: SetWeight) -> None:
        if self._ports.now(plan) > action.expires:
            raise Conflict(f"{plan.key}: the evidence for {action.split.weight} % is too old by now")
        if action.confirm:
            await self._working.confirm(plan)
        with _writing_routes():
            await self._ports.traffic.set(decided, action)
        if action.repairs:
            self._repairs.append(self._ports.clock.now())


@contextlib.contextmanager
def _writing_routes() -> Iterator[None]:
    try:
        yield
    except Unavailable as outage:
        raise RouteUnavailable(str(outage)) from outage
