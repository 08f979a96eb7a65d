"""The PROXY protocol (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt), for gateways that take no connection without it.

Behind a load balancer that sends it, a gateway learns users' addresses from it, and closes every connection that begins
otherwise. The operator connects to the gateway itself, so that it sends the header itself.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any

#: Version 2 with the command LOCAL: the sender speaks for itself, and the connection's own addresses are the true ones.
HEADER = b"\r\n\r\n\x00\r\nQUIT\n" + b"\x20\x00\x00\x00"


class _AnnouncedSocket(socket.socket):
    """A socket whose first bytes are the header, before a TLS handshake too."""

    _announced = False

    def send(self, data: Any, flags: int = 0) -> int:
        self._announce()
        return super().send(data, flags)

    def sendmsg(self, buffers: Iterable[Any], *rest: Any) -> int:
        self._announce()
        return super().sendmsg(buffers, *rest)

    def _announce(self) -> None:
        if self._announced:
            return
        # The buffer of a new connection has room for it. If not, BlockingIOError has the event loop come back later.
        if super().send(HEADER) != len(HEADER):
            raise OSError("the PROXY protocol's header was cut off")
        self._announced = True


def announced_socket(info: Any) -> socket.socket:
    """Return a socket that sends the header first: a socket factory for aiohttp."""
    kind, sort, protocol, *_ = info
    return _AnnouncedSocket(kind, sort, protocol)
