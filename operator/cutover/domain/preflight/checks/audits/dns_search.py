"""Audit ``dns-search``: how many DNS queries each call to a host outside the cluster costs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload

#: ``ndots`` of Pods with ``dnsPolicy: ClusterFirst``: names with fewer dots are looked up with each search domain first.
DEFAULT_NDOTS = 5
#: Names that Kubernetes looks up in vain before the right one: ``<namespace>.svc``, ``svc`` and the cluster's domain. A
#: cloud's node adds one or more.
SEARCH_DOMAINS = 3
_HOST = re.compile(
    r"^(?:[a-z][a-z0-9+.-]*://(?:[^@/\s]*@)?)?((?:[a-z0-9-]+\.)+[a-z]{2,})(?::\d+)?(?:[/?]\S*)?$", re.IGNORECASE
)
_INSIDE = (".svc", ".local", ".internal")
#: Variables that name the app's own address, which it does not call.
_OWN = re.compile(
    r"(?:^|_)(?:PUBLIC|APP|SITE|BASE|ROOT|CANONICAL|ALLOWED|HOST|HOSTS|HOSTNAME|DOMAIN|EMAIL|FROM)(?:_|$)"
)


def find(workload: Workload) -> Iterator[str]:
    """Find hosts outside the cluster whose names are first looked up inside it."""
    app = workload.app
    if workload.pod.get("dnsPolicy", "ClusterFirst") not in ("ClusterFirst", "ClusterFirstWithHostNet"):
        return
    ndots = _ndots(workload)
    hosts = {
        found[1].lower()
        for name, value in app.env.items()
        if value and not _OWN.search(name) and (found := _HOST.match(value.strip())) and "." in found[1]
    }
    outside = sorted(host for host in hosts if not _is_inside(host) and host.count(".") < ndots)
    if not outside:
        return
    more = f" and {len(outside) - 3} more" if len(outside) > 3 else ""
    yield (
        f"{', '.join(outside[:3])}{more}: with ndots {ndots} each lookup asks for {SEARCH_DOMAINS} names inside the cluster"
        f" first, for IPv4 and for IPv6: {2 * (SEARCH_DOMAINS + 1)} queries instead of 2; set dnsConfig.options ndots to 2 in the"
        " Pod template, or end the names with a dot"
    )


def _ndots(workload: Workload) -> int:
    options = (workload.pod.get("dnsConfig") or {}).get("options") or ()
    given = next((str(one.get("value")) for one in options if one.get("name") == "ndots"), "")
    return int(given) if given.isdecimal() else DEFAULT_NDOTS


def _is_inside(host: str) -> bool:
    return host.endswith(_INSIDE) or ".svc." in host


CHECK = audit(
    "dns-search",
    "the hosts that the manifest names are looked up as they are: `ndots` is not above the dots that they have",
    find,
)
