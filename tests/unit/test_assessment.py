"""What all gates say together, and that a status has room for it, however many and long they are."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.kit.world import START, World, check, plan_spec

from cutover.api.v1alpha1 import LEDGER_LENGTH, GateKind, GateNumbers, GateStatus, MigrationPlanStatus, NewReleases
from cutover.domain.journal.ledger import LONGEST_LEDGER, note, note_repair
from cutover.domain.texts import shorten_together

NOW = datetime.fromtimestamp(START, UTC)


def ratio(number: int) -> dict[str, Any]:
    """A ratio whose queries are as long as they may be."""
    total = f'events_total{{leg="{{{{ leg }}}}",number="{number}",pad="{"x" * 1000}"}}'[:1021] + '"}'
    return {
        "name": f"ratio-number-{number}-of-eleven",
        "ratio": {"bad": total.replace("events", "failed"), "total": total, "scrapeInterval": "5s"},
    }


def twelve() -> World:
    slos = [{"name": "errors", "errors": {}}, *(ratio(number) for number in range(11))]
    gates = {"block": "5s", "warmUp": "5s", "slos": slos}
    w = World(spec=plan_spec(gates=gates, steps=[{"weight": 10, "hold": "1h"}, {"weight": 100}]), on_decision=check)
    w.wrong = {slo["name"]: (0.01, 0.0123456) for slo in slos[1:]}
    return w


def size(status: MigrationPlanStatus) -> int:
    return len(json.dumps(status.to_wire(), ensure_ascii=False).encode())


def test_a_status_has_room_for_twelve_long_gates_and_a_full_ledger() -> None:
    w = twelve().until_judging(10).run(120)
    status = w.status
    for number in range(LEDGER_LENGTH + 5):
        message = f"{number} {'m' * 400}"
        ledger = note(status, "Repair", to=10, reason="DriftDetected", message=message, now=NOW)
        status = status.model_copy(update={"ledger": ledger})
    assert len(status.ledger) == LEDGER_LENGTH
    assert size(status) < 47 * 1024
    newest = status.ledger[-1]
    assert len(newest.gates) == len(status.gates)
    assert len(newest.queries) == 11 * 4
    assert [bool(one.queries) for one in status.gates if one.kind == "Ratio"] == [True] * 11


def gate(value: float, *queries: str) -> GateStatus:
    return GateStatus(name="one", kind=GateKind.BOUND, verdict="Pass", value=value, sentence="words", queries=queries)


def noted(status: MigrationPlanStatus, message: str = "why") -> MigrationPlanStatus:
    ledger = note(status, "Hold", to=0, reason="Ceiling", message=message, now=NOW)
    return status.model_copy(update={"ledger": ledger})


def test_the_ledger_tells_queries_where_they_change() -> None:
    status = noted(noted(MigrationPlanStatus(gates=(gate(0.1, "old"),))))
    status = noted(noted(status.model_copy(update={"gates": (gate(0.2, "new"),)})))
    assert [entry.queries for entry in status.ledger] == [(), ("one: old",), (), ("one: new",)]
    assert [[one.value for one in entry.gates] for entry in status.ledger] == [[0.1]] * 2 + [[0.2]] * 2
    assert {type(one) for entry in status.ledger for one in entry.gates} == {GateNumbers}, "the words stay behind"


def test_the_oldest_entries_of_a_long_ledger_lose_what_is_not_needed_to_understand_them() -> None:
    status = MigrationPlanStatus()
    for number in range(LEDGER_LENGTH):
        long = gate(number, f"{number}{'q' * 300}")
        status = noted(status.model_copy(update={"gates": (long,)}), f"{number} {'m' * 180}")
    assert sum(len(entry.message) for entry in status.ledger) < LONGEST_LEDGER
    assert [bool(entry.queries) for entry in status.ledger] == [False] * 29 + [True]
    told = [bool(entry.gates) for entry in status.ledger]
    assert told == sorted(told)
    assert told[-1]
    assert not told[0]
    assert [entry.message.split()[0] for entry in status.ledger] == [str(number) for number in range(LEDGER_LENGTH)]


def test_releases_of_an_entry_count_in_the_length_of_the_ledger() -> None:
    status = MigrationPlanStatus()
    for number in range(LEDGER_LENGTH):
        released = NewReleases(named=tuple(range(10_000 + number, 10_004 + number)), more=1000)
        message = f"{number} {'m' * 290}"
        ledger = note(status, "Change", to=0, reason="HerokuReleased", message=message, now=NOW, releases=released)
        status = status.evolve(ledger=ledger)
        told = sum(len(json.dumps(entry.to_wire(), separators=(",", ":"))) for entry in status.ledger)
        assert told <= LONGEST_LEDGER
    assert all(entry.releases is not None for entry in status.ledger)


def test_a_repair_is_told_once_though_what_it_is_about_was_cut() -> None:
    def repaired(status: MigrationPlanStatus, subject: str) -> MigrationPlanStatus:
        ledger = note_repair(status, reason="DriftDetected", message="edited", subject=subject, now=NOW)
        return status.model_copy(update={"ledger": ledger})

    status = repaired(MigrationPlanStatus(), "x" * 250 + "1")
    for number in range(29):
        status = noted(status, f"{number} {'m' * 290}")
    assert repaired(status, "x" * 250 + "1").ledger == status.ledger
    assert repaired(status, "x" * 250 + "2").ledger[-1].decision == "Repair", "another editor is told"


@pytest.mark.parametrize(
    ("lengths", "longest", "kept"),
    [
        ((), 10, ()),
        ((3, 4), 10, (3, 4)),
        ((3, 100), 10, (3, 7)),
        ((100, 3, 100), 13, (5, 3, 5)),
        ((100, 100), 0, (2, 2)),
    ],
)
def test_room_is_shared_out(lengths: tuple[int, ...], longest: int, kept: tuple[int, ...]) -> None:
    assert tuple(len(text) for text in shorten_together(["q" * length for length in lengths], longest)) == kept
