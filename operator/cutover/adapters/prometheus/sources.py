"""The clients of all Prometheus servers in the settings, by name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import TypeVar

from cutover.adapters.prometheus.auth import auth_of
from cutover.adapters.prometheus.client import PrometheusClient, Skew
from cutover.ports.errors import Unavailable
from cutover.settings import PrometheusServer, PrometheusServers

#: Connections to each server, for the blocks of all plans and for custom SLOs.
_BLOCK_CONNECTIONS, _SLO_CONNECTIONS = 16, 8
#: Longest answers in bytes: of one query for the blocks of many plans, which are asked about in parts where it is longer, and
#: of a query that a plan's author wrote. JSON of short series takes up to 14 times its length in memory; read as counters, it
#: takes two or three times.
_BLOCK_BYTES, _SLO_BYTES = 16 << 20, 1 << 20
#: Seconds between two comparisons of clocks, and between two checks whether a comparison is due.
_COMPARE_SECONDS, _LOOK_SECONDS = 60.0, 5.0
#: Change in seconds between the wall clock and the monotonic clock that shows that the clock was set or the machine slept.
_CLOCK_WAS_SET = 0.25

_T = TypeVar("_T")


class Sources:
    """The Prometheus servers of the settings; ``""`` is the default.

    A plan can choose a server by name, where the settings list its namespace. A plan never gives an address: the operator's
    credentials go only to the URL beside them in the settings.

    Each server has two clients, with separate connections and circuit breakers: slow queries of teams do not delay blocks.

    Parameters
    ----------
    servers
        From the settings.
    make
        Creates a client; for tests.
    """

    def __init__(
        self,
        servers: PrometheusServers,
        make: Callable[..., PrometheusClient] = PrometheusClient,
    ) -> None:
        self._namespaces = {server.name: server.namespaces for server in servers.named}
        by_name: dict[str, PrometheusServer] = {"": servers.default} | {one.name: one for one in servers.named}
        self._clients: dict[str, PrometheusClient] = {}
        self._slo_clients: dict[str, PrometheusClient] = {}
        for name, server in by_name.items():
            skew = Skew()
            self._clients[name] = _client(name, server, _BLOCK_CONNECTIONS, _BLOCK_BYTES, skew, make)
            self._slo_clients[name] = _client(name, server, _SLO_CONNECTIONS, _SLO_BYTES, skew, make)

    @property
    def names(self) -> tuple[str, ...]:
        """All names, including ``""``."""
        return tuple(self._clients)

    def get(self, name: str) -> PrometheusClient:
        """Return the client for blocks. Raises Unavailable where there is no such server."""
        return _of(self._clients, name)

    def for_slos(self, name: str) -> PrometheusClient:
        """Return the client for custom SLOs. Raises Unavailable where there is no such server."""
        return _of(self._slo_clients, name)

    def allowed(self, namespace: str) -> tuple[str, ...]:
        """Return the names that plans of a namespace may choose."""
        return tuple(
            name
            for name, patterns in self._namespaces.items()
            if any(fnmatchcase(namespace, pattern) for pattern in patterns)
        )

    def skews(self) -> dict[str, float]:
        """Return by how many seconds each server's clock is ahead of the operator's, by name."""
        return {name: client.skew for name, client in self._clients.items()}

    async def run(self) -> None:
        """Compare clocks with all servers that are queried. Never returns."""
        compared = dict.fromkeys(self._clients, -_COMPARE_SECONDS)
        ahead = time.time() - time.monotonic()
        while True:
            if abs(time.time() - time.monotonic() - ahead) > _CLOCK_WAS_SET:
                ahead = time.time() - time.monotonic()
                compared = dict.fromkeys(self._clients, -_COMPARE_SECONDS)
            due = [name for name, at in compared.items() if time.monotonic() - at >= _COMPARE_SECONDS]
            done = await asyncio.gather(*(self.compare_clocks(name) for name in due))
            compared |= {name: time.monotonic() for name, measured in zip(due, done, strict=True) if measured}
            await asyncio.sleep(_LOOK_SECONDS)

    async def compare_clocks(self, name: str) -> bool:
        """Compare clocks with a server that was queried since the last comparison; return whether that succeeded."""
        client, slo_client = self._clients[name], self._slo_clients[name]
        if not (client.asked or slo_client.asked):
            return False
        slo_client.asked = False
        try:
            await client.compare_clocks()
        except Unavailable:
            return False  # queries report the outage; try again after the next query
        return True

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in (*self._clients.values(), *self._slo_clients.values())))


def _client(
    name: str,
    server: PrometheusServer,
    connections: int,
    max_bytes: int,
    skew: Skew,
    make: Callable[..., PrometheusClient],
) -> PrometheusClient:
    return make(
        server.url,
        label=name,
        timeout=server.timeout,
        connections=connections,
        max_bytes=max_bytes,
        auth=auth_of(server),
        tls=server.tls,
        tenant=server.tenant,
        parameters=server.parameters,
        matchers=server.matchers,
        skew=skew,
    )


def _of(known: dict[str, _T], name: str) -> _T:
    try:
        return known[name]
    except KeyError:
        raise Unavailable(f"the operator's settings have no Prometheus named {name}") from None
