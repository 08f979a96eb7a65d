"""Probes the Heroku leg through the ingress gateway, on the way that users' requests take after a rollback."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from cutover.adapters.addresses import CheckedResolver
from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio.rendering import LEG_HEADER, PROBE_HEADER, PROBE_VALUE
from cutover.domain.evidence.errors import ROUTING_FAULTS, is_error
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.servers import serves
from cutover.domain.resources import SERVICES, Json
from cutover.domain.revision import HEADER
from cutover.domain.traffic import Probe
from cutover.ports.errors import Conflict, Gone, Unavailable

#: Seconds that a probe may take to connect, and to get an answer; twice that in total.
TIMEOUT = 5.0

#: Seconds for which a gateway's address is cached.
ADDRESS_LIFETIME = 300.0

#: Seconds for which a connection is reused. Opening a connection is half of a probe's cost, so that probes of several plans
#: share it, and new routes apply to old connections. But a connection leads to one proxy of the gateway, and a proxy that is
#: about to end, or that istiod does not reach, must not stand for all proxies for longer.
KEPT = 2.0

#: Bytes of an error page that are read.
EXCERPT = 16_384
#: Characters of an answer's header that are shown: any program may have sent it.
SHOWN = 120

#: How Heroku's router answers for a Host without an app: the page's text, and the address of the page in its frame.
NO_SUCH_APP = ("no such app", "no-such-app")

#: Settings of connections to both kinds of addresses.
_CONNECTOR: Mapping[str, Any] = {
    # The certificate is for the public host and may be of any CA. The request has no secret, and only the revision header
    # of the answer is used as proof.
    "ssl": False,
    # Each plan has one probe at a time. Legs that hang must not delay the probes of others.
    "limit": 0,
}


@dataclass(frozen=True, slots=True)
class _Address:
    url: str
    found_at: float


class _Connector(aiohttp.TCPConnector):
    """Limits the age of connections; aiohttp itself limits only their idle time."""

    def __init__(self, resolver: AbstractResolver | None) -> None:
        super().__init__(**_CONNECTOR, keepalive_timeout=KEPT, resolver=resolver)
        self._made: WeakKeyDictionary[object, float] = WeakKeyDictionary()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  # aiohttp's signature
    ) -> Connection:
        """Return a connection from the pool, or a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            now = time.monotonic()
            if now - self._made.setdefault(connection.protocol, now) < KEPT:
                return connection
            connection.close()


class HttpLegProbe:
    """:class:`cutover.ports.leg_probe.LegProbe` over HTTP.

    Parameters
    ----------
    cluster
        The API server, for Gateways and their Services.
    urls
        Known addresses by the gateway's ``namespace/name``, such as ``{"istio-ingress/public": "http://127.0.0.1:18080"}``.
        They come from the operator's settings, and may be anywhere.
    resolver
        Resolves names; for tests. By default the address of a Gateway's Service may not be on this machine or its link:
        otherwise the author of a Gateway and a Service could direct requests to the operator itself, or to the metadata
        service.
    now
        Returns Unix seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        urls: Mapping[str, str] | None = None,
        *,
        resolver: AbstractResolver | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._cluster = cluster
        self._urls = dict(urls or {})
        self._found: dict[tuple[str, str], _Address] = {}
        self._now = now
        # Addresses for the first session follow from plans, and those for the second from the settings.
        self._checked = _session(_Connector(resolver or CheckedResolver()))
        self._trusted = _session(_Connector(resolver))

    async def close(self) -> None:
        """Close the connections."""
        await self._checked.close()
        await self._trusted.close()

    async def probe(self, plan: Plan) -> Probe:
        """Send one request to the Heroku leg through the gateway. Never raises: a failure is an unhealthy probe.

        Where the gateway closes the connection before it answers, the request is repeated once, as browsers do.
        """
        istio = plan.spec.traffic.istio
        gateway, host = istio.qualified_gateways(plan.namespace)[0], istio.hosts[0]
        started = self._now()
        try:
            url = await self._url(gateway, host)
        except (Conflict, Gone, Unavailable) as problem:
            return Probe(at=started, revision="", healthy=False, detail=f"gateway {gateway}: {problem}")
        session = self._trusted if gateway in self._urls else self._checked
        try:
            async with session.get(
                f"{url}{istio.probe_path}",
                headers={"Host": host},
                # Only probes with the same name share a connection, as TLS is for one host.
                server_hostname=host if url.startswith("https:") else None,
                allow_redirects=False,
            ) as response:
                body = await _excerpt(response) if response.status >= 400 else ""
        except TimeoutError:
            return Probe(started, "", healthy=False, detail=f"{url} gave no answer within {TIMEOUT:g} s")
        except (aiohttp.ClientError, ValueError) as error:
            # The gateway may have moved: look it up again.
            self._found.pop((gateway, host), None)
            return Probe(started, "", healthy=False, detail=f"{url}: {_reason(error)}")
        healthy, detail = judge(response.status, response.headers, body)
        # The time of the request, not of the answer: the probe does not prove a route that changed in between.
        return Probe(started, response.headers.get(HEADER, "")[:SHOWN], healthy, detail)

    async def _url(self, gateway: str, host: str) -> str:
        """Return the URL of a gateway for the host. Raises Conflict, Gone, Unavailable."""
        if gateway in self._urls:
            return self._urls[gateway]
        known = self._found.get((gateway, host))
        if known is None or self._now() - known.found_at > ADDRESS_LIFETIME:
            namespace, name = gateway.split("/", 1)
            spec = (await self._cluster.get(GATEWAYS, namespace, name)).get("spec") or {}
            services = await self._cluster.list(SERVICES, namespace)
            known = self._found[(gateway, host)] = _Address(address(namespace, spec, services, host), self._now())
        return known.url


def _session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        # Cookies of one host's app must not reach another's.
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=2 * TIMEOUT, sock_connect=TIMEOUT, sock_read=TIMEOUT),
        auto_decompress=False,
        headers={"User-Agent": "cutover-probe", "Accept-Encoding": "identity", PROBE_HEADER: PROBE_VALUE},
    )


async def _excerpt(response: aiohttp.ClientResponse) -> str:
    data = b""
    async for part in response.content.iter_any():
        data += part
        if len(data) >= EXCERPT:
            break
    return data[:EXCERPT].decode(errors="replace")


def _reason(error: Exception) -> str:
    # The error's own text repeats the address and its settings.
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(cause) or type(cause).__name__


def judge(status: int, headers: Mapping[str, str], body: str) -> tuple[bool, str]:
    """Return whether an app on Heroku answered, and the answer in words.

    Parameters
    ----------
    headers
        The answer's headers, with case-insensitive keys.
    body
        The start of an error page; ``""`` for other answers.
    """
    answer = f"HTTP {status}"
    if headers.get(LEG_HEADER) != PROBE_VALUE:
        # The gateway itself answered, or another route.
        return False, f"{answer}, not by way of the plan's route"
    if fault := ROUTING_FAULTS.get(str(status)):
        return False, f"{answer} ({fault}): Heroku's router does not take this host name"
    if status == 404 and any(words in body.lower() for words in NO_SUCH_APP):
        return False, f"{answer} (no such app): Heroku knows no app by this host name"
    if is_error(str(status), heroku=True):
        code = headers.get("x-heroku-error", "")[:SHOWN]
        # Heroku shows its error codes in its logs only; Envoy's own answers are one line of text.
        plain = headers.get("content-type", "").startswith("text/plain")
        reason = code or (body.strip().splitlines() or [""])[0][:SHOWN] if code or plain else ""
        return False, f"{answer} ({reason})" if reason else answer
    return True, answer


def address(namespace: str, gateway: Json, services: list[Json], host: str) -> str:
    """Return the URL at which a Gateway's proxies are reached from inside the cluster.

    Parameters
    ----------
    namespace
        Namespace of the Gateway and its Service.
    gateway
        Spec of the Gateway.
    services
        All Services of the namespace.
    host
        Public host of the request.

    Raises
    ------
    Unavailable
        Where there is no Service for its proxies, or no server for the host.
    """
    selector = gateway.get("selector") or {}
    names = sorted(
        service["metadata"]["name"]
        for service in services
        # An ExternalName is a CNAME to a name of its owner's choice; its selector has no effect.
        if (spec := service.get("spec") or {}).get("type") != "ExternalName"
        and (chosen := spec.get("selector"))
        and selector.items() <= chosen.items()
    )
    if not names:
        wanted = ", ".join(f"{name}={value}" for name, value in selector.items())
        raise Unavailable(
            f"no Service in namespace {namespace} selects the gateway's proxies ({wanted}): give the operator the "
            "gateway's URL in its settings"
        )
    # Preflight checks which namespaces the servers are open to.
    servers = [server for server in gateway.get("servers") or () if serves(server, host)]
    # A server that redirects to HTTPS does not reach a leg.
    plain = [s for s in servers if _protocol(s) in ("HTTP", "HTTP2") and not _tls(s).get("httpsRedirect")]
    secure = [s for s in servers if _protocol(s) == "HTTPS" and _tls(s).get("mode") != "PASSTHROUGH"]
    for scheme, found in (("http", plain), ("https", secure)):
        if found:
            return f"{scheme}://{names[0]}.{namespace}.svc:{found[0]['port']['number']}"
    raise Unavailable(f"the gateway has no HTTP or HTTPS server for {host}")


def _protocol(server: Json) -> str:
    return str((server.get("port") or {}).get("protocol", "")).upper()


def _tls(server: Json) -> Json:
    tls: Json = server.get("tls") or {}
    return tls
