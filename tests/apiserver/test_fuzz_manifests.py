"""Whatever is written: the API server refuses it with a reason, or the operator says what it makes of it.

Manifests are made of the CRD's own schema, so that each has most of the form and something odd: values at the bounds, of
another type, far too long, of other scripts, or fields that nobody knows. What the API server takes, pydantic must take and
the state machine must live with for some reconciles: with a status that says why it is where it is, never with an exception.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pydantic import ValidationError
from tests.corpus import BASE, cases, load
from tests.kit.world import START, World

from cutover.api.v1alpha1 import MigrationPlan, MigrationPlanStatus, Phase
from cutover.domain.commands.annotations import ANNOTATIONS
from cutover.domain.engine.decide import decide, refuse
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan

ROOT = Path(__file__).parents[2]
PATH = "/apis/cutover.dev/v1alpha1/namespaces/{}/migrationplans"
SCHEMA: dict[str, Any] = load(ROOT / "crds" / "cutover.dev_migrationplans.yaml")["spec"]["versions"][0]["schema"][
    "openAPIV3Schema"
]["properties"]

EXAMPLES = settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

#: What is in manifests by mistake, or by malice.
ODD: SearchStrategy[Any] = st.one_of(
    st.sampled_from(
        [None, "", " ", "\n", "\x00", "é", "％", "\u202e", "0", "-1", "1e3", "NaN", "//evil.example", "../.."]
    ),
    st.sampled_from(["{{ x }}", "x" * 300, "9" * 40, "a\r\nHost: evil", '"}', "$(id)", "%0d%0a", "🦆" * 90, "a.svc"]),
    st.sampled_from([0, 1, -1, 2**31, 2**63, 2**64, 0.1, -0.0, 1e300, True, False]),
    st.sampled_from([[], [None], [[]], ["a"] * 40, {}, {"a": {"b": {"c": {"d": 1}}}}, {"": ""}]),
    st.text(max_size=40),
    st.recursive(
        st.none() | st.integers(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=20,
    ),
)


def values(schema: dict[str, Any]) -> SearchStrategy[Any]:
    """Return values of the form that a node of the schema asks for; CEL's rules may still refuse them."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    match schema.get("type"):
        case "string" if schema.get("format") == "date-time":
            times = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
            return times.map(lambda time: time.isoformat(timespec="seconds").replace("+00:00", "Z"))
        case "string":
            longest = min(schema.get("maxLength", 40), 60)
            if "pattern" not in schema:
                return st.text(min_size=schema.get("minLength", 0), max_size=longest)
            shortest = schema.get("minLength", 0)
            return st.from_regex(schema["pattern"], fullmatch=True, alphabet=st.characters(codec="ascii")).filter(
                lambda text: shortest <= len(text) <= schema.get("maxLength", 300)
            )
        case "integer":
            return st.integers(schema.get("minimum", -5), schema.get("maximum", 2**40))
        case "number":
            return st.floats(schema.get("minimum", 0), schema.get("maximum", 1e6), allow_nan=False)
        case "boolean":
            return st.booleans()
        case "array":
            return st.lists(values(schema["items"]), min_size=schema.get("minItems", 0), max_size=3)
        case "object" if "properties" in schema:
            fields = {name: values(field) for name, field in schema["properties"].items()}
            required = set(schema.get("required", ()))
            return st.fixed_dictionaries(
                {name: fields[name] for name in sorted(required)},
                optional={name: field for name, field in fields.items() if name not in required},
            )
        case "object":
            return st.dictionaries(
                st.text(max_size=8), values(schema.get("additionalProperties", {"type": "string"})), max_size=3
            )
    return ODD


def places(schema: dict[str, Any], path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], dict[str, Any]]]:
    """Return the paths of all fields of an object, outside of lists, with their schemas."""
    found = [(path, schema)] if path else []
    for name, field in schema.get("properties", {}).items():
        found += places(field, (*path, name))
    return found


def put(tree: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a field, making what is above it."""
    for name in path[:-1]:
        if not isinstance(tree.get(name), dict):
            tree[name] = {}
        tree = tree[name]
    tree[path[-1]] = value


@st.composite
def trees(
    draw: Callable[[SearchStrategy[Any]], Any], schema: dict[str, Any], bases: tuple[Any, ...]
) -> dict[str, Any]:
    """Draw one of the bases with some of its fields changed, or one that is all made up."""
    if draw(st.integers(0, 9)) == 0:
        made: dict[str, Any] = draw(values(schema))
        return made
    tree: dict[str, Any] = copy.deepcopy(draw(st.sampled_from(bases)))
    for path, field in draw(st.lists(st.sampled_from(places(schema)), min_size=1, max_size=3)):
        put(tree, path, draw(ODD) if draw(st.integers(0, 5)) == 0 else draw(values(field)))
    if draw(st.integers(0, 9)) == 0:
        tree[draw(st.text(max_size=8))] = draw(ODD)
    return tree


def assert_answered(status: int, answer: dict[str, Any]) -> None:
    """Check that what was refused has a reason that people can act upon."""
    assert 200 <= status < 500, answer
    if status >= 400:
        assert status in (400, 422), answer
        assert len(answer["message"]) > 20
        assert "evaluation error" not in answer["message"]


# --------------------------------------------------------------------------------------------------------------- specs

SPECS = tuple(case.manifest["spec"] for case in cases("good"))
_seen = {"accepted": 0, "refused": 0}
_seen_statuses = {"accepted": 0, "refused": 0, "unreadable": 0}


def live_with(plan: Plan) -> None:
    """Reconcile: in a world that is well, and in one where nothing can be asked."""
    world = World(spec=plan.spec)
    world.run(40)
    for status in (plan.status, world.stored, world.stored.model_copy(update={"phase": Phase.SOAKING, "weight": 100})):
        for seen in (Observation(), Observation(errors=("it does not answer",))):
            told = decide(Plan("shop", "pdf", "1", 1, plan.spec, status), seen, START + 100).status
            assert told.reason, told
            assert told.message, told
            MigrationPlanStatus.model_validate(told.to_wire())


@EXAMPLES
@given(spec=trees(SCHEMA["spec"], SPECS))
def test_specs(api: Any, spec: dict[str, Any]) -> None:
    manifest = {**BASE, "spec": spec}
    status, answer = api.call("POST", PATH.format("default"), manifest, dryRun="All")
    assert_answered(status, answer)
    if status >= 400:
        _seen["refused"] += 1
        return
    _seen["accepted"] += 1
    # Strictly, as no admission stands between: what the API server takes and pydantic refuses is a rule that is missing.
    MigrationPlan.from_wire(answer)
    live_with(Plan.from_object({**answer, "metadata": {**answer["metadata"], "uid": "1", "resourceVersion": "1"}}))


def test_both_answers_were_given() -> None:
    """The test before is of use only if it makes much that is accepted, and much that is not."""
    assert min(_seen.values()) >= 40, _seen


# -------------------------------------------------------------------------------------------------------------- status


def _statuses() -> tuple[dict[str, Any], ...]:
    """Return what the operator writes on its way."""
    world, found = World(), list[dict[str, Any]]()
    for _ in range(12):
        world.run(25)
        found.append(world.stored.to_wire())
    return tuple(found)


@pytest.fixture(scope="module")
def stored(api: Any) -> tuple[str, dict[str, Any]]:
    """A plan to write statuses to."""
    manifest = {**copy.deepcopy(BASE), "metadata": {"name": "fuzzed"}}
    status, answer = api.call("POST", PATH.format("default"), manifest)
    assert status == 201, answer
    return f"{PATH.format('default')}/fuzzed/status", answer


@EXAMPLES
@given(
    status=trees(SCHEMA["status"], _statuses()),
    commands=st.dictionaries(
        st.sampled_from(ANNOTATIONS), st.from_regex("a[01](-w[0-9]{1,3})?(/[A-Za-z]{3,9})?") | st.text()
    ),
)
def test_statuses(
    api: Any, stored: tuple[str, dict[str, Any]], status: dict[str, Any], commands: dict[str, str]
) -> None:
    """A status that somebody edited, or another version wrote, and what people command meanwhile."""
    path, plan = stored
    code, answer = api.call("PUT", path, {**plan, "status": status}, dryRun="All")
    assert_answered(code, answer)
    if code >= 400:
        _seen_statuses["refused"] += 1
        return
    try:
        read = Plan.from_object(answer)
    except ValidationError:
        # Told and left alone: tests/unit/test_unreadable_status.py.
        _seen_statuses["unreadable"] += 1
        return
    _seen_statuses["accepted"] += 1
    read = replace(read, annotations=commands)
    for seen in (Observation(), World().observe()):
        told = decide(read, seen, START).status
        assert told.reason, told
    assert refuse(Plan.refused(answer, "spec.x: is odd"), START).status.message
