"""The metrics of the demo apps for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from .serving import DemoApp


class CheckoutCollector(Collector):
    """A team's own metric: `checkout_attempts_total` by `app`, `platform` and `result`.

    Parameters
    ----------
    apps
        Apps by the name that they call themselves in it, which is the same on
        both legs.

    """

    def __init__(self, apps: Mapping[str, DemoApp]) -> None:
        self._apps = apps

    def collect(self) -> Iterator[Metric]:
        """Yield the counters as of now, also those that are 0."""
        attempts = CounterMetricFamily(
            "checkout_attempts", "Checkouts, as the app itself sees them.", labels=("app", "platform", "result")
        )
        for name, app in self._apps.items():
            for result, count in app.checkouts.items():
                attempts.add_metric((name, app.leg, result), count)
        yield attempts


def serve_metrics(admin: web.Application, *collectors: Collector) -> None:
    """Add `/metrics` to an admin port."""
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)

    async def metrics(_: web.Request) -> web.Response:
        # The header as it is: aiohttp takes no parameters in content_type.
        headers = {"content-type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(registry), headers=headers)

    admin.router.add_get("/metrics", metrics)
