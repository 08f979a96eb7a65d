"""Takes the requests of Logplex and of OTLP exporters over HTTP.

Logplex waits 5 s for an answer, does not read chunked answers, and drops a frame for good after a 4xx other than 429. After
a 5xx it tries twice more at once, and then drops the frame. So no answer can make it wait; what cannot be taken now stays in
the socket. Requests that may never be taken are refused before their body is read, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Self

import structlog
from aiohttp import web

from cutover.drain.access import AccessFile
from cutover.drain.body_memory import BodyMemory
from cutover.drain.connection_slots import ConnectionSlots
from cutover.drain.faults import place_of
from cutover.drain.frames import Frame, Record, Refusal
from cutover.drain.otlp_body import JSON, PROTOBUF, BrokenBody, LargeBody, answer, read_export
from cutover.drain.otlp_points import Names

#: Bytes of a body; Logplex sends about 100 KiB.
LARGEST_BODY = 1024 * 1024
#: Bytes of all bodies that are read at a time, and of one app's. Where they are slow to come, many of the usual size find memory.
MOST_BYTES, APP_BYTES = 8 * LARGEST_BODY, 2 * LARGEST_BODY
#: Connections; each node of Logplex has a few.
MOST_CONNECTIONS = 512
#: Seconds for the first request's header, and for a body.
HEADER_SECONDS, BODY_SECONDS = 10.0, 10.0
#: Seconds that are left to all bodies once one waits for memory: it has an answer before Logplex gives up.
PATIENCE_SECONDS = 2.0
#: Seconds without a request after which a connection is closed. Logplex closes its own after 144.
IDLE_SECONDS = 300.0
#: Seconds that requests may take to end once the port is closed.
END_SECONDS = 10.0
#: Seconds between two looks at the file, and between two lines of the log about refusals of one reason.
LOOK_SECONDS, TELL_SECONDS = 2.0, 60.0
CONTENT_TYPE = "application/logplex-1"
#: The end of the path of OTLP/HTTP.
EXPORT_PATH = "/v1/metrics"

#: Statuses of refusals. 4xx has Logplex drop the frame, as it will never be taken; after 5xx it sends the frame again.
_OK, _BROKEN, _UNAUTHORIZED, _FORBIDDEN, _NOT_ALLOWED, _TOO_LARGE, _UNSUPPORTED, _FAULT, _UNAVAILABLE = (
    200,
    400,
    401,
    403,
    405,
    413,
    415,
    500,
    503,
)

log = structlog.get_logger("cutover.drain")


class Refused(Exception):
    """A request is refused with a status."""

    def __init__(self, status: int, reason: Refusal) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class Receiver:
    """Answers requests.

    Parameters
    ----------
    file
        Credentials and apps.
    record
        Where frames are counted.
    on_configuration
        Called with whether the file is as it was read last, when it has changed.
    names
        Names of the router's metrics in OTLP; without them no OTLP is taken.
    """

    def __init__(
        self,
        file: AccessFile,
        record: Record,
        on_configuration: Callable[[bool], None],
        names: Names | None = None,
    ) -> None:
        self._file = file
        self._record = record
        self._on_configuration = on_configuration
        self._names = names
        self._body_memory = BodyMemory(MOST_BYTES, APP_BYTES, PATIENCE_SECONDS)
        self._looked = self._now()
        self._told: dict[Refusal, float] = {}
        #: Whether connections are closed after their answer.
        self.leaving = False
        self._count_apps()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def _count_apps(self) -> None:
        for app in self._file.access.apps:
            self._record.of(app)  # its metrics begin at 0

    def _look(self) -> None:
        if self._now() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._now()
        if self._file.refresh():
            if problem := self._file.problem:
                log.error("the file of credentials is wrong, and the one before holds", problem=problem)
            else:
                log.info("the file of credentials was read again")
            self._count_apps()
            self._on_configuration(not self._file.problem)

    async def answer(self, request: web.BaseRequest, admitted: Callable[[str], None]) -> web.Response:
        """Answer a request.

        Parameters
        ----------
        request
            The request, whose body is not read yet.
        admitted
            Called with the app before the body is read, where the request may send.
        """
        self._look()
        app = self._file.access.app_of(request.headers.get("Logplex-Drain-Token", ""))
        names = self._names if request.path.endswith(EXPORT_PATH) else None
        # How many points a refused export has is not known.
        count = 1 if names is not None else _number(request.headers.get("Logplex-Msg-Count", ""))
        try:
            self._admit(request, app, export=names is not None)
            admitted(app)
            body = await self._body(request, app)
            response = (
                self._take(request, app, body, count)
                if names is None
                else self._take_export(request, app, body, names)
            )
        except Refused as refused:
            # Without a whole body, Logplex sends the frame again.
            self._record.refuse(app, refused.reason, 0 if refused.reason is Refusal.INCOMPLETE else count)
            self._tell(refused.reason, app)
            response = web.Response(status=refused.status)
            if refused.status == _UNAUTHORIZED:
                response.headers["WWW-Authenticate"] = 'Basic realm="drain"'
            response.force_close()  # what is left of the body is not read
            return response
        if self.leaving:
            response.force_close()
        return response

    def _take(self, request: web.BaseRequest, app: str, body: bytes, count: int | None) -> web.Response:
        self._record.take(app, Frame(request.headers.get("Logplex-Frame-Id", "")[:64], count, body))
        return web.Response(status=_OK)

    def _take_export(self, request: web.BaseRequest, app: str, body: bytes, names: Names) -> web.Response:
        """Count an export. Raises Refused where it cannot be read."""
        kind = request.content_type
        try:
            export = read_export(body, kind, gzip=request.headers.get("Content-Encoding", "").lower() == "gzip")
        except LargeBody:
            raise Refused(_TOO_LARGE, Refusal.TOO_LARGE) from None
        except BrokenBody:
            raise Refused(_BROKEN, Refusal.CONTENT) from None
        refused = self._record.take_export(app, body, export, names)
        return web.Response(status=_OK, body=answer(kind, refused), content_type=kind)

    def _admit(self, request: web.BaseRequest, app: str, *, export: bool) -> None:
        """Raise Refused where the body need not be read."""
        headers = request.headers
        path = request.path.removesuffix(EXPORT_PATH) if export else request.path
        if not self._file.access.allows(headers.get("Authorization", ""), path):
            raise Refused(_UNAUTHORIZED, Refusal.CREDENTIALS)
        if request.method != "POST":
            raise Refused(_NOT_ALLOWED, Refusal.CONTENT)
        encodings = ("gzip", "identity", "") if export else ("",)
        types = (PROTOBUF, JSON) if export else (CONTENT_TYPE,)
        if request.content_type not in types or headers.get("Content-Encoding", "").lower() not in encodings:
            raise Refused(_UNSUPPORTED, Refusal.CONTENT)
        if not app:
            raise Refused(_FORBIDDEN, Refusal.DRAIN_TOKEN)
        if (request.content_length or 0) > LARGEST_BODY:
            raise Refused(_TOO_LARGE, Refusal.TOO_LARGE)

    async def _body(self, request: web.BaseRequest, app: str) -> bytes:
        """Read the body once there is memory for it. Raises Refused; CancelledError where the sender has gone."""
        size = request.content_length
        try:
            async with self._body_memory.held(app, LARGEST_BODY if size is None else size, BODY_SECONDS):
                return await _body(request)
        except (TimeoutError, web.RequestPayloadError, ConnectionError):
            raise Refused(_UNAVAILABLE, Refusal.INCOMPLETE) from None
        except asyncio.CancelledError:
            self._record.refuse(app, Refusal.INCOMPLETE, 0)
            raise

    def _tell(self, reason: Refusal, app: str) -> None:
        """Log a refusal, with nothing that the sender wrote."""
        if self._now() - self._told.get(reason, float("-inf")) >= TELL_SECONDS:
            self._told[reason] = self._now()
            log.warning("a request was refused, as maybe others for this reason", reason=str(reason), app=app)


def _number(text: str) -> int | None:
    return int(text) if len(text) < 10 and text.isascii() and text.isdigit() else None


async def _body(request: web.BaseRequest) -> bytes:
    """Read the body. Raises Refused."""
    parts, size = list[bytes](), 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > LARGEST_BODY:
            raise Refused(_TOO_LARGE, Refusal.TOO_LARGE)
        parts.append(part)
    if request.transport is None:
        # It is gone, and will send the frame again, maybe to another replica.
        raise ConnectionResetError
    return b"".join(parts)


class Port:
    """The port that Logplex connects to.

    Parameters
    ----------
    receiver
        Answers the requests.
    """

    def __init__(self, receiver: Receiver) -> None:
        # Its log quotes headers that it cannot read.
        quiet = logging.getLogger("cutover.drain.http")
        quiet.setLevel(logging.CRITICAL)
        self._receiver = receiver
        self._slots = ConnectionSlots[web.RequestHandler]()
        self._busy: set[web.RequestHandler] = set()
        self._idle = asyncio.Event()
        self._http = _Http(
            self._slots.left,
            self._answer,
            logger=quiet,
            access_log=None,  # paths may have a token
            keepalive_timeout=IDLE_SECONDS,
            lingering_time=2.0,  # of refused ones, which give way to others meanwhile
            handler_cancellation=True,  # who is gone does not wait for memory
            auto_decompress=False,
            read_bufsize=2**14,
        )
        self._listening: asyncio.Server | None = None

    async def open(self, address: str, port: int) -> Self:
        """Listen. Raises OSError where the port is in use."""
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(self._connected, address, port, backlog=1024)
        return self

    def _connected(self) -> asyncio.Protocol:
        if not self._slots.make(MOST_CONNECTIONS):
            return _Closing()
        connection = self._http()
        self._slots.enter(connection, HEADER_SECONDS)
        return connection

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        connection = request.protocol
        self._busy.add(connection)
        self._idle.clear()
        try:
            return await self._receiver.answer(request, lambda app: self._slots.own(connection, app))
        except Exception as error:  # noqa: BLE001
            # The library would answer the same, and tell nobody.
            log.error("a request cannot be answered", fault=place_of(error))  # noqa: TRY400
            return web.Response(status=_FAULT)
        finally:
            self._busy.discard(connection)
            if not self._busy:
                self._idle.set()

    async def close(self, leave_seconds: float) -> None:
        """Take no more requests, and return when the last one is answered.

        Parameters
        ----------
        leave_seconds
            For so long connections are still accepted, and each is closed after an answer: those who choose the replica
            have not heard yet that it leaves. Then the port refuses connections, which costs Logplex no try.
        """
        self._receiver.leaving = True
        await asyncio.sleep(leave_seconds)
        if self._listening is not None:
            self._listening.close()
        # The library would read no more of a body, either.
        for connection in self._http.connections:
            if connection not in self._busy:
                connection.close()
        if self._busy:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), END_SECONDS)
        self._http.pre_shutdown()
        await self._http.shutdown(1.0)


class _Http(web.Server):
    """The library's server, which tells of connections that have ended."""

    def __init__(self, left: Callable[[web.RequestHandler], None], *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._left = left

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        """Tell of it."""
        super().connection_lost(handler, exc)
        self._left(handler)


class _Closing(asyncio.Protocol):
    """Closes its connection at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        assert isinstance(transport, asyncio.Transport)
        transport.abort()
