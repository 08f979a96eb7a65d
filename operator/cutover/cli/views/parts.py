"""Small parts of several views: ages, bars, styles."""

from __future__ import annotations

from datetime import datetime

from rich.text import Text

from cutover.api.durations import brief
from cutover.api.v1alpha1 import Phase
from cutover.domain.holds import ALARMING, HoldReason

#: Orange and blue differ for colour-blind people, too.
EKS, HEROKU = "dark_orange3", "steel_blue"
PHASES = {
    Phase.SHIFTING: "cyan",
    Phase.SOAKING: "cyan",
    Phase.COMPLETED: "bold green",
    Phase.ROLLING_BACK: "bold red",
    Phase.ROLLED_BACK: "bold magenta",
}
VERDICTS = {"Pass": "green", "Fail": "bold red", "QueryError": "red", "Ambiguous": "red", "NoData": "yellow"}


def age(then: datetime | None, now: datetime) -> str:
    """Return how long ago something was, as kubectl has it: ``45s``, ``4m12s``, ``3h5m``, ``2d``."""
    return "" if then is None else brief((now - then).total_seconds())


def moment(value: str) -> datetime | None:
    """Read a time of the API server; ``None`` if there is none."""
    try:
        return datetime.fromisoformat(value) if value else None
    except ValueError:
        return None


def bar(part: float, columns: int, *, full: str = "", empty: str = "dim") -> Text:
    """Return a bar that is filled to a part of its columns; every part above nothing shows."""
    part = min(max(part, 0.0), 1.0)
    filled = min(columns, max(round(part * columns), 1 if part > 0 else 0))
    return Text.assemble(("█" * filled, full), ("░" * (columns - filled), empty))


def held_style(reason: str) -> str:
    """Return how a hold is shown: alarming ones stand out."""
    return "bold red" if reason in set(HoldReason) and HoldReason(reason) in ALARMING else "yellow"


def percent(fraction: float | None) -> str:
    """Return a fraction in percent with two digits, ``-`` for none."""
    if fraction is None:
        return "-"
    return "0 %" if fraction == 0 else f"{100 * fraction:.2g} %"


def seen_percent(value: float | None) -> str:
    """Return a percent of the status as it shows in a table."""
    return "" if value is None else f"{value:g}"
