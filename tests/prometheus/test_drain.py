"""The drain's real processes, played nodes of Logplex, and a real Prometheus: what is sent is counted, or told as lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.kit.drain_process import PASSWORD, TOKENS, USER, DrainProcess, drains_file
from tests.kit.logplex import Node, message, request_line
from tests.kit.real_prometheus import RealPrometheus

from cutover.adapters.dialects.heroku_drain.counters import HerokuDrainDialect
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.domain.backtest.record import Record
from cutover.ports.block_feed import BlockSubscription
from cutover.services.backtest import read_record

REPLICAS = 4
NAMESPACE = "cutover-system"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "drain.md"


class Fleet:
    """Replicas of the drain, of which some run, and what Prometheus has of all of them."""

    def __init__(self, folder: Path) -> None:
        self.replicas = [DrainProcess(folder, drains_file(folder), {}) for _ in range(REPLICAS)]
        self.listed: list[DrainProcess] = []
        targets = [
            {
                "targets": [f"127.0.0.1:{one.metrics_port}"],
                "labels": {"namespace": NAMESPACE, "pod": f"drain-{number}"},
            }
            for number, one in enumerate(self.replicas)
        ]
        job = {"job_name": "drain", "scrape_interval": "1s", "static_configs": targets}
        self.prometheus = RealPrometheus(folder, [job])
        self._draw = random.Random(1)

    def start(self, *numbers: int) -> None:
        """Start replicas, and send to them."""
        for number in numbers:
            self.replicas[number].start()
            self.listed.append(self.replicas[number])

    async def leave(self, number: int) -> None:
        """End a replica as Kubernetes does: those who choose replicas hear of it a little later."""
        self.replicas[number].end()
        await asyncio.sleep(0.3)
        self.listed.remove(self.replicas[number])

    def address(self) -> tuple[str, int]:
        """Return where a node connects to."""
        return "127.0.0.1", self._draw.choice(self.listed).port

    def query(self, promql: str) -> dict[tuple[str, ...], float]:
        """Return an instant query's values by the values of its labels."""
        with httpx.Client(trust_env=False) as http:
            answer = http.get(f"{self.prometheus.url}/api/v1/query", params={"query": promql}).json()
        return {tuple(item["metric"].values()): float(item["value"][1]) for item in answer["data"]["result"]}

    def counted(self, metric: str, by: str) -> dict[tuple[str, ...], float]:
        """Return the final counts of all replicas, also of those that ended."""
        found = self.query(f"sum by ({by}) (max_over_time({metric}[10m]))")
        return {key: value for key, value in found.items() if value}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    made = Fleet(tmp_path)
    try:
        made.start(0, 1)
        made.prometheus.start()
        yield made
    finally:
        made.prometheus.stop()
        for replica in made.replicas:
            replica.kill()


@contextlib.asynccontextmanager
async def load(nodes: Sequence[Node], codes: Sequence[int] = (200, 200, 200, 503)) -> AsyncIterator[None]:
    """Have apps log while the context is open, and wait then until all is sent."""
    ended, draw = asyncio.Event(), random.Random(2)

    async def log() -> None:
        while not ended.is_set():
            at = datetime.now(UTC).isoformat().encode()
            for node in nodes:
                node.write(
                    message("app", "web.1", b"x" * draw.randrange(200), at=at)
                    if draw.random() < 0.2
                    else request_line(draw.choice(codes), at=at)
                    for _ in range(draw.randrange(20))
                )
            await asyncio.sleep(0.02)

    tasks = [asyncio.create_task(log()), *(asyncio.create_task(node.run(ended)) for node in nodes)]
    try:
        yield
    finally:
        ended.set()
        await asyncio.gather(*tasks)


def nodes_of(fleet: Fleet, app: str, number: int) -> list[Node]:
    return [Node(fleet.address, TOKENS[app], f"{USER}:{PASSWORD}") for _ in range(number)]


async def overloaded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request as a gateway without a replica does, or one that limits rates."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        for status in (b"503 Service Unavailable", b"429 Too Many Requests") * 10_000:
            begin = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(begin.rpartition(b"Content-Length: ")[2]))
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
    writer.close()


async def test_replicas_are_replaced_and_killed_under_load_and_nothing_is_missing_without_a_word(fleet: Fleet) -> None:
    pdf, shop = nodes_of(fleet, "acme-pdf", 3), nodes_of(fleet, "acme-shop", 1)
    began = time.time()
    async with load([*pdf, *shop]):
        await asyncio.sleep(1.5)
        for new, old in ((2, 0), (3, 1)):  # a surge: the new one is there before the old one leaves
            await asyncio.to_thread(fleet.start, new)
            await asyncio.sleep(0.5)
            await fleet.leave(old)
        # A gateway in between that answers for replicas which it does not reach: it burns frames.
        flood = await asyncio.start_server(overloaded, "127.0.0.1", 0)
        port = flood.sockets[0].getsockname()[1]
        for node in pdf:
            node.redirect(lambda: ("127.0.0.1", port))
        await asyncio.sleep(1.0)
        for node in pdf:
            node.redirect(fleet.address)
        flood.close()
        await asyncio.sleep(1.0)
    ended = [await asyncio.to_thread(fleet.replicas[number].wait) for number in (0, 1)]
    assert ended == [0, 0]
    await asyncio.sleep(2.2)  # a scrape of those that go on
    lines = fleet.counted('heroku_drain_lines_total{kind=~"router|app"}', "app")
    dropped = fleet.counted("heroku_drain_dropped_messages_total", "app, reason")
    for app, nodes in (("acme-pdf", pdf), ("acme-shop", shop)):
        sent = sum(node.sent for node in nodes)
        assert sent > 500
        assert sum(node.dropped + node.silently for node in nodes) == 0  # all of it was told
        assert lines[app,] + dropped.get((app, "L10"), 0) == sent
    assert dropped.keys() == {("acme-pdf", "L10")}
    assert sum(node.seen["503"] + node.seen["429"] for node in pdf) > 10
    requests = fleet.counted("heroku_router_requests_total", "app, code, error")
    assert requests.keys() == {(app, code) for app in TOKENS for code in ("200", "503")}
    assert sum(requests.values()) == sum(fleet.counted('heroku_drain_lines_total{kind="router"}', "kind").values())
    timed = fleet.counted('heroku_router_service_seconds_bucket{le="+Inf"}', "app")
    assert timed == {(app,): sum(number for (of, _), number in requests.items() if of == app) for app in TOKENS}
    # Which replicas told their final counts: those that ended, and no other.
    assert fleet.counted("heroku_drain_ending", "pod") == {("drain-0",): 1, ("drain-1",): 1}
    # What a backtest reads of it: blocks in which a replica began or messages were lost are left out.
    pdf_record, shop_record = [await recorded(fleet, app, began) for app in ("acme-pdf", "acme-shop")]
    served = {app: sum(number for (of, _), number in requests.items() if of == app) for app in TOKENS}
    assert 0 < pdf_record.requests < served["acme-pdf"]
    assert 0.2 * served["acme-shop"] < shop_record.requests <= served["acme-shop"]
    assert pdf_record.usable < shop_record.usable < shop_record.blocks
    # The documented query, in all of what there is of two weeks.
    (coverage,) = re.findall(r"^```promql\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert 0 <= fleet.query(coverage).get((), 0.0) < 0.001
    await killed(fleet)


async def recorded(fleet: Fleet, app: str, since: float) -> Record:
    """Read the blocks of an app."""
    subscription = BlockSubscription(app, "", (NAMESPACE,), 250.0, 1000.0, 1, since, scrape_seconds=1.0)
    client = PrometheusClient(fleet.prometheus.url)
    try:
        return await read_record(
            client, HerokuDrainDialect((NAMESPACE,)), subscription, end=time.time(), on_progress=lambda *_: None
        )
    finally:
        await client.close()


async def killed(fleet: Fleet) -> None:
    """What a replica had counted since its last scrape is missing, and it shows by what it did not say."""
    lines, told = 'heroku_drain_lines_total{app="acme-shop",kind=~"router|app"}', "heroku_drain_dropped_messages_total"
    nodes, before = nodes_of(fleet, "acme-shop", 2), fleet.counted(lines, "app")
    async with load(nodes):
        await asyncio.sleep(1.5)
        fleet.replicas[3].kill()
        fleet.listed.remove(fleet.replicas[3])
        await asyncio.sleep(1.0)
    await asyncio.sleep(2.2)
    counted = fleet.counted(lines, "app")["acme-shop",] - before["acme-shop",]
    counted += fleet.counted(told, "app").get(("acme-shop",), 0)
    # A scrape interval's worth; a frame in flight may count twice.
    assert 0.3 * sum(node.sent for node in nodes) < counted < sum(node.sent for node in nodes) + 2 * 200
    assert ("drain-3",) not in fleet.counted("heroku_drain_ending", "pod")
    assert fleet.query("sum by (pod) (up)") == {(f"drain-{number}",): float(number == 2) for number in range(REPLICAS)}
