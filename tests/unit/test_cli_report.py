"""The command that writes a report: what it reads, where it writes, and what it says when it cannot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit.builders import UID, plan_body
from tests.kit.pages import seen
from tests.kit.reports import completed, entry, rolled_back

from cutover.cli.exits import CliError
from cutover.cli.report import read_log, record_of, report
from cutover.domain.resources import CONFIG_MAPS, EVENTS, Json, Resource
from cutover.ports.errors import Unavailable


class Session:
    """A person's cluster with one plan."""

    def __init__(self, body: Json, found: dict[Resource, list[Json] | Exception] | None = None) -> None:
        self._body = body
        self._found = found or {}
        self.asked: list[dict[str, str]] = []
        self.cluster = self

    def body(self, name: str) -> Json:
        return self._body

    def objects(self, resource: Resource, namespace: str = "", **query: str) -> list[Json]:
        self.asked.append(query)
        found = self._found.get(resource, [])
        if isinstance(found, Exception):
            raise found
        return found


def body(**more: Any) -> Json:
    known = completed().plan
    return plan_body(status={**known.status.to_wire(), **more}, metadata={"uid": UID, "generation": 1}, soak="5m")


def test_html_goes_to_the_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    session = Session(body())
    capfdbinary.readouterr()  # where no test before it has played that plan, what the loop logs
    assert report(session, "pdf") is None
    page = capfdbinary.readouterr().out.decode()
    assert page.startswith("<!doctype html>")
    assert seen(page).problems == []
    assert session.asked == [{"fieldSelector": f"involvedObject.uid={UID}"}, {"labelSelector": "cutover.dev/plan=pdf"}]


def test_markdown_does_so_too(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    report(Session(body()), "pdf", output="md")
    assert capfdbinary.readouterr().out.startswith(b"# Cutover of docs/pdf")


@pytest.mark.parametrize(
    ("name", "begin"), [("report.html", "<!doctype"), ("REPORT.MD", "# Cutover"), ("a b.md", "# Cutover")]
)
def test_a_file_has_the_form_of_its_name(tmp_path: Path, name: str, begin: str, capsys: Any) -> None:
    report(Session(body()), "pdf", output=str(tmp_path / name))
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begin)
    said = capsys.readouterr()
    assert said.out == ""
    assert "written" in said.err


@pytest.mark.parametrize("output", ["pdf", "report.pdf", "", "json", "html5"])
def test_another_form_is_refused(output: str) -> None:
    with pytest.raises(CliError, match="write html, md, or a file"):
        report(Session(body()), "pdf", output=output)


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot be written: No such file"):
        report(Session(body()), "pdf", output=str(tmp_path / "nowhere" / "report.md"))


def test_events_the_week_and_the_checklist_are_in_it(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    event = {"type": "Warning", "reason": "Odd", "message": "odd", "lastTimestamp": "2027-01-11T10:00:00Z"}
    week = {"format": "cutover.dev/baseline/v1", "week": [{"hour": "Mon 10:00", "requests": 4711, "errors": 0}]}
    older = {"metadata": {"creationTimestamp": "2027-01-01T00:00:00Z"}, "data": {"baseline.json": "{}"}}
    newer = {"metadata": {"creationTimestamp": "2027-01-02T00:00:00Z"}, "data": {"baseline.json": json.dumps(week)}}
    found: dict[Resource, Any] = {
        EVENTS: [event, {"reason": "undated"}, {}],
        CONFIG_MAPS: [older, newer, {"data": None}],
    }
    session = Session(body(decommission=[{"item": "jobs", "state": "Open", "message": "scheduler"}]), found)
    report(session, "pdf", output="md", heroku_cost="much")
    text = capfdbinary.readouterr().out.decode()
    assert "| Odd |" in text
    assert "undated" not in text
    assert "4,711" in text
    assert "| jobs | Open | scheduler |" in text
    assert "| Heroku | much |" in text


def test_without_rights_the_report_has_less_and_says_so(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    no = Unavailable("list events docs: forbidden")
    report(Session(body(), {EVENTS: no, CONFIG_MAPS: no}), "pdf", output="md")
    said = capfdbinary.readouterr()
    assert said.out.startswith(b"# Cutover")
    assert said.err.decode().splitlines() == [f"without Events: {no}", f"without Heroku's record of the week: {no}"]


def test_a_prometheus_that_is_away_leaves_a_report_that_says_so(
    capfdbinary: pytest.CaptureFixture[bytes], unused_tcp_port: int
) -> None:
    report(Session(body()), "pdf", output="md", prometheus=f"http://127.0.0.1:{unused_tcp_port}")
    said = capfdbinary.readouterr()
    assert b"cannot be connected to" in said.out
    assert b"without all of Prometheus' history" in said.err


@pytest.mark.parametrize("url", ["prometheus:9090", "ftp://x", "http://user:S3CR3T@x"])
def test_an_address_that_is_none_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(CliError, match="--prometheus: ") as refused:
        report(Session(body()), "pdf", prometheus=url)
    assert "S3CR3T" not in str(refused.value)


@pytest.mark.parametrize("broken", [{}, {"metadata": {}}, {"metadata": {"name": "pdf"}, "spec": {"heroku": 1}}])
def test_an_object_that_is_no_plan_is_refused(broken: Json) -> None:
    with pytest.raises(CliError, match="this is no plan"):
        report(Session(broken), "pdf")


def test_decisions_of_the_log_are_those_of_the_plan(tmp_path: Path) -> None:
    plan = rolled_back().plan
    wanted = entry("Advance", to_weight=10, reason="BaselineRecorded")
    line = {"event": "decision", "plan": plan.key, "id": f"{plan.uid}/a1", **wanted.to_wire()}
    lines = [
        json.dumps(line),
        f"2027-01-11T10:30:00Z {json.dumps(line)}",  # a log with times before its lines; the same decision again
        json.dumps({**line, "plan": "docs/other"}),
        json.dumps({**line, "id": "another-uid/a1"}),
        json.dumps({**line, "event": "transition", "why": "decision"}),
        json.dumps({**line, "attempt": "x"}),
        '"decision" {not JSON',
        '["decision"]',
        '{"event": "decision"',
        "",
    ]
    log = tmp_path / "operator.log"
    log.write_text("\n".join(lines), encoding="utf-8")
    assert read_log(log, plan) == (wanted,)
    with pytest.raises(CliError, match="cannot be read"):
        read_log(tmp_path / "nowhere", plan)


def test_who_skipped_checks_is_the_owner_of_the_field() -> None:
    known = body()
    known["metadata"]["managedFields"] = [
        {
            "manager": "kustomize-controller",
            "time": "2027-01-11T09:00:00Z",
            "fieldsV1": {"f:spec": {"f:preflight": {"f:skip": {}}}},
        }
    ]
    assert record_of(known, completed().at).skippers == {
        "spec.preflight.skip": "the field manager kustomize-controller at 2027-01-11T09:00:00Z"
    }
