"""A time to wait, as a sentence says it."""

from __future__ import annotations


def span(seconds: float) -> str:
    """Write seconds in the unit that fits, such as ``40 s``, ``12 min``, ``5 h`` or ``3 days``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
