"""What the documentation claims is so: names, defaults, links, examples."""

from __future__ import annotations

import contextlib
import io
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from prometheus_client import REGISTRY
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticUndefined

from cutover.api.crd import COLUMNS, crd
from cutover.api.v1alpha1 import GateNumbers, GateStatus, MigrationPlan, Phase
from cutover.api.v1alpha1.templates import BUILT_IN_NAMES
from cutover.domain.commands.annotations import ANNOTATIONS, approve, assignment, read, rollback
from cutover.domain.evidence.judge import DEFAULT_METRICS, GateRules
from cutover.domain.holds import ALARMING, HoldReason
from cutover.domain.preflight import registry as preflight
from cutover.domain.resources import EVENTS
from cutover.domain.slo.judge import GRACE_SECONDS
from cutover.domain.verdicts import Verdict
from cutover.metrics import OperatorCollector
from cutover.settings import PREFIX, Settings
from sandbox.manifests import chart_rules

ROOT = Path(__file__).resolve().parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "hack").rglob("*.md")])
}
HOLDS, OPERATING, GATES = PAGES["docs/holds.md"], PAGES["docs/operating.md"], PAGES["docs/gates.md"]
ARCHITECTURE, README = PAGES["docs/architecture.md"], PAGES["README.md"]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(page: str, heading: str) -> str:
    """Return what stands under a heading, up to the next of the same or a higher level."""
    level = len(heading) - len(heading.lstrip("#"))
    found = re.search(
        rf"^{re.escape(heading)}$\n(.*?)(?=^#{{1,{level}}} |\Z)", _FENCE.sub("", page), re.MULTILINE | re.DOTALL
    )
    assert found is not None, heading
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables, without their headings."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rules = [number for number, row in enumerate(cells) if set("".join(row)) <= set("- :")]
    return [row for number, row in enumerate(cells) if number not in rules and number + 1 not in rules]


def names(text: str) -> list[str]:
    """Return the code in the first cell of each row."""
    return [name for row in rows(text) for name in re.findall(r"`([^`]+)`", row[0])]


def blocks(page: str, language: str) -> list[str]:
    return [body for found, body in _FENCE.findall(page) if found == language]


# ---------------------------------------------------------------------------------------------------- names, defaults


def test_every_hold_is_explained() -> None:
    explained = re.findall(r"^### (\w+)$", HOLDS, re.MULTILINE)
    assert sorted(explained) == sorted(HoldReason)
    alarming = {name for name in explained if section(HOLDS, f"### {name}").startswith("*Alarm.*")}
    assert alarming == ALARMING


def test_every_preflight_check_is_explained() -> None:
    assert names(section(HOLDS, "### PreflightFailed")) == list(preflight.NAMES)


def test_every_setting_is_explained_with_its_default() -> None:
    documented = {row[0].strip("`"): row[1] for row in rows(section(OPERATING, "## Settings"))}
    assert set(documented) == {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        said = documented[f"{PREFIX}{name.upper()}"].strip("`")
        default = field.get_default(call_default_factory=True)
        match default:
            case _ if default is PydanticUndefined:
                assert said == "needed"
            case None:
                assert said == "none"
            case ():
                assert said == "all"
            case float():
                assert said == f"{default:g}"
            case _:
                assert said == str(default)


def test_every_setting_of_the_chart_is_named() -> None:
    template = (ROOT / "charts/cutover/templates/deployment.yaml").read_text(encoding="utf-8")
    in_chart = re.findall(rf"- name: ({PREFIX}\w+)\n\s+value: {{{{.*?\.Values\.([\w.]+)", template)
    documented = {row[0].strip("`"): row[3].strip("`") for row in rows(section(OPERATING, "## Settings")) if row[3]}
    assert documented == dict(in_chart)


class _Nothing:
    requests: ClassVar[Mapping[str, int]] = {"get": 1}
    errors: ClassVar[Mapping[str, int]] = {"gone": 1}


class _NoQueries:
    queries = errors = refused = rounds_skipped = rounds_late = late_samples = 0
    last_success = lateness = 0.0


def _exported() -> set[str]:
    own = [metric for metric in REGISTRY.collect() if metric.name.startswith("cutover_")]
    collected = OperatorCollector(lambda: (), _Nothing(), _NoQueries(), _NoQueries(), dict).collect()
    return {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in (*own, *collected)}


def test_every_metric_is_explained() -> None:
    documented = names(section(OPERATING, "## Metrics").partition("What is worth an alert")[0])
    assert len(documented) == len(set(documented))
    assert set(documented) == _exported()


def test_alerts_use_what_there_is() -> None:
    alerts = section(OPERATING, "## Metrics").partition("What is worth an alert")[2]
    for used, known in (
        (re.findall(r"\b(cutover_\w+)", alerts), _exported()),
        (re.findall(r'reason=~?"([^"]+)"', alerts), set(HoldReason)),
        (re.findall(r'phase=~?"([^"]+)"', alerts), set(Phase)),
    ):
        assert used
        assert {part for value in used for part in value.split("|")} <= known


def test_the_rights_are_those_of_the_role() -> None:
    rules = chart_rules()
    table = section(OPERATING, "## Rights").lower().replace(" ", "")
    resources = {resource.partition("/")[0] for rule in rules for resource in rule["resources"]}
    assert EVENTS.plural in resources
    assert {resource for resource in resources if not re.search(rf"\b{resource}\b", table)} == set()
    assert "delete" not in {verb for rule in rules for verb in rule["verbs"]}, "docs say that nothing is deleted"
    assert "secrets" not in {resource for rule in rules for resource in rule["resources"]}, "docs say so"
    assert EVENTS.plural in table


def test_every_verdict_is_explained_with_its_grace() -> None:
    table = {
        row[0].strip("`"): row[3]
        for row in rows(section(PAGES["docs/custom-slos.md"], "## What each verdict leads to"))
    }
    assert set(table) == set(Verdict)
    for verdict, seconds in GRACE_SECONDS.items():
        assert table[verdict] == (f"{seconds:.0f} s" if seconds else "at once")


def test_every_placeholder_is_explained() -> None:
    table = [row[0] for row in rows(section(PAGES["docs/custom-slos.md"], "## Placeholders"))]
    assert sorted(table) == sorted(f"`{{{{ {name} }}}}`" for name in BUILT_IN_NAMES)


def test_tolerances_are_the_defaults() -> None:
    said = {row[0]: row[1:] for row in rows(section(GATES, "## What the defaults tolerate"))}
    for rule in DEFAULT_METRICS:
        name = {"verySlow": "very slow"}.get(rule.name, rule.name)
        assert said[name] == [
            f"{rule.harm.ratio:g} p + {100 * rule.harm.margin:g} %",
            f"{rule.advance.ratio:g} p + {100 * rule.advance.margin:g} % / w",
            f"{rule.stake:g}",
            f"{100 * rule.floor:g} %",
        ]
    rules = GateRules()
    assert said["alive"][2] == f"{rules.alive_stake:g}"
    assert (rules.harm_limit, rules.safety_limit) == (100, 20)


def test_annotations_are_those_that_are_read() -> None:
    assert assignment(approve(1, 10)) in README
    assert f"{assignment(rollback(1))}`" in README
    examples = [
        (page, name, value)
        for page, text in PAGES.items()
        for name, value in re.findall(rf"({'|'.join(ANNOTATIONS)})=([^`\"\n]+)", text)
    ]
    assert {name for _, name, _ in examples} == set(ANNOTATIONS)
    for page, name, value in examples:
        assert read(name, value) is not None, f"{page} says {name}={value}"


def test_every_field_of_a_gate_in_the_status_is_explained() -> None:
    explained = {name for row in rows(section(GATES, "### In the status")) for name in re.findall(r"`(\w+)`", row[0])}
    assert explained >= {to_camel(one.name) for one in fields(GateStatus)}
    assert {to_camel(one.name) for one in fields(GateNumbers)} < explained


def test_the_table_of_plans_has_the_columns_of_the_crd() -> None:
    headings = next(line for line in README.splitlines() if line.startswith("NAME "))
    assert headings.split() == ["NAME", *(name.upper() for name, *_, priority in COLUMNS if not priority)]


def test_the_readme_is_read_in_one_go() -> None:
    assert len(README.splitlines()) < 150


def test_phases_are_told() -> None:
    for phase in Phase:
        assert phase in README


# ------------------------------------------------------------------------------------------------------ the architecture


def test_where_to_add_something_names_what_is_there() -> None:
    package = ROOT / "operator" / "cutover"
    text = section(ARCHITECTURE, "## Where do I add …") + section(ARCHITECTURE, "## From an error to weight 0")
    paths = {path for path in re.findall(r"`([\w./<>-]+/(?:[\w<>]+\.py)?|[\w./<>]+\.py)`", text) if "<" not in path}
    assert len(paths) > 20
    assert {path for path in paths if not ((package / path).exists() or (ROOT / path).exists())} == set()


def test_the_map_has_every_module() -> None:
    package = ROOT / "operator" / "cutover"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if path.name != "__init__.py"}
    mapped = names(section(ARCHITECTURE, "## The map"))
    assert Counter(mapped) == Counter(modules)


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["operator"],
        *project["dependency-groups"]["dev"],
    ]
    assert Counter(names(section(ARCHITECTURE, "## Dependencies"))) == Counter(
        re.split(r"[<>=!~\[ ]", one)[0] for one in needed
    )


# ----------------------------------------------------------------------------------------------------- links, commands


def _anchors(page: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links() -> Iterator[tuple[str, str]]:
    for name, text in PAGES.items():
        for target in re.findall(r"\]\(([^)\s]+)\)", _FENCE.sub("", text)):
            if not target.startswith(("http://", "https://")):
                yield name, target


@pytest.mark.parametrize(("page", "target"), list(_links()))
def test_links_lead_somewhere(page: str, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists(), f"{page} links to {target}"
    if anchor:
        assert anchor in _anchors(file.read_text(encoding="utf-8")), f"{page} links to {target}"


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^([\w -]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    known = {name for names in targets for name in names.split()}
    used = {name for text in PAGES.values() for name in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE)}
    assert used
    assert used <= known


# ------------------------------------------------------------------------------------------------------------- examples


def _documents() -> Iterator[tuple[str, str]]:
    for name, text in PAGES.items():
        for number, body in enumerate(blocks(text, "yaml"), start=1):
            if not body.startswith("# values.yaml"):  # Helm looks at those: tests/apiserver/test_chart.py
                yield f"{name}#{number}", body
    for path in sorted((ROOT / "examples").glob("*.yaml")):
        yield f"examples/{path.name}", path.read_text(encoding="utf-8")


def _unknown(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterable[str]:
    """Find fields that the CRD does not have: pydantic ignores them, and the API server prunes or refuses them."""
    match value:
        case dict() if "properties" in schema:
            for key, inner in value.items():
                if key in schema["properties"]:
                    yield from _unknown(inner, schema["properties"][key], f"{path}.{key}")
                else:
                    yield f"{path}.{key}"
        case list():
            for inner in value:
                yield from _unknown(inner, schema.get("items", {}), f"{path}[]")


@pytest.mark.parametrize(("where", "text"), list(_documents()))
def test_examples_are_valid(where: str, text: str) -> None:
    """Whole plans as they are, fragments of a spec in the minimal plan."""
    data = json.loads(json.dumps(yaml.safe_load(text), default=datetime.isoformat))
    if "kind" not in data:
        minimal = yaml.safe_load((ROOT / "examples/minimal.yaml").read_text(encoding="utf-8"))
        data = {**minimal, "spec": {**minimal["spec"], **data}}
    (version,) = crd()["spec"]["versions"]
    assert list(_unknown(data["spec"], version["schema"]["openAPIV3Schema"]["properties"]["spec"])) == []
    MigrationPlan.from_wire(data)


def test_the_plan_of_the_readme_is_the_minimal_example() -> None:
    (shown, *_) = blocks(README, "yaml")
    assert yaml.safe_load(shown) == yaml.safe_load((ROOT / "examples/minimal.yaml").read_text(encoding="utf-8"))


def test_the_judge_alone_says_what_is_shown() -> None:
    (code,), (shown,) = blocks(GATES, "python"), blocks(GATES, "text")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "docs/gates.md", "exec"), {})  # our own text
    assert said.getvalue() == shown
