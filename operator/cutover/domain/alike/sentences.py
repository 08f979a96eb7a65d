"""Differences between two answers as words for people."""

from __future__ import annotations

from typing import assert_never

from cutover.domain.alike.comparison import Aspect, Difference

#: Stands for an aspect that is there and has no text.
_THERE = "there"


def told(one: Difference) -> str:
    """Describe a difference, of the later answer: ``HTTP 400 instead of HTTP 200``, ``no X-Frame-Options``."""
    match one.aspect:
        case Aspect.STATUS:
            return f"{one.now} instead of {one.was}" if one.was else one.now
        case Aspect.LOCATION:
            return f"a redirect to {one.now or 'nowhere'} instead of {one.was or 'nowhere'}"
        case Aspect.CONTENT_TYPE:
            return f"the content type {one.now or 'none'} instead of {one.was or 'none'}"
        case Aspect.COOKIE:
            return f"no cookie named {one.name}" if one.was else f"a new cookie named {one.name}"
        case Aspect.COOKIE_ATTRIBUTES:
            return f"the cookie {one.name} {_with(one)}"
        case Aspect.HEADER if not one.now:
            return f"no {one.name}"
        case Aspect.HEADER if not one.was:
            return f"a new {one.name}"
        case Aspect.HEADER:
            parts = sorted({*one.was.split(", "), *one.now.split(", ")} - {_THERE})
            return f"another {one.name}" + (f" ({', '.join(parts)})" if parts else "")
        case Aspect.LINK:
            return f"links to {one.name}" if one.now else f"no links to {one.name}"
        case Aspect.ASSETS:
            return f"other assets ({one.now or 'none'} instead of {one.was or 'none'})"
        case Aspect.SIZE:
            return f"{one.now} instead of {one.was}"
        case _:
            assert_never(one.aspect)


def _with(one: Difference) -> str:
    now, was = one.now and f"with {one.now}", one.was and f"without {one.was}"
    return " and ".join(filter(None, (now, was)))
