"""Which addresses the operator may connect to where others choose them: a receiver's file, a Gateway's Service.

A check of host names is not enough: the owner of a name chooses its addresses, and may change them between the check and
the connection. The check is therefore made on the very address of the next connection.
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

#: Clouds' own services for machines that are not on the link: AWS' metadata, Azure's host, Alibaba's and Oracle's metadata.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("fd00:ec2::254", "fd00:ec2::23", "168.63.129.16", "100.100.100.200", "192.0.0.192"),
    )
)
#: Networks of IPv6 with an IPv4 address in their last 32 bits: NAT64, the same as translators and as old tunnels write it.
_WITH_IPV4 = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "::ffff:0:0:0/96", "::/96")))
#: NAT64 of a local network: how the IPv4 address is in it is that network's affair. Sites' addresses, as they were once.
_LOCAL = tuple(map(ipaddress.ip_network, ("64:ff9b:1::/48", "fec0::/10")))
_IETF = ipaddress.ip_network("192.0.0.0/24")
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


class AddressRefused(OSError):
    """The operator may not connect to the address."""

    def __str__(self) -> str:
        return "its address is a loopback or link-local address"


class NotPublicError(AddressRefused):
    """The address is not one of the Internet."""

    def __str__(self) -> str:
        return "its address is not a public one"


class CheckedResolver(AbstractResolver):
    """Resolves names, without the addresses that :func:`may_connect` refuses.

    It covers names only: for an address aiohttp uses no resolver.

    Parameters
    ----------
    names
        Resolves without the check; by default the system's resolver.
    """

    def __init__(self, names: AbstractResolver | None = None) -> None:
        self._names = names or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the allowed addresses. Raises AddressRefused where none is allowed, OSError where the name has none."""
        found = await self._names.resolve(host, port, family)
        usable = [one for one in found if may_connect(_address(one["host"]))]
        if not usable:
            raise AddressRefused
        return usable

    async def close(self) -> None:
        """Close the resolver behind it."""
        await self._names.close()


def checked_sockets(allowed: tuple[Network, ...] = ()) -> Callable[[Any], socket.socket]:
    """Return a socket factory for aiohttp that raises AddressRefused where :func:`may_connect` says no."""

    def make(info: Any) -> socket.socket:
        kind, sort, protocol, _, where = info
        if not may_connect(_address(where[0]), allowed):
            raise AddressRefused
        return socket.socket(kind, sort, protocol)

    return make


def public_sockets(info: Any) -> socket.socket:
    """Make a socket for aiohttp, to an address of the Internet only. Raises NotPublicError."""
    kind, sort, protocol, _, where = info
    if not is_public(_address(where[0])):
        raise NotPublicError
    return socket.socket(kind, sort, protocol)


def is_public(address: Address) -> bool:
    """Tell whether an address is one of the Internet, and of no private network."""
    if isinstance(address, ipaddress.IPv6Address) and (inner := _inside(address)) is not None:
        return is_public(inner)
    # Versions of Python differ about networks of the IETF.
    reserved = (
        address in _IETF if isinstance(address, ipaddress.IPv4Address) else any(address in one for one in _LOCAL)
    )
    return address.is_global and not reserved and may_connect(address)


def may_connect(address: Address, allowed: tuple[Network, ...] = ()) -> bool:
    """Tell whether the operator may connect to an address that others chose.

    It may not connect to its own machine or to its link: clouds' metadata services, which give credentials to every caller,
    and nodes' own services are there. Private addresses are allowed, as clusters' Services have them.

    Parameters
    ----------
    allowed
        Networks that are allowed nevertheless.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = _inside(address)
        if inner is not None:
            return may_connect(inner, allowed)
    if any(address in network for network in allowed):
        return True
    here = address.is_loopback or address.is_link_local or address.is_unspecified or address.is_multicast
    broad = isinstance(address, ipaddress.IPv4Address) and (address in _THIS_NETWORK or address == _BROADCAST)
    return not (here or broad or address in _METADATA or address in _LOCAL[0])


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if not (address.is_loopback or address.is_unspecified) and any(address in network for network in _WITH_IPV4):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address.ipv4_mapped or address.sixtofour


def _address(text: str) -> Address:
    return ipaddress.ip_address(text.partition("%")[0])  # an address of the link comes with its zone
