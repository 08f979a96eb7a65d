"""Audit ``stop-signal``: the app gets SIGTERM, which Kubernetes sends to the container's first process only."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: Programs that run an app as a child and do not pass signals on, or not reliably.
_RUNNERS = {
    "npm": "run node itself (node server.js)",
    "yarn": "run node itself (node server.js)",
    "pnpm": "run node itself (node server.js)",
    "foreman": "give each process type a Deployment of its own",
    "honcho": "give each process type a Deployment of its own",
    "heroku": "give each process type a Deployment of its own",
}


def find(workload: Workload) -> Iterator[str]:
    """Find a shell or a script runner as the first process."""
    app = workload.app
    main = app.main
    if main is None:
        return
    if main.shell and not main.replaces_shell:
        yield (
            f"container {app.name} is started by {main.shell} without exec, so that {main.shell} gets SIGTERM and {main.program}"
            f" gets no SIGTERM, only SIGKILL: write exec {main.short}"
        )
    if what := _RUNNERS.get(main.program):
        yield f"container {app.name} is started by {main.program}, which may not pass SIGTERM on to the app: {what}"


CHECK = audit(
    "stop-signal",
    "SIGTERM reaches the app: neither a shell without `exec` nor `npm`, `yarn` or `foreman` is the first process",
    find,
)
