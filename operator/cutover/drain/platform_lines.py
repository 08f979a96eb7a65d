"""Lines of Heroku's platform about dynos, add-ons, releases and lost messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import NamedTuple

_DYNO = re.compile(rb"([a-z0-9][a-z0-9_-]{0,62}?)\.(\d{1,6})")
#: Fir's dynos, such as web-1234abcde-123ab, have a new name with each start.
_FIR_DYNO = re.compile(rb"([a-z0-9][a-z0-9_]{0,62})-[a-z0-9]{8,10}-[a-z0-9]{5}")
#: Types whose dynos run once, each under a number of its own.
_ONE_OFF = frozenset({"run", "scheduler", "release"})

_SAMPLES = re.compile(rb"sample#([a-z0-9_-]{1,40})=(-?\d{1,18}(?:\.\d{1,9})?)([A-Za-z]{0,8})(?=[\s,]|\Z)")
#: Samples of a line that are read; the longest real lines have some twenty.
_MOST_SAMPLES = 64
_SOURCE = re.compile(rb"(?:^| )source=([\w.-]{1,64})")
_ADDON = re.compile(rb"(?:^| )addon=([\w.-]{1,64})")
_UNITS = {b"": 1.0, b"bytes": 1.0, b"kB": 1024.0, b"MB": 1024.0**2, b"GB": 1024.0**3}

_DYNO_ERROR = re.compile(rb"Error (R\d\d) ")
_EVENTS: tuple[tuple[bytes, str], ...] = (
    (b"Starting process with command ", "starting"),
    (b"Cycling", "cycling"),
    (b"Restarting", "restarting"),
    (b"State changed from up to crashed", "crashed"),
    (b"State changed from starting to crashed", "crashed"),
)
_EXITED = re.compile(rb"Process exited with status (\d{1,3})")
#: A dyno that is told to stop exits so, and it is nothing to tell.
_STOPPED = frozenset({0, 143})

_RELEASE = re.compile(rb"Release v(\d{1,9}) created")
_LOSS = re.compile(rb"Error (L1[0-3])(?: \([^)]{0,80}\))?: (\d{1,12}) messages? (?:dropped|lost)")

#: Metrics of the samples by their names with "_" for "-": the name after ``heroku_dyno_``, and so on.
DYNO_SAMPLES: Mapping[str, str] = {
    "load_avg_1m": "load_1m",
    "load_avg_5m": "load_5m",
    "load_avg_15m": "load_15m",
    "memory_total": "memory_total_bytes",
    "memory_rss": "memory_rss_bytes",
    "memory_cache": "memory_cache_bytes",
    "memory_swap": "memory_swap_bytes",
    "memory_quota": "memory_quota_bytes",
}
_SERVER_SAMPLES: Mapping[str, str] = {
    "active_connections": "active_connections",
    "max_connections": "max_connections",
    "load_avg_1m": "load_1m",
    "load_avg_5m": "load_5m",
    "load_avg_15m": "load_15m",
    "read_iops": "read_iops",
    "write_iops": "write_iops",
    "memory_total": "memory_total_bytes",
    "memory_free": "memory_free_bytes",
    "memory_cached": "memory_cached_bytes",
}
POSTGRES_SAMPLES: Mapping[str, str] = {
    **_SERVER_SAMPLES,
    "waiting_connections": "waiting_connections",
    "connections_percentage_used": "connections_used_percent",
    "db_size": "size_bytes",
    "db_size_percentage_used": "size_used_percent",
    "tables": "tables",
    "table_cache_hit_rate": "table_cache_hit_ratio",
    "index_cache_hit_rate": "index_cache_hit_ratio",
    "iops_percentage_used": "iops_used_percent",
    "memory_postgres": "memory_postgres_bytes",
    "wal_percentage_used": "wal_used_percent",
    "follower_lag_commits": "follower_lag_commits",
}
REDIS_SAMPLES: Mapping[str, str] = {
    **_SERVER_SAMPLES,
    "connection_percentage_used": "connections_used_percent",
    "memory_redis": "memory_redis_bytes",
    "hit_rate": "hit_ratio",
    "evicted_keys": "evicted_keys",
}


class Dyno(NamedTuple):
    """A dyno as metrics name it.

    Parameters
    ----------
    name
        Such as ``web.1``; only the type where dynos have ever new names.
    lasting
        Whether the name is that of a single dyno, whose memory and load have a meaning.
    """

    name: str
    lasting: bool


def dyno_named(name: bytes) -> Dyno | None:
    """Return the dyno of a name in the log; ``None`` where it is no dyno's."""
    if found := _DYNO.fullmatch(name):
        kind = found[1].decode("ascii")
        return Dyno(kind, lasting=False) if kind in _ONE_OFF else Dyno(name.decode("ascii"), lasting=True)
    if found := _FIR_DYNO.fullmatch(name):
        return Dyno(found[1].decode("ascii"), lasting=False)
    return None


def dyno_events(line: bytes) -> Iterator[str]:
    """Yield the events that a dyno's line tells: an error such as ``R14``, or how it starts and ends."""
    if found := _DYNO_ERROR.match(line):
        yield found[1].decode("ascii")
    elif exited := _EXITED.match(line):
        if int(exited[1]) not in _STOPPED:
            yield "failed"
    else:
        for beginning, event in _EVENTS:
            if line.startswith(beginning):
                yield event


def samples(line: bytes, names: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """Yield the metrics of a line's samples, by a table of their names; sizes are in bytes."""
    for found in islice(_SAMPLES.finditer(line), _MOST_SAMPLES):
        name, value, unit = found.groups()
        metric = names.get(name.decode("ascii").replace("-", "_"))
        if metric is not None and unit in _UNITS:
            yield metric, float(value) * _UNITS[unit]


def add_on(line: bytes) -> str:
    """Return the name of the add-on that a line of samples is about, else its attachment; ``""`` without any."""
    found = _ADDON.search(line) or _SOURCE.search(line)
    return found[1].decode("ascii") if found else ""


def sampled_dyno(line: bytes) -> bytes:
    """Return the ``source`` of a line of samples."""
    found = _SOURCE.search(line)
    return found[1] if found else b""


def release(line: bytes) -> int | None:
    """Return the version of a release that a line of the API tells of."""
    found = _RELEASE.match(line)
    return int(found[1]) if found else None


def loss(line: bytes) -> tuple[str, int] | None:
    """Return the code and the number of messages of which a line tells that they are lost (L10 to L13)."""
    found = _LOSS.search(line)
    return (found[1].decode("ascii"), int(found[2])) if found else None
