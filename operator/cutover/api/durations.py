"""Durations as text: the forms in a plan, in a table and in a message."""

from __future__ import annotations

import math
import re
from datetime import timedelta

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))

#: With six digits a unit, every sum fits into the API server's durations (292 years).
DURATION_PATTERN = "^" + "".join(f"([0-9]{{1,6}}{unit})?" for unit, _ in _UNITS) + "$"
_DURATION = re.compile(DURATION_PATTERN)


def parse_duration(text: str) -> timedelta:
    """Read a duration such as ``15m``, ``1h30m`` or ``14d``.

    Raises
    ------
    ValueError
        If the text is not a sequence of whole days, hours, minutes and seconds in that order.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(
            f"{text!r} is not a duration: write whole units in the order d, h, m, s, such as 15m or 1h30m"
        )
    parts = zip(match.groups(), _UNITS, strict=True)
    return timedelta(seconds=sum(int(part[:-1]) * size for part, (_, size) in parts if part))


def format_duration(value: timedelta) -> str:
    """Return a duration as a plan has it: ``1h30m``."""
    return "".join(_parts(int(value.total_seconds()))) or "0s"


def brief(seconds: float) -> str:
    """Return a length of time for a table, as kubectl has it, in at most two units: ``4m12s``, ``3h5m``, ``5d``."""
    whole = max(0, int(seconds))
    parts = _parts(whole)
    return "".join(parts[: 1 if whole >= 3 * 86_400 else 2]) or "0s"


def _parts(seconds: int) -> list[str]:
    parts = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count}{unit}")
    return parts


def span(seconds: float, *, exact: bool = False, minutes_from: float = 100) -> str:
    """Return a length of time for a message: ``45 s``, ``6 min``, ``1.5 h``, ``3.0 days``.

    Parameters
    ----------
    seconds
        Length of the time. Less than a second becomes a second, so that no message says "in 0 s".
    exact
        Whether to keep the seconds beside minutes, as ``2 min 5 s``, for a time that is compared with a limit. By default
        the text has two or three digits, as for an estimate.
    minutes_from
        Seconds from which on minutes are told.
    """
    if math.isinf(seconds):
        return "never"
    seconds = math.ceil(seconds) if 0 < seconds < 1 else seconds
    if exact:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "") if minutes else f"{rest} s"
    if seconds < minutes_from:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86_400:.1f} days"
