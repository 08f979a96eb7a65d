"""Two weeks of the drain's metrics, as a Prometheus has them that has scraped a drain all along."""

from __future__ import annotations

import math
from collections.abc import Callable

from tests.kit.remote_write import Series

#: The service whose app has a record, and where the drain runs that made it.
RECORDED, DRAIN_NAMESPACE = "recorded", "cutover-system"
INTERVAL, DAYS = 60.0, 14
#: Requests of a minute, and of a thousand how many fail.
RATE, FAILED = 600.0, 1.0
MEBIBYTE = 1024.0**2
#: Days before the end at which a release was made, and at which the dynos used most memory.
RELEASED, MOST_MEMORY = 5.0, 9.5
#: MiB of memory: usually, at most, and the quota.
MEMORY, PEAK, QUOTA = 384.0, 501.0, 512.0


def two_weeks(app: str, end: float) -> Series:
    """Return what one replica of the drain counted of an app.

    Parameters
    ----------
    app
        The app's name.
    end
        Unix seconds of the last scrape.
    """
    number = round(DAYS * 86_400 / INTERVAL) + 120  # it is the hours that must be whole
    times = [end - INTERVAL * (number - 1 - n) for n in range(number)]
    target = {"namespace": DRAIN_NAMESPACE, "pod": "drain-0", "instance": "10.0.0.1:9090", "job": "drain"}
    series: Series = {}

    def add(name: str, value: Callable[[int], float], every: int = 1, **labels: str) -> None:
        key = tuple({"__name__": name, **target, **labels}.items())
        series[key] = [(times[n], value(n)) for n in range(0, number, every)]

    def days_before(n: int) -> float:
        return (end - times[n]) / 86_400

    add("heroku_drain_serving", lambda _: 1.0)
    add("heroku_drain_dropped_messages_total", lambda _: 0.0, app=app, reason="L10")
    for code, part in (("200", 1 - FAILED / 1000), ("503", FAILED / 1000)):
        add(
            "heroku_router_requests_total",
            lambda n, part=part: math.floor(part * RATE * n),
            app=app,
            code=code,
            error="",
        )
    for le, part in (("0.1", 0.97), ("0.5", 0.999), ("+Inf", 1.0)):
        add("heroku_router_service_seconds_bucket", lambda n, part=part: math.floor(part * RATE * n), app=app, le=le)
    # What is sampled is read by the hour.
    for name, value in (
        ("memory_total_bytes", lambda n: MEBIBYTE * (PEAK if abs(days_before(n) - MOST_MEMORY) < 0.1 else MEMORY)),
        ("memory_quota_bytes", lambda _: MEBIBYTE * QUOTA),
        ("load_1m", lambda _: 0.4),
    ):
        add(f"heroku_dyno_{name}", value, 20, app=app, dyno="web.1")
    add("heroku_postgres_active_connections", lambda _: 11.0, 20, app=app, addon="postgresql-main-1")
    add("heroku_postgres_max_connections", lambda _: 400.0, 20, app=app, addon="postgresql-main-1")
    add("heroku_release_version", lambda n: 43.0 if days_before(n) < RELEASED else 42.0, 20, app=app)
    return series


def between(series: Series, since: float, until: float) -> Series:
    """Return the samples of a span."""
    return {key: [one for one in samples if since < one[0] <= until] for key, samples in series.items()}


def apart_from(series: Series, since: float, until: float) -> Series:
    """Return the samples of all but a span."""
    return {key: [one for one in samples if not since < one[0] <= until] for key, samples in series.items()}
