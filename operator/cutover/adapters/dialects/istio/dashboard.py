"""Dashboard queries: PromQL that shows the mesh's metrics in Prometheus or Grafana.

The operator decides nothing by them: they extrapolate, while the gates count raw samples (:mod:`cutover.domain.evidence.counting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from cutover.adapters.dialects.istio.gateways import gateway_matchers
from cutover.domain.evidence.answers import ALL_CODES, ERROR_CODES, NOBODYS_CODES, OK_CODES, Codes
from cutover.domain.evidence.selectors import bounds_matcher, matcher


@lru_cache(maxsize=4096)  # every reconcile of every plan asks
def dashboard_queries(
    *,
    heroku: str,
    eks: str,
    namespaces: tuple[str, ...],
    slow_ms: float | None,
    very_slow_ms: float | None,
    codes: Codes = ALL_CODES,
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
    codes
        Which codes count as refused or redirected.
    """
    legs = ",".join(
        (
            'reporter="source"',
            *gateway_matchers(namespaces),
            matcher("destination_service", (heroku, eks)),
        )
    )

    def rate(metric: str, more: str = "") -> str:
        return f"sum by (destination_service) (rate({metric}{{{legs}{more}}}[5m]))"

    answered = f',response_code!~"{NOBODYS_CODES}"'
    requests = rate("istio_requests_total", answered)
    errors = rate("istio_requests_total", f',response_code=~"{ERROR_CODES}"')
    found = {
        "errors": f"{errors} / {requests}",
        "alive": rate("istio_requests_total", f',response_code=~"{OK_CODES}"'),
    }
    for name, (these, others) in (("refused", codes.refused), ("redirected", codes.redirected)):
        bad = rate("istio_requests_total", f',response_code=~"{these}",response_code!~"{others}"')
        found[name] = f"{bad} / {requests}"
    timed = rate("istio_request_duration_milliseconds_count", answered)
    for name, bound in (("slow", slow_ms), ("verySlow", very_slow_ms)):
        if bound is not None:
            fast = rate("istio_request_duration_milliseconds_bucket", f"{answered},{_bound(bound)}")
            found[name] = f"1 - {fast} / {timed}"
    return found


def _bound(bound: float) -> str:
    return bounds_matcher([bound]).replace(r"|\\+Inf", "").replace(r"\\+Inf|", "")
