"""The errors that every adapter translates its own errors into."""

from __future__ import annotations


class Unavailable(Exception):
    """The other side did not answer: an outage, a time-out, a missing permission. Its text is for people."""


class QueryFailed(Unavailable):
    """Prometheus is there, and has no usable answer to this query: too many samples, too long, not understood."""


class QueryRefused(QueryFailed):
    """Prometheus rejects the query as wrong. Its text is for people, and has the position of the mistake."""


class PartialAnswer(Unavailable):
    """Prometheus answered, and warns that its answer is incomplete. Its text is for people."""


class Conflict(Exception):
    """The object changed since it was read: read it again and decide again."""


class Gone(Exception):
    """The object does not exist, or not any more."""
