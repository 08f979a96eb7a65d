"""Starts the operator's process: settings, signals, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import prometheus_client
import structlog

from cutover.adapters.kube.lease import Election, LeaseLost
from cutover.factory import wired
from cutover.kopf_app.running import OtherKindsError, look_after
from cutover.listening import MetricsPage, Page, alive, listening
from cutover.logs import configure_logging
from cutover.services.supervision import ServiceFailed
from cutover.settings import (
    PrometheusServers,
    Receiver,
    Settings,
    SettingsError,
    read_receivers,
    read_servers,
    read_settings,
)

#: The exit code of a process that lost its lease.
EXIT_LEASE_LOST = 75
#: The exit code of a process that has to start again because the API server serves other kinds than at its start.
EXIT_OTHER_KINDS = 76
#: The exit code of a process in which a background service failed.
EXIT_SERVICE_FAILED = 77

log = structlog.get_logger("cutover")


async def run(settings: Settings, servers: PrometheusServers, receivers: tuple[Receiver, ...]) -> None:
    """Run until a signal arrives."""
    # Until Kopf installs its own handlers: the first process of a container gets only the signals that it handles.
    waiting = asyncio.current_task()
    assert waiting is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, waiting.cancel)
    async with AsyncExitStack() as stack:
        election = await _connect_election(settings, stack)
        leading: Callable[[], bool] = (lambda: election.leading) if election else (lambda: True)
        parts = await stack.enter_async_context(wired(settings, servers, receivers, leading))
        prometheus_client.REGISTRY.register(parts.collector)
        pages: dict[tuple[int, str], Page] = {
            (settings.health_port, "/healthz"): alive,
            (settings.metrics_port, "/metrics"): MetricsPage(),
        }
        await stack.enter_async_context(listening(settings.listen_address, pages))

        async def act() -> None:
            async with parts.at_work():
                at_end = election.release if election else None
                await look_after(settings, parts.cluster, parts.operator, at_end=at_end)

        await (elected(settings, election, act) if election else act())


async def _connect_election(settings: Settings, stack: AsyncExitStack) -> Election | None:
    if not settings.lease:
        return None
    scope = f"{settings.selector or ''} {','.join(sorted(settings.namespaces))}"
    election = await Election.connect(settings.kubeconfig, settings.lease, scope=scope)
    stack.push_async_callback(election.close)
    return election


async def elected(settings: Settings, election: Election, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Wait for the lease, then act; end the process at once when the lease is lost.

    Nothing is stopped first, and the process does not wait for the lease again. Kopf takes seconds to stop, and treats
    all tasks of its loop as its own; a process that has ended writes nothing, leaves nothing behind and cannot hang. All
    state is in the plans' status and in Prometheus. Kubernetes starts the process again.
    """
    try:
        await election.run(act)
    except LeaseLost as lost:
        problem = str(lost)
        log.critical("lease lost: this process ends", lease=settings.lease, problem=problem, code=EXIT_LEASE_LOST)
        os._exit(EXIT_LEASE_LOST)


def main() -> None:
    """Run the operator as a process."""
    try:
        settings = read_settings(os.environ)
        servers, receivers = read_servers(settings), read_receivers(settings)
    except SettingsError as error:
        sys.exit(f"settings: {error}")
    configure_logging(settings.log_level)
    if settings.kubeconfig is not None:
        os.environ["KUBECONFIG"] = str(settings.kubeconfig)  # where Kopf looks
    try:
        with contextlib.suppress(asyncio.CancelledError):  # a signal, before Kopf handles them
            asyncio.run(run(settings, servers, receivers))
    except SettingsError as error:
        sys.exit(f"settings: {error}")
    except OtherKindsError as other:
        log.critical("other kinds: this process ends", problem=str(other), code=EXIT_OTHER_KINDS)
        sys.exit(EXIT_OTHER_KINDS)
    except ServiceFailed as failure:
        log.critical(
            "background service failed: this process ends",
            problem=str(failure),
            code=EXIT_SERVICE_FAILED,
            exc_info=failure,
        )
        sys.exit(EXIT_SERVICE_FAILED)


if __name__ == "__main__":
    main()
