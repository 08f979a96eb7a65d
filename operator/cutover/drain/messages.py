"""Sorts messages by who wrote them, and counts what they say.

A message is ``<PRI>1 TIMESTAMP HOST APP PROCID MSGID text``. APP and PROCID are Heroku's word; the text may be anybody's. PRI
differs from year to year and says nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cutover.drain import platform_lines as platform
from cutover.drain.counts import AppCounts
from cutover.drain.router_lines import read_request

#: Kinds of messages, as the metrics name them.
ROUTER, DYNO, POSTGRES, REDIS, API, LOGPLEX, APP, UNREADABLE = (
    "router", "dyno", "postgres", "redis", "api", "logplex", "app", "unreadable"
)  # fmt: skip
KINDS = (ROUTER, DYNO, POSTGRES, REDIS, API, LOGPLEX, APP, UNREADABLE)

_PROCESSES = {
    (b"heroku", b"router"): ROUTER,
    (b"heroku", b"logplex"): LOGPLEX,
    (b"app", b"heroku-postgres"): POSTGRES,
    (b"app", b"heroku-redis"): REDIS,
    (b"app", b"api"): API,
}
_LOG_SHUTTLE = b"log-shuttle"
_FIELDS = 7


def kind_of(fields: list[bytes]) -> str:
    """Return the kind of a message by its fields."""
    if len(fields) != _FIELDS or not (fields[0].startswith(b"<") and fields[0].endswith(b">1")):
        return UNREADABLE
    app, process = fields[3], fields[4]
    kind = _PROCESSES.get((app, process))
    if kind is not None:
        return kind
    if process == _LOG_SHUTTLE:
        return LOGPLEX
    return DYNO if app == b"heroku" else APP


def count_message(message: bytes, counts: AppCounts, at: float) -> str:
    """Count a message, and return its kind.

    Parameters
    ----------
    message
        Without its length.
    counts
        Those of its app.
    at
        When it came, in seconds of a monotonic clock.
    """
    fields = message.split(b" ", 6)
    kind = kind_of(fields)
    if kind is ROUTER:
        request = read_request(fields[6])
        if request is None:
            kind = UNREADABLE
        else:
            counts.add_request(request)
    elif kind is not APP and kind is not UNREADABLE:
        _count_platform(kind, fields, counts, at)
    counts.lines[kind] = counts.lines.get(kind, 0) + 1
    if kind is UNREADABLE:
        counts.add_dropped(UNREADABLE, 1)
    return kind


def _count_platform(kind: str, fields: list[bytes], counts: AppCounts, at: float) -> None:
    process, text = fields[4], fields[6]
    if kind is DYNO:
        sampled = platform.sampled_dyno(text) if b"sample#" in text else b""
        dyno = platform.dyno_named(sampled or process)
        if dyno is not None and dyno.lasting and sampled:
            counts.dynos.add(dyno.name, platform.samples(text, platform.DYNO_SAMPLES), at)
        elif dyno is not None:
            for event in platform.dyno_events(text):
                counts.add_event(dyno.name, event)
    elif kind is POSTGRES:
        counts.postgres.add(platform.add_on(text), platform.samples(text, platform.POSTGRES_SAMPLES), at)
    elif kind is REDIS:
        counts.redis.add(platform.add_on(text), platform.samples(text, platform.REDIS_SAMPLES), at)
    elif kind is API:
        version = platform.release(text)
        if version is not None:
            counts.releases += 1
            counts.release_version = max(counts.release_version, version)
    elif (loss := platform.loss(text)) is not None:
        counts.add_dropped(*loss)


def told_loss(message: bytes) -> tuple[str, int] | None:
    """Return the code and the number of the lost messages that a message of Logplex tells of."""
    fields = message.split(b" ", 6)
    return platform.loss(fields[6]) if kind_of(fields) is LOGPLEX else None


def written_at(message: bytes) -> float | None:
    """Return when a message was written, in Unix seconds, by its own word; ``None`` where it does not say."""
    fields = message.split(b" ", 2)
    try:
        when = datetime.fromisoformat(fields[1].decode("ascii"))
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (IndexError, ValueError, OverflowError):
        return None
