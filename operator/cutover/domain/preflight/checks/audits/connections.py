"""Audit ``connections``: how many connections to its database the service can open, beside Heroku's."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.parallel import has_pooler, most_connections
from cutover.domain.preflight.workload import Workload

#: ``max_connections`` of PostgreSQL unless it is set.
POSTGRES_DEFAULT = 100


def find(workload: Workload) -> Iterator[str]:
    """Find more connections than a database takes by default."""
    each = most_connections(workload.app)
    if each is None or has_pooler(workload):
        return
    most = each * workload.most_replicas
    if most <= POSTGRES_DEFAULT:
        return
    yield (
        f"{workload.most_replicas} replicas with {each} connections each open up to {most}, a rollout more, and Heroku's dynos"
        f" keep theirs while both run (PostgreSQL allows {POSTGRES_DEFAULT} unless it is set): count them against the"
        " database's limit, or put PgBouncer between"
    )


CHECK = audit(
    "connections",
    "pools times replicas, as far as the manifest names them, are not more than PostgreSQL's default of 100 connections",
    find,
)
