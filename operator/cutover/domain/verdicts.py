"""What a gate says: the vocabulary of verdicts, and what follows from each."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What one gate says now. Only Fail rolls back, and only Pass lets a plan advance."""

    PASS = "Pass"
    """Within its limits, on enough evidence."""
    FAIL = "Fail"
    """Worse than tolerated, on enough evidence."""
    UNDECIDED = "Undecided"
    """There is traffic, and the evidence does not say yet."""
    INSUFFICIENT_TRAFFIC = "InsufficientTraffic"
    """Too few requests to say anything in a reasonable time."""
    NO_DATA = "NoData"
    """Nothing to judge, or only old samples."""
    QUERY_ERROR = "QueryError"
    """The query was refused, or its answer is not complete."""
    AMBIGUOUS = "Ambiguous"
    """More than one series where one is expected."""
