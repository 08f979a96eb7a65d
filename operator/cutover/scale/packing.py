"""Plans kept small in memory: Kopf keeps the newest object of each.

Spec and status are kept as JSON text, in a quarter of the memory, and of the managed fields only what is asked for. What a
plan takes in all is in docs/performance.md.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any


class Packed(MutableMapping[str, Any]):
    """A part of an object that is kept as JSON: a quarter of the memory, and it is seldom looked into.

    Nobody writes into it; but Kopf, where it is to add or remove a finalizer, compares objects by way of jsonpatch, which
    looks into mappings only if they could be written.
    """

    __slots__ = ("_text",)

    def __init__(self, part: Mapping[str, Any]) -> None:
        self._text = json.dumps(part, separators=(",", ":"))

    def __getitem__(self, name: str) -> Any:
        return _unpacked(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_unpacked(self._text))

    def __len__(self) -> int:
        return len(_unpacked(self._text))

    def __setitem__(self, name: str, value: Any) -> None:
        self._text = json.dumps({**_unpacked(self._text), name: value}, separators=(",", ":"))

    def __delitem__(self, name: str) -> None:
        self._text = json.dumps({key: value for key, value in self.items() if key != name}, separators=(",", ":"))


@functools.lru_cache(maxsize=8)
def _unpacked(text: str) -> dict[str, Any]:
    """Return what is packed; who reads a part reads all its fields, one after the other."""
    part: dict[str, Any] = json.loads(text)
    return part


def slim(body: Any) -> None:
    """Make an object smaller, in place: Kopf keeps the newest one of each plan.

    Spec and status are packed, and of the managed fields stays who owns the spec and which annotations; nobody asks for
    the rest, a third of the object.
    """
    for part in ("spec", "status"):
        if isinstance(body.get(part), dict):
            body[part] = Packed(body[part])
    metadata = body["metadata"]
    if "managedFields" in metadata:
        metadata["managedFields"] = [slimmed for entry in metadata["managedFields"] or () if (slimmed := _slim(entry))]


def _slim(entry: Mapping[str, Any]) -> dict[str, Any]:
    fields = entry.get("fieldsV1") or {}
    kept: dict[str, Any] = {"f:spec": {}} if "f:spec" in fields else {}
    if annotations := (fields.get("f:metadata") or {}).get("f:annotations"):
        kept["f:metadata"] = {"f:annotations": annotations}
    if not kept:
        return {}
    return {"fieldsV1": kept, **{name: entry[name] for name in ("manager", "time") if name in entry}}
