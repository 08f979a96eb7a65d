"""Asks both legs of one plan in pairs, beside its loop.

Pairs overlap: a leg that hangs gives no answer for seconds, and the next pair must not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import structlog

from cutover.domain.engine.probe_intervals import paired_step
from cutover.domain.evidence.pairs import NO_PAIRS, Pairs, enter, take
from cutover.domain.evidence.probe_key import IN_A_ROW
from cutover.domain.evidence.tolerances import thresholds
from cutover.domain.evidence.worth import Pair, worth
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg, Probe
from cutover.ports.leg_probe import LegProbe
from cutover.scale.turns import Turns

log = structlog.get_logger("cutover")

#: Pairs that come faster than that have a line of their own. No plan may declare such a rate.
URGENT_SECONDS = 1.0
#: Pairs of one plan that are under way. With two a second, as many as give no answer within a probe's time-out.
MOST_UNDER_WAY = 12


class _Outside(Protocol):
    @property
    def leg_probe(self) -> LegProbe: ...
    @property
    def turns(self) -> Turns: ...
    @property
    def urgent_turns(self) -> Turns: ...


class Pairing:
    """Asks both legs of one plan in pairs.

    Parameters
    ----------
    outside
        What asks a leg, and the turns in which all plans ask.
    now
        Returns Unix seconds, by the clock of the plan's blocks.
    news
        Called after a pair with other answers than the one before, and after each of a row that speaks against EKS.
    answered
        Called with each probe of EKS and the Unix seconds of its answer.

    Attributes
    ----------
    pairs
        What is known from all pairs.
    heroku, eks
        The newest probes of both legs; ``None`` before the first pair.
    """

    def __init__(
        self,
        outside: _Outside,
        *,
        now: Callable[[], float],
        news: Callable[[], None],
        answered: Callable[[Probe, float], None],
    ) -> None:
        self._outside, self._now, self._news, self._answered = outside, now, news, answered
        self.pairs: Pairs = NO_PAIRS
        self.heroku: Probe | None = None
        self.eks: Probe | None = None
        self._plan: Plan | None = None
        self._interval: Callable[[Pairs], float | None] = _never
        self._asked_at: float | None = None
        self._number = 0
        self._timer: asyncio.TimerHandle | None = None
        self._line: Turns | None = None
        self._running: set[asyncio.Task[None]] = set()

    def keep(self, plan: Plan, interval: Callable[[Pairs], float | None]) -> None:
        """Ask on, as often as ``interval`` says; with ``None``, not at all.

        Parameters
        ----------
        plan
            The plan as it is now.
        interval
            Returns the seconds from one pair to the next, by what is known from pairs.
        """
        before, self._plan, self._interval = self._plan, plan, interval
        if before is not None and (before.uid, _asked_of(before)) != (plan.uid, _asked_of(plan)):
            # Answers of other paths or another leg say nothing about these.
            self.forget()
        if interval(self.pairs) is None:
            self.forget()
        else:
            self.pairs = enter(self.pairs, paired_step(plan))
            self._schedule()

    def forget(self) -> None:
        """Drop what is known. Pairs that are under way count no more."""
        self._cancel()
        self.pairs, self.heroku, self.eks, self._asked_at = NO_PAIRS, None, None, None

    def stop(self) -> None:
        """Ask no more."""
        self._interval = _never
        self._cancel()

    def _schedule(self) -> None:
        """Set the timer for the next pair. A plan that waits for its turn keeps waiting, until its pair is urgent."""
        interval = self._interval(self.pairs)
        urgent = interval is not None and interval < URGENT_SECONDS
        if self._line is self._outside.urgent_turns or (self._line is not None and not urgent):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._line = None, None
        if interval is None:
            return
        loop = asyncio.get_running_loop()
        left = 0.0 if self._asked_at is None else self._asked_at + interval - loop.time()
        self._timer = loop.call_later(max(0.0, left), self._take_turn, urgent)

    def _take_turn(self, urgent: bool) -> None:  # a timer's callback
        """Ask now, or when the other plans have asked."""
        self._line = self._outside.urgent_turns if urgent else self._outside.turns
        wait = self._line.take(asyncio.get_running_loop().time())
        self._timer = asyncio.get_running_loop().call_later(wait, self._start)

    def _start(self) -> None:
        self._timer, self._line, self._asked_at = None, None, asyncio.get_running_loop().time()
        if len(self._running) < MOST_UNDER_WAY and self._plan is not None:
            task = asyncio.create_task(self._ask(self._plan))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        self._schedule()

    async def _ask(self, plan: Plan) -> None:
        paths = plan.spec.traffic.probe.paths
        path, at = paths[self._number % len(paths)], self._now()
        self._number += 1
        heroku, eks = await asyncio.gather(self._probe(plan, Leg.HEROKU, path), self._probe(plan, Leg.EKS, path))
        done, before = self._now(), self.pairs.last
        _, very_slow_ms = thresholds(plan.spec, plan.status)
        pair = Pair(at, done, worth(heroku, Leg.HEROKU, very_slow_ms), worth(eks, Leg.EKS, very_slow_ms))
        revision = self.heroku.revision if self.heroku is not None else None
        self.pairs = take(self.pairs, pair)
        self.heroku, self.eks = counted(self.heroku, heroku), counted(self.eks, eks)
        others = before is None or (before.heroku, before.eks) != (pair.heroku, pair.eks)
        if others:
            self._schedule()  # a row begins or ends
        if others or self.pairs.row >= IN_A_ROW or revision != heroku.revision:
            self._news()

    async def _probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        probe = await ask(self._outside.leg_probe, plan, leg, path, now=self._now)
        if leg is Leg.EKS:
            self._answered(probe, self._now())
        return probe

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._line = None, None
        for task in self._running:
            task.cancel()


def _never(pairs: Pairs) -> None:  # noqa: ARG001
    return None


def _asked_of(plan: Plan) -> tuple[object, ...]:
    """Return the fields of a spec that say what is asked of whom."""
    spec = plan.spec
    return (
        spec.traffic.probe.paths,
        spec.traffic.asked_host,
        spec.traffic.hosts,
        spec.heroku.hostname,
        spec.heroku.host_header,
        spec.eks.service,
        spec.traffic.probe.headers,
    )


async def ask(leg_probe: LegProbe, plan: Plan, leg: Leg, path: str, *, now: Callable[[], float]) -> Probe:
    """Ask a leg; return an unhealthy answer where that fails by a bug.

    Without an answer the plan would wait for one, and its status would not say why.

    Parameters
    ----------
    now
        Returns Unix seconds, by the clock of the plan's blocks. The operator's own may be set while the leg is asked.
    """
    at = now()
    try:
        probe = await leg_probe.probe(plan, leg, path)
    except Exception as fault:
        log.exception("probe failed", plan=plan.key, leg=leg)
        probe = Probe(at, "", healthy=False, detail=f"could not be made: {fault!r}")
    return replace(probe, at=min(at, now()))


def counted(before: Probe | None, probe: Probe) -> Probe:
    """Return a probe with the number of unhealthy answers in a row."""
    if probe.healthy:
        return replace(probe, failures=0, refusals=0)
    failures, refusals = (before.failures, before.refusals) if before is not None else (0, 0)
    # An answer without a revision came from a gateway without the plan's route, or from none.
    shown = probe.revision != "" or probe.hung
    return replace(probe, failures=failures + 1, refusals=refusals + shown)
