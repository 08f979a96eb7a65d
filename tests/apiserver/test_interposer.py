"""The proxy that misbehaves on command, before a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from cutover.adapters.kube.client import Cluster
from cutover.domain.resources import SERVICES, Json
from cutover.ports.errors import Conflict, Gone, Unavailable
from devstack.stack import Stack
from sandbox.interposer import UNANSWERED, Fault, Interposer

from .conftest import Api


@pytest.fixture
def interposer(stack: Stack, api: Api, tmp_path: Path) -> Iterator[Interposer]:
    """A proxy before the API server."""
    with Interposer(tmp_path, stack.kubeconfig) as started:
        yield started


@pytest.fixture
async def through(interposer: Interposer, stack: Stack) -> AsyncIterator[Cluster]:
    """The administrator's client, through the proxy; it waits for a second."""
    cluster = await Cluster.connect(interposer.through(stack.kubeconfig), request_timeout=1.0)
    yield cluster
    await cluster.close()


def service(namespace: str, name: str = "web") -> Json:
    """Return a Service."""
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


async def test_it_passes_everything_on(through: Cluster, interposer: Interposer, namespace: str) -> None:
    stored = await through.create(SERVICES, service(namespace))
    assert (await through.get(SERVICES, namespace, "web"))["metadata"]["uid"] == stored["metadata"]["uid"]
    with pytest.raises(Gone):
        await through.get(SERVICES, namespace, "missing")
    stale = {**stored, "metadata": {**stored["metadata"], "resourceVersion": "1"}}
    with pytest.raises(Conflict):
        await through.replace(SERVICES, stale)
    assert [(one.method, one.status) for one in interposer.seen()] == [
        ("POST", 201),
        ("GET", 200),
        ("GET", 404),
        ("PUT", 409),
    ]
    assert interposer.seen(time.time()) == []


async def test_refuse_hang_and_back(through: Cluster, interposer: Interposer, namespace: str) -> None:
    for mode, problem in (("refuse", "cannot be reached"), ("hang", "no answer")):
        interposer.tell(mode)  # type: ignore[arg-type]
        with pytest.raises(Unavailable, match=problem):
            await through.list(SERVICES, namespace)
        interposer.tell("pass")
        assert await through.list(SERVICES, namespace) == []


@pytest.mark.parametrize(
    ("status", "error", "text"),
    [
        (401, Unavailable, "does not accept the credentials"),
        (409, Conflict, "told to"),
        (429, Unavailable, "asks to wait 0 s"),
        (500, Unavailable, "answered 500: told to"),
    ],
)
async def test_answers(
    through: Cluster, interposer: Interposer, namespace: str, status: int, error: type[Exception], text: str
) -> None:
    interposer.inject(Fault("answer", ("POST",), "/services", status, retry_after=0, times=1))
    assert await through.list(SERVICES, namespace) == []
    with pytest.raises(error, match=text):
        await through.create(SERVICES, service(namespace))
    await through.create(SERVICES, service(namespace))


async def test_probability_and_delay(through: Cluster, interposer: Interposer, namespace: str) -> None:
    interposer.inject(Fault("answer", probability=0.5))
    for _ in range(40):
        with contextlib.suppress(Unavailable):
            await through.list(SERVICES, namespace)
    failed = sum(one.status == 500 for one in interposer.seen())
    assert 8 <= failed <= 32
    interposer.inject(Fault("delay", seconds=0.4))
    began = time.monotonic()
    await through.list(SERVICES, namespace)
    assert time.monotonic() - began >= 0.4


async def _found(cluster: Cluster, namespace: str) -> Json:
    async with asyncio.timeout(5):
        while True:
            with contextlib.suppress(Gone):
                return await cluster.get(SERVICES, namespace, "web")


async def test_a_held_write_arrives_though_its_client_gave_up(
    through: Cluster, interposer: Interposer, namespace: str
) -> None:
    interposer.inject(Fault("hold", ("POST",), times=1))
    with pytest.raises(Unavailable, match="no answer"):
        await through.create(SERVICES, service(namespace))
    assert interposer.held() == 1
    assert await through.list(SERVICES, namespace) == []
    interposer.release()
    await through.replace(SERVICES, await _found(through, namespace))
    assert interposer.held() == 0


async def test_watches_stream_and_die_with_the_line(
    through: Cluster, interposer: Interposer, namespace: str, api: Api
) -> None:
    first = await through.create(SERVICES, service(namespace))
    headers = {"Authorization": api.client.headers["Authorization"]}
    url = f"{interposer.url}/api/v1/namespaces/{namespace}/services?watch=true"
    url += f"&resourceVersion={first['metadata']['resourceVersion']}"
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(url) as watch, asyncio.timeout(5):
            await through.create(SERVICES, service(namespace, "second"))
            assert b'"second"' in await watch.content.readline()
            interposer.tell("hang")
            interposer.tell("pass")
            await through.create(SERVICES, service(namespace, "third"))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(watch.content.readline(), 0.5)
        async with session.get(url) as watch, asyncio.timeout(5):
            assert b'"second"' in await watch.content.readline()
            assert b'"third"' in await watch.content.readline()
            interposer.tell("refuse")
            with pytest.raises(aiohttp.ClientError):
                await watch.content.readline()
    assert UNANSWERED not in {one.status for one in interposer.seen() if "watch=true" in one.path}
