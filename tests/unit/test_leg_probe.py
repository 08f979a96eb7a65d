"""How the way back to Heroku is tried out through the gateway, and what counts as an answer of the app."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from tests.kit import builders
from tests.kit.http_serving import Answer, Loopback, certificate, sending, serving

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.gateway_client import KEPT, address
from cutover.adapters.traffic.istio.leg_probe import HttpLegProbe
from cutover.adapters.traffic.istio.rendering import probe_value, render
from cutover.domain.evidence.worth import Worth, worth
from cutover.domain.plan import Plan
from cutover.domain.resources import Json, Resource
from cutover.domain.revision import Split
from cutover.domain.traffic import Leg, Probe
from cutover.ports.errors import Gone, Unavailable

MARKS = {"x-cutover-revision": "a1-w25", "x-cutover-leg": "heroku"}
NO_SUCH_APP = '<html><iframe src="//www.herokucdn.com/error-pages/no-such-app.html"></iframe></html>'

PLAN = builders.plan(uid="7f0c", status={"phase": "Shifting", "attempt": 1, "weight": 25})


class FakeCluster:
    """A cluster with one Gateway and the Services of its namespace."""

    def __init__(self, gateway: Json | None, services: list[Json]) -> None:
        self.gateway = gateway
        self.services = services
        self.lookups = 0

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        self.lookups += 1
        if self.gateway is None:
            raise Gone(f"get {resource} {namespace}/{name}: not found")
        return {"spec": self.gateway}

    async def list(self, resource: Resource, namespace: str = "", label_selector: str = "") -> list[Json]:
        return self.services


NO_CLUSTER = cast("Cluster", FakeCluster(None, []))


@pytest.fixture(autouse=True)
def _time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers in these tests does so in this time, however busy the machine is."""
    monkeypatch.setattr("cutover.adapters.traffic.istio.gateway_client.TIMEOUT", 120.0)


async def probe_at(url: str, leg: Leg = Leg.HEROKU) -> Probe:
    gateway = HttpLegProbe(NO_CLUSTER, {"istio-ingress/public": url}, now=lambda: 1700.0)
    try:
        return await gateway.probe(PLAN, leg, "/healthz")
    finally:
        await gateway.close()


async def probe(answer: Answer, leg: Leg = Leg.HEROKU) -> Probe:
    async with serving(answer) as port:
        return await probe_at(f"http://127.0.0.1:{port}", leg)


async def test_the_request_goes_as_a_users_would() -> None:
    seen: list[web.BaseRequest] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        return web.Response(headers=MARKS)

    assert await probe(answer) == Probe(at=1700.0, revision="a1-w25", healthy=True, detail="HTTP 200", status=200)
    (request,) = seen
    assert (request.method, request.path_qs) == ("GET", "/healthz")
    assert request.headers["host"] == "pdf.example.com"
    assert request.headers["x-cutover-probe"] == probe_value(PLAN, Leg.HEROKU, "a1-w25")
    assert request.headers["user-agent"] == "cutover-probe"


async def test_a_plans_own_headers_are_sent_along() -> None:
    seen: list[web.BaseRequest] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request)
        return web.Response(headers=MARKS)

    headers = [{"name": "Accept-Language", "value": "de"}, {"name": "user-agent", "value": "shop monitor"}]
    istio = {"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"]}
    plan = builders.plan(status=PLAN.status, traffic={"istio": istio, "probe": {"headers": headers}})
    async with serving(answer) as port:
        gateway = HttpLegProbe(NO_CLUSTER, {"istio-ingress/public": f"http://127.0.0.1:{port}"})
        await gateway.probe(plan, Leg.HEROKU, "/")
        await gateway.close()
    sent = seen[0].headers
    assert (sent["accept-language"], sent["user-agent"], sent["host"]) == ("de", "shop monitor", "pdf.example.com")
    assert sent.getall("user-agent") == ["shop monitor"]


def other_plan() -> Plan:
    """Return a plan of another host at the same gateway."""
    istio = PLAN.spec.traffic.istio.model_copy(update={"hosts": ("html.example.com",)})
    spec = PLAN.spec.model_copy(update={"traffic": PLAN.spec.traffic.model_copy(update={"istio": istio})})
    return replace(PLAN, name="html", uid="81a3", spec=spec)


def server_tls(folder: Path) -> ssl.SSLContext:
    """Return a server's certificate, of another name and out of date."""
    file = certificate(folder, "somebody.example", days=-1)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file)
    return tls


async def test_the_name_of_each_host_is_told_with_tls_and_any_certificate_will_do(tmp_path: Path) -> None:
    tls, names = server_tls(tmp_path), list[str | None]()
    tls.sni_callback = lambda _, told, __: names.append(told)

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(headers=MARKS)

    async with serving(answer, tls) as port:
        gateway = HttpLegProbe(NO_CLUSTER, {"istio-ingress/public": f"https://127.0.0.1:{port}"})
        for plan in (PLAN, other_plan(), PLAN):
            assert (await gateway.probe(plan, Leg.HEROKU, "/healthz")).healthy
        await gateway.close()
    # A connection is for one name: to another, a gateway answers 421, or has no route.
    assert names == ["pdf.example.com", "html.example.com"]


@asynccontextmanager
async def needing_the_proxy_protocol(tls: ssl.SSLContext | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Serve HTTP to connections that begin with the PROXY protocol, and close others; with what each began with."""
    begun = list[bytes]()

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(headers=MARKS)

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async with serving(answer, tls) as behind:

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            begun.append(await reader.readexactly(16))
            if begun[-1] == LOCAL:
                inner = await asyncio.open_connection("127.0.0.1", behind)
                await asyncio.gather(pipe(reader, inner[1]), pipe(inner[0], writer))
            writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1], begun


#: The protocol's signature, version 2 with the command LOCAL, and no addresses: the connection is the sender's own.
LOCAL = bytes.fromhex("0d0a0d0a000d0a515549540a20000000")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_proxy_protocol_comes_first_on_each_connection(scheme: str, tmp_path: Path) -> None:
    tls = server_tls(tmp_path) if scheme == "https" else None
    async with needing_the_proxy_protocol(tls) as (port, begun):
        urls = {"istio-ingress/public": f"{scheme}://127.0.0.1:{port}"}
        gateway = HttpLegProbe(NO_CLUSTER, urls, proxied=["istio-ingress/public"])
        probes = [await gateway.probe(PLAN, Leg.HEROKU, "/healthz") for _ in range(2)]
        await gateway.close()
        without = HttpLegProbe(NO_CLUSTER, urls)
        unasked = await without.probe(PLAN, Leg.HEROKU, "/healthz")
        await without.close()
    assert [probe.detail for probe in probes] == ["HTTP 200"] * 2
    first, *rest = begun
    assert (first, LOCAL in rest) == (LOCAL, False), "once a connection"
    assert (unasked.healthy, bool(rest)) == (False, True), "nobody sends it unasked"


async def test_plans_share_a_connection_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    # Not aiohttp's own time: that it was idle for long must not be what ends it.
    monkeypatch.setattr("cutover.adapters.traffic.istio.gateway_client.time", SimpleNamespace(monotonic=lambda: now))
    seen: list[tuple[str, object]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request.host, request.transport))
        return web.Response(headers=MARKS)

    async with serving(answer) as port:
        gateway = HttpLegProbe(NO_CLUSTER, {"istio-ingress/public": f"http://127.0.0.1:{port}"})
        for now in (0.0, 1.0, KEPT, KEPT + 1.0, 2 * KEPT):  # noqa: B007  # read by the lambda above
            for plan in (PLAN, other_plan()):
                assert (await gateway.probe(plan, Leg.HEROKU, "/healthz")).healthy
        await gateway.close()
    assert [host for host, _ in seen] == ["pdf.example.com", "html.example.com"] * 5
    connections = [connection for _, connection in seen]
    assert [connections.index(connection) for connection in connections] == [0] * 4 + [4] * 4 + [8] * 2


async def test_a_connection_that_broke_meanwhile_is_no_answer() -> None:
    asked: list[object] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        asked.append(request.transport)
        if asked.count(request.transport) > 1:
            request.transport.abort()
        return web.Response(headers=MARKS)

    async with serving(answer) as port:
        gateway = HttpLegProbe(NO_CLUSTER, {"istio-ingress/public": f"http://127.0.0.1:{port}"})
        probes = [await gateway.probe(PLAN, Leg.HEROKU, "/healthz") for _ in range(3)]
        await gateway.close()
    assert all(probe.healthy for probe in probes)
    assert len(asked) == 5


async def test_what_was_not_read_of_an_answer_is_no_part_of_the_next() -> None:
    asked = 0

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        if asked >= 2:  # and once more, by the token for that revision
            return web.Response(headers=MARKS | {"x-cutover-revision": "a1-w50"})
        response = web.StreamResponse(headers=MARKS)
        await response.prepare(request)
        while True:
            await response.write(b"HTTP/1.1 500 Internal Server Error\r\n\r\n" * 100)

    async with serving(answer) as port:
        gateway = HttpLegProbe(NO_CLUSTER, {"istio-ingress/public": f"http://127.0.0.1:{port}"})
        probes = [await gateway.probe(PLAN, Leg.HEROKU, "/healthz") for _ in range(2)]
        await gateway.close()
    assert [(probe.revision, probe.detail) for probe in probes] == [("a1-w25", "HTTP 200"), ("a1-w50", "HTTP 200")]


async def test_nothing_is_followed_or_remembered() -> None:
    seen: list[tuple[str, str | None]] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append((request.path, request.headers.get("cookie")))
        return web.Response(status=302, headers={**MARKS, "location": "/login", "set-cookie": "session=1; Path=/"})

    async with serving(answer) as port:
        # Cookies of an address that is a number are never kept.
        gateway = HttpLegProbe(NO_CLUSTER, {"istio-ingress/public": "http://gateway.test"}, resolver=Loopback(port))
        for _ in range(2):
            assert (await gateway.probe(PLAN, Leg.HEROKU, "/healthz")).detail == "HTTP 302"
        await gateway.close()
    assert seen == [("/healthz", None)] * 2


@pytest.mark.parametrize(
    ("status", "headers", "body", "healthy", "detail"),
    [
        (204, MARKS, "", True, "HTTP 204"),
        (302, MARKS, "", True, "HTTP 302"),
        (401, MARKS, "", True, "HTTP 401"),
        (404, MARKS, "<h1>Nothing here</h1>", True, "HTTP 404"),
        (404, MARKS, NO_SUCH_APP, False, "HTTP 404 (no such app)"),
        (404, MARKS, "<title>No such app</title>", False, "HTTP 404 (no such app)"),
        (421, MARKS, "", False, "HTTP 421 (misdirected request)"),
        (495, MARKS, "", False, "HTTP 495 (certificate error)"),
        (500, MARKS, "<html>boom</html>", False, "HTTP 500"),
        (503, MARKS | {"x-heroku-error": "H10"}, "", False, "HTTP 503 (H10)"),
        (
            503,
            MARKS | {"content-type": "text/plain"},
            "upstream connect error or disconnect/reset before headers",
            False,
            "HTTP 503 (upstream connect error or disconnect/reset before headers)",
        ),
        (504, MARKS | {"content-type": "text/plain"}, "", False, "HTTP 504"),
        (404, {}, "", False, "HTTP 404, not by way of the plan's route"),
        (301, {}, "", False, "HTTP 301, not by way of the plan's route"),
        (200, {"x-cutover-leg": "eks"}, "", False, "HTTP 200, not by way of the plan's route"),
    ],
)
async def test_what_counts_as_an_answer(
    status: int, headers: dict[str, str], body: str, healthy: bool, detail: str
) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=status, headers=headers, body=body)

    result = await probe(answer)
    assert (result.healthy, result.revision) == (healthy, headers.get("x-cutover-revision", ""))
    assert result.detail.startswith(detail)


@pytest.mark.parametrize(
    ("status", "headers", "healthy", "value", "counted"),
    [
        (200, {"x-cutover-leg": "eks"}, True, Worth.GOOD, 200),
        (304, {"x-cutover-leg": "eks"}, True, Worth.GOOD, 304),
        (302, {"x-cutover-leg": "eks"}, True, Worth.REDIRECTED, 302),
        (401, {"x-cutover-leg": "eks"}, True, Worth.REFUSED, 401),
        # What means a fault of Heroku's router is an answer of an app here.
        (421, {"x-cutover-leg": "eks"}, True, Worth.REFUSED, 421),
        (503, {"x-cutover-leg": "eks"}, False, Worth.FAILED, 503),
        (200, MARKS, False, Worth.FAILED, 0),
        (404, {}, False, Worth.FAILED, 0),
    ],
)
async def test_what_an_answer_of_eks_is_worth(
    status: int, headers: dict[str, str], healthy: bool, value: Worth, counted: int
) -> None:
    seen: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        seen.append(request.headers["x-cutover-probe"])
        return web.Response(status=status, headers=headers)

    result = await probe(answer, Leg.EKS)
    assert (result.healthy, worth(result, Leg.EKS, None), result.status) == (healthy, value, counted)
    # As the route has it, which no stranger can guess.
    (route,) = (one for one in render(PLAN, Split(1, 25))[-1]["spec"]["http"] if one["name"] == "eks-probe")
    assert seen == [route["match"][0]["headers"]["x-cutover-probe"]["exact"]]


@pytest.mark.parametrize("there", ["a1-w10", "a1-rollback", "a1-w25"])
async def test_a_gateway_with_another_route_is_asked_by_that_routes_token(there: str) -> None:
    """Its revision is told then, as users have it; until a push has come, the token of the new route is none."""
    value, asked = probe_value(PLAN, Leg.HEROKU, there), list[str]()

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.headers["x-cutover-probe"])
        # By the users' route to whichever leg the weight says, which then is EKS.
        leg = "heroku" if asked[-1] == value else "eks"
        return web.Response(headers={"x-cutover-revision": there, "x-cutover-leg": leg})

    result = await probe(answer)
    assert (result.revision, result.healthy) == (there, True)
    assert asked[-1] == value
    assert len(asked) == (1 if there == "a1-w25" else 2)


async def test_a_gateway_that_changes_its_mind_is_asked_twice_at_most() -> None:
    asked = list[str]()

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.headers["x-cutover-probe"])
        return web.Response(headers={"x-cutover-revision": f"a1-w{len(asked)}", "x-cutover-leg": "eks"})

    assert not (await probe(answer)).healthy
    assert len(asked) == 2


async def test_a_gateway_that_is_not_there_is_an_unhealthy_probe() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        result = await probe_at(url)
    assert (result.healthy, result.revision) == (False, "")
    assert result.detail.startswith(f"{url}: ")
    assert "Connect call failed" in result.detail


async def test_a_gateway_that_does_not_answer_is_an_unhealthy_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutover.adapters.traffic.istio.gateway_client.TIMEOUT", 0.1)

    async def answer(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(60)
        raise AssertionError

    result = await probe(answer)
    assert not result.healthy
    assert result.detail.endswith("gave no answer within 0.1 s")


@pytest.mark.parametrize("sent", [b"", b"SSH-2.0-OpenSSH_9.9\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"])
async def test_what_is_no_http_is_an_unhealthy_probe(sent: bytes) -> None:
    async with sending(sent) as url:
        result = await probe_at(url)
    assert not result.healthy
    assert result.detail.startswith(f"{url}: ")
    assert len(result.detail) > len(url) + 5


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none_is_an_unhealthy_probe(url: str) -> None:
    result = await probe_at(url)
    assert not result.healthy
    assert result.detail.startswith(f"{url}: ")


async def test_a_page_without_end_is_not_read() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=500, headers=MARKS)
        await response.prepare(request)
        while True:
            await response.write(b"x" * 4096)

    result = await probe(answer)
    assert not result.healthy
    assert result.detail == "HTTP 500"


# ------------------------------------------------------------------------------------------------------------- address


def server(number: int, protocol: str, *hosts: str, **more: Any) -> Json:
    return {"port": {"number": number, "protocol": protocol}, "hosts": list(hosts), **more}


def service(name: str, **selector: str) -> Json:
    return {"metadata": {"name": name}, "spec": {"selector": selector}}


SERVICES = [
    {"metadata": {"name": "headless"}, "spec": {}},
    service("other", app="other"),
    service("ingress", app="gateway", istio="ingress"),
]


@pytest.mark.parametrize(
    ("servers", "url"),
    [
        ([server(80, "HTTP", "*")], "http://ingress.istio-ingress.svc:80"),
        ([server(8080, "HTTP2", "*.example.com")], "http://ingress.istio-ingress.svc:8080"),
        ([server(80, "HTTP", "docs/pdf.example.com")], "http://ingress.istio-ingress.svc:80"),
        ([server(81, "HTTP", "else.com"), server(80, "HTTP", "*")], "http://ingress.istio-ingress.svc:80"),
        (
            [server(80, "HTTP", "*", tls={"httpsRedirect": True}), server(443, "HTTPS", "*", tls={"mode": "SIMPLE"})],
            "https://ingress.istio-ingress.svc:443",
        ),
        (
            [server(443, "HTTPS", "*", tls={"mode": "MUTUAL"}), server(8443, "HTTPS", "*", tls={"mode": "SIMPLE"})],
            "https://ingress.istio-ingress.svc:8443",
        ),
        ([server(443, "HTTPS", "*", tls={"mode": "OPTIONAL_MUTUAL"})], "https://ingress.istio-ingress.svc:443"),
    ],
)
def test_address(servers: list[Json], url: str) -> None:
    gateway = {"selector": {"istio": "ingress"}, "servers": servers}
    assert address("istio-ingress", gateway, SERVICES, "pdf.example.com") == url


@pytest.mark.parametrize(
    ("servers", "url"),
    [
        (
            [server(80, "HTTP", "*"), server(443, "HTTPS", "*", tls={"mode": "SIMPLE"})],
            "https://ingress.istio-ingress.svc:443",
        ),
        (
            [server(80, "HTTP", "*"), server(443, "HTTPS", "*", tls={"mode": "MUTUAL"})],
            "http://ingress.istio-ingress.svc:80",
        ),
        (
            [server(80, "HTTP", "*"), server(443, "HTTPS", "*", tls={"mode": "PASSTHROUGH"})],
            "http://ingress.istio-ingress.svc:80",
        ),
        ([server(80, "HTTP", "*")], "http://ingress.istio-ingress.svc:80"),
    ],
)
def test_the_address_by_which_users_come_is_one_with_tls(servers: list[Json], url: str) -> None:
    gateway = {"selector": {"istio": "ingress"}, "servers": servers}
    assert address("istio-ingress", gateway, SERVICES, "pdf.example.com", by_tls=True) == url


@pytest.mark.parametrize(
    ("gateway", "problem"),
    [
        ({"selector": {"istio": "none"}, "servers": [server(80, "HTTP", "*")]}, "no Service in namespace"),
        ({"selector": {"istio": "ingress"}, "servers": [server(80, "HTTP", "else.com")]}, "no HTTP or HTTPS server"),
        ({"selector": {"istio": "ingress"}, "servers": [server(9000, "TCP", "*")]}, "no HTTP or HTTPS server"),
        (
            {"selector": {"istio": "ingress"}, "servers": [server(443, "HTTPS", "*", tls={"mode": "MUTUAL"})]},
            "asks for a client certificate",
        ),
    ],
)
def test_no_address(gateway: Json, problem: str) -> None:
    with pytest.raises(Unavailable, match=problem):
        address("istio-ingress", gateway, SERVICES, "pdf.example.com")


async def test_the_address_is_looked_up_once_in_a_while() -> None:
    now = 0.0
    cluster = FakeCluster({"selector": {"istio": "ingress"}, "servers": [server(80, "HTTP", "*")]}, SERVICES)
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.host)
        if now == 401.0:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(headers=MARKS)

    lookups = []
    async with serving(answer) as port:
        resolver = Loopback(port)
        gateway = HttpLegProbe(cast("Cluster", cluster), resolver=resolver, now=lambda: now)
        for now in (0.0, 200.0, 400.0, 401.0, 402.0):  # noqa: B007  # read by the lambda above
            await gateway.probe(PLAN, Leg.HEROKU, "/healthz")
            lookups.append(cluster.lookups)
        await gateway.close()
    assert set(resolver.hosts) == {"ingress.istio-ingress.svc"}
    assert set(asked) == {"pdf.example.com"}
    # Afresh after five minutes, and after a failure.
    assert lookups == [1, 1, 2, 2, 3]


async def test_a_gateway_that_does_not_exist_is_named() -> None:
    gateway = HttpLegProbe(NO_CLUSTER)
    result = await gateway.probe(PLAN, Leg.HEROKU, "/healthz")
    await gateway.close()
    assert not result.healthy
    assert result.detail.startswith("gateway istio-ingress/public: get gateways.networking.istio.io")
