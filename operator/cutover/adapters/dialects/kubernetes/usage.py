"""What the workload uses on EKS, by cAdvisor's metrics of its containers and CoreDNS' of the whole cluster."""

from __future__ import annotations

from collections.abc import Mapping

from cutover.domain.baseline.used import Quantity
from cutover.domain.evidence.selectors import matcher, milliseconds
from cutover.domain.plan import Plan

#: Seconds of a rate of which the most is taken.
_RATE_SECONDS = 300.0


class ClusterUsage:
    """:class:`cutover.ports.records.UsageQueries` of what there is of EKS before it has users: DNS, and throttling."""

    def usage(self, plan: Plan, seconds: float) -> Mapping[Quantity, str]:
        """Return the query for each quantity, over seconds before their time."""
        return {
            Quantity.DNS: f"sum(rate(coredns_dns_requests_total[{milliseconds(seconds)}]))",
            Quantity.THROTTLED: throttled(plan, seconds),
        }


class PodUsage(ClusterUsage):
    """The same with what the workload's Pods use, and the databases on Heroku that they may share with the dynos."""

    def usage(self, plan: Plan, seconds: float) -> Mapping[Quantity, str]:
        """Return the query for each quantity, over seconds before their time."""
        window, rate = milliseconds(seconds), milliseconds(min(seconds, _RATE_SECONDS))
        containers = _containers(plan)
        app = matcher("app", [plan.spec.heroku.app])
        cpu = f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{containers}}}[{rate}]))"
        return {
            **super().usage(plan, seconds),
            Quantity.MEMORY: f"max(sum by (pod) (max_over_time(container_memory_working_set_bytes{{{containers}}}[{window}])))",
            Quantity.LOAD: f"max(quantile_over_time(0.95, {cpu}[{window}:{rate}]))",
            Quantity.CONNECTIONS: f"max(max_over_time(heroku_postgres_active_connections{{{app}}}[{window}]))",
        }


def throttled(plan: Plan, seconds: float) -> str:
    """Return the query for the fraction of periods in which the worst container of the workload was stopped."""
    stopped, periods = (
        f"sum by (pod, container) (rate(container_cpu_cfs_{name}_total{{{_containers(plan)}}}[{milliseconds(seconds)}]))"
        for name in ("throttled_periods", "periods")
    )
    return f"max({stopped} / ({periods} > 0))"


def _containers(plan: Plan) -> str:
    """Return the matchers of the workload's containers."""
    pods = matcher("pod", [plan.spec.eks.workload_ref.name]).removesuffix('"') + '-[^-]+-[^-]+"'
    return f'{matcher("namespace", [plan.namespace])},{pods},container!=""'
