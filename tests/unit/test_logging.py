"""The process' own output: one JSON object a line, whoever logs, and no secret in it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.kit import builders
from tests.kit.loop_rig import LoopRig

from cutover.api.v1alpha1 import LedgerEntry, MigrationPlanStatus, Phase
from cutover.api.v1alpha1.status.gates import GateCounts, GateNumbers, LegCounts
from cutover.domain.plan import Plan
from cutover.logs import configure_logging
from cutover.services.ledger_log import LedgerLog

ROOT = Path(__file__).parents[2]

SCRIPT = """
import logging, warnings, kopf, structlog
from cutover.logs import configure_logging
configure_logging({level!r})
log = structlog.get_logger("cutover")
log.info("decision", plan="docs/pdf", weight=25, message="25 % → 50 %")
logging.getLogger("cutover.adapters.kube.events").warning("Event %s was not posted", "Advance")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("reconcile failed", plan="docs/pdf")
    logging.getLogger("asyncio").exception("Task exception was never retrieved")
body = kopf.Body({{"kind": "MigrationPlan", "metadata": {{"namespace": "docs", "name": "pdf"}}, "spec": {{"x": "whole-body"}}}})
objects = kopf._core.actions.loggers.LocalObjectLogger(body=body, settings=kopf.OperatorSettings())
objects.debug("Creation is in progress: %r", body)
objects.warning("Daemon is cancelled.")
logging.getLogger("httpx").info("HTTP Request: POST http://prometheus/api/v1/query")
logging.getLogger("httpcore.http11").debug("send_request_headers Authorization: Bearer s3cr3t")
warnings.warn("left open", ResourceWarning)
"""


def lines(level: str) -> list[dict[str, Any]]:
    """Return what a process with that level prints, all of it."""
    ran = subprocess.run(
        [sys.executable, "-W", "always", "-c", SCRIPT.format(level=level)],
        env={"PYTHONPATH": str(ROOT / "operator"), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    own = [line for line in ran.stderr.splitlines() if "left open" in line]
    assert own == []
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_every_line_is_a_json_object() -> None:
    found = lines("INFO")
    for line in found:
        assert {"event", "level", "timestamp", "logger"} <= line.keys()
    decision, posting, failed, never, cancelled, warned = found
    assert (decision["event"], decision["plan"], decision["weight"]) == ("decision", "docs/pdf", 25)
    assert posting["event"] == "Event Advance was not posted"
    for error in (failed, never):
        assert "ZeroDivisionError" in error["exception"]
        assert error["level"] == "error"
    assert cancelled["k8s_ref"]["name"] == "pdf"
    assert "left open" in warned["event"]


def test_not_even_at_debug_are_bodies_and_credentials_logged() -> None:
    text = json.dumps(lines("DEBUG"))
    assert "whole-body" not in text
    assert "s3cr3t" not in text


def test_at_warning_only_what_is_wrong_is_logged() -> None:
    assert {line["level"] for line in lines("WARNING")} == {"warning", "error"}
    assert logging.getLevelName(logging.WARNING) == "WARNING"


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"CUTOVER_LOG_LEVEL": "LOUD"}, "settings: CUTOVER_LOG_LEVEL: String should match pattern"),
        ({}, "settings: CUTOVER_PROMETHEUS_URL: needed, unless"),
    ],
)
def test_settings_that_are_wrong_end_the_process_with_a_word(setting: dict[str, str], says: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "cutover.main"],
        env={"PYTHONPATH": str(ROOT / "operator"), "PATH": os.environ["PATH"], **setting},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith(says)
    assert "Traceback" not in ran.stderr


async def test_transitions_are_logged_and_not_reconciles() -> None:
    world = LoopRig(status=MigrationPlanStatus(observed_generation=1))
    loop = world.loop()
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            await loop.reconcile()
    found = [line for line in logged if line["event"] == "transition"]
    assert len(found) > 1
    assert {"plan", "attempt", "phase", "step", "weight", "reason", "message"} <= found[0].keys()
    assert (found[0]["plan"], found[0]["attempt"]) == ("docs/pdf", 1)
    # No two lines say the same.
    said = [(line["phase"], line["weight"], line["reason"]) for line in found]
    assert all(before != after for before, after in pairwise(said))


def entry(number: int, **fields: Any) -> LedgerEntry:
    at = datetime(2027, 1, 11, 10, 0, number, tzinfo=UTC)
    moves = {"decision": "Advance", "from_weight": 10, "to_weight": 25, "reason": "EvidenceOfSafety"}
    return LedgerEntry(**{"at": at, "attempt": 1, **moves, **fields})


def with_ledger(*entries: LedgerEntry, uid: str = "uid-1") -> Plan:
    status = MigrationPlanStatus(attempt=1, phase=Phase.SHIFTING, weight=25, step="2/4", ledger=entries)
    return replace(builders.plan(status=status), uid=uid)


def logged_of(log: LedgerLog, plan: Plan) -> list[Any]:
    with structlog.testing.capture_logs() as logged:
        log.write(plan)
    assert all(line["event"] == "decision" for line in logged)
    return list(logged)


def test_each_entry_of_the_ledger_is_one_line_with_its_numbers_and_who_asked() -> None:
    gate = GateNumbers(
        name="errors",
        verdict="Pass",
        counts=GateCounts(heroku=LegCounts(total=900, bad=3), eks=LegCounts(total=300, bad=1)),
    )
    (line,) = logged_of(LedgerLog(), with_ledger(entry(1, message="why", gates=(gate,), by="jane@example.com")))
    assert line == {
        "event": "decision",
        "log_level": "info",
        "plan": "docs/pdf",
        "phase": "Shifting",
        "step": "2/4",
        "id": "uid-1/a1/2027-01-11T10:00:01Z/Advance/EvidenceOfSafety",
        "severity": "info",
        "queries": [],
        "edited": [],
        "at": "2027-01-11T10:00:01Z",
        "attempt": 1,
        "decision": "Advance",
        "fromWeight": 10,
        "toWeight": 25,
        "reason": "EvidenceOfSafety",
        "message": "why",
        "by": "jane@example.com",
        "gates": line["gates"],
    }
    (numbers,) = line["gates"]
    assert (numbers["verdict"], numbers["counts"]["eks"]["total"]) == ("Pass", 300)
    json.dumps(line)


def test_an_entry_is_logged_once_and_again_by_the_next_process() -> None:
    log, first, second, third = LedgerLog(), entry(1), entry(2), entry(3)
    assert len(logged_of(log, with_ledger(first))) == 1
    assert logged_of(log, with_ledger(first)) == []
    new = logged_of(log, with_ledger(first, second, third))
    assert [line["at"][-3:] for line in new] == ["02Z", "03Z"]
    # Two edits in one second are two lines.
    edits = [entry(4, decision="Edit", message=text) for text in ("ceiling: 10 → 20", "ceiling: 20 → 50")]
    assert len(logged_of(log, with_ledger(third, edits[0]))) == 1
    assert [line["message"] for line in logged_of(log, with_ledger(third, *edits))] == ["ceiling: 20 → 50"]
    # The bounded list lost all that was logged.
    assert len(logged_of(log, with_ledger(entry(4), entry(5)))) == 2
    # A plan of the same name is another one.
    assert len(logged_of(log, with_ledger(entry(4), entry(5), uid="uid-2"))) == 1
    # The process before may have ended between the write and the lines; the identifier tells that they are the same.
    pair = with_ledger(first, second, entry(3, decision="Skip"), third)
    again = logged_of(LedgerLog(), pair)
    assert [line["decision"] for line in again] == ["Skip", "Advance"]
    assert again[1]["id"] == new[1]["id"]


async def test_what_the_loop_decides_is_logged_when_it_is_stored() -> None:
    world = LoopRig(status=MigrationPlanStatus(observed_generation=1))
    loop = world.loop()
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            await loop.reconcile()
    stored = world.stored.ledger
    assert stored
    said = [(line["decision"], line["reason"]) for line in logged if line["event"] == "decision"]
    assert said == [(one.decision, one.reason) for one in stored]


def test_what_answers_may_send_a_token_back_and_no_line_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    root, kept = logging.getLogger(), list(logging.getLogger().handlers)
    try:
        configure_logging("INFO")
        quoted = {"Host": "x", "Authorization": "Bearer s3cr3t-token"}
        logging.getLogger("kopf.objects").error("Request failed: %r", quoted)
        structlog.get_logger("cutover").warning("not applied", problem=json.dumps(quoted))
        out = capsys.readouterr().out
    finally:
        root.handlers[:] = kept
        root.setLevel(logging.WARNING)
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()
    lines = [json.loads(line) for line in out.splitlines()]
    assert len(lines) == 2
    assert "s3cr3t" not in out
    assert all("Authorization" in str(line) for line in lines)
