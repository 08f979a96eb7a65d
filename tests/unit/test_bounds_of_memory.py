"""What tenants may fill the memory with is bounded: answers to their queries, their objects, and their edits."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration
from tests.kit.builders import spec_fields

from cutover.adapters.kube import client as kube_client
from cutover.adapters.kube import templates as kube_templates
from cutover.adapters.kube.client import PAGE, Cluster
from cutover.adapters.kube.templates import TemplateCache
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.adapters.prometheus.sources import Sources
from cutover.adapters.traffic.istio import live
from cutover.adapters.traffic.istio.live import RouteCache
from cutover.api.v1alpha1 import MigrationPlanSpec, TemplateKind
from cutover.api.v1alpha1.templates import Template
from cutover.domain.marks import PLAN_LABEL, PLAN_UID_ANNOTATION
from cutover.domain.preflight.checks.istio.kinds import DESTINATION_RULES, GATEWAYS, SERVICE_ENTRIES, VIRTUAL_SERVICES
from cutover.domain.preflight.checks.istio.listed import entry_claims, route_claims
from cutover.domain.preflight.registry import CHECKS
from cutover.domain.resources import HORIZONTAL_POD_AUTOSCALERS, PLANS, POD_DISRUPTION_BUDGETS, Json
from cutover.domain.slo import templates as slo_templates
from cutover.domain.slo.templates import custom_slos
from cutover.ports.errors import Unavailable
from cutover.services.operator import Operator
from cutover.settings import PrometheusServer, PrometheusServers

# ------------------------------------------------------------------------------------------------------------- answers


async def test_answers_to_queries_of_plans_are_short() -> None:
    """Twenty MiB of short series took 270 MiB."""
    body = {"status": "success", "data": {"resultType": "vector", "result": [{"metric": {"a": "x" * 3_000_000}}]}}

    def make(url: str, **options: Any) -> PrometheusClient:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=body))
        return PrometheusClient(url, transport=transport, **options)

    sources = Sources(PrometheusServers(default=PrometheusServer(url="http://prometheus")), make)
    with pytest.raises(Unavailable, match="answered more than 1 MiB"):
        await sources.for_slos("").query("a", 0.0)
    assert len(await sources.get("").query("a", 0.0)) == 1


# ------------------------------------------------------------------------------------------------------ objects: routes


def route(name: str, plan: str, version: int = 1, fill: int = 0) -> Json:
    metadata = {"namespace": "docs", "name": name, "labels": {PLAN_LABEL: plan}, "resourceVersion": str(version)}
    return {
        "apiVersion": VIRTUAL_SERVICES.api_version,
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": {"hosts": ["x" * fill]},
    }


def test_of_what_no_plan_asked_for_only_so_much_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "SPARE_BYTES", 10_000)
    cache = RouteCache()
    cache.put(route("cutover-mine", "mine", fill=2000))
    for number in range(100):
        assert cache.observe_event(None, route(f"cutover-x{number}", f"x{number}", fill=1000))
    kept = [number for number in range(100) if cache.get(route(f"cutover-x{number}", "")) is not None]
    assert kept == list(range(kept[0], 100))
    assert 5 <= len(kept) < 10
    assert cache.get(route("cutover-mine", "mine")) is not None
    # What was asked for is kept from then on.
    for number in range(100, 200):
        cache.observe_event(None, route(f"cutover-x{number}", f"x{number}", fill=1000))
    assert all(cache.get(route(f"cutover-x{number}", "")) is not None for number in kept)


def test_the_label_alone_makes_no_object_the_operators() -> None:
    cache = RouteCache()
    for name in ("team-route", "cutover-other", "probe-cutover-other", "cutover-"):
        assert not cache.observe_event("ADDED", route(name, "pdf")), name
    for name in ("cutover-pdf", "probe-cutover-pdf"):
        assert cache.observe_event("ADDED", route(name, "pdf")), name


def test_a_spare_object_follows_its_edits_and_goes_with_its_object() -> None:
    cache = RouteCache()
    assert cache.observe_event(None, route("cutover-pdf", "pdf"))
    assert not cache.observe_event("MODIFIED", route("cutover-pdf", "pdf"))  # the same version
    assert cache.observe_event("MODIFIED", route("cutover-pdf", "", version=2))  # the label is off
    known = cache.get(route("cutover-pdf", "pdf"))
    assert known is not None
    assert known.version == "2"
    cache = RouteCache()
    cache.observe_event(None, route("cutover-pdf", "pdf"))
    assert cache.observe_event("DELETED", route("cutover-pdf", "pdf", version=2))
    assert cache.get(route("cutover-pdf", "pdf")) is None


def test_a_namespace_without_plans_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutover.services.operator.PlanLoop", lambda *_: SimpleNamespace(end=lambda: None))
    cache = RouteCache()
    notifier = SimpleNamespace(forget=lambda _: None)
    operator = Operator(SimpleNamespace(notifier=notifier, reports=None), cache, TemplateCache())  # type: ignore[arg-type]
    body = {"metadata": {"namespace": "docs", "name": "pdf"}}
    operator.loop("u1", body)
    cache.put(route("cutover-pdf", "pdf"))
    operator.end("u1", body)
    assert cache.get(route("cutover-pdf", "pdf")) is None


def test_a_plan_that_is_gone_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside another plan of the namespace a hundred plans kept 95 MiB of large objects with their names."""
    monkeypatch.setattr("cutover.services.operator.PlanLoop", lambda *_: SimpleNamespace(end=lambda: None))
    cache = RouteCache()
    notifier = SimpleNamespace(forget=lambda _: None)
    operator = Operator(SimpleNamespace(notifier=notifier, reports=None), cache, TemplateCache())  # type: ignore[arg-type]
    operator.loop("kept", {"metadata": {"namespace": "docs", "name": "kept"}})
    cache.put(route("cutover-kept", "kept"))
    for name, marked in (("cutover-pdf", "pdf"), ("probe-cutover-pdf", "pdf"), ("team", "pdf")):
        body = {"metadata": {"namespace": "docs", "name": "pdf"}}
        operator.loop("u1", body)
        cache.put(route(name, marked))
        operator.end("u1", body)
        assert cache.get(route(name, marked)) is None, name
    unlabelled = route("theirs", "")
    del unlabelled["metadata"]["labels"]
    cache.put(unlabelled)
    operator.loop("u1", body)
    operator.end("u1", body)
    assert cache.get(unlabelled) is None
    assert cache.get(route("cutover-kept", "kept")) is not None


# --------------------------------------------------------------------------------------------------- objects: templates


def template(name: str, query: str = "a", namespace: str = "docs", generation: int = 1) -> Json:
    spec = {"description": "x", "bound": {"query": query, "max": "1"}}
    return {"metadata": {"namespace": namespace, "name": name, "generation": generation}, "spec": spec}


def test_templates_are_read_when_a_plan_refers_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    read = list[str]()
    parse: Callable[[Json], Template | str] = kube_templates.from_object
    monkeypatch.setattr(
        kube_templates, "from_object", lambda body: (read.append(body["spec"]["bound"]["query"]), parse(body))[1]
    )
    cache = TemplateCache()
    for number in range(5):
        assert cache.observe_event(TemplateKind.GATE_TEMPLATE, "ADDED", template(f"t{number}", f"a{number}"))
    assert read == []
    view = cache.of("docs")
    assert isinstance(view["GateTemplate/t3"], Template)
    assert view["GateTemplate/t3"] is cache.of("docs")["GateTemplate/t3"]
    assert read == ["a3"]
    assert (len(view), "GateTemplate/t3" in view, "GateTemplate/t9" in view) == (5, True, False)
    assert len(cache.of("mail")) == 0


def test_annotations_of_a_template_are_not_kept_and_change_nothing() -> None:
    cache = TemplateCache()
    body = template("t")
    assert cache.observe_event(TemplateKind.GATE_TEMPLATE, "ADDED", body)
    body["metadata"]["annotations"] = {"a": "x" * 100_000}
    assert not cache.observe_event(TemplateKind.GATE_TEMPLATE, "MODIFIED", body)
    assert cache.observe_event(TemplateKind.GATE_TEMPLATE, "MODIFIED", template("t", "b", generation=2))
    assert cache.observe_event(TemplateKind.GATE_TEMPLATE, "DELETED", body)
    assert not cache.observe_event(TemplateKind.GATE_TEMPLATE, "DELETED", body)


def test_a_namespace_cannot_have_templates_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_templates, "MOST_BYTES", 1000)
    cache = TemplateCache()
    for number in range(20):
        cache.observe_event(TemplateKind.GATE_TEMPLATE, "ADDED", template(f"t{number}"))
        cache.observe_event(TemplateKind.CLUSTER_GATE_TEMPLATE, "ADDED", template(f"t{number}", namespace=""))
    cache.observe_event(TemplateKind.GATE_TEMPLATE, "ADDED", template("t", namespace="mail"))
    view = cache.of("docs")
    assert isinstance(view["GateTemplate/t0"], Template)
    assert "delete those that no plan uses" in str(view["GateTemplate/t19"])
    assert all(isinstance(view[f"ClusterGateTemplate/t{number}"], Template) for number in range(20))
    assert isinstance(cache.of("mail")["GateTemplate/t"], Template)


def test_edits_of_a_template_leave_nothing_behind() -> None:
    """Each edit left a plan's queries behind until 4,096 of them filled the cache."""
    slo = {"name": "cpu", "template": {"kind": "GateTemplate", "name": "t"}}
    spec = MigrationPlanSpec.from_wire(spec_fields(gates={"slos": [slo]}, steps=[{"weight": 100}]))
    slo_templates._RESOLVED.clear()
    for number in range(50):
        cache = TemplateCache()
        cache.observe_event(TemplateKind.GATE_TEMPLATE, "ADDED", template("t", f"a{number}"))
        said = custom_slos(spec, plan_name="pdf", namespace="docs", frozen=(), templates=cache.of("docs"))
        assert said.gates[0].queries == (f"a{number}",)
        again = custom_slos(spec, plan_name="pdf", namespace="docs", frozen=(), templates=cache.of("docs"))
        assert again is said
    assert len(slo_templates._RESOLVED) == 1


# ------------------------------------------------------------------------------------------------------- objects: lists


async def test_a_list_is_read_in_pages_of_bounded_bytes(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    monkeypatch.setattr(kube_client, "PAGE_BYTES", 20_000)
    limits, sizes = list[int](), list[int]()
    objects = [
        {"metadata": {"name": f"o{number}"}, "fill": "x" * (3000 if number < 50 else 30_000)} for number in range(53)
    ]

    async def answer(request: web.Request) -> web.Response:
        limit, start = int(request.query["limit"]), int(request.query.get("continue") or 0)
        items = objects[start : start + limit]
        limits.append(limit)
        following = str(start + limit) if start + limit < len(objects) else ""
        text = json.dumps({"items": items, "metadata": {"continue": following}})
        sizes.append(len(text))
        return web.Response(text=text, content_type="application/json")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
    configuration = Configuration()  # type: ignore[no-untyped-call]
    configuration.host = f"http://127.0.0.1:{unused_tcp_port}"
    cluster = Cluster(ApiClient(configuration))  # type: ignore[no-untyped-call]
    try:
        found = await cluster.list(VIRTUAL_SERVICES, keep=lambda body: body["metadata"]["name"])
    finally:
        await cluster.close()
        await runner.cleanup()
    assert found == [f"o{number}" for number in range(53)]
    assert limits[:4] == [PAGE, PAGE // 5, PAGE // 25, PAGE // 125]
    assert limits[-1] == 1
    assert all(size <= 20_000 or limit > 1 or size < 31_000 for size, limit in zip(sizes, limits, strict=True))


def test_of_what_is_listed_only_the_needed_part_is_kept() -> None:
    listed = [read for check in CHECKS for read in check.reads if read.names is None]
    assert {read.resource for read in listed} == {
        PLANS,
        VIRTUAL_SERVICES,
        SERVICE_ENTRIES,
        GATEWAYS,
        HORIZONTAL_POD_AUTOSCALERS,
        POD_DISRUPTION_BUDGETS,
        DESTINATION_RULES,
    }
    assert all(read.keep is not None for read in listed)
    body = route("cutover-pdf", "pdf")
    body["metadata"] |= {"managedFields": [{}], "annotations": {"a": "x" * 1000, PLAN_UID_ANNOTATION: "u1"}}
    sent = {"route": [{"destination": {"host": "pdf"}, "weight": 100}], "mirror": {"host": "pdf"}}
    large = {"match": [{"uri": {"prefix": "/" * 1000}}], "headers": {"request": {"set": {"a": "x" * 1000}}}}
    body["spec"] = {"hosts": ["a"], "gateways": ["b/c"], "exportTo": ["."], "http": [*([large] * 1000), large | sent]}
    metadata = {
        "namespace": "docs",
        "name": "cutover-pdf",
        "labels": {PLAN_LABEL: "pdf"},
        "annotations": {PLAN_UID_ANNOTATION: "u1"},
    }
    claims = {"metadata": metadata, "hosts": ("a",), "gateways": ("b/c",), "sends": ("pdf.docs.svc.",)}
    assert route_claims(body) == {**claims, "mirrors": ("pdf.docs.svc.",), "size": 294}
    assert entry_claims(body) == {"metadata": metadata, "hosts": ("a",), "exportTo": (".",), "size": 234}
