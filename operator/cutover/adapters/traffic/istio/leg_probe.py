"""Requests through the ingress gateway: the way back to Heroku, tried out as a user's request would go."""

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
from cutover.ports import Conflict, Gone, Unavailable

#: Seconds that a probe may take to connect, and to get an answer; twice that in all.
TIMEOUT = 5.0

#: Seconds for which a gateway's address is used without looking it up again.
ADDRESS_LIFETIME = 300.0

#: Seconds after which a connection serves no more probes: to make it is half of what a probe costs, so others may have it,
#: too. It leads to one of the gateway's proxies, and new routes hold for old connections. But a proxy that is about to end,
#: or that istiod does not reach, is not to speak for all of them for longer.
KEPT = 2.0

#: Bytes of an error page that are looked at.
EXCERPT = 16_384
#: Characters of an answer's header that are shown: what answers may be anything.
SHOWN = 120

#: What Heroku's router says for a Host that it knows no app of; the page's text, and the address of the page it frames.
NO_SUCH_APP = ("no such app", "no-such-app")

#: Of connections to either kind of address.
_CONNECTOR: Mapping[str, Any] = {
    # The certificate is for the public host and may be of any CA; nothing secret is sent, and what answers is believed for
    # its revision header only.
    "ssl": False,
    # There is one probe of a plan at a time. Legs that hang must not keep others waiting.
    "limit": 0,
}


@dataclass(frozen=True, slots=True)
class _Address:
    url: str
    found_at: float


class _Connector(aiohttp.TCPConnector):
    """Connections that are used for a moment only, however often: aiohttp itself limits how long they are idle."""

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
    """:class:`cutover.ports.LegProbe` over HTTP.

    Parameters
    ----------
    cluster
        Where gateways and their Services are looked up.
    urls
        Addresses that need no looking up, by the gateway's ``namespace/name``: such as
        ``{"istio-ingress/public": "http://127.0.0.1:18080"}``. They are the operator's own settings, and may be anywhere.
    resolver
        Finds addresses; for tests. By default those of Gateways' Services may not be of this machine or of the link: who
        may write a Gateway and a Service would otherwise have the operator ask itself, or the metadata service.
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
        # The address of the one comes of a plan, that of the other of the settings.
        self._checked = _session(_Connector(resolver or CheckedResolver()))
        self._trusted = _session(_Connector(resolver))

    async def close(self) -> None:
        """Close the connections."""
        await self._checked.close()
        await self._trusted.close()

    async def probe(self, plan: Plan) -> Probe:
        """Ask the Heroku leg through the gateway. Never raises: a failure is an unhealthy probe.

        Where the gateway itself breaks off before it answers, it is asked once more, as browsers do.
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
                # Connections are shared by those who name the same, as TLS is for one host.
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
        # When it was asked, not when it answered: a route that changed in between is not proven by it.
        return Probe(started, response.headers.get(HEADER, "")[:SHOWN], healthy, detail)

    async def _url(self, gateway: str, host: str) -> str:
        """Return where a gateway takes requests for the host. Raises Gone, Unavailable."""
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
        # What one host's app asks to remember is nothing to another's.
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
    # Its own text names the address once more, and its settings.
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(cause) or type(cause).__name__


def judge(status: int, headers: Mapping[str, str], body: str) -> tuple[bool, str]:
    """Say whether Heroku answered as an app does, and what came back, for people.

    Parameters
    ----------
    headers
        Of the answer, with case-insensitive keys.
    body
        The start of an error page; ``""`` for other answers.
    """
    answer = f"HTTP {status}"
    if headers.get(LEG_HEADER) != PROBE_VALUE:
        # The gateway itself, or somebody else's route.
        return False, f"{answer}, not by way of the plan's route"
    if fault := ROUTING_FAULTS.get(str(status)):
        return False, f"{answer} ({fault}): Heroku's router does not take this host name"
    if status == 404 and any(words in body.lower() for words in NO_SUCH_APP):
        return False, f"{answer} (no such app): Heroku knows no app by this host name"
    if is_error(str(status), heroku=True):
        code = headers.get("x-heroku-error", "")[:SHOWN]
        # Heroku keeps its error codes to its logs; Envoy's own answers are one line of text.
        plain = headers.get("content-type", "").startswith("text/plain")
        reason = code or (body.strip().splitlines() or [""])[0][:SHOWN] if code or plain else ""
        return False, f"{answer} ({reason})" if reason else answer
    return True, answer


def address(namespace: str, gateway: Json, services: list[Json], host: str) -> str:
    """Return the URL at which a Gateway's proxies are reached from inside the cluster.

    Parameters
    ----------
    namespace
        The Gateway's and its Service's.
    gateway
        Spec of the Gateway.
    services
        All Services of the namespace.
    host
        Public host that is asked for.

    Raises
    ------
    Unavailable
        Where there is no Service for its proxies, or no server for the host.
    """
    selector = gateway.get("selector") or {}
    names = sorted(
        service["metadata"]["name"]
        for service in services
        # An ExternalName is a CNAME to whatever its owner likes; its selector means nothing.
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
    # Which namespaces it is open to is preflight's question.
    servers = [server for server in gateway.get("servers") or () if serves(server, host)]
    # A server that redirects to HTTPS answers by itself.
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
