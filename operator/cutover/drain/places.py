"""Places for connections: whose each one is, and which one makes room where all are taken.

Whoever has shown no credentials makes room first, the oldest of them. Then the app with the most connections does, if it has
more than its part, with its newest: what it began to send can end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

#: The part of all places, as a divisor, that an app may always have.
_PART = 8


class Connection(Hashable, Protocol):
    """What has a place."""

    def force_close(self) -> None:
        """End it."""


_C = TypeVar("_C", bound=Connection)


class Places(Generic[_C]):
    """The connections that are open."""

    def __init__(self) -> None:
        self._nobodys: dict[_C, asyncio.TimerHandle] = {}
        self._owners: dict[_C, str] = {}
        self._of: dict[str, dict[_C, None]] = {}

    def __len__(self) -> int:
        return len(self._nobodys) + len(self._owners)

    def enter(self, connection: _C, seconds: float) -> None:
        """Take a new connection for nobody's. It ends after so many seconds, unless it becomes an app's."""
        self._nobodys[connection] = asyncio.get_running_loop().call_later(seconds, self._end, connection)

    def own(self, connection: _C, app: str) -> None:
        """Take a connection for an app's; without effect where it has ended."""
        if self._owners.get(connection) == app or not (connection in self._nobodys or connection in self._owners):
            return
        self.left(connection)
        self._owners[connection] = app
        self._of.setdefault(app, {})[connection] = None

    def left(self, connection: _C) -> None:
        """Forget a connection, which has ended."""
        timer = self._nobodys.pop(connection, None)
        if timer is not None:
            timer.cancel()
        app = self._owners.pop(connection, None)
        if app is not None:
            del self._of[app][connection]
            if not self._of[app]:
                del self._of[app]

    def make(self, most: int) -> bool:
        """End a connection where there are so many. Return whether there is a place then."""
        if len(self) < most:
            return True
        if self._nobodys:
            self._end(next(iter(self._nobodys)))
            return True
        largest = max(self._of.values(), key=len, default={})
        if len(largest) <= most // _PART:
            return False
        self._end(next(reversed(largest)))
        return True

    def _end(self, connection: _C) -> None:
        self.left(connection)
        connection.force_close()
