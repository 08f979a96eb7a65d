"""Sends requests through the plans' ingress gateways, on the way that users' requests take."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from cutover.adapters.addresses import CheckedResolver
from cutover.adapters.kube.client import Cluster
from cutover.adapters.proxy_protocol import announced_socket
from cutover.adapters.traffic.istio.rendering import probe_value
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.names import PROBE_HEADER
from cutover.domain.preflight.checks.istio.servers import serves
from cutover.domain.resources import SERVICES, Json
from cutover.domain.revision import desired_revision
from cutover.domain.texts import plain
from cutover.domain.traffic import Leg
from cutover.ports.errors import Unavailable

_T = TypeVar("_T")

#: Seconds that a request may take to connect, and to get an answer; twice that in total.
TIMEOUT = 5.0

#: Seconds for which a gateway's address is cached.
ADDRESS_LIFETIME = 300.0

#: Seconds for which a connection is reused. Opening a connection is half of a probe's cost, so that probes of several plans
#: share it, and new routes apply to old connections. But a connection leads to one proxy of the gateway, and a proxy that is
#: about to end, or that istiod does not reach, must not stand for all proxies for longer.
KEPT = 2.0

#: Characters of an answer's header that are shown: any program may have sent it.
SHOWN = 120

#: What a load balancer that ends TLS says of users' requests. A gateway takes its word only if it trusts proxies, and else puts
#: its own in that place.
_BY_HTTPS = {"X-Forwarded-Proto": "https"}

#: Settings of connections to both kinds of addresses.
_CONNECTOR: Mapping[str, Any] = {
    # The certificate is for the public host and may be of any CA. The request has no secret, and only the revision header
    # of the answer is used as proof.
    "ssl": False,
    # Each plan has few requests at a time. Legs that hang must not delay those of others.
    "limit": 0,
}


@dataclass(frozen=True, slots=True)
class _Address:
    url: str
    found_at: float


class _Connector(aiohttp.TCPConnector):
    """Limits the age of connections; aiohttp itself limits only their idle time."""

    def __init__(self, resolver: AbstractResolver | None, **settings: Any) -> None:
        super().__init__(**_CONNECTOR, keepalive_timeout=KEPT, resolver=resolver, **settings)
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


class GatewayClient:
    """Sends requests through the plans' gateways.

    Parameters
    ----------
    cluster
        The API server, for Gateways and their Services.
    urls
        Known addresses by the gateway's ``namespace/name``, such as ``{"istio-ingress/public": "http://127.0.0.1:18080"}``.
        They come from the operator's settings, and may be anywhere.
    proxied
        Which of these gateways take connections only with the PROXY protocol.
    resolver
        Resolves names; for tests. By default the address of a Gateway's Service may not be on this machine or its link:
        otherwise the author of a Gateway and a Service could direct requests to the operator itself, or to the metadata
        service.
    now
        Returns Unix seconds.
    by_tls
        Whether to prefer a server with TLS where the gateway has one, as users do; without, connections are cheaper.
    """

    def __init__(
        self,
        cluster: Cluster,
        urls: Mapping[str, str] | None = None,
        *,
        proxied: Collection[str] = (),
        resolver: AbstractResolver | None = None,
        now: Callable[[], float] = time.time,
        by_tls: bool = False,
    ) -> None:
        self._cluster = cluster
        self._urls = dict(urls or {})
        self._found: dict[tuple[str, str], _Address] = {}
        self._now = now
        self._by_tls = by_tls
        # Addresses for the first session follow from plans, and those for the others from the settings.
        self._checked = session(_Connector(resolver or CheckedResolver()))
        self._trusted = session(_Connector(resolver))
        self._announced = session(_Connector(resolver, socket_factory=announced_socket))
        self._clients = dict.fromkeys(self._urls, self._trusted) | dict.fromkeys(proxied, self._announced)

    async def close(self) -> None:
        """Close the connections."""
        await self._checked.close()
        await self._trusted.close()
        await self._announced.close()

    async def url(self, plan: Plan) -> str:
        """Return the URL of a plan's gateway for its host. Raises Conflict, Gone, Unavailable."""
        gateway, host = way(plan)
        if gateway in self._urls:
            return self._urls[gateway]
        known = self._found.get((gateway, host))
        if known is None or self._is_old(known):
            namespace, name = gateway.split("/", 1)
            spec = (await self._cluster.get(GATEWAYS, namespace, name)).get("spec") or {}
            services = await self._cluster.list(SERVICES, namespace)
            found = address(namespace, spec, services, host, by_tls=self._by_tls)
            # Hosts come and go with edits of plans.
            self._found = {of: one for of, one in self._found.items() if not self._is_old(one)}
            known = self._found[(gateway, host)] = _Address(found, self._now())
        return known.url

    def _is_old(self, known: _Address) -> bool:
        return self._now() - known.found_at > ADDRESS_LIFETIME

    def forget(self, plan: Plan) -> None:
        """Look the gateway up again: it may have moved."""
        self._found.pop(way(plan), None)

    def get(
        self, plan: Plan, url: str, path: str, headers: Mapping[str, str]
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Return the context of one GET for the plan's host.

        Parameters
        ----------
        url
            URL of the gateway, from :meth:`url`.
        path
            A path of the plan.
        headers
            Headers beside the host's and the plan's own.
        """
        gateway, host = way(plan)
        return self._clients.get(gateway, self._checked).get(
            f"{url}{path}",
            headers={**asked_with(plan), **_BY_HTTPS, **headers, "Host": host},
            # Only requests with the same name share a connection, as TLS is for one host.
            server_hostname=host if url.startswith("https:") else None,
            allow_redirects=False,
        )


def way(plan: Plan) -> tuple[str, str]:
    """Return the gateway and the host by which a plan's legs are asked."""
    traffic = plan.spec.traffic
    return traffic.istio.qualified_gateways(plan.namespace)[0], traffic.asked_host


async def ask_leg(plan: Plan, leg: Leg, ask: Callable[[Mapping[str, str]], Coroutine[Any, Any, tuple[_T, str]]]) -> _T:
    """Ask a leg, and once more where the gateway has another revision of the route than the plan's status asks for.

    The token is for one revision. Where the gateway has another, the first request went as a user's.

    Parameters
    ----------
    ask
        Sends one request with the token's header; returns the answer, and by which revision to ask again: ``""`` for none.
    """
    wanted = desired_revision(plan.status)
    answer, there = await ask({PROBE_HEADER: probe_value(plan, leg, wanted)})
    if there not in ("", wanted):
        answer, _ = await ask({PROBE_HEADER: probe_value(plan, leg, there)})
    return answer


def asked_with(plan: Plan) -> dict[str, str]:
    """Return the headers of a plan's requests by whichever way."""
    return {header.name: header.value for header in plan.spec.traffic.probe.headers}


def session(connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
    """Return a session for requests of no user: without cookies."""
    return aiohttp.ClientSession(
        connector=connector,
        # Cookies of one host's app must not reach another's.
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=2 * TIMEOUT, sock_connect=TIMEOUT, sock_read=TIMEOUT),
        auto_decompress=False,
        headers={"User-Agent": "cutover-probe", "Accept-Encoding": "identity"},
    )


def reason(error: Exception) -> str:
    """Return the reason of a request's failure; the error's own text repeats the address and its settings."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    return str(cause) or type(cause).__name__


def shown(text: str) -> str:
    """Return the part of an answer that is shown. aiohttp decodes bytes that are no UTF-8 as lone surrogates."""
    return plain(text[:SHOWN])


def address(namespace: str, gateway: Json, services: list[Json], host: str, *, by_tls: bool = False) -> str:
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
    by_tls
        Whether to prefer a server with TLS that asks for no certificate of the client.

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
    https = [s for s in servers if _protocol(s) == "HTTPS"]
    secure = [s for s in https if _tls(s).get("mode", "SIMPLE") in ("SIMPLE", "OPTIONAL_MUTUAL")]
    preferred = [("https", secure)] if by_tls else []
    for scheme, found in (*preferred, ("http", plain), ("https", secure)):
        if found:
            return f"{scheme}://{names[0]}.{namespace}.svc:{found[0]['port']['number']}"
    if any(_tls(server).get("mode") in ("MUTUAL", "ISTIO_MUTUAL") for server in https):
        raise Unavailable(
            f"the gateway's server for {host} asks for a client certificate, and the operator has none: add a server "
            "without, on a port that users do not reach"
        )
    raise Unavailable(f"the gateway has no HTTP or HTTPS server for {host}")


def _protocol(server: Json) -> str:
    return str((server.get("port") or {}).get("protocol", "")).upper()


def _tls(server: Json) -> Json:
    tls: Json = server.get("tls") or {}
    return tls
