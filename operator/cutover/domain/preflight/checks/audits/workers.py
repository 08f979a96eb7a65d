"""Audit ``workers``: Heroku's buildpacks told servers how many processes to run."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.parallel import processes
from cutover.domain.preflight.workload import Workload


def find(workload: Workload) -> Iterator[str]:
    """Find a server that runs one process if nobody tells it otherwise."""
    app = workload.app
    main = app.main
    if main is None or main.program != "gunicorn":
        return
    told = main.value("--config", "-c") is not None or any(
        name in app.env for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS")
    )
    if processes(app) is None and not told and not app.env_is_open:
        yield (
            f"container {app.name} runs gunicorn with one worker: on Heroku the buildpack set WEB_CONCURRENCY (2 on"
            " Standard-1X, 4 on 2X); set it, and count connections to the database by it"
        )


CHECK = audit("workers", "gunicorn is told how many workers to run", find)
