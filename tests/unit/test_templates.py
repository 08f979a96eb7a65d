"""Gates from templates: what comes of them, what is said of mistakes, and which version is in force."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.corpus import BASE, load

from cutover.api.v1alpha1 import MigrationPlan, MigrationPlanSpec, ResolvedTemplate
from cutover.api.v1alpha1.gates import BoundSlo, Mode, RatioSlo
from cutover.api.v1alpha1.templates import Template, from_object
from cutover.domain.slo.custom import CustomSlo
from cutover.domain.slo.promql import LONGEST_QUERY
from cutover.domain.slo.templates import Resolution, changes, custom_slos

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "charts" / "cutover" / "files" / "gate-templates"
DOC = (ROOT / "docs" / "gate-library.md").read_text(encoding="utf-8")

BOUND = {
    "description": "CPU",
    "parameters": [
        {"name": "container"},
        {"name": "max", "type": "Number", "default": "0.25"},
        {"name": "for", "type": "Duration", "default": "2m"},
    ],
    "bound": {
        "query": 'max(cpu{namespace="{{ namespace }}", container="{{ container }}"}[{{ for }}])',
        "max": "{{ max }}",
        "for": "{{ for }}",
    },
}
RATIO = {
    "description": "jobs",
    "parameters": [{"name": "margin", "type": "Number", "default": "0.002"}],
    "ratio": {
        "bad": 'jobs{leg="{{ leg }}",app="{{ app }}",result="bad"}',
        "total": 'jobs{leg="{{ leg }}"}',
        "tolerate": {"ratio": "1.5", "margin": "{{ margin }}"},
    },
}


def template(spec: dict[str, Any], generation: int = 1) -> Template:
    read = from_object({"metadata": {"generation": generation}, "spec": spec})
    assert isinstance(read, Template), read
    return read


def slo(**parameters: str) -> dict[str, Any]:
    given = [{"name": name, "value": value} for name, value in parameters.items()]
    return {"name": "cpu", "template": {"name": "cpu", "parameters": given}}


def resolve(
    *slos: dict[str, Any], frozen: tuple[ResolvedTemplate, ...] = (), **templates: Template | str
) -> Resolution:
    spec = MigrationPlanSpec.from_wire({**BASE["spec"], "gates": {"slos": list(slos)}})
    named = {f"ClusterGateTemplate/{name}": one for name, one in templates.items()}
    return custom_slos(spec, plan_name="pdf-plan", namespace="documents", frozen=frozen, templates=named)


def test_the_meshs_own_gates_are_none() -> None:
    assert resolve({"name": "errors", "errors": {}}, {"name": "latency", "latency": {}}) == Resolution()


def test_built_in_names() -> None:
    query = '{s="{{ service }}",n="{{ namespace }}",w="{{ workload }}",a="{{ app }}",p="{{ plan }}",l="{{ leg }}"}'
    (gate,) = resolve({"name": "x", "mode": "Observe", "bound": {"query": query, "max": 1}}).gates
    assert gate.queries == ('{s="pdf",n="documents",w="pdf",a="acme-pdf",p="pdf-plan",l="eks"}',)
    assert gate.mode is Mode.OBSERVE
    assert isinstance(gate.slo, BoundSlo)


@pytest.mark.parametrize("part", ["bad", "good"])
def test_a_ratio_asks_for_both_legs(part: str) -> None:
    ratio = {part: 'a{l="{{ leg }}"}', "total": 'b{l="{{ leg }}"}'}
    (gate,) = resolve({"name": "x", "ratio": ratio}).gates
    assert gate.queries == ('a{l="heroku"}', 'b{l="heroku"}', 'a{l="eks"}', 'b{l="eks"}')


def test_a_template_gives_what_a_plan_could_have_written() -> None:
    (gate,) = resolve(slo(container="a.pp", max="0.5"), cpu=template(BOUND)).gates
    assert gate.queries == ('max(cpu{namespace="documents", container="a.pp"}[2m])',)
    assert isinstance(gate.slo, BoundSlo)
    assert (gate.slo.max, gate.slo.to_wire()["for"], gate.slo.to_wire()["scrapeInterval"]) == (0.5, "2m", "30s")
    (gate,) = resolve({"name": "j", "template": {"name": "jobs"}}, jobs=template(RATIO)).gates
    assert isinstance(gate.slo, RatioSlo)
    assert (gate.slo.tolerate.margin, gate.slo.advance.ratio) == (0.002, 1.5)
    assert gate.queries[2] == 'jobs{leg="eks",app="acme-pdf",result="bad"}'


def changed(spec: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(spec), **fields}


PLAIN = {"description": "-", "bound": {"query": "a", "max": "1"}}


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (resolve({"name": "x", "ratio": {"bad": "a", "total": 'b{l="{{ leg }}"}'}}), ["gates.slos[x].ratio.bad: it must tell the legs apart; write the label that does"]),
        (resolve({"name": "x", "ratio": {"good": "a", "total": "b"}}), ["slos[x].ratio.good: it must tell", "slos[x].ratio.total: it must tell"]),
        (resolve({"name": "x", "ratio": {"bad": 'a{l="{{ leg"}', "total": "b"}}), ["gates.slos[x].ratio.bad: '{{ leg' begins a placeholder"]),
        (resolve({"name": "x", "bound": {"query": 'a{l="{{ lag }}"}', "max": 1}}), ["gates.slos[x].bound.query: {{ lag }} is not known; write one of app, leg, namespace, plan, service, workload"]),
        (resolve(slo()), ["gates.slos[cpu].template: ClusterGateTemplate/cpu: there is none of that name in the cluster; apply it"]),
        (resolve({"name": "x", "template": {"kind": "GateTemplate", "name": "y"}}), ["GateTemplate/y: there is none of that name in the plan's namespace"]),
        (resolve(slo(), cpu="spec.bound: it is bad"), ["ClusterGateTemplate/cpu: spec.bound: it is bad; mend it"]),
        (resolve(slo(), cpu=template(BOUND)), ["parameters: container is missing; write a value for it"]),
        (resolve(slo(container="a", mx="1"), cpu=template(BOUND)), ["parameters[mx]: there is none of that name; write container, max, for"]),
        (resolve(slo(a="1"), cpu=template(PLAIN)), ["parameters[a]: there is none of that name; write nothing: it has no parameters"]),
        (resolve(slo(container="a", max="25%"), cpu=template(BOUND)), ['parameters[max]: Number is wanted; write a number in quotes, such as "0.25"']),
        (resolve(slo(container="a", max=""), cpu=template(BOUND)), ["parameters[max]: Number is wanted"]),
        (resolve(slo(container="a", max="1e999"), cpu=template(BOUND)), ["bound.max: '1e999' is no number"]),
        (resolve(slo(max="a", nope="b"), cpu=template(BOUND)), ["parameters[nope]", "container is missing", "parameters[max]"]),
        (resolve(slo(container="a", **{"for": "2 minutes"}), cpu=template(BOUND)), ["parameters[for]: Duration is wanted; write a duration, such as 2m"]),
        (resolve(slo(container="a", **{"for": "2h"}), cpu=template(BOUND)), ["ClusterGateTemplate/cpu: bound.for: write a duration from 0s to 1h"]),
        (resolve({"name": "j", "template": {"name": "jobs", "parameters": [{"name": "margin", "value": "0.9"}]}}, jobs=template(RATIO)), ["ClusterGateTemplate/jobs: ratio.tolerate.margin: write a fraction of requests"]),
        (resolve(slo(), cpu=template(changed(PLAIN, bound={"query": "a", "max": "{{ max }}"}))), ["bound.max: {{ max }} is not known"]),
        (resolve(slo(), cpu=template(changed(PLAIN, bound={"query": "a{b='{{ c }}'}", "max": "1"}))), ["ClusterGateTemplate/cpu: bound.query: {{ c }} is not known; write one of app"]),
        (resolve(slo(), cpu=template(changed(PLAIN, bound={"query": "a", "max": "1", "min": "2"}))), ["bound.min: must be less than max"]),
        (resolve(slo(), cpu=template({"description": "-", "ratio": {"bad": "a", "total": "b"}})), ["ratio.bad: it must tell", "ratio.total: it must tell"]),
        (resolve(slo(x='"' * 256), cpu=template(changed(PLAIN, parameters=[{"name": "x"}], bound={"query": 'a{b="{{ x }}{{ x }}{{ x }}{{ x }}"}', "max": "1"}))), [f"bound.query: with its placeholders filled in it is 2055 characters long; write at most {LONGEST_QUERY}"]),
    ],
)  # fmt: skip
def test_mistakes_are_named_with_what_to_do(said: Resolution, says: list[str]) -> None:
    assert len(said.problems) == len(says)
    for problem_, words in zip(said.problems, says, strict=True):
        assert words in problem_
        assert problem_.startswith("gates.slos[")
    assert (said.gates, said.resolved) == ((), ())


def test_one_gate_that_is_wrong_leaves_the_others() -> None:
    said = resolve({"name": "a", "bound": {"query": "a", "max": 1}}, slo(), slo(container="x") | {"name": "c"})
    assert [gate.name for gate in said.gates] == ["a"]
    assert len(said.problems) == 2


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "description: Field required"),
        ({"spec": None}, "description: Field required"),
        ({"spec": {"description": "-"}}, "it is not valid: exactly one of ratio and bound must be set"),
        ({"spec": {**PLAIN, "parameters": [{"name": "leg"}]}}, "leg, service, namespace, workload, app, plan are placeholders already"),
        ({"spec": {**PLAIN, "parameters": [{"name": "a", "type": "Number", "default": "x"}]}}, "parameters[0]: default: must be of the parameter's type"),
        ({"spec": {**PLAIN, "bound": {"query": "a", "max": 1}}}, "bound.max: Input should be a valid string"),
    ],
)  # fmt: skip
def test_a_template_that_cannot_be_read_says_why(body: dict[str, Any], why: str) -> None:
    read = from_object(body)
    assert isinstance(read, str)
    assert why in read


# ------------------------------------------------------------------------------------------- which version is in force


def test_a_changed_template_waits_for_the_next_step() -> None:
    before = resolve(slo(container="a"), cpu=template(BOUND, 3))
    after = template(changed(BOUND, bound={"query": "other", "max": "7"}), 4)
    during = resolve(slo(container="a"), frozen=before.resolved, cpu=after)
    assert (during.gates, during.resolved, during.problems) == (before.gates, before.resolved, ())
    newest = resolve(slo(container="a"), cpu=after)
    assert newest.gates[0].queries == ("other",)
    assert changes(during.resolved, newest.resolved) == ("cpu: ClusterGateTemplate/cpu generation 3 → 4",)
    assert newest.resolved[0].generation == 4


@pytest.mark.parametrize("now", [{}, {"cpu": "it is not valid: x"}])
def test_a_template_that_goes_away_is_missed_at_the_next_step(now: dict[str, str]) -> None:
    before = resolve(slo(container="a"), cpu=template(BOUND, 3))
    during = resolve(slo(container="a"), frozen=before.resolved, **now)
    assert (during.gates, during.problems) == (before.gates, ())
    assert during.resolved == before.resolved
    assert resolve(slo(container="a"), **now).problems


@pytest.mark.parametrize(
    "edited",
    [
        slo(container="b"),
        slo(container="a", max="0.25"),
        {"name": "cpu", "template": slo(container="a")["template"] | {"kind": "GateTemplate"}},
        {"name": "cpu", "template": slo(container="a")["template"] | {"name": "other"}},
        slo(container="a") | {"name": "new"},
    ],
)
def test_an_edit_of_the_plan_takes_effect_at_once(edited: dict[str, Any]) -> None:
    before = resolve(slo(container="a"), cpu=template(BOUND, 3))
    new = template(changed(BOUND, bound={"query": "other", "max": "7"}), 4)
    spec = MigrationPlanSpec.from_wire({**BASE["spec"], "gates": {"slos": [edited]}})
    names = ("ClusterGateTemplate/cpu", "ClusterGateTemplate/other", "GateTemplate/cpu")
    during = custom_slos(
        spec, plan_name="p", namespace="n", frozen=before.resolved, templates=dict.fromkeys(names, new)
    )
    assert during.gates[0].queries == ("other",)
    assert during.resolved[0].generation == 4


def test_mode_is_the_plans_and_not_the_templates() -> None:
    before = resolve(slo(container="a"), cpu=template(BOUND))
    during = resolve(slo(container="a") | {"mode": "Observe"}, frozen=before.resolved)
    assert during.gates == (CustomSlo("cpu", Mode.OBSERVE, before.gates[0].slo, before.gates[0].queries),)


@pytest.mark.parametrize("definition", ["", "{}", "[]", "null", '{"parameters":{"container":"a"},"spec":{}}', '"x"'])
def test_what_another_version_wrote_is_resolved_anew(definition: str) -> None:
    old = ResolvedTemplate(gate="cpu", template="ClusterGateTemplate/cpu", generation=3, definition=definition)
    said = resolve(slo(container="a"), frozen=(old,), cpu=template(BOUND, 5))
    assert [one.generation for one in said.resolved] == [5]


def test_what_comes_back_from_the_status_is_in_force() -> None:
    before = resolve(slo(container='ä"\\'), cpu=template(BOUND, 3)).resolved
    stored = tuple(ResolvedTemplate.from_wire(one.to_wire()) for one in before)
    assert resolve(slo(container='ä"\\'), frozen=stored).resolved == before


def test_only_what_matters_is_a_change() -> None:
    old = resolve(slo(container="a"), cpu=template(BOUND, 3)).resolved
    described = resolve(slo(container="a"), cpu=template(changed(BOUND, description="x", runbook="y"), 4)).resolved
    assert changes(old, described) == ()
    anew = resolve(slo(container="a"), cpu=template(changed(BOUND, bound={"query": "b", "max": "1"}), 3)).resolved
    assert changes(old, anew) == ("cpu: ClusterGateTemplate/cpu was made anew, generation 3",)
    assert changes((), old) == changes(old, ()) == changes(old, old) == ()
    moved = (old[0].model_copy(update={"template": "GateTemplate/b"}),)
    assert changes(old, moved) == ("cpu: ClusterGateTemplate/cpu → GateTemplate/b generation 3",)


@settings(max_examples=300)
@given(st.text(max_size=256), st.text(max_size=20))
def test_any_value_gives_a_gate_or_a_reason(container: str, limit: str) -> None:
    said = resolve(slo(container=container, max=limit), cpu=template(BOUND))
    assert len(said.gates) + bool(said.problems) == 1


def test_the_same_again_costs_next_to_nothing() -> None:
    said = [resolve(slo(container="a"), cpu=template(BOUND)) for _ in range(2)]
    assert said[0] is said[1]


# --------------------------------------------------------------------------------------------------------- the library


def _library() -> dict[str, dict[str, Any]]:
    found = {path.stem: load(path) for path in sorted(LIBRARY.glob("*.yaml"))}
    assert len(found) >= 8
    return found


@pytest.mark.parametrize("name", sorted(_library()))
def test_the_library_works_with_what_is_needed(name: str) -> None:
    body = _library()[name]
    assert (body["kind"], body["metadata"]) == ("ClusterGateTemplate", {"name": name})
    read = from_object(body)
    assert isinstance(read, Template)
    needed = [
        {"name": one.name, "value": 'a"b' if one.type == "String" else "5"}
        for one in read.spec.parameters
        if one.default is None
    ]
    said = resolve({"name": "x", "template": {"name": name, "parameters": needed}}, **{name: read})
    assert said.problems == ()
    (gate,) = said.gates
    (query,) = gate.queries
    assert promql_parser.parse(query)
    assert read.spec.runbook
    unused = {one.name for one in read.spec.parameters} - set(re.findall(r"\{\{ (\w+) \}\}", str(body["spec"])))
    assert not unused


def test_examples_are_the_charts_files() -> None:
    examples = ROOT / "examples" / "gate-templates"
    assert sorted(path.name for path in examples.iterdir()) == sorted(path.name for path in LIBRARY.iterdir())
    for path in LIBRARY.iterdir():
        assert (examples / path.name).read_bytes() == path.read_bytes(), f"cp {path} {examples}"


def test_the_chart_takes_the_files_as_they_are() -> None:
    """Helm would take their placeholders for its own."""
    text = (ROOT / "charts" / "cutover" / "templates" / "gates.yaml").read_text(encoding="utf-8")
    assert '.Files.Glob "files/gate-templates/*.yaml"' in text
    assert "$.Files.Get $path" in text
    assert "{{- if .Values.gateTemplates.install }}" in text
    assert load(ROOT / "charts" / "cutover" / "values.yaml")["gateTemplates"] == {"install": True}


@pytest.mark.parametrize("name", sorted(_library()))
def test_the_documentation_says_the_same(name: str) -> None:
    spec = _library()[name]["spec"]
    section = re.search(rf"^### {name}\n(.*?)(?=^### |\Z)", DOC, re.MULTILINE | re.DOTALL)
    assert section is not None
    (query,) = re.findall(r"```promql\n(.*?)\n```", section[1], re.DOTALL)
    assert query == spec["bound"]["query"]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", section[1], re.MULTILINE)
    assert rows == [
        (one["name"], f"`{one['default']}`" if "default" in one else "needed", one["description"])
        for one in spec["parameters"]
    ]
    prose = " ".join(section[1].split())
    assert spec["description"] in prose
    assert spec["runbook"] in prose
    (row,) = re.findall(rf"^\| \[`{name}`\].*$", DOC, re.MULTILINE)
    defaults = {one["name"]: one.get("default") for one in spec["parameters"]}
    assert f"| at most {defaults.get('max') or defaults['timesBaseline'] + ' × before'} | {defaults['for']} |" in row


def test_every_template_of_the_documentation_is_there() -> None:
    assert sorted(re.findall(r"^### ([\w-]+)$", DOC, re.MULTILINE)) == sorted(_library())


def test_the_examples_fit_together() -> None:
    plan = MigrationPlan.from_wire(load(ROOT / "examples" / "custom-slos.yaml"))
    own = load(ROOT / "examples" / "templates" / "declined-payments.yaml")
    assert own["metadata"]["namespace"] == plan.metadata["namespace"]
    bodies = [*_library().values(), own]
    templates = {f"{body['kind']}/{body['metadata']['name']}": from_object(body) for body in bodies}
    said = custom_slos(plan.spec, plan_name="pdf", namespace="documents", frozen=(), templates=templates)
    assert said.problems == ()
    assert [gate.name for gate in said.gates] == [
        "failed-jobs",
        "queue",
        "throttling",
        "connections",
        "declined-payments",
    ]
    for query in (query for gate in said.gates for query in gate.queries):
        promql_parser.parse(query)  # raises ValueError
