"""The parts of both demo legs: a listener, an app with knobs, an admin port."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import resource
import signal
import socket
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from .contents import echo, special
from .knobs import KNOB_NAMES, KnobError, Knobs, Leg
from .particular import particular
from .throttling import Throttle, asking_address

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

#: A hung app keeps at most so many requests; the oldest is cut off for a new
#: one, as it is the one whose client has most likely gone.
HUNG_LIMIT = 4096
#: No client waits longer than this for a hung app (seconds).
HUNG_SECONDS = 300.0


class Listener:
    """A TCP port of loopback that can refuse connections and take them again.

    Parameters
    ----------
    handler
        Answers every request.
    bind
        Address to listen on.
    port
        Port to listen on; 0 takes a free one.
    tls
        TLS settings, or None for plain HTTP.
    keepalive_s
        How long an idle connection is kept, in seconds.

    """

    def __init__(
        self,
        handler: Handler,
        bind: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        keepalive_s: float,
    ) -> None:
        self._bind = bind
        self._tls = tls
        # Handlers end with their client: a hung one would stay for ever.
        self._http = web.Server(handler, handler_cancellation=True, keepalive_timeout=keepalive_s, access_log=None)
        self._server: asyncio.Server | None = None
        self._lock = asyncio.Lock()
        self._socket = _bound_socket(bind, port)
        self.port: int = self._socket.getsockname()[1]

    async def listen(self) -> None:
        """Take connections; does nothing if it does already."""
        async with self._lock:
            if self._server is None:
                self._server = await asyncio.get_running_loop().create_server(
                    self._http, sock=self._socket, ssl=self._tls, backlog=1024
                )

    async def refuse(self) -> None:
        """Refuse new connections and cut the open ones off."""
        async with self._lock:
            if self._server is None:
                return
            self._server.close()
            self._server = None
            for connection in self._http.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            # Bound and not listening: connections are refused, and nobody
            # else (an outgoing connection, say) is given the port meanwhile.
            self._socket = _bound_socket(self._bind, self.port)

    async def close(self) -> None:
        """Stop for good."""
        await self.refuse()
        self._socket.close()


def _bound_socket(bind: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((bind, port))
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot listen on {bind}:{port}: {error.strerror}") from error
    return bound


class DemoApp:
    """One app (or service): its knobs, and its answers according to them.

    Parameters
    ----------
    name
        Name of the app, sent as `x-app`.
    leg
        Leg of the split it stands for, sent as `x-leg`.
    seed
        Seed of its dice, or None for dice of the operating system.

    """

    def __init__(self, name: str, leg: Leg, seed: int | None = None) -> None:
        self.name = name
        self.leg: Leg = leg
        self.knobs = Knobs()
        self.statuses: Counter[int] = Counter()
        #: Every answer is a checkout; these are how they went, for the app's own metrics.
        self.checkouts = Counter(ok=0, failed=0)
        self.in_flight = 0
        self.unanswered = 0
        # Seeded with the name as well, or all the apps would throw alike.
        self._dice = random.Random(None if seed is None else f"{seed}/{leg}/{name}")
        self._awake = asyncio.Event()
        self._awake.set()
        self._hung: dict[asyncio.Task[Any], None] = {}
        self._throttle = Throttle()
        self._body = json.dumps({"leg": leg, "app": name}).encode() + b"\n"

    def turn(self, changes: Mapping[str, object]) -> Knobs:
        """Turn some knobs; requests under way notice `hang` too.

        Raises
        ------
        KnobError
            If a change is not possible; nothing is turned then.

        """
        self.knobs = self.knobs.with_changes(changes, self.leg)
        if self.knobs.hang:
            self._awake.clear()
        else:
            self._awake.set()
        return self.knobs

    async def answer(self, request: web.BaseRequest, seen: Mapping[str, str], body: bytes) -> web.StreamResponse:
        """Answer a request as the knobs have it.

        Some paths ask for more: `/status/<code>` for that status,
        `/after/<seconds>` for an answer that begins late, `/seen` for the
        request's headers, `/socket` for a WebSocket, and some for contents
        that are the same on both legs (see `contents.special`).

        Parameters
        ----------
        request
            The request.
        seen
            Its headers as they have reached the app.
        body
            Its body.

        """
        knobs = self.knobs
        asked, _, number = request.path.strip("/").partition("/")
        if asked == "after" and number.isdecimal():
            await asyncio.sleep(int(number))
        delay_ms = knobs.latency_ms * self._dice.uniform(0.8, 1.2)
        if self._dice.random() < knobs.slow_ratio:
            delay_ms += knobs.slow_ms
        if delay_ms > 0:
            await asyncio.sleep(delay_ms / 1000)
        if not self._awake.is_set():
            await self._hang()
        status = 500 if self._dice.random() < knobs.error_ratio else knobs.status
        if asked == "status" and number.isdecimal() and 200 <= int(number) <= 599:
            status = int(number)
        failed = self._dice.random() < knobs.failed_checkout_ratio or status >= 500
        self.checkouts["failed" if failed else "ok"] += 1
        about = {"x-leg": self.leg, "x-app": self.name, "x-seen-host": seen.get("host", "")}
        if status == 200 and (response := particular(request.path, seen, knobs, about)) is not None:
            return response
        headers = {"content-type": "application/json", **about}
        if forwarded_host := seen.get("x-forwarded-host"):
            headers["x-seen-forwarded-host"] = forwarded_host
        if forwarded_proto := seen.get("x-forwarded-proto"):
            headers["x-seen-forwarded-proto"] = forwarded_proto
        if body:
            headers["x-seen-body"] = hashlib.sha256(body).hexdigest()
        if self._throttle.refuses(
            asking_address(seen.get("x-forwarded-for", ""), knobs.trusted_proxies), knobs.requests_per_address
        ):
            return web.Response(status=429, headers=headers | {"retry-after": "1"}, body=b'{"error": "slow down"}\n')
        if asked == "socket" and status < 300:
            return await echo(request, headers)
        if (response := special(request, headers, status)) is not None:
            return response
        answer = self._body
        if asked == "seen":
            answer = json.dumps({name.lower(): value for name, value in seen.items()}).encode()
        return web.Response(status=status, headers=headers, body=answer)

    async def _hang(self) -> None:
        """Wait until the app is awake again; then the request is answered, late."""
        task = asyncio.current_task()
        assert task is not None
        if len(self._hung) >= HUNG_LIMIT:
            oldest = next(iter(self._hung))
            del self._hung[oldest]
            oldest.cancel()
        self._hung[task] = None
        try:
            async with asyncio.timeout(HUNG_SECONDS):
                await self._awake.wait()
        finally:
            self._hung.pop(task, None)

    def stats(self) -> dict[str, object]:
        """Return the app's own count of its answers, by status code."""
        return {
            "requests": sum(self.statuses.values()),
            "statuses": {str(code): count for code, count in sorted(self.statuses.items())},
            "unanswered": self.unanswered,
            "in_flight": self.in_flight,
            "checkouts": dict(self.checkouts),
        }


async def body_of(request: web.BaseRequest) -> bytes:
    """Read the body of a request: unlike `request.read()`, of any size."""
    return await request.content.read() if request.body_exists else b""


async def counted(
    app: DemoApp, request: web.BaseRequest, response: Awaitable[web.StreamResponse]
) -> web.StreamResponse:
    """Await a response and count it for its app; cut the connection if there is none."""
    app.in_flight += 1
    try:
        answered = await response
    except (asyncio.CancelledError, TimeoutError):
        app.unanswered += 1
        if request.transport is not None:
            request.transport.abort()
        raise asyncio.CancelledError from None
    finally:
        app.in_flight -= 1
    app.statuses[answered.status] += 1
    return answered


TurnKnobs = Callable[[DemoApp, Mapping[str, object]], Awaitable[None]]


def admin_app(apps: Mapping[str, DemoApp], turn: TurnKnobs) -> web.Application:
    """Build the admin port: `/healthz`, `/knobs`, `/knobs/<app>` and `/stats`.

    Parameters
    ----------
    apps
        Apps by name.
    turn
        Turns knobs of one app, with whatever must follow from it.

    """

    def app_of(request: web.Request) -> DemoApp:
        name = request.match_info["app"]
        if name not in apps:
            raise _json_error(web.HTTPNotFound, f"no app {name!r}; there are {', '.join(apps)}")
        return apps[name]

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def all_knobs(_: web.Request) -> web.Response:
        return web.json_response({name: knobs_json(app.knobs) for name, app in apps.items()})

    async def get_knobs(request: web.Request) -> web.Response:
        return web.json_response({"knobs": knobs_json(app_of(request).knobs)})

    async def put_knobs(request: web.Request) -> web.Response:
        app = app_of(request)
        changes = await json_object(request)
        try:
            await turn(app, changes)
        except KnobError as error:
            raise _json_error(web.HTTPBadRequest, str(error)) from error
        return web.json_response({"knobs": knobs_json(app.knobs), "at": time.time()})

    async def stats(_: web.Request) -> web.Response:
        return web.json_response({name: app.stats() for name, app in apps.items()})

    admin = web.Application()
    admin.router.add_get("/healthz", healthz)
    admin.router.add_get("/knobs", all_knobs)
    admin.router.add_get("/knobs/{app}", get_knobs)
    admin.router.add_put("/knobs/{app}", put_knobs)
    admin.router.add_get("/stats", stats)
    return admin


def knobs_json(knobs: Knobs) -> dict[str, object]:
    """Return knobs as a JSON object."""
    return {name: getattr(knobs, name) for name in KNOB_NAMES}


async def json_object(request: web.Request) -> dict[str, object]:
    """Return the JSON object that a request carries, or answer 400."""
    try:
        body = await request.json()
    except ValueError as error:
        raise _json_error(web.HTTPBadRequest, f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise _json_error(web.HTTPBadRequest, "not a JSON object")
    return body


def _json_error(kind: type[web.HTTPException], message: str) -> web.HTTPException:
    return kind(text=json.dumps({"error": message}), content_type="application/json")


async def serve_admin(admin: web.Application, bind: str, port: int) -> tuple[web.AppRunner, int]:
    """Serve an admin port; returns its runner and the port it got."""
    runner = web.AppRunner(admin, access_log=None)
    await runner.setup()
    listening = _bound_socket(bind, port)
    await web.SockSite(runner, listening).start()
    return runner, listening.getsockname()[1]


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a demo process starts and ends."""
    parser.add_argument("--bind", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--seed", type=int, help="makes the dice fall alike in every run")
    parser.add_argument("--ready-file", type=Path, help="written when all is listening: JSON with pid and ports")
    parser.add_argument("--lifeline", action="store_true", help="end when standard input is closed by the parent")


def announce(ready_file: Path | None, **what: object) -> None:
    """Say that the process is ready: print a JSON line, and write it to a file if asked."""
    line = json.dumps({"pid": os.getpid(), **what})
    print(line, flush=True)
    if ready_file is not None:
        unfinished = ready_file.with_suffix(".tmp")
        unfinished.write_text(line + "\n")
        unfinished.replace(ready_file)


async def until_told_to_stop(*, lifeline: bool) -> None:
    """Wait for SIGTERM, SIGINT or, with a lifeline, for the parent's end."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if lifeline:
        # The kernel closes the parent's end of the pipe however it died. Unlike
        # PR_SET_PDEATHSIG this does not hang on the one thread that started us.
        loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
    if lifeline:
        loop.remove_reader(sys.stdin.fileno())


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a demo process; print the reason in one line where it cannot start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        # Hung requests hold a descriptor each.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def runner() -> None:
        await main()

    try:
        asyncio.run(runner())
    except OSError as error:
        sys.exit(error.strerror or str(error))
