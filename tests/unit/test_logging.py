"""The process' own output: one JSON object a line, whoever logs, and no secret in it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.kit.loop_rig import LoopRig

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.logs import configure_logging

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


async def test_a_decision_is_one_line_with_what_people_look_for() -> None:
    world = LoopRig(status=MigrationPlanStatus(observed_generation=1))
    loop = world.loop()
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            await loop.reconcile()
    decisions = [line for line in logged if line["event"] == "decision"]
    assert len(decisions) > 1
    assert {"plan", "attempt", "phase", "step", "weight", "reason", "message"} <= decisions[0].keys()
    assert (decisions[0]["plan"], decisions[0]["attempt"]) == ("docs/pdf", 1)
    # Transitions, not reconciles: no two lines say the same.
    said = [(line["phase"], line["weight"], line["reason"]) for line in decisions]
    assert all(before != after for before, after in pairwise(said))


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
