"""Texts of unknown length, cut to the room that there is for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

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


def shorten(text: str, longest: int) -> str:
    """Cut a text of unknown length; ``…`` marks the cut."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def fitted(text: str, longest: int) -> str:
    """Cut a text and end it with its digest, so that two texts stay different."""
    return text if len(text) <= longest else f"{shorten(text, longest - DIGEST - 3)} ({digest(text)})"


def digest(text: str) -> str:
    """Return a short hash of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST]
