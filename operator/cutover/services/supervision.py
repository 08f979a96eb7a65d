"""Runs the process' background services, and ends the process' work when a service fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any


class ServiceFailed(Exception):
    """A background service ended. The text says which service and why."""


@asynccontextmanager
async def running(services: Mapping[str, Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run services that never end beside the body of the context, and cancel them after it.

    A process without its block feed judges nothing and rolls nothing back, while it looks healthy. The body is therefore
    cancelled when a service ends, so that the process ends and Kubernetes starts it again.

    Parameters
    ----------
    services
        Coroutines by name; the name is for the error's text.

    Raises
    ------
    ServiceFailed
        When a service ended, with an exception or without.
    """
    body = asyncio.current_task()
    assert body is not None
    failures: list[asyncio.Task[None]] = []

    def note_end(service: asyncio.Task[None]) -> None:
        if not service.cancelled():
            failures.append(service)
            if len(failures) == 1:
                body.cancel()

    tasks = [asyncio.create_task(service, name=name) for name, service in services.items()]
    for task in tasks:
        task.add_done_callback(note_end)
    try:
        yield
    except asyncio.CancelledError:
        if not failures:
            raise
        body.uncancel()
        failed = failures[0]
        error = failed.exception()
        raise ServiceFailed(f"{failed.get_name()}: {error!r}" if error else f"{failed.get_name()}: ended") from error
    finally:
        for task in tasks:
            task.remove_done_callback(note_end)
            task.cancel()
