"""How much of an object is looked at: anybody may write large ones, and one process looks at those of all teams.

What is beyond is left out while an object is read, and the object says so (``cut``). Where objects of one namespace stand for
claims, such as hosts, what is left out claims nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from cutover.domain.resources import Json

#: Most entries of one list or map, and of all together; most characters of one text, and of all together.
MOST_ENTRIES, MOST_IN_ALL = 500, 10_000
LONGEST_TEXT, MOST_TEXT = 16 << 10, 128 << 10
#: Longest key of a map, or name of an object: a prefix and a name of DNS.
LONGEST_NAME = 317
#: Bytes that are kept of all objects of a kind in a namespace: some 20,000 ordinary VirtualServices.
NAMESPACE_BYTES = 4 << 20
#: Bytes that an object, and a name in it, take beside their text.
_OBJECT_BYTES, _NAME_BYTES = 200, 16


def trimmed(value: Json, *fields: str) -> Json:
    """Return a part of an object, trimmed, with ``cut`` if that left something out: where, and how much is there.

    Parameters
    ----------
    fields
        What is kept beside namespace and name; by default all, and of the metadata too.
    """
    trim = _Trim()
    if not fields:
        return trim.told(trim.of(value, None))
    metadata = value["metadata"]
    kept = {name: trim.of(value[name], (None, name)) for name in fields if name in value}
    return trim.told({"metadata": {name: metadata.get(name) for name in ("namespace", "name")}, **kept})


#: The way to a value: that of what has it, and its key or index.
_Way = tuple[Any, str | int] | None


class _Trim:
    def __init__(self) -> None:
        self.entries, self.text, self.cut = MOST_IN_ALL, MOST_TEXT, ""

    def told(self, kept: Json) -> Json:
        return {**kept, "cut": self.cut} if self.cut else kept

    def of(self, value: Any, way: _Way) -> Any:
        self.entries -= 1
        match value:
            case str():
                return self._text(value, way)
            case list() | tuple():
                return [self.of(one, (way, index)) for index, one in enumerate(self._some(value, way))]
            case dict():
                return {
                    key: self.of(value[key], (way, key))
                    for key in self._some(value, way)
                    if len(key) <= LONGEST_NAME or self._note(way, "a key that is too long")
                }
            case _:
                return value

    def _text(self, text: str, way: _Way) -> str:
        room = max(0, min(LONGEST_TEXT, self.text))
        self.text -= min(room, len(text))
        if len(text) > room:
            self._note(way, f"{len(text):,} characters")
            return text[:room]
        return text

    def _some(self, given: Any, way: _Way) -> Iterator[Any]:
        for number, one in enumerate(given):
            if number == MOST_ENTRIES or self.entries <= 0:
                self._note(way, f"{len(given):,} entries")
                return
            yield one

    def _note(self, way: _Way, what: str) -> bool:
        self.cut = self.cut or f"{_named(way)} has {what}"
        return False


def _named(way: _Way) -> str:
    keys = list[str]()
    while way is not None:
        way, key = way
        keys.append(f"[{key}]" if isinstance(key, int) else f".{key[:LONGEST_NAME]}")
    return "".join(reversed(keys)).removeprefix(".") or "it"


def names(given: Iterable[object], most: int) -> tuple[tuple[str, ...], bool]:
    """Return different names, and whether some were left out.

    Parameters
    ----------
    given
        The names. What is too long to be one, or no text, is none.
    most
        How many are kept; twenty times as many are looked at.
    """
    looked_at = list(islice(given, 20 * most + 1))
    found = dict.fromkeys(one for one in looked_at if isinstance(one, str) and len(one) <= LONGEST_NAME)
    left_out = len(looked_at) > 20 * most or len(found) > most
    return tuple(islice(found, most)), left_out


def size_of(*parts: Iterable[str]) -> int:
    """Return the bytes that an object with some names takes."""
    return _OBJECT_BYTES + sum(_NAME_BYTES + len(one) for part in parts for one in part)


class Rooms:
    """The room of each namespace while all objects of a kind are listed."""

    def __init__(self) -> None:
        self._used: Counter[str] = Counter()

    def fit(self, kept: Json) -> Json:
        """Return what is kept of an object; of those that exceed the room of their namespace, only whose they are.

        Parameters
        ----------
        kept
            With its ``size``, if it is bounded; anything else is trimmed.
        """
        if "size" not in kept:
            kept = trimmed(kept)
        namespace = kept["metadata"]["namespace"]
        self._used[namespace] += kept.pop("size", 0) or _bytes(kept)
        if self._used[namespace] <= NAMESPACE_BYTES:
            return kept
        what = f"namespace {namespace} has more than {NAMESPACE_BYTES >> 20} MiB"
        return {"metadata": kept["metadata"], "spec": {}, "cut": what}


def _bytes(value: Any) -> int:
    match value:
        case str():
            return _NAME_BYTES + len(value)
        case list():
            return sum(map(_bytes, value))
        case dict():
            return _OBJECT_BYTES + sum(map(_bytes, value.values()))
        case _:
            return _NAME_BYTES
