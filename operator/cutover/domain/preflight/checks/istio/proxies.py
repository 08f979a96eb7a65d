"""Which Gateways are on the same proxies: a host on one of them is a host on all of them.

Istio merges the Gateways whose selectors match a proxy, of whatever namespace they are. So a Gateway of one's own, with
the selector of another team's, is another door to that team's hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cutover.domain.preflight.check import Read
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.resources import Json

#: Labels of proxies that serve the Kubernetes Gateway API.
GATEWAY_API_LABELS = frozenset({"gateway.networking.k8s.io/gateway-name", "istio.io/gateway-name"})


def selector_and_servers(body: Json) -> Json:
    """Keep the part of a Gateway that says on which proxies it is, and which hosts it takes there."""
    metadata, spec = body["metadata"], body.get("spec") or {}
    return {
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"]},
        "spec": {
            "selector": spec.get("selector") or {},
            "servers": [
                {
                    "hosts": server.get("hosts") or (),
                    "port": {"protocol": (server.get("port") or {}).get("protocol")},
                    **({"tls": {"mode": mode}} if (mode := (server.get("tls") or {}).get("mode")) else {}),
                }
                for server in spec.get("servers") or ()
            ],
        },
    }


ALL_GATEWAYS = Read(GATEWAYS, keep=selector_and_servers)


@dataclass(frozen=True, slots=True)
class Proxies:
    """All Gateways, by ``namespace/name``, and which of them are on the same proxies."""

    gateways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, gateways: Iterable[Json]) -> Proxies:
        """Return the proxies of Gateways as :func:`selector_and_servers` keeps them."""
        return cls({f"{body['metadata']['namespace']}/{body['metadata']['name']}": body for body in gateways})

    def shared(self, one: str, other: str) -> bool:
        """Tell whether two Gateways may be on the same proxies.

        They may, unless their selectors ask for different values of a label. The proxies' labels are not read: the
        operator would need a right to read all Pods.
        """
        if one == other:
            return True
        if one not in self.gateways or other not in self.gateways:
            return False
        mine, theirs = ((self.gateways[name].get("spec") or {}).get("selector") or {} for name in (one, other))
        return all(theirs.get(label, value) == value for label, value in mine.items())

    def shared_with(self, gateway: str, others: Iterable[str]) -> bool:
        """Tell whether a Gateway may be on the proxies of one of several others."""
        return any(self.shared(gateway, other) for other in others)
