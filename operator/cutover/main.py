"""The operator as a process: settings, signals, exit codes."""

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
from cutover.kopf_app.health import answering_health
from cutover.kopf_app.running import OtherKindsError, look_after
from cutover.logs import configure_logging
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
#: The exit code of a process that is to be started anew, as the API server serves other kinds by now.
EXIT_OTHER_KINDS = 76

log = structlog.get_logger("cutover")


async def run(settings: Settings, servers: PrometheusServers, receivers: tuple[Receiver, ...]) -> None:
    """Run until a signal says to stop."""
    # Until Kopf has its own; a process that is the first of its container gets no signal that it does not ask for.
    waiting = asyncio.current_task()
    assert waiting is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, waiting.cancel)
    async with AsyncExitStack() as stack:
        election = await _connect_election(settings, stack)
        leading: Callable[[], bool] = (lambda: election.leading) if election else (lambda: True)
        parts = await stack.enter_async_context(wired(settings, servers, receivers, leading))
        if settings.metrics_port:
            prometheus_client.REGISTRY.register(parts.collector)
            prometheus_client.start_http_server(settings.metrics_port, settings.listen_address)

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
    """Wait until it is this process that acts, and act; end the process at once when it may not any more.

    Nothing is stopped first, and the process does not wait for the lease again. A Kopf that stops takes seconds, and
    takes all tasks of its loop for its own; a process that has ended writes nothing, leaves nothing behind and cannot
    hang. All that matters is in the plans' status and in Prometheus. Kubernetes starts it anew.
    """
    async with AsyncExitStack() as health:
        await health.enter_async_context(answering_health(settings))

        async def lead() -> None:
            await health.aclose()  # Kopf answers at the same port
            await act()

        try:
            await election.run(lead)
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


if __name__ == "__main__":
    main()
