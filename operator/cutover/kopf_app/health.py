"""Answers ``/healthz`` while Kopf does not run, which otherwise answers at the same port."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from cutover.settings import Settings


@contextlib.asynccontextmanager
async def answering_health(settings: Settings) -> AsyncIterator[None]:
    """Answer that the process is alive while the context is open."""

    async def alive(_: web.Request) -> web.Response:
        return web.json_response({})

    application = web.Application()
    application.router.add_get("/healthz", alive)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        if settings.health_port:
            await web.TCPSite(runner, settings.listen_address, settings.health_port).start()
        yield
    finally:
        await runner.cleanup()
