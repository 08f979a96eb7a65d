"""Reading Heroku's record: what is asked of Prometheus, how often, and what becomes of answers that are none."""

from __future__ import annotations

import asyncio
import json
import math
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import promql_parser
import pytest
from tests.kit import builders
from tests.kit.loop_rig import LoopRig
from tests.kit.record import END, record

from cutover.adapters.dialects.heroku_drain.counters import HerokuDrainDialect
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.api.v1alpha1 import BaselineStatus, ComparisonStatus, HeldStatus, MigrationPlanStatus, Phase
from cutover.domain.baseline.record import HOUR, KeptRecord, Reach, Record, RecordReading
from cutover.domain.commands.annotations import SKIP_ANNOTATION
from cutover.domain.engine.phases.record import record_status
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.slo.matchers import with_matchers
from cutover.ports.errors import Conflict, Gone, QueryFailed, Unavailable
from cutover.ports.records import RecordQuestion
from cutover.services.observing import Observer
from cutover.services.records import FEWEST_HOURS, MOST_HOURS, PrometheusRecords
from cutover.services.working_status import WorkingStatus


class Server:
    """Answers range queries by the hour: 60 minutes, 3,600 requests, of which 36 are errors, all of 20 ms."""

    def __init__(self, *, hours: float = math.inf, slow_above: int = 10_000) -> None:
        self.asked: list[tuple[str, float, float]] = []
        self.since, self.slow_above = END - hours * HOUR, slow_above
        self.busy = self.most_busy = 0
        self.answer: list[dict[str, Any]] | None = None

    async def query_range(self, promql: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        promql_parser.parse(promql)
        self.asked.append((promql, start, end))
        self.busy += 1
        self.most_busy = max(self.most_busy, self.busy)
        await asyncio.sleep(0)
        self.busy -= 1
        number = round((end - start) / step) + 1
        if number > self.slow_above:
            raise QueryFailed("it did not answer within 10 s")
        if self.answer is not None:
            return self.answer
        ends = [start + step * n for n in range(number)]
        ends = [at for at in ends if at > self.since]

        def series(value: float, **labels: str) -> dict[str, Any]:
            return {"metric": labels, "values": [[at, str(value)] for at in ends]}

        code = "response_code" if "istio" in promql else "code"
        if promql.startswith("count_over_time"):
            return [series(60)]
        if promql.startswith("sum by (le"):
            unit = 1 if "istio" in promql else 1000
            return [series(3600, le=le) for le in (f"{25 / unit:g}", f"{100 / unit:g}", "+Inf")] + [
                series(0, le=f"{10 / unit:g}"),
                *([series(100, le="+Inf", response_code="101")] if unit == 1 else []),
            ]
        codes = {"200": 3564, "503": 30, "499": 7, "421": 6, "404": 0, "101": 50}
        return [series(number, **{code: name}) for name, number in codes.items()]

    async def retention(self) -> float | None:
        return 10 * 86_400.0


def records(server: Server, *, drain: bool = True, create: Any = None) -> PrometheusRecords:
    async def created(body: Any) -> None:
        pass

    return PrometheusRecords(
        lambda _: server,
        gateway=IstioDialect(),
        drain=HerokuDrainDialect(("cutover-system",)) if drain else None,
        create=create or created,
        now=lambda _: END + 125.0,
    )


def plan(source: str | None = "Drain", **status: Any) -> Plan:
    fields = {"phase": Phase.PREFLIGHT, "attempt": 1, **status}
    baseline = {} if source is None else {"source": source}
    return builders.plan(baseline=baseline, status=MigrationPlanStatus(**fields))


def question(reader: PrometheusRecords, wanted: Plan) -> RecordQuestion:
    found = reader.question(wanted)
    assert isinstance(found, RecordQuestion)
    return found


@pytest.mark.parametrize("source", ["Drain", "Gateway"])
async def test_a_record_is_read_in_parts_and_every_answer_has_its_class(source: str) -> None:
    server = Server()
    reader, asking = records(server), plan(source)
    reading = await reader.read(asking, question(reader, asking), None)
    assert reading.record is not None
    assert (len(reading.record.hours), reading.record.reach.part, reading.record.source) == (336, 1.0, source)
    (counts,) = {hour.counts for hour in reading.record.hours}
    assert (counts.requests, counts.errors, counts.refused, counts.timed) == (3600, 36, 0, 3600)
    assert reading.record.hours[7].buckets == {10.0: 0, 25.0: 3600, 100.0: 3600, math.inf: 3600}
    assert reading.record.reach.until == END
    assert len(server.asked) == 3 * 7
    assert max(round((end - start) / HOUR) + 1 for _, start, end in server.asked) == MOST_HOURS
    for promql, *_ in server.asked:
        assert with_matchers(promql, {"cluster": "prod"}).count('cluster="prod"') == len(re.findall(r"\{", promql))


async def test_until_there_is_enough_only_the_reach_is_asked_for_and_once_an_hour_only_the_news() -> None:
    server = Server(hours=100)
    reader, asking = records(server), plan()
    reading = await reader.read(asking, question(reader, asking), None)
    assert (reading.record, reading.keeps_seconds) == (None, 864_000.0)
    assert reading.reach == Reach(END, (0,) * 236 + (60,) * 100)
    assert len(server.asked) == 7
    later = replace(question(reader, asking), until=END + 2 * HOUR)
    following = await reader.read(asking, later, reading)
    assert following.reach is not None
    assert following.reach.minutes == (0,) * 234 + (60,) * 102
    # The last known hour again, as its last scrape may have been missing, and the two that are new.
    assert [(start, end) for _, start, end in server.asked[7:]] == [(END, END + 2 * HOUR)]


async def test_hours_that_are_known_are_not_read_again() -> None:
    server = Server()
    reader, asking = records(server), plan()
    reading = await reader.read(asking, question(reader, asking), None)
    server.asked.clear()
    later = replace(question(reader, asking), until=END + HOUR)
    following = await reader.read(asking, later, reading)
    assert following.record is not None
    assert len(following.record.hours) == 336
    assert [(start, end) for _, start, end in server.asked] == [(END, END + HOUR)] * 3


async def test_queries_that_take_too_long_become_shorter() -> None:
    server = Server(slow_above=10)
    reader, asking = records(server), plan()
    reading = await reader.read(asking, question(reader, asking), None)
    assert reading.record is not None
    assert len(reading.record.hours) == 336
    hopeless = Server(slow_above=FEWEST_HOURS - 1)
    with pytest.raises(Unavailable, match="within 10 s"):
        await records(hopeless).read(asking, question(reader, asking), None)
    assert len(hopeless.asked) < 10


async def test_plans_take_turns() -> None:
    server = Server()
    reader, asking = records(server), plan()
    await asyncio.gather(*(reader.read(asking, question(reader, asking), None) for _ in range(5)))
    assert server.most_busy == 1


@pytest.mark.parametrize(
    "answer",
    [
        [{"metric": {}, "values": "none"}],
        [{"metric": {}}],
        [{"metric": {}, "values": [["x", "y"]]}],
        [{"metric": {}, "values": [[END, "NaN"]]}],
        [{"metric": {}, "values": [[END, "+Inf"]]}],
        ["nonsense"],
    ],
)
async def test_an_answer_that_is_none_is_an_outage_and_no_record(answer: Any) -> None:
    server = Server()
    server.answer = answer
    reader, asking = records(server), plan()
    with pytest.raises(Unavailable, match="not understood"):
        await reader.read(asking, question(reader, asking), None)


def test_who_asks_for_which_record_and_when() -> None:
    reader, asking = records(Server()), plan()
    assert reader.question(plan(None)) is None
    assert question(reader, asking) == RecordQuestion("Drain", "", "acme-pdf", ("cutover-system",), 336, 0.95)
    at_gateways = question(reader, plan("Gateway"))
    assert (at_gateways.leg, at_gateways.observers) == (builders.HEROKU_HOST, ("istio-ingress",))
    assert "set drain.namespace" in str(records(Server(), drain=False).question(asking))
    skipping = replace(asking, annotations={SKIP_ANNOTATION: "a1-w10/BaselineIncomplete"})
    assert question(reader, skipping).least == 0.0
    for other in ("a2-w10/BaselineIncomplete", "a1-w25/BaselineIncomplete", "a1-w10/Frozen", "nonsense"):
        assert question(reader, replace(asking, annotations={SKIP_ANNOTATION: other})).least == 0.95
    for status in (
        {"weight": 0},
        {"phase": Phase.PENDING},
        {"phase": Phase.SHIFTING, "weight": 10},
        {"failed_takeover": 1},
    ):
        assert reader.question(plan(**status)) is None
    kept = record_status(record(), "")
    known = BaselineStatus(since=kept.until, record=kept)
    after = question(reader, plan(phase=Phase.BASELINE, weight=0, baseline=known))
    assert (after.least, after.until) == (0.0, END)
    assert reader.question(plan(phase=Phase.BASELINE, weight=0, baseline=BaselineStatus(since=kept.until))) is None
    for verdict in ("Alike", "TooFew", "Skipped", "Differs", "Comparing"):
        takeover = ComparisonStatus(since=kept.until, verdict=verdict)  # type: ignore[arg-type]
        asked = reader.question(plan(phase=Phase.BASELINE, weight=0, baseline=known.evolve(takeover=takeover)))
        assert (asked is None) == (verdict in ("Alike", "TooFew", "Skipped"))


# --------------------------------------------------------------------------------------------------------------- kept


async def test_what_is_kept_already_is_kept_and_what_is_refused_is_told() -> None:
    made = list[dict[str, Any]]()

    async def create(body: dict[str, Any]) -> None:
        made.append(body)
        if len(made) > 1:
            raise Conflict("it exists")

    reader = records(Server(), create=create)
    names = [await reader.keep(plan(), record()) for _ in range(2)]
    assert names == [body["metadata"]["name"] for body in made]
    assert len(set(names)) == 1
    assert json.loads(made[0]["data"]["baseline.json"])["plan"] == "docs/pdf"
    for problem in (Gone("the namespace is gone"), Unavailable("missing permission")):

        async def refuse(body: Any, problem: Exception = problem) -> None:
            raise problem

        with pytest.raises(Unavailable, match=str(problem)):
            await records(Server(), create=refuse).keep(plan(), record())


# ----------------------------------------------------------------------------------------------------------- retention


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("15d", 1_296_000.0),
        ("2w1d", 1_296_000.0),
        ("10d or 50GiB", 864_000.0),
        ("50GiB", None),
        ("0s", None),
        ("", None),
        (7, None),
        ("a long time", None),
    ],
)
async def test_for_how_long_prometheus_keeps_samples(said: Any, seconds: float | None) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("GET", "/prefix/api/v1/status/runtimeinfo")
        return httpx.Response(200, json={"status": "success", "data": {"storageRetention": said}})

    client = PrometheusClient("http://prometheus/prefix", transport=httpx.MockTransport(answer))
    assert await client.retention() == seconds
    await client.close()


@pytest.mark.parametrize("status", [401, 404, 500, 503, 200])
async def test_a_server_that_does_not_tell_it_is_no_outage(status: int) -> None:
    client = PrometheusClient(
        "http://mimir", transport=httpx.MockTransport(lambda _: httpx.Response(status, text="no"))
    )
    assert await client.retention() is None
    await client.close()


async def test_a_server_that_is_away_tells_nothing_either() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    client = PrometheusClient("http://prometheus", transport=httpx.MockTransport(refuse))
    assert await client.retention() is None
    await client.close()


# ---------------------------------------------------------------------------------------------- beside a plan's loop


class Played:
    """:class:`cutover.ports.records.Records` that counts what is asked of it."""

    def __init__(self, rig: LoopRig, reading: RecordReading) -> None:
        self.rig, self.reading = rig, reading
        self.reads = self.kept = 0
        self.outage = ""

    def question(self, wanted: Plan) -> RecordQuestion | str | None:
        return records(Server()).question(wanted)

    async def read(self, wanted: Plan, asked: RecordQuestion, known: RecordReading | None) -> RecordReading:
        self.reads += 1
        if self.outage:
            raise Unavailable(self.outage)
        return self.reading

    async def keep(self, wanted: Plan, kept: Record) -> str:
        self.kept += 1
        if self.outage:
            raise Unavailable(self.outage)
        return "cutover-pdf-baseline-0123456789"


class Watched:
    """What a plan in preflight knows of its record as time passes."""

    def __init__(self, reading: RecordReading, **status: Any) -> None:
        fields = {"phase": Phase.PREFLIGHT, "attempt": 1, **status}
        self.rig = LoopRig(status=MigrationPlanStatus(**fields), now=END + 60.0)
        self.rig.spec["baseline"] = {"source": "Drain"}
        self.rig.deliver()
        self.rig.records = self.played = Played(self.rig, reading)
        ports = self.rig.ports()
        self.working = WorkingStatus(ports)
        self.observer = Observer(ports, self.working, lambda: None)

    async def look(self, seconds: float = 0.0, **status: Any) -> Observation:
        """Let time pass, and observe; twice, as answers come beside."""
        self.rig.now += seconds
        known = self.working.read(self.rig.watch)
        self.working.plan = replace(known, status=known.status.model_copy(update=status))
        seen, _ = await self.observer.look(self.working.plan)
        for _ in range(20):
            await asyncio.sleep(0)
        seen, _ = await self.observer.look(self.working.plan)
        return seen


async def test_a_record_that_is_too_short_is_asked_for_once_an_hour() -> None:
    w = Watched(RecordReading(Reach(END, (0,) * 336)))
    for _ in range(60):
        seen = await w.look(60)
        assert seen.record == w.played.reading
    assert w.played.reads == 1
    for _ in range(60):
        await w.look(60)
    assert (w.played.reads, w.played.kept) == (2, 0)
    w.observer.stop()


async def test_it_is_kept_once_and_stays_the_same_from_then_until_it_was_compared() -> None:
    known = record()
    w = Watched(RecordReading(known.reach, known))
    seen = await w.look()
    seen = await w.look()
    assert seen.kept == KeptRecord("cutover-pdf-baseline-0123456789")
    for _ in range(5):
        seen = await w.look(3600)
    assert (w.played.reads, w.played.kept) == (1, 1)
    recorded = BaselineStatus(since=datetime.fromtimestamp(END, UTC), record=record_status(known, "x"))
    after: dict[str, Any] = {"phase": Phase.BASELINE, "weight": 0, "baseline": recorded}
    seen = await w.look(**after)
    assert seen.record == RecordReading(known.reach, known)
    assert seen.kept is None
    assert (w.played.reads, w.played.kept) == (1, 1)
    takeover = ComparisonStatus(since=recorded.since, verdict="Alike")
    assert (await w.look(**{**after, "baseline": recorded.evolve(takeover=takeover)})).record is None
    w.observer.stop()


async def test_a_restarted_operator_reads_the_record_of_before_the_takeover_again() -> None:
    known = record()
    recorded = BaselineStatus(since=datetime.fromtimestamp(END, UTC), record=record_status(known, "x"))
    w = Watched(RecordReading(known.reach, known), phase=Phase.BASELINE, weight=0, baseline=recorded)
    assert (await w.look(86_400)).record == w.played.reading
    await w.look(7200)
    assert (w.played.reads, w.played.kept) == (1, 0)
    w.observer.stop()


async def test_while_a_plan_is_held_its_record_is_not_kept() -> None:
    known = record()
    w = Watched(
        RecordReading(known.reach, known),
        held=HeldStatus(reason="PreflightFailed", since=datetime.fromtimestamp(END, UTC)),
    )
    assert (await w.look()).kept is None
    await w.look()
    assert w.played.kept == 0
    w.observer.stop()


async def test_an_outage_is_told_and_tried_again_and_what_cannot_be_kept_says_why() -> None:
    known = record()
    w = Watched(RecordReading(known.reach, known))
    w.played.outage = "Prometheus at prometheus does not answer"
    seen = await w.look()
    assert seen.record == RecordReading(problem=w.played.outage)
    w.played.outage = ""
    for _ in range(3):
        seen = await w.look(10)
    assert seen.record == w.played.reading
    assert seen.kept is not None
    w.observer.stop()
    held = HeldStatus(reason="PreflightFailed", since=datetime.fromtimestamp(END, UTC))
    w = Watched(RecordReading(known.reach, known), held=held)
    await w.look()
    w.played.outage = "missing permission"
    await w.look(1, held=None)
    seen = await w.look(1, held=None)
    assert seen.kept == KeptRecord(problem="missing permission")
    w.observer.stop()


async def test_an_edited_plan_asks_anew_and_one_without_source_for_nothing() -> None:
    w = Watched(RecordReading(Reach(END, (0,) * 336)))
    await w.look(60)
    w.rig.spec["baseline"] = {"source": "Drain", "window": "1d"}
    w.rig.edit()
    w.rig.deliver()
    await w.look(1)
    assert w.played.reads == 2
    w.rig.spec["baseline"] = {}
    w.rig.edit()
    w.rig.deliver()
    assert (await w.look(1)).record is None
    w.observer.stop()
