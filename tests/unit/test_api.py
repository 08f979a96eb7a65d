"""The models: what they accept and refuse, what they read back, and what is generated from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from tests.corpus import BASE, Case, cases, load

from cutover.api import crd
from cutover.api.v1alpha1 import (
    DEFAULT_STEPS,
    Condition,
    Freeze,
    MigrationPlan,
    MigrationPlanStatus,
    OnDelete,
    Share,
    Step,
    format_duration,
    parse_duration,
)
from cutover.api.v1alpha1.templates import ClusterGateTemplate, GateTemplate, Template, from_object

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("case", cases("good"), ids=str)
def test_accepts(case: Case) -> None:
    wire = MigrationPlan.from_wire(case.manifest).to_wire()
    assert MigrationPlan.from_wire(wire).to_wire() == wire


@pytest.mark.parametrize("case", cases("bad"), ids=str)
def test_refuses_and_says_why(case: Case) -> None:
    with pytest.raises(ValidationError) as refusal:
        MigrationPlan.from_wire(case.manifest)
    for words in case.says:
        assert words in str(refusal.value)


@pytest.mark.parametrize("case", cases("templates"), ids=str)
def test_templates(case: Case) -> None:
    read = from_object(case.manifest)
    if not case.says:
        wire = ClusterGateTemplate.from_wire(case.manifest).to_wire()
        assert ClusterGateTemplate.from_wire(wire).to_wire() == wire
        assert isinstance(read, Template)
        return
    with pytest.raises(ValidationError) as refusal:
        ClusterGateTemplate.from_wire(case.manifest)
    assert isinstance(read, str)
    for words in case.says:
        assert words in str(refusal.value)
        assert words in read


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*templates/*.yaml")), ids=lambda path: path.name)
def test_examples_of_templates(example: Path) -> None:
    body = load(example)
    wire = (GateTemplate if body["kind"] == "GateTemplate" else ClusterGateTemplate).from_wire(body).to_wire()
    assert wire["metadata"]["name"] == body["metadata"]["name"]
    assert isinstance(from_object(wire), Template)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples_are_plans(example: Path) -> None:
    body = load(example)
    wire = MigrationPlan.from_wire(body).to_wire()
    assert wire["spec"]["heroku"]["app"] == body["spec"]["heroku"]["app"]
    assert MigrationPlan.from_wire(wire).to_wire() == wire


def test_defaults_are_those_of_the_design() -> None:
    spec = MigrationPlan.from_wire(BASE).spec
    assert [(step.weight, step.hold) for step in spec.steps] == [
        (weight, timedelta(minutes=10)) for weight in (10, 25, 50, 100)
    ]
    assert spec.steps == DEFAULT_STEPS
    assert spec.soak == timedelta(hours=24)
    assert spec.on_delete is OnDelete.REST
    assert (spec.traffic.probe.paths, spec.traffic.probe.rate) == (("/",), 0)


@given(st.integers(min_value=0, max_value=10**6 * 86_400 - 1))
def test_durations_come_back(seconds: int) -> None:
    value = timedelta(seconds=seconds)
    assert parse_duration(format_duration(value)) == value


@pytest.mark.parametrize(
    ("text", "written"),
    [("0s", "0s"), ("90m", "1h30m"), ("24h", "1d"), ("14d", "14d"), ("1d2h3m4s", "1d2h3m4s"), ("60s", "1m")],
)
def test_durations_are_written_in_the_largest_units(text: str, written: str) -> None:
    assert format_duration(parse_duration(text)) == written
    assert Step.from_wire({"weight": 100, "hold": text}).to_wire()["hold"] == written


@pytest.mark.parametrize("text", ["", "5", "m", "1h1h", "1m1h", "1.5h", "-1m", " 1m", "1m\n", "1ms", "1234567s", "٣m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="such as 15m or 1h30m"):
        parse_duration(text)


@given(st.datetimes(min_value=datetime(2000, 1, 3), max_value=datetime(2100, 1, 1), timezones=st.timezones()))  # noqa: DTZ001  # Hypothesis wants naive bounds
def test_times_come_back_in_whole_seconds(moment: datetime) -> None:
    wire = MigrationPlanStatus(since=moment).to_wire()
    assert MigrationPlanStatus.from_wire(wire).since == moment.astimezone(UTC).replace(microsecond=0)
    assert MigrationPlanStatus.from_wire(wire).to_wire() == wire


def test_times_keep_their_zone() -> None:
    freeze = Freeze.from_wire({"from": "2026-12-19T00:00:00+01:00", "to": "2027-01-04T08:00:00Z", "reason": "rest"})
    assert freeze.to_wire() == {"from": "2026-12-18T23:00:00Z", "to": "2027-01-04T08:00:00Z", "reason": "rest"}


def test_a_share_has_one_digit() -> None:
    share = Share(observed=24.87234, at=datetime(2026, 1, 1, tzinfo=UTC))
    assert MigrationPlanStatus(share=share).to_wire()["share"]["observed"] == 24.9
    assert share.observed == 24.87234


def test_nulls_and_unknown_fields_are_nothing() -> None:
    assert Step.from_wire({"weight": 10, "timeout": None, "mirror": True}) == Step(weight=10)


def test_status_goes_out_without_empty_optionals_and_comes_back() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    status = MigrationPlanStatus(
        observed_generation=3,
        conditions=(
            Condition(
                type="Ready", status="True", reason="AsPlanned", last_transition_time=now, observed_generation=3
            ),
        ),
    )
    wire = status.to_wire()
    assert "share" not in wire
    assert wire["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert MigrationPlanStatus.from_wire(wire) == status


def _walk(node: Any) -> Any:
    yield node
    for child in [*node.get("properties", {}).values(), *([node["items"]] if "items" in node else [])]:
        yield from _walk(child)


KINDS = pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)


@KINDS
def test_schema_is_structural(kind: crd.Kind) -> None:
    nodes = list(_walk(crd.schema(kind)))
    assert len(nodes) > 20
    for node in nodes:
        assert not node.keys() & {
            "$ref",
            "$defs",
            "anyOf",
            "allOf",
            "oneOf",
            "title",
            "const",
            "nullable",
            "prefixItems",
        }
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}


def test_bounds_are_whole() -> None:
    """The API server cuts the fraction off a bound where the value has none; ``between`` is the way."""
    nodes = [node for kind in crd.KINDS for node in _walk(crd.schema(kind))]
    bounds = [node[key] for node in nodes for key in ("minimum", "maximum") if key in node]
    assert bounds
    assert all(float(bound).is_integer() for bound in bounds)


@KINDS
def test_every_field_of_the_spec_is_explained(kind: crd.Kind) -> None:
    silent = [
        name
        for node in _walk(crd.schema(kind)["properties"]["spec"])
        for name, child in node.get("properties", {}).items()
        if not child.get("description")
    ]
    assert not silent


@KINDS
def test_every_rule_says_what_to_write(kind: crd.Kind) -> None:
    messages = [
        rule["message"] for node in _walk(crd.schema(kind)) for rule in node.get("x-kubernetes-validations", ())
    ]
    assert messages
    assert [text for text in messages if not any(word in text for word in ("write", "leave it", "put it back"))] == []


def test_a_status_nobody_wrote_has_no_generation_and_no_other_default() -> None:
    status = crd.schema()["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert not any("default" in node for child in status["properties"].values() for node in _walk(child))


def test_generated_files_are_up_to_date() -> None:
    assert crd.main(["--check"]) == 0


def test_check_names_the_stale_file_and_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "crds" / crd.PLAN.file
    monkeypatch.setattr(crd, "_ROOT", tmp_path)
    monkeypatch.setattr(crd, "FOLDERS", (tmp_path / "crds", tmp_path / "chart"))
    assert crd.main(["--check"]) == 1
    assert not file.exists()
    assert crd.main([]) == 0
    assert crd.main(["--check"]) == 0
    assert len(list(tmp_path.rglob("*.yaml"))) == 2 * len(crd.KINDS)
    file.write_text(file.read_text().replace("shortNames", "longNames"))
    capsys.readouterr()
    assert crd.main(["--check"]) == 1
    said = capsys.readouterr().err
    assert "-    longNames:" in said
    assert "+    shortNames:" in said
    assert f"crds/{crd.PLAN.file} is out of date: run `make crds`" in said


def test_operator_folder_is_no_package() -> None:
    """It would hide the standard library's ``operator`` from everything that runs at the root."""
    assert not (ROOT / "operator" / "__init__.py").exists()
