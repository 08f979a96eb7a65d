"""Asks DNS by dnspython. An answer is somebody else's: it is bounded in time and size, and nothing of a failed one is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from cutover.domain.dns import HostRecord

#: Seconds for an answer of one server, and in all.
SERVER_SECONDS, ANSWER_SECONDS = 2.0, 5.0
#: Questions at the same time, of all plans.
CONCURRENT = 8
#: Names of a chain of CNAMEs that are kept.
MOST_TARGETS = 8


def machine_resolver() -> dns.asyncresolver.Resolver:
    """Return what asks the machine's own resolvers, which are read anew as they may change; it keeps no answer.

    Raises
    ------
    dns.exception.DNSException
        If there are none.
    """
    return _bounded(dns.asyncresolver.Resolver())


def _bounded(resolver: dns.asyncresolver.Resolver) -> dns.asyncresolver.Resolver:
    resolver.timeout, resolver.lifetime, resolver.cache = SERVER_SECONDS, ANSWER_SECONDS, None
    return resolver


class DnsResolver:
    """:class:`cutover.ports.resolver.Resolver` by the machine's own resolvers.

    Parameters
    ----------
    servers
        Addresses of resolvers, for tests; by default those of the machine.
    port
        Their port.
    """

    def __init__(self, servers: Sequence[str] = (), port: int = 53) -> None:
        self._servers, self._port = list(servers), port
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def record(self, host: str) -> HostRecord:
        """Return the records of a host. Never raises."""
        try:
            async with self._slots:
                answer = await self._resolver().resolve(dns.name.from_text(host), dns.rdatatype.A, search=False)
            links = answer.chaining_result.cnames
            ttl = links[0].ttl if links else answer.rrset.ttl if answer.rrset is not None else None
            names = [str(link[0].target).rstrip(".").lower() for link in links]
        except dns.resolver.NXDOMAIN:
            return HostRecord(host, problem="there is no such name")
        except dns.resolver.NoAnswer:
            return HostRecord(host, problem="it has no IPv4 address")
        except dns.exception.Timeout:
            return HostRecord(host, problem=f"no answer within {ANSWER_SECONDS:g} s")
        except (dns.exception.DNSException, OSError, ValueError) as error:
            return HostRecord(host, problem=f"no answer ({type(error).__name__})")
        return HostRecord(host, ttl, tuple(names[:MOST_TARGETS]))

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if not self._servers:
            return machine_resolver()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = list(self._servers), self._port
        return _bounded(resolver)
