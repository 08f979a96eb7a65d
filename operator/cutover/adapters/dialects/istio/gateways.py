"""The matchers by which the gateways' counters are known."""

from __future__ import annotations

from collections.abc import Iterable

from cutover.domain.evidence.selectors import matcher

#: Label in which a proxy names its own namespace.
CLAIM = "source_workload_namespace"


def gateway_matchers(namespaces: Iterable[str]) -> tuple[str, str]:
    """Return the matchers for counters of gateways: what they say of themselves, and what Prometheus says of their target."""
    names = sorted(set(namespaces))
    return matcher(CLAIM, names), matcher("namespace", names)
