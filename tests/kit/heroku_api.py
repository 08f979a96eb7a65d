"""Heroku's Platform API, played: the shapes of its answers, its pages, its errors, its scopes and its budget, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: By scope (https://devcenter.heroku.com/articles/oauth#scopes) whether a key sees apps, and their config vars.
SCOPES = {
    "global": (True, True),
    "write-protected": (True, True),
    "write": (True, False),
    "read-protected": (True, True),
    "read": (True, False),
    "identity": (False, False),
}
#: A key of each scope.
KEYS = {scope: f"HRKU-played-{scope}-key" for scope in SCOPES}
#: A key that sees all that is asked for, and one that sees nothing of apps.
KEY, BLIND_KEY = KEYS["read-protected"], KEYS["identity"]
#: What no answer of the client's may ever quote.
SECRETS = ("logs.example.com/secret-drain", "postgres://u:secret-password@db", *KEYS.values())


def app_answers() -> dict[str, Any]:
    """Return the answers about an app that is in service, by the path after ``/apps/acme-pdf``."""
    return {
        "": {
            "id": "01234567-89ab-cdef-0123-456789abcdef",
            "name": "acme-pdf",
            "maintenance": False,
            "generation": {"id": "1", "name": "cedar"},
            "web_url": "https://acme-pdf-1a2b3c4d5e6f.herokuapp.com/",
            "stack": {"name": "heroku-24"},
            "region": {"id": "x", "name": "eu"},
            "database_url": SECRETS[1],
        },
        "/formation": [
            {
                "type": "web",
                "quantity": 2,
                "size": "Standard-1X",
                "dyno_size": {"name": "Standard-1X"},
                "command": "puma",
            },
            {"type": "worker", "quantity": 0, "size": "Standard-1X"},
        ],
        "/domains": [
            {"hostname": "acme-pdf-1a2b3c4d5e6f.herokuapp.com", "kind": "heroku", "cname": None, "acm_status": None},
            {
                "hostname": "pdf.example.com",
                "kind": "custom",
                "cname": "quiet-moon-1234.herokudns.com",
                "acm_status": "cert issued",
            },
        ],
        "/sni-endpoints": [
            {
                "name": "x",
                "domains": ["01234567-89ab-cdef-0123-456789abcdef"],
                "ssl_cert": {
                    "expires_at": "2027-02-10T08:00:00Z",
                    "cert_domains": ["pdf.example.com", "*.Example.com"],
                },
            }
        ],
        "/addons": [
            {
                "addon_service": {"name": "heroku-postgresql"},
                "plan": {"name": "heroku-postgresql:standard-0"},
                "config_vars": ["DATABASE_URL"],
                "billed_price": {"cents": 5000, "contract": False, "metered": False, "unit": "month"},
                "web_url": SECRETS[0],
            }
        ],
        "/releases": [release(41), release(42, "Set FEATURE_X config vars")],
        "/features": [{"name": "preboot", "enabled": True}, {"name": "http-session-affinity", "enabled": False}],
        "/buildpack-installations": [
            {"ordinal": 0, "buildpack": {"name": "heroku/ruby", "url": "urn:buildpack:heroku/ruby"}},
            {
                "ordinal": 1,
                "buildpack": {"url": "https://u:secret-password@git.example.com/tools.git?t=secret-password"},
            },
        ],
        "/log-drains": [{"url": f"https://{SECRETS[0]}", "token": "d.secret", "addon": None}],
        "/config-vars": {"DATABASE_URL": SECRETS[1], "SECRET_KEY_BASE": "secret-password"},
    }


def release(
    version: int, description: str = "Deploy 1a2b3c4d", *, slug: str | None = "s-1", **fields: Any
) -> dict[str, Any]:
    """Return a release as the API has it; by default it has succeeded, and no other is in force yet."""
    return {
        "id": f"01234567-0000-0000-0000-{version:012}",
        "version": version,
        "status": "succeeded",
        "current": True,
        "description": description,
        "created_at": "2027-01-11T10:00:00Z",
        "slug": None if slug is None else {"id": slug},
        "user": {"email": "jane@example.com"},
        "output_stream_url": f"https://{SECRETS[0]}",
        **fields,
    }


class PlayedHerokuApi:
    """Answers until it is stopped.

    Attributes
    ----------
    url
        Base URL.
    app
        Name of the only app that there is.
    answers
        By the path after ``/apps/<app>``. A number is the status of an error, a text a page that is no JSON.
    hidden
        Paths that the key may not see.
    page
        Entries of a list in one answer.
    remaining
        Requests that are left of the account; ``None`` to say nothing of them.
    revoked
        Keys that are accepted no more.
    away
        Whether connections end without an answer.
    requests
        Path and headers of each request.
    """

    def __init__(self, app: str = "acme-pdf") -> None:
        self.app = app
        self.answers: dict[str, Any] = app_answers()
        self.hidden: set[str] = set()
        self.page = 200
        self.remaining: int | None = 4000
        self.revoked: set[str] = set()
        self.away = False
        self.requests: list[tuple[str, Mapping[str, str]]] = []
        played = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if played.away:
                    self.close_connection = True
                    return
                played.requests.append((self.path, dict(self.headers)))
                status, headers, body = played._answer(self.path, dict(self.headers))
                self.send_response(status)
                if played.remaining is not None:
                    self.send_header("RateLimit-Remaining", str(played.remaining))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
        if headers.get("Accept") != "application/vnd.heroku+json; version=3":
            return _error(406, "not_acceptable")
        key = headers.get("Authorization", "").removeprefix("Bearer ")
        scope = next((name for name, known in KEYS.items() if known == key), None)
        if scope is None or key in self.revoked:
            return _error(401, "unauthorized")
        apps, config_vars = SCOPES[scope]
        part = path.removeprefix(f"/apps/{self.app}")
        found = self.answers.get(part, 404)
        if part in self.hidden or not (config_vars if part == "/config-vars" else apps):
            return _error(403, "forbidden")
        if isinstance(found, int):
            return _error(found, "not_found" if found == 404 else "rate_limit" if found == 429 else "server_error")
        if isinstance(found, str):
            return 503, {"Content-Type": "text/html"}, found.encode()
        following = ""
        if isinstance(found, list):
            found, following = _page(found, headers.get("Range", "id 0"), self.page)
        body = json.dumps(found).encode()
        tag = f'"{abs(hash(body))}"'
        if headers.get("If-None-Match") == tag:
            return 304, {"ETag": tag}, b""
        return (206, {"ETag": tag, "Next-Range": following}, body) if following else (200, {"ETag": tag}, body)


def _page(found: list[Any], asked: str, most: int) -> tuple[list[Any], str]:
    """Return the part of a list that a ``Range`` asks for, and the ``Range`` of the next part; ``""`` at the end."""
    if not asked.startswith("version "):
        start = int(asked.rpartition(" ")[2])
        end = start + most
        return found[start:end], f"id {end}" if end < len(found) else ""
    options = dict(one.strip().split("=") for one in asked.partition(";")[2].split(","))
    most = int(options["max"])
    if all(isinstance(one, dict) and {"version", "current"} <= one.keys() for one in found):
        found = sorted(found, key=lambda one: one["version"], reverse=options.get("order") == "desc")
        newest = max((one["version"] for one in found if one["current"]), default=0)
        # Of those that were in force, the newest is.
        found = [{**one, "current": one["version"] == newest} for one in found]
    return found[:most], f"version ..; max={most}, from={most}" if most < len(found) else ""


def _error(status: int, name: str) -> tuple[int, dict[str, str], bytes]:
    body = {"id": name, "message": f"no {SECRETS[1]} for {KEY}", "url": "https://devcenter.heroku.com"}
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()
