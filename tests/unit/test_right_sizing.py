"""Requests and limits to begin with, from what the drain recorded of dynos: played metrics of three services."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.record import record as a_record
from tests.kit.target import READY, named
from tests.kit.world import plan_spec

from cutover.adapters.dialects.heroku_drain.record import DrainRecord
from cutover.api.v1alpha1 import CheckResult
from cutover.domain.baseline.record import Record
from cutover.domain.baseline.used import NOTHING, Used
from cutover.domain.dynos import DynoUse
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Facts
from cutover.domain.preflight.sizing import sizing_for
from cutover.domain.preflight.workload import MEBIBYTE
from cutover.domain.resources import DEPLOYMENTS, Json
from cutover.ports.errors import QueryFailed
from cutover.ports.prometheus import Prometheus

CHECK = next(check for check in registry.CHECKS if check.name == "right-sizing")


def plan() -> Plan:
    return Plan("shop", "pdf", "1", 1, plan_spec())


def mebibytes(memory: float, most: float, load: float | None = None) -> DynoUse:
    return DynoUse(memory * MEBIBYTE, most * MEBIBYTE, load)


def told(use: DynoUse | None, resources: Json, before: Record | None = None) -> str:
    known = READY.inventory(plan())
    pod = {"containers": [{"name": "app", "resources": resources}]}
    body = named("shop", "pdf", spec={"replicas": 2, "template": {"spec": pod}})
    known = replace(known, objects={**known.objects, DEPLOYMENTS: {("shop", "pdf"): body}})
    finding = CHECK.judge(plan(), Facts(inventory=known, dynos=use, record=before))
    assert (finding.result is CheckResult.WARNED) == bool(finding.message)
    return finding.message


#: A lean web app, a Rails app that swaps on a Standard-1X, and one that hardly does anything.
LEAN, SWAPPING, IDLE = mebibytes(210, 260, 0.42), mebibytes(620, 870, 1.6), mebibytes(60, 70, 0.01)


@pytest.mark.parametrize(
    ("use", "resources", "finds", "advised"),
    [
        (LEAN, {"requests": {"cpu": "400m", "memory": "256Mi"}, "limits": {"memory": "384Mi"}}, "", ""),
        (
            LEAN,
            {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "384Mi"}},
            "requests 0.1 CPU, and 0.42 threads of a dyno want to run",
            "resources: {requests: {cpu: 450m, memory: 256Mi}, limits: {memory: 384Mi}}",
        ),
        (
            SWAPPING,
            {"requests": {"cpu": "2", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
            "container app is ended above 512 MiB, and a dyno has used 870",
            "resources: {requests: {cpu: 1600m, memory: 640Mi}, limits: {memory: 1088Mi}}",
        ),
        (
            IDLE,
            {"requests": {"cpu": "100m", "memory": "2Gi"}},
            "requests 2048 MiB, and a dyno has used 70 at most",
            "resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}",
        ),
        (SWAPPING, {"requests": {"cpu": "2", "memory": "256Mi"}}, "requests 256 MiB, and a dyno uses 620", "640Mi"),
        (IDLE, {}, "requests nothing", "128Mi"),
        (mebibytes(210, 260), {"requests": {"cpu": "1m", "memory": "256Mi"}}, "", ""),
        (None, {}, "", ""),
    ],
)
def test_the_container_against_the_dynos(use: DynoUse | None, resources: Json, finds: str, advised: str) -> None:
    message = told(use, resources)
    assert finds in message
    assert advised in message
    assert bool(finds) == bool(message)


@given(
    memory=st.floats(1, 60_000),
    more=st.floats(0, 60_000),
    load=st.none() | st.floats(0, 500, allow_nan=False),
)
def test_what_is_advised_is_enough_and_is_not_warned_of(memory: float, more: float, load: float | None) -> None:
    use = mebibytes(memory, memory + more, load)
    sizing = sizing_for(use)
    assert sizing.most_memory >= sizing.memory >= memory
    assert sizing.most_memory >= memory + more
    if load is None or load <= 8:
        found = dict(re.findall(r"(cpu|memory): (\w+)", sizing.yaml.split("limits")[0]))
        assert told(use, {"requests": found, "limits": {"memory": f"{sizing.most_memory}Mi"}}) == ""


class Played:
    """A Prometheus that answers with values by what is asked for, as its instant vectors have them."""

    def __init__(self, result: list[dict[str, Any]]) -> None:
        self.result, self.asked = result, list[str]()

    async def query(self, promql: str, at: float) -> list[dict[str, Any]]:
        self.asked.append(f"{promql} @ {at:g}")
        return self.result


def record(played: Played) -> DrainRecord:
    return DrainRecord(lambda _: cast("Prometheus", played), lambda _: 1000.0)


def value(number: str, what: str = "") -> dict[str, Any]:
    return {"metric": {"what": what} if what else {}, "value": [1000, number]}


async def test_what_the_drain_recorded_is_read_with_one_query() -> None:
    played = Played([value("1000", "memory"), value("2000", "most"), value("0.5", "load")])
    assert await record(played).dynos(plan()) == DynoUse(1000, 2000, 0.5)
    assert len(played.asked) == 1
    assert 'app=~"acme-pdf"' in played.asked[0]


@pytest.mark.parametrize(
    ("service", "answer", "resources", "advised"),
    [
        (
            "a Rails app that swaps on a Standard-1X",
            ("650117120", "912366796", "1.58"),
            {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "512Mi"}},
            "resources: {requests: {cpu: 1600m, memory: 640Mi}, limits: {memory: 1088Mi}}",
        ),
        (
            "an API whose replicas are far too large",
            ("167772160", "188743680", "0.31"),
            {"requests": {"cpu": "2", "memory": "2Gi"}},
            "resources: {requests: {cpu: 350m, memory: 192Mi}, limits: {memory: 256Mi}}",
        ),
        (
            "a renderer of PDFs with a load above its CPU request",
            ("1395864371", "2147483648", "3.4"),
            {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "4Gi"}},
            "resources: {requests: {cpu: 3400m, memory: 1344Mi}, limits: {memory: 2560Mi}}",
        ),
    ],
)
async def test_three_services_from_prometheus_answer_to_the_yaml_that_is_advised(
    service: str, answer: tuple[str, str, str], resources: Json, advised: str
) -> None:
    played = Played([value(number, what) for number, what in zip(answer, ("memory", "most", "load"), strict=True)])
    message = told(await record(played).dynos(plan()), resources)
    assert message.endswith(f"to begin with: {advised}"), service
    written = yaml.safe_load(advised)["resources"]
    assert told(await record(played).dynos(plan()), written) == "", (
        "what is advised is YAML that the check is content with"
    )
    print(f"{service}: {yaml.safe_dump(written, default_flow_style=True).strip()}")


@pytest.mark.parametrize("result", [[], [value("NaN", "memory"), value("1", "most")], [value("1", "load")]])
async def test_nothing_recorded_is_not_zero(result: list[dict[str, Any]]) -> None:
    assert await record(Played(result)).dynos(plan()) is None


async def test_the_requests_of_the_last_day() -> None:
    assert await record(Played([value("41.5")])).requests_of_last_day(plan()) == 41.5
    assert await record(Played([])).requests_of_last_day(plan()) is None
    with pytest.raises(QueryFailed):
        await record(Played([{"metric": {}, "value": ["x"]}])).requests_of_last_day(plan())


def test_the_most_memory_is_that_of_the_record_where_it_is_more() -> None:
    resources: Json = {"requests": {"cpu": "450m", "memory": "256Mi"}, "limits": {"memory": "384Mi"}}
    before = replace(a_record(14), most=Used(memory=500 * MEBIBYTE))
    assert told(LEAN, resources) == ""
    found = told(LEAN, resources, before)
    assert found.startswith(
        "by the last 7 days of the dynos and the record before them container app is ended above 384 MiB"
    )
    assert "a dyno has used 500" in found
    assert "limits: {memory: 640Mi}" in found
    assert told(LEAN, resources, replace(before, most=NOTHING)) == told(None, resources, before) == ""
