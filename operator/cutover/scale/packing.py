"""Plans kept small in memory: Kopf keeps the newest object of each.

Spec and status are kept as JSON text, in a quarter of the memory, and of the managed fields only what is asked for. What a
plan takes in all is in docs/performance.md.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
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


def slim(body: Any, kept: Callable[[Iterable[Mapping[str, Any]]], list[dict[str, Any]]]) -> None:
    """Make an object smaller, in place: spec and status are packed, and most of the managed fields left out.

    Parameters
    ----------
    body
        The object.
    kept
        Returns what is kept of the managed fields: they are a third of the object, and little of them is asked for.
    """
    for part in ("spec", "status"):
        if isinstance(body.get(part), dict):
            body[part] = Packed(body[part])
    metadata = body["metadata"]
    if "managedFields" in metadata:
        metadata["managedFields"] = kept(metadata["managedFields"] or ())
