"""Facts about one plan that only advise people, and that no decision on the weight waits for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from cutover.api.v1alpha1 import CheckStatus, Phase
from cutover.domain.dns import HostRecord
from cutover.domain.dynos import DynoUse
from cutover.domain.engine.wanted import advice_interval, audits_wanted
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.ports.all import Ports
from cutover.services.background import BackgroundFact

#: Hosts that are asked about.
MOST_HOSTS = 20


class Advice:
    """Keeps what is advised with up to date.

    Parameters
    ----------
    ports
        The outside world.
    now
        Returns Unix seconds.
    news
        Starts the next reconcile now.
    """

    def __init__(self, ports: Ports, *, now: Callable[[], float], news: Callable[[], None]) -> None:
        self._ports = ports
        self._dns: BackgroundFact[tuple[HostRecord, ...]] = BackgroundFact("DNS of the hosts", now=now, news=news)
        self._dynos: BackgroundFact[DynoUse | None] = BackgroundFact("use of the dynos", now=now, news=news)
        self._requests: BackgroundFact[float | None] = BackgroundFact("last requests at Heroku", now=now, news=news)
        self._audits: BackgroundFact[tuple[CheckStatus, ...]] = BackgroundFact(
            "audits",
            now=now,
            news=news,
            quiet=True,
            slots=ports.unhurried,
        )
        self._facts: tuple[BackgroundFact[Any], ...] = (self._dns, self._dynos, self._requests, self._audits)
        self._audited: tuple[object, ...] = ()

    def stop(self) -> None:
        """Stop all requests."""
        for fact in self._facts:
            fact.stop()

    def renew(self, since: float) -> None:
        """Have all that is asked for asked anew, unless that was done since (Unix seconds)."""
        for fact in self._facts:
            fact.renew(since)

    def renewed(self, since: float) -> bool:
        """Tell whether all that is asked for was asked anew."""
        return all(fact.renewed(since) for fact in self._facts)

    @property
    def problems(self) -> tuple[str, ...]:
        """What gave no answer lately, with the reason."""
        return tuple(f"{fact.name}: {fact.fact.problem}" for fact in self._facts if fact.fact.problem)

    def dns(self, plan: Plan) -> tuple[HostRecord, ...]:
        """Return what DNS says about the hosts, as far as it was asked."""
        interval, resolver = advice_interval(plan.status), self._ports.resolver
        if interval is None or resolver is None:
            self._dns.drop_until_wanted()
            return ()
        hosts = [host for host in plan.spec.traffic.hosts if not host.startswith("*")][:MOST_HOSTS]

        async def ask() -> tuple[HostRecord, ...]:
            before = {record.host: record for record in self._dns.fact.value or ()}
            found = await asyncio.gather(*(resolver.record(host) for host in hosts))
            return tuple(record.joined(before.get(record.host)) for record in found)

        return self._dns.keep(ask, interval).value or ()

    def dynos(self, plan: Plan) -> DynoUse | None:
        """Return what the web dynos use; ``None`` if it is not known."""
        record = self._ports.heroku_record
        if record is None or plan.status.phase is not Phase.PREFLIGHT:
            self._dynos.drop_until_wanted()
            return None
        return self._dynos.keep(lambda: record.dynos(plan), advice_interval(plan.status) or math.inf).value

    def last_requests(self, plan: Plan) -> float | None:
        """Return the requests at Heroku's router in the last 24 h; ``None`` if they are not known."""
        record = self._ports.heroku_record
        if record is None or plan.status.phase is not Phase.COMPLETED:
            self._requests.drop_until_wanted()
            return None
        return self._requests.keep(
            lambda: record.requests_of_last_day(plan), advice_interval(plan.status) or math.inf
        ).value

    def audits(self, plan: Plan) -> tuple[CheckStatus, ...] | None:
        """Return what the audits find; run once for each step and each spec, and when somebody asks for it."""
        if not audits_wanted(plan.status):
            self._audits.drop_until_wanted()
            return None
        of = plan.status.attempt, plan.status.weight, plan.generation
        if of != self._audited:
            self._audited = of
            self._audits.forget()

        async def ask() -> tuple[CheckStatus, ...]:
            reads = registry.again_reads(plan)
            return registry.again(plan, await self._ports.inventories.inventory(plan, reads))

        return self._audits.keep(ask, math.inf).value
