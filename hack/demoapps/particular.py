"""What apps do that are particular about the name and the scheme they are asked by, and the pages of a build."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from aiohttp import web

from .knobs import Knobs


def particular(path: str, seen: Mapping[str, str], knobs: Knobs, headers: Mapping[str, str]) -> web.Response | None:
    """Return the answer of an app that is particular about a request, or a page of its build; None for neither.

    Parameters
    ----------
    path
        The path that was asked for.
    seen
        The request's headers as they have reached the app.
    knobs
        What the app is particular about.
    headers
        Headers that all answers of the app have.

    """
    host = seen.get("host", "").rsplit(":", 1)[0].lower()
    if knobs.allowed_host and host != knobs.allowed_host:
        # As Django does with a host that is not in ALLOWED_HOSTS.
        return web.Response(
            status=400, headers={**headers, "content-type": "text/html"}, text="<h1>Bad Request</h1>\n"
        )
    if knobs.canonical_host and host != knobs.canonical_host:
        # As rack-canonical-host does.
        return _moved(f"https://{knobs.canonical_host}{path}", headers)
    if knobs.insists_on_tls and seen.get("x-forwarded-proto") != "https":
        # As Rails' force_ssl does.
        return _moved(f"https://{host}{path}", headers)
    if knobs.build and path == "/":
        more = {
            "content-type": "text/html; charset=utf-8",
            "set-cookie": "session=secret; Path=/; Secure; HttpOnly; SameSite=Lax",
            "strict-transport-security": "max-age=31536000; includeSubDomains",
            "x-frame-options": "DENY",
        }
        return web.Response(headers={**headers, **more}, text=page(knobs.build))
    return None


def page(build: str) -> str:
    """Return the page of a build: the names of its assets have hashes of it, as bundlers write them."""
    hashed = hashlib.sha256(build.encode()).hexdigest()
    return (
        "<!doctype html><title>Shop</title>\n"
        f'<link rel="stylesheet" href="/assets/main.{hashed[:10]}.css">\n'
        f'<script type="module" src="/assets/app-{hashed[:8]}.js"></script>\n'
        '<img src="/logo.png">\n'
    )


def _moved(to: str, headers: Mapping[str, str]) -> web.Response:
    return web.Response(status=301, headers={**headers, "location": to})
