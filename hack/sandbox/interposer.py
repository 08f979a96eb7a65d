"""A proxy between a client and the API server that misbehaves on command, like networks and API servers.

The client speaks plain HTTP to it, on loopback, with its own credentials; it speaks TLS to the API server. Watches
stream through. Run as ``python -m sandbox.interposer --kubeconfig admin.kubeconfig``; from Python use `Interposer`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import ssl
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import yaml
from aiohttp import web

from demoapps.child import Child, call
from demoapps.serving import Listener, add_process_options, announce, json_object, run, serve_admin, until_told_to_stop

Mode = Literal["pass", "refuse", "hang"]

#: Requests that are remembered.
_REMEMBERED = 200_000
#: Reasons that the API server gives with a status code.
_REASONS = {401: "Unauthorized", 403: "Forbidden", 409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}
#: Headers that are about one connection, or that aiohttp writes itself.
_OWN_HEADERS = {"connection", "content-encoding", "content-length", "host", "keep-alive", "transfer-encoding"}
#: The status of a request that was not answered.
UNANSWERED = 0


@dataclass(frozen=True)
class Fault:
    """What is done to some requests instead of passing them on at once.

    Parameters
    ----------
    do
        ``answer`` them with ``status``; ``delay`` them by ``seconds``; ``hold`` them until they are released, which
        reaches the API server even if the client has given up; ``hang``, that is, never answer.
    methods
        HTTP methods that it is about; all if empty.
    path
        Regular expression that is searched in path and query.
    status
        HTTP status to answer with.
    retry_after
        Seconds in the answer's ``Retry-After``; none if negative.
    seconds
        Seconds of delay.
    probability
        Chance of a request that it is about.
    times
        How often it applies at most; negative for always.
    """

    do: Literal["answer", "delay", "hold", "hang"]
    methods: tuple[str, ...] = ()
    path: str = ""
    status: int = 500
    retry_after: int = -1
    seconds: float = 0.0
    probability: float = 1.0
    times: int = -1


@dataclass(frozen=True)
class Seen:
    """One request.

    Parameters
    ----------
    at
        When it came, in unix seconds.
    method, path
        Path of the request, with the query.
    status
        What the client was answered; `UNANSWERED` if it was not, or not yet.
    """

    at: float
    method: str
    path: str
    status: int


class _Proxy:
    def __init__(self, upstream: str, tls: ssl.SSLContext, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._tls = tls
        self._session = session
        self._dice = random.Random(5)
        self._release = asyncio.Event()
        # Requests of a line that hung stay unanswered when it works again: the connections are dead.
        self._dead = asyncio.Event()
        self._on_the_way: set[asyncio.Task[web.StreamResponse]] = set()
        self.faults: list[tuple[Fault, list[int]]] = []
        self.held = 0
        self.seen: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self.hanging = False

    def hang(self, *, hang: bool) -> None:
        self.hanging = hang
        if hang:
            self._dead.set()
            self._dead = asyncio.Event()

    def inject(self, faults: Iterable[Fault]) -> None:
        self.faults = [(fault, [fault.times]) for fault in faults]
        self.release()

    def release(self) -> None:
        self._release.set()
        self._release = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        entry = {"at": time.time(), "method": request.method, "path": request.path_qs, "status": UNANSWERED}
        self.seen.append(entry)
        body = await request.read()
        if self.hanging:
            await _for_ever()
        answer: web.StreamResponse
        match fault := self._fault(request):
            case Fault(do="answer"):
                answer = _refusal(fault)
            case Fault(do="hang"):
                await _for_ever()
            case Fault(do="hold"):
                task = asyncio.create_task(self._later(request, body))
                self._on_the_way.add(task)
                task.add_done_callback(self._on_the_way.discard)
                answer = await asyncio.shield(task)
            case _:
                if fault is not None:
                    await asyncio.sleep(fault.seconds)
                answer = await self._pass(request, body, entry)
        entry["status"] = answer.status
        return answer

    def _fault(self, request: web.BaseRequest) -> Fault | None:
        for fault, left in self.faults:
            if (
                left[0] != 0
                and (not fault.methods or request.method in fault.methods)
                and re.search(fault.path, request.path_qs)
                and self._dice.random() < fault.probability
            ):
                left[0] -= 1
                return fault
        return None

    async def _later(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        self.held += 1
        try:
            await self._release.wait()
        finally:
            self.held -= 1
        return await self._pass(request, body, {})

    async def _pass(self, request: web.BaseRequest, body: bytes, entry: dict[str, Any]) -> web.StreamResponse:
        dead = self._dead
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _OWN_HEADERS}
        try:
            async with self._session.request(
                request.method,
                self._upstream + request.path_qs,
                data=body or None,
                headers=headers,
                # What the client did not say is not said.
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                ssl=self._tls,
            ) as answer:
                kept = {name: value for name, value in answer.headers.items() if name.lower() not in _OWN_HEADERS}
                if request.query.get("watch") not in ("true", "1"):
                    text = await answer.read()
                    if dead.is_set():
                        await _for_ever()
                    return web.Response(status=answer.status, headers=kept, body=text)
                stream = web.StreamResponse(status=answer.status, headers=kept)
                await stream.prepare(request)
                entry["status"] = answer.status
                async for part in answer.content.iter_any():
                    if dead.is_set():
                        await _for_ever()
                    await stream.write(part)
                await stream.write_eof()
                return stream
        except (aiohttp.ClientError, ConnectionError):
            # The client gets no answer, as it would without the proxy.
            if request.transport is not None:
                request.transport.abort()
            raise asyncio.CancelledError from None


async def _for_ever() -> None:
    await asyncio.Event().wait()  # ends with the client's connection


def _refusal(fault: Fault) -> web.Response:
    reason = _REASONS.get(fault.status, "")
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "told to",
        "reason": reason,
        "code": fault.status,
    }
    headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after >= 0 else {}
    return web.json_response(status, status=fault.status, headers=headers)


def _cluster(kubeconfig: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(kubeconfig.read_text())
    cluster: dict[str, Any] = config["clusters"][0]["cluster"]
    return cluster


async def _serve(options: argparse.Namespace) -> None:
    cluster = _cluster(options.kubeconfig)
    tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    unlimited = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=unlimited, trust_env=False) as session:
        proxy = _Proxy(cluster["server"], tls, session)
        listener = Listener(proxy.handle, options.bind, options.port, keepalive_s=75.0)
        await listener.listen()

        async def tell(request: web.Request) -> web.Response:
            mode = (await json_object(request))["mode"]
            proxy.hang(hang=mode == "hang")
            await (listener.refuse() if mode == "refuse" else listener.listen())
            return web.json_response({"at": time.time()})

        async def inject(request: web.Request) -> web.Response:
            proxy.inject(Fault(**fault) for fault in (await request.json())["faults"])
            return web.json_response({"at": time.time()})

        async def release(_: web.Request) -> web.Response:
            proxy.release()
            return web.json_response({"at": time.time()})

        async def held(_: web.Request) -> web.Response:
            return web.json_response({"held": proxy.held})

        async def seen(request: web.Request) -> web.Response:
            since = float(request.query["since"])
            return web.json_response([one for one in proxy.seen if one["at"] >= since])

        admin = web.Application()
        admin.router.add_put("/mode", tell)
        admin.router.add_put("/faults", inject)
        admin.router.add_put("/release", release)
        admin.router.add_get("/held", held)
        admin.router.add_get("/seen", seen)
        runner, admin_port = await serve_admin(admin, options.bind, options.admin_port)
        announce(options.ready_file, port=listener.port, admin_port=admin_port)
        await until_told_to_stop(lifeline=options.lifeline)
        await runner.cleanup()
        await listener.close()


class Interposer:
    """The proxy as a process of its own.

    Parameters
    ----------
    state_dir
        Folder for its log and for kubeconfigs that lead through it.
    kubeconfig
        Says where the API server is.
    name
        Its name among several in the same folder.
    """

    def __init__(self, state_dir: Path, kubeconfig: Path, *, name: str = "interposer") -> None:
        self._state_dir = state_dir
        self._name = name
        self._admin_port = 0
        self.url = ""
        self._child = Child("sandbox.interposer", ["--kubeconfig", str(kubeconfig)], state_dir=state_dir, name=name)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it; it passes everything on."""
        ready = self._child.start()
        self.url, self._admin_port = f"http://127.0.0.1:{ready['port']}", ready["admin_port"]

    def stop(self) -> None:
        """End it."""
        self._child.stop()

    def through(self, kubeconfig: Path) -> Path:
        """Return a kubeconfig with the same credentials that leads through it."""
        config = yaml.safe_load(kubeconfig.read_text())
        config["clusters"][0]["cluster"] = {"server": self.url}
        path = self._state_dir / f"{self._name}-{kubeconfig.name}"
        path.write_text(yaml.safe_dump(config, sort_keys=False))
        path.chmod(0o600)
        return path

    def tell(self, mode: Mode) -> float:
        """Change what it does with all requests.

        Parameters
        ----------
        mode
            ``pass`` them on; ``refuse`` connections, after cutting off those that are open; ``hang``: take requests
            and never answer, also those that are under way and watches, as a line does that loses everything.

        Returns
        -------
        float
            When that came into force, in unix seconds.
        """
        return float(call(self._admin_port, "/mode", {"mode": mode})["at"])

    def inject(self, *faults: Fault) -> float:
        """Have it do these things, each request the first that applies, instead of those before; release what it holds.

        Returns
        -------
        float
            When that came into force, in unix seconds.
        """
        return float(call(self._admin_port, "/faults", {"faults": [asdict(fault) for fault in faults]})["at"])

    def release(self) -> float:
        """Pass on the requests that it holds; return when, in unix seconds."""
        return float(call(self._admin_port, "/release", {})["at"])

    def held(self) -> int:
        """Return how many requests it holds."""
        return int(call(self._admin_port, "/held")["held"])

    def seen(self, since: float = 0.0) -> list[Seen]:
        """Return the requests that came at or after a time (unix seconds), oldest first."""
        entries: list[dict[str, Any]] = call(self._admin_port, f"/seen?since={since}")
        return [Seen(**one) for one in entries]


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.interposer", description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True, help="says where the API server is")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--admin-port", type=int, default=0)
    add_process_options(parser)
    options = parser.parse_args()
    run(lambda: _serve(options))


if __name__ == "__main__":
    main()
