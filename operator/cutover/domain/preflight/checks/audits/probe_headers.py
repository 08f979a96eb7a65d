"""Audit ``probe-headers``: the Pod's own probes have to send headers, so users' requests need them, too."""

from __future__ import annotations

from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

_WHAT = {
    "x-forwarded-proto": "the app redirects what did not come by HTTPS: end TLS at the gateway, or have the load balancer's"
    " X-Forwarded-Proto kept, or each page redirects to itself",
    "host": "the app refuses other names: EKS gets the public name, and Heroku by default its own (heroku.hostHeader: Public"
    " changes that)",
}


def find(workload: Workload) -> Iterator[str]:
    """Find headers that tell what the app asks of a request."""
    probes = [workload.app.probe(kind) for kind in ("readinessProbe", "livenessProbe", "startupProbe")]
    sent = {
        str(header.get("name")).lower()
        for probe in probes
        if probe is not None
        for header in (probe.get("httpGet") or {}).get("httpHeaders") or ()
    }
    for name, what in _WHAT.items():
        if name in sent:
            yield f"the Pods' probes send {name}, so {what}"


CHECK = audit("probe-headers", "the Pods' own probes need neither `X-Forwarded-Proto` nor `Host`", find)
