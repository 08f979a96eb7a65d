"""The ports of health and metrics: whoever asks, and however, they cost little and end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from cutover import listening as ports
from cutover.listening import MOST_CONNECTIONS, MetricsPage, alive, listening


@dataclass
class Ports:
    """Both ports, and how often the text was made."""

    health: str
    metrics: str
    made: list[float] = field(default_factory=list)

    def make(self) -> bytes:
        self.made.append(time.monotonic())
        time.sleep(0.05)
        return b"cutover_x %d\n" % len(self.made)


@pytest.fixture
async def served(unused_tcp_port_factory: object) -> AsyncIterator[Ports]:
    health, metrics = unused_tcp_port_factory(), unused_tcp_port_factory()  # type: ignore[operator]
    made = Ports(f"http://127.0.0.1:{health}/healthz", f"http://127.0.0.1:{metrics}/metrics")
    pages = {(health, "/healthz"): alive, (metrics, "/metrics"): MetricsPage(made.make), (0, "/none"): alive}
    async with listening("127.0.0.1", pages):
        yield made


async def test_health_and_metrics_are_answered(served: Ports) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        health, metrics = await http.get(served.health), await http.get(f"{served.metrics}?name[]=x")
        assert (health.status_code, health.json()) == (200, {})
        assert (metrics.status_code, metrics.text) == (200, "cutover_x 1\n")
        assert metrics.headers["content-type"].startswith("text/plain")
        assert (await http.head(served.health)).status_code == 200
        assert (await http.get(served.health.replace("healthz", "metrics"))).status_code == 404
        assert (await http.post(served.metrics, content=b"x")).status_code == 404


async def test_many_who_ask_at_once_get_one_text(served: Ports) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        texts = {answer.text for answer in await asyncio.gather(*(http.get(served.metrics) for _ in range(20)))}
    assert texts == {"cutover_x 1\n"}
    assert len(served.made) == 1


async def test_the_text_is_made_anew_a_second_later(served: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "METRICS_SECONDS", 0.0)
    async with httpx.AsyncClient(trust_env=False) as http:
        assert [(await http.get(served.metrics)).text for _ in range(2)] == ["cutover_x 1\n", "cutover_x 2\n"]


async def open_to(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parsed = httpx.URL(url)
    return await asyncio.open_connection(parsed.host, parsed.port)


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 60) == b""
    except ConnectionError:
        return True


async def test_who_says_nothing_is_cut_off_and_makes_room(served: Ports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "LONGEST_SECONDS", 0.3)
    idle = [await open_to(served.health) for _ in range(MOST_CONNECTIONS)]
    await asyncio.sleep(0.05)
    reader, writer = await open_to(served.health)
    assert await ended(reader)  # there is no room for more
    writer.close()
    assert all([await ended(reader) for reader, _ in idle])
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(served.health)).status_code == 200
    for _, writer in idle:
        writer.close()


@pytest.mark.parametrize("words", [b"x" * 20_000, b"GET\r\n\r\n", b"\x00\xff\r\n\r\n", b"GET /healthz"])
async def test_nonsense_is_cut_off(served: Ports, words: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "LONGEST_SECONDS", 0.3)
    reader, writer = await open_to(served.health)
    writer.write(words)
    try:
        said = await asyncio.wait_for(reader.read(), 60)
    except ConnectionError:
        said = b""
    assert said == b"" or said.startswith(b"HTTP/1.1 404")
    writer.close()
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(served.health)).status_code == 200
