"""Heroku's record before the takeover, by hours of the week, as the baseline's ConfigMap has it: the same hours as EKS'."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cutover.report.history import Figures

#: Key of the ConfigMap, and name of the format.
KEY, FORMAT = "baseline.json", "cutover.dev/baseline/"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_HOUR, _WEEK_HOURS = 3600.0, 168


@dataclass(frozen=True, slots=True)
class UsedBefore:
    """What was used before the takeover: the median of the record's hours, the most of one, and how much is allowed."""

    usual: float
    most: float
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Week:
    """Heroku's record.

    Parameters
    ----------
    hours
        Figures of each hour of the week that has any; hours are from Monday 00:00 UTC, from 0 to 167.
    used
        What was used, by the names that the record has.
    """

    hours: Mapping[int, Figures]
    used: Mapping[str, UsedBefore] = field(default_factory=dict)

    def over(self, since: float, until: float) -> Figures:
        """Return the figures of the hours of the week between two times, in Unix seconds.

        Percentiles are the mean of the hours' percentiles, weighted by their requests.
        """
        first = math.floor(since / _HOUR)
        many = min(max(math.ceil(until / _HOUR) - first, 1), _WEEK_HOURS)
        found = [self.hours[hour] for one in range(many) if (hour := _of_week((first + one) * _HOUR)) in self.hours]
        requests = math.fsum(one.requests or 0.0 for one in found)
        if not requests:
            return Figures()
        return Figures(
            requests,
            _mean([(one.errors, one.requests) for one in found]),
            _mean([(one.p50, one.requests) for one in found]),
            _mean([(one.p95, one.requests) for one in found]),
            _mean([(one.p99, one.requests) for one in found]),
        )


def read_week(text: str) -> Week | None:
    """Read a record; ``None`` where it is none, or of a format that is not known."""
    try:
        data = json.loads(text)
        if not str(data["format"]).startswith(FORMAT):
            return None
        hours = {_number(one["hour"]): _figures(one) for one in data["week"]}
        used = {str(name): _used(one) for name, one in data.get("used", {}).items()}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return Week(hours, used)


def _used(one: Mapping[str, Any]) -> UsedBefore:
    limit = one.get("limit", one.get("quota"))
    return UsedBefore(float(one["usual"]), float(one["most"]), None if limit is None else float(limit))


def _number(name: str) -> int:
    day, _, clock = name.partition(" ")
    return 24 * _DAYS.index(day) + int(clock[:2])


def _figures(one: Mapping[str, Any]) -> Figures:
    requests, errors = float(one["requests"]), float(one["errors"])
    return Figures(
        requests,
        errors / requests if requests > 0 else None,
        *(float(one[name]) if name in one else None for name in ("medianMs", "p95Ms", "p99Ms")),
    )


def _of_week(at: float) -> int:
    time = datetime.fromtimestamp(at, UTC)
    return 24 * time.weekday() + time.hour


def _mean(values: list[tuple[float | None, float | None]]) -> float | None:
    known = [(value, weight) for value, weight in values if value is not None and weight]
    total = math.fsum(weight for _, weight in known)
    return math.fsum(value * weight for value, weight in known) / total if total else None
