"""Istio's counters: the selectors to query, and the meaning of their labels.

Both legs are counted by the ingress gateways (``reporter="source"``), by destination.

Labels: https://istio.io/latest/docs/reference/config/metrics/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from msgspec import field

from cutover.adapters.dialects.istio.dashboard import dashboard_queries
from cutover.adapters.traffic.istio.names import eks_service, gateway_namespaces, heroku_service
from cutover.domain.evidence.counters import CounterLabels
from cutover.domain.evidence.selectors import bounds_matcher, matcher
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription

REQUESTS, LATENCIES = "istio_requests_total", "istio_request_duration_milliseconds_bucket"


class IstioLabels(CounterLabels, frozen=True, gc=False, kw_only=True):
    """Istio's names for the labels. Its ``le`` is in milliseconds, and its code of a client that went away is 0."""

    product: ClassVar[str] = "Istio"

    leg: str = field(name="destination_service")
    namespace: str = field(default="", name="source_workload_namespace")
    code: str = field(default="", name="response_code")


@dataclass(frozen=True, slots=True)
class IstioDialect:
    """:class:`cutover.ports.block_feed.Dialect` of Istio's standard metrics.

    Parameters
    ----------
    cluster_domain
        The cluster's DNS domain.
    """

    cluster_domain: str = "cluster.local"
    labels: type[CounterLabels] = IstioLabels

    def subscription(self, plan: Plan) -> BlockSubscription:
        """Return where a plan's requests are counted; without thresholds, and with ``since`` 0."""
        return BlockSubscription(
            heroku=heroku_service(plan),
            eks=eks_service(plan, self.cluster_domain),
            observers=gateway_namespaces(plan),
            slow_ms=None,
            very_slow_ms=None,
            block_seconds=int(plan.spec.gates.block.total_seconds()),
            since=0.0,
            source=plan.spec.gates.prometheus or "",
        )

    def presence(self, observers: Iterable[str]) -> str:
        """Return the selector of the gateways' ``up``."""
        return "up{" + matcher("namespace", observers) + "}"

    def last_scrapes(self, observers: Iterable[str]) -> str:
        """Return the expression for the time of each gateway's newest scrape."""
        selector = _selector(REQUESTS, matcher("source_workload_namespace", observers))
        return f"max by (instance, pod) (timestamp({selector}))"

    def counters(self, subscriptions: Sequence[BlockSubscription], legs: Iterable[str]) -> tuple[str, str]:
        """Return the selectors of requests, and of the latency buckets that matter."""
        common = (
            matcher("source_workload_namespace", {name for one in subscriptions for name in one.observers}),
            matcher("destination_service", legs),
        )
        bounds = {bound for one in subscriptions for bound in (one.slow_ms, one.very_slow_ms) if bound is not None}
        return _selector(REQUESTS, *common), _selector(LATENCIES, *common, bounds_matcher(bounds))

    def heroku_latencies(self, subscription: BlockSubscription) -> str:
        """Return the selector of all latency buckets of a Heroku leg."""
        return _selector(
            LATENCIES,
            matcher("source_workload_namespace", subscription.observers),
            matcher("destination_service", [subscription.heroku]),
            'response_code!="0"',
        )

    def dashboard_queries(self, subscription: BlockSubscription) -> Mapping[str, str]:
        """Return PromQL for dashboards, by name of the metric."""
        return dashboard_queries(
            heroku=subscription.heroku,
            eks=subscription.eks,
            namespaces=subscription.observers,
            slow_ms=subscription.slow_ms,
            very_slow_ms=subscription.very_slow_ms,
        )


def _selector(metric: str, *matchers: str) -> str:
    return metric + "{" + ",".join(['reporter="source"', *matchers]) + "}"
