"""A real Envoy that evicts idle counters, scraped at an odd interval by a real Prometheus, against what it was asked."""

from __future__ import annotations

import asyncio
import math
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import yaml
from tests.kit.real_prometheus import RealPrometheus
from tests.kit.waiting import eventually

from cutover.adapters.clocks import SystemClock
from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.lengths import block_length
from cutover.ports.block_feed import BlockSubscription
from cutover.services.sampler import Sampler
from devstack.build import ensure_programs
from devstack.support import free_port

HEROKU, EKS, NAMESPACE = "acme.herokuapp.com", "pdf.shop.svc.cluster.local", "istio-ingress"
SCRAPE, EVICTION, ROUNDS = 0.75, 2.0, 6


def bootstrap(admin: int, port: int) -> dict[str, Any]:
    """Return the bootstrap of a proxy that counts by host and code, and forgets what is idle."""
    api = "type.googleapis.com/envoy.extensions"

    def address(number: int) -> dict[str, Any]:
        return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": number}}}

    tags = {"destination_service": "%REQ(:AUTHORITY)%", "response_code": "%RESPONSE_CODE%"}
    counter = {"name": "requests_total", "tags": [{"name": n, "value_format": v} for n, v in tags.items()]}
    logger = {
        "@type": f"{api}.access_loggers.stats.v3.Config",
        "stats_scope": {"prefix": "mesh", "enable_eviction": True},
        "counters": [{"stat": counter, "value_fixed": 1}],
    }
    manager = {
        "@type": f"{api}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "access_log": [{"name": "envoy.access_loggers.stats", "typed_config": logger}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"prefix": f"/{code}"}, "direct_response": {"status": code}} for code in (200, 500)
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{api}.filters.http.router.v3.Router"},
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    return {
        "admin": address(admin),
        "stats_flush_interval": "0.25s",
        "stats_eviction_interval": f"{EVICTION:g}s",
        "static_resources": {"listeners": [{"name": "in", **address(port), "filter_chains": [{"filters": filters}]}]},
    }


def job(admin: int) -> dict[str, Any]:
    """Return the scrape of the proxy, with Istio's names."""
    return {
        "job_name": "gateways",
        "metrics_path": "/stats/prometheus",
        "fallback_scrape_protocol": "PrometheusText0.0.4",
        "scrape_interval": f"{round(SCRAPE * 1000)}ms",
        "scrape_timeout": f"{round(SCRAPE * 1000)}ms",
        "static_configs": [{"targets": [f"127.0.0.1:{admin}"], "labels": {"namespace": NAMESPACE, "pod": "gw-0"}}],
        "metric_relabel_configs": [
            {"source_labels": ["__name__"], "regex": "envoy_mesh_requests_total", "action": "keep"},
            {"target_label": "__name__", "replacement": "istio_requests_total"},
            {"target_label": "reporter", "replacement": "source"},
            {"target_label": "source_workload_namespace", "replacement": NAMESPACE},
        ],
    }


@dataclass
class Proxy:
    """A proxy, and what it was asked."""

    admin: int = field(default_factory=free_port)
    port: int = field(default_factory=free_port)
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)

    @contextmanager
    def running(self, folder: Path) -> Iterator[None]:
        config = folder / "envoy.yaml"
        config.write_text(yaml.safe_dump(bootstrap(self.admin, self.port)))
        command = [ensure_programs().envoy, "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id"]
        with (folder / "envoy.log").open("ab") as log:
            process = subprocess.Popen([*command, "-l", "warning"], stdout=log, stderr=log)
        try:
            with httpx.Client(trust_env=False) as http:
                for _ in range(600):
                    assert process.poll() is None, (folder / "envoy.log").read_text()
                    with suppress(httpx.HTTPError):
                        if http.get(f"http://127.0.0.1:{self.admin}/ready").is_success:
                            break
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(20)

    async def ask(self, http: aiohttp.ClientSession, host: str, code: str, times: int = 1) -> None:
        for _ in range(times):
            async with http.get(f"http://127.0.0.1:{self.port}/{code}", headers={"Host": host}) as answer:
                assert answer.status == int(code)
            self.asked[host, code] += 1

    async def forgot(self, http: aiohttp.ClientSession, host: str, code: str) -> bool:
        """Tell whether the proxy does not have the counter any more."""
        url = f"http://127.0.0.1:{self.admin}/stats/prometheus?filter=mesh"
        async with http.get(url) as answer:
            text = await answer.text()
        return not any(host in line and f'"{code}"' in line for line in text.splitlines())


async def test_no_request_is_lost_by_evictions(tmp_path: Path) -> None:
    proxy, blocks, clock = Proxy(), list[Block](), SystemClock()
    evicted = 0
    length = block_length(SCRAPE, 2)
    assert length == 3
    wanted = BlockSubscription(HEROKU, EKS, (NAMESPACE,), None, None, length, 0.0, scrape_seconds=SCRAPE)
    prometheus = RealPrometheus(tmp_path, [job(proxy.admin)])
    with proxy.running(tmp_path):
        async with aiohttp.ClientSession() as http:
            await proxy.ask(http, HEROKU, "200", 50)
            await proxy.ask(http, EKS, "200", 50)
            await asyncio.to_thread(prometheus.start)
            client = PrometheusClient(prometheus.url, timeout=5.0)

            async def others_go_on() -> None:
                while True:
                    await proxy.ask(http, HEROKU, "200", 3)
                    await proxy.ask(http, EKS, "200", 2)
                    await asyncio.sleep(0.2)

            try:
                going_on = asyncio.create_task(others_go_on())
                await asyncio.sleep(5 * SCRAPE)
                began = float(math.ceil(clock.now()))

                def consume(key: str) -> None:
                    samples = sampler.take(key)
                    blocks.extend(samples.blocks)
                    assert samples.scrape_seconds in (None, SCRAPE)
                    sampler.watch(key, replace(wanted, since=blocks[-1].end if blocks else began))

                sampler = Sampler(client, IstioDialect(), clock, settle=0.3, on_samples=consume)
                sampler.watch("shop/pdf", replace(wanted, since=began))
                sampling = asyncio.create_task(sampler.run())
                await asyncio.sleep(2 * length)
                for number in range(ROUNDS):
                    await proxy.ask(http, EKS, "500", (3, 1, 1, 4, 2, 2)[number])
                    await eventually(partial(proxy.forgot, http, EKS, "500"))
                    evicted += 1
                    await asyncio.sleep(1.3 * SCRAPE)  # at least one scrape is without it
                ended = clock.now()

                async def all_are_read() -> bool:
                    return bool(blocks) and blocks[-1].end >= ended + length

                await eventually(all_are_read)
            finally:
                going_on.cancel()
                sampling.cancel()
                await client.close()
                prometheus.stop()
    print(
        f"{len(blocks)} blocks of {length} s, {evicted} evictions, gaps {[block.gap for block in blocks if block.gap]}"
    )
    assert [block.gap for block in blocks if block.gap] == []
    assert sum(block.eks.errors for block in blocks) == proxy.asked[EKS, "500"] == 13
    assert {block.end - block.start for block in blocks} == {length}
    assert all(one.end == other.start for one, other in pairwise(blocks))
