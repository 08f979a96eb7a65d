"""Runs the operator under Kopf, once the API server serves plans."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import kopf
import structlog

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.discovery import named, served, until_served
from cutover.domain.resources import PLANS, Resource
from cutover.kopf_app.configuration import kopf_settings
from cutover.kopf_app.handlers import register
from cutover.kopf_app.login import register_login
from cutover.kopf_app.watched import WATCHED
from cutover.ports.errors import Unavailable
from cutover.services.operator import Operator
from cutover.settings import Settings

#: Seconds between two checks for kinds that were not served at the start.
KINDS_SECONDS = 10.0

log = structlog.get_logger("cutover")


class OtherKindsError(Exception):
    """The API server stopped serving a watched kind, or serves a kind that was missing at the start. The text says which."""


async def look_after(
    settings: Settings,
    cluster: Cluster,
    operator: Operator,
    *,
    at_end: Callable[[], Coroutine[Any, Any, None]] | None,
) -> None:
    """Wait until plans are served, and let Kopf run the operator.

    Kopf discovers kinds at its start only; see :func:`cutover.kopf_app.configuration.kopf_settings`. Without the kind of plans
    there is nothing to do. Without the other kinds there is: plans have to say why they do not continue.

    Parameters
    ----------
    at_end
        As for :func:`serve`.

    Raises
    ------
    OtherKindsError
        When a missing kind is served by now, or a watched kind is not served any more.
    """
    there = await until_served(cluster, WATCHED, PLANS)
    stop = asyncio.Event()
    if missing := WATCHED - there:
        log.warning(
            "not watched, as the API server does not serve them: are their CRDs installed?", kinds=named(missing)
        )
    come = asyncio.create_task(_until_more(cluster, there, stop))
    operator.serving = True
    try:
        await serve(settings, operator, stop, at_end=at_end)
    except Exception as failure:
        try:
            gone = there - await served(cluster, WATCHED)
        except Unavailable:
            raise failure from None
        if not gone:
            raise
        raise OtherKindsError(f"{named(gone)}: not served any more") from None
    finally:
        operator.serving = False
        come.cancel()
    if stop.is_set():
        raise OtherKindsError("some are served that were not before")


async def _until_more(cluster: Cluster, there: frozenset[Resource], stop: asyncio.Event) -> None:
    """Set ``stop`` once the API server serves a kind that was missing at the start."""
    more: frozenset[Resource] = frozenset()
    while not more and there != WATCHED:
        await asyncio.sleep(KINDS_SECONDS)
        with contextlib.suppress(Unavailable):
            more = await served(cluster, WATCHED) - there
    if more:
        stop.set()


async def serve(
    settings: Settings,
    operator: Operator,
    stop: asyncio.Event | None = None,
    *,
    at_end: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Let Kopf run the operator until a signal, or until ``stop`` is set.

    Parameters
    ----------
    at_end
        Called when all loops have ended; Kopf itself takes seconds longer to stop.
    """
    registry = kopf.OperatorRegistry()
    register(registry, operator)
    register_login(registry, settings)
    if at_end is not None:

        @kopf.on.cleanup(registry=registry)
        async def ended(**_: Any) -> None:
            await at_end()

    # Kopf would make this of the user's name, and the image's user has none.
    identity: Any = socket.gethostname()
    await kopf.operator(
        registry=registry,
        settings=kopf_settings(selector=settings.selector),
        standalone=True,
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        stop_flag=stop,
        identity=identity,
    )
