"""The CRDs in a real API server: the corpus gets the same answers there as from pydantic; columns, explain, defaults."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from tests.corpus import BASE, TEMPLATE, Case, cases, load

from cutover.api import crd
from cutover.api.v1alpha1 import MigrationPlan, MigrationPlanSpec
from cutover.api.v1alpha1.templates import (
    CLUSTER_GATE_TEMPLATES,
    GATE_TEMPLATES,
    GateTemplateSpec,
    Template,
    from_object,
)
from devstack.stack import Stack

ROOT = Path(__file__).parents[2]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLANS = "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans"
TEMPLATES = f"/apis/cutover.dev/v1alpha1/namespaces/{{}}/{GATE_TEMPLATES}"
CLUSTER_TEMPLATES = f"/apis/cutover.dev/v1alpha1/{CLUSTER_GATE_TEMPLATES}"


def create(api: Any, manifest: dict[str, Any], namespace: str, **parameters: str) -> tuple[int, dict[str, Any]]:
    answer: tuple[int, dict[str, Any]] = api.call("POST", PLANS.format(namespace), manifest, **parameters)
    return answer


def assert_refused(answer: tuple[int, dict[str, Any]], says: tuple[str, ...]) -> None:
    status, body = answer
    assert status == 422, body
    # A rule that broke instead of answering would refuse as well, with nothing of use to anybody.
    assert "evaluation error" not in body["message"]
    assert "rule:" not in body["message"]
    for words in says:
        assert words in body["message"]


@pytest.fixture(scope="module", autouse=True)
def _template_crds(stack: Stack, api: Any) -> None:
    """The CRDs of the templates, beside that of the plans."""
    stack.install_crds(load(ROOT / "crds" / kind.file) for kind in crd.KINDS)


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_is_accepted_whole(api: Any, kind: crd.Kind) -> None:
    status, stored = api.call("GET", f"{CRDS}/{kind.plural}.cutover.dev")
    assert status == 200
    conditions = {condition["type"]: condition["status"] for condition in stored["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}  # and not NonStructuralSchema


@pytest.mark.parametrize("case", cases("good"), ids=str)
def test_accepts(api: Any, case: Case) -> None:
    status, body = create(api, case.manifest, "default", dryRun="All")
    assert status == 201, body


@pytest.mark.parametrize("case", cases("bad"), ids=str)
def test_refuses_and_says_why(api: Any, case: Case) -> None:
    assert_refused(create(api, case.manifest, "default", dryRun="All"), case.says)


@pytest.mark.parametrize("length", [63, 64])
def test_a_name_has_to_fit_into_a_label(api: Any, length: int) -> None:
    manifest = {**copy.deepcopy(BASE), "metadata": {"name": "p" * length}}
    answer = create(api, manifest, "default", dryRun="All")
    if length <= 63:
        assert answer[0] == 201, answer
        MigrationPlan.from_wire(manifest)
    else:
        assert_refused(answer, ("metadata.name", "at most 63 characters"))
        with pytest.raises(ValidationError, match="at most 63 characters"):
            MigrationPlan.from_wire(manifest)


#: What ends up in manifests by a template's or a person's mistake.
ODD: tuple[Any, ...] = (
    *(None, "", "a\n", "é", "x" * 300, "0", "0s", "91d", "5401s", "2026-12-19T00:00:00Z", "pdf.example.com", "Mon"),
    *(0, 1, -1, 250, 2**31, 2**64, 0.1, 1e300, True, [], [None], ["a"], {}, {"a": 1}),
)


def test_odd_values_anywhere_get_equal_answers(api: Any) -> None:
    """One value of a full plan at a time is replaced by something odd.

    Left out are whole numbers with a point (``port: 80.0``), the one difference that is left: the API server takes
    them where no rule looks at the field, pydantic never.
    """
    full = next(case.manifest for case in cases("good") if case.name == "everything of the design")
    different = []
    for path, value, manifest in _odd(full):
        try:
            spec = MigrationPlan.from_wire(manifest).spec
        except ValidationError:
            spec = None
        status, answer = create(api, manifest, "default", dryRun="All")
        stored = MigrationPlan.from_wire(answer).spec if status == 201 else None
        if spec != stored:
            different.append((path, value, answer.get("message", "accepted")))
    assert different == []


def _odd(full: dict[str, Any]) -> Iterator[tuple[tuple[Any, ...], Any, dict[str, Any]]]:
    for path in _paths(full["spec"]):
        for value in ODD:
            manifest = copy.deepcopy(full)
            node = manifest["spec"]
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
            yield path, value, manifest


def _paths(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield from _paths(child, (*path, key))


# ------------------------------------------------------------------------------------------------------- templates


def create_template(api: Any, manifest: dict[str, Any], **parameters: str) -> tuple[int, dict[str, Any]]:
    answer: tuple[int, dict[str, Any]] = api.call("POST", CLUSTER_TEMPLATES, manifest, **parameters)
    return answer


@pytest.mark.parametrize("case", cases("templates"), ids=str)
def test_templates(api: Any, case: Case) -> None:
    namespaced = {**case.manifest, "kind": "GateTemplate"}
    answers = [
        create_template(api, case.manifest, dryRun="All"),
        api.call("POST", TEMPLATES.format("default"), namespaced, dryRun="All"),
    ]
    for answer in answers:
        if case.says:
            assert_refused(answer, case.says)
        else:
            assert answer[0] == 201, answer
            # What is read from the API server, with its defaults, is what stood in the manifest.
            stored, plain = from_object(answer[1]), from_object(case.manifest)
            assert isinstance(stored, Template)
            assert isinstance(plain, Template)
            assert (stored.generation, stored.spec) == (1, plain.spec)


def test_odd_values_anywhere_in_a_template_get_equal_answers(api: Any) -> None:
    different = []
    for name in ("everything", "a ratio"):
        full = next(case.manifest for case in cases("templates") if case.name == name)
        for path, value, manifest in _odd(full):
            try:
                spec = GateTemplateSpec.from_wire(manifest["spec"])
            except ValidationError:
                spec = None
            status, answer = create_template(api, manifest, dryRun="All")
            stored = GateTemplateSpec.from_wire(answer["spec"]) if status == 201 else None
            if spec != stored:
                different.append((path, value, answer.get("message", "accepted")))
    assert different == []


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*templates/*.yaml")), ids=lambda path: path.name)
def test_examples_of_templates(api: Any, kubectl: Any, example: Path) -> None:
    namespace = load(example)["metadata"].get("namespace", "default")
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    assert "created (server dry run)" in kubectl(
        "apply", "--namespace", namespace, "--dry-run=server", "--validate=strict", "-f", str(example)
    )


def test_tables_of_templates(api: Any, kubectl: Any, namespace: str) -> None:
    assert create_template(api, TEMPLATE)[0] == 201
    assert api.call("POST", TEMPLATES.format(namespace), {**TEMPLATE, "kind": "GateTemplate"})[0] == 201
    for short in ("gtmpl", "cgtmpl"):
        head, row = kubectl("get", short).splitlines()
        assert head.split() == ["NAME", "DESCRIPTION", "AGE"]
        assert row.split()[:6] == ["cpu", *TEMPLATE["spec"]["description"].split()]
    listed = kubectl("get", "cutover", "-o", "name").splitlines()
    assert listed == ["clustergatetemplate.cutover.dev/cpu", "gatetemplate.cutover.dev/cpu"]
    assert api.call("DELETE", f"{CLUSTER_TEMPLATES}/cpu")[0] == 200


def test_a_generation_rises_with_what_the_template_says(api: Any) -> None:
    status, stored = create_template(api, {**TEMPLATE, "metadata": {"name": "rising"}})
    assert status == 201
    path = f"{CLUSTER_TEMPLATES}/rising"
    stored["metadata"]["labels"] = {"a": "b"}
    _, stored = api.call("PUT", path, stored)
    assert stored["metadata"]["generation"] == 1
    stored["spec"]["bound"]["max"] = "0.5"
    _, stored = api.call("PUT", path, stored)
    assert stored["metadata"]["generation"] == 2
    assert api.call("DELETE", path)[0] == 200


# ----------------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize("case", cases("updates"), ids=str)
def test_updates(api: Any, namespace: str, case: Case) -> None:
    status, plan = create(api, case.old, namespace)
    assert status == 201, plan
    path = f"{PLANS.format(namespace)}/{case.old['metadata']['name']}"
    if case.status:
        status, plan = api.call("PUT", f"{path}/status", plan | {"status": {"observedGeneration": 1} | case.status})
        assert status == 200, plan
    answer = api.call("PUT", path, plan | {"spec": case.manifest["spec"]})
    if case.says:
        assert_refused(answer, case.says)
    else:
        assert answer[0] == 200, answer[1]


@pytest.mark.parametrize("case", cases("good"), ids=str)
def test_defaults_are_those_of_pydantic(api: Any, case: Case) -> None:
    """What the API server stored says the same as the manifest did to pydantic, with nothing left to default."""
    _, stored = create(api, case.manifest, "default", dryRun="All")
    assert MigrationPlan.from_wire(stored).spec == MigrationPlan.from_wire(case.manifest).spec
    assert stored["status"] == {"observedGeneration": -1}


def test_the_api_server_writes_every_default_into_the_least_plan(api: Any) -> None:
    _, stored = create(api, BASE, "default", dryRun="All")
    assert stored["spec"] == MigrationPlanSpec.from_wire(BASE["spec"]).to_wire()


def test_status_needs_its_own_door(api: Any, namespace: str) -> None:
    _, plan = create(api, BASE | {"status": {"phase": "Completed"}}, namespace)
    assert plan["status"] == {"observedGeneration": -1}
    path = f"{PLANS.format(namespace)}/pdf"
    status, plan = api.call("PUT", f"{path}/status", plan | {"status": STATUS, "spec": BASE["spec"] | {"ceiling": 5}})
    assert status == 200, plan
    assert plan["status"] == STATUS, "nothing that the operator writes may be pruned"
    assert plan["spec"]["ceiling"] == 100
    assert plan["metadata"]["generation"] == 1


def test_two_operators_cannot_both_write_the_status(api: Any, namespace: str) -> None:
    _, plan = create(api, BASE, namespace)
    path = f"{PLANS.format(namespace)}/pdf/status"
    assert api.call("PUT", path, plan | {"status": STATUS})[0] == 200
    assert api.call("PUT", path, plan | {"status": STATUS | {"weight": 50}})[0] == 409


def test_conditions_are_a_map(api: Any, namespace: str) -> None:
    _, plan = create(api, BASE, namespace)
    twice = STATUS | {"conditions": STATUS["conditions"] * 2}
    assert_refused(
        api.call("PUT", f"{PLANS.format(namespace)}/pdf/status", plan | {"status": twice}), ("conditions", "Duplicate")
    )


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_examples(api: Any, kubectl: Any, example: Path) -> None:
    """As people apply them: strictly, so that a misspelt field would show."""
    namespace = load(example)["metadata"]["namespace"]
    api.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    assert "created (server dry run)" in kubectl(
        "apply", "--namespace", namespace, "--dry-run=server", "--validate=strict", "-f", str(example)
    )


def test_unknown_fields_are_dropped_and_named(api: Any) -> None:
    status, stored = create(api, BASE | {"spec": BASE["spec"] | {"shadow": {}}}, "default", dryRun="All")
    assert status == 201
    assert "shadow" not in stored["spec"]
    status, refusal = create(
        api, BASE | {"spec": BASE["spec"] | {"shadow": {}}}, "default", dryRun="All", fieldValidation="Strict"
    )
    assert status == 400
    assert "spec.shadow" in refusal["message"]


def test_table(api: Any, kubectl: Any, namespace: str) -> None:
    _, plan = create(api, BASE, namespace)
    assert kubectl("get", "mplan").splitlines()[0].split() == HEAD
    api.call("PUT", f"{PLANS.format(namespace)}/pdf/status", plan | {"status": STATUS})
    head, row = kubectl("get", "mplan").splitlines()
    assert head.split() == HEAD
    assert row.split()[:-2] == ["pdf", "Shifting", "2/4", "10→25", "24.9", "64", "%", "Undecided"]
    assert STATUS["message"] in kubectl("get", "mplan", "-o", "wide")


def test_explain(kubectl: Any) -> None:
    spec = kubectl("explain", "mplan.spec")
    for words in ("One service's migration", "-required-", "Weights in rising order", "Raise it to try again"):
        assert words in " ".join(spec.split())
    assert "enum: RollBack, Hold" in spec
    steps = kubectl("explain", "mplan.spec.steps")
    assert "Percent of requests sent to EKS during the step." in steps


HEAD = ["NAME", "PHASE", "STEP", "EKS", "SEEN", "PROOF", "HELD", "SINCE", "AGE"]
STATUS: dict[str, Any] = {
    "observedGeneration": 1,
    "phase": "Shifting",
    "attempt": 1,
    "step": "2/4",
    "weight": 25,
    "share": {"observed": 24.9, "at": "2026-11-21T10:00:00Z"},
    "since": "2026-11-21T09:58:00Z",
    "reason": "AwaitingEvidence",
    "message": "errors: evidence of safety 7 of 20, about 6 min at this traffic",
    "eks": "10→25",
    "held": {"reason": "Undecided", "since": "2026-11-21T09:59:00Z"},
    "gate": "64 %",
    "gates": [
        {
            "name": "errors",
            "verdict": "Undecided",
            "counts": {"heroku": {"bad": 9, "total": 9000}, "eks": {"bad": 0.5, "total": 1000}},
            "ratios": {"heroku": 0.001, "eks": 0.0005},
            "evidence": {"harm": 0.4, "harmLimit": 100, "safety": 7, "safetyLimit": 20},
            "limits": {"harm": {"ratio": 1.25, "margin": 0.001}, "advance": {"ratio": 1.5, "margin": 0.005}},
            "sentence": "EKS 0.05 % vs Heroku 0.1 %",
            "samples": 10000,
        },
        {
            "name": "cpu",
            "kind": "Bound",
            "mode": "Observe",
            "verdict": "Undecided",
            "value": 0.31,
            "outsideSeconds": 30,
            "limits": {"max": 0.25, "timesBaseline": 2, "forSeconds": 120},
            "baseline": 0.2,
            "queryDigest": "3c2364c4",
        },
    ],
    "preflight": [{"check": "service", "result": "Passed", "message": ""}],
    "baseline": {"since": "2026-11-21T09:00:00Z", "requests": 100, "slowMs": 250.5, "verySlowMs": 1000},
    "ledger": [
        {
            "at": "2026-11-21T09:58:00Z",
            "attempt": 1,
            "decision": "Advance",
            "fromWeight": 10,
            "toWeight": 25,
            "reason": "Evidence",
            "message": "",
            "gates": [{"name": "errors", "verdict": "Pass", "evidence": {"harm": 0.1, "harmLimit": 100}}],
        }
    ],
    "checkpoint": {
        "weightSince": 1795255080.25,
        "consumedUntil": 1795255200,
        "evidence": '{"free":0.9}',
    },
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "UnderControl",
            "message": "",
            "lastTransitionTime": "2026-11-21T09:00:00Z",
            "observedGeneration": 1,
        }
    ],
}
