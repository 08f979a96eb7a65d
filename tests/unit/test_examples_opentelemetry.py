"""The example for a collector moves fields that a decision's line has, to the attributes that the docs name."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import yaml
from tests.kit import builders

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus, Phase
from cutover.services.ledger_log import LedgerLog

ROOT = Path(__file__).parents[2]
(RECEIVER,) = yaml.safe_load((ROOT / "examples/opentelemetry/collector.yaml").read_text("utf-8"))["receivers"].values()
OPERATORS: list[dict[str, Any]] = RECEIVER["operators"]


def moved() -> dict[str, str]:
    """Return the new name of each field of a line."""
    moves = [one for one in OPERATORS if one["type"] == "move"]
    return {
        one["from"].removeprefix("attributes."): one["to"].removeprefix('attributes["').removesuffix('"]')
        for one in moves
    }


def test_each_field_is_one_of_a_decisions_line() -> None:
    entry = LedgerEntry(
        at=datetime(2027, 1, 11, 10, tzinfo=UTC),
        attempt=1,
        decision="Advance",
        from_weight=10,
        to_weight=25,
        reason="EvidenceOfSafety",
        message="10 % → 25 %",
    )
    status = MigrationPlanStatus(attempt=1, phase=Phase.SHIFTING, weight=25, step="2/4", ledger=(entry,))
    with structlog.testing.capture_logs() as logged:
        LedgerLog().write(builders.plan(status=status))
    assert moved().keys() <= logged[0].keys()
    assert {"plan", "attempt", "step", "fromWeight", "toWeight"} <= moved().keys()


def test_the_attributes_are_those_of_the_docs() -> None:
    page = (ROOT / "docs" / "operating.md").read_text("utf-8")
    _, _, rest = page.partition("| attribute | from |")
    rows = [line.split("|")[1:3] for line in rest.partition("\n\n")[0].splitlines()[2:]]
    told: dict[str, str] = {}
    for attributes, fields in rows:
        told |= dict(zip(*(re.findall(r"`([^`]+)`", cell) for cell in (fields, attributes)), strict=True))
    assert {field: name for field, name in moved().items() if field != "message"} == told
    assert moved()["message"] == "body"
