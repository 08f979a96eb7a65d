"""The client: complete answers or a reason that a person can read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from cutover.adapters.prometheus import PrometheusClient
from cutover.ports import Unavailable

URL = "http://someone:password@prom.example:9090/prefix/?x=1"
NAME = "Prometheus at prom.example:9090"
MATRIX = [{"metric": {"pod": "gw-0"}, "values": [[1.5, "2"]]}]


def answer(result: Any = MATRIX, kind: str = "matrix", **more: Any) -> httpx.Response:
    body = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    return httpx.Response(200, json=body)


def client(handle: Callable[[httpx.Request], httpx.Response], **options: Any) -> PrometheusClient:
    return PrometheusClient(URL, transport=httpx.MockTransport(handle), pause=0.001, **options)


async def failure(handle: Callable[[httpx.Request], httpx.Response], **options: Any) -> str:
    with pytest.raises(Unavailable) as caught:
        await client(handle, **options).query("up", 0)
    assert "password" not in str(caught.value)
    return str(caught.value)


async def test_instant_query() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer(infos=["metric might not be a counter"])

    assert await client(handle, timeout=3).query('up{a="b"}[1m]', 1_800_000_000) == MATRIX
    assert str(seen[0].url) == "http://prom.example:9090/prefix/api/v1/query"
    assert seen[0].method == "POST"
    assert parse_qs(seen[0].content.decode()) == {
        "query": ['up{a="b"}[1m]'],
        "time": ["1800000000.000"],
        "timeout": ["3s"],
    }
    assert "authorization" not in seen[0].headers


async def test_token_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    seen = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return answer()

    asked = client(handle, token_file=file)
    for token in ("first", "second\n"):
        file.write_text(token)
        await asked.query("up", 0)
    assert seen == ["Bearer first", "Bearer second"]
    file.unlink()
    with pytest.raises(Unavailable, match=r"token file .* cannot be read: No such file"):
        await asked.query("up", 0)


@pytest.mark.parametrize("token", ["s3cret\nmore", "s3crét", "s3cret\x01"])
async def test_token_that_cannot_be_sent_is_not_shown(token: str, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token)
    text = await failure(lambda _: answer(), token_file=tmp_path / "token")
    assert "token file" in text
    assert "s3cr" not in text


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, f'{NAME} answered HTTP 400: parse error: unexpected "}}"'),
        (401, f"{NAME} answered HTTP 401"),
        (302, f"{NAME} answered HTTP 302"),
        (422, f"{NAME} answered HTTP 422"),
    ],
)
async def test_refusals_are_told_and_not_tried_again(status: int, text: str) -> None:
    calls = []

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if status == 400:
            return httpx.Response(400, json={"status": "error", "error": 'parse error:\n unexpected "}"'})
        return httpx.Response(status, text="<html>sign in</html>", headers={"location": "http://elsewhere/"})

    assert await failure(handle) == text
    assert len(calls) == 1


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_passing_troubles_are_tried_once_more(status: int) -> None:
    answers = [httpx.Response(status), answer()]
    assert await client(lambda _: answers.pop(0)).query("up", 0) == MATRIX
    answers = [httpx.Response(status), httpx.Response(status)]
    assert await failure(lambda _: answers.pop(0)) == f"{NAME} answered HTTP {status}"


async def test_refused_connection() -> None:
    calls = []

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise httpx.ConnectError("All connection attempts failed", request=request)

    assert await failure(handle) == f"{NAME} cannot be connected to: All connection attempts failed"
    assert len(calls) == 2


async def test_refused_connection_for_real(unused_tcp_port: int) -> None:
    asked = PrometheusClient(f"http://127.0.0.1:{unused_tcp_port}", pause=0.001)
    with pytest.raises(Unavailable, match=f"127.0.0.1:{unused_tcp_port} cannot be connected to"):
        await asked.query("up", 0)
    await asked.close()


async def test_connection_that_breaks() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.RemoteProtocolError("", request=request)

    assert await failure(handle) == f"{NAME} broke off: RemoteProtocolError"


async def test_time_out_is_not_tried_again() -> None:
    calls = []

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return httpx.Response(200, stream=Slow())

    assert await failure(handle, timeout=0.1) == f"{NAME} did not answer within 0.1 s"
    assert len(calls) == 1


async def test_answer_that_is_too_long() -> None:
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": ["x" * (2 << 20)]}})
    assert await failure(lambda _: httpx.Response(200, text=body), max_bytes=1 << 20) == (
        f"{NAME} answered more than 1 MiB"
    )


async def test_partial_answers_are_none() -> None:
    text = await failure(lambda _: answer(warnings=["no StoreAPIs matched for this query " + "x" * 999]))
    assert text.startswith(f"{NAME} warns that its answer is not complete: no StoreAPIs matched")
    assert len(text) < 400


async def test_partial_answers_of_victoriametrics_are_none() -> None:
    body = {"status": "success", "isPartial": True, "data": {"resultType": "matrix", "result": []}}
    assert await failure(lambda _: httpx.Response(200, json=body)) == f"{NAME} says that its answer is not complete"


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (httpx.Response(200, text="<html>"), "answered HTTP 200 with something else than Prometheus' JSON"),
        (httpx.Response(200, text="[1]"), "answered HTTP 200 with something else than Prometheus' JSON"),
        (answer([1, "2"], "scalar"), "answered with neither a vector nor a matrix"),
        (httpx.Response(200, json={"status": "success"}), "answered with neither a vector nor a matrix"),
        (answer(None), "answered with neither a vector nor a matrix"),
    ],
)
async def test_other_answers(response: httpx.Response, text: str) -> None:
    assert await failure(lambda _: response) == f"{NAME} {text}"
