"""What both demo legs answer alike, and how they throttle who asks too much."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import WSServerHandshakeError

from demoapps import contents
from demoapps.apps import DemoApps
from demoapps.throttling import Throttle, asking_address

from .conftest import H12_S

PDF = "acme-pdf-1a2b3c.herokuapp.com"


@pytest.fixture(params=["heroku", "eks"])
async def leg(apps: DemoApps, request: pytest.FixtureRequest) -> AsyncIterator[aiohttp.ClientSession]:
    """A session with each leg of `pdf`, as the gateway has it."""
    if request.param == "eks":
        async with aiohttp.ClientSession(f"http://127.0.0.1:{apps.eks_ports['pdf']}") as session:
            yield session
        return
    tls = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=str(apps.ca_file)), resolver=_ToHeroku())
    async with aiohttp.ClientSession(f"https://{PDF}:{apps.heroku_port}", connector=tls) as session:
        yield session


class _ToHeroku(aiohttp.abc.AbstractResolver):
    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[aiohttp.abc.ResolveResult]:
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        """Nothing is open."""


async def test_pages_and_downloads_are_the_same_on_both_legs(leg: aiohttp.ClientSession) -> None:
    async with leg.get("/article/7") as response:
        assert await response.read() == contents.article(7)
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["set-cookie"] == "seen=7; HttpOnly; Path=/; SameSite=Lax; Secure"
        assert response.headers["x-app"] in ("pdf", "acme-pdf")
    async with leg.get("/download/3") as response:
        body = await response.read()
        assert (response.content_length, len(body)) == (3 << 20, 3 << 20)
        assert hashlib.sha256(body).hexdigest() == contents.downloaded(3)
    async with leg.get("/stream/1") as response:
        assert response.content_type == "text/event-stream"
        assert await response.read() == contents.streamed(1)


async def test_a_socket_echoes_for_longer_than_an_answer_may_take_to_begin(leg: aiohttp.ClientSession) -> None:
    async with leg.ws_connect("/socket") as socket:
        for number in range(3):
            await socket.send_str(f"{number}")
            said = await socket.receive_str(timeout=5)
            assert said.endswith(f" {number}")
            assert said.split()[0] in ("heroku", "eks")
            await asyncio.sleep(H12_S / 2)


async def test_an_address_that_asks_too_much_is_told_so(apps: DemoApps, leg: aiohttp.ClientSession) -> None:
    by = {"x-forwarded-for": "198.51.100.7, 203.0.113.1"}
    for name, handle in (("heroku", apps.knobs("heroku", "pdf")), ("eks", apps.knobs("eks", "pdf"))):
        # The stand-in for Heroku's router appends who comes to it.
        handle.set(requests_per_address=2, trusted_proxies=2 if name == "heroku" else 1)
    statuses = [(await leg.get("/", headers=by)).status for _ in range(3)]
    assert statuses == [200, 200, 429]
    another = await leg.get("/", headers={"x-forwarded-for": "198.51.100.8, 203.0.113.1"})
    assert another.status == 200
    assert (await leg.get("/", headers=by)).headers["retry-after"] == "1"


async def test_an_app_that_is_sick_opens_no_socket(apps: DemoApps, leg: aiohttp.ClientSession) -> None:
    for handle in (apps.knobs("heroku", "pdf"), apps.knobs("eks", "pdf")):
        handle.set(error_ratio=1.0)
    with pytest.raises(WSServerHandshakeError, match="500"):
        await leg.ws_connect("/socket")


def test_a_throttle_looks_back_a_second() -> None:
    now = [10.0]
    throttle = Throttle(lambda: now[0])
    assert [throttle.refuses("a", 2) for _ in range(3)] == [False, False, True]
    assert not throttle.refuses("b", 2)
    now[0] = 10.99
    assert throttle.refuses("a", 2)
    now[0] = 11.0
    assert not throttle.refuses("a", 2)
    assert not any(throttle.refuses("c", 0) for _ in range(100))


@pytest.mark.parametrize(
    ("header", "trusted", "address"),
    [
        ("", 0, ""),
        ("user", 0, "user"),
        ("user", 3, "user"),
        ("user, cluster", 0, "cluster"),
        ("user, cluster", 1, "user"),
    ],
)
def test_whom_an_app_takes_for_the_user(header: str, trusted: int, address: str) -> None:
    assert asking_address(header, trusted) == address
