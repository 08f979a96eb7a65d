"""What ``evolve`` may change is what the models have: nothing but types keeps a transition from a wrong field."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from cutover.api.model import Model
from cutover.api.v1alpha1 import (
    AuditStatus,
    BaselineStatus,
    Checkpoint,
    CustomSloEvidence,
    LedgerEntry,
    MigrationPlanStatus,
    Phase,
)
from cutover.api.v1alpha1.changes import (
    AuditChanges,
    BaselineChanges,
    CheckpointChanges,
    CustomSloChanges,
    LedgerEntryChanges,
    StatusChanges,
)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        (AuditStatus, AuditChanges),
        (BaselineStatus, BaselineChanges),
        (Checkpoint, CheckpointChanges),
        (CustomSloEvidence, CustomSloChanges),
        (LedgerEntry, LedgerEntryChanges),
        (MigrationPlanStatus, StatusChanges),
    ],
)
def test_each_change_is_of_a_field_and_has_its_type(model: type[Model], changes: type[Any]) -> None:
    fields, changed = get_type_hints(model), get_type_hints(changes)
    assert changed
    assert changed == {name: fields.get(name) for name in changed}


def test_every_field_of_a_plans_status_can_be_changed() -> None:
    assert set(get_type_hints(StatusChanges)) == set(MigrationPlanStatus.model_fields)


def test_a_transition_leaves_the_status_that_it_begins_with() -> None:
    before = MigrationPlanStatus(weight=10)
    after = before.evolve(phase=Phase.SHIFTING, weight=25)
    assert (before.phase, before.weight) == (Phase.PENDING, 10)
    assert (after.phase, after.weight) == (Phase.SHIFTING, 25)
    assert {"phase", "weight"} <= after.model_fields_set


def test_transitions_name_their_fields_so_that_mypy_sees_each() -> None:
    """``model_copy(update={"…": …})`` takes any name and any value."""
    sources = sorted((Path(__file__).parents[2] / "operator" / "cutover" / "domain").rglob("*.py"))
    assert len(sources) > 100
    calls = {
        f"{path.name}:{node.lineno}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "model_copy"
    }
    assert not calls, "give the model an evolve() with typed changes, or make it anew"
