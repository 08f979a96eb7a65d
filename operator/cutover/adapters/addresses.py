"""Which addresses the operator connects to where somebody else says which: a receiver's file, a Gateway's Service.

Names are no help: whoever owns one chooses what it stands for, and may choose anew between a look and a connection. So the
very address is looked at that is connected to next.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

#: The metadata service of AWS has a private address, too.
_METADATA = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("fd00:ec2::23")})
#: Addresses that have an IPv4 address in their last 32 bits, of NAT64.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


class AddressRefused(OSError):
    """An address that is not to be connected to."""

    def __str__(self) -> str:
        return "its address is of this machine or of the link"


class CheckedResolver(AbstractResolver):
    """Finds the addresses of a name; those that :func:`may_connect` refuses are none.

    It is for names only: aiohttp asks no resolver about what is an address already.

    Parameters
    ----------
    names
        Finds addresses that are not checked; by default the system does.
    """

    def __init__(self, names: AbstractResolver | None = None) -> None:
        self._names = names or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses. Raises AddressRefused where none is left, OSError where there is none."""
        found = await self._names.resolve(host, port, family)
        usable = [one for one in found if may_connect(_address(one["host"]))]
        if not usable:
            raise AddressRefused
        return usable

    async def close(self) -> None:
        """Let go of what it asks."""
        await self._names.close()


def checked_sockets(allowed: tuple[Network, ...] = ()) -> Callable[[Any], socket.socket]:
    """Return a socket factory for aiohttp that raises AddressRefused where :func:`may_connect` says no."""

    def make(info: Any) -> socket.socket:
        kind, sort, protocol, _, where = info
        if not may_connect(_address(where[0]), allowed):
            raise AddressRefused
        return socket.socket(kind, sort, protocol)

    return make


def may_connect(address: Address, allowed: tuple[Network, ...] = ()) -> bool:
    """Tell whether an address that somebody else chose may be connected to.

    Not on the operator's own machine and not beside it on the link: there are the metadata services of clouds, which give
    credentials to whoever asks, and nodes' own services. Private addresses are where clusters' Services are.

    Parameters
    ----------
    allowed
        Networks that may be connected to all the same.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return may_connect(inner, allowed)
    if any(address in network for network in allowed):
        return True
    here = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    broad = isinstance(address, ipaddress.IPv4Address) and (address in _THIS_NETWORK or address == _BROADCAST)
    return not (here or broad or address in _METADATA)


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])  # with its zone, an address of the link
