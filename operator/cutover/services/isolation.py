"""Isolates a plan whose counters make the query for many plans fail.

Counters of up to a hundred plans come with one query. A leg with too many series makes that query fail: it has too many
samples, takes too long, or its answer is too long. So plans whose query failed are asked about in eight parts, and so on
down to the one; those of the other parts have their blocks again at once. Each stays in the smaller group for
some minutes, so that the others do not pay for the search again and again, and the one that is left alone with longer and
longer pauses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Parts into which the plans of a query that fails are divided. Each level of the search may take a query's time-out.
PARTS = 8
#: Seconds for which a plan stays in a smaller group.
REMEMBERED = 600.0
#: First and longest pause in seconds of a plan whose query fails although it is asked about alone.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0


@dataclass(slots=True)
class Isolation:
    """With how many plans a plan may share a query.

    Parameters
    ----------
    most
        Plans in a query, itself included; 0 if there is no limit.
    active
        Whether the last query failed, so that the plan is asked about apart from those that are well.
    failures
        Queries in a row that failed for this plan alone.
    until
        Unix seconds of the operator's clock at which the limit ends.
    """

    most: int = 0
    active: bool = False
    failures: int = 0
    until: float = 0.0

    def failed(self, plans: int, now: float) -> float:
        """Note that a query for so many plans failed; return the seconds until the plan is asked about again."""
        self.most, self.until, self.active = max(1, math.ceil(plans / PARTS)), now + REMEMBERED, True
        if plans > 1:
            return 0.0
        self.failures += 1
        return min(_FIRST_PAUSE * 2.0 ** min(self.failures - 1, 10), _LONGEST_PAUSE)

    def answered(self) -> None:
        """Note that a query for the plan was answered."""
        self.failures, self.active = 0, False

    def over(self, now: float) -> bool:
        """Tell whether the limit ends: the plan is well, and it has lasted. A clock that was set back does not prolong it."""
        return bool(self.most) and not self.active and not 0 < self.until - now <= REMEMBERED
