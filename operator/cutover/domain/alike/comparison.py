"""Compares two answers to the same request, apart from what differs between two answers of one leg as well.

What differs by itself is learned by asking Heroku twice, as Twitter's Diffy does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from cutover.domain.alike.page import KEPT, Page


class Aspect(Enum):
    """What two answers differ in."""

    STATUS = auto()
    LOCATION = auto()
    CONTENT_TYPE = auto()
    COOKIE = auto()
    """A cookie that only one of them sets."""
    COOKIE_ATTRIBUTES = auto()
    HEADER = auto()
    """A security header."""
    LINK = auto()
    """A host that only one of both pages refers to."""
    ASSETS = auto()
    """Names with a hash that only one of both pages refers to."""
    SIZE = auto()


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between two answers.

    Parameters
    ----------
    aspect
        What differs.
    name
        Name of the cookie, the header or the host; ``""`` for other aspects.
    was, now
        The aspect of either answer, for people; ``""`` where it has none.
    """

    aspect: Aspect
    name: str = ""
    was: str = ""
    now: str = ""


@dataclass(frozen=True, slots=True)
class Noise:
    """What differs by itself.

    Parameters
    ----------
    aspects
        Aspects with the names of what differs; where the very names differ, without a name.
    size
        Bytes by which the size differs.
    """

    aspects: frozenset[tuple[Aspect, str]] = frozenset()
    size: int = 0

    def covers(self, difference: Difference) -> bool:
        """Tell whether a difference says nothing."""
        return bool(self.aspects & {(difference.aspect, difference.name), (difference.aspect, "")})


NO_NOISE = Noise()

#: Aspects that have a name of their own each. Where one is there or not, nothing is known of the others' either.
_BY_PRESENCE = (Aspect.COOKIE, Aspect.LINK)
#: Sizes are alike within this part of the larger, or so many bytes, or so many times what differs by itself.
SIZE_PART, SIZE_BYTES, SIZE_NOISE = 0.25, 256, 3
#: Names of assets that are told.
NAMED = 2


def noise_of(first: Page, second: Page) -> Noise:
    """Learn from two answers of one leg what differs by itself."""
    found = _differences(first, second, size_noise=0, size_bytes=0, size_part=0.0)
    aspects = {(one.aspect, "" if one.aspect in _BY_PRESENCE else one.name) for one in found}
    aspects.discard((Aspect.SIZE, ""))
    return Noise(frozenset(aspects), abs(first.size - second.size))


def differences(was: Page, now: Page, noise: Noise = NO_NOISE) -> tuple[Difference, ...]:
    """Return in what an answer differs from another, the gravest first.

    Where the status differs, the rest follows from it and is left out.
    """
    found = _differences(was, now, size_noise=noise.size, size_bytes=SIZE_BYTES, size_part=SIZE_PART)
    return tuple(one for one in found if not noise.covers(one))


def _differences(was: Page, now: Page, *, size_noise: int, size_bytes: int, size_part: float) -> Iterator[Difference]:
    if was.status != now.status:
        yield Difference(Aspect.STATUS, was=was.summary, now=now.summary)
        return
    if was.location != now.location:
        yield Difference(Aspect.LOCATION, was=was.location, now=now.location)
    if was.content_type != now.content_type:
        yield Difference(Aspect.CONTENT_TYPE, was=was.content_type, now=now.content_type)
    yield from _cookies(was.cookies, now.cookies)
    for name in sorted({*was.headers, *now.headers}):
        parts = was.headers.get(name), now.headers.get(name)
        if parts[0] != parts[1]:
            yield Difference(Aspect.HEADER, name, *map(_parts_told, parts, reversed(parts)))
    if was.references is not None and now.references is not None:
        for host in sorted(was.references.hosts ^ now.references.hosts):
            there = host in was.references.hosts
            yield Difference(Aspect.LINK, host, *(("there", "") if there else ("", "there")))
        only_was = was.references.assets - now.references.assets
        only_now = now.references.assets - was.references.assets
        if only_was or only_now:
            yield Difference(Aspect.ASSETS, was=_names(only_was), now=_names(only_now))
    if was.content_type == now.content_type and not _same_size(was, now, size_noise, size_bytes, size_part):
        yield Difference(Aspect.SIZE, was=_size(was), now=_size(now))


def _cookies(was: Mapping[str, frozenset[str]], now: Mapping[str, frozenset[str]]) -> Iterator[Difference]:
    for name in sorted({*was, *now}):
        before, after = was.get(name), now.get(name)
        if before is None or after is None:
            yield Difference(Aspect.COOKIE, name, *(("", "there") if before is None else ("there", "")))
        elif before != after:
            told = (", ".join(_attributes(one)) for one in (before - after, after - before))
            yield Difference(Aspect.COOKIE_ATTRIBUTES, name, *told)


def _attributes(attributes: Iterable[str]) -> Iterator[str]:
    return ("a lifetime" if one == KEPT else one for one in sorted(attributes))


def _parts_told(parts: Mapping[str, str] | None, others: Mapping[str, str] | None) -> str:
    """Return the names of a header's parts that are otherwise in the other answer; their values may be long, or keys."""
    if parts is None:
        return ""
    return ", ".join(name or "there" for name in sorted(parts) if (others or {}).get(name) != parts[name]) or "there"


def _same_size(was: Page, now: Page, noise: int, least: int, part: float) -> bool:
    small, large = sorted((was, now), key=lambda one: one.size)
    # One that was cut may be as large as the other.
    return not small.whole or large.size - small.size <= max(part * large.size, least, SIZE_NOISE * noise)


def _size(page: Page) -> str:
    return f"{page.size:,} B" if page.whole else f"more than {page.size:,} B"


def _names(paths: frozenset[str]) -> str:
    names = sorted(path.rsplit("/", 1)[-1] for path in paths)
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
