"""Slots for connections: which app has each, and which connection is closed where all slots are taken.

The oldest connection without credentials is closed first. If there is none, it is the newest connection of the app with the
most connections, if that app has more than its part: what the app began to send earlier can end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

#: The part of all slots, as a divisor, that an app may always have.
_PART = 8


class Connection(Hashable, Protocol):
    """A connection that has a slot."""

    def force_close(self) -> None:
        """End it."""


_C = TypeVar("_C", bound=Connection)


class ConnectionSlots(Generic[_C]):
    """The connections that are open."""

    def __init__(self) -> None:
        self._without_app: dict[_C, asyncio.TimerHandle] = {}
        self._owners: dict[_C, str] = {}
        self._of: dict[str, dict[_C, None]] = {}

    def __len__(self) -> int:
        return len(self._without_app) + len(self._owners)

    def enter(self, connection: _C, seconds: float) -> None:
        """Take a new connection, without an app. It is closed after so many seconds, unless it becomes an app's."""
        self._without_app[connection] = asyncio.get_running_loop().call_later(seconds, self._end, connection)

    def own(self, connection: _C, app: str) -> None:
        """Give a connection to an app; without effect if it has ended."""
        if self._owners.get(connection) == app or not (connection in self._without_app or connection in self._owners):
            return
        self.left(connection)
        self._owners[connection] = app
        self._of.setdefault(app, {})[connection] = None

    def left(self, connection: _C) -> None:
        """Forget a connection, which has ended."""
        timer = self._without_app.pop(connection, None)
        if timer is not None:
            timer.cancel()
        app = self._owners.pop(connection, None)
        if app is not None:
            del self._of[app][connection]
            if not self._of[app]:
                del self._of[app]

    def make(self, most: int) -> bool:
        """End a connection where there are so many. Return whether there is a slot then."""
        if len(self) < most:
            return True
        if self._without_app:
            self._end(next(iter(self._without_app)))
            return True
        largest = max(self._of.values(), key=len, default={})
        if len(largest) <= most // _PART:
            return False
        self._end(next(reversed(largest)))
        return True

    def _end(self, connection: _C) -> None:
        self.left(connection)
        connection.force_close()
