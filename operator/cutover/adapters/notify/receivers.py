"""Notifications over HTTP: Slack's incoming webhooks and CloudEvents.

Each receiver has a task, a session and a thread for host names of its own, so that one that is slow, hangs or fails
makes neither a decision nor another receiver wait. Addresses and headers are secrets: they are read from files when they
are needed, and nothing that is logged here comes from a library's exception, which would quote them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from cutover.adapters.addresses import AddressRefused, checked_sockets
from cutover.adapters.prometheus.auth import CredentialsError, TlsVersion, tls_context, tls_reason, tls_version
from cutover.domain.journal.notifications import (
    FIRST_RETRY_SECONDS,
    Answer,
    Batch,
    Outbox,
    Throttle,
    Wanted,
    answer_of,
    binary,
    cloud_event,
    slack_body,
    structured,
)
from cutover.domain.observation import Plan
from cutover.settings import ContentMode, Receiver, ReceiverKind

#: Seconds after which what was told is remembered by a write of its own, if there was no other.
REMEMBER_SECONDS = 60.0
#: Seconds after which a sender that met a fault of ours goes on.
FAULT_PAUSE_SECONDS = 30.0
#: What Slack says of a webhook that it does not take. Nothing else of an answer is logged: it may repeat the request.
_SLACK_SAYS = frozenset(
    {
        "action_prohibited",
        "channel_is_archived",
        "channel_not_found",
        "invalid_payload",
        "invalid_token",
        "no_active_hooks",
        "no_service",
        "no_team",
        "no_text",
        "posting_to_general_channel_denied",
        "team_disabled",
        "user_not_found",
    }
)
#: OpenSSL's codes for a certificate of another host, whose text has the name.
_WRONG_NAME = (62, 64)

log = structlog.get_logger("cutover")


class _NotSentError(Exception):
    """Nothing was sent. Its text is for people and has no secret."""


class HttpNotifier:
    """:class:`cutover.ports.Notifier` over HTTP.

    Parameters
    ----------
    receivers
        From the settings; none is fine.
    first_retry
        Seconds until a failed request is made again, for the first time.
    """

    def __init__(self, receivers: Sequence[Receiver], *, first_retry: float = FIRST_RETRY_SECONDS) -> None:
        self._senders = [_Sender(one, first_retry) for one in receivers]
        self._seen: dict[str, object] = {}

    @property
    def senders(self) -> Mapping[str, Outbox]:
        """What was sent and waits, by the receiver's name."""
        return {sender.name: sender.outbox for sender in self._senders}

    def tell(self, plan: Plan, told: Mapping[str, str]) -> None:
        """Take in what the ledger has that was not told yet; cheap where it has nothing new."""
        ledger = plan.status.ledger
        if not self._senders or self._seen.get(plan.uid) is ledger:
            return
        self._seen[plan.uid] = ledger
        for sender in self._senders:
            known = told.get(sender.name)
            sender.outbox.tell(plan.uid, plan.namespace, plan.name, plan.status, known, time.monotonic())
            sender.wake()

    def told(self, uid: str) -> dict[str, str]:
        """Return up to which entry each receiver was told of a plan."""
        keys = {sender.name: sender.outbox.told(uid) for sender in self._senders}
        return {name: key for name, key in keys.items() if key is not None}

    def overdue(self, uid: str, told: Mapping[str, str]) -> float | None:
        """Return the seconds until it should be written down; ``None`` where the status remembers all."""
        since = [sender.outbox.owed_since(uid, told.get(sender.name)) for sender in self._senders]
        owed = [one for one in since if one is not None]
        return max(min(owed) + REMEMBER_SECONDS - time.monotonic(), 0.0) if owed else None

    def forget(self, uid: str) -> None:
        """Let go of a plan that does not exist any more; what waits is still told."""
        self._seen.pop(uid, None)
        for sender in self._senders:
            sender.outbox.forget(uid)

    def start(self) -> None:
        """Begin to send."""
        for sender in self._senders:
            sender.start()

    async def close(self) -> None:
        """Stop at once. What was not sent is told by the next process, which finds it in the plans' ledgers."""
        for sender in self._senders:
            await sender.close()


class _Sender:
    """Sends to one receiver, one request at a time."""

    def __init__(self, receiver: Receiver, first_retry: float) -> None:
        self.name = receiver.name
        self.outbox = Outbox(
            Wanted(receiver.namespaces, receiver.severities, receiver.reasons),
            Throttle(receiver.throttle.burst, receiver.throttle.every),
            digests=receiver.kind is ReceiverKind.SLACK,
            first_retry=first_retry,
        )
        self._receiver = receiver
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._problem = ""
        self._lookups = ThreadPoolExecutor(1, thread_name_prefix=f"notify-{receiver.name}")
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[TlsVersion, ssl.SSLContext] | None = None

    def wake(self) -> None:
        self._news.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"notify-{self.name}")

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._session is not None:
            await self._session.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except Exception as fault:  # noqa: BLE001
                # Of ours. Without its text and its trace: either may quote an address.
                self._say(f"a fault of the operator's: {type(fault).__name__}")
                self.outbox.later(time.monotonic(), random.random())
                await asyncio.sleep(FAULT_PAUSE_SECONDS)

    async def _turn(self) -> None:
        self._news.clear()
        todo = self.outbox.next(time.monotonic())
        if not isinstance(todo, Batch):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), todo)
            return
        rest: float | None = None
        try:
            headers, body = self._write(todo)
            answer, rest, problem = await self._post(headers, body)
        except _NotSentError as error:
            answer, problem = Answer.LATER, str(error)
        now = time.monotonic()
        match answer:
            case Answer.TAKEN:
                self.outbox.taken(todo, now)
                self._say("")
            case Answer.REFUSED:
                self.outbox.refused(now)
                self._say(f"{problem}; what it refuses is not sent again")
            case Answer.LATER:
                self.outbox.later(now, random.random(), rest)
                self._say(f"{problem}; it is tried again")

    def _say(self, problem: str) -> None:
        """Log what changes, not every attempt."""
        if problem == self._problem:
            return
        self._problem = problem
        if problem:
            log.warning("not notified", receiver=self.name, problem=problem, waiting=self.outbox.waiting)
        else:
            log.info("notified again", receiver=self.name, waiting=self.outbox.waiting)

    def _write(self, batch: Batch) -> tuple[dict[str, str], bytes]:
        receiver = self._receiver
        if receiver.kind is ReceiverKind.SLACK:
            return {"Content-Type": "application/json; charset=utf-8"}, slack_body(batch, receiver.template)
        event = cloud_event(batch.notices[0], batch.lost, receiver.source)
        return structured(event) if receiver.mode is ContentMode.STRUCTURED else binary(event)

    async def _post(self, headers: Mapping[str, str], body: bytes) -> tuple[Answer, float | None, str]:
        """Send one request. Returns what the answer means, the rest that it asks for, and it in words.

        Raises
        ------
        _NotSentError
            Where there is no answer.
        """
        receiver = self._receiver
        url = _read_url(receiver.url_file)
        secret = {name: _read(file, f"header {name}") for name, file in receiver.header_files.items()}
        try:
            async with (
                asyncio.timeout(receiver.timeout),
                self._connected().post(
                    url,
                    data=body,
                    headers={**headers, **secret},
                    allow_redirects=False,
                    ssl=self._trust() if url.startswith("https://") else True,
                    server_hostname=receiver.tls.server_name if url.startswith("https://") else None,
                ) as response,
            ):
                status, rest = response.status, _rest(response.headers.get("Retry-After"))
                said = await response.content.read(64) if status >= 400 else b""
        except TimeoutError:
            raise _NotSentError(f"no answer within {receiver.timeout:g} s") from None
        except CredentialsError as error:
            raise _NotSentError(str(error)) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise _NotSentError(_reason(error)) from None
        word = said.decode("ascii", "replace").strip()
        problem = f"it answered HTTP {status}" + (f": {word}" if word in _SLACK_SAYS else "")
        return answer_of(status), rest, problem

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    # Hours may lie between two requests; the other side would have closed a kept connection.
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
        """Read the certificates where they have changed. Raises CredentialsError."""
        version = tls_version(self._receiver.tls)
        if self._tls is None or self._tls[0] != version:
            self._tls = version, tls_context(self._receiver.tls)
        return self._tls[1]


class _Resolver(AbstractResolver):
    """Finds addresses in a thread that nobody else waits for; asyncio's own threads also look for Prometheus."""

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
        """Do nothing: the threads are the sender's."""


def _read(file: Path, what: str) -> str:
    """Read one line. Raises _NotSentError, which does not quote it."""
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise _NotSentError(f"the {what} file cannot be read: {why}") from None
    if not text or not text.isascii() or not text.isprintable():
        raise _NotSentError(f"the {what} file must have one line of plain text")
    return text


def _read_url(file: Path) -> str:
    url = _read(file, "URL")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc:
        raise _NotSentError("the URL file must have an address with http:// or https://, without user and password")
    return url


def _rest(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After asks for, as seconds or as a date; ``None`` where it says neither."""
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
    """Say what went wrong without a word of the library's, which knows the address."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        cause = cause.certificate_error
    match cause:
        case AddressRefused():
            return "its address is of this machine or of the link, which needs allow in the file"
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
