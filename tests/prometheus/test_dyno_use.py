"""Right-sizing of three services from dyno metrics as the drain exports them, read from a real Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.kit.metrics_server import MetricsServer
from tests.kit.real_prometheus import RealPrometheus
from tests.kit.target import READY
from tests.kit.world import plan_spec

from cutover.adapters.dialects.heroku_drain.record import DrainRecord
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.domain.dynos import DynoUse
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Facts
from cutover.domain.preflight.sizing import sizing_for
from cutover.domain.preflight.workload import MEBIBYTE

#: Seconds between two samples, and how many.
STEP, POINTS = 30, 60
#: MiB and load of two dynos of each service: usually, and in the last three minutes.
SERVICES = {
    "acme-lean": ((200, 0.4), (210, 0.4)),
    "acme-swapping": ((600, 1.5), (900, 3.0)),
    "acme-idle": ((60, 0.01), (60, 0.01)),
}


def exposition(now: float) -> str:
    """Return an hour of samples with times of their own, and what must not count."""
    lines = []
    for app, (usual, busy) in SERVICES.items():
        for kind, factor in (("web.1", 1.0), ("web.2", 0.5), ("worker.1", 9.0)):
            for point in range(POINTS):
                memory, load = busy if point == POINTS - 1 else usual
                at = f"{(now - (POINTS - point) * STEP) * 1000:.0f}"
                labels = f'{{app="{app}",dyno="{kind}"}}'
                lines += [
                    f"heroku_dyno_memory_total_bytes{labels} {memory * factor * MEBIBYTE} {at}",
                    f"heroku_dyno_load_1m{labels} {load * factor} {at}",
                ]
        lines.append(f'heroku_router_requests_total{{app="{app}",code="200",error=""}} 5 {(now - 600) * 1000:.0f}')
        lines.append(f'heroku_router_requests_total{{app="{app}",code="200",error=""}} 47 {(now - 60) * 1000:.0f}')
    return "\n".join(sorted(lines, key=lambda line: (line.split(" ")[0], float(line.split(" ")[2])))) + "\n"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, float]]:
    now = float(round(time.time()))
    bodies = iter([exposition(now)])
    server = MetricsServer(lambda _: next(bodies, ""))
    target = {"targets": [f"127.0.0.1:{server.port}"]}
    job = {"job_name": "drain", "scrape_interval": "1s", "static_configs": [target]}
    process = RealPrometheus(tmp_path_factory.mktemp("prometheus"), [job])
    try:
        process.start()
        yield process.url, now
    finally:
        process.stop()
        server.stop()


def plan(app: str) -> Plan:
    spec = plan_spec(heroku={"app": app, "hostname": "acme-pdf-1a2b3c.herokuapp.com"})
    return Plan("shop", "pdf", "1", 1, spec)


async def test_three_services_from_their_dynos(prometheus: tuple[str, float]) -> None:
    url, now = prometheus
    client = PrometheusClient(url)
    record = DrainRecord(lambda _: client, lambda _: now)
    try:
        for _ in range(600):  # Prometheus shows samples shortly after it has taken them
            if await record.dynos(plan("acme-idle")) is not None:
                break
            await asyncio.sleep(0.1)
        used = {app: await record.dynos(plan(app)) for app in SERVICES}
        assert used["acme-swapping"] == DynoUse(600 * MEBIBYTE, 900 * MEBIBYTE, 1.5)
        advised = {app: sizing_for(use).yaml for app, use in used.items() if use is not None}
        assert advised == {
            "acme-lean": "resources: {requests: {cpu: 400m, memory: 256Mi}, limits: {memory: 320Mi}}",
            "acme-swapping": "resources: {requests: {cpu: 1500m, memory: 640Mi}, limits: {memory: 1152Mi}}",
            "acme-idle": "resources: {requests: {cpu: 100m, memory: 128Mi}, limits: {memory: 128Mi}}",
        }
        assert await record.dynos(plan("acme-unknown")) is None
        assert await record.requests_of_last_day(plan("acme-unknown")) is None
        requests = await record.requests_of_last_day(plan("acme-lean"))
        assert requests is not None
        assert requests >= 42
    finally:
        await client.close()
    check = next(check for check in registry.CHECKS if check.name == "right-sizing")
    asked = plan("acme-swapping")
    facts = Facts(inventory=READY.inventory(asked), dynos=used["acme-swapping"])
    told = check.judge(asked, facts).message
    assert "container app is ended above 512 MiB, and a dyno has used 900" in told
    assert advised["acme-swapping"] in told
    assert check.judge(asked, replace(facts, dynos=used["acme-lean"])).message.count("CPU") == 1
