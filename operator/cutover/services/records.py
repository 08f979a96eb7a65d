"""Reads Heroku's record of the time before the takeover from Prometheus.

First how far it reaches back, by the minute and as a count for each hour: a cheap query that is made once an hour while a
plan waits for its record. What was counted is read once there is enough of it, some days at a time, so that each query is
short. Plans take turns, and use the connections of custom SLOs: blocks never wait for it. What was used besides, and the
releases, are read with the hours; a record is whole without them.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from msgspec.structs import fields

from cutover.api.v1alpha1 import BaselineSource
from cutover.domain.baseline.document import LONGEST, config_map, document
from cutover.domain.baseline.record import HOUR, MINUTES, Hour, Reach, Record, RecordReading
from cutover.domain.baseline.released import released
from cutover.domain.baseline.used import NOTHING, Quantity, Used, most_of, one_query
from cutover.domain.engine.wanted import least_coverage, record_until
from cutover.domain.evidence.answers import Answer, Codes
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.scrapes import Result
from cutover.domain.evidence.tolerances import codes
from cutover.domain.heroku import Release
from cutover.domain.plan import Plan
from cutover.domain.resources import Json
from cutover.domain.texts import plain, shorten
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.errors import Conflict, Gone, QueryFailed, QueryRefused, Unavailable
from cutover.ports.heroku import HerokuApi
from cutover.ports.prometheus import unavailable_if_malformed
from cutover.ports.records import RecordQuestion, UsageQueries

#: Hours that are read at once, at most and at least. Where Prometheus does not answer, the span is halved.
MOST_HOURS, FEWEST_HOURS = 48, 3
#: A minute is recorded if there was a scrape in it; with a scrape interval of a minute the scrapes jitter.
_SCRAPED_WITHIN = "90s"
#: Losses are seen by two scrapes, of which the first is before the minute.
_LOST_WITHIN = "2m"
#: Labels of one target that several servers or jobs scrape: its requests count once.
_TARGET = "namespace, pod, instance"
_SCRAPE = f"{_TARGET}, job, prometheus_replica, replica"
_JOINED = "namespace, pod, job, instance"
#: Characters of an add-on's name that are kept.
_LONGEST_NAME = 64
#: Numbers of releases are below it, as the drain reads nine digits.
_MOST_VERSION = 1e9


class RecordServer(Protocol):
    """What is asked of a Prometheus server."""

    async def query_range(self, promql: str, start: float, end: float, step: float) -> Result:
        """Evaluate an expression from ``start`` to ``end`` every ``step`` seconds. Raises QueryRefused, Unavailable."""

    async def retention(self) -> float | None:
        """Return for how many seconds the server keeps samples; ``None`` if it does not tell. Raises nothing."""


class PrometheusRecords:
    """:class:`cutover.ports.records.Records` from Prometheus' servers.

    Parameters
    ----------
    servers
        Returns the client of a server by name. Raises Unavailable.
    gateway, drain
        What to ask for each source; ``drain`` is ``None`` where the operator knows of no drain.
    create
        Creates a ConfigMap. Raises Conflict where it exists, Gone, Unavailable.
    now
        Returns Unix seconds by a server's clock.
    usage
        What to ask for beside the requests.
    heroku
        Knows when releases were made; ``None`` to ask the drain alone.
    """

    def __init__(
        self,
        servers: Callable[[str], RecordServer],
        *,
        gateway: Dialect,
        drain: Dialect | None,
        create: Callable[[Json], Awaitable[object]],
        now: Callable[[str], float],
        usage: Sequence[UsageQueries] = (),
        heroku: HerokuApi | None = None,
    ) -> None:
        self._servers = servers
        self._dialects = {BaselineSource.GATEWAY: gateway, BaselineSource.DRAIN: drain}
        self._create = create
        self._now = now
        self._usage = usage
        self._heroku = heroku
        self._turn = asyncio.Semaphore(1)

    def question(self, plan: Plan) -> RecordQuestion | str | None:
        """Return which record a plan asks for; ``None`` if it asks for none, and why there can be none as a text."""
        source, least = plan.spec.baseline.source, least_coverage(plan)
        if source is None or least is None:
            return None
        dialect = self._dialects[source]
        if dialect is None:
            return (
                "baseline.source is Drain, and the operator knows of no drain: set drain.namespace in its chart to where"
                " cutover-drain runs"
            )
        counted = dialect.subscription(plan)
        hours = math.ceil(plan.spec.baseline.window.total_seconds() / HOUR)
        return RecordQuestion(
            source, counted.source, counted.heroku, counted.observers, hours, least, record_until(plan.status)
        )

    async def read(self, plan: Plan, question: RecordQuestion, known: RecordReading | None) -> RecordReading:
        """Read how far a record reaches back and, where that is enough, its hours. Raises Unavailable."""
        dialect = self._dialects[BaselineSource(question.source)]
        assert dialect is not None, "there is no question without it"
        async with self._turn:
            server = self._servers(question.prometheus)
            until = question.until or math.floor(self._now(question.prometheus) / HOUR) * HOUR
            reader = _Reader(server, dialect, dialect.subscription(plan), codes(plan.spec))
            minutes = await reader.minutes(until, question.hours, known.reach if known is not None else None)
            reach = Reach(until, minutes)
            if reach.part < question.least:
                return RecordReading(reach, keeps_seconds=await server.retention())
            before = known.record if known is not None else None
            usage = {what: query for one in self._usage for what, query in one.usage(plan, HOUR).items()}
            hours, unread = await reader.hours(reach, before, usage)
        releases = released([(hour.start, hour.used.version) for hour in hours], await self._told(plan), until)
        return RecordReading(
            reach,
            Record(question.source, reach, hours, most_of(hour.used for hour in hours), releases, unread),
        )

    async def keep(self, plan: Plan, record: Record) -> str:
        """Keep a record in full in a ConfigMap, and return its name. Raises Unavailable."""
        # It takes some 20 ms, for which no other plan should wait.
        text = await asyncio.to_thread(document, record, plan=plan.key, app=plan.spec.heroku.app)
        if len(text.encode()) > LONGEST:
            raise Unavailable(f"the record is longer than {LONGEST >> 10} KiB")
        body = config_map(text, plan=plan.name, namespace=plan.namespace, uid=plan.uid)
        try:
            with contextlib.suppress(Conflict):  # it is named after what it says, and cannot be changed
                await self._create(body)
        except Gone as gone:
            raise Unavailable(str(gone)) from gone
        name: str = body["metadata"]["name"]
        return name

    async def _told(self, plan: Plan) -> tuple[Release, ...] | None:
        """Return the newest releases by Heroku's API; ``None`` without a key, and where it does not answer."""
        if self._heroku is None or not self._heroku.has_key(plan):
            return None
        try:
            return await self._heroku.releases(plan)
        except Unavailable:
            return None  # the plan's other questions to this API say why


#: What was measured in an hour, by the quantity and, for databases, the add-on.
_Measured: TypeAlias = dict[tuple[str, str], float]


class _Reader:
    """Reads one record."""

    def __init__(self, server: RecordServer, dialect: Dialect, counted: BlockSubscription, plan_codes: Codes) -> None:
        self._server, self._dialect, self._counted, self._codes = server, dialect, counted, plan_codes
        self._code = next(field.encode_name for field in fields(dialect.labels) if field.name == "code")

    async def minutes(self, until: float, hours: int, known: Reach | None) -> tuple[int, ...]:
        """Return the recorded minutes of each hour before ``until``."""
        ends = [until - HOUR * number for number in reversed(range(hours))]
        found = {} if known is None else {known.start + HOUR * (n + 1): m for n, m in enumerate(known.minutes)}
        # The last hour that is known may have been read before its last scrape was there.
        missing = [end for end in ends if end not in found or (known is not None and end >= known.until)]
        expression = f"count_over_time(({self._recorded()})[1h:1m])"
        async for result in self._in_parts(expression, missing):
            with unavailable_if_malformed(self._dialect.labels.product):
                for item in result:
                    for at, value in item["values"]:
                        found[float(at)] = min(round(_number(value)), MINUTES)
        return tuple(found.get(end, 0) for end in ends)

    async def hours(
        self, reach: Reach, known: Record | None, usage: Mapping[Quantity, str]
    ) -> tuple[tuple[Hour, ...], str]:
        """Return the hours of a record, of which only those are read that are not known; and why what was used is missing."""
        every = [reach.start + HOUR * (number + 1) for number in range(len(reach.minutes))]
        # As above, the last hour is read again.
        found = {one.start + HOUR: one for one in known.hours[:-1]} if known is not None else {}
        ends = [end for end in every if end not in found]
        counts: dict[float, Counts] = {}
        buckets: dict[float, dict[float, float]] = {}
        requests = self._dialect.counters([self._counted], [self._counted.heroku])[0]
        async for result in self._in_parts(self._increase(requests, self._code), ends):
            with unavailable_if_malformed(self._dialect.labels.product):
                for item in result:
                    answer = self._codes.answer_of(item["metric"].get(self._code, ""), heroku=True)
                    for at, value in item["values"]:
                        end = float(at)
                        counts[end] = counts.get(end, Counts()) + _counts(answer, _number(value))
        async for result in self._in_parts(
            self._increase(self._dialect.heroku_latencies(self._counted), "le", self._code), ends
        ):
            with unavailable_if_malformed(self._dialect.labels.product):
                for item in result:
                    if self._codes.answer_of(item["metric"].get(self._code, ""), heroku=True) is Answer.NOBODY:
                        continue
                    bound = self._dialect.labels.milliseconds(item["metric"]["le"])
                    for at, value in item["values"]:
                        here = buckets.setdefault(float(at), {})
                        here[bound] = here.get(bound, 0.0) + _number(value)
        used, unread = await self._used(usage, ends)
        hours = tuple(
            found.get(end)
            or Hour.of(
                end - HOUR, minutes, counts.get(end, Counts()), buckets.get(end, {}), _used_in(used.get(end, {}))
            )
            for end, minutes in zip(every, reach.minutes, strict=True)
        )
        return hours, unread or (known.unread if known is not None else "")

    async def _used(self, usage: Mapping[Quantity, str], ends: list[float]) -> tuple[dict[float, _Measured], str]:
        """Return what was measured by the ends of hours, all in one query; and why some of it is missing."""
        found: dict[float, _Measured] = {}
        try:
            async for result in self._in_parts(one_query(usage), ends if usage else []):
                with unavailable_if_malformed("the drain, cAdvisor or CoreDNS"):
                    for item in result:
                        what, addon = item["metric"]["what"], item["metric"].get("addon", "")
                        for at, value in item["values"]:
                            number = float(value)
                            if math.isfinite(number):
                                found.setdefault(float(at), {})[what, addon] = max(number, 0.0)
        except QueryFailed as failed:  # an outage is another matter: then nothing of the record can be read
            return found, str(failed)
        return found, ""

    async def _in_parts(self, expression: str, ends: list[float]) -> AsyncIterator[Result]:
        """Yield the results for whole hours, some days at a time."""
        position, longest = 0, MOST_HOURS
        while position < len(ends):
            part = ends[position : position + longest]
            try:
                result = await self._server.query_range(expression, part[0], part[-1], HOUR)
            except QueryRefused:
                raise
            except QueryFailed:
                if longest <= FEWEST_HOURS:
                    raise
                longest = max(longest // 2, FEWEST_HOURS)
                continue
            yield result
            position += len(part)

    def _recorded(self) -> str:
        """Return the expression that has a value in each minute of record: what counts was scraped, and nothing was lost.

        It begins with the first counter of the app: what was scraped before counted nothing of it.
        """
        presence = self._dialect.presence(self._counted.observers)
        losses = self._dialect.losses(self._counted)
        requests = self._dialect.counters([self._counted], [self._counted.heroku])[0]
        # A drain has counters of losses for each of its apps from the start, and of requests once there was one.
        known = losses or requests
        scraped = f"count(max_over_time({presence}[{_SCRAPED_WITHIN}]) == 1)"
        expression = f"{scraped} and on () count(count_over_time({known}[{_SCRAPED_WITHIN}]))"
        if losses:
            expression += f" unless on () (sum(increase({losses}[{_LOST_WITHIN}])) > 0)"
        return expression

    def _increase(self, selector: str, *labels: str) -> str:
        """Return the expression for the increase of an hour, of scrape targets that were scraped, each counted once."""
        kept = ", ".join(labels)
        present = f"max_over_time({self._dialect.presence(self._counted.observers)}[1h])"
        increase = f"increase({selector}[1h]) and on ({_JOINED}) {present}"
        return f"sum by ({kept}) (max by ({_TARGET}, {kept}) (sum by ({_SCRAPE}, {kept}) ({increase})))"


def _used_in(measured: _Measured) -> Used:
    """Return what was used in an hour. Of several databases it is the one with the most connections."""
    if not measured:
        return NOTHING
    connections = {addon: value for (what, addon), value in measured.items() if what == Quantity.CONNECTIONS}
    database = max(connections, key=lambda addon: (connections[addon], addon), default="")
    version = measured.get((Quantity.VERSION, ""))
    return Used(
        memory=measured.get((Quantity.MEMORY, "")),
        quota=measured.get((Quantity.QUOTA, "")),
        load=measured.get((Quantity.LOAD, "")),
        connections=connections.get(database),
        connection_limit=measured.get((Quantity.CONNECTION_LIMIT, database)),
        # It is the same in hundreds of hours.
        database=sys.intern(shorten(plain(database), _LONGEST_NAME)),
        version=round(version) if version is not None and version < _MOST_VERSION else None,
        dns=measured.get((Quantity.DNS, "")),
        throttled=measured.get((Quantity.THROTTLED, "")),
    )


def _number(value: object) -> float:
    """Return a count. Raises ValueError, TypeError."""
    number = float(str(value))
    if not math.isfinite(number):
        raise ValueError(f"{value} is no count")
    return max(number, 0.0)


def _counts(answer: Answer, number: float) -> Counts:
    match answer:
        case Answer.ERROR:
            return Counts(requests=number, errors=number)
        case Answer.REFUSED:
            return Counts(requests=number, refused=number)
        case Answer.REDIRECTED:
            return Counts(requests=number, redirected=number)
        case Answer.THROTTLED:
            return Counts(requests=number, throttled=number)
        case Answer.EXCEPTED:
            return Counts(requests=number, excepted=number)
        case Answer.NOBODY:
            return Counts()
        case Answer.OK:
            return Counts(requests=number)
