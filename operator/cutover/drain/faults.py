"""Faults of the program, told without what was being read: an exception's own text may quote a log or a header."""

from __future__ import annotations

import traceback
from pathlib import PurePath


def place_of(error: BaseException) -> str:
    """Return the kind of an error and where it was raised, such as ``ValueError at messages.py:73``."""
    found = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(
        f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(found)
    )
