"""A clock that tests set."""

from __future__ import annotations

from dataclasses import dataclass

from tests.kit.fake_tsdb import START


@dataclass
class ManualClock:
    """Shows what it is set to."""

    time: float = START

    def now(self) -> float:
        return self.time
