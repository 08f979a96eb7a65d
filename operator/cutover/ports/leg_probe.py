"""Asking a leg whether it answers."""

from __future__ import annotations

from typing import Protocol

from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg, Probe


class LegProbe(Protocol):
    """Requests to one leg on the way that a user's request takes."""

    async def probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        """Send one GET to a leg. Never raises: a failure is an unhealthy probe.

        The EKS leg is asked only where :attr:`cutover.domain.traffic.Capabilities.probes_eks` is true.
        """
