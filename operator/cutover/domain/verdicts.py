"""The verdicts of gates, and what follows from each."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """Verdict of one gate. Only Fail rolls back, and only Pass lets a plan advance."""

    PASS = "Pass"
    """Within its limits, on enough evidence."""
    FAIL = "Fail"
    """Worse than tolerated, on enough evidence."""
    UNDECIDED = "Undecided"
    """There is traffic, and the evidence does not decide yet."""
    INSUFFICIENT_TRAFFIC = "InsufficientTraffic"
    """Too few requests to say anything in a reasonable time."""
    NO_DATA = "NoData"
    """Nothing to judge, or only old samples."""
    QUERY_ERROR = "QueryError"
    """Prometheus refused the query, or its answer is not complete."""
    AMBIGUOUS = "Ambiguous"
    """The query gave several series where one is expected."""
