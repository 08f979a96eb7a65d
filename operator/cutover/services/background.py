"""Background facts: answers that are requested beside a plan's loop, as a slow answer must not delay a rollback.

Examples are the probe of the Heroku leg and the backtest. A fact is cached. There is one request at a time; it is repeated
when the fact's lifetime is over, and after a failure with growing pauses. A fact has its age, and the reason where there
is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import structlog

from cutover.ports.errors import Unavailable

log = structlog.get_logger("cutover")

T = TypeVar("T")

#: Seconds until a request that raised an exception is repeated; doubled each time, up to the maximum.
BACKOFF_SECONDS, MOST_BACKOFF_SECONDS = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """The newest answer, and how the newest request ended.

    Parameters
    ----------
    value
        The newest answer, ``None`` before the first.
    at
        Unix seconds at which the answer was requested.
    problem
        Why the newest request gave no answer; ``""`` if it gave an answer.
    failures
        Consecutive requests without an answer.
    tried_at
        Unix seconds at which the newest request was made that has ended, with or without an answer.
    """

    value: T | None = None
    at: float = -math.inf
    problem: str = ""
    failures: int = 0
    tried_at: float = -math.inf

    def stale(self, now: float, lifetime: float) -> bool:
        """Tell whether the answer is older than its lifetime. An answer from the future is stale: the clock was set back."""
        return self.value is None or not 0 <= now - self.at < lifetime


def _always(before: object, after: object) -> bool:  # noqa: ARG001
    return True


class BackgroundFact(Generic[T]):
    """Keeps one fact about one plan up to date.

    Parameters
    ----------
    name
        The fact's name, for the log and for people.
    now
        Returns Unix seconds.
    news
        Called after an answer that ``is_news``, after a failure, and after whatever :meth:`renew` asked for.
    is_news
        Tells whether an answer differs from the previous answer; by default every answer does.
    quiet
        Whether only what :meth:`renew` asked for is news: the next reconcile comes soon enough.
    patience
        Seconds after which an answer is dropped because its request is too old: the machine slept meanwhile.
    slots
        Bounds how many requests of all plans run at a time, for facts that no plan waits for. Otherwise those of a thousand
        plans that start together would delay the plans' first decisions.
    """

    def __init__(
        self,
        name: str,
        *,
        now: Callable[[], float],
        news: Callable[[], None],
        is_news: Callable[[T | None, T], bool] = _always,
        quiet: bool = False,
        patience: float = math.inf,
        slots: asyncio.Semaphore | None = None,
    ) -> None:
        self._slots = slots
        self._name, self._now, self._news, self._is_news, self._patience = name, now, news, is_news, patience
        self._quiet = quiet
        self._fact: Fact[T] = Fact()
        self._asked_at: float | None = None
        self._since = -math.inf
        self._kept = False
        self._ask: Callable[[], Coroutine[Any, Any, T]] | None = None
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The fact's name."""
        return self._name

    @property
    def fact(self) -> Fact[T]:
        """The fact as it is known now."""
        return self._fact

    def keep(self, ask: Callable[[], Coroutine[Any, Any, T]], lifetime: float) -> Fact[T]:
        """Request the fact where it is stale, and otherwise at the end of its lifetime; return what is known now.

        A timer starts the next request rather than the next call: the calls of all plans come at the end of the same block,
        when the process is busy.

        Parameters
        ----------
        ask
            Makes the request. Unavailable is an outage: its text becomes the fact's problem. Any other exception is a
            bug, and is logged too.
        lifetime
            Seconds until an answer is stale.
        """
        self._ask, self._kept = ask, True
        self._cancel_timer()
        if self._running is None or self._running.done():
            left = self._left(lifetime)
            if left <= 0:
                self._start()
            elif math.isfinite(left):
                self._timer = asyncio.get_running_loop().call_later(left, self._start)
        return self._fact

    def renew(self, since: float) -> None:
        """Have :meth:`keep` request the fact again unless that was done since, whatever its lifetime. How it ends is news.

        Parameters
        ----------
        since
            Unix seconds.
        """
        self._since = max(self._since, since)

    def renewed(self, since: float) -> bool:
        """Tell whether a request has ended that was made since, or nobody keeps the fact now."""
        return not self._kept or self._fact.tried_at >= since

    def forget(self) -> None:
        """Drop the outdated answer. A request that is under way may still answer."""
        self._fact = Fact()

    def drop(self) -> None:
        """Forget, and make no request until :meth:`keep` is called again."""
        self.forget()
        self.stop()
        self._kept = False

    def drop_until_wanted(self) -> None:
        """Drop, and request at once when :meth:`keep` is called again: for facts that are wanted in few phases."""
        self.drop()
        self._asked_at = None

    def stop(self) -> None:
        """Cancel the request that is under way and the timer."""
        self._cancel_timer()
        if self._running is not None:
            self._running.cancel()

    def _left(self, lifetime: float) -> float:
        """Return the seconds until the next request."""
        if self._asked_at is None or (self._fact.value is None and not self._fact.failures and math.isinf(lifetime)):
            return 0.0
        if self._asked_at < self._since:
            return 0.0
        elapsed = self._now() - self._asked_at
        if self._fact.failures:
            pause = min(BACKOFF_SECONDS * 2.0 ** (self._fact.failures - 1), MOST_BACKOFF_SECONDS)
            lifetime = max(pause, lifetime if math.isfinite(lifetime) else 0.0)
        return lifetime - elapsed if elapsed >= 0 else 0.0  # a clock that was set back must not stop requests

    def _start(self) -> None:
        self._cancel_timer()
        assert self._ask is not None, "called after keep()"
        if self._running is None or self._running.done():
            asked_at = self._asked_at = self._now()
            self._running = asyncio.create_task(self._answer(self._ask, asked_at))

    async def _answer(self, ask: Callable[[], Coroutine[Any, Any, T]], asked_at: float) -> None:
        try:
            async with self._slots or contextlib.nullcontext():
                value = await ask()
        except Unavailable as outage:
            self._failed(str(outage), asked_at)
            return
        except Exception as fault:
            log.exception("background fact failed", fact=self._name)
            self._failed(repr(fault), asked_at)
            return
        if self._now() - asked_at > self._patience:
            return
        before = self._fact
        self._fact = Fact(value, asked_at, tried_at=asked_at)
        if before.tried_at < self._since or (not self._quiet and self._is_news(before.value, value)):
            self._news()

    def _failed(self, problem: str, asked_at: float) -> None:
        before = self._fact
        self._fact = replace(before, problem=problem, failures=before.failures + 1, tried_at=asked_at)
        if before.tried_at < self._since or not self._quiet:
            self._news()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
