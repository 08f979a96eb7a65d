"""The counts as Prometheus' metrics.

They are read from the counts when Prometheus scrapes: a client library's counters, asked for by their labels for each line,
would take most of the time.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from cutover.drain.counts import BOUNDS, AppCounts, Times
from cutover.drain.frames import BROKEN, OVERFLOW, Record
from cutover.drain.messages import KINDS, UNREADABLE
from cutover.drain.platform_lines import DYNO_SAMPLES, POSTGRES_SAMPLES, REDIS_SAMPLES

#: Reasons that are exported as 0 from the start, so that their first rise is seen.
_REASONS = (OVERFLOW, "L11", "L12", "L13", BROKEN, UNREADABLE)


class Exposition(Collector):
    """Makes the metrics.

    Parameters
    ----------
    record
        The counts.

    Attributes
    ----------
    ending
        Whether the process takes no more frames, and its counts are final.
    configured
        Whether the file of credentials is as it was read last.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self.ending = False
        self.configured = True

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, while another thread counts on."""
        apps = sorted(self._record.apps.items())
        yield from self._process()
        yield from _coverage(apps)
        yield from _router(apps)
        yield from _platform(apps, self._record.monotonic())

    def _process(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("heroku_drain_serving", "1: this process was scraped.", value=1.0)
        yield GaugeMetricFamily(
            "heroku_drain_ending", "1 where the process takes no more frames and its counts are final.", self.ending
        )
        yield GaugeMetricFamily(
            "heroku_drain_configured",
            "0 where the file of credentials is wrong and an older one holds.",
            self.configured,
        )
        refused = CounterMetricFamily(
            "heroku_drain_refused_requests", "Requests that were refused, by reason.", labels=["reason"]
        )
        for reason, number in self._record.refused.items():
            refused.add_metric([reason], number)
        yield refused


_Apps = list[tuple[str, AppCounts]]


def _coverage(apps: _Apps) -> Iterator[Metric]:
    lines = CounterMetricFamily(
        "heroku_drain_lines", "Messages that were read, by who wrote them.", labels=["app", "kind"]
    )
    size = CounterMetricFamily("heroku_drain_bytes", "Bytes of the frames that were counted.", labels=["app"])
    frames = CounterMetricFamily("heroku_drain_frames", "Frames that were taken.", labels=["app", "result"])
    dropped = CounterMetricFamily(
        "heroku_drain_dropped_messages",
        "Messages that are in no count: told by Logplex (L10 to L13), or refused or not understood here. A minute in which it"
        " rises is not a minute of record.",
        labels=["app", "reason"],
    )
    late = CounterMetricFamily(
        "heroku_drain_late_messages", "Messages that came over a minute after they were written.", labels=["app"]
    )
    for app, counts in apps:
        for kind, number in {**dict.fromkeys(KINDS, 0), **counts.lines}.items():
            lines.add_metric([app, kind], number)
        for result, number in list(counts.frames.items()):
            frames.add_metric([app, result], number)
        for reason, number in {**dict.fromkeys(_REASONS, 0), **counts.dropped}.items():
            dropped.add_metric([app, reason], number)
        size.add_metric([app], counts.size)
        late.add_metric([app], counts.late)
    yield from (lines, size, frames, dropped, late)


def _router(apps: _Apps) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "heroku_router_requests",
        "Requests at Heroku's router, by the status of the answer and Heroku's error code.",
        labels=["app", "code", "error"],
    )
    answered = CounterMetricFamily("heroku_router_bytes", "Bytes of the answers.", labels=["app"])
    service = HistogramMetricFamily(
        "heroku_router_service_seconds",
        "From the router's connection to the dyno to the answer's end, without 101 and 499.",
        labels=["app"],
    )
    connect = HistogramMetricFamily(
        "heroku_router_connect_seconds",
        "Until the router was connected to a dyno, with its queue, without 101 and 499.",
        labels=["app"],
    )
    for app, counts in apps:
        for (code, error), number in list(counts.requests.items()):
            requests.add_metric([app, code, error], number)
        answered.add_metric([app], counts.answered)
        for family, times in ((service, counts.service), (connect, counts.connect)):
            family.add_metric([app], _buckets(times), times.total / 1000)
    yield from (requests, answered, service, connect)


def _buckets(times: Times) -> list[tuple[str, float]]:
    numbers, shared, total, found = list(times.buckets), times.shared, 0, []
    for place, (bound, number) in enumerate(zip((*BOUNDS, float("inf")), numbers, strict=True)):
        total += number
        if bound == float("inf"):
            found.append(("+Inf", float(total)))
        elif place in shared:
            found.append((f"{bound / 1000:g}", float(total)))
    return found


def _platform(apps: _Apps, now: float) -> Iterator[Metric]:
    events = CounterMetricFamily(
        "heroku_dyno_events",
        "Errors of dynos (R14, R15, …), and how they start and end; of one-off dynos by their type.",
        labels=["app", "dyno", "event"],
    )
    releases = CounterMetricFamily("heroku_releases", "Releases that were made.", labels=["app"])
    version = GaugeMetricFamily("heroku_release_version", "The newest release that was seen.", labels=["app"])
    for app, counts in apps:
        for (dyno, event), number in list(counts.events.items()):
            events.add_metric([app, dyno, event], number)
        releases.add_metric([app], counts.releases)
        if counts.release_version:
            version.add_metric([app], counts.release_version)
    yield from (events, releases, version)
    for prefix, label, names, gauges in (
        ("heroku_dyno", "dyno", DYNO_SAMPLES, [one.dynos for _, one in apps]),
        ("heroku_postgres", "addon", POSTGRES_SAMPLES, [one.postgres for _, one in apps]),
        ("heroku_redis", "addon", REDIS_SAMPLES, [one.redis for _, one in apps]),
    ):
        families = {
            name: GaugeMetricFamily(
                f"{prefix}_{name}", "The newest sample of the last five minutes.", labels=["app", label]
            )
            for name in names.values()
        }
        for (app, _), samples in zip(apps, gauges, strict=True):
            for name, metric, value in samples.current(now):
                families[metric].add_metric([app, name], value)
        yield from (family for family in families.values() if family.samples)
