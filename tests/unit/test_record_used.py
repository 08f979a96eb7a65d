"""What the app used beside its requests, and its releases, in Heroku's record."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import promql_parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import builders
from tests.kit.record import END, record

from cutover.adapters.dialects.heroku_drain.counters import HerokuDrainDialect
from cutover.adapters.dialects.heroku_drain.usage import DrainUsage
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.dialects.kubernetes.usage import ClusterUsage, PodUsage
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.baseline.document import LONGEST, document
from cutover.domain.baseline.record import HOUR, Record, RecordReading
from cutover.domain.baseline.released import (
    MOST_AT_ONCE,
    MOST_LISTED,
    Mark,
    Released,
    released,
    releases_text,
)
from cutover.domain.baseline.used import NOTHING, Quantity, Summary, Used, most_of, one_query, summary, with_record
from cutover.domain.dynos import DynoUse
from cutover.domain.engine.phases.record import record_status
from cutover.domain.heroku import Release
from cutover.domain.plan import Plan
from cutover.domain.slo.matchers import with_matchers
from cutover.ports.errors import QueryFailed, QueryRefused, Unavailable
from cutover.ports.records import RecordQuestion
from cutover.report.week import UsedBefore, read_week
from cutover.services.records import PrometheusRecords

MIB = 1024.0**2
DRAIN = HerokuDrainDialect(("cutover-system",))

# ---------------------------------------------------------------------------------------------------------- quantities


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], None),
        ([None, None], None),
        ([None, 3.0, 1.0, 2.0], Summary(2.0, 3.0, 1, 3)),
        ([2.0, 2.0], Summary(2.0, 2.0, 0, 2)),
        ([0.0], Summary(0.0, 0.0, 0, 1)),
    ],
)
def test_a_quantity_over_the_record(values: list[float | None], found: Summary | None) -> None:
    assert summary(values) == found


def test_the_limit_is_that_of_the_database_with_the_most_connections() -> None:
    small = Used(memory=1.0, connections=18.0, connection_limit=20.0, database="follower", throttled=0.5)
    large = Used(load=2.0, connections=110.0, connection_limit=400.0, database="main", dns=7.0)
    assert most_of([small, NOTHING, large]) == Used(1.0, None, 2.0, 110.0, 400.0, "main", None, 7.0, 0.5)
    assert most_of([]) == most_of([NOTHING]) == NOTHING


@pytest.mark.parametrize(
    ("use", "most", "found"),
    [
        (None, Used(memory=900.0), None),
        (DynoUse(500.0, 600.0, 1.0), NOTHING, DynoUse(500.0, 600.0, 1.0)),
        (DynoUse(500.0, 600.0, 1.0), Used(memory=599.0), DynoUse(500.0, 600.0, 1.0)),
        (DynoUse(500.0, 600.0, 1.0), Used(memory=900.0), DynoUse(500.0, 900.0, 1.0)),
    ],
)
def test_the_record_knows_of_more_memory_than_the_last_days(
    use: DynoUse | None, most: Used, found: DynoUse | None
) -> None:
    assert with_record(use, most) == found


# ------------------------------------------------------------------------------------------------------------ releases


def told(version: int, hour: float | None, what: str = "Deploy 1a2b3c4d") -> Release:
    at = None if hour is None else datetime.fromtimestamp(HOUR * hour, UTC)
    return Release(version, "slug", what, current=True, succeeded=True, at=at)


@pytest.mark.parametrize(
    ("seen", "api", "found"),
    [
        ([None, None], None, None),
        ([None, None], [], Released(0)),
        ([0, 0], None, Released(0)),
        ([41, 41], None, Released(0)),  # it was made before
        ([41, 42, 42], None, Released(1, (Mark(HOUR, 42),))),
        ([0, 0, 42], None, Released(1, (Mark(2 * HOUR, 42),))),
        ([0, 42, None, 0, 42], None, Released(1, (Mark(HOUR, 42),))),  # a replica began anew
        ([41, None, 43], None, Released(2, (Mark(2 * HOUR, 42), Mark(2 * HOUR, 43)))),
        ([None, None], [told(42, 0.5), told(41, -3.0)], Released(1, (Mark(0.5 * HOUR, 42, "Deploy 1a2b3c4d"),))),
        ([41, 41], [told(42, 2.0)], Released(0)),  # after its end
        ([41, 42], [told(42, 0.9)], Released(1, (Mark(0.9 * HOUR, 42, "Deploy 1a2b3c4d"),))),
        ([0, 42], [told(42, -0.1)], Released(0)),  # seen late
        ([41, 42], [told(42, None)], Released(1, (Mark(HOUR, 42),))),
        ([41, 42], [replace(told(42, 1.0), succeeded=False)], Released(0)),
    ],
)
def test_releases_within_the_record(seen: list[int | None], api: list[Release] | None, found: Released | None) -> None:
    hours = [(HOUR * number, version) for number, version in enumerate(seen)]
    assert released(hours, api, HOUR * len(seen)) == found


@given(
    st.lists(st.none() | st.integers(0, 2**40), min_size=1, max_size=30),
    st.none() | st.lists(st.tuples(st.integers(0, 2**40), st.none() | st.floats(-5, 40)), max_size=30),
)
def test_releases_are_bounded_in_order_and_within_the_record(
    seen: list[int | None], api: list[tuple[int, float | None]] | None
) -> None:
    hours = [(HOUR * number, version) for number, version in enumerate(seen)]
    found = released(hours, None if api is None else [told(*one) for one in api], HOUR * len(seen))
    if found is None:
        assert api is None
        return
    assert len(found.newest) == min(found.number, MOST_LISTED)
    assert found.number <= MOST_AT_ONCE * len(seen) + len(api or ())
    assert list(found.newest) == sorted(found.newest, key=lambda mark: (mark.at, mark.version))
    assert all(0 <= mark.at < HOUR * len(seen) for mark in found.newest)


def test_the_mark_that_a_record_bears() -> None:
    last = datetime(2027, 1, 9, 14, 5, tzinfo=UTC)
    assert releases_text(0, None) == releases_text(3, None) == ""
    assert releases_text(1, last) == "the record spans a release, on 2027-01-09 14:05 UTC"
    assert releases_text(3, last) == "the record spans 3 releases, the last on 2027-01-09 14:05 UTC"


# ------------------------------------------------------------------------------------------------------------- queries


@pytest.mark.parametrize("usage", [DrainUsage(DRAIN), ClusterUsage(), PodUsage()])
def test_queries_are_promql_and_take_the_settings_matchers(usage: Any) -> None:
    queries = usage.usage(builders.plan(), 3600.0)
    promql_parser.parse(one_query(queries))
    for query in queries.values():
        assert with_matchers(query, {"cluster": "prod"}).count('cluster="prod"') >= 1


def test_gauges_of_heroku_count_only_from_the_drains_own_targets() -> None:
    for query in DrainUsage(DRAIN).usage(builders.plan(), 3600.0).values():
        gauges = query.count('app=~"acme-pdf"')
        assert gauges >= 1
        assert query.count("and on (namespace, pod, job, instance) max_over_time(heroku_drain_serving") == gauges
        assert query.count('namespace=~"cutover-system"') == 2 * gauges


# ------------------------------------------------------------------------------------------------------------- reading


class Server:
    """Answers whole hours, and what was used by the number of the hour."""

    def __init__(self, used: dict[tuple[str, str], Sequence[float]] | Exception | list[Any]) -> None:
        self.used = used
        self.asked = 0

    async def query_range(self, promql: str, start: float, end: float, step: float) -> list[Any]:
        ends = [start + step * n for n in range(round((end - start) / step) + 1)]
        if promql.startswith("label_replace"):
            self.asked += 1
            if isinstance(self.used, Exception):
                raise self.used
            if isinstance(self.used, list):
                return self.used
            return [
                {
                    "metric": {"what": what, **({"addon": addon} if addon else {})},
                    "values": [[at, str(values[round((END - at) / HOUR) % len(values)])] for at in ends],
                }
                for (what, addon), values in self.used.items()
            ]
        if promql.startswith("count_over_time"):
            return [{"metric": {}, "values": [[at, "60"] for at in ends]}]
        if promql.startswith("sum by (le"):
            return [{"metric": {"le": "+Inf"}, "values": [[at, "3600"] for at in ends]}]
        return [{"metric": {"code": "200"}, "values": [[at, "3600"] for at in ends]}]

    async def retention(self) -> float | None:
        return None


class Heroku:
    """:class:`cutover.ports.heroku.HerokuApi` as far as records ask it."""

    def __init__(self, *releases: Release, key: bool = True, away: bool = False) -> None:
        self.known, self.key, self.away = releases, key, away
        self.asked = 0

    def has_key(self, plan: Plan) -> bool:
        return self.key

    async def releases(self, plan: Plan) -> tuple[Release, ...]:
        self.asked += 1
        if self.away:
            raise Unavailable("Heroku's API did not answer within 10 s")
        return self.known


PLAN = builders.plan(
    baseline={"source": "Drain", "window": "48h"}, status=MigrationPlanStatus(phase=Phase.PREFLIGHT, attempt=1)
)


def reader(server: Server, heroku: Heroku | None = None, *, asks: bool = True) -> PrometheusRecords:
    async def create(body: Any) -> None:
        raise AssertionError

    return PrometheusRecords(
        lambda _: server,
        gateway=IstioDialect(),
        drain=DRAIN,
        create=create,
        now=lambda _: END + 125.0,
        usage=[DrainUsage(DRAIN), ClusterUsage()] if asks else [],
        heroku=heroku,  # type: ignore[arg-type]
    )


async def read(
    server: Server, heroku: Heroku | None = None, known: RecordReading | None = None, *, asks: bool = True
) -> Record:
    records = reader(server, heroku, asks=asks)
    question = records.question(PLAN)
    assert isinstance(question, RecordQuestion)
    found = (await records.read(PLAN, question, known)).record
    assert found is not None
    return found


USED: dict[tuple[str, str], Sequence[float]] = {
    (Quantity.MEMORY, ""): [384 * MIB, 480 * MIB],
    (Quantity.QUOTA, ""): [512 * MIB],
    (Quantity.LOAD, ""): [0.4],
    (Quantity.CONNECTIONS, "follower"): [3.0],
    (Quantity.CONNECTIONS, "main"): [11.0],
    (Quantity.CONNECTION_LIMIT, "main"): [400.0],
    (Quantity.VERSION, ""): [43.0] * 10 + [42.0] * 40,
    (Quantity.DNS, ""): [120.5],
    (Quantity.THROTTLED, ""): [math.nan],
}


async def test_what_was_used_is_in_the_record_the_document_and_the_report() -> None:
    server = Server(USED)
    found = await read(server)
    assert server.asked == 1  # for two days
    assert found.hours[-1].used == Used(384 * MIB, 512 * MIB, 0.4, 11.0, 400.0, "main", 43, 120.5)
    assert found.most.memory == 480 * MIB
    assert found.released == Released(1, (Mark(END - 10 * HOUR, 43),))
    kept = json.loads(document(found, plan="docs/pdf", app="acme-pdf"))
    assert kept["used"]["memoryMiB"] == {"usual": 432, "most": 480, "hour": "Sat 10:00", "hours": 48, "quota": 512}
    assert kept["used"]["connections"].items() >= {"most": 11, "database": "main", "limit": 400}.items()
    assert kept["used"].keys() == {"memoryMiB", "load", "connections", "clusterDnsPerSecond"}
    assert kept["releases"] == {"number": 1, "newest": [{"at": "2027-01-11T00:00:00Z", "version": 43}]}
    assert "usedMissing" not in kept
    monday = next(hour for hour in kept["week"] if hour["hour"] == "Mon 09:00")
    assert monday.items() >= {"memoryMiB": 384, "load": 0.4, "connections": 11, "clusterDnsPerSecond": 120.5}.items()
    status = record_status(found, "")
    assert (status.releases, status.last_release) == (1, datetime(2027, 1, 11, tzinfo=UTC))
    week = read_week(json.dumps(kept))
    assert week is not None
    assert week.used["memoryMiB"] == UsedBefore(432, 480, 512)
    assert week.used["connections"].limit == 400


async def test_without_metrics_a_record_is_whole() -> None:
    for server in (Server({}), Server([])):
        found = await read(server)
        assert (found.most, found.released, found.unread) == (NOTHING, None, "")
        kept = json.loads(document(found, plan="docs/pdf", app="acme-pdf"))
        assert not {"used", "usedMissing", "releases"} & kept.keys()
        assert kept == json.loads(document(await read(server, asks=False), plan="docs/pdf", app="acme-pdf"))
        assert (record_status(found, "").releases, record_status(found, "").last_release) == (None, None)


@pytest.mark.parametrize("failed", [QueryFailed("too many samples"), QueryRefused("parse error")])
async def test_a_query_that_fails_costs_what_was_used_and_not_the_record(failed: Exception) -> None:
    server = Server(failed)
    found = await read(server)
    assert (found.total.requests, found.most, found.unread) == (48 * 3600, NOTHING, str(failed))
    assert server.asked <= 8
    assert json.loads(document(found, plan="docs/pdf", app="acme-pdf"))["usedMissing"] == str(failed)
    # It stays said where only the newest hours are read anew, with an answer.
    later = await read(Server(USED), known=RecordReading(found.reach, found))
    assert later.unread == str(failed)
    assert [hour.used == NOTHING for hour in later.hours] == [True] * 47 + [False]


async def test_an_outage_is_one_of_the_record() -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        await read(Server(Unavailable("Prometheus does not answer")))


@pytest.mark.parametrize(
    "answer", [["nonsense"], [{"metric": {}, "values": []}], [{"metric": {"what": "memory"}, "values": [["x", "y"]]}]]
)
async def test_an_answer_that_is_none_costs_no_more(answer: list[Any]) -> None:
    found = await read(Server(answer))
    assert (found.total.requests, found.most) == (48 * 3600, NOTHING)
    assert "not understood" in found.unread


async def test_what_others_wrote_is_bounded_and_clean() -> None:
    used: dict[tuple[str, str], Sequence[float]] = {
        (Quantity.MEMORY, ""): [1e300, -5.0],
        (Quantity.LOAD, ""): [math.inf],
        (Quantity.CONNECTIONS, "x" * 10_000 + "\n\x1b[31m"): [1e18],
        (Quantity.VERSION, ""): [1e300, 5.0],
    }
    found = await read(Server(used))
    text = document(found, plan="docs/pdf", app="acme-pdf")
    kept = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert len(kept["used"]["connections"]["database"]) <= 64
    assert "\\u001b" not in text
    assert "load" not in kept["used"]
    assert found.hours[0].used.memory == 0.0
    assert found.released == Released(0)


async def test_releases_are_heroku_apis_where_it_answers() -> None:
    at = datetime.fromtimestamp(END - 10.5 * HOUR, UTC)
    release = Release(43, "slug", "Deploy 5e6f7a8b", current=True, succeeded=True, at=at)
    heroku = Heroku(release)
    found = await read(Server(USED), heroku)
    assert heroku.asked == 1
    assert found.released == Released(1, (Mark(at.timestamp(), 43, "Deploy 5e6f7a8b"),))
    assert json.loads(document(found, plan="docs/pdf", app="acme-pdf"))["releases"]["newest"][0]["what"] == (
        "Deploy 5e6f7a8b"
    )
    without = Heroku(release, key=False)
    for silent in (Heroku(away=True), without):
        assert (await read(Server(USED), silent)).released == Released(1, (Mark(END - 10 * HOUR, 43),))
    assert without.asked == 0


def test_a_document_of_all_that_there_may_be_is_bounded() -> None:
    known = record(14)
    used = Used(1.234e15, 1.2e15, 1.234e9, 1.234e9, 1e9, "d" * 64, 1, 1.234e9, 0.1234)
    marks = tuple(Mark(END - n * HOUR, 10**9 - n, "W" * 120) for n in range(MOST_LISTED))
    full = replace(
        known,
        hours=tuple(replace(hour, used=used) for hour in known.hours),
        most=used,
        released=Released(9999, marks),
        unread="r" * 5000,
    )
    text = document(full, plan="d" * 63 + "/" + "p" * 63, app="a" * 30)
    assert len(text.encode()) < LONGEST
    assert len(json.loads(text)["usedMissing"]) <= 300


def test_a_document_of_before_is_read_by_the_report() -> None:
    text = document(record(14), plan="docs/pdf", app="acme-pdf")
    week = read_week(text)
    assert week is not None
    assert (len(week.hours), week.used) == (168, {})
    odd = json.loads(text)
    for used in ({"memoryMiB": {}}, {"memoryMiB": {"usual": "x", "most": 1}}, [], {"load": 3}):
        assert read_week(json.dumps({**odd, "used": used})) is None
