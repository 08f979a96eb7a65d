"""Lists of a status that few look at: made when somebody does, once, and read and written as tuples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from tests.kit.custom_slos import BOUND, ERRORS, RATIO, gates_of
from tests.kit.world import World, plan_spec

from cutover.api.deferred import Deferred, outline
from cutover.api.model import Model
from cutover.domain.engine import assessment


class Holder(Model):
    kept: Annotated[Sequence[int], Deferred] = ()


class Calls:
    made = 0

    def make(self) -> tuple[int, ...]:
        self.made += 1
        return 1, 2, 3


def test_the_items_are_made_once_and_only_when_somebody_looks() -> None:
    calls = Calls()
    kept = Deferred(calls.make, outline="abc")
    held = Holder().model_copy(update={"kept": kept})
    assert outline(held.kept) == "abc"
    assert calls.made == 0
    assert (len(held.kept), held.kept[0], held.kept[1:], [*held.kept], 2 in held.kept) == (
        3,
        1,
        (2, 3),
        [1, 2, 3],
        True,
    )
    assert (repr(kept), hash(kept)) == (repr((1, 2, 3)), hash((1, 2, 3)))
    assert calls.made == 1


def test_it_is_equal_to_what_has_the_same_items() -> None:
    kept = Deferred(Calls().make, outline="one")
    assert kept == Deferred(Calls().make, outline="other")
    assert kept == (1, 2, 3)
    assert kept != (1, 2)
    assert Holder(kept=(1, 2, 3)) == Holder().model_copy(update={"kept": kept})


def test_of_what_is_made_the_items_are_the_outline() -> None:
    assert outline((1, 2, 3)) == (1, 2, 3)


@pytest.mark.parametrize("kept", [(1, 2, 3), Deferred(Calls().make, outline=())])
def test_it_is_written_and_read_as_a_tuple(kept: Sequence[int]) -> None:
    wire = Holder().model_copy(update={"kept": kept}).to_wire()
    assert wire == {"kept": [1, 2, 3]}
    assert Holder.model_validate(wire).kept == (1, 2, 3)
    assert isinstance(Holder.from_wire(wire).kept, tuple)
    with pytest.raises(ValueError, match=r"kept\.1"):
        Holder.model_validate({"kept": [1, "two"]})


def test_a_plan_that_is_judged_makes_the_gates_of_its_status_for_writes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    entry = assessment._entry

    def counted(metric: Any, queries: Any) -> Any:
        made.append(metric.name)
        return entry(metric, queries)

    monkeypatch.setattr(assessment, "_entry", counted)
    w = World().until_judging(10)
    made.clear()
    before, blocks = len(w.writes), len(w.blocks)
    w.run(25)
    assert len(w.blocks) - blocks == 5
    assert made.count("errors") == len(w.writes) - before < 5


def test_what_is_known_at_once_of_gates_is_what_their_entries_say() -> None:
    observed = {"name": "latency", "latency": {}, "mode": "Observe"}
    w = World(spec=plan_spec(gates={**gates_of(BOUND, RATIO), "slos": [ERRORS, observed, BOUND, RATIO]}))
    w.until_judging(10).run(30)
    kept = w.status.gates
    known = [(one.name, one.mode, one.verdict) for one in outline(kept)]
    assert isinstance(kept, Deferred)
    assert {mode for _, mode, _ in known} == {"Enforce", "Observe"}
    assert known == [(one.name, one.mode, one.verdict) for one in kept]
