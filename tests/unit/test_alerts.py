"""The alerts that come with the chart: what they ask for exists, nothing is left without one, the docs say the same."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutover.api.v1alpha1 import Phase
from cutover.api.v1alpha1.gates import Mode
from cutover.domain.holds import ALARMING, HoldReason
from cutover.domain.verdicts import Verdict

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "cutover"
OPERATING = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((CHART / "files" / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
BY_NAME = {rule["alert"]: rule for rule in RULES}
#: What the calendar does, passes by the calendar.
CALENDAR = {HoldReason.OUTSIDE_WINDOW, HoldReason.FROZEN}


def documented() -> str:
    return OPERATING.partition("### What is worth an alert\n")[2].partition("\n## ")[0]


def matched(rule: dict[str, Any], label: str) -> set[str]:
    """Return the values of a label that an alert asks for."""
    return {value for text in re.findall(rf'\b{label}=~?"([^"]+)"', rule["expr"]) for value in text.split("|")}


def test_names_are_unique() -> None:
    assert len(BY_NAME) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=BY_NAME)
def test_an_alert_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    metrics = set(re.findall(r"^\| `(cutover_\w+)`", OPERATING, flags=re.MULTILINE))
    used = set(re.findall(r"\bcutover_\w+", rule["expr"]))
    assert used
    assert used <= metrics
    assert matched(rule, "reason") <= set(HoldReason)
    assert matched(rule, "phase") <= set(Phase)
    assert matched(rule, "verdict") <= set(Verdict)
    assert matched(rule, "mode") <= set(Mode)


@pytest.mark.parametrize("rule", RULES, ids=BY_NAME)
def test_an_alert_tells_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"page", "ticket", "info"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    if "namespace, plan" in rule["expr"]:
        assert rule["annotations"]["summary"].startswith("{{ $labels.namespace }}/{{ $labels.plan }}")
    if "by (namespace, plan, reason)" in rule["expr"]:
        assert "{{ $labels.reason }}" in rule["annotations"]["summary"]


@pytest.mark.parametrize("rule", RULES, ids=BY_NAME)
def test_a_runbook_is_there(rule: dict[str, Any]) -> None:
    reasons = matched(rule, "reason")
    runbook = rule["annotations"]["runbook"]
    for target in {runbook.replace("{{ $labels.reason | toLower }}", reason.lower()) for reason in reasons} or {
        runbook
    }:
        path, _, anchor = target.partition("#")
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
        anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert not anchor or anchor in anchors, target


def test_every_reason_to_be_held_has_an_alert_but_the_calendar() -> None:
    severities = defaultdict(set)
    for rule in RULES:
        for reason in matched(rule, "reason"):
            severities[reason].add(rule["labels"]["severity"])
    assert set(severities) == set(HoldReason) - CALENDAR
    assert all(severities[reason] & {"page", "ticket"} for reason in ALARMING)


def test_the_docs_have_the_same_alerts() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w ]+) \| .+ \|$", documented(), flags=re.MULTILINE)
    assert rows == [(rule["alert"], rule["labels"]["severity"], rule.get("for", "at once")) for rule in RULES]


def test_the_docs_have_the_same_expressions() -> None:
    said = re.findall(r"^- `(\w+)`: `([^`]+)`$", documented(), flags=re.MULTILINE)
    assert {name: " ".join(expression.split()) for name, expression in said} == {
        rule["alert"]: " ".join(rule["expr"].split()) for rule in RULES
    }
    assert len(said) == len(RULES)
