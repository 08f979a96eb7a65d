"""Packs the objects of plans that Kopf keeps in memory.

Spec and status are kept as JSON text, in a quarter of the memory; of the managed fields only the needed ones are kept.
docs/performance.md has the memory of a plan.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any


class Packed(MutableMapping[str, Any]):
    """A part of an object as JSON text: it takes a quarter of the memory, and is seldom read.

    It is never written. But to add or remove a finalizer Kopf compares objects with jsonpatch, which descends into mutable
    mappings only.
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
    """Return the parsed part. Cached, as readers read all fields of a part in sequence."""
    part: dict[str, Any] = json.loads(text)
    return part


def slim(body: Any, kept: Callable[[Iterable[Mapping[str, Any]]], list[dict[str, Any]]]) -> None:
    """Pack an object's spec and status in place, and drop most of its managed fields.

    Parameters
    ----------
    body
        The object.
    kept
        Returns the managed fields that are kept: they are a third of the object, and few are needed.
    """
    for part in ("spec", "status"):
        if isinstance(body.get(part), dict):
            body[part] = Packed(body[part])
    metadata = body["metadata"]
    if "managedFields" in metadata:
        metadata["managedFields"] = kept(metadata["managedFields"] or ())
