"""Finds the addresses of public names that plans choose, without a thread.

The system's resolver holds a thread for each name, for as long as the name's servers like: asyncio has a few, which count
evidence and find Prometheus. So a name whose servers never answer would keep other plans from their evidence.
"""

from __future__ import annotations

import socket

import dns.asyncresolver
import dns.exception
import dns.name
from aiohttp.abc import AbstractResolver, ResolveResult

from cutover.adapters.resolver import ANSWER_SECONDS, machine_resolver


class PublicNames(AbstractResolver):
    """Resolves names of the Internet.

    Parameters
    ----------
    resolver
        Asks the name servers; by default those of the system.
    """

    def __init__(self, resolver: dns.asyncresolver.Resolver | None = None) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses. Raises OSError where the name has none."""
        try:
            resolver = self._resolver or machine_resolver()
            # The root at its end: the cluster's search domains are not for it.
            found = await resolver.resolve_name(dns.name.from_text(host), family, lifetime=ANSWER_SECONDS)
        except (dns.exception.DNSException, UnicodeError) as error:
            raise socket.gaierror(socket.EAI_NONAME, type(error).__name__) from None
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for address, kind in found.addresses_and_families()
        ]

    async def close(self) -> None:
        """Do nothing: no connection is kept."""
