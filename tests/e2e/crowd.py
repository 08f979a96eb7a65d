"""Users in the background, each of whom begins something that lasts."""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from threading import Event, Thread
from types import TracebackType
from typing import Self

import aiohttp

from sandbox import manifests
from sandbox.environment import Environment


class Crowd(ABC):
    """Users of a service who come to the gateway one after the other.

    Parameters
    ----------
    pause
        Seconds from one to the next.
    patience
        Seconds that each waits for the end of an answer; ``None``: as long as it takes.
    """

    def __init__(self, environment: Environment, service: str, *, pause: float, patience: float | None = None) -> None:
        self._url, self._host = environment.stack.gateway_url, manifests.public_host(service)
        self._pause, self._patience = pause, aiohttp.ClientTimeout(total=patience)
        self._stop = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._come()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have nobody else come, and wait for those who are there."""
        self._stop.set()
        self._thread.join()

    async def _come(self) -> None:
        headers = {"host": self._host}
        async with (
            aiohttp.ClientSession(self._url, headers=headers, timeout=self._patience) as session,
            asyncio.TaskGroup() as users,
        ):
            for number in itertools.count():
                if self._stop.is_set():
                    return
                users.create_task(self._use(session, number))
                await asyncio.sleep(self._pause)

    @abstractmethod
    async def _use(self, session: aiohttp.ClientSession, number: int) -> None:
        """Do what one user does, the first being number 0."""
