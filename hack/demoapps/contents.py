"""What both demo legs answer alike, byte for byte: pages, large downloads, event streams and sockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping

from aiohttp import WSMsgType, web

#: Part of a download that is sent at once (bytes).
_CHUNK = 1 << 16


def special(request: web.BaseRequest, headers: Mapping[str, str], status: int) -> web.Response | None:
    """Return the answer to a path that asks for a certain content, or None for any other path.

    `/article/<number>` is a page with what real ones send along, `/download/<MiB>` a file of that size, and
    `/stream/<seconds>` an event stream that lasts so long. All of them are the same on both legs.

    Parameters
    ----------
    request
        The request.
    headers
        Headers of every answer of the app.
    status
        Status code of the answer.

    """
    asked, _, number = request.path.strip("/").partition("/")
    make = _CONTENTS.get(asked)
    if make is None or not number.isdecimal():
        return None
    response = make(int(number))
    response.set_status(status)
    response.headers.update({name: value for name, value in headers.items() if name not in response.headers})
    return response


def article(number: int) -> bytes:
    """Return the page at `/article/<number>`."""
    text = "".join(hashlib.sha256(f"{number}/{line}".encode()).hexdigest() + "\n" for line in range(16))
    return f"<!doctype html><title>Article {number}</title><pre>\n{text}</pre>\n".encode()


def downloaded(mebibytes: int) -> str:
    """Return the SHA-256 of the file at `/download/<MiB>`, in hexadecimal digits."""
    digest = hashlib.sha256()
    for number in range((mebibytes << 20) // _CHUNK):
        digest.update(_chunk(number))
    return digest.hexdigest()


def streamed(seconds: int) -> bytes:
    """Return the whole answer to `/stream/<seconds>`: an event every half second, and one more at the end."""
    return b"".join(_event(number) for number in range(2 * seconds + 1))


async def echo(request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
    """Open a WebSocket that sends back each text, with the leg's name before it."""
    socket = _Echo(headers["x-leg"])
    socket.headers.update({name: value for name, value in headers.items() if name != "content-type"})
    await socket.prepare(request)
    return socket


class _Echo(web.WebSocketResponse):
    """Echoes after the handler has returned, as any other answer is written then: no time-out for its begin acts on it."""

    def __init__(self, leg: str) -> None:
        super().__init__()
        self._leg = leg

    async def write_eof(self) -> None:  # type: ignore[override]  # as aiohttp's own
        async for message in self:
            if message.type is WSMsgType.TEXT:
                await self.send_str(f"{self._leg} {message.data}")
        await super().write_eof()


def _page(number: int) -> web.Response:
    body = article(number)
    response = web.Response(body=body, content_type="text/html", charset="utf-8")
    response.headers.update(
        {
            "etag": f'"{hashlib.sha256(body).hexdigest()[:16]}"',
            "cache-control": "private, max-age=0",
            "strict-transport-security": "max-age=63072000",
            "x-frame-options": "SAMEORIGIN",
            "vary": "Accept-Encoding",
        }
    )
    response.set_cookie("seen", str(number), path="/", secure=True, httponly=True, samesite="Lax")
    return response


def _file(mebibytes: int) -> web.Response:
    headers = {"content-length": str(mebibytes << 20)}
    return web.Response(body=_chunks(mebibytes), content_type="application/octet-stream", headers=headers)


def _stream(seconds: int) -> web.Response:
    return web.Response(body=_events(seconds), content_type="text/event-stream", headers={"cache-control": "no-store"})


_CONTENTS: Mapping[str, Callable[[int], web.Response]] = {"article": _page, "download": _file, "stream": _stream}


def _chunk(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest() * (_CHUNK // 32)


async def _chunks(mebibytes: int) -> AsyncIterator[bytes]:
    for number in range((mebibytes << 20) // _CHUNK):
        yield _chunk(number)


async def _events(seconds: int) -> AsyncIterator[bytes]:
    yield _event(0)
    for number in range(1, 2 * seconds + 1):
        await asyncio.sleep(0.5)
        yield _event(number)


def _event(number: int) -> bytes:
    return f"data: {number} {hashlib.sha256(str(number).encode()).hexdigest()}\n\n".encode()
