"""``init``: what is chosen from the objects that exist, which steps suit the traffic, and a text that is a valid plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutover.api.v1alpha1 import Approval, InsufficientTraffic, MigrationPlan
from cutover.cli.drafts import (
    Draft,
    gateways_of,
    kustomization_text,
    plan_text,
    quoted,
    service_of,
    steps_for,
    with_workload,
)
from cutover.cli.exits import CliError

Json = dict[str, Any]
DRAFT = Draft(
    name="pdf",
    namespace="documents",
    app="acme-pdf",
    hostname="acme-pdf-1a2b3c.herokuapp.com",
    hosts=("pdf.example.com",),
    workload="pdf",
)
WHOLE = replace(DRAFT, gateways=("istio-ingress/public",), service="pdf", port=80)


def workload(path: str | None = "/healthz", labels: Mapping[str, str] | None = None) -> Json:
    probe = {"httpGet": {"path": path}} if path else {"tcpSocket": {"port": 1}}
    containers = [{"name": "sidecar"}, {"name": "app", "readinessProbe": probe}]
    template = {"metadata": {"labels": labels or {"app": "pdf"}}, "spec": {"containers": containers}}
    return {"metadata": {"name": "pdf"}, "spec": {"template": template}}


def service(name: str = "pdf", ports: tuple[Json, ...] = ({"port": 80},), **selector: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"selector": selector or {"app": "pdf"}, "ports": list(ports)}}


def gateway(name: str, *hosts: str) -> Json:
    return {"metadata": {"namespace": "istio-ingress", "name": name}, "spec": {"servers": [{"hosts": list(hosts)}]}}


# ----------------------------------------------------------------------------------------------------------- choosing


def test_the_readiness_probe_says_what_to_ask() -> None:
    assert with_workload(DRAFT, workload()).paths == ("/healthz",)
    assert with_workload(DRAFT, workload(path=None)).paths == ("/",)
    assert with_workload(replace(DRAFT, paths=("/mine",)), workload()).paths == ("/mine",)
    assert with_workload(DRAFT, {}).paths == ("/",)


def test_the_service_is_the_one_that_selects_the_pods() -> None:
    others = [service("db", app="db"), service("none"), {"metadata": {"name": "headless"}, "spec": {}}]
    others[1]["spec"]["selector"] = None
    found = service_of(DRAFT, workload(), [service(), *others])
    assert (found.service, found.port) == ("pdf", 80)
    with pytest.raises(CliError, match="pdf, pdf-canary; choose one by --service"):
        service_of(DRAFT, workload(), [service(), service("pdf-canary")])
    with pytest.raises(
        CliError,
        match="no Service selects the Pods of pdf; namespace documents has: db, headless, none; choose one by --service",
    ):
        service_of(DRAFT, workload(), others)
    with pytest.raises(CliError, match="has no Service web; there are: pdf"):
        service_of(replace(DRAFT, service="web"), workload(), [service()])


@pytest.mark.parametrize(
    ("ports", "chosen"),
    [
        (({"port": 8080},), 8080),
        (({"port": 80}, {"port": 9090}), 80),
        (({"port": 8080, "name": "http"}, {"port": 80}), 8080),
        (({"port": 1, "appProtocol": "http"}, {"port": 2}), 1),
    ],
)
def test_the_port_is_the_one_for_http(ports: tuple[Json, ...], chosen: int) -> None:
    assert service_of(DRAFT, workload(), [service(ports=ports)]).port == chosen
    assert service_of(replace(DRAFT, port=7), workload(), [service(ports=ports)]).port == 7


@pytest.mark.parametrize("ports", [(), ({"port": 1}, {"port": 2})])
def test_a_port_that_is_not_certain_is_asked_for(ports: tuple[Json, ...]) -> None:
    with pytest.raises(CliError, match="choose one by --port"):
        service_of(DRAFT, workload(), [service(ports=ports)])


@pytest.mark.parametrize(
    "hosts",
    [("*",), ("*/*",), ("pdf.example.com",), ("*.example.com",), ("documents/*.example.com",), ("*/pdf.example.com",)],
)
def test_the_gateway_is_the_one_that_serves_the_host(hosts: tuple[str, ...]) -> None:
    others = [
        gateway("internal", "*.internal"),
        gateway("shop", "shop/*.example.com"),
        gateway("own", "./pdf.example.com"),
    ]
    assert gateways_of(DRAFT, [*others, gateway("public", *hosts)]).gateways == ("istio-ingress/public",)


def test_gateways_that_are_not_certain_are_asked_for() -> None:
    with pytest.raises(CliError, match=r"serve pdf.example.com: none; choose one by --gateway"):
        gateways_of(DRAFT, [gateway("internal", "*.internal"), {"metadata": {"namespace": "x", "name": "y"}}])
    with pytest.raises(CliError, match="istio-ingress/a, istio-ingress/b; choose one"):
        gateways_of(DRAFT, [gateway("b", "*"), gateway("a", "*")])
    assert gateways_of(WHOLE, []) == WHOLE


# --------------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    ("rate", "weights", "hold", "asks"),
    [
        (None, [10, 25, 50, 100], "15m", False),
        (100.0, [10, 25, 50, 100], "15m", False),
        (1.0, [10, 25, 50, 100], "15m", False),
        (0.1, [10, 25, 50, 100], "15m", False),
        (0.05, [25, 50, 100], "1h", False),
        (0.01, [10, 25, 50, 100], "1h", True),
    ],
)
def test_steps_suit_the_traffic(rate: float | None, weights: list[int], hold: str, asks: bool) -> None:
    steps, ask_people = steps_for(rate)
    assert [step.weight for step in steps] == weights
    assert {step.hold for step in steps[:-1]} == {hold}
    assert ask_people is asks
    assert all(step.note for step in steps[:-1]) is (rate is not None)


@pytest.mark.parametrize("flux", [False, True])
@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("rate", [None, 40.0, 0.01])
def test_the_text_is_a_valid_plan_with_comments(rate: float | None, manual: bool, flux: bool) -> None:
    text = plan_text(replace(WHOLE, rate=rate, manual=manual, flux=flux))
    plan = MigrationPlan.from_wire(yaml.safe_load(text))
    assert plan.metadata == {"name": "pdf", "namespace": "documents"}
    assert plan.spec.steps[-1].weight == 100
    assert {step.approval for step in plan.spec.steps} == {Approval.MANUAL if manual else Approval.AUTOMATIC}
    assert plan.spec.ceiling == (10 if flux else 100)
    asked = plan.spec.gates.insufficient_traffic is InsufficientTraffic.ASK_PEOPLE
    assert asked is (rate == 0.01)
    assert text.count("#") >= 5
    assert not [line for line in text.splitlines() if line != line.rstrip() or len(line) > 140]


def test_a_wrong_value_names_its_field() -> None:
    with pytest.raises(CliError, match=r"no valid plan: spec\.heroku\.hostname: "):
        plan_text(replace(WHOLE, hostname="not a host"))
    with pytest.raises(CliError, match=r"must not be one of traffic\.istio\.hosts"):
        plan_text(replace(WHOLE, hostname="pdf.example.com"))


def test_flux_gets_its_kustomization() -> None:
    made = yaml.safe_load(kustomization_text(WHOLE, source="fleet", path="./pdf-migration"))
    assert made["kind"] == "Kustomization"
    assert made["spec"]["wait"] is True
    assert made["spec"]["path"] == "./pdf-migration"
    assert made["metadata"]["name"] == "pdf-migration"


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
@example("/pages,all")
def test_whatever_somebody_types_stays_a_text(value: str) -> None:
    assert yaml.safe_load(f"[{quoted(value)}]") == [value]
