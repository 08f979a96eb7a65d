"""One plan's loop: what is written in which order, and what becomes of it when the other side fails.

The world is in memory. Where the decision itself does not matter it is a script's: it counts requests, so that a block
that is lost, or counted twice, shows.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.kit.loop_rig import BLOCK, SPEC, START, LoopRig, shifting
from tests.kit.rollouts import deployment

from cutover import metrics
from cutover.adapters.notify import notifier as notify
from cutover.adapters.notify.notifier import HttpNotifier
from cutover.api.opaque import Opaque
from cutover.api.v1alpha1 import (
    BaselineStatus,
    Checkpoint,
    LedgerEntry,
    MigrationPlanStatus,
    OnDelete,
    Phase,
)
from cutover.domain.engine import writes
from cutover.domain.engine.actions import (
    Action,
    Decision,
    Event,
    Finalize,
    Prepare,
    SetWeight,
    WakeAfter,
    WriteStatus,
)
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome, Requeue
from cutover.domain.engine.wanted import ADVICE_SECONDS
from cutover.domain.engine.way_back import PROBE_LIFETIME_SECONDS
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.ingest import load, load_evidence
from cutover.domain.heroku import HerokuApp, HerokuReading, Release
from cutover.domain.journal.notifications import key_of
from cutover.domain.journal.outbox import Batch
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.preflight.workload import DEPLOYMENT
from cutover.domain.revision import Split, desired_revision, desired_split
from cutover.domain.traffic import Leg
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.scale import turns
from cutover.services import apply, probing
from cutover.services import plan_loop as reconciler
from cutover.services.plan_loop import PlanLoop
from cutover.services.working_status import PENDING_BLOCKS, UNANSWERED_WRITES
from cutover.settings import Receiver, ReceiverKind

Script = Callable[[Plan, MigrationPlanStatus], tuple[MigrationPlanStatus, tuple[Action, ...], tuple[Event, ...]]]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], None]:
    """Replace the decision; the script gets the plan and its status with the new blocks counted in."""

    def install(chosen: Script) -> None:
        def decided(plan: Plan, seen: Observation, now: float) -> Decision:
            if plan.deleting:
                return Decision(plan.status, (Finalize(OnDelete.HEROKU),))
            status, actions, events = chosen(plan, counted(plan.status, seen))
            return Decision(status, actions, events, WakeAfter(30.0))

        monkeypatch.setattr(reconciler, "decide", decided)

    return install


def counted(status: MigrationPlanStatus, seen: Observation) -> MigrationPlanStatus:
    checkpoint = status.checkpoint
    assert checkpoint is not None
    news = [block for block in seen.samples.blocks if block.end > checkpoint.consumed_until]
    if not news:
        return status
    requests = requests_in(status) + sum(block.requests for block in news)
    fresh = checkpoint.model_copy(update={"consumed_until": news[-1].end, "evidence": Opaque(str(requests))})
    return status.model_copy(update={"checkpoint": fresh})


def requests_in(status: MigrationPlanStatus | None) -> float:
    assert status is not None
    assert status.checkpoint is not None
    return float(status.checkpoint.evidence.text or 0)


def advance(plan: Plan, status: MigrationPlanStatus) -> tuple[Any, Any, Any]:
    """25 to 100 %, once."""
    if status.weight == 100:
        healing = () if plan.status.reason == "healed" else (SetWeight(desired_split(status)),)
        return status.model_copy(update={"reason": "healed"}), healing, ()
    moved = status.model_copy(update={"weight": 100, "reason": "Advance"})
    return moved, (WriteStatus(), SetWeight(desired_split(moved))), (Event("Normal", "Advance", "25 % → 100 %"),)


def roll_back(plan: Plan, status: MigrationPlanStatus) -> tuple[Any, Any, Any]:
    """Back to 0 %, once."""
    if status.phase is Phase.ROLLING_BACK:
        return status, (), ()
    back = status.model_copy(update={"weight": 0, "phase": Phase.ROLLING_BACK, "reason": "EvidenceOfHarm"})
    return back, (SetWeight(desired_split(back)), WriteStatus()), (Event("Warning", "RollBack", "25 % → 0 %"),)


def quiet(plan: Plan, status: MigrationPlanStatus) -> tuple[Any, Any, Any]:
    return status, (), ()


def checkpointed(plan: Plan, status: MigrationPlanStatus) -> tuple[Any, Any, Any]:
    """Write at every reconcile."""
    return status, (WriteStatus(),), ()


def concluded(
    plan: Plan, seen: Observation, now: float, *, status: MigrationPlanStatus | None = None, requeue: Requeue = 30.0
) -> Decision:
    """Return the writes and the time for a status, by default the one that there is."""
    status = status or plan.status
    return writes.decision_of(plan, seen, Outcome(status, "", "", requeue=requeue), status, now)


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


async def reconciles(loop: PlanLoop, world: LoopRig, *, most: int = 10) -> list[float]:
    """Reconcile until it succeeds; return how long each wanted to wait."""
    delays = []
    for _ in range(most):
        ended, world.now = loop.last_reconciled, world.now + 0.01
        delay = await loop.reconcile()
        assert delay is not None
        delays.append(delay)
        if loop.last_reconciled != ended:
            return delays
    raise AssertionError(f"no reconcile succeeded: {world.done}")


# ------------------------------------------------------------------------------------------------------- write order


async def test_an_advance_writes_its_intent_first(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(advance)
    await world.loop().reconcile()
    assert world.done == ["status", "route 100", "event Advance"]


async def test_a_rollback_writes_the_route_first(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(roll_back)
    loop = world.loop()
    await loop.reconcile()
    assert world.done == ["route 0", "status", "event RollBack"]
    assert loop.rollbacks == 1


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("what", ["status", "route"])
@pytest.mark.parametrize("move", [advance, roll_back])
async def test_what_fails_is_done_again_and_nothing_is_counted_twice(
    script: Callable[[Script], None], move: Script, what: str, made: bool
) -> None:
    world = LoopRig()
    script(move)
    loop = world.loop()
    world.run(2 * BLOCK)
    world.fail(what, Unavailable("HTTP 500"), Unavailable("timed out"), after=made)
    delays = await reconciles(loop, world)
    assert all(delay <= reconciler.RETRY_SECONDS for delay in delays[:-1])
    world.run(BLOCK)
    script(checkpointed)
    await reconciles(loop, world)
    assert requests_in(world.stored) == 30
    assert world.stored.weight == world.weight
    # Told once, however often it was tried.
    assert [step for step in world.done if step.startswith("event")] == [
        f"event {'Advance' if move is advance else 'RollBack'}"
    ]
    assert loop.rollbacks == (0 if move is advance else 1)
    assert loop.failing_since == 0


async def test_a_rollback_is_tried_again_sooner_than_anything_else(script: Callable[[Script], None]) -> None:
    waits = {}
    for move in (advance, roll_back):
        world = LoopRig()
        script(move)
        world.fail("route", Unavailable("HTTP 500"))
        waits[move] = await world.loop().reconcile()
    assert waits == {advance: 2.0, roll_back: 0.5}


async def test_failing_is_told_since_when(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    world.fail("status", *[Unavailable("HTTP 500")] * 2)
    await loop.reconcile()
    world.now += 2
    await loop.reconcile()
    assert (loop.failing_since, loop.last_reconciled) == (START, 0.0)
    await loop.reconcile()
    assert (loop.failing_since, loop.last_reconciled) == (0.0, START + 2)


async def test_a_rollback_that_cannot_be_written_is_told_since_when(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    loop = world.loop()
    since: dict[Script, list[float]] = {}
    for move in (advance, roll_back):
        script(move)
        world.fail("route", *[Unavailable("HTTP 500")] * 2)
        began = world.now
        since[move] = []
        for _ in range(3):
            await loop.reconcile()
            since[move].append(loop.rollback_waits_since and loop.rollback_waits_since - began + 1)
            world.now += 1
    assert since == {advance: [0, 0, 0], roll_back: [1, 1, 0]}


async def test_a_conflict_of_the_status_decides_anew_at_once_with_what_was_seen(
    script: Callable[[Script], None],
) -> None:
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    await loop.reconcile()
    world.run(3 * BLOCK)
    world.edit(annotations={"team": "a"})  # which the watch has not delivered yet
    assert await loop.reconcile() == 0.0
    assert await loop.reconcile() == 30.0
    assert world.done == ["status", "status", "read", "status"]
    assert requests_in(world.stored) == 30
    assert loop.plan is not None
    assert loop.plan.annotations == {"team": "a"}


async def test_a_conflict_of_the_route_decides_anew_at_once(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(roll_back)
    loop = world.loop()
    world.run(BLOCK)
    world.fail("route", Conflict("modified"))
    assert await loop.reconcile() == 0.0
    await loop.reconcile()
    assert world.done == ["route 0", "read", "route 0", "status", "event RollBack"]
    assert requests_in(world.stored) == 10


async def test_conflicts_that_do_not_end_are_no_storm(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    world.fail("status", *[Conflict("modified")] * 10)
    delays = [await loop.reconcile() for _ in range(6)]
    assert delays == [0.0, 0.0, 0.0, 2.0, 2.0, 2.0]
    assert loop.failing_since == START


async def test_a_read_that_fails_after_a_conflict_is_tried_again(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    world.run(BLOCK)
    world.fail("status", Conflict("modified"))
    world.failures["read"] = deque([Unavailable("HTTP 500")])
    assert await loop.reconcile() == 2.0
    await loop.reconcile()
    assert requests_in(world.stored) == 10


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("what", ["status", "read"])
async def test_a_plan_that_is_gone_ends_its_loop(script: Callable[[Script], None], what: str) -> None:
    world = LoopRig()
    script(checkpointed)
    world.fail("status", Conflict("modified") if what == "read" else Gone("not found"))
    world.failures["read"] = deque([Gone("not found")])
    await asyncio.wait_for(world.loop().run(lambda: False), 1)
    assert world.done[-1] == what, "it ends with what tells it, and writes nothing after"


@pytest.mark.usefixtures("virtual_time")
async def test_another_plan_by_the_same_name_ends_the_loop(script: Callable[[Script], None]) -> None:
    """It has a loop of its own."""
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    await loop.reconcile()
    world.uid, world.version, world.wire = "uid-2", 50, {}
    await asyncio.wait_for(loop.run(lambda: False), 1)
    assert world.wire == {}


@pytest.mark.usefixtures("virtual_time")
async def test_a_fault_of_ours_does_not_end_the_loop(
    script: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch, events: list[Any]
) -> None:
    monkeypatch.setattr(reconciler, "FAULT_RETRY_SECONDS", 0.01)
    world, stumbles = LoopRig(), iter([True, True])

    def stumbling(plan: Plan, status: MigrationPlanStatus) -> tuple[Any, Any, Any]:
        if next(stumbles, False):
            raise ZeroDivisionError
        return checkpointed(plan, status)

    script(stumbling)
    loop = world.loop()
    running = asyncio.create_task(loop.run(lambda: bool(loop.last_reconciled)))
    await asyncio.sleep(0.1)
    loop.wake()
    await asyncio.wait_for(running, 30)
    assert world.done == ["status"]
    assert [event["plan"] for event in events if event.get("exc_info")] == ["docs/pdf"] * 2


async def test_what_cannot_be_read_is_told_and_not_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Observation] = []

    def decided(plan: Plan, observation: Observation, now: float) -> Decision:
        seen.append(observation)
        return Decision(plan.status)

    monkeypatch.setattr(reconciler, "decide", decided)
    world = LoopRig()
    world.fail("get", Unavailable("get virtualservices docs/cutover-pdf: no answer"))
    await world.loop().reconcile()
    assert seen[0].traffic is None
    assert seen[0].errors == ("get virtualservices docs/cutover-pdf: no answer",)


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(("reason", "asked"), [("ShareNotObserved", 1), ("Judging", 0)])
async def test_who_else_sends_to_the_legs_is_read_while_the_share_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, reason: str, asked: int
) -> None:
    seen, reads = list[Observation](), list[tuple[Read, ...]]()
    known = Inventory()

    def decided(plan: Plan, observation: Observation, now: float) -> Decision:
        seen.append(observation)
        return Decision(plan.status)

    async def inventory(plan: Plan, wanted: tuple[Read, ...] = ()) -> Inventory:
        if wanted != registry.again_reads(plan):
            reads.append(wanted)
        return known

    monkeypatch.setattr(reconciler, "decide", decided)
    world = LoopRig(status=shifting(reason=reason))
    monkeypatch.setattr(world, "inventory", inventory)
    loop = world.loop()
    for _ in range(3):
        await loop.reconcile()
        await asyncio.sleep(0.01)
    assert seen[-1].neighbours is (known if asked else None)
    others = [{read.resource.plural for read in one} for one in reads if one != (DEPLOYMENT,)]
    assert others == [{"virtualservices", "gateways"}] * asked


# ------------------------------------------------------------------------------------------------------------- blocks


async def test_while_nothing_can_be_written_blocks_wait_up_to_a_bound(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    world.fail("status", *[Unavailable("HTTP 500")] * (2 * PENDING_BLOCKS))
    for _ in range(PENDING_BLOCKS):
        world.run(BLOCK)
        await loop.reconcile()
    assert world.watched is not None
    world.run(3 * BLOCK)
    await loop.reconcile()
    assert world.watched is None  # what comes now stays where it is, in Prometheus
    world.failures.clear()
    for _ in range(2):
        await loop.reconcile()
    assert requests_in(world.stored) == 10 * (PENDING_BLOCKS + 3)


async def test_a_new_process_reads_again_what_came_after_the_checkpoint(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(checkpointed)
    await world.loop().reconcile()
    script(quiet)
    world.run(4 * BLOCK)
    killed = world.loop()
    await killed.reconcile()
    assert requests_in(world.stored) == 0
    world.deliver()
    script(checkpointed)
    await world.loop().reconcile()
    assert requests_in(world.stored) == 40


# -------------------------------------------------------------------------------------------------- what the watch says


async def test_ones_own_write_that_comes_back_changes_nothing(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    await loop.reconcile()
    script(quiet)
    world.run(2 * BLOCK)
    await loop.reconcile()
    world.deliver()
    await loop.reconcile()
    assert loop.plan is not None
    assert requests_in(loop.plan.status) == 20  # ahead of what is stored
    assert world.watched is not None
    assert world.watched.since == world.now  # nothing is read again


async def test_a_newer_object_with_somebody_elses_status_is_adopted(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(quiet)
    loop = world.loop()
    world.run(2 * BLOCK)
    await loop.reconcile()
    other = shifting(100, reason="another operator")
    world.wire, world.version = other.to_wire(), world.version + 1
    world.deliver()
    await loop.reconcile()
    assert loop.plan is not None
    assert (loop.plan.status.weight, loop.plan.status.reason) == (100, "another operator")
    assert requests_in(loop.plan.status) == 20  # read again after its checkpoint


async def test_with_somebody_elses_status_blocks_that_wait_are_read_again(script: Callable[[Script], None]) -> None:
    """They may be newer than what that status has not seen either."""
    world = LoopRig()
    script(quiet)
    loop = world.loop()
    world.run(2 * BLOCK)
    await loop.reconcile()
    world.run(2 * BLOCK)
    script(checkpointed)
    world.fail("status", Unavailable("HTTP 500"))
    await loop.reconcile()
    world.wire, world.version = shifting(25, reason="another operator").to_wire(), world.version + 1
    world.deliver()
    await loop.reconcile()
    assert requests_in(world.stored) == 40


async def test_a_newer_spec_is_taken_with_the_working_status(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(quiet)
    loop = world.loop()
    world.run(BLOCK)
    await loop.reconcile()
    world.spec["ceiling"] = 25
    world.edit(generation=2)
    world.deliver()
    await loop.reconcile()
    assert loop.plan is not None
    assert (loop.plan.spec.ceiling, loop.plan.generation) == (25, 2)
    assert requests_in(loop.plan.status) == 10
    assert world.watched is not None
    assert world.watched.since == world.now  # nothing is read again


async def test_what_the_watch_delivers_late_is_old(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    late = world.body
    script(checkpointed)
    loop = world.loop()
    world.run(BLOCK)
    await loop.reconcile()
    world.watch = late
    await loop.reconcile()
    assert requests_in(world.stored) == 10
    assert "read" not in world.done


async def test_people_wake_the_loop_and_its_own_writes_do_not(script: Callable[[Script], None]) -> None:
    world = LoopRig(metadata={"annotations": {"cutover.dev/approve": "a1-w25"}})
    script(quiet)
    loop = world.loop()
    assert _wakes(loop, world.body)  # not looked at yet
    await loop.reconcile()
    assert not _wakes(loop, world.body)
    changes: list[tuple[dict[str, Any], bool]] = [
        ({"resourceVersion": "99"}, False),
        (
            {"annotations": {"cutover.dev/approve": "a1-w25", "kopf.cutover.dev/last-handled-configuration": "…"}},
            False,
        ),
        ({"annotations": {"cutover.dev/approve": "a1-w100"}}, True),
        ({"annotations": {}}, True),
        ({"generation": 2}, True),
    ]
    for metadata, woken in changes:
        body = world.body
        assert _wakes(loop, {**body, "metadata": {**body["metadata"], **metadata}}) is woken, metadata


def _wakes(loop: PlanLoop, body: dict[str, Any]) -> bool:
    loop._wake.clear()
    loop.notice(body)
    return loop._wake.is_set()


# ---------------------------------------------------------------------------------------------------- unreadable plans


async def test_a_spec_that_cannot_be_read_stalls_the_plan() -> None:
    world = LoopRig(status=MigrationPlanStatus())
    world.spec["steps"] = [{"weight": "many"}]
    world.deliver()
    loop = world.loop()
    await loop.reconcile()
    assert (world.stored.phase, world.stored.reason) == (Phase.PENDING, "InvalidSpec")
    assert "steps[0].weight" in world.stored.message
    assert [c.status for c in world.stored.conditions if c.type == "Stalled"] == ["True"]
    assert not any(step.startswith("route") for step in world.done)


async def test_the_last_spec_that_could_be_read_stays_in_force() -> None:
    """Its way back is open."""
    world = LoopRig()
    loop = world.loop()
    await loop.reconcile()
    world.spec["steps"] = [{"weight": "many"}]
    world.edit(generation=2)
    world.deliver()
    await loop.reconcile()
    assert world.stored.reason == "InvalidSpec"
    assert (world.stored.phase, world.stored.weight) == (Phase.SHIFTING, 25)
    world.edit(annotations={"cutover.dev/rollback": "a1"})
    world.deliver()
    await loop.reconcile()
    assert (world.stored.phase, world.weight) == (Phase.ROLLING_BACK, 0)


async def test_a_spec_that_is_mended_is_taken_up() -> None:
    world = LoopRig()
    loop = world.loop()
    world.spec["ceiling"] = "high"
    world.deliver()
    await loop.reconcile()
    world.spec["ceiling"] = 25
    world.edit(generation=2)
    world.deliver()
    await loop.reconcile()
    assert world.stored.reason != "InvalidSpec"
    assert world.stored.observed_generation == 2


# ----------------------------------------------------------------------------------------------------------- deletion


async def test_a_plan_that_is_being_deleted_is_left_to_the_deletion(script: Callable[[Script], None]) -> None:
    world = LoopRig(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    script(checkpointed)
    assert await world.loop().reconcile() is None
    assert world.done == []


@pytest.mark.usefixtures("virtual_time")
async def test_finalizing_waits_for_the_pass_that_is_under_way(
    script: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, gate = LoopRig(), asyncio.Event()
    script(roll_back)
    original = world.write_status

    async def slow(*args: Any) -> str:
        await gate.wait()
        return await original(*args)

    monkeypatch.setattr(world, "write_status", slow)
    loop = world.loop()
    ticking = asyncio.create_task(loop.reconcile())
    await asyncio.sleep(0)
    finalizing = asyncio.create_task(loop.finalize(world.body))
    await asyncio.sleep(0.01)
    assert world.done == ["route 0"]
    gate.set()
    await asyncio.gather(ticking, finalizing)
    assert world.done == ["route 0", "status", "event RollBack", "finalize Heroku"]


async def test_finalizing_takes_the_newest_wish() -> None:
    world = LoopRig(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    loop = world.loop()
    world.fail("finalize", Unavailable("HTTP 500"))
    with pytest.raises(Unavailable):
        await loop.finalize(world.body)
    world.spec["onDelete"] = "Leave"
    world.edit(generation=3)
    await loop.finalize(world.body)
    assert world.done == ["finalize Heroku", "event NotPutToRest", "finalize Leave"]


async def test_a_plan_that_never_could_be_read_is_let_go(events: list[Any]) -> None:
    world = LoopRig(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"})
    world.spec["steps"] = [{"weight": "many"}]
    await world.loop().finalize(world.body)
    assert world.done == []
    assert events[-1]["plan"] == "docs/pdf"


async def test_an_outage_of_the_api_server_does_not_fill_the_memory(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    world.fail("status", *[Unavailable("HTTP 500")] * 500)
    for _ in range(500):
        world.run(BLOCK)
        await loop.reconcile()
    assert len(loop._working._unanswered) <= UNANSWERED_WRITES
    await reconciles(loop, world)
    script(checkpointed)
    world.run(BLOCK)
    await reconciles(loop, world)
    assert requests_in(world.stored) == sum(block.requests for block in world.blocks)


@pytest.mark.usefixtures("virtual_time")
async def test_a_tool_that_fights_over_the_route_gets_no_answer_at_its_own_pace(
    script: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciler, "FIGHT_PAUSE_SECONDS", 0.05)
    world = LoopRig()
    script(lambda plan, status: (status, (SetWeight(desired_split(status), repairs=True),), ()))
    loop = world.loop()
    began = asyncio.get_running_loop().time()
    running = asyncio.create_task(loop.run(lambda: False))
    for _ in range(200):
        loop.wake()
        await asyncio.sleep(0.001)
    most = apply.REPAIRS_AT_ONCE + 1 + (asyncio.get_running_loop().time() - began) / 0.05
    assert apply.REPAIRS_AT_ONCE <= world.done.count("route 25") <= most
    world.now += apply.FIGHT_SECONDS
    assert not loop._applier.fought_over
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# ------------------------------------------------------------------------------------------------------------ the probe


@pytest.mark.usefixtures("virtual_time")
async def test_a_probe_that_hangs_does_not_delay_a_rollback(script: Callable[[Script], None]) -> None:
    world, never = LoopRig(), asyncio.Event()

    async def hang() -> None:
        await never.wait()

    world.probing = hang
    script(quiet)
    loop = world.loop()
    await asyncio.wait_for(loop.reconcile(), 1)
    await asyncio.sleep(0)
    assert world.probes == 1
    script(roll_back)
    world.now += 60
    await asyncio.wait_for(loop.reconcile(), 1)
    assert world.weight == 0
    assert world.probes == 1  # one at a time


@pytest.mark.usefixtures("virtual_time")
async def test_a_probe_that_cannot_be_made_is_told(script: Callable[[Script], None]) -> None:
    world = LoopRig()

    async def fail() -> None:
        raise KeyError("number")

    world.probing = fail
    script(quiet)
    loop = world.loop()
    for failures in (1, 2):
        await loop.reconcile()
        await asyncio.sleep(0.01)
        probe = loop._observer.probes.alone[Leg.HEROKU].fact.value
        assert probe is not None
        assert (probe.healthy, probe.failures) == (False, failures)
        assert "KeyError('number')" in probe.detail
        world.now += 60


async def test_a_way_back_that_is_open_is_asked_for_more_seldom(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(quiet)
    loop = world.loop()

    async def asked(seconds: float) -> int:
        before = world.probes
        for _ in range(round(seconds / 5)):
            world.now += 5
            await loop.reconcile()
            await asyncio.sleep(0)
        return world.probes - before

    await asked(5)
    assert 2 <= await asked(60) <= 3

    async def fail() -> None:
        raise OSError("refused")

    world.probing = fail
    assert await asked(60) >= 4


@pytest.mark.usefixtures("virtual_time")
async def test_the_next_probe_waits_for_no_reconcile(
    monkeypatch: pytest.MonkeyPatch, script: Callable[[Script], None]
) -> None:
    monkeypatch.setattr(probing, "WELL_PROBE_SECONDS", 0.02)
    monkeypatch.setattr(probing, "PROBE_SPREAD_SECONDS", 0.0)
    world, asked = LoopRig(), asyncio.Event()
    script(quiet)
    loop = world.loop()

    async def well() -> None:
        asked.set()

    world.probing = well
    await loop.reconcile()
    await asyncio.sleep(0.01)
    for probes in (2, 3):
        asked.clear()
        await loop.reconcile()  # puts the next one on the list, as it is not due yet
        assert world.probes == probes - 1
        world.now += 0.02
        async with asyncio.timeout(5):
            await asked.wait()
        await asyncio.sleep(0.01)
    assert world.probes == 3


async def test_who_waits_for_a_block_is_woken_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise half of all reconciles would come a moment before the block, for nothing."""
    world = LoopRig()
    wanted = {"status": world.stored, "requeue": NEXT_BLOCK}
    monkeypatch.setattr(reconciler, "decide", lambda plan, seen, now: concluded(plan, seen, now, **wanted))
    loop = world.loop()
    assert await loop.reconcile() == writes.OVERDUE_BLOCKS * BLOCK
    wanted["requeue"] = 2.0
    assert await loop.reconcile() == 2.0
    wanted |= {"requeue": NEXT_BLOCK, "status": shifting(phase=Phase.PREFLIGHT)}
    assert await loop.reconcile() == BLOCK


async def test_between_long_blocks_heroku_is_asked_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer has to be young when a block shows harm."""
    world = LoopRig()
    world.spec["gates"]["block"] = "60s"
    world.deliver()
    monkeypatch.setattr(reconciler, "decide", lambda plan, seen, now: concluded(plan, seen, now, requeue=NEXT_BLOCK))
    delay = await world.loop().reconcile()
    assert delay is not None
    assert delay < PROBE_LIFETIME_SECONDS


@pytest.mark.parametrize("answer", [Unavailable("no answer"), Conflict("the first sending was faster")])
async def test_a_rollback_that_was_written_without_an_answer_is_told(
    script: Callable[[Script], None], answer: Exception
) -> None:
    world = LoopRig()
    script(roll_back)
    world.fail("status", answer, after=True)
    loop = world.loop()
    for _ in range(3):
        await loop.reconcile()
        world.deliver()
    assert world.done.count("event RollBack") == 1
    assert loop.rollbacks == 1


@pytest.mark.usefixtures("virtual_time")
async def test_a_rollback_waits_for_no_preflight(script: Callable[[Script], None]) -> None:
    slots, answers = asyncio.Semaphore(2), asyncio.Event()
    script(roll_back)

    class Waiting(LoopRig):
        async def inventory(self, plan: Plan, reads: Any = None, *, fresh: bool = False) -> Inventory:
            await answers.wait()
            raise Unavailable("not in this test")

    preflight = MigrationPlanStatus(observed_generation=1, phase=Phase.PREFLIGHT, attempt=1)
    worlds = [*(Waiting(status=preflight, uid=f"uid-{number}") for number in range(10)), LoopRig()]
    loops = [world.loop() for world in worlds]
    for loop in loops:
        loop._ports = replace(loop._ports, slots=slots)
    ticks = [asyncio.create_task(loop.reconcile()) for loop in loops]
    await asyncio.wait_for(ticks[-1], 30)
    assert worlds[-1].weight == 0
    for tick in ticks[:-1]:
        tick.cancel()
    await asyncio.gather(*ticks, return_exceptions=True)


async def test_what_was_prepared_for_another_name_or_by_another_clock_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    world = LoopRig(status=MigrationPlanStatus(observed_generation=1, phase=Phase.PREFLIGHT, attempt=1))
    seen_for: list[float | None] = []

    def decided(plan: Plan, seen: Observation, now: float) -> Decision:
        seen_for.append(seen.prepared_for)
        return Decision(plan.status, (Prepare(),) if seen.prepared_for is None else ())

    monkeypatch.setattr(reconciler, "decide", decided)
    loop = world.loop()
    for step in (0.0, 11.0, -3600.0, 5.0):
        world.now += step
        await loop.reconcile()
    world.spec["heroku"]["hostname"] = "other-1a2b3c.herokuapp.com"
    world.edit(generation=2)
    world.deliver()
    await loop.reconcile()
    assert seen_for == [None, 11.0, None, 5.0, None]


async def test_a_block_is_noted_as_judged_once_whatever_becomes_of_the_write(script: Callable[[Script], None]) -> None:
    def counted_so_far() -> float:
        (family,) = metrics.JUDGING_DELAY.collect()
        return next(sample.value for sample in family.samples if sample.name.endswith("_count"))

    world = LoopRig()
    script(checkpointed)
    loop = world.loop()
    before = counted_so_far()
    world.run(BLOCK)
    world.fail("status", Unavailable("away"), Unavailable("away"))
    assert len(await reconciles(loop, world)) == 3
    assert counted_so_far() - before == 1


@pytest.mark.usefixtures("virtual_time")
async def test_a_write_that_waits_keeps_no_other_plan_from_going_back(script: Callable[[Script], None]) -> None:
    worlds = [LoopRig() for _ in range(20)]
    slots, answers = asyncio.Semaphore(2), asyncio.Event()

    def going(plan: Plan, status: MigrationPlanStatus) -> tuple[Any, Any, Any]:
        return (roll_back if plan.annotations else checkpointed)(plan, status)

    script(going)
    worlds[-1].metadata = {"annotations": {"cutover.dev/rollback": "a1"}}
    worlds[-1].deliver()
    loops = []
    for world in worlds:
        loop = world.loop()
        loop._ports = replace(loop._ports, slots=slots)
        loops.append(loop)

        async def hang(plan: Plan, status: MigrationPlanStatus, version: str) -> str:
            await answers.wait()
            return version

        if world is not worlds[-1]:
            world.write_status = hang  # type: ignore[method-assign]
    ticks = [asyncio.create_task(loop.reconcile()) for loop in loops]
    await asyncio.wait_for(ticks[-1], 30)
    assert worlds[-1].weight == 0
    assert not any(tick.done() for tick in ticks[:-1])
    answers.set()
    await asyncio.gather(*ticks)


@pytest.mark.usefixtures("virtual_time")
async def test_a_clock_that_is_set_back_stops_no_probe(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(quiet)
    loop = world.loop()
    for asked in (1, 2, 2):
        await loop.reconcile()
        await asyncio.sleep(0.01)
        assert world.probes == asked
        world.now -= 3600 if asked == 1 else -1


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize(
    ("status", "unhealthy", "news"),
    [
        (shifting(), False, False),
        (shifting(), True, True),
        (shifting(0, phase=Phase.BASELINE, checkpoint=Checkpoint(at=START, weight_since=START)), False, True),
        (shifting(phase=Phase.ROLLING_BACK), False, True),
    ],
)
async def test_the_first_probe_after_a_start_wakes_a_plan_that_waits_for_it_or_whose_heroku_fails(
    script: Callable[[Script], None], status: MigrationPlanStatus, *, unhealthy: bool, news: bool
) -> None:
    world = LoopRig(status=status, unhealthy=unhealthy, deployment=deployment())
    script(quiet)
    loop = world.loop()
    await loop.reconcile()
    loop._wake.clear()
    await asyncio.sleep(0.01)
    assert world.probes == 1
    assert loop._wake.is_set() is news


@pytest.mark.usefixtures("virtual_time")
async def test_a_rollout_wakes_the_loop_and_what_ran_at_the_start_does_not(script: Callable[[Script], None]) -> None:
    world = LoopRig(status=shifting(10), deployment=deployment())
    script(quiet)
    loop = world.loop()
    for changed in (False, True):
        await loop.reconcile()
        loop._wake.clear()
        await asyncio.sleep(0.01)
        assert loop._observer.legs.facts[-1].fact.value is not None
        assert loop._wake.is_set() is changed
        world.deployment = deployment(image="app:2")
        world.now += 120


@pytest.mark.usefixtures("virtual_time")
async def test_facts_that_no_decision_waits_for_do_not_delay_those_that_one_waits_for(
    script: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, reads = LoopRig(status=shifting(10), deployment=deployment()), list[tuple[Read, ...]]()
    inventory = world.inventory

    async def noted(plan: Plan, wanted: tuple[Read, ...]) -> Inventory:
        reads.append(wanted)
        return await inventory(plan, wanted)

    monkeypatch.setattr(world, "inventory", noted)
    script(quiet)
    ports = replace(world.ports(), unhurried=asyncio.Semaphore(0))
    loop = PlanLoop(ports, lambda: world.watch)
    await loop.reconcile()
    await asyncio.sleep(0.01)
    assert world.probes == 1, "Heroku is probed"
    assert not reads, "the rollout and the audits wait"
    ports.unhurried.release()
    await asyncio.sleep(0.01)
    plan = loop.plan
    assert plan is not None
    assert set(reads) == {(DEPLOYMENT,), registry.again_reads(plan)}
    assert loop._observer.legs.facts[-1].fact.value is not None


@pytest.mark.usefixtures("virtual_time")
async def test_a_probe_with_news_wakes_the_loop(script: Callable[[Script], None]) -> None:
    world = LoopRig(deployment=deployment())
    script(quiet)
    loop = world.loop()
    for unhealthy, news in ((False, False), (True, True), (False, True), (False, False)):
        world.unhealthy = unhealthy
        loop._wake.clear()
        await loop.reconcile()
        await asyncio.sleep(0.01)
        assert loop._wake.is_set() is news
        world.now += 60


@pytest.mark.usefixtures("virtual_time")
async def test_a_loop_that_ends_leaves_nothing_behind(script: Callable[[Script], None]) -> None:
    world = LoopRig()

    async def hang() -> None:
        await asyncio.Event().wait()

    world.probing = hang
    script(quiet)
    loop = world.loop()
    before = asyncio.all_tasks()
    running = asyncio.create_task(loop.run(lambda: False))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before
    assert world.watched is None


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("move", [advance, roll_back, checkpointed])
@pytest.mark.parametrize("where", ["looking", "writing"])
async def test_a_loop_that_ends_in_the_middle_of_a_reconcile_forgets_its_plan(
    script: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch, move: Script, where: str
) -> None:
    """And what it has not begun to write is not written: the plan does not exist any more."""
    world, there, go_on = LoopRig(), asyncio.Event(), asyncio.Event()

    def slow(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def waiting(*args: Any, **keywords: Any) -> Any:
            there.set()
            await go_on.wait()
            return await original(*args, **keywords)

        return waiting

    for name in ("get",) if where == "looking" else ("write_status", "set"):
        monkeypatch.setattr(world, name, slow(getattr(world, name)))
    script(move)
    loop = world.loop()
    running = asyncio.create_task(loop.run(lambda: False))
    await there.wait()
    loop.end()
    go_on.set()
    await asyncio.wait_for(running, 30)
    assert world.watched is None
    assert world.own_watched is None
    if where == "looking":
        assert world.done == []
    before = list(world.done), world.probes
    await asyncio.sleep(0.05)
    assert (world.done, world.probes) == before


@pytest.mark.usefixtures("virtual_time")
async def test_a_loop_that_is_told_to_ends(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    script(quiet)
    loop = world.loop()
    running = asyncio.create_task(loop.run(lambda: False))
    await asyncio.sleep(0.01)
    assert not running.done()
    loop.end()
    await asyncio.wait_for(running, 30)
    assert world.watched is None


# ---------------------------------------------------------------------------------------------- with the real decisions


@pytest.mark.parametrize("phase", [Phase.COMPLETED, Phase.ROLLED_BACK])
async def test_a_plan_at_rest_is_never_written(phase: Phase) -> None:
    status = shifting(100 if phase is Phase.COMPLETED else 0, phase=phase)
    world = LoopRig(status=status, weight=status.weight or 0, revision=desired_revision(status))
    loop = world.loop()
    await loop.reconcile()
    world.done.clear()
    for _ in range(100):
        world.run(60.0)
        world.deliver()
        await loop.reconcile()
    assert world.done == []
    assert world.probes == 0


async def test_while_judging_a_checkpoint_is_written_about_once_a_minute() -> None:
    world = LoopRig()
    loop = world.loop()
    await loop.reconcile()
    await asyncio.sleep(0)
    world.done.clear()
    minutes = 20
    for _ in range(round(minutes * 60 / BLOCK)):
        world.run(BLOCK)
        world.deliver()
        await loop.reconcile()
        await asyncio.sleep(0)
    assert minutes - 3 <= world.done.count("status") <= minutes + 3
    assert set(world.done) == {"status"}
    assert world.stored.checkpoint is not None
    assert world.now - world.stored.checkpoint.consumed_until <= 60 + BLOCK


@pytest.mark.usefixtures("virtual_time")
async def test_a_checkpoint_lets_others_decide_first_but_news_does_not_wait_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = LoopRig()
    made = WriteStatus(may_wait=True)
    monkeypatch.setattr(reconciler, "decide", lambda plan, seen, now: Decision(world.stored, (made,)))
    loop = world.loop()
    await loop.reconcile()
    await asyncio.sleep(0)
    world.done.clear()
    loop._wake.clear()  # of the first probe
    passing = asyncio.create_task(loop.reconcile())
    await asyncio.sleep(0.05)
    assert world.done == []
    loop.wake()
    await passing
    assert world.done == ["status"]

    loop._wake.clear()
    monkeypatch.setattr(turns, "CHECKPOINT_WAIT_SECONDS", 0.01)
    await loop.reconcile()
    assert world.done == ["status"] * 2

    monkeypatch.setattr(turns, "CHECKPOINT_WAIT_SECONDS", 3600.0)
    made = WriteStatus()
    async with asyncio.timeout(30):
        await loop.reconcile()
    assert world.done == ["status"] * 3


async def test_nothing_new_nothing_written() -> None:
    world = LoopRig()
    loop = world.loop()
    await loop.reconcile()
    await asyncio.sleep(0)
    await loop.reconcile()
    world.done.clear()
    for _ in range(20):
        await loop.reconcile()
    assert world.done == []


# ------------------------------------------------------------------------------------------------- requests of our own


@pytest.mark.usefixtures("virtual_time")
async def test_probes_of_eks_are_taken_out_of_its_counts() -> None:
    """They go the users' way, so that the metrics count them as users' requests."""
    w = LoopRig(spec={**SPEC, "traffic": {**SPEC["traffic"], "probe": {"rate": 1}}})
    w.answered_with = 200
    loop = w.loop()
    await loop.reconcile()
    for _ in range(20):  # timers and tasks of the pair
        await asyncio.sleep(0.001)
    assert w.probes == 3, "the loop's own of Heroku, and a pair"
    w.run()
    await loop.reconcile()
    assert loop.plan is not None
    heroku, eks = load_evidence(loop.plan.status.checkpoint).total
    assert (heroku.requests, eks.requests) == (8, 1)


# ---------------------------------------------------------------------------------------------------- custom SLOs

RATIO: dict[str, Any] = {
    "name": "checkout",
    "ratio": {"bad": 'failed{leg="{{ leg }}"}', "total": 'all{leg="{{ leg }}"}', "scrapeInterval": "5s"},
}


OWN_SPEC = {**SPEC, "gates": {**SPEC["gates"], "slos": [*SPEC["gates"]["slos"], RATIO]}}


def own_events(w: LoopRig, blocks: int) -> None:
    """Let events of the team's own come: ten a block."""
    for _ in range(blocks):
        start = w.own_blocks[-1].end if w.own_blocks else w.now
        w.own_blocks.append(Block(start, start + BLOCK, Counts(requests=8), Counts(requests=2)))


def own_total(w: LoopRig) -> float:
    checkpoint = w.stored.checkpoint
    assert checkpoint is not None
    heroku, eks = load(checkpoint.custom_slos[0].evidence).total
    return heroku.requests + eks.requests


async def test_blocks_of_own_gates_wait_for_a_write_that_fails() -> None:
    w = LoopRig(spec=OWN_SPEC)
    loop = w.loop()
    await loop.reconcile()
    for _ in range(16):
        own_events(w, 1)
        w.run()
        w.fail("status", Unavailable("away"))
        await loop.reconcile()
    w.failures.clear()
    w.run(60)
    own_events(w, 12)
    await loop.reconcile()
    assert own_total(w) == 10 * len(w.own_blocks)


async def test_blocks_of_own_gates_are_read_again_after_a_crash() -> None:
    w = LoopRig(spec=OWN_SPEC)
    loop = w.loop()
    for _ in range(20):
        own_events(w, 1)
        w.run()
        await loop.reconcile()
    w.deliver()
    w.own_taken.clear()
    again = w.loop()
    await again.reconcile()
    w.run(65)
    own_events(w, 13)
    await again.reconcile()
    assert own_total(w) == 10 * len(w.own_blocks)


async def test_own_gates_are_asked_by_what_was_consumed_and_forgotten_at_rest() -> None:
    w = LoopRig(spec=OWN_SPEC)
    loop = w.loop()
    await loop.reconcile()
    assert w.own_watched is not None
    assert [gate.name for gate in w.own_watched.gates] == ["checkout"]
    assert w.own_watched.gates[0].queries[0] == 'failed{leg="heroku"}'
    assert w.own_watched.judged_from == START - 50
    w = LoopRig(spec=OWN_SPEC, status=shifting(0, phase=Phase.ROLLED_BACK))
    await w.loop().reconcile()
    assert w.own_watched is None


async def test_decisions_are_by_prometheus_own_clock() -> None:
    """Whatever is compared with the times of blocks: the reconcile itself, probes, and when this process began."""
    seen: list[Observation] = []

    def decided(plan: Plan, observation: Observation, now: float) -> Decision:
        seen.append(observation)
        assert now == w.now + 90
        return Decision(plan.status, ())

    w = LoopRig(skew=90.0)
    loop = w.loop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconciler, "decide", decided)
        await loop.reconcile()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await loop.reconcile()
    assert seen[-1].since == START + 90
    assert seen[-1].probe is not None
    assert seen[-1].probe.at == w.now + 90


async def test_a_backtest_runs_once_beside_the_loop() -> None:
    baseline = BaselineStatus.model_validate({"since": "2027-01-11T10:00:00Z", "requests": 5000, "slowMs": 100})
    spec = {**SPEC, "baseline": {"backtest": True, "window": "5s"}}
    w = LoopRig(spec=spec, status=shifting(0, phase=Phase.BASELINE, baseline=baseline), weight=0, revision="a1-w0")
    w.run(10)
    loop = w.loop()
    await loop.reconcile()
    assert w.stored.phase is Phase.BASELINE
    for _ in range(5):
        await asyncio.sleep(0)
    w.run()
    await loop.reconcile()
    assert w.stored.phase is Phase.SHIFTING
    assert w.stored.baseline is not None
    assert w.stored.baseline.backtest is not None
    assert w.stored.baseline.backtest.runs == 200
    w.run()
    await loop.reconcile()
    assert w.replays == 1


async def test_a_prometheus_that_the_namespace_may_not_choose_is_not_asked() -> None:
    """Not even by a plan that names it in the middle of a step."""
    spec = {**OWN_SPEC, "gates": {**OWN_SPEC["gates"], "prometheus": "other-team"}}
    w = LoopRig(spec=spec)
    w.run()
    await w.loop().reconcile()
    assert w.watched is None
    assert w.own_watched is None
    assert w.stored.reason == "InvalidSpec"
    assert "gates.prometheus" in w.stored.message


async def test_before_the_takeover_blocks_are_wanted_from_one_point_on() -> None:
    """Otherwise the first block would move on with every reconcile, and never come."""
    w = LoopRig(spec=OWN_SPEC, status=MigrationPlanStatus(phase=Phase.PREFLIGHT, attempt=1))
    loop = w.loop()
    wanted = set()
    for _ in range(3):
        await loop.reconcile()
        assert w.own_watched is not None
        wanted.add(w.own_watched.since["checkout"])
        w.run()
    assert wanted == {START}


# -------------------------------------------------------------------------------------------------------- notifications

CHAT = Receiver(name="chat", kind=ReceiverKind.SLACK, url_file=Path("/nowhere"))


def told(world: LoopRig) -> list[str]:
    """Let the receiver take what waits for it; return it."""
    outbox, found = world.notifier.senders["chat"], list[str]()
    while isinstance(batch := outbox.next(time.monotonic()), Batch):
        found += [f"{one.entry.decision} {one.entry.message}" for one in batch.notices]
        outbox.taken(batch, time.monotonic())
    return found


def noting(decision: str, *actions: Action) -> Script:
    """Take the decision in every reconcile that follows a successful one, and write it into the ledger."""

    def decide(plan: Plan, status: MigrationPlanStatus) -> tuple[Any, Any, Any]:
        number = len(status.ledger)
        at = datetime.fromtimestamp(START + number, UTC)
        line = LedgerEntry(
            at=at, attempt=1, decision=decision, from_weight=25, to_weight=0, reason="Why", message=str(number)
        )
        return status.model_copy(update={"ledger": (*status.ledger, line)}), actions, ()

    return decide


async def test_people_are_told_what_is_stored(script: Callable[[Script], None]) -> None:
    world = LoopRig(notifier=HttpNotifier((CHAT,)))
    loop = world.loop()
    script(checkpointed)
    await loop.reconcile()
    script(noting("RollBack", SetWeight(Split(1, 0, rolled_back=True)), WriteStatus()))
    world.fail("status", Unavailable("API server away"))
    await loop.reconcile()
    assert told(world) == [], "it may be decided otherwise yet"
    await loop.reconcile()
    assert told(world) == ["RollBack 0"]
    world.fail("status", Unavailable("answer lost"), after=True)
    await loop.reconcile()
    assert told(world) == []
    world.deliver()
    script(quiet)
    await loop.reconcile()
    assert told(world) == ["RollBack 1"]


async def test_who_was_told_is_written_with_what_is_written_next(script: Callable[[Script], None]) -> None:
    world = LoopRig(notifier=HttpNotifier((CHAT,)))
    loop = world.loop()
    script(checkpointed)
    await loop.reconcile()
    assert world.stored.notified == {"chat": ""}
    script(noting("Advance", WriteStatus()))
    await loop.reconcile()
    assert world.stored.notified == {"chat": ""}
    assert told(world) == ["Advance 0"]
    script(checkpointed)
    await loop.reconcile()
    assert world.stored.notified == {"chat": key_of(world.stored.ledger[0])}


async def test_a_crash_repeats_what_was_told_since_the_write_and_no_more(script: Callable[[Script], None]) -> None:
    world = LoopRig(notifier=HttpNotifier((CHAT,)))
    loop = world.loop()
    script(checkpointed)
    await loop.reconcile()
    script(noting("Advance", WriteStatus()))
    await loop.reconcile()
    assert told(world) == ["Advance 0"]
    await loop.reconcile()
    assert told(world) == ["Advance 1"]
    world.deliver()
    world.notifier = HttpNotifier((CHAT,))
    fresh = world.loop()
    script(quiet)
    await fresh.reconcile()
    assert told(world) == ["Advance 1"]


async def test_at_rest_who_was_told_is_written_once_after_a_minute(
    script: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LoopRig(notifier=HttpNotifier((CHAT,)))
    loop = world.loop()
    script(checkpointed)
    await loop.reconcile()
    script(noting("Complete", WriteStatus()))
    await loop.reconcile()
    monkeypatch.setattr(reconciler, "decide", concluded)
    assert told(world) == ["Complete 0"]
    world.done.clear()
    delay = await loop.reconcile()
    assert world.done == []
    assert delay == 30, "sooner than the minute"
    monkeypatch.setattr(notify, "REMEMBER_SECONDS", 0.0)
    for _ in range(3):
        await loop.reconcile()
        world.deliver()
    assert world.done == ["status"]
    assert world.stored.notified == {"chat": key_of(world.stored.ledger[0])}


async def test_without_receivers_nothing_is_remembered(script: Callable[[Script], None]) -> None:
    world = LoopRig()
    loop = world.loop()
    script(noting("Advance", WriteStatus()))
    await loop.reconcile()
    assert "notified" not in world.wire


class PlayedHeroku:
    """Heroku's API: answers, or fails with a text."""

    def __init__(self) -> None:
        self.problem = ""
        self.asked = 0
        self.keyed = True

    def has_key(self, plan: Plan) -> bool:
        return self.keyed

    async def app(self, plan: Plan) -> HerokuApp:
        self.asked += 1
        if self.problem:
            raise Unavailable(self.problem)
        return HerokuApp(plan.spec.heroku.app, maintenance=False, own_hostname="")

    async def releases(self, plan: Plan) -> tuple[Release, ...]:
        raise Unavailable("not asked in these tests")

    def pace(self, plan: Plan) -> float:
        return 1.0


async def test_herokus_api_is_asked_in_preflight_beside_the_loop() -> None:
    api = PlayedHeroku()
    w = LoopRig(heroku=api, status=MigrationPlanStatus(phase=Phase.PREFLIGHT))
    loop = w.loop()
    observer, plan = loop._observer, loop._working.read(w.body)
    first, _ = await observer.look(plan)
    assert first.heroku == HerokuReading()
    await asyncio.sleep(0)
    answered, _ = await observer.look(plan)
    assert answered.heroku is not None
    assert answered.heroku.app is not None
    assert (answered.heroku.app.name, answered.heroku.at, api.asked) == ("acme-pdf", w.now, 1)
    api.problem = "Heroku's API answered HTTP 503 for acme-pdf"
    w.now += ADVICE_SECONDS
    await observer.look(plan)
    await asyncio.sleep(0)
    away, _ = await observer.look(plan)
    assert away.heroku == replace(answered.heroku, problem=api.problem), "what was known stays known"
    later, _ = await observer.look(replace(plan, status=shifting()))
    assert later.heroku is None
    api.keyed = False
    without, _ = await observer.look(plan)
    assert without.heroku is None
    observer.stop()
