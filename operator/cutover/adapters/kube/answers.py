"""Translates the API server's errors into causes for metrics and texts for people."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from cutover.adapters.masking import masked
from cutover.domain.resources import Json
from cutover.domain.texts import plain
from cutover.ports.errors import Conflict, Gone, Unavailable

_FORBIDDEN = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]*)" in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)")?'
)


class NotServed(Unavailable):
    """The API server does not serve the kind: its CRD is not installed."""


class Forbidden(Unavailable):
    """The operator lacks a right; the text says which one."""


def translate(
    status: int, headers: Mapping[str, str], data: bytes, what: str
) -> tuple[str, Conflict | Gone | Unavailable]:
    """Turn an error answer into a cause, for metrics, and an exception, for people.

    Parameters
    ----------
    headers
        The answer's headers, with case-insensitive keys.
    what
        The request in words.
    """
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    body: Json = answer if isinstance(answer, dict) else {}
    # An error may quote the request, with its token.
    message = body.get("message") or data[:400].decode(errors="replace").strip()[:200] or "no explanation"
    message = plain(masked(str(message)))
    match status:
        case 404 if (body.get("details") or {}).get("name"):
            return "gone", Gone(f"{what}: {message}")
        case 404:
            return "invalid", NotServed(f"{what}: this API server does not serve it: is its CRD installed?")
        case 409:
            return "conflict", Conflict(f"{what}: {message}")
        case 401:
            return "unauthorized", Unavailable(
                f"{what}: the API server does not accept the credentials: is the ServiceAccount's token expired?"
            )
        case 403:
            return "forbidden", Forbidden(f"{what}: {_permission(message)}")
        case 429:
            wait = headers.get("Retry-After")
            asked = f"asks to wait {wait} s" if wait else "asks to wait"
            return "throttled", Unavailable(f"{what}: the API server {asked}: {message}")
        case 400 | 413 | 415 | 422:
            return "invalid", Unavailable(f"{what}: refused: {message}")
        case _:
            return "server", Unavailable(f"{what}: the API server answered {status}: {message}")


def _permission(message: str) -> str:
    """Return which permission is missing; other refusals, such as a quota's, are quoted."""
    found = _FORBIDDEN.search(message)
    if found is None:
        return f"forbidden: {message}"
    group = found["group"] or '""'
    where = f"in namespace {found['namespace']}" if found["namespace"] else "in all namespaces"
    return (
        f"missing permission: {found['user']} needs verb {found['verb']} on {found['resource']} "
        f"of API group {group} {where}"
    )
