"""A traffic provider that is played in memory, and what counts its requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cutover.domain.evidence.counters import CounterLabels
from cutover.domain.observation import Plan
from cutover.ports import Subscription


@dataclass(frozen=True)
class PlayedDialect:
    """Names both legs alike for all plans; for tests in which nobody asks a Prometheus."""

    labels: type[CounterLabels] = CounterLabels

    def subscription(self, plan: Plan) -> Subscription:
        block, source = int(plan.spec.gates.block.total_seconds()), plan.spec.gates.prometheus or ""
        return Subscription("heroku", "eks", ("istio-ingress",), None, None, block, 0.0, source)

    def dashboard_queries(self, subscription: Subscription) -> Mapping[str, str]:
        return {"errors": f'rate(requests{{leg=~"{subscription.heroku}|{subscription.eks}"}}[5m])'}

    def presence(self, observers: Iterable[str]) -> str:
        raise AssertionError("nobody asks")

    def last_scrapes(self, observers: Iterable[str]) -> str:
        raise AssertionError("nobody asks")

    def counters(self, subscriptions: Sequence[Subscription], legs: Iterable[str]) -> Sequence[str]:
        raise AssertionError("nobody asks")

    def heroku_latencies(self, subscription: Subscription) -> str:
        raise AssertionError("nobody asks")
