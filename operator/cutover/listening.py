"""Answers ``/healthz`` and ``/metrics`` at their ports. Any client may ask, so answers are short, quick and bounded in time.

Anybody in the cluster may connect where no NetworkPolicy is enforced. So connections are few, each has one request and a
time limit, and the text of the metrics is made at most once a second, in one thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import REGISTRY, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

#: Connections at a port; more are closed at once.
MOST_CONNECTIONS = 32
#: Seconds for a request and its answer, and bytes of a request.
LONGEST_SECONDS, LONGEST_REQUEST = 10.0, 8192
#: Seconds for which the text of the metrics is used.
METRICS_SECONDS = 1.0

_NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

#: Returns the content type and the body.
Page = Callable[[], Awaitable[tuple[str, bytes]]]


async def alive() -> tuple[str, bytes]:
    """Return the page that says that the event loop runs."""
    return "application/json", b"{}"


class MetricsPage:
    """The metrics as text.

    Parameters
    ----------
    make
        Makes the text, which takes time for each plan; called in a thread.
    """

    def __init__(self, make: Callable[[], bytes] = lambda: generate_latest(REGISTRY)) -> None:
        self._make = make
        self._lock = asyncio.Lock()
        self._text = b""
        self._made_at: float | None = None

    async def __call__(self) -> tuple[str, bytes]:
        """Return the page; those who ask at the same time get the same."""
        async with self._lock:
            if self._made_at is None or time.monotonic() - self._made_at >= METRICS_SECONDS:
                self._text = await asyncio.to_thread(self._make)
                self._made_at = time.monotonic()
            return CONTENT_TYPE_LATEST, self._text


@asynccontextmanager
async def listening(address: str, pages: Mapping[tuple[int, str], Page]) -> AsyncIterator[None]:
    """Answer while the context is open.

    Parameters
    ----------
    address
        The address to listen at.
    pages
        Pages by port and path. Port 0 is for none.

    Raises
    ------
    OSError
        If a port is in use.
    """
    async with AsyncExitStack() as stack:
        for (port, path), page in pages.items():
            if port:
                server = await asyncio.start_server(_Port(path, page).answer, address, port, limit=LONGEST_REQUEST)
                stack.callback(server.close)
        yield


class _Port:
    """Answers at one port."""

    def __init__(self, path: str, page: Page) -> None:
        self._path = path
        self._page = page
        self._connections = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        if self._connections >= MOST_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            # A client that is slow or sends no HTTP gets no answer.
            with contextlib.suppress(TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                async with asyncio.timeout(LONGEST_SECONDS):
                    request = await reader.readuntil(b"\r\n\r\n")
                    writer.write(await self._response(request))
                    await writer.drain()
                    writer.write_eof()
                    await reader.read()  # until the other side has all of it and closes
        finally:
            self._connections -= 1
            writer.transport.abort()

    async def _response(self, request: bytes) -> bytes:
        method, _, rest = request.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD") or path != self._path.encode():
            return _NOT_FOUND
        content, body = await self._page()
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {content}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + (body if method == b"GET" else b"")
