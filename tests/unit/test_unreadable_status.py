"""A status that another version or a hand has written, and this one cannot read: told, left alone, never in the way."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from tests.kit.loop_rig import LoopRig, shifting

from cutover.domain.plan import Plan
from cutover.services.plan_loop import UNREADABLE_RETRY_SECONDS, PlanLoop

#: What a later version may write, and what an edit may leave where the CRD is another one.
UNREADABLE: list[dict[str, Any]] = [
    {"phase": "Paused"},
    {"weight": 250},
    {"conditions": [{"type": "Ready"}]},
    {"ledger": "none"},
    {"checkpoint": {"at": "now"}},
    {"since": "yesterday"},
    # Loops of all plans divide by these.
    {"blocks": {"scrapeSeconds": 15, "seconds": 0}},
    {"blocks": {"scrapeSeconds": -1, "seconds": 15}},
]


def world(status: dict[str, Any]) -> tuple[LoopRig, PlanLoop]:
    w = LoopRig()
    w.wire = status
    w.deliver()
    return w, w.loop()


@pytest.mark.parametrize("status", UNREADABLE, ids=str)
async def test_it_is_told_and_nothing_is_written(status: dict[str, Any]) -> None:
    w, loop = world(status)
    for _ in range(3):
        assert await loop.reconcile() == UNREADABLE_RETRY_SECONDS
    assert set(w.done) == {"event StatusUnreadable"}
    assert w.wire == status
    assert loop.failing_since == w.now


async def test_once_it_can_be_read_the_plan_goes_on() -> None:
    w, loop = world(UNREADABLE[0])
    await loop.reconcile()
    w.wire, w.version = shifting().to_wire(), w.version + 1
    w.deliver()
    await loop.reconcile()
    assert loop.failing_since == 0
    assert loop.plan is not None
    assert loop.plan.status.weight == 25


async def test_under_a_running_loop_its_own_stays_in_force() -> None:
    w = LoopRig()
    loop = w.loop()
    await loop.reconcile()
    assert loop.plan is not None
    before = loop.plan.status
    w.wire, w.version = UNREADABLE[0], w.version + 1
    w.deliver()
    await loop.reconcile()
    assert loop.plan.status.weight == before.weight
    assert loop.failing_since == 0


@pytest.mark.parametrize(
    ("declared", "end"), [("Rest", "Leave"), ("Heroku", "Heroku"), ("EKS", "Leave"), ("Leave", "Leave")]
)
async def test_such_a_plan_can_be_deleted(declared: str, end: str) -> None:
    w, _ = world(UNREADABLE[0])
    w.spec["onDelete"] = declared
    w.metadata = {"deletionTimestamp": "2027-01-11T10:00:00Z"}
    w.deliver()
    loop = w.loop()
    assert await loop.reconcile() is None
    await loop.finalize(w.body)
    assert w.done == [f"finalize {end}", *(["event RestsElsewhere"] if declared == "EKS" else [])]


async def test_so_can_one_whose_spec_cannot_be_read_either() -> None:
    w, loop = world(UNREADABLE[0])
    w.spec, w.metadata = {"heroku": 1}, {"deletionTimestamp": "2027-01-11T10:00:00Z"}
    w.deliver()
    await loop.finalize(w.body)
    assert w.done == []


def test_the_table_is_of_what_cannot_be_read() -> None:
    for status in UNREADABLE:
        with pytest.raises(ValidationError):
            Plan.from_object({**LoopRig().body, "status": status})
