"""Dashboard queries: PromQL that shows the mesh's metrics in Prometheus or Grafana.

The operator decides nothing by them: they extrapolate, while the gates count raw samples (:mod:`cutover.domain.evidence.counting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from cutover.domain.evidence.errors import ERROR_CODES
from cutover.domain.evidence.selectors import bounds_matcher, matcher


@lru_cache(maxsize=4096)  # every reconcile of every plan asks
def dashboard_queries(
    *,
    heroku: str,
    eks: str,
    namespaces: tuple[str, ...],
    slow_ms: float | None,
    very_slow_ms: float | None,
) -> Mapping[str, str]:
    """Return a query for each of the mesh's own metrics: the fraction of each leg's requests, over five minutes.

    Parameters
    ----------
    heroku, eks
        ``destination_service`` of each leg.
    namespaces
        Namespaces of the ingress gateways.
    slow_ms, very_slow_ms
        Thresholds in milliseconds; a metric without a threshold has no query.
    """
    legs = ",".join(
        (
            'reporter="source"',
            matcher("source_workload_namespace", namespaces),
            matcher("destination_service", (heroku, eks)),
        )
    )

    def rate(metric: str, more: str = "") -> str:
        return f"sum by (destination_service) (rate({metric}{{{legs}{more}}}[5m]))"

    requests = rate("istio_requests_total", ',response_code!="0"')
    errors = rate("istio_requests_total", f',response_code=~"{ERROR_CODES}"')
    found = {
        "errors": f"{errors} / {requests}",
        "alive": rate("istio_requests_total", f',response_code!~"0|{ERROR_CODES}"'),
    }
    timed = rate("istio_request_duration_milliseconds_count", ',response_code!="0"')
    for name, bound in (("slow", slow_ms), ("verySlow", very_slow_ms)):
        if bound is not None:
            fast = rate("istio_request_duration_milliseconds_bucket", f',response_code!="0",{_bound(bound)}')
            found[name] = f"1 - {fast} / {timed}"
    return found


def _bound(bound: float) -> str:
    return bounds_matcher([bound]).replace(r"|\\+Inf", "").replace(r"\\+Inf|", "")
