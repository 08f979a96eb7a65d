"""How many processes and threads an app's server runs, and how many database connections, as far as its manifest tells."""

from __future__ import annotations

from collections.abc import Sequence

from cutover.domain.preflight.workload import Container, Workload

_PROCESSES_ENV = (
    "WEB_CONCURRENCY",
    "PUMA_WORKERS",
    "GUNICORN_WORKERS",
    "UVICORN_WORKERS",
    "UNICORN_WORKERS",
    "WORKERS",
)
_THREADS_ENV = ("RAILS_MAX_THREADS", "MAX_THREADS", "PUMA_THREADS", "PUMA_MAX_THREADS", "GUNICORN_THREADS")
_POOL_ENV = ("DB_POOL", "DATABASE_POOL", "DB_POOL_SIZE", "DATABASE_POOL_SIZE", "PGPOOLSIZE", "POOL_SIZE")
#: Variables that size an app for its dyno or container.
SIZES = (*_PROCESSES_ENV, *_THREADS_ENV, *_POOL_ENV)
_POOLERS = ("pgbouncer", "pgcat", "pgpool")
#: Servers whose flags for workers and threads are known.
_SERVERS = ("puma", "gunicorn", "uvicorn", "hypercorn", "granian", "unicorn")


def processes(app: Container) -> int | None:
    """Return the number of server processes; ``None`` if the manifest does not say."""
    return _of(app, ("--workers", "-w"), _PROCESSES_ENV)


def threads(app: Container) -> int | None:
    """Return the number of threads in each process; ``None`` if the manifest does not say."""
    # Puma has the least and the most: -t 1:5.
    return _of(app, ("--threads", "-t"), _THREADS_ENV)


def pool(app: Container) -> int | None:
    """Return the number of database connections of each process; ``None`` if the manifest does not say."""
    named = _number_of(app, _POOL_ENV)
    return named if named is not None else _number_of(app, _THREADS_ENV[:1])


def most_connections(app: Container) -> int | None:
    """Return the number of database connections that a container can open; ``None`` if the manifest does not say."""
    size = pool(app)
    return size * (processes(app) or 1) if size is not None else None


def has_pooler(workload: Workload) -> bool:
    """Tell whether a container beside the app shares connections among its processes."""
    return any(name in one.name for one in workload.containers for name in _POOLERS)


def _of(app: Container, flags: Sequence[str], variables: Sequence[str]) -> int | None:
    main = app.main
    if main is not None and main.program in _SERVERS and (given := main.value(*flags)) is not None:
        return _number(given.rsplit(":", 1)[-1])
    return _number_of(app, variables)


def _number_of(app: Container, variables: Sequence[str]) -> int | None:
    env = app.env
    return next((number for name in variables if (number := _number(env.get(name) or "")) is not None), None)


def _number(text: str) -> int | None:
    # isdecimal also accepts other scripts' digits, which int takes as well.
    return int(text) if text.isdecimal() and 0 < len(text) <= 4 and int(text) > 0 else None
