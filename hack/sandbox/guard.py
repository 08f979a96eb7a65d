"""A proxy before a Prometheus without authentication that requires a bearer token, and misbehaves on command.

Run as ``python -m sandbox.guard --upstream http://127.0.0.1:9090 --token-file token``; from Python use `Guard`.
"""

from __future__ import annotations

import argparse
import asyncio
import hmac
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

from demoapps.child import Child, call
from demoapps.serving import add_process_options, announce, json_object, run, serve_admin, until_told_to_stop

#: The commands, with their values while all is well.
_WELL: dict[str, object] = {"status": 0, "delay_s": 0.0, "cut": False}


class _Proxy:
    def __init__(self, upstream: str, token_file: Path, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._token_file = token_file
        self._session = session
        self.behaviour = dict(_WELL)
        self.requests = {"passed": 0, "refused": 0}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        # Read at each request: tests change the token by writing its file.
        token = self._token_file.read_text().strip()
        given = request.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            self.requests["refused"] += 1
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"}, text="Unauthorized\n")
        self.requests["passed"] += 1
        now = dict(self.behaviour)
        await asyncio.sleep(float(str(now["delay_s"])))
        if now["status"]:
            return web.Response(status=int(str(now["status"])), text="told to\n")
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        try:
            async with self._session.request(
                request.method, self._upstream + request.path_qs, data=body, headers=headers
            ) as answer:
                text, status, kind = await answer.read(), answer.status, answer.headers.get("Content-Type", "")
        except aiohttp.ClientError:
            # The client gets no answer, as it would without the proxy.
            return self._cut(request)
        if not now["cut"]:
            return web.Response(status=status, headers={"Content-Type": kind}, body=text)
        half = web.StreamResponse(status=status, headers={"Content-Type": kind, "Content-Length": str(len(text))})
        await half.prepare(request)
        await half.write(text[: len(text) // 2])
        return self._cut(request)

    @staticmethod
    def _cut(request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        raise asyncio.CancelledError


async def _serve(options: argparse.Namespace) -> None:
    async with aiohttp.ClientSession(trust_env=False) as session:
        proxy = _Proxy(options.upstream.rstrip("/"), options.token_file, session)
        server = web.ServerRunner(web.Server(proxy.handle, access_log=None))
        await server.setup()
        site = web.TCPSite(server, options.bind, options.port)
        await site.start()

        async def status(_: web.Request) -> web.Response:
            return web.json_response(proxy.requests)

        async def tell(request: web.Request) -> web.Response:
            change = await json_object(request)
            if unknown := change.keys() - _WELL.keys():
                raise web.HTTPBadRequest(text=f'{{"error": "there is no {", ".join(unknown)}"}}')
            proxy.behaviour |= change
            return web.json_response({"at": time.time()})

        admin = web.Application()
        admin.router.add_get("/status", status)
        admin.router.add_put("/behaviour", tell)
        runner, admin_port = await serve_admin(admin, options.bind, options.admin_port)
        announce(options.ready_file, port=server.addresses[0][1], admin_port=admin_port)
        await until_told_to_stop(lifeline=options.lifeline)
        await runner.cleanup()
        await server.cleanup()


class Guard:
    """The proxy as a process of its own.

    Parameters
    ----------
    state_dir
        Folder for its log and for the token.
    upstream
        URL of the Prometheus behind it.
    token
        What it asks for; `set_token` changes it.
    port
        Its port; 0 takes a free one.
    """

    def __init__(self, state_dir: Path, upstream: str, token: str, *, port: int = 0) -> None:
        self._token_file = state_dir / "guard-token"
        self._token = token
        self._admin_port = 0
        self.url = ""
        arguments = ["--upstream", upstream, "--token-file", str(self._token_file), "--port", str(port)]
        self._child = Child("sandbox.guard", arguments, state_dir=state_dir, name="guard")

    def __enter__(self) -> Self:
        self.set_token(self._token)
        ready = self._child.start()
        self.url, self._admin_port = f"http://127.0.0.1:{ready['port']}", ready["admin_port"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop()

    def set_token(self, token: str) -> None:
        """Ask for another token from now on."""
        self._token_file.parent.mkdir(parents=True, exist_ok=True)
        self._token_file.write_text(token)

    def tell(self, **behaviour: float | bool) -> float:
        """Have it misbehave towards who has the token.

        Parameters
        ----------
        behaviour
            ``status`` to answer all with an HTTP status (0 for the truth), ``delay_s`` for seconds before each answer,
            ``cut`` to break each off in its middle.

        Returns
        -------
        float
            When that came into force, in unix seconds.
        """
        return float(call(self._admin_port, "/behaviour", behaviour)["at"])

    def requests(self) -> dict[str, int]:
        """Return the numbers of forwarded requests, and of requests that were refused for their token."""
        counts: dict[str, Any] = call(self._admin_port, "/status")
        return counts


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.guard", description=__doc__)
    parser.add_argument("--upstream", required=True, help="URL of the Prometheus behind it")
    parser.add_argument("--token-file", type=Path, required=True, help="the required token")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--admin-port", type=int, default=0)
    add_process_options(parser)
    options = parser.parse_args()
    run(lambda: _serve(options))


if __name__ == "__main__":
    main()
