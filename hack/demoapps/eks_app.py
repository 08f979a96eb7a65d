"""The EKS leg: several plain HTTP services in one process, a port each.

Run as ``python -m demoapps.eks_app --service pdf=18101 --service images=18102
--admin-port 18100``; see `--help`. The admin port also serves `/metrics`, with
what cAdvisor would tell of the services' containers, and the services' own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from .exposition import CheckoutCollector, serve_metrics
from .knobs import Knobs
from .serving import (
    DemoApp,
    Listener,
    add_process_options,
    admin_app,
    announce,
    body_of,
    counted,
    json_object,
    run,
    serve_admin,
    until_told_to_stop,
)

#: Longer than any client keeps an idle connection, as is right behind a proxy:
#: who closes first must not be the server, or requests are lost in between.
KEEPALIVE_SECONDS = 7200.0

#: CFS periods a second: the kernel's period is 100 ms.
PERIODS_PER_SECOND = 10.0
#: Share of periods throttled in a healthy container, and in one with a slow
#: tail: a fifth at once, and then ten times the fraction of slow requests.
HEALTHY_THROTTLED = 0.005
SICK_THROTTLED = 0.20
SICK_THROTTLED_PER_SLOW = 10.0
#: How long a throttled period stands still (seconds).
THROTTLED_PERIOD_SECONDS = 0.06


def throttled_share(knobs: Knobs) -> float:
    """Return the share of CFS periods that are throttled with these knobs, 0 to 1."""
    of_its_tail = HEALTHY_THROTTLED
    if knobs.slow_ratio > 0 and knobs.slow_ms > 0:
        of_its_tail = min(0.95, SICK_THROTTLED + SICK_THROTTLED_PER_SLOW * knobs.slow_ratio)
    return max(of_its_tail, knobs.throttled_ratio)


@dataclass
class Container:
    """CFS counters and labels of one service's container."""

    namespace: str
    pod: str
    container: str
    share: float = HEALTHY_THROTTLED
    periods: float = 0.0
    throttled: float = 0.0
    at: float = field(default_factory=time.monotonic)

    def advance(self, now: float) -> None:
        """Bring the counters up to a time (monotonic seconds)."""
        elapsed = (now - self.at) * PERIODS_PER_SECOND
        self.periods += elapsed
        self.throttled += elapsed * self.share
        self.at = now


class CfsCollector(Collector):
    """cAdvisor's `container_cpu_cfs_*` of a set of containers."""

    def __init__(self, containers: Iterable[Container]) -> None:
        self._containers = list(containers)

    def collect(self) -> Iterator[Metric]:
        """Yield the counters as of now."""
        labels = ("namespace", "pod", "container")
        periods = CounterMetricFamily("container_cpu_cfs_periods", "Elapsed enforcement periods.", labels=labels)
        throttled = CounterMetricFamily("container_cpu_cfs_throttled_periods", "Throttled periods.", labels=labels)
        seconds = CounterMetricFamily(
            "container_cpu_cfs_throttled_seconds", "Time throttled, in seconds.", labels=labels
        )
        now = time.monotonic()
        for each in self._containers:
            each.advance(now)
            values = (each.namespace, each.pod, each.container)
            periods.add_metric(values, float(int(each.periods)))
            throttled.add_metric(values, float(int(each.throttled)))
            seconds.add_metric(values, each.throttled * THROTTLED_PERIOD_SECONDS)
        yield from (periods, throttled, seconds)


class Service:
    """One service: an app behind a port of its own, in a container of its own."""

    def __init__(self, name: str, bind: str, port: int, *, namespace: str, seed: int | None) -> None:
        self.app = DemoApp(name, "eks", seed)
        self.container = Container(namespace, f"{name}-0", name)
        self.listener = Listener(self._handle, bind, port, keepalive_s=KEEPALIVE_SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await counted(self.app, request, self._answer(request))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.app.answer(request, request.headers, await body_of(request))

    async def turn(self, changes: Mapping[str, object]) -> None:
        """Turn knobs, with the listener and the counters following."""
        knobs = self.app.turn(changes)
        self.container.advance(time.monotonic())
        self.container.share = throttled_share(knobs)
        await (self.listener.refuse() if knobs.refuse else self.listener.listen())


async def serve(options: argparse.Namespace, ports: Mapping[str, int]) -> None:
    """Serve all services and the admin port until told to stop."""
    services = {
        name: Service(name, options.bind, port, namespace=options.namespace, seed=options.seed)
        for name, port in ports.items()
    }

    async def turn(app: DemoApp, changes: Mapping[str, object]) -> None:
        await services[app.name].turn(changes)

    async def put_pod(request: web.Request) -> web.Response:
        service = services.get(request.match_info["app"])
        change = await json_object(request)
        if service is None or not change.keys() <= {"namespace", "pod", "container"}:
            raise web.HTTPBadRequest(
                text='{"error": "a known service takes namespace, pod, container"}',
                content_type="application/json",
            )
        container = service.container
        for label, value in change.items():
            setattr(container, label, str(value))
        return web.json_response(
            {
                "namespace": container.namespace,
                "pod": container.pod,
                "container": container.container,
            }
        )

    apps = {name: service.app for name, service in services.items()}
    admin = admin_app(apps, turn)
    serve_metrics(admin, CfsCollector(service.container for service in services.values()), CheckoutCollector(apps))
    admin.router.add_put("/pods/{app}", put_pod)
    for service in services.values():
        await service.listener.listen()
    runner, admin_port = await serve_admin(admin, options.bind, options.admin_port)
    announce(
        options.ready_file,
        admin_port=admin_port,
        services={name: service.listener.port for name, service in services.items()},
    )
    await until_told_to_stop(lifeline=options.lifeline)
    for service in services.values():
        await service.listener.close()
    await runner.cleanup()


def parse_services(pairs: Sequence[str]) -> dict[str, int]:
    """Read `name=port` pairs; `name` alone takes a free port.

    Raises
    ------
    ValueError
        If a pair cannot be read, or a name comes twice.

    """
    ports: dict[str, int] = {}
    for pair in pairs:
        name, _, port = pair.partition("=")
        if not name or name in ports or not (port or "0").isdecimal():
            raise ValueError(f"{pair!r}: write name=port, each name once")
        ports[name] = int(port or "0")
    return ports


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m demoapps.eks_app", description=__doc__)
    parser.add_argument("--service", action="append", required=True, metavar="NAME[=PORT]", help="may be repeated")
    parser.add_argument("--admin-port", type=int, default=0, help="port of knobs and /metrics")
    parser.add_argument("--namespace", default="demo", help="label of the container metrics")
    add_process_options(parser)
    options = parser.parse_args()
    try:
        ports = parse_services(options.service)
    except ValueError as error:
        parser.error(str(error))
    run(lambda: serve(options, ports))


if __name__ == "__main__":
    main()
