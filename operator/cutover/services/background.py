"""Background facts: what is asked for beside a plan's loop, because an answer that takes long must not delay a rollback.

Examples are the probe of the Heroku leg and the backtest. A fact is cached; it is asked for by one request at a time,
again when its lifetime is over, and after a failure with growing pauses. It always says how old it is, and why there
is none.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import structlog

log = structlog.get_logger("cutover")

T = TypeVar("T")

#: Seconds until a request that failed by a fault is made again, doubled each time, up to the most.
BACKOFF_SECONDS, MOST_BACKOFF_SECONDS = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """What is known.

    Parameters
    ----------
    value
        The newest answer, ``None`` before the first.
    at
        Unix seconds at which it was asked for.
    problem
        Why the newest request gave no answer, ``""`` if it did.
    failures
        Requests in a row that gave none.
    """

    value: T | None = None
    at: float = -math.inf
    problem: str = ""
    failures: int = 0

    def stale(self, now: float, lifetime: float) -> bool:
        """Tell whether the answer is older than its lifetime. One from the future is: the clock was set back."""
        return self.value is None or not 0 <= now - self.at < lifetime


def _always(before: object, after: object) -> bool:  # noqa: ARG001
    return True


class BackgroundFact(Generic[T]):
    """Keeps one fact of one plan.

    Parameters
    ----------
    name
        What it is, for the log.
    now
        Returns Unix seconds.
    news
        Called after an answer that is news, and after a failure.
    is_news
        Tells whether an answer differs from the one before it; by default each does.
    patience
        Seconds after which an answer is dropped because the question is too old: the machine slept meanwhile.
    """

    def __init__(
        self,
        name: str,
        *,
        now: Callable[[], float],
        news: Callable[[], None],
        is_news: Callable[[T | None, T], bool] = _always,
        patience: float = math.inf,
    ) -> None:
        self._name, self._now, self._news, self._is_news, self._patience = name, now, news, is_news, patience
        self._fact: Fact[T] = Fact()
        self._asked_at: float | None = None
        self._ask: Callable[[], Coroutine[Any, Any, T]] | None = None
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def fact(self) -> Fact[T]:
        """What is known."""
        return self._fact

    def keep(self, ask: Callable[[], Coroutine[Any, Any, T]], lifetime: float) -> Fact[T]:
        """Ask where the answer is stale, and at the end of its lifetime otherwise; return what is known now.

        The next request is made on time rather than with the next call: those of all plans come at the end of the same
        block, when there is enough to do.

        Parameters
        ----------
        ask
            Makes the request; an exception is a fault of ours, and is logged.
        lifetime
            Seconds for which an answer is good.
        """
        self._ask = ask
        self._cancel_timer()
        if self._running is None or self._running.done():
            left = self._left(lifetime)
            if left <= 0:
                self._start()
            elif math.isfinite(left):
                self._timer = asyncio.get_running_loop().call_later(left, self._start)
        return self._fact

    def forget(self) -> None:
        """Drop what is known: it is not how things are any more. A request that is under way may still answer."""
        self._fact = Fact()

    def drop(self) -> None:
        """Forget, and ask no more until :meth:`keep` is called again."""
        self.forget()
        self.stop()

    def stop(self) -> None:
        """End everything."""
        self._cancel_timer()
        if self._running is not None:
            self._running.cancel()

    def _left(self, lifetime: float) -> float:
        """Return the seconds until the next request."""
        if self._asked_at is None or (self._fact.value is None and not self._fact.failures and math.isinf(lifetime)):
            return 0.0
        passed = self._now() - self._asked_at
        if self._fact.failures:
            pause = min(BACKOFF_SECONDS * 2.0 ** (self._fact.failures - 1), MOST_BACKOFF_SECONDS)
            lifetime = max(pause, lifetime if math.isfinite(lifetime) else 0.0)
        return lifetime - passed if passed >= 0 else 0.0  # a clock that was set back stops nothing

    def _start(self) -> None:
        self._cancel_timer()
        assert self._ask is not None, "it is kept"
        if self._running is None or self._running.done():
            asked_at = self._asked_at = self._now()
            self._running = asyncio.create_task(self._answer(self._ask, asked_at))

    async def _answer(self, ask: Callable[[], Coroutine[Any, Any, T]], asked_at: float) -> None:
        try:
            value = await ask()
        except Exception as fault:
            log.exception("background fact failed", fact=self._name)
            self._fact = replace(self._fact, problem=repr(fault), failures=self._fact.failures + 1)
            self._news()
            return
        if self._now() - asked_at > self._patience:
            return
        before = self._fact.value
        self._fact = Fact(value, asked_at)
        if self._is_news(before, value):
            self._news()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
