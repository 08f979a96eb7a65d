"""How the answers are asked that users get: as they come now, and of each leg through the gateway."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import aiohttp
import dns.asyncresolver
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from tests.kit import builders
from tests.kit.http_serving import Answer, Loopback, certificate, sending, serving

from cutover.adapters import public_names
from cutover.adapters.kube.client import Cluster
from cutover.adapters.public_names import PublicNames
from cutover.adapters.traffic.istio import gateway_client
from cutover.adapters.traffic.istio.answers import HttpAnswers
from cutover.adapters.traffic.istio.rendering import probe_value
from cutover.domain.alike.findings import NoAnswer
from cutover.domain.alike.page import MOST_BYTES, Page
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg
from cutover.services.comparing import compare, question

HOST, GATEWAY = "pdf.example.com", "istio-ingress/public"
NO_CLUSTER = cast("Cluster", None)
STATUS = {"phase": "Preflight", "attempt": 1}


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers in these tests does so in this time, however busy the machine is."""
    monkeypatch.setattr("cutover.adapters.traffic.istio.gateway_client.TIMEOUT", 120.0)


def a_plan(ownership: str = "Generate", **probe: Any) -> Plan:
    istio: dict[str, Any] = {"hosts": [HOST], "gateways": [GATEWAY], "ownership": ownership}
    if ownership != "Generate":
        istio["virtualServiceRef"] = {"name": "team"}
    return builders.plan(uid="7f0c", status=STATUS, traffic={"istio": istio, "probe": probe})


@asynccontextmanager
async def asking(answer: Answer) -> AsyncIterator[HttpAnswers]:
    """Yield what asks a gateway that answers so."""
    async with serving(answer) as port:
        answers = HttpAnswers(NO_CLUSTER, {GATEWAY: f"http://127.0.0.1:{port}"})
        try:
            yield answers
        finally:
            await answers.close()


@asynccontextmanager
async def publicly(answer: Answer, file: Path, trusted: Path | None = None) -> AsyncIterator[HttpAnswers]:
    """Yield what finds the public name at a server with a certificate."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    async with serving(answer, server) as port:
        connector = aiohttp.TCPConnector(
            resolver=Loopback(port), ssl=ssl.create_default_context(cafile=str(trusted or file)), force_close=True
        )
        answers = HttpAnswers(NO_CLUSTER, {GATEWAY: "http://127.0.0.1:1"}, public=connector)
        try:
            yield answers
        finally:
            await answers.close()


async def hello(request: web.Request) -> web.Response:
    headers = {"x-cutover-leg": "heroku", "x-cutover-revision": "a1-w0", "set-cookie": "session=s3cret; Secure"}
    return web.Response(text="hello", headers=headers)


# -------------------------------------------------------------------------------------------------------- as users


async def test_users_of_a_name_that_is_not_at_the_gateway_are_asked_for_at_its_address(tmp_path: Path) -> None:
    seen: list[web.BaseRequest] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return web.Response(status=301, headers={"location": "/en?token=s3cret"})

    plan = a_plan(headers=[{"name": "Accept-Language", "value": "en"}])
    async with publicly(answer, certificate(tmp_path, HOST)) as answers:
        assert await answers.of_users(plan, "/start") == Page(301, f"https://{HOST}/en?token=…")
    (request,) = seen
    assert (request.method, request.path_qs, request.headers["host"]) == ("GET", "/start", HOST)
    assert request.headers["accept-language"] == "en"
    assert "x-cutover-probe" not in request.headers


async def test_the_certificate_of_the_public_name_is_verified(tmp_path: Path) -> None:
    other, late = certificate(tmp_path, "other.example.com"), certificate(tmp_path, HOST, days=-1)
    async with publicly(hello, other) as answers:
        said = await answers.of_users(a_plan(), "/")
    assert said == NoAnswer(
        f"https://{HOST}: its certificate is not right: Hostname mismatch, certificate is not valid for '{HOST}'"
    )
    async with publicly(hello, late) as answers:
        assert "certificate has expired" in cast("NoAnswer", await answers.of_users(a_plan(), "/")).reason
    async with publicly(hello, certificate(tmp_path, HOST), trusted=other) as answers:
        assert "its certificate is not right" in cast("NoAnswer", await answers.of_users(a_plan(), "/")).reason


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.7", "192.168.1.1", "169.254.169.254", "100.64.0.1", "::1", "fd00::1"]
)
async def test_a_public_name_that_leads_into_a_network_is_not_asked(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes a plan chooses the name, and whoever owns the name its address."""
    kind = socket.AF_INET6 if ":" in address else socket.AF_INET

    async def found(_: object, host: str, port: int, family: int) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=0)]

    monkeypatch.setattr(PublicNames, "resolve", found)
    answers = HttpAnswers(NO_CLUSTER)
    try:
        said = await answers.of_users(a_plan(), "/")
    finally:
        await answers.close()
    assert said == NoAnswer(f"https://{HOST}: its address is not a public one")


@asynccontextmanager
async def name_server() -> AsyncIterator[tuple[PublicNames, list[str]]]:
    """Yield what asks a name server, and the names that it was asked for: of ``tarpit`` it never says anything."""
    asked: list[str] = []

    class Answering(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, address: Any) -> None:
            query = dns.message.from_wire(data)
            (question,) = query.question
            name = str(question.name)
            asked.append(name)
            if "tarpit" in name:
                return
            answer = dns.message.make_response(query)
            if not name.startswith("known"):
                answer.set_rcode(dns.rcode.NXDOMAIN)
            elif question.rdtype == dns.rdatatype.A:
                answer.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "192.0.2.7"))
            self.transport.sendto(answer.to_wire(), address)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Answering, local_addr=("127.0.0.1", 0))
    try:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], transport.get_extra_info("sockname")[1]
        yield PublicNames(resolver), asked
    finally:
        transport.close()


async def test_a_public_name_is_asked_for_at_name_servers() -> None:
    async with name_server() as (names, asked):
        (found,) = await names.resolve("known.example.com", 443)
        assert (found["host"], found["port"], found["family"]) == ("192.0.2.7", 443, socket.AF_INET)
        for host in ("unknown.example.com", f"{'a' * 64}.example.com", "a..b"):
            with pytest.raises(OSError, match=r"NXDOMAIN|LabelTooLong|EmptyLabel"):
                await names.resolve(host, 443)
    assert set(asked) == {"known.example.com.", "unknown.example.com."}, "without search domains"


async def test_a_name_without_an_address_is_told() -> None:
    async with name_server() as (names, _):
        answers = HttpAnswers(NO_CLUSTER, public=aiohttp.TCPConnector(resolver=names, use_dns_cache=False))
        try:
            assert await answers.of_users(a_plan(), "/") == NoAnswer(f"https://{HOST}: its name has no address")
        finally:
            await answers.close()


async def test_names_whose_servers_never_answer_take_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The few threads of asyncio also count evidence, find Prometheus and answer its scrapes."""
    monkeypatch.setattr(public_names, "ANSWER_SECONDS", 600.0)
    monkeypatch.setattr(gateway_client, "TIMEOUT", 600.0)
    async with name_server() as (names, asked):
        monkeypatch.setattr("cutover.adapters.traffic.istio.answers.PublicNames", lambda: names)
        answers = HttpAnswers(NO_CLUSTER)
        hosts = [f"h{number}.tarpit.example" for number in range(100)]
        plans = [
            builders.plan(uid=host, status=STATUS, traffic={"istio": {"hosts": [host], "gateways": [GATEWAY]}})
            for host in hosts
        ]
        threads = threading.active_count()
        asking = [asyncio.create_task(answers.of_users(plan, "/")) for plan in plans]
        try:
            async with asyncio.timeout(60):
                while len(set(asked)) < 100:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert threading.active_count() <= threads
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
            await answers.close()


@pytest.mark.parametrize("ownership", ["Adopt", "Delegate"])
async def test_users_who_are_at_the_gateway_are_asked_for_there(ownership: str) -> None:
    seen: list[web.BaseRequest] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return await hello(request)

    async with asking(answer) as answers:
        found = await answers.of_users(a_plan(ownership), "/start")
    assert isinstance(found, Page)
    (request,) = seen
    assert (request.path_qs, request.headers["host"]) == ("/start", HOST)
    assert "x-cutover-probe" not in request.headers


# ------------------------------------------------------------------------------------------------------ of each leg


async def test_a_leg_is_asked_by_the_probes_route_and_only_what_is_compared_is_kept() -> None:
    seen: list[web.BaseRequest] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request)
        return await hello(request)

    async with asking(answer) as answers:
        found = await answers.of_leg(a_plan(), Leg.HEROKU, "/")
    assert found == Page(
        200, content_type="text/plain; charset=utf-8", cookies={"session": frozenset({"Secure"})}, size=5
    )
    assert "s3cret" not in repr(found)
    assert seen[0].headers["x-cutover-probe"] == probe_value(a_plan(), Leg.HEROKU, "a1-trial")
    assert seen[0].headers["x-forwarded-proto"] == "https", "as a load balancer says that ends TLS"


async def test_an_answer_of_the_gateway_itself_is_no_answer_of_the_leg() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=404)

    async with asking(answer) as answers:
        said = await answers.of_leg(a_plan(), Leg.EKS, "/")
    assert said == NoAnswer("HTTP 404, not by way of the plan's route")


async def test_a_gateway_with_another_revision_is_asked_by_that_ones_token() -> None:
    value = probe_value(a_plan(), Leg.EKS, "a1-rollback")

    async def answer(request: web.Request) -> web.Response:
        leg = "eks" if request.headers["x-cutover-probe"] == value else "heroku"
        return web.Response(headers={"x-cutover-leg": leg, "x-cutover-revision": "a1-rollback"})

    async with asking(answer) as answers:
        assert isinstance(await answers.of_leg(a_plan(), Leg.EKS, "/"), Page)


async def test_of_a_long_answer_the_beginning_is_read() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"x-cutover-leg": "eks"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    async with asking(answer) as answers:
        found = await answers.of_leg(a_plan(), Leg.EKS, "/")
    assert isinstance(found, Page)
    assert (found.size, found.whole) == (MOST_BYTES, False)


async def test_an_answer_that_goes_on_for_long_is_compared_by_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutover.adapters.traffic.istio.gateway_client.TIMEOUT", 3.0)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"x-cutover-leg": "eks", "content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.sleep(60)
        return response

    async with asking(answer) as answers:
        found = await answers.of_leg(a_plan(), Leg.EKS, "/")
    assert isinstance(found, Page)
    assert (found.content_type, found.size, found.whole) == ("text/event-stream", 9, False)


async def test_no_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutover.adapters.traffic.istio.gateway_client.TIMEOUT", 0.1)

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    async with asking(answer) as answers:
        said = await answers.of_leg(a_plan(), Leg.EKS, "/")
    assert isinstance(said, NoAnswer)
    assert said.reason.endswith("gave no answer within 0.1 s")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx-cutover-leg: eks\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\na: " + b"b" * 1_000_000 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_no_answer(sent: bytes) -> None:
    async with sending(sent) as url:
        answers = HttpAnswers(NO_CLUSTER, {GATEWAY: url})
        said = await answers.of_leg(a_plan(), Leg.EKS, "/")
        await answers.close()
    assert isinstance(said, NoAnswer)
    assert len(said.reason) <= 120


async def test_odd_bytes_in_headers_are_told_without_them() -> None:
    sent = (
        b"HTTP/1.1 302 Found\r\nx-cutover-leg: eks\r\nLocation: /\xff\x1b\xe2\x80\xae\r\n"
        b"Set-Cookie: \xff\xfe=s3cret\r\nContent-Type: text/\xff\r\nContent-Length: 0\r\n\r\n"
    )
    async with sending(sent) as url:
        answers = HttpAnswers(NO_CLUSTER, {GATEWAY: url})
        found = await answers.of_leg(a_plan(), Leg.EKS, "/")
        await answers.close()
    text = found.reason if isinstance(found, NoAnswer) else found.summary + "".join(found.cookies) + found.content_type
    assert text.isprintable()
    assert text.encode()


# ------------------------------------------------------------------------------------------------------ all together


class Played:
    """Answers of users and legs that are what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def of_users(self, plan: Plan, path: str) -> Page | NoAnswer:
        self.asked.append(("users", path))
        return Page(200)

    async def of_leg(self, plan: Plan, leg: Leg, path: str) -> Page | NoAnswer:
        self.asked.append((leg, path))
        return Page(200 if leg is Leg.HEROKU else 404)


async def test_each_path_is_asked_in_each_way_and_of_heroku_twice() -> None:
    played, plan = Played(), a_plan(paths=["/", "/up"])
    asked = await compare(played, plan)
    assert [each.path for each in asked.answers] == ["/", "/up"]
    for number, path in enumerate(("/", "/up")):
        assert sorted(played.asked[4 * number : 4 * number + 4]) == [
            ("eks", path),
            ("heroku", path),
            ("heroku", path),
            ("users", path),
        ]
    assert asked.answers[0].eks == Page(404)
    assert asked.question == question(plan)


def test_another_question_is_one_whose_answers_differ() -> None:
    plan = a_plan()
    others = [a_plan("Adopt"), a_plan(paths=["/up"]), a_plan(headers=[{"name": "a", "value": "b"}])]
    assert question(plan) == question(a_plan())
    assert all(question(other) != question(plan) for other in others)
