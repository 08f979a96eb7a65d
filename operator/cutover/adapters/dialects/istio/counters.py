"""Istio's counters: the selectors to query, and the meaning of their labels.

Both legs are counted by the ingress gateways (``reporter="source"``), by destination. Any process that is scraped may say
that it is a gateway. So the selectors ask for the namespace of the scrape target, too, and a reading refuses counters whose
target has no ``up`` (:class:`cutover.domain.evidence.counting.Reading`).

Nothing is added up in Prometheus. A range of raw samples can be read, but not summed; what can be summed are values at times
of the query's choosing. That would lose the times of the scrapes, by which each request is in exactly one block, and each
counter's own resets: in a sum over pods or codes, a pod that restarts or a counter that the proxy evicts looks like fewer
requests of all. Codes are added up to classes, and pods to legs, once the increments are known.

Labels: https://istio.io/latest/docs/reference/config/metrics/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from msgspec import field

from cutover.adapters.dialects.istio.dashboard import dashboard_queries
from cutover.adapters.dialects.istio.gateways import CLAIM, gateway_matchers
from cutover.adapters.traffic.istio.names import eks_service, gateway_namespaces, heroku_service
from cutover.domain.evidence.answers import NOBODYS_CODES
from cutover.domain.evidence.counters import CounterLabels
from cutover.domain.evidence.selectors import bounds_matcher, matcher, other_than
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription

REQUESTS, LATENCIES = "istio_requests_total", "istio_request_duration_milliseconds_bucket"
#: Scrape targets, by job and namespace, that are named to people.
MOST_FOREIGN = 5


class IstioLabels(CounterLabels, frozen=True, gc=False, kw_only=True):
    """Istio's names for the labels. Its ``le`` is in milliseconds, and its code of a client that went away is 0."""

    product: ClassVar[str] = "Istio"
    claim: ClassVar[str] = CLAIM

    leg: str = field(name="destination_service")
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
        return BlockSubscription.of_plan(
            plan,
            heroku=heroku_service(plan),
            eks=eks_service(plan, self.cluster_domain),
            observers=gateway_namespaces(plan),
        )

    def presence(self, observers: Iterable[str]) -> str:
        """Return the selector of the gateways' ``up``."""
        return "up{" + matcher("namespace", observers) + "}"

    def last_scrapes(self, observers: Iterable[str]) -> str:
        """Return the expression for the time of each gateway's newest scrape."""
        return f"max by (instance, pod) (timestamp({_selector(REQUESTS, *gateway_matchers(observers))}))"

    def foreign_counters(self, observers: Iterable[str]) -> str:
        """Return the expression that counts counters which name the gateways and are of other scrape targets."""
        names = sorted(set(observers))
        selector = _selector(REQUESTS, matcher(CLAIM, names), other_than("namespace", names))
        return f"topk({MOST_FOREIGN}, count by (namespace, job, {CLAIM}) ({selector}))"

    def counters(self, subscriptions: Sequence[BlockSubscription], legs: Iterable[str]) -> tuple[str, str]:
        """Return the selectors of requests, and of the latency buckets that matter."""
        observers = {name for one in subscriptions for name in one.observers}
        common = (*gateway_matchers(observers), matcher("destination_service", legs))
        bounds = {bound for one in subscriptions for bound in (one.slow_ms, one.very_slow_ms) if bound is not None}
        return _selector(REQUESTS, *common), _selector(LATENCIES, *common, bounds_matcher(bounds))

    def losses(self, subscription: BlockSubscription) -> None:
        """Return that a gateway does not lose what it counts, but for its end."""

    def heroku_latencies(self, subscription: BlockSubscription) -> str:
        """Return the selector of all latency buckets of a Heroku leg."""
        return _selector(
            LATENCIES,
            *gateway_matchers(subscription.observers),
            matcher("destination_service", [subscription.heroku]),
            f'response_code!~"{NOBODYS_CODES}"',
        )

    def dashboard_queries(self, subscription: BlockSubscription) -> Mapping[str, str]:
        """Return PromQL for dashboards, by name of the metric."""
        return dashboard_queries(
            heroku=subscription.heroku,
            eks=subscription.eks,
            namespaces=subscription.observers,
            slow_ms=subscription.slow_ms,
            very_slow_ms=subscription.very_slow_ms,
            codes=subscription.codes,
        )


def _selector(metric: str, *matchers: str) -> str:
    return metric + "{" + ",".join(['reporter="source"', *matchers]) + "}"
