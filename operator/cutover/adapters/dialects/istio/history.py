"""The queries for a report: rates, failures and percentiles of both legs, as Prometheus extrapolates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cutover.adapters.dialects.istio.gateways import gateway_matchers
from cutover.adapters.traffic.istio.names import eks_service, gateway_namespaces, heroku_service
from cutover.domain.evidence.answers import ERROR_CODES, NOBODYS_CODES
from cutover.domain.evidence.selectors import matcher, milliseconds
from cutover.domain.plan import Plan
from cutover.domain.traffic import Leg
from cutover.report.history import Measure

_LEG = "destination_service"
_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class IstioHistory:
    """:class:`cutover.ports.history.HistoryQueries` of Istio's standard metrics.

    Parameters
    ----------
    cluster_domain
        The cluster's DNS domain.
    """

    cluster_domain: str = "cluster.local"
    label: str = _LEG
    product: str = "Istio"

    def legs(self, plan: Plan) -> Mapping[str, Leg]:
        """Return the legs by ``destination_service``."""
        return {heroku_service(plan): Leg.HEROKU, eks_service(plan, self.cluster_domain): Leg.EKS}

    def measure(self, plan: Plan, measure: Measure, seconds: float) -> str:
        """Return the query for a measure of both legs."""
        match measure:
            case Measure.RATE:
                return self._requests(plan, "rate", seconds)
            case Measure.ERRORS:
                return self._errors(plan, "rate", seconds)
            case Measure.P95:
                return self._quantile(plan, "rate", seconds, 0.95)

    def figures(self, plan: Plan, seconds: float) -> Mapping[str, str]:
        """Return the queries for a leg's figures."""
        return {
            "requests": self._requests(plan, "increase", seconds),
            "errors": self._errors(plan, "increase", seconds),
            **{name: self._quantile(plan, "increase", seconds, part) for name, part in _QUANTILES.items()},
        }

    def _requests(self, plan: Plan, function: str, seconds: float) -> str:
        return self._sum(plan, function, "istio_requests_total", seconds)

    def _errors(self, plan: Plan, function: str, seconds: float) -> str:
        requests = self._requests(plan, function, seconds)
        errors = self._sum(plan, function, "istio_requests_total", seconds, f',response_code=~"{ERROR_CODES}"')
        # Without a failure there is no series of failures.
        return f"({errors} or 0 * {requests}) / ({requests} > 0)"

    def _quantile(self, plan: Plan, function: str, seconds: float, part: float) -> str:
        buckets = self._sum(plan, function, "istio_request_duration_milliseconds_bucket", seconds, by=f"{_LEG}, le")
        return f"histogram_quantile({part:g}, {buckets})"

    def _sum(self, plan: Plan, function: str, metric: str, seconds: float, more: str = "", *, by: str = _LEG) -> str:
        selector = ",".join(
            (
                'reporter="source"',
                *gateway_matchers(gateway_namespaces(plan)),
                matcher(_LEG, self.legs(plan)),
                f'response_code!~"{NOBODYS_CODES}"{more}',
            )
        )
        return f"sum by ({by}) ({function}({metric}{{{selector}}}[{milliseconds(seconds)}]))"
