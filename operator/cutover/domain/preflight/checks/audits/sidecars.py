"""Audit ``sidecars``: containers that the app needs from its first moment start before it and end after it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Container, Workload

#: Proxies to databases and the like, by name or image.
_PROXIES = re.compile(
    r"cloud-?sql-?proxy|cloudsql|pgbouncer|pgcat|pgpool|rds-?proxy|s3-?proxy|store-?proxy|envoy|ghostunnel|tailscale"
)
#: What talks to others in an init container.
_TALKS = re.compile(
    r"\brake\b|\brails\b|manage\.py|artisan|prisma|alembic|migrat|wait-for|wait_for|\bcurl\b|\bwget\b|\bnc\b|pg_isready|\bpsql\b"
    r"|\bmysql\b|redis-cli|nslookup|\baws\b|\bgsutil\b"
)


def find(workload: Workload) -> Iterator[str]:
    """Find proxies beside the app, and init containers that talk before a proxy is there."""
    if proxies := [one.name for one in workload.containers if _is_proxy(one) and one != workload.app]:
        yield (
            f"containers {', '.join(proxies)} start beside the app and end beside it: the app's first and last calls fail;"
            " make each an init container with restartPolicy: Always, which starts before and ends after"
        )
    talking = [
        one.name
        for one in workload.init_containers
        if not one.restarts_always and any(_TALKS.search(each.text) for each in one.commands)
    ]
    if talking:
        yield (
            f"init containers {', '.join(talking)} call others before the mesh's sidecar runs, unless it is a native one: with"
            " strict mTLS or an egress gateway they wait for ever; use native sidecars (ENABLE_NATIVE_SIDECARS)"
        )


def _is_proxy(container: Container) -> bool:
    return bool(_PROXIES.search(container.name) or _PROXIES.search(container.image.rsplit("/", 1)[-1]))


CHECK = audit(
    "sidecars",
    "proxies that the app needs are native sidecars, and no init container calls others before the mesh's sidecar is there",
    find,
)
