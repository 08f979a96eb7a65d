"""How the way back to Heroku is tried out through the gateway, and what counts as an answer of the app."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import httpx
import pytest

from cutover.adapters.gateway import HttpGateway, address
from cutover.adapters.kubernetes import Cluster, Json, Resource
from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.core.observation import Plan, Probe
from cutover.ports import Gone, Unavailable

URLS = {"istio-ingress/public": "http://127.0.0.1:18080"}
MARKS = {"x-cutover-revision": "a1-w25", "x-cutover-leg": "heroku"}
NO_SUCH_APP = '<html><iframe src="//www.herokucdn.com/error-pages/no-such-app.html"></iframe></html>'

PLAN = Plan(
    namespace="docs",
    name="pdf",
    uid="7f0c",
    generation=1,
    spec=MigrationPlanSpec.model_validate(
        {
            "heroku": {"app": "acme-pdf", "hostname": "acme-pdf-1a2b3c.herokuapp.com"},
            "eks": {"service": {"name": "pdf", "port": 80}, "workloadRef": {"name": "pdf"}},
            "traffic": {
                "istio": {
                    "hosts": ["pdf.example.com"],
                    "gateways": ["istio-ingress/public"],
                    "probePath": "/healthz",
                }
            },
        }
    ),
)


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


async def probe(answer: Callable[[httpx.Request], httpx.Response]) -> Probe:
    gateway = HttpGateway(NO_CLUSTER, URLS, transport=httpx.MockTransport(answer), now=lambda: 1700.0)
    try:
        return await gateway.probe(PLAN)
    finally:
        await gateway.close()


async def test_the_request_goes_as_a_users_would() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, headers=MARKS)

    assert await probe(answer) == Probe(at=1700.0, revision="a1-w25", healthy=True, detail="HTTP 200")
    (request,) = seen
    assert (request.method, str(request.url)) == ("GET", "http://127.0.0.1:18080/healthz")
    assert request.headers["host"] == "pdf.example.com"
    assert request.headers["x-cutover-probe"] == "heroku"
    assert request.headers["user-agent"] == "cutover-probe"


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
    result = await probe(lambda _: httpx.Response(status, headers=headers, text=body))
    assert (result.healthy, result.revision) == (healthy, headers.get("x-cutover-revision", ""))
    assert result.detail.startswith(detail)


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (httpx.ConnectError("connection refused"), "http://127.0.0.1:18080: connection refused"),
        (httpx.ReadTimeout(""), "http://127.0.0.1:18080 gave no answer within 5 s"),
        (httpx.RemoteProtocolError(""), "http://127.0.0.1:18080: RemoteProtocolError"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_failures_are_unhealthy_probes(error: Exception, detail: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    assert await probe(answer) == Probe(at=1700.0, revision="", healthy=False, detail=detail)


async def test_a_page_without_end_is_not_read() -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            while True:
                yield b"x" * 4096

    result = await probe(lambda _: httpx.Response(500, headers=MARKS, stream=Endless()))
    assert not result.healthy


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
    ],
)
def test_address(servers: list[Json], url: str) -> None:
    gateway = {"selector": {"istio": "ingress"}, "servers": servers}
    assert address("istio-ingress", gateway, SERVICES, "pdf.example.com") == url


@pytest.mark.parametrize(
    ("gateway", "problem"),
    [
        ({"selector": {"istio": "none"}, "servers": [server(80, "HTTP", "*")]}, "no Service in namespace"),
        ({"selector": {"istio": "ingress"}, "servers": [server(80, "HTTP", "else.com")]}, "no HTTP or HTTPS server"),
        ({"selector": {"istio": "ingress"}, "servers": [server(9000, "TCP", "*")]}, "no HTTP or HTTPS server"),
    ],
)
def test_no_address(gateway: Json, problem: str) -> None:
    with pytest.raises(Unavailable, match=problem):
        address("istio-ingress", gateway, SERVICES, "pdf.example.com")


async def test_the_address_is_looked_up_once_in_a_while() -> None:
    now = 0.0
    cluster = FakeCluster({"selector": {"istio": "ingress"}, "servers": [server(80, "HTTP", "*")]}, SERVICES)
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        if len(hosts) == 4:
            raise httpx.ConnectError("no route to host")
        return httpx.Response(200, headers=MARKS)

    transport = httpx.MockTransport(answer)
    gateway = HttpGateway(cast("Cluster", cluster), transport=transport, now=lambda: now)
    lookups = []
    for now in (0.0, 200.0, 400.0, 401.0, 402.0):  # noqa: B007  # read by the lambda above
        await gateway.probe(PLAN)
        lookups.append(cluster.lookups)
    await gateway.close()
    assert set(hosts) == {"ingress.istio-ingress.svc"}
    # Afresh after five minutes, and after a failure.
    assert lookups == [1, 1, 2, 2, 3]


async def test_a_gateway_that_does_not_exist_is_named() -> None:
    gateway = HttpGateway(NO_CLUSTER)
    result = await gateway.probe(PLAN)
    await gateway.close()
    assert not result.healthy
    assert result.detail.startswith("gateway istio-ingress/public: get gateways.networking.istio.io")
