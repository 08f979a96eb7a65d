"""A Prometheus gone wrong holds the plans that use it, and nothing else: a command to roll back needs no Prometheus."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.kit.fake_tsdb import NAMESPACE, START
from tests.kit.loop_rig import BLOCK, SPEC, LoopRig, shifting
from tests.kit.manual_clock import ManualClock
from tests.kit.sampler_rig import LENGTH, TARGET

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.client import LARGEST_SKEW, PrometheusClient
from cutover.api.v1alpha1 import Phase
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import calendar
from cutover.domain.observation import Observation, Samples
from cutover.domain.plan import Plan
from cutover.ports.errors import Unavailable
from cutover.services.reading import best_phase
from cutover.services.sampler import Sampler


def answer_to(query: str, clock: str, value: Any) -> dict[str, Any]:
    if query == "vector(time())":
        return {"resultType": "vector", "result": [{"metric": {}, "value": [0, clock]}]}
    return {"resultType": "matrix" if query.endswith("]") else "vector", "result": value}


def server(clock: Callable[[], str], value: Callable[[str], Any], time: ManualClock) -> PrometheusClient:
    def handle(request: httpx.Request) -> httpx.Response:
        query = dict(httpx.QueryParams(request.content.decode()))["query"]
        return httpx.Response(
            200, text=json.dumps({"status": "success", "data": answer_to(query, clock(), value(query))})
        )

    return PrometheusClient("http://prometheus", transport=httpx.MockTransport(handle), pause=0.001, now=time.now)


# -------------------------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("1e12", "its clock says 1e"),
        ("+Inf", "its clock says inf s after 1970"),
        ("-Inf", "its clock says -inf"),
        ("NaN", "its clock says nan"),
        ("0", "its clock says 1970-01-01 00:00 UTC, and the operator's"),
        (str(START + LARGEST_SKEW + 10), "set the clock that is wrong"),
    ],
)
@pytest.mark.usefixtures("virtual_time")  # a round trip of a busy machine measures nothing
async def test_a_clock_that_cannot_be_right_is_not_believed(said: str, told: str) -> None:
    time, says = ManualClock(), [said]
    asked = server(lambda: says[0], lambda _: [], time)
    before = asked.skew
    with pytest.raises(Unavailable, match="its clock says") as refusal:
        await asked.compare_clocks()
    assert told in str(refusal.value)
    assert asked.skew == pytest.approx(before, abs=1.0)
    with pytest.raises(Unavailable, match="its clock says"):
        await asked.query("a", START)
    says[0] = str(START + 30)
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(30, abs=1.0)
    assert await asked.query("a", START) == []


# ------------------------------------------------------------------------------------------------------------- answers

_GATEWAY = {"namespace": NAMESPACE, "pod": "gw", "job": "istio", "instance": "gw"}
NONSENSE = {
    "no values": [{"metric": _GATEWAY, "values": []}],
    "no labels": [{"values": [[START, "1"]]}],
    "labels that are none": [{"metric": [], "values": [[START, "1"]]}],
    "a time that is none": [{"metric": _GATEWAY, "values": [["x", "1"], [START, "1"]], "value": [START, "NaN"]}],
    "times without end": [{"metric": _GATEWAY, "values": [[1e308, "1"], [-1e308, "1"]], "value": [START, "+Inf"]}],
    "values without end": [
        {"metric": _GATEWAY | {"destination_service": leg}, "values": [[START - 20, "+Inf"], [START - 5, "NaN"]], "value": [START, "-Inf"]}
        for leg in (TARGET.heroku, TARGET.eks)
    ],
    "a list": [[1, 2], [3, 4]],
    "numbers": [1, 2],
    "texts": ["a"],
    "nothing": [None],
}  # fmt: skip


@pytest.mark.parametrize("kind", NONSENSE)
async def test_nonsense_is_told_and_ends_with_the_next_answer(kind: str) -> None:
    time, nonsense = ManualClock(), [NONSENSE[kind]]
    sampler = Sampler(
        server(lambda: str(time.time), lambda _: nonsense[0], time), IstioDialect(), time, on_samples=lambda _: None
    )
    sampler.watch("ns/pdf", TARGET)
    for _ in range(6):
        time.time += LENGTH
        await sampler.reconcile()  # an exception would hold the plans of this server, and say nothing
    taken = sampler.take("ns/pdf")
    assert taken.error or all(block.gap for block in taken.blocks)
    assert taken.error or taken.blocks or kind == "times without end"
    nonsense[0] = []
    for _ in range(6):
        time.time += LENGTH
        await sampler.reconcile()
    assert sampler.take("ns/pdf").error == ""


def test_a_scrape_without_a_time_gives_no_phase() -> None:
    with pytest.raises(ValueError, match="no time"):
        best_phase([START, float("inf")], 15.0)


# ----------------------------------------------------------------------------------------------------------- rollbacks


@pytest.mark.parametrize("part", ["block_feed.take", "block_feed.watch", "slo_feed.take"])
async def test_a_command_to_roll_back_is_obeyed_whatever_evidence_does(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = LoopRig(shifting())
    loop = world.loop()

    def broken(*_: object) -> Samples:
        raise OverflowError("cannot convert float infinity to integer")

    feed, method = part.split(".")
    monkeypatch.setattr(type(getattr(loop._ports, feed)), method, broken)
    monkeypatch.setattr("cutover.services.slo_readings.custom_slos_wanted", lambda _: True)
    await loop.reconcile()
    assert world.stored.phase is Phase.SHIFTING
    world.edit(annotations={"cutover.dev/rollback": "a1"})
    world.deliver()
    world.run(BLOCK)
    await loop.reconcile()
    assert (world.stored.phase, world.weight) == (Phase.ROLLING_BACK, 0)


# ----------------------------------------------------------------------------------------------------------- calendars


def test_windows_and_freezes_go_by_the_operators_own_clock() -> None:
    noon = datetime(2027, 1, 11, 12, 0, tzinfo=UTC)
    freeze = {"from": "2027-01-11T11:00:00Z", "to": "2027-01-11T13:00:00Z", "reason": "sale"}
    ready = Observation(since=0.0)

    def holds(own: datetime, ahead: timedelta) -> tuple[str, ...]:
        spec = {**SPEC, "schedule": {"freezes": [freeze]}}
        plan = Plan.from_object({"metadata": {"namespace": "docs", "name": "pdf", "uid": "u"}, "spec": spec})
        now = (own + ahead).timestamp()
        context = Context(plan, replace(ready, clock_ahead=ahead.total_seconds()), now)
        return tuple(str(hold.reason) for hold in calendar(context, plan.spec.steps[0]))

    assert holds(noon, timedelta(hours=3)) == ("Frozen",)
    assert holds(noon - timedelta(hours=3), timedelta(hours=3)) == ()
