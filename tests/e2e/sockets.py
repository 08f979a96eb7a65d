"""Users with sockets: each opens one, says something now and then, and keeps it until the end."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp

from sandbox.environment import Environment

from .crowd import Crowd

#: Seconds between two words on a socket.
_SILENCE = 2.0
#: Seconds in which a word has to come back.
_PATIENCE = 10.0


@dataclass
class Socket:
    """One user's socket.

    Parameters
    ----------
    opened, ended
        Unix seconds.
    legs
        Who has answered on it.
    words
        How many came back.
    problem
        Why it ended before its user wanted it to; ``""`` if it did not.
    """

    opened: float
    ended: float = 0.0
    legs: frozenset[str] = frozenset()
    words: int = 0
    problem: str = ""


class Sockets(Crowd):
    """Users who open a socket and keep it open until the end."""

    def __init__(self, environment: Environment, service: str) -> None:
        super().__init__(environment, service, pause=4.0)
        self.opened: list[Socket] = []

    async def _use(self, session: aiohttp.ClientSession, number: int) -> None:
        socket = Socket(time.time())
        self.opened.append(socket)
        try:
            async with session.ws_connect("/socket") as connection:
                while True:
                    last = self._stop.is_set()
                    await connection.send_str(str(socket.words))
                    leg, _, word = (await connection.receive_str(timeout=_PATIENCE)).partition(" ")
                    if word != str(socket.words):
                        socket.problem = f"{word} came back for {socket.words}"
                        return
                    socket.legs, socket.words = socket.legs | {leg}, socket.words + 1
                    if last:
                        return
                    await asyncio.sleep(_SILENCE)
        except (aiohttp.ClientError, TypeError, TimeoutError) as error:
            # A socket that the other side closes brings another type of message.
            socket.problem = repr(error)
        finally:
            socket.ended = time.time()
