"""Texts that others wrote: cut to the room that there is for them, and without characters that are not to be shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

#: Characters that Unicode takes for letters, marks or symbols, and that show as nothing or as a blank: fillers of Hangul and
#: Braille, vowels of Khmer that are never shown, and selectors of variants. The two selectors of emoji stay.
_BLANK = frozenset(
    map(
        chr,
        (
            *(0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0),
            *range(0x180B, 0x1810),
            *range(0xFE00, 0xFE0E),
            *range(0xE0100, 0xE01F0),
        ),
    )
)

#: Characters of a digest.
DIGEST = 8


def shorten_together(texts: Sequence[str], longest: int) -> tuple[str, ...]:
    """Cut texts that are too long together: short texts stay whole, the others get the same length."""
    most, left = longest, longest
    for number, text in enumerate(sorted(texts, key=len)):
        most = left // (len(texts) - number)
        if len(text) > most:
            break
        left -= len(text)
    else:
        return tuple(texts)
    return tuple(shorten(text, max(most, 2)) for text in texts)


def plain(text: str) -> str:
    """Return a text that is safe to show in a terminal, a chat and a table, and that can always be encoded.

    Line ends become spaces. Control characters, bidirectional and other invisible characters, and lone surrogates (what
    is left of bytes that are no UTF-8) become ``?``: they could move the cursor, reverse what people read, or make a
    message that cannot be sent.
    """
    if is_plain(text):  # nearly always, and quickly told
        return text
    return "".join(one if one.isprintable() and one not in _BLANK else " " if one.isspace() else "?" for one in text)


def is_plain(text: str) -> bool:
    """Tell whether :func:`plain` would leave a text as it is."""
    return text.isprintable() and (text.isascii() or _BLANK.isdisjoint(text))


def shorten(text: str, longest: int) -> str:
    """Cut a text of unknown length; ``…`` marks the cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def listed(texts: Iterable[str], most: int = 6) -> str:
    """Join texts with commas: the first ones, and how many there are more."""
    found = list(texts)
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(shorten(text, 160) for text in found[:most]) + more


def fitted(text: str, longest: int) -> str:
    """Cut a text and end it with its digest, so that two texts stay different."""
    return text if len(text) <= longest else f"{shorten(text, longest - DIGEST - 3)} ({digest(text)})"


def digest(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:DIGEST]
