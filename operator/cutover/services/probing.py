"""Probes both legs of one plan, each by itself and in pairs, and notes which probes the metrics count as users' requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cutover.domain.engine.phases.takeover import REFUSALS
from cutover.domain.engine.probe_intervals import eks_probe_interval, pair_interval, probe_interval
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.own_requests import OwnRequest, own_request, without_own_requests
from cutover.domain.evidence.pairs import Pairs
from cutover.domain.evidence.tolerances import thresholds
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg, Probe
from cutover.ports.all import Ports
from cutover.scale.turns import spread_part
from cutover.services.background import BackgroundFact
from cutover.services.pairing import Pairing, ask, counted
from cutover.services.working_status import WorkingStatus

#: Where a plan's phase wants probes no more often than the first number, a healthy Heroku leg is probed at the second
#: interval: an answer counts for a minute. A leg that failed is probed again as soon as the phase says. The spread gives each
#: plan an interval of its own, so that plans that started together do not stay in step.
SELDOM_PROBE_SECONDS, WELL_PROBE_SECONDS, PROBE_SPREAD_SECONDS = 10.0, 20.0, 10.0
#: Probes of EKS that wait for the block that has them: those of two minutes, two a second.
MOST_OWN_REQUESTS = 240


class Probing:
    """Keeps what is known from probes of one plan's legs.

    Parameters
    ----------
    ports
        The outside world.
    working
        The plan's working status.
    now
        Returns Unix seconds.
    news
        Starts the next reconcile now.
    patience
        Seconds after which an answer to a probe is too old to count.
    """

    def __init__(
        self,
        ports: Ports,
        working: WorkingStatus,
        *,
        now: Callable[[], float],
        news: Callable[[], None],
        patience: float,
    ) -> None:
        self._ports, self._working, self._now = ports, working, now
        self._seldom = False  # whether nothing waits for a probe of Heroku
        self.alone: dict[Leg, BackgroundFact[Probe]] = {
            leg: BackgroundFact(
                f"probe of the {name} leg", now=now, news=news, is_news=self._is_news, patience=patience
            )
            for leg, name in ((Leg.HEROKU, "Heroku"), (Leg.EKS, "EKS"))
        }
        self._pairing = Pairing(ports, now=now, news=news, answered=self.note_request)
        self._own: tuple[OwnRequest, ...] = ()

    @property
    def pairs(self) -> Pairs:
        """What is known from pairs."""
        return self._pairing.pairs

    @property
    def heroku_fails(self) -> bool:
        """Whether the newest probe of the Heroku leg by itself failed."""
        probe = self.alone[Leg.HEROKU].fact.value
        return probe is not None and not probe.healthy

    def heroku(self, plan: Plan) -> Probe | None:
        """Return the newest probe of the Heroku leg; ask on, and in pairs where pairs are wanted."""
        alone, can = self._heroku_alone(plan), self._ports.traffic.capabilities
        fails = alone is not None and alone.failures > 1
        self._pairing.keep(
            plan,
            lambda pairs: pair_interval(plan, pairs, self._now(), heroku_fails=fails) if can.probes_eks else None,
        )
        paired = self._pairing.heroku
        return paired if alone is not None and paired is not None and paired.at > alone.at else alone

    def eks(self, plan: Plan) -> tuple[Probe | None, Probe | None]:
        """Return the newest probe of the EKS leg by itself, and in pairs; ask on by itself where that is wanted."""
        interval = eks_probe_interval(plan) if self._ports.traffic.capabilities.probes_eks else None
        fact = self.alone[Leg.EKS]
        if interval is None:
            fact.drop()
            return None, self._pairing.eks
        return fact.keep(lambda: self._ask(plan, Leg.EKS), interval).value, self._pairing.eks

    def note_request(self, probe: Probe, at: float) -> None:
        """Note a probe of EKS, which the metrics count as a user's request."""
        plan = self._working.plan
        if plan is None:
            return
        slow, very_slow = thresholds(plan.spec, plan.status)
        if own := own_request(probe, at, slow_ms=slow, very_slow_ms=very_slow):
            self._own = (*self._own[-MOST_OWN_REQUESTS:], own)

    def without_own_requests(self, blocks: Sequence[Block]) -> tuple[Block, ...]:
        """Return new blocks without the operator's own requests."""
        cleared, self._own = without_own_requests(blocks, self._own)
        return cleared

    def forget(self) -> None:
        """Drop what is known."""
        for fact in self.alone.values():
            fact.forget()
        self._pairing.forget()

    def stop(self) -> None:
        """Ask no more."""
        for fact in self.alone.values():
            fact.stop()
        self._pairing.stop()

    def _heroku_alone(self, plan: Plan) -> Probe | None:
        """Return the newest probe of the Heroku leg by itself, and schedule the next."""
        interval, fact = probe_interval(plan), self.alone[Leg.HEROKU]
        if interval is None:
            fact.drop()
            return None
        probe, self._seldom = fact.fact.value, interval >= SELDOM_PROBE_SECONDS
        if probe is not None and probe.healthy and self._seldom:
            interval = WELL_PROBE_SECONDS + PROBE_SPREAD_SECONDS * spread_part(plan.uid)
        return fact.keep(lambda: self._ask(plan, Leg.HEROKU), interval).value

    async def _ask(self, plan: Plan, leg: Leg) -> Probe:
        """Ask a leg by itself, and count its failures in a row."""
        before, path = self.alone[leg].fact.value, plan.spec.traffic.probe.paths[0]
        probe = await ask(self._ports.leg_probe, plan, leg, path, now=lambda: self._ports.now(plan))
        if leg is Leg.EKS:
            self.note_request(probe, self._ports.now(plan))
        return counted(before, probe)

    def _is_news(self, before: Probe | None, probe: Probe) -> bool:
        """Tell whether a decision may depend on the difference."""
        if before is None:
            # After a start a judging plan finds a healthy Heroku at the end of its block; what waits for it asks again itself.
            return not (self._seldom and probe.healthy)
        return _said(before) != _said(probe)


def _said(probe: Probe) -> tuple[str, bool, int]:
    return probe.revision, probe.healthy, min(probe.refusals, REFUSALS)
