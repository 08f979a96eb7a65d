"""The Heroku leg: one TLS listener, many apps, routed by Host as Heroku's router does.

Run as ``python -m demoapps.heroku_sim --port 18443 --admin-port 18444
--app pdf=acme-pdf-1a2b3c.herokuapp.com``; see `--help`. The admin port also
serves `/metrics`, with the apps' own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from .exposition import CheckoutCollector, serve_metrics
from .serving import (
    DemoApp,
    Listener,
    add_process_options,
    admin_app,
    announce,
    body_of,
    counted,
    json_object,
    run,
    serve_admin,
    until_told_to_stop,
)
from .tls import SniObject, is_shared, names_of, server_context

#: Heroku's router gives an app so long for its first byte (seconds).
H12_SECONDS = 30.0
#: Requests of one app that may wait at once: five dynos' worth at one router.
H11_LIMIT = 1000
#: Idle connections are closed after this long (seconds), which clients have to
#: stay below: it is why the mesh's own idle time-out is 30 s.
KEEPALIVE_SECONDS = 55.0


@dataclass(frozen=True, slots=True)
class RouterError:
    """An answer that the router gives in place of the app."""

    code: str
    status: int
    reason: str
    description: str


H10 = RouterError("H10", 503, "Service Unavailable", "App crashed")
H11 = RouterError("H11", 503, "Service Unavailable", "Backlog too deep")
H12 = RouterError("H12", 503, "Service Unavailable", "Request timeout")
H31 = RouterError("H31", 421, "Misdirected Request", "Misdirected request")
H80 = RouterError("H80", 503, "Service Unavailable", "Maintenance mode")
H99 = RouterError("H99", 503, "Service Unavailable", "Platform error")
NO_SUCH_APP = RouterError("", 404, "Not Found", "No such app")
CERTIFICATE = RouterError("", 495, "Certificate Error", "Host does not fit the certificate")


class Router:
    """Heroku's router for a set of apps.

    Parameters
    ----------
    apps
        Hostnames of each app, by the app's name; ``*.example.com`` is a wildcard
        domain.
    h12_s
        Time an app has for its first byte, in seconds.
    h11_limit
        Requests of one app that may be under way at once.
    seed
        Seed of the apps' dice.

    """

    def __init__(
        self,
        apps: Mapping[str, Sequence[str]],
        *,
        h12_s: float = H12_SECONDS,
        h11_limit: int = H11_LIMIT,
        seed: int | None = None,
    ) -> None:
        self.apps = {name: DemoApp(name, "heroku", seed) for name in apps}
        self.hostnames: dict[str, DemoApp] = {}
        for name, hostnames in apps.items():
            for hostname in hostnames:
                taken = self.hostnames.setdefault(hostname.lower(), self.apps[name])
                if taken.name != name:
                    raise ValueError(f"{hostname} belongs to both {taken.name} and {name}")
        self._h12_s = h12_s
        self._h11_limit = h11_limit

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route one request."""
        began = time.monotonic()
        host = request.headers.get("host", "").rsplit(":", 1)[0].rstrip(".").lower()
        request_id = request.headers.get("x-request-id") or str(uuid.uuid4())
        app = self._app_of(host)
        misrouted = self._misrouted(host, _sni(request))
        response: web.StreamResponse
        if misrouted is not None or app is None:
            response = _page(misrouted or NO_SUCH_APP, None)
        else:
            response = await counted(app, request, self._forward(app, request))
        response.headers["server"] = "Heroku"
        response.headers["via"] = "1.1 heroku-router"
        response.headers["x-request-id"] = request_id
        if code := response.headers.get("x-heroku-error"):
            _log_error(code, request, request_id, response, time.monotonic() - began)
        return response

    def _app_of(self, host: str) -> DemoApp | None:
        return next((self.hostnames[name] for name in names_of(host) if name in self.hostnames), None)

    def _misrouted(self, host: str, sni: str | None) -> RouterError | None:
        """Judge whether a request may come by the connection that it came by."""
        if host == sni:
            return None
        if sni is not None and self._app_of(sni) is not None and not is_shared(sni):
            # The connection carries a custom domain's own certificate.
            return CERTIFICATE
        if self._app_of(host) is None:
            return NO_SUCH_APP
        if sni is None and is_shared(host):
            # Without SNI one gets the shared certificate, which covers it.
            return None
        # Heroku may be lenient between two names of the shared certificate. This
        # is not, so that a gateway which mixes its connections up is noticed.
        return H31

    async def _forward(self, app: DemoApp, request: web.BaseRequest) -> web.StreamResponse:
        if app.knobs.platform_error:
            return _page(H99, app)
        if app.knobs.maintenance:
            return _page(H80, app)
        if app.knobs.down:
            return _page(H10, app)
        if app.in_flight > self._h11_limit:
            return _page(H11, app)
        # The time begins when the whole request has been sent to the app (https://devcenter.heroku.com/articles/request-timeout).
        body = await body_of(request)
        try:
            async with asyncio.timeout(self._h12_s):
                return await app.answer(request, _as_forwarded(request), body)
        except TimeoutError:
            return _page(H12, app)


def _as_forwarded(request: web.BaseRequest) -> Mapping[str, str]:
    """Return the headers that the app gets from Heroku's router.

    The address that has connected to the router is appended to those that the
    request brings; of scheme and port the app hears those of the last hop
    only (https://devcenter.heroku.com/articles/http-routing#heroku-headers).
    """
    came_by = request.headers.getall("x-forwarded-for", [])
    return {name.lower(): value for name, value in request.headers.items()} | {
        "x-forwarded-for": ", ".join([*came_by, request.remote or ""]),
        "x-forwarded-proto": "https",
        "x-forwarded-port": "443",
        "x-request-start": str(int(time.time() * 1000)),
        "via": "1.1 heroku-router",
    }


def _sni(request: web.BaseRequest) -> str | None:
    connection = request.get_extra_info("ssl_object")
    return connection.sni if isinstance(connection, SniObject) else None


def _page(error: RouterError, app: DemoApp | None) -> web.Response:
    headers = {
        "content-type": "text/html; charset=utf-8",
        "cache-control": "no-cache, no-store",
        "x-leg": "heroku",
    }
    if app is not None:
        headers["x-app"] = app.name
    if error.code:
        # Heroku shows the code in its log only; tests need it here.
        headers["x-heroku-error"] = error.code
    title = error.description if error.status == 404 else "Application error"
    return web.Response(
        status=error.status,
        reason=error.reason,
        headers=headers,
        text=f"<!doctype html><title>{title}</title><p>heroku-sim: {error.description}.</p>\n",
    )


_DESCRIPTIONS = {error.code: error.description for error in (H10, H11, H12, H31, H80, H99)}


def _log_error(
    code: str, request: web.BaseRequest, request_id: str, response: web.StreamResponse, took_s: float
) -> None:
    """Print a router line as Heroku's log has it."""
    print(
        f'at=error code={code} desc="{_DESCRIPTIONS[code]}" method={request.method} '
        f'path="{request.path}" host={request.headers.get("host", "")} request_id={request_id} '
        f'fwd="{request.headers.get("x-forwarded-for", request.remote)}" dyno=web.1 connect=0ms '
        f"service={took_s * 1000:.0f}ms status={response.status} bytes=0 protocol=https"
    )


async def serve(options: argparse.Namespace, router: Router) -> None:
    """Serve the router and its admin port until told to stop."""
    cert_dir: Path = options.cert_dir or Path(tempfile.mkdtemp(prefix="heroku-sim-"))
    listener = Listener(
        router.handle,
        options.bind,
        options.port,
        tls=server_context(cert_dir, router.hostnames),
        keepalive_s=KEEPALIVE_SECONDS,
    )

    async def turn(app: DemoApp, changes: Mapping[str, object]) -> None:
        app.turn(changes)

    async def put_router(request: web.Request) -> web.Response:
        change = await json_object(request)
        refuse = change.get("refuse")
        if set(change) != {"refuse"} or not isinstance(refuse, bool):
            raise web.HTTPBadRequest(
                text='{"error": "the router takes {\\"refuse\\": true} or false"}',
                content_type="application/json",
            )
        await (listener.refuse() if refuse else listener.listen())
        return web.json_response({"refuse": refuse, "at": time.time()})

    admin = admin_app(router.apps, turn)
    admin.router.add_put("/router", put_router)
    called = dict(pair.split("=", 1) for pair in options.metrics_name)
    serve_metrics(admin, CheckoutCollector({called.get(name, name): app for name, app in router.apps.items()}))
    await listener.listen()
    runner, admin_port = await serve_admin(admin, options.bind, options.admin_port)
    announce(
        options.ready_file,
        port=listener.port,
        admin_port=admin_port,
        ca_file=str((cert_dir / "ca.crt").resolve()),
    )
    await until_told_to_stop(lifeline=options.lifeline)
    await listener.close()
    await runner.cleanup()


def parse_apps(file: Path | None, pairs: Sequence[str]) -> dict[str, list[str]]:
    """Read apps from a JSON file and from `name=hostname[,hostname…]` pairs.

    Raises
    ------
    ValueError
        If there is none, or a pair has no hostname.

    """
    apps: dict[str, list[str]] = {}
    if file is not None:
        for name, hostnames in json.loads(file.read_text()).items():
            apps[name] = [hostnames] if isinstance(hostnames, str) else list(hostnames)
    for pair in pairs:
        name, _, hostname = pair.partition("=")
        if not name or not hostname:
            raise ValueError(f"{pair!r}: write name=hostname")
        apps.setdefault(name, []).extend(hostname.split(","))
    if not apps:
        raise ValueError("no app: give --apps or --app")
    return apps


def _pair(text: str) -> str:
    if not all(text.partition("=")):
        raise argparse.ArgumentTypeError(f"{text!r}: write app=name")
    return text


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m demoapps.heroku_sim", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="TLS port (default: a free one)")
    parser.add_argument("--admin-port", type=int, default=0, help="plain HTTP port of the knobs")
    parser.add_argument("--cert-dir", type=Path, help="for ca.crt and the rest (default: a new directory)")
    parser.add_argument("--apps", type=Path, metavar="FILE", help='JSON: {"pdf": ["acme-pdf.herokuapp.com"]}')
    parser.add_argument("--app", action="append", default=[], metavar="NAME=HOST[,HOST]", help="may be repeated")
    parser.add_argument(
        "--metrics-name",
        action="append",
        default=[],
        type=_pair,
        metavar="APP=NAME",
        help="what an app calls itself in its metrics; may be repeated",
    )
    parser.add_argument("--h12-seconds", type=float, default=H12_SECONDS)
    parser.add_argument("--h11-limit", type=int, default=H11_LIMIT)
    add_process_options(parser)
    options = parser.parse_args()
    try:
        router = Router(
            parse_apps(options.apps, options.app),
            h12_s=options.h12_seconds,
            h11_limit=options.h11_limit,
            seed=options.seed,
        )
    except (ValueError, OSError) as error:
        parser.error(str(error))
    run(lambda: serve(options, router))


if __name__ == "__main__":
    main()
