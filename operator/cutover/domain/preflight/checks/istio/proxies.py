"""Which Gateways are on the same proxies: a host on one of them is a host on all of them.

Istio merges the Gateways whose selectors match a proxy, of whatever namespace they are. So a Gateway of one's own, with
the selector of another team's, is another door to that team's hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from cutover.domain.preflight.caps import LONGEST_NAME, names, size_of
from cutover.domain.preflight.check import Read
from cutover.domain.preflight.checks.istio.kinds import GATEWAYS
from cutover.domain.preflight.checks.istio.servers import lowered
from cutover.domain.resources import Json

#: What of a Gateway is looked at: labels of its selector, servers, and their hosts together.
MOST_LABELS, MOST_SERVERS, MOST_HOSTS = 50, 500, 5000

#: Labels of proxies that serve the Kubernetes Gateway API.
GATEWAY_API_LABELS = frozenset({"gateway.networking.k8s.io/gateway-name", "istio.io/gateway-name"})


def selector_and_servers(body: Json) -> Json:
    """Keep the part of a Gateway that says on which proxies it is, and which hosts it takes there.

    The servers' ``hosts`` are a map, in which each is found at once. What is left out of a selector is not asked for, so that
    more Gateways count as being on the same proxies; a host that is left out is not taken.
    """
    metadata, spec = body["metadata"], body.get("spec") or {}
    selector, servers, cut = dict[str, str](), list[Json](), False
    for name, value in islice((spec.get("selector") or {}).items(), MOST_LABELS):
        # No Pod has a label that is longer.
        if len(name) <= LONGEST_NAME and len(str(value)) <= LONGEST_NAME:
            selector[name] = str(value)
    left = MOST_HOSTS
    for server in islice(spec.get("servers") or (), MOST_SERVERS):
        taken, more = names(server.get("hosts") or (), max(left, 0))
        left, cut, port = left - len(taken), cut or more, server.get("port") or {}
        mode = (server.get("tls") or {}).get("mode")
        servers.append(
            {
                "hosts": dict.fromkeys(map(lowered, taken)),
                "port": {"number": port.get("number"), "protocol": str(port.get("protocol"))[:LONGEST_NAME]},
                **({"tls": {"mode": str(mode)[:LONGEST_NAME]}} if mode else {}),
            }
        )
    kept: Json = {
        "metadata": {"namespace": metadata["namespace"], "name": metadata["name"]},
        "spec": {"selector": selector, "servers": servers},
        "size": size_of(selector, selector.values(), *(server["hosts"] for server in servers)),
    }
    if cut or len(spec.get("servers") or ()) > MOST_SERVERS:
        kept["cut"] = f"more than {MOST_SERVERS} servers or {MOST_HOSTS:,} hosts"
    return kept


@dataclass(frozen=True, slots=True)
class Proxies:
    """All Gateways, by ``namespace/name``, and which of them are on the same proxies."""

    gateways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    _beside: dict[tuple[str, ...], frozenset[str]] = field(default_factory=dict, init=False, compare=False)

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
        few, many = sorted(
            ((self.gateways[name].get("spec") or {}).get("selector") or {} for name in (one, other)), key=len
        )
        return all(many.get(label, value) == value for label, value in few.items())

    def beside(self, names: tuple[str, ...]) -> frozenset[str]:
        """Return the Gateways that may be on the proxies of some, and these: one answer for all plans with the same."""
        if names not in self._beside:
            found = (one for one in self.gateways if any(self.shared(one, name) for name in names))
            self._beside[names] = frozenset((*names, *found))
        return self._beside[names]


ALL_GATEWAYS = Read(GATEWAYS, keep=selector_and_servers, derived=(Proxies.of,))
