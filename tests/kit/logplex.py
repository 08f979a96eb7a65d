"""A node of Logplex, played: its wire format byte by byte, and what it does with answers, time-outs and refused connections.

As far as is known of it: one request in flight; 3 s to connect and 5 s for an answer; 2xx is success, a 4xx other than 429
drops the frame silently; anything else costs one of three tries, which follow at once; a failed connect costs none and backs
off. What is dropped after three tries, or overflows the buffer, is told by L10 at the beginning of the next frame. It reads
answers as its HTTP client does, which knows no chunked ones.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 5.0
BUFFER, TRIES = 1024, 3
STAMP = b"2026-11-20T10:00:00.203456+00:00"


def message(
    app: str, process: str, text: bytes, *, end: bytes = b"\n", at: bytes = STAMP, priority: int = 158
) -> bytes:
    """Return a message as Logplex frames it."""
    line = b"<%d>1 %s host %s %s - " % (priority, at, app.encode(), process.encode()) + text + end
    return b"%d %s" % (len(line), line)


def request_line(
    status: object = 200, *, path: str = "/", service: object = 12, code: str = "", at: bytes = STAMP
) -> bytes:
    """Return a message of the router."""
    error = f'at=error code={code} desc="Described"' if code else "at=info"
    text = (
        f'{error} method=GET path="{path}" host=pdf.example.com request_id={uuid.uuid4()} fwd="198.51.100.7" dyno=web.1'
        f" connect=1ms service={service}ms status={status} bytes=974 protocol=http1.1 tls=true tls_version=tls1.3"
    )
    return message("heroku", "router", text.encode(), at=at)


def overflow(number: int) -> bytes:
    """Return L10, which has no line feed."""
    text = f"Error L10 (output buffer overflow): {number} messages dropped since {STAMP.decode()}."
    return message("heroku", "logplex", text.encode(), end=b"", priority=172)


def frame(messages: Iterable[bytes], dropped: int = 0) -> tuple[int, bytes]:
    """Return the count and the body of a frame."""
    parts = [overflow(dropped)] * bool(dropped) + list(messages)
    return len(parts), b"".join(parts)


@dataclass
class Answer:
    """An answer as Logplex' client reads it."""

    status: int
    reason: str
    headers: dict[str, str]
    rest: bytes = b""

    @property
    def closes(self) -> bool:
        """Whether the connection ends with it."""
        return self.headers.get("connection", "").lower() == "close"


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read an answer. Raises ValueError for one that Logplex does not understand."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
    version, status, reason = head[0].split(" ", 2)
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    if version != "HTTP/1.1" or not reason or "transfer-encoding" in headers or "content-length" not in headers:
        raise ValueError(f"Logplex does not understand this: {head}")
    return Answer(int(status), reason, headers, await reader.readexactly(int(headers["content-length"])))


@dataclass
class Node:
    """A node that sends one drain's messages.

    Parameters
    ----------
    address
        Returns the host and the port of a replica, at each connect.
    drain_token
        The drain.
    credentials
        ``user:password``.
    most
        Messages in a frame.
    """

    address: Callable[[], tuple[str, int]]
    drain_token: str
    credentials: str
    most: int = 200
    buffer: deque[bytes] = field(default_factory=deque)
    seen: Counter[str] = field(default_factory=Counter)
    sent: int = 0
    dropped: int = 0
    silently: int = 0
    acknowledged: int = 0
    _moves: bool = False
    _connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def write(self, messages: Iterable[bytes]) -> None:
        """Take messages of the app; the oldest go where there is no room."""
        for one in messages:
            self.sent += 1
            if len(self.buffer) >= BUFFER:
                self.buffer.popleft()
                self.dropped += 1
            self.buffer.append(one)

    async def run(self, ended: asyncio.Event) -> None:
        """Send until there is nothing left after the end."""
        while self.buffer or not ended.is_set():
            if self.buffer:
                await self.send_frame()
            else:
                await asyncio.sleep(0.002)
        if self.dropped:
            await self.send_frame()
        self._close()

    async def send_frame(self) -> None:
        """Send the next frame until it is taken or dropped."""
        messages = [self.buffer.popleft() for _ in range(min(self.most, len(self.buffer)))]
        identity = uuid.uuid4().hex
        if self._moves:
            self._moves = False
            self._close()
        for _ in range(TRIES):
            told = self.dropped
            count, body = frame(messages, told)
            answer = await self._try(identity, count, body)
            self.seen[str(answer.status) if answer else "none"] += 1
            if answer and 200 <= answer.status < 300:
                self.acknowledged += len(messages)
                self.dropped -= told
                return
            if answer and 400 <= answer.status < 500 and answer.status != 429:
                self.silently += len(messages)
                return
        self.dropped += len(messages)

    async def _try(self, identity: str, count: int, body: bytes) -> Answer | None:
        for backoff in itertools.chain((0.01, 0.05, 0.2), itertools.repeat(1.0)):
            with contextlib.suppress(OSError, TimeoutError):
                if self._connection is None:
                    host, port = self.address()
                    async with asyncio.timeout(CONNECT_SECONDS):
                        self._connection = await asyncio.open_connection(host, port)
                break
            await asyncio.sleep(backoff)
        assert self._connection
        reader, writer = self._connection
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(head(self.drain_token, self.credentials, identity, count, body) + body)
                await writer.drain()
                answer = await read_answer(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self._close()
            return None
        if answer.closes:
            self._close()
        return answer

    def redirect(self, address: Callable[[], tuple[str, int]]) -> None:
        """Send the next frames to others."""
        self.address = address
        self._moves = True

    def _close(self) -> None:
        if self._connection is not None:
            self._connection[1].transport.abort()
            self._connection = None


def head(
    drain_token: str, credentials: str, identity: str, count: int, body: bytes, *, path: str = "/logplex"
) -> bytes:
    """Return the head of a request as Logplex writes it."""
    basic = f"Authorization: Basic {base64.b64encode(credentials.encode()).decode()}\r\n" if credentials else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: drain.example.com\r\n{basic}Content-Type: application/logplex-1\r\n"
        f"Logplex-Msg-Count: {count}\r\nLogplex-Frame-Id: {identity}\r\nLogplex-Drain-Token: {drain_token}\r\n"
        f"User-Agent: Logplex/v72\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
