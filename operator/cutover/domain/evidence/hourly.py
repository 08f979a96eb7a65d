"""Heroku's record of the weeks before as a reference: what is normal in each hour of the week.

It is used where no live Heroku leg gives a reference, or a thin one. Of an hour two fractions are known: one that it reaches
now and then, as weeks differ, and an upper limit that is hardly ever exceeded (:mod:`cutover.domain.baseline.reference`). The
record is of another time and maybe of another place, so that EKS is judged by the worse of it and of Heroku in the earlier steps:

- At 100 % it replaces the floors of :func:`cutover.domain.evidence.metrics.frozen_limit`, which are there because nothing is
  known of the hour. Where the record's hour reaches more than the earlier steps had, more is tolerated.
- Above 50 % it is a second witness beside a thin Heroku (:func:`cutover.domain.evidence.betting.with_witness`).
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Self, get_args

from pydantic_core import from_json, to_json

from cutover.api.opaque import Opaque
from cutover.domain.evidence.metrics import LATENCIES, frozen_limit, reference_of, upper_limit
from cutover.domain.evidence.mix import SESSIONS
from cutover.domain.evidence.rules import ANSWERS, GateRules, MetricName, MetricRule
from cutover.domain.evidence.state import Evidence

HOURS = 168
"""Hours of a week."""
_HOUR = 3600.0
_FIRST = 72
"""Hour of the week in which Unix time begins, a Thursday."""
_MOST = 65_535
_TABLE = struct.Struct(f">{2 * HOURS}H")
_VERSION = 1


class Normal(NamedTuple):
    """What is normal of a metric in an hour of the week.

    Parameters
    ----------
    reached
        A fraction that the hour reaches in one week of many, as weeks differ; at least the one that was counted.
    upper
        A fraction that the real one hardly ever exceeds, for all that is not known of it.
    """

    reached: float
    upper: float


class Limits(NamedTuple):
    """What is tolerated of EKS' requests where no live Heroku is compared with.

    Parameters
    ----------
    moment
        The fraction that any 15 s may be held against.
    hour
        The fraction that the record's hour allows; never above ``moment``, and equal to it without a record. The record
        knows hours, not minutes, so that a moment above it is nothing yet.
    by_record
        Whether the record has the hour.
    """

    moment: float
    hour: float
    by_record: bool = False


def hour_of_week(at: float) -> int:
    """Return the hour of the week, in UTC, that a time in Unix seconds lies in: 0 begins on Monday at 00:00."""
    return (math.floor(at / _HOUR) + _FIRST) % HOURS


@dataclass(frozen=True, slots=True)
class HourlyReference:
    """What is normal in each hour of the week. A thousand plans have one, so it is a few KiB of bytes.

    Parameters
    ----------
    tables
        By metric, for each hour of the week the reached and the upper fraction as 16-bit numbers; an upper one of 0 is unknown.
    codes
        Which codes counted as refused or redirected, in words.
    thresholds
        X1 and X2, milliseconds, by which the latencies were counted; 0 where none were.
    """

    tables: Mapping[MetricName, bytes] = field(default_factory=dict)
    codes: str = ""
    thresholds: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(
        cls, hours: Mapping[MetricName, Iterable[Normal | None]], *, codes: str, thresholds: tuple[float, float]
    ) -> Self:
        """Return the reference with 168 hours for each metric. Upper fractions are rounded up."""
        tables: dict[MetricName, bytes] = {}
        for name, normals in hours.items():
            numbers = list[int]()
            for normal in normals:
                if normal is None:
                    numbers += (0, 0)
                else:
                    numbers += (round(_MOST * normal.reached), max(min(math.ceil(_MOST * normal.upper), _MOST), 1))
            tables[name] = _TABLE.pack(*numbers)
        return cls(tables, codes, thresholds)

    def normal(self, evidence: Evidence, name: MetricName) -> Normal | None:
        """Return what is normal in the hour of the newest block; ``None`` if it is not known, or was counted otherwise."""
        table = self.tables.get(name)
        if table is None or (name in ANSWERS and self.codes != evidence.counted):
            return None
        if name in LATENCIES:
            which = LATENCIES.index(name)
            if self.thresholds[which] != evidence.thresholds[which]:
                return None
        # A block that ends with an hour belongs to it.
        reached, upper = struct.unpack_from(">2H", table, 4 * hour_of_week(evidence.last_end - 1e-3))
        return Normal(reached / _MOST, upper / _MOST) if upper else None


NO_REFERENCE = HourlyReference()


def limits_alone(
    evidence: Evidence, rule: MetricRule, rules: GateRules, hours: HourlyReference | None
) -> Limits | None:
    """Return what is tolerated at 100 %; ``None`` if nothing is known of a latency.

    The limit of the hour is never below what a live Heroku would have allowed that does as the record's hour did, nor below
    the same of Heroku in the earlier steps: the gateways counted those, and not the router's logs. That weeks differ makes it
    wider than without a record; that the record has few requests does not.
    """
    frozen = frozen_limit(evidence, rule, rule.harm, rules.reference_doubt)
    normal = hours.normal(evidence, rule.name) if hours is not None else None
    if normal is None:
        return None if frozen is None else Limits(frozen, frozen)
    bad, total = reference_of(evidence, rule.name)
    if total <= 0 or frozen is None:
        alone = max(_tolerated(rule, normal.upper), rule.floor)
        return Limits(alone, alone, by_record=True)
    steps = upper_limit(bad, total, rules.reference_doubt)
    moment = max(frozen, _tolerated(rule, normal.reached))
    return Limits(moment, min(moment, _tolerated(rule, max(normal.upper, steps))), by_record=True)


def witness_limit(
    evidence: Evidence, rule: MetricRule, rules: GateRules, hours: HourlyReference | None
) -> float | None:
    """Return what the record tolerates of EKS beside a thin Heroku; ``None`` if it does not know the hour."""
    normal = hours.normal(evidence, rule.name) if hours is not None else None
    if normal is None:
        return None
    bad, total = reference_of(evidence, rule.name)
    steps = upper_limit(bad, total, rules.reference_doubt) if total > 0 else 0.0
    return _tolerated(rule, max(normal.upper, steps))


def _tolerated(rule: MetricRule, fraction: float) -> float:
    # The mix of answers of the same hour, but of another week: as wide as where the takeover is judged.
    tolerance = SESSIONS if rule.name in ANSWERS else rule.harm
    return min(tolerance.ratio * fraction + tolerance.margin, (1.0 + fraction) / 2.0)


# -------------------------------------------------------------------------------------------------------- as it is kept


def load_hours(kept: Opaque) -> HourlyReference:
    """Return the reference in the status. One that cannot be read, because the status was edited, knows no hour."""
    return kept.value(_read)


def keep_hours(hours: HourlyReference) -> Opaque:
    """Return the reference for the status."""
    return Opaque.of(hours, _write)


def _write(hours: HourlyReference) -> str:
    if not hours.tables:
        return ""
    data = {
        "v": _VERSION,
        "codes": hours.codes,
        "thresholds": hours.thresholds,
        "hours": {name: base64.b64encode(table).decode() for name, table in hours.tables.items()},
    }
    return to_json(data).decode()


def _read(text: str) -> HourlyReference:
    try:
        data = from_json(text) if text else {}
        if data.get("v") != _VERSION:
            return NO_REFERENCE
        tables: dict[MetricName, bytes] = {
            name: base64.b64decode(data["hours"][name], validate=True)
            for name in get_args(MetricName)
            if name in data["hours"]
        }
        slow, very_slow = (float(threshold) for threshold in data["thresholds"])
        codes = data["codes"]
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error):
        return NO_REFERENCE
    if not isinstance(codes, str) or any(len(table) != _TABLE.size for table in tables.values()):
        return NO_REFERENCE
    return HourlyReference(tables, codes, (slow, very_slow))
