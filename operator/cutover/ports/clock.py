"""The time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The operator's clock."""

    def now(self) -> float:
        """Return Unix seconds."""
