"""Packs the objects of plans that Kopf keeps in memory.

Spec and status are kept as compressed JSON, in a tenth of the memory; of the managed fields only the needed ones are kept.
docs/performance.md has the memory of a plan.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from pydantic_core import from_json, to_json

#: Fast: higher levels take twice as long for a tenth less.
_LEVEL = 1


class Packed(MutableMapping[str, Any]):
    """A part of an object as compressed JSON: it takes a tenth of the memory, and is seldom read.

    It is never written. But to add or remove a finalizer Kopf compares objects with jsonpatch, which descends into mutable
    mappings only.
    """

    __slots__ = ("_packed",)

    def __init__(self, part: Mapping[str, Any]) -> None:
        self._packed = _pack(part)

    def __getitem__(self, name: str) -> Any:
        return _unpacked(self._packed)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_unpacked(self._packed))

    def __len__(self) -> int:
        return len(_unpacked(self._packed))

    def __setitem__(self, name: str, value: Any) -> None:
        self._packed = _pack({**_unpacked(self._packed), name: value})

    def __delitem__(self, name: str) -> None:
        self._packed = _pack({key: value for key, value in self.items() if key != name})


def _pack(part: Mapping[str, Any]) -> bytes:
    return zlib.compress(to_json(part), _LEVEL)


@functools.lru_cache(maxsize=8)
def _unpacked(packed: bytes) -> dict[str, Any]:
    """Return the parsed part. Cached, as readers read all fields of a part in sequence."""
    part: dict[str, Any] = from_json(zlib.decompress(packed))
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
