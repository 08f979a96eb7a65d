"""The client: complete answers or a reason that a person can read."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import httpx
import pytest
from awscrt.auth import AwsCredentialsProvider
from hypothesis import given
from hypothesis import strategies as st
from msgspec import to_builtins as fields

from cutover.adapters.dialects.istio.counters import IstioLabels
from cutover.adapters.prometheus.auth import BasicAuth, BearerToken, SigV4
from cutover.adapters.prometheus.client import PrometheusClient
from cutover.ports.errors import PartialAnswer, QueryRefused, Unavailable

URL = "http://someone:hunter2@prom.example:9090/prefix/?x=1"
NAME = "Prometheus at prom.example:9090"
MATRIX = [{"metric": {"pod": "gw-0"}, "values": [[1.5, "2"]]}]


def answer(result: Any = MATRIX, kind: str = "matrix", **more: Any) -> httpx.Response:
    body = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    return httpx.Response(200, json=body)


Handler = Callable[[httpx.Request], httpx.Response] | Callable[[httpx.Request], Awaitable[httpx.Response]]


def client(handle: Handler, **options: Any) -> PrometheusClient:
    return PrometheusClient(URL, transport=httpx.MockTransport(handle), pause=0.001, **options)  # type: ignore[arg-type]


async def failure(handle: Callable[[httpx.Request], httpx.Response], **options: Any) -> str:
    with pytest.raises(Unavailable) as caught:
        await client(handle, **options).query("up", 0)
    assert "hunter2" not in str(caught.value)
    return str(caught.value)


async def test_an_answer_of_another_type_is_none() -> None:
    """Each used to end in a traceback, where its values were read."""
    matrix = answer([{"metric": {}, "values": [[1, "2"]]}], "matrix")
    assert await failure(lambda _: matrix) == f"{NAME} answered with a matrix instead of a vector"
    asked = client(lambda _: answer([{"metric": {}, "value": [1, "2"]}], "vector"))
    for query in (asked.query("up[1m]", 0), asked.query_range("up", 0, 1, 1)):
        with pytest.raises(Unavailable, match="answered with a vector instead of a matrix"):
            await query
    assert len(await client(lambda _: matrix).query("up[1m] ", 0)) == 1


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


async def test_range_query() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer()

    asked = client(handle, tenant="team-a", parameters={"partial_response": "false"})
    assert await asked.query_range("up", 1_800_000_000, 1_800_000_060.5, 15) == MATRIX
    assert str(seen[0].url) == "http://prom.example:9090/prefix/api/v1/query_range"
    assert seen[0].headers["x-scope-orgid"] == "team-a"
    assert parse_qs(seen[0].content.decode()) == {
        "query": ["up"],
        "start": ["1800000000.000"],
        "end": ["1800000060.500"],
        "step": ["15.000"],
        "timeout": ["10s"],
        "partial_response": ["false"],
    }


# -------------------------------------------------------------------------------------------------------- credentials


async def test_token_is_read_each_time(tmp_path: Path) -> None:
    file = tmp_path / "token"
    seen = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return answer()

    asked = client(handle, auth=BearerToken(file))
    for token in ("first", "second\n"):
        file.write_text(token)
        await asked.query("up[1m]", 0)
    assert seen == ["Bearer first", "Bearer second"]
    file.unlink()
    with pytest.raises(Unavailable, match=f"^{NAME} was not asked: the token file cannot be read: No such file"):
        await asked.query("up[1m]", 0)


@pytest.mark.parametrize("token", ["s3cret\nmore", "s3crét", "s3cret\x01", b"s3cret\xff", ""])
async def test_token_that_cannot_be_sent_is_not_shown(token: str | bytes, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(token if isinstance(token, bytes) else token.encode())
    text = await failure(lambda _: answer(), auth=BearerToken(tmp_path / "token"))
    assert "token file" in text
    assert "s3cr" not in text


async def test_name_and_password(tmp_path: Path) -> None:
    (tmp_path / "name").write_text("cutover\n")
    (tmp_path / "password").write_text("pässword\n")
    seen = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return answer()

    await client(handle, auth=BasicAuth(tmp_path / "name", tmp_path / "password")).query("up[1m]", 0)
    assert seen == [httpx.BasicAuth("cutover", "pässword")._auth_header]
    text = await failure(handle, auth=BasicAuth(tmp_path / "name", tmp_path / "absent"))
    assert text == f"{NAME} was not asked: the password file cannot be read: No such file or directory"


# What the signature is made of: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html


def signature(request: httpx.Request, key: str, date: str, scope: str, signed: str) -> str:
    """Compute a signature independently."""
    canonical = "\n".join(
        [
            request.method,
            quote(request.url.raw_path.decode(), safe="/~-._"),
            "",
            *(f"{name}:{request.headers[name]}" for name in signed.split(";")),
            "",
            signed,
            hashlib.sha256(request.content).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    derived = f"AWS4{key}".encode()
    for part in scope.split("/"):
        derived = hmac.digest(derived, part.encode(), "sha256")
    return hmac.digest(derived, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{digest}".encode(), "sha256").hex()


@pytest.mark.parametrize("session", [None, "SESSIONTOKEN"])
@pytest.mark.parametrize("prefix", ["/workspaces/ws-0a1b", "/a%20b/c~d"])
async def test_signature_for_aws(session: str | None, prefix: str) -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer([], "vector")

    provider = AwsCredentialsProvider.new_static("AKIDEXAMPLE", "s3cret/key", session)
    asked = PrometheusClient(
        f"https://aps-workspaces.eu-west-1.amazonaws.com{prefix}",
        transport=httpx.MockTransport(handle),
        auth=SigV4("eu-west-1", "aps", provider),
        tenant="team-a",
    )
    await asked.query('sum(up{a="ü"})', 0)
    (request,) = seen
    date = request.headers["x-amz-date"]
    now = datetime.now(UTC)
    assert abs(datetime.strptime(date, "%Y%m%dT%H%M%S%z") - now) < timedelta(minutes=1)
    signed = "content-type;host;x-amz-date" + (";x-amz-security-token" if session else "")
    scope = f"{date[:8]}/eu-west-1/aps/aws4_request"
    assert request.headers["authorization"] == (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders={signed}, "
        f"Signature={signature(request, 's3cret/key', date, scope, signed)}"
    )
    assert request.headers.get("x-amz-security-token") == session
    assert request.headers.get_list("host") == ["aps-workspaces.eu-west-1.amazonaws.com"]


def test_what_only_aws_needs_is_loaded_for_aws_only() -> None:
    code = "import sys, cutover.adapters.prometheus.sources; sys.exit('awscrt' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": os.pathsep.join(sys.path)})


async def test_no_credentials_for_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    provider = AwsCredentialsProvider.new_environment()
    text = await failure(lambda _: answer(), auth=SigV4("eu-west-1", "aps", provider))
    assert text.startswith(f"{NAME} was not asked: there are no AWS credentials: ")


# ----------------------------------------------------------------------------------------------------------- refusals


def refusal(status: int, kind: str, error: str) -> httpx.Response:
    return httpx.Response(status, json={"status": "error", "errorType": kind, "error": error})


@pytest.mark.parametrize(
    ("response", "text"),
    [
        (
            refusal(400, "bad_data", 'invalid parameter "query": 1:5: parse error:\n unexpected "}"'),
            '1:5: parse error: unexpected "}"',
        ),
        (
            refusal(422, "execution", "multiple matches for labels: many-to-one matching must be explicit"),
            "multiple matches for labels: many-to-one matching must be explicit",
        ),
        (refusal(422, "422", "cannot parse query"), "cannot parse query"),
        (answer(warnings=["PromQL warning: bucket label le is missing (1:3)"]), "PromQL warning: bucket label le"),
    ],
)
async def test_queries_that_are_wrong(response: httpx.Response, text: str) -> None:
    calls = []

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return response

    with pytest.raises(QueryRefused) as caught:
        await client(handle).query("up[1m]", 0)
    assert str(caught.value).startswith(text)
    assert len(calls) == 1


async def test_refusals_are_cut() -> None:
    with pytest.raises(QueryRefused) as caught:
        await client(lambda _: refusal(400, "bad_data", "1:2: " + "x" * 9999)).query("up[1m]", 0)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    "response",
    [
        refusal(422, "execution", "receive series from Addr: store-0: rpc error: code = Unavailable"),
        refusal(422, "execution", "cannot populate chunk 16777349 from block 00000000000000000000000000: not found"),
        refusal(500, "internal", "expanding series"),
        refusal(503, "timeout", "query timed out in expression evaluation"),
        refusal(400, "", "1:5: parse error"),
        httpx.Response(422, text="<html>"),
        httpx.Response(
            200, json={"status": "success", "data": {"resultType": "vector", "result": [], "warnings": ["x"]}}
        ),
        answer(warnings=["PromQL warning: x", "no StoreAPIs matched"]),
    ],
)
async def test_what_is_not_the_querys_fault(response: httpx.Response) -> None:
    with pytest.raises(Unavailable) as caught:
        await client(lambda _: response).query("up[1m]", 0)
    assert not isinstance(caught.value, QueryRefused)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (400, f'{NAME} answered HTTP 400: parse error: unexpected "}}"'),
        (401, f"{NAME} answered HTTP 401; see the credentials for it in the operator's settings"),
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
    assert await client(lambda _: answers.pop(0)).query("up[1m]", 0) == MATRIX
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
        await asked.query("up[1m]", 0)
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


async def test_query_that_prometheus_gave_up_is_not_tried_again() -> None:
    calls = []

    def handle(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        return refusal(503, "timeout", "query timed out in expression evaluation")

    assert "timed out in expression" in await failure(handle)
    assert len(calls) == 1


async def test_answer_that_is_too_long() -> None:
    body = json.dumps({"status": "success", "data": {"resultType": "matrix", "result": ["x" * (2 << 20)]}})
    assert await failure(lambda _: httpx.Response(200, text=body), max_bytes=1 << 20) == (
        f"{NAME} answered more than 1 MiB"
    )


async def test_answer_that_comes_in_parts() -> None:
    class Parts(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for byte in answer().content:
                yield bytes([byte])

    assert await client(lambda _: httpx.Response(200, stream=Parts())).query("up[1m]", 0) == MATRIX


async def test_partial_answers_are_none() -> None:
    with pytest.raises(PartialAnswer) as caught:
        await client(lambda _: answer(warnings=["no StoreAPIs matched for this query " + "x" * 999])).query(
            "up[1m]", 0
        )
    text = str(caught.value)
    assert text.startswith(f"{NAME} warns that its answer is not complete: no StoreAPIs matched")
    assert len(text) < 400


async def test_partial_answers_of_victoriametrics_are_none() -> None:
    body = {"status": "success", "isPartial": True, "data": {"resultType": "matrix", "result": []}}
    with pytest.raises(PartialAnswer, match=f"^{NAME} says that its answer is not complete$"):
        await client(lambda _: httpx.Response(200, json=body)).query("up[1m]", 0)


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


# ------------------------------------------------------------------------------------------------ gateways' counters


def item(*values: str, **labels: str) -> dict[str, Any]:
    return {
        "metric": {"__name__": "istio_requests_total", "destination_service": "pdf", **labels},
        "values": [[1_800_000_000.25 + 15 * number, value] for number, value in enumerate(values)],
    }


async def test_counters_have_what_matters_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {
        "namespace": "istio-ingress",
        "response_code": "200",
        "le": "+Inf",
        "pod": "gw-0",
        "instance": "10.0.0.1:15020",
        "job": "gateways",
        "prometheus_replica": "a",
        "replica": "b",
        "__replica__": "c",
        "cluster": "prod",
        "cluster_name": "",
        "cluster_id": "",
        "k8s_cluster_name": "",
        "environment": "",
        "env": "",
        "region": "eu",
    }
    result = [item("7", "7.5", **labels, source_app="istio-ingress"), item("NaN", "-Inf")]
    asked = client(lambda _: answer(result, infos=["metric might not be a counter"], warnings=[], isPartial=False))
    # Or it would be read the long way.
    monkeypatch.setattr(asked._answers, "result", None)
    full, bare = await asked.counters("up[1m]", 1_800_000_060, IstioLabels)
    assert fields(full.metric) == {"destination_service": "pdf", **labels}
    assert full.values == [(1_800_000_000.25, 7.0), (1_800_000_015.25, 7.5)]
    assert set(fields(bare.metric).values()) == {"pdf", ""}
    assert math.isnan(bare.values[0][1])
    assert bare.values[1] == (1_800_000_015.25, -math.inf)


async def test_the_settings_matchers_are_in_whatever_is_asked() -> None:
    seen: list[str] = []

    def handle(request: httpx.Request) -> httpx.Response:
        (query,) = parse_qs(request.content.decode())["query"]
        seen.append(query)
        return answer([])

    asked = client(handle, matchers={"cluster": "prod"})
    await asked.query("up[1m]", 1_800_000_000)
    await asked.query_range("sum(up)", 1_800_000_000, 1_800_000_060, 15)
    await asked.counters('up{a="b"}[1m]', 1_800_000_000, IstioLabels)
    assert seen == ['up{cluster="prod"}[1m]', 'sum(up{cluster="prod"})', 'up{cluster="prod",a="b"}[1m]']
    with pytest.raises(QueryRefused, match=r"has matchers in the operator's settings: .*two selectors"):
        await asked.query('up{a="b" or c="d"}', 1_800_000_000)
    assert len(seen) == 3, "it is not asked without them"


async def test_counters_and_queries_are_asked_alike() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return answer([])

    asked = client(handle)
    await asked.query("up[1m]", 1_800_000_000)
    await asked.counters("up[1m]", 1_800_000_000, IstioLabels)
    assert (seen[0].url, seen[0].content) == (seen[1].url, seen[1].content)


_NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(0, 2**80).map(float)


def spelt(value: float, form: str) -> str:
    """As Prometheus spells it (without an exponent), or others."""
    if not math.isfinite(value):
        return {math.inf: "+Inf", -math.inf: "-Inf"}.get(value, "NaN")
    return f"{Decimal(repr(value)):f}" if form == "f" else f"{value!r}" if form == "r" else f"{value:.17g}"


@given(values=st.lists(st.tuples(_NUMBERS, st.sampled_from("frg")), min_size=1, max_size=4))
def test_values_are_read_exactly(values: list[tuple[float, str]]) -> None:
    result = [item(*(spelt(*value) for value in values))]
    (counter,) = asyncio.run(client(lambda _: answer(result)).counters("up[1m]", 0, IstioLabels))
    for (_, read), (value, _) in zip(counter.values, values, strict=True):
        assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize(
    "response",
    [
        refusal(400, "bad_data", 'invalid parameter "query": 1:5: parse error:\n unexpected "}"'),
        refusal(200, "internal", "expanding series"),
        refusal(500, "internal", "expanding series"),
        httpx.Response(401),
        httpx.Response(429),
        httpx.Response(503, text="starting"),
        httpx.Response(503, json={"status": "success", "data": {"resultType": "matrix", "result": []}}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, text=""),
        httpx.Response(200, text="[1]"),
        httpx.Response(200, text="[" * 100_000),
        httpx.Response(200, text='{"warnings": ' + "[" * 100_000),
        httpx.Response(200, json={"status": "error", "data": {"resultType": "matrix", "result": [item("1")]}}),
        answer([item("1")], "streams"),
        httpx.Response(200, text='{"status": "success", "data": {"resultType": "matrix", "result": []}} and more'),
        httpx.Response(200, content=b'{"status": "success", "data": {"resultType": "matrix", "result": ["\xff"]}}'),
        httpx.Response(200, json={"status": "success"}),
        answer(None),
        answer([1, "2"], "scalar"),
        answer(warnings=["PromQL warning: bucket label le is missing (1:3)"]),
        answer([item("1")], warnings=["no StoreAPIs matched"]),
        answer([item("1")], isPartial=True),
        httpx.Response(
            200, json={"status": "success", "data": {"resultType": "matrix", "result": [item("1")], "warnings": ["x"]}}
        ),
    ],
)
async def test_what_is_wrong_with_counters_is_told_as_of_any_query(response: httpx.Response) -> None:
    asked, told = client(lambda _: response), list[tuple[type, str]]()
    for ask in (asked.query, partial(asked.counters, labels=IstioLabels)):
        with pytest.raises(Unavailable) as caught:
            await ask("up[1m]", 0)
        told.append((caught.type, str(caught.value)))
    assert told[0] == told[1]
    assert told[0][1]


@pytest.mark.parametrize(
    "result",
    [
        [1],
        [None],
        [{}],
        [{"metric": {"destination_service": "pdf"}, "value": [1.5, "2"]}],
        [{"metric": {"destination_service": "pdf"}, "histograms": []}],
        [{"metric": {"destination_service": 5}, "values": [[1.5, "2"]]}],
        [{"metric": {"pod": "gw-0"}, "values": [[1.5, "2"]]}],
        [{"metric": [], "values": [[1.5, "2"]]}],
        [item("1"), item("x")],
        [{"metric": {"destination_service": "pdf"}, "values": [[1.5]]}],
        [{"metric": {"destination_service": "pdf"}, "values": [1.5]}],
        [{"metric": {"destination_service": "pdf"}, "values": 1.5}],
        [{"metric": {"destination_service": "pdf"}, "values": [[1.5, []]]}],
    ],
)
async def test_counters_of_another_shape_are_an_outage(result: list[Any]) -> None:
    with pytest.raises(Unavailable, match=r"^Prometheus' answer is not understood: is the metric Istio's"):
        await client(lambda _: answer(result)).counters("up[1m]", 0, IstioLabels)


# ------------------------------------------------------------------------------------------------- the circuit breaker


class Flaky:
    """A server that is away for a while."""

    def __init__(self, trouble: Callable[[httpx.Request], httpx.Response] | None = None) -> None:
        self.away = True
        self.calls = 0
        self.trouble = trouble or self.refuse

    def refuse(self, request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("[Errno 111] Connection refused", request=request)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        await asyncio.sleep(0.001)
        return self.trouble(request) if self.away else answer()


async def outcome(asked: PrometheusClient) -> str:
    try:
        await asked.query("up[1m]", 0)
    except Unavailable as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "trouble", [None, lambda _: httpx.Response(502), lambda _: httpx.Response(503, text="starting")]
)
async def test_server_that_is_away_is_asked_rarely(trouble: Callable[[httpx.Request], httpx.Response] | None) -> None:
    server = Flaky(trouble)
    asked = client(server, cooldown=60)
    told = [await outcome(asked) for _ in range(20)]
    assert server.calls == 5
    assert len(set(told)) == 1
    assert told[0].startswith(NAME)


@pytest.mark.usefixtures("virtual_time")
async def test_one_query_finds_out_that_it_is_back() -> None:
    server = Flaky()
    asked = client(server, cooldown=0.05)
    for _ in range(3):
        await outcome(asked)
    await asyncio.sleep(0.1)
    calls = server.calls
    told = await asyncio.gather(*(outcome(asked) for _ in range(10)))
    assert server.calls == calls + 1  # one for all, and no retry
    assert all(told)
    server.away = False
    await asyncio.sleep(0.1)
    # Those that wait for the one are served as well: a block is several queries.
    assert await asyncio.gather(*(outcome(asked) for _ in range(10))) == [""] * 10


async def test_answers_keep_the_circuit_closed() -> None:
    """Refusals, errors and slow queries tell nothing of the way to the server: each of ten is asked."""
    replies: list[Callable[[], httpx.Response]] = [
        lambda: refusal(400, "bad_data", "1:5: parse error"),
        lambda: httpx.Response(401),
        lambda: httpx.Response(504),
        lambda: refusal(503, "timeout", "query timed out"),
        lambda: httpx.Response(200, content=b"x" * 2_000_000),
    ]
    for reply in replies:
        server = Flaky(lambda _, reply=reply: reply())  # type: ignore[misc]
        asked = client(server, cooldown=60, max_bytes=1_000_000)
        assert all([await outcome(asked) for _ in range(10)])
        assert server.calls >= 10


async def test_failures_between_answers_do_not_add_up() -> None:
    server = Flaky()
    asked = client(server, cooldown=60)
    for _ in range(10):
        server.away = True
        assert await outcome(asked)
        server.away = False
        assert await outcome(asked) == ""


async def test_time_outs_keep_the_circuit_closed() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    server = Flaky(handle)
    asked = client(server, cooldown=60)
    assert all([await outcome(asked) for _ in range(20)])
    assert server.calls == 20


@pytest.mark.usefixtures("virtual_time")
async def test_time_out_after_an_outage_opens_it_again() -> None:
    """Or those that wait would hang one after the other."""
    server = Flaky()
    asked = client(server, cooldown=0.05)
    for _ in range(3):
        await outcome(asked)

    def hang(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    server.trouble = hang
    await asyncio.sleep(0.1)
    calls = server.calls
    await asyncio.gather(*(outcome(asked) for _ in range(10)))
    assert server.calls == calls + 1


# --------------------------------------------------------------------------------------------------------------- clocks


def clock_ahead(seconds: Callable[[], float], delay: Callable[[], float] = lambda: 0.0) -> PrometheusClient:
    async def handle(request: httpx.Request) -> httpx.Response:
        assert parse_qs(request.content.decode())["query"] == ["vector(time())"]
        assert b"&time=" not in b"&" + request.content
        await asyncio.sleep(delay() / 2)
        said = time.time() + seconds()
        await asyncio.sleep(delay() / 2)
        return answer([{"metric": {}, "value": [said, f"{said:.3f}"]}], "vector")

    # Asked each time: the tests' clock takes the place of the real one.
    return PrometheusClient(URL, transport=httpx.MockTransport(handle), now=lambda: time.time())


@pytest.mark.usefixtures("virtual_time")
async def test_skew_is_measured_and_does_not_jitter() -> None:
    ahead = 0.2
    asked = clock_ahead(lambda: ahead)
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(0, abs=1e-3)
    ahead = 30.0
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(30, abs=0.6)
    taken = asked.skew
    ahead = 29.9
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(taken, abs=1e-3)
    ahead = -5.0
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(-5, abs=0.6)


@pytest.mark.usefixtures("virtual_time")
async def test_half_the_round_trip_is_not_skew() -> None:
    asked = clock_ahead(lambda: 2.0, lambda: 0.4)
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(2, abs=0.15)


@pytest.mark.usefixtures("virtual_time")
async def test_a_long_round_trip_says_nothing() -> None:
    asked = clock_ahead(lambda: 30.0, lambda: 1.2)
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(0, abs=0.01)


@pytest.mark.usefixtures("virtual_time")
async def test_a_clock_that_is_set_meanwhile_says_nothing() -> None:
    times = [1000.0, 1000.0, 1007.0, 1000.0]
    asked = PrometheusClient(
        URL,
        transport=httpx.MockTransport(lambda _: answer([{"metric": {}, "value": [0, "1003"]}], "vector")),
        now=lambda: times.pop(0),
    )
    await asked.compare_clocks()
    assert asked.skew == pytest.approx(0, abs=1)  # not 3 or 7; the steady clock goes on while this one stands


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("value", [[], [{}], [{"value": [0, "x"]}], ["x"]])
async def test_no_time_is_no_measurement(value: list[Any]) -> None:
    asked = client(lambda _: answer(value, "vector"), now=lambda: time.time())
    with pytest.raises(Unavailable, match="does not say what time it is"):
        await asked.compare_clocks()
    assert asked.skew == pytest.approx(0, abs=0.01)


@pytest.mark.usefixtures("virtual_time")
async def test_nan_is_no_time() -> None:
    asked = client(lambda _: answer([{"value": [0, "NaN"]}], "vector"), now=lambda: time.time())
    with pytest.raises(Unavailable, match="its clock says nan"):
        await asked.compare_clocks()
    assert asked.skew == pytest.approx(0, abs=0.01)
