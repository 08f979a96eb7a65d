"""The record as it is kept in full, in a ConfigMap of the plan: its format, and its bounds.

``docs/baseline.md`` explains the format to who reads it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from itertools import groupby
from typing import Any

from cutover.domain.baseline.histogram import Histogram
from cutover.domain.baseline.record import HOUR, MINUTES, Reach, Record, quantile
from cutover.domain.baseline.released import Released
from cutover.domain.baseline.thresholds import LEAST_REQUESTS, choose_thresholds
from cutover.domain.baseline.used import Used, summary
from cutover.domain.baseline.week import ANSWERS, by_week, dispersion, name_of, peak
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.hourly import hour_of_week
from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION
from cutover.domain.resources import CONFIG_MAPS, PLANS, Json
from cutover.domain.texts import plain, shorten

#: Name of the format, raised with each change that a reader would notice.
FORMAT = "cutover.dev/baseline/v1"
#: Key of the ConfigMap that has the record.
KEY = "baseline.json"
#: Holes that are listed, the longest of them.
MOST_HOLES = 50
#: The longest document, in bytes; a ConfigMap may have 1 MiB.
LONGEST = 96 * 1024
#: Characters of the reason why what was used is missing.
LONGEST_REASON = 300
_MEBIBYTE = 1024.0**2
#: Names of what was used.
_FIGURES = ("memoryMiB", "load", "connections", "clusterDnsPerSecond", "throttled")


def document(record: Record, *, plan: str, app: str) -> str:
    """Return the record as JSON, with a line for each hour of the week. The same record gives the same text.

    Parameters
    ----------
    record
        The record.
    plan
        Namespace and name of the plan.
    app
        Name of the Heroku app.
    """
    busiest = peak(record)
    head: dict[str, Any] = {
        "format": FORMAT,
        "plan": plan,
        "app": app,
        "source": record.source,
        "from": time_text(record.reach.start),
        "until": time_text(record.reach.until),
        "coverage": round(record.reach.part, 4),
        "total": _answers(record.total) | _times(record.buckets),
        "peak": {"requestsPerSecond": _short(busiest.rate), "hour": busiest.hour},
        "dispersion": {metric: _short(dispersion(record, metric)) for metric in ANSWERS},
        "thresholds": _thresholds(record.buckets),
        "histogram": {_bound(bound): round(number) for bound, number in record.buckets.items()},
        "holes": list(_holes(record.reach)),
    }
    if used := _used(record):
        head["used"] = used
    if record.unread:
        head["usedMissing"] = shorten(plain(record.unread), LONGEST_REASON)
    if record.released is not None:
        head["releases"] = _releases(record.released)
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    hours = ",\n".join(
        json.dumps(
            {"hour": name_of(one.number), "hours": one.hours, "minutes": one.minutes}
            | ({"requestsPerSecond": _short(one.rate)} if one.rate is not None else {})
            | _answers(one.counts)
            | _times(one.buckets)
            | _figures(one.used)
        )
        for one in by_week(record)
    )
    return "{\n" + ",\n".join([*lines, f'"week": [\n{hours}\n]']) + "\n}\n"


def config_map(text: str, *, plan: str, namespace: str, uid: str) -> Json:
    """Return the ConfigMap that keeps a document.

    It cannot be changed, and is named after what it says: the operator needs the right to create it and no other. It goes
    when the plan goes.

    Parameters
    ----------
    text
        The document.
    plan, namespace, uid
        The plan's name, its namespace, and its UID.
    """
    digest = sha256(f"{uid}\n{text}".encode()).hexdigest()[:10]
    owner = {"apiVersion": PLANS.api_version, "kind": PLANS.kind, "name": plan, "uid": uid}
    return {
        "apiVersion": CONFIG_MAPS.api_version,
        "kind": CONFIG_MAPS.kind,
        "metadata": {
            "namespace": namespace,
            "name": f"cutover-{plan}-baseline-{digest}",
            "labels": {MANAGED_BY_LABEL: FIELD_MANAGER, PLAN_LABEL: plan},
            "annotations": {PLAN_UID_ANNOTATION: uid},
            "ownerReferences": [owner],
        },
        "immutable": True,
        "data": {KEY: text},
    }


def time_text(at: float) -> str:
    """Return a time as the API writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _answers(counts: Counts) -> dict[str, int]:
    return {
        "requests": round(counts.requests),
        "errors": round(counts.errors),
        "refused": round(counts.refused + counts.excepted),
        "redirected": round(counts.redirected),
        "throttled": round(counts.throttled),
    }


def _times(buckets: Mapping[float, float]) -> dict[str, float]:
    named = (("medianMs", 0.5), ("p95Ms", 0.95), ("p99Ms", 0.99))
    return {name: _short(value) for name, part in named if (value := quantile(buckets, part)) is not None}


def _thresholds(buckets: Mapping[float, float]) -> dict[str, float]:
    """Return the thresholds that the record leads to; none where it has too few requests."""
    if buckets.get(math.inf, 0.0) < LEAST_REQUESTS:
        return {}
    try:
        slow, very_slow = choose_thresholds(Histogram(buckets))
    except ValueError:
        return {}
    return {"slowMs": slow, "verySlowMs": very_slow}


def _used(record: Record) -> dict[str, Any]:
    """Return what was used over all hours, and its most with the hour of the week; without what nothing tells."""
    figures, found = [_figures(hour.used) for hour in record.hours], dict[str, Any]()
    for name in _FIGURES:
        whole = summary([figure.get(name) for figure in figures])
        if whole is not None:
            hour = name_of(hour_of_week(record.hours[whole.at].start))
            found[name] = {
                "usual": _short(whole.usual),
                "most": _short(whole.most),
                "hour": hour,
                "hours": whole.hours,
            }
    most = record.most
    if "memoryMiB" in found and most.quota is not None:
        found["memoryMiB"]["quota"] = _short(most.quota / _MEBIBYTE)
    if "connections" in found:
        found["connections"] |= {"database": most.database} if most.database else {}
        found["connections"] |= {"limit": round(most.connection_limit)} if most.connection_limit is not None else {}
    return found


def _figures(used: Used) -> dict[str, float]:
    """Return what was used in an hour; without what nothing tells."""
    values = (
        used.memory / _MEBIBYTE if used.memory is not None else None,
        used.load,
        used.connections,
        used.dns,
        used.throttled,
    )
    return {name: _short(value) for name, value in zip(_FIGURES, values, strict=True) if value is not None}


def _releases(released: Released) -> dict[str, Any]:
    newest = [
        {"at": time_text(mark.at), "version": mark.version} | ({"what": mark.what} if mark.what else {})
        for mark in released.newest
    ]
    return {"number": released.number, "newest": newest}


def _holes(reach: Reach) -> Iterator[dict[str, Any]]:
    """Yield the longest holes in time order: hours without a break of which something is missing."""
    found, number = list[tuple[int, int, int]](), 0
    for whole, group in groupby(reach.minutes, key=lambda minutes: minutes == MINUTES):
        hours = list(group)
        if not whole:
            found.append((sum(MINUTES - minutes for minutes in hours), number, len(hours)))
        number += len(hours)
    for missing, first, hours_long in sorted(sorted(found, reverse=True)[:MOST_HOLES], key=lambda hole: hole[1]):
        begin = reach.start + HOUR * first
        yield {"from": time_text(begin), "until": time_text(begin + HOUR * hours_long), "missingMinutes": missing}


def _bound(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else f"{bound:g}"


def _short(number: float | None) -> float:
    return float(f"{number or 0.0:.4g}")
