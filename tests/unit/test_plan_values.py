"""Where values of a plan go: docs/security.md lists each, and none can be more there than the value that it is.

For each row that says what a value must look like there are values that would be something else where it goes, and the API
refuses them; where a value is quoted instead, it stays one value whatever is in it.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml
from pydantic import ValidationError
from tests.corpus import BASE, changed
from tests.kit.routing import rendered
from yarl import URL

from cutover.api.v1alpha1 import MigrationPlan, Phase
from cutover.domain.commands.annotations import ANNOTATIONS
from cutover.domain.engine.decide import decide
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.resources import PLANS, SERVICES

ROOT = Path(__file__).parents[2]

#: What is more than a value in URLs, headers, queries, YAML, templates and terminals.
HOSTILE = (
    *("a b", "a\nb", "a\r\nX: y", "a\tb", "a\x00b", "a/../b", "../secrets", "a/b/c", "a?b=c", "a#b", "a%2fb", "a:80"),
    *(
        "//evil.example",
        "http://evil.example/",
        "user@evil.example",
        'a"} or vector(1) or {b="',
        "a'b",
        "a\\",
        "{{ a }}",
    ),
    *("$(id)", "`id`", "a;b", "a,b", "%REQ(:AUTHORITY)%", "\x1b[31m", "é", "\u202e", "A", "*", ".", "..", "-a", ""),
)

FULL = changed(BASE, {"gates": {}, "preflight": {}, "baseline": {}})

#: Fields that are names or numbers, none of which may be in them.
NAMES = (
    *(
        "heroku.app",
        "heroku.hostname",
        "eks.service.name",
        "eks.workloadRef.name",
        "traffic.istio.hosts",
        "traffic.istio.gateways",
    ),
    *(
        "traffic.istio.firstByteTimeout",
        "traffic.istio.timeout",
        "gates.prometheus",
        "gates.block",
        "gates.warmUp",
        "soak",
        "baseline.window",
    ),
)


def leaves(schema: dict[str, Any], path: str = "") -> list[str]:
    """Return the paths of all free texts of an object."""
    if schema.get("type") == "string" and "enum" not in schema:
        return [path.removeprefix(".")]
    found = [leaf for name, field in schema.get("properties", {}).items() for leaf in leaves(field, f"{path}.{name}")]
    return found + (leaves(schema["items"], f"{path}[]") if "items" in schema else [])


def test_every_text_of_a_plan_is_in_the_table() -> None:
    crd = yaml.safe_load((ROOT / "crds" / "cutover.dev_migrationplans.yaml").read_text(encoding="utf-8"))
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    table = page.partition("## Values of a plan")[2].partition("\n## ")[0]
    listed = [
        name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall("`([^`]+)`", row)
    ]
    assert sorted(listed) == sorted(
        [*leaves(schema), *(f"metadata.{one}" for one in ("name", "namespace", "annotations"))]
    )


def refused(path: str, value: Any) -> bool:
    try:
        MigrationPlan.from_wire(changed(FULL, {path: value}))
    except ValidationError:
        return True
    return False


@pytest.mark.parametrize("path", NAMES)
def test_names_and_numbers_are_nothing_else(path: str) -> None:
    several = path in ("traffic.istio.hosts", "traffic.istio.gateways")
    taken = [value for value in HOSTILE if not refused(path, [value] if several else value)]
    assert taken == []


@pytest.mark.parametrize("reference", ["name"])
def test_the_teams_own_route_is_of_the_plans_namespace(reference: str) -> None:
    base = changed(BASE, {"traffic.istio.ownership": "Adopt", "traffic.istio.virtualServiceRef": {reference: "pdf"}})
    MigrationPlan.from_wire(base)
    for value in HOSTILE:
        with pytest.raises(ValidationError):
            MigrationPlan.from_wire(changed(base, {f"traffic.istio.virtualServiceRef.{reference}": value}))


@pytest.mark.parametrize(
    "value", [*HOSTILE, "/etc/passwd", "../../etc/passwd", "Europe/../../x", "./UTC", "Europe//Paris"]
)
def test_a_time_zone_is_no_path(value: str) -> None:
    # Two are names, if of no zone.
    assert refused("schedule", {"timeZone": value}) is (value not in ("a/b/c", "A"))
    with pytest.raises((KeyError, ValueError)):
        ZoneInfo(value)


@pytest.mark.parametrize(
    "value", ["//evil.example", "/a b", "/a\r\nHost: evil", "/a?b", "/a#b", "a", "/é", "/\\evil", "/\x00", "http://e/"]
)
def test_a_probe_path_is_a_path(value: str) -> None:
    assert refused("traffic.probe", {"paths": [value]})


@pytest.mark.parametrize(
    "value", ["/", "/a/../..", "/@evil.example/", "/a//b", "/%0d%0aX:%20y", "/:80/", "/a;b=c,d", "/%2f%2fevil"]
)
def test_whatever_probe_path_is_taken_the_request_goes_to_the_gateway(value: str) -> None:
    assert not refused("traffic.probe", {"paths": [value]})
    url = URL(f"http://ingress.istio-ingress.svc:80{value}")
    assert (url.host, url.port, url.user, url.query_string, url.fragment) == (
        "ingress.istio-ingress.svc",
        80,
        None,
        "",
        "",
    )
    assert not re.search(r"\s", url.raw_path)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_name_stays_one_part_of_a_requests_path(value: str) -> None:
    path = PLANS.path(value or "x", value, "status")
    raw = path.removesuffix("/status").split("/")
    # "." and ".." are names of nothing in Kubernetes; quoting cannot help them.
    assert len(raw) == (8 if value else 7)
    assert re.fullmatch(r"[/A-Za-z0-9._~%-]*", SERVICES.path("a", value))


def test_formats_of_envoy_come_from_the_operator_alone() -> None:
    """Istio passes what is set as a header on as a format: a ``%`` in a plan's value could read others' headers."""
    manifest = changed(BASE, {"traffic.probe": {"paths": ["/%25REQ(:AUTHORITY)%25"]}})
    body = {**manifest, "metadata": {"namespace": "shop", "name": "pdf", "uid": "1"}}
    objects = rendered(Plan.from_object(body), 25)
    formats = set(re.findall(r'"[^"]*%[^"]*"', json.dumps(objects)))
    assert formats == {'"%REQ(:AUTHORITY)%"'}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_a_wish_is_quoted_in_one_plain_line(annotation: str, value: str) -> None:
    plan = Plan.from_object({**FULL, "metadata": {"namespace": "shop", "name": "pdf", "uid": "1"}})
    shifting = plan.status.model_copy(update={"phase": Phase.SHIFTING, "attempt": 1, "weight": 25})
    commanded = {annotation: f"{value} <!channel> *{value}* " + "x" * 9000}
    told = decide(replace(plan, status=shifting, annotations=commanded), Observation(), 1_799_661_600.0)
    texts = [
        told.status.message,
        *(event.message for event in told.events),
        *(one.message for one in told.status.ledger),
    ]
    for text in texts:
        assert len(text) <= 1024
        assert text.isprintable()
        assert "<!channel>" not in text
        assert "x" * 200 not in text


def test_reasons_are_for_people_and_have_an_end() -> None:
    for path, value in (
        ("preflight.skip", [{"check": "service", "reason": "x" * 257}]),
        (
            "schedule",
            {"freezes": [{"from": "2026-12-20T00:00:00Z", "to": "2026-12-21T00:00:00Z", "reason": "x" * 257}]},
        ),
        ("preflight.skip", [{"check": "a b", "reason": "x"}]),
    ):
        assert refused(path, value)
