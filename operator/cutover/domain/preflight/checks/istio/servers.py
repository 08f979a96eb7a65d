"""The hosts that a Gateway's servers take, and from which namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

#: Protocols of servers that serve the HTTP routes of VirtualServices.
_HTTP = frozenset({"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB"})


def covers(pattern: str, host: str) -> bool:
    """Tell whether a host in an Istio object, which may begin with ``*``, is or includes a host name."""
    pattern, host = pattern.lower(), host.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*") else pattern == host


def serves(server: Mapping[str, Any], host: str, namespace: str | None = None, *, of: str = "") -> bool:
    """Tell whether a Gateway's server takes requests for a host from VirtualServices of a namespace.

    Parameters
    ----------
    namespace
        Namespace of the VirtualService; ``None`` for any.
    of
        The Gateway's namespace, which ``.`` stands for.
    """
    for entry in server.get("hosts") or ():
        open_to, _, name = entry.rpartition("/")
        if covers(name, host) and (
            namespace is None or open_to in ("", "*", namespace) or (open_to, of) == (".", namespace)
        ):
            return True
    return False


def takes(gateway: str, body: Mapping[str, Any], host: str, namespace: str) -> bool:
    """Tell whether a Gateway, ``namespace/name``, has an HTTP server that takes a host from a namespace."""
    return any(serves(server, host, namespace, of=gateway.split("/", 1)[0]) for server in http_servers(body))


def http_servers(gateway: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the servers of a Gateway that serve HTTP routes."""
    servers = (gateway.get("spec") or {}).get("servers") or ()
    return [server for server in servers if str((server.get("port") or {}).get("protocol", "")).upper() in _HTTP]


def closed_gateways(gateways: Iterable[str], namespace: str, allowed: Sequence[str]) -> list[str]:
    """Return the gateways that the operator's settings close to plans of a namespace.

    Parameters
    ----------
    gateways
        As ``namespace/name``.
    allowed
        Namespaces whose Gateways may be used by plans of other namespaces, with ``*`` and ``?``; if empty, all.
    """
    owners = {gateway: gateway.split("/", 1)[0] for gateway in gateways}
    return [
        gateway
        for gateway, owner in owners.items()
        if allowed and owner != namespace and not any(fnmatchcase(owner, pattern) for pattern in allowed)
    ]
