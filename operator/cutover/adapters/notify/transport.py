"""Sends requests to one receiver of notifications over HTTP, and interprets its answers.

Addresses and headers are secrets. They are read from files at each use, and no text of this module quotes a library's
exception, which may contain them.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from cutover.adapters.addresses import AddressRefused, checked_sockets
from cutover.adapters.secret_files import CredentialsError, read_secret
from cutover.adapters.tls import TlsVersion, tls_context, tls_reason, tls_version
from cutover.settings import Receiver

#: OpenSSL's codes for a certificate of another host; their text contains the name.
_WRONG_NAME = (62, 64)
#: Bytes of an error's body that are read: enough for one of Slack's errors.
_EXCERPT = 64


class NotSentError(Exception):
    """The receiver did not answer. The text is for people and has no secret."""


@dataclass(frozen=True, slots=True)
class Message:
    """The body of one request, and the headers that describe it."""

    headers: Mapping[str, str]
    body: bytes


class Answer(StrEnum):
    """The meaning of a receiver's answer."""

    TAKEN = "taken"
    LATER = "later"
    REFUSED = "refused"


def answer_of(status: int) -> Answer:
    """Return the meaning of an HTTP status. Redirections are refused: the settings do not have their targets."""
    if 200 <= status < 300:
        return Answer.TAKEN
    return Answer.LATER if status in (408, 425, 429) or status >= 500 else Answer.REFUSED


@dataclass(frozen=True, slots=True)
class Response:
    """What a receiver answered.

    Parameters
    ----------
    status
        HTTP status.
    rest
        Seconds of pause that the receiver asks for; ``None`` if it asks for none.
    said
        Start of the body of an error. It may repeat the request, and must not be logged as it is.
    """

    status: int
    rest: float | None = None
    said: str = ""


class Transport:
    """Sends to one receiver, with a session of its own and a thread of its own for host names.

    A receiver that is slow, hangs or fails does not delay others.

    Parameters
    ----------
    receiver
        From the settings.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._lookups = ThreadPoolExecutor(1, thread_name_prefix=f"notify-{receiver.name}")
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[TlsVersion, ssl.SSLContext] | None = None

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def post(self, message: Message) -> Response:
        """Send one request.

        Raises
        ------
        NotSentError
            Where there is no answer.
        """
        receiver = self._receiver
        try:
            url = _read_url(receiver.url_file)
            secret = {name: read_secret(file, f"header {name}") for name, file in receiver.header_files.items()}
            async with (
                asyncio.timeout(receiver.timeout),
                self._connected().post(
                    url,
                    data=message.body,
                    headers={**message.headers, **secret},
                    allow_redirects=False,
                    ssl=self._trust() if url.startswith("https://") else True,
                    server_hostname=receiver.tls.server_name if url.startswith("https://") else None,
                ) as response,
            ):
                said = await response.content.read(_EXCERPT) if response.status >= 400 else b""
                rest = _rest(response.headers.get("Retry-After"))
                return Response(response.status, rest, said.decode("ascii", "replace").strip())
        except TimeoutError:
            raise NotSentError(f"no answer within {receiver.timeout:g} s") from None
        except CredentialsError as error:
            raise NotSentError(str(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotSentError(_reason(error)) from None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    # Hours may pass between two requests; the receiver would have closed an idle connection.
                    force_close=True,
                    use_dns_cache=False,
                    resolver=_Resolver(self._lookups),
                    socket_factory=checked_sockets(self._receiver.allow),
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=self._receiver.timeout),
                auto_decompress=False,
                headers={"User-Agent": "cutover-operator", "Accept-Encoding": "identity"},
            )
        return self._session

    def _trust(self) -> ssl.SSLContext:
        """Return the TLS context, from new files where they changed. Raises CredentialsError."""
        version = tls_version(self._receiver.tls)
        if self._tls is None or self._tls[0] != version:
            self._tls = version, tls_context(self._receiver.tls)
        return self._tls[1]


class _Resolver(AbstractResolver):
    """Resolves names in a thread of its own; asyncio's threads also resolve names for Prometheus."""

    def __init__(self, threads: ThreadPoolExecutor) -> None:
        self._threads = threads

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        def look() -> list[Any]:
            return socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)

        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return [
            ResolveResult(
                hostname=host, host=where[0], port=where[1], family=kind, proto=protocol, flags=socket.AI_NUMERICHOST
            )
            for kind, _, protocol, _, where in found
        ]

    async def close(self) -> None:
        """Do nothing: the threads are the transport's."""


def _read_url(file: Path) -> str:
    """Read the address. Raises CredentialsError, which does not quote it."""
    url = read_secret(file, "URL")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc:
        raise CredentialsError("the URL file must have an address with http:// or https://, without user and password")
    return url


def _rest(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After, given as seconds or as a date; ``None`` where it is neither."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after.strip()[:9])
    try:
        when = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(when.replace(tzinfo=when.tzinfo or UTC).timestamp() - time.time(), 0.0)


def _reason(error: Exception) -> str:
    """Return the reason of an error without the library's text, which may contain the address."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        cause = cause.certificate_error
    match cause:
        case AddressRefused():
            return "its address is a loopback or link-local address; permit it by allow in the receivers' file"
        case ssl.SSLCertVerificationError() if cause.verify_code in _WRONG_NAME:
            return "TLS: its certificate is for another name"
        case ssl.SSLError():
            return f"TLS: {tls_reason(cause)}"
        case aiohttp.InvalidURL():
            return "the URL file has no usable address"
        case socket.gaierror():
            return "its name is not known"
        case aiohttp.ServerDisconnectedError() | ConnectionResetError():
            return "it broke off"
        case OSError() if cause.errno:
            return f"cannot be connected to: {os.strerror(cause.errno)}"
        case _:
            return f"cannot be sent to: {type(cause).__name__}"
