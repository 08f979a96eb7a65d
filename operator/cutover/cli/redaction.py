"""Takes what may be secret out of objects and lines. No I/O."""

from __future__ import annotations

import re
from typing import Any

from cutover.adapters.masking import masked
from cutover.domain.resources import Json

HIDDEN = "(redacted)"
#: Keys whose values are never shown, wherever they are.
_SECRET = re.compile(r"(?i)(password|passwd|secret|token|api[-_]?key|credential|private[-_]?key|authorization|cookie)")
#: Keys that only sound like it, and name an object or a switch.
_NAMES = frozenset(
    {"secretName", "secretRef", "secretKeyRef", "apiKeySecretRef", "automountServiceAccountToken", "imagePullSecrets"}
)
#: What is matched or set in requests: testers' keys and the probes' tokens are among it.
_WHOLLY = frozenset({"headers", "preview"})
#: An address with a user and a password.
_USERINFO = re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)")
#: Annotations that have whole objects, or other tools' notes.
_DROPPED = ("kubectl.kubernetes.io/last-applied-configuration",)


def redacted(body: Json) -> Json:
    """Return an object without what may be secret, and without its managed fields' lists.

    Environment variables and the values of data, headers that are set or matched, and whatever is called a password, a
    token or the like are hidden. Names of objects stay.
    """
    found: Json = _walk(body, "")
    metadata = found.get("metadata")
    if isinstance(metadata, dict):
        metadata.pop("managedFields", None)
        for name in _DROPPED:
            (metadata.get("annotations") or {}).pop(name, None)
    return found


def redacted_text(text: str) -> str:
    """Return a line without credentials."""
    return _USERINFO.sub(HIDDEN, masked(text))


def _walk(value: Any, key: str) -> Any:
    match value:
        case dict():
            if key in ("data", "stringData", "binaryData"):
                return dict.fromkeys(value, HIDDEN)
            if key in _WHOLLY:
                return {name: _without_values(one, name) for name, one in value.items()}
            return {name: HIDDEN if _hides(name, one) else _walk(one, name) for name, one in value.items()}
        case list():
            if key in _WHOLLY:
                return [_without_values(one, key) for one in value]
            return [_variable(one) if key == "env" else _walk(one, key) for one in value]
        case str():
            return redacted_text(value)
        case _:
            return value


def _without_values(value: Any, key: str) -> Any:
    """Hide all texts below a key; names stay."""
    match value:
        case dict():
            return {name: _without_values(one, name) for name, one in value.items()}
        case list():
            return [_without_values(one, key) for one in value]
        case str():
            return value if key == "name" else HIDDEN
        case _:
            return value


def _hides(name: str, value: Any) -> bool:
    if name in _NAMES or not isinstance(value, str):
        return False
    return bool(_SECRET.search(name))


def _variable(one: Any) -> Any:
    """Hide the value of an environment variable; where it comes from stays."""
    return {name: HIDDEN if name == "value" else part for name, part in one.items()} if isinstance(one, dict) else one
