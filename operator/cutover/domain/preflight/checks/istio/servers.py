"""The hosts that a Gateway's servers take, and from which namespaces."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cutover.api.hosts import covering, covers, is_wildcard

#: Protocols of servers that serve the HTTP routes of VirtualServices.
_HTTP = frozenset({"HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB"})


def serves(server: Mapping[str, Any], host: str, namespace: str | None = None, *, of: str = "") -> bool:
    """Tell whether a Gateway's server takes requests for a host from VirtualServices of a namespace.

    Parameters
    ----------
    host
        A name, or a wildcard, all of whose names have to be taken.
    namespace
        Namespace of the VirtualService; ``None`` for any.
    of
        The Gateway's namespace, which ``.`` stands for.
    """
    given = server.get("hosts") or ()
    if namespace is None:
        return any(covers(entry.rpartition("/")[2], host) for entry in given)
    # Of a Gateway that was read the hosts are a map, see ``selector_and_servers``.
    entries = given if isinstance(given, Mapping) else set(map(lowered, given))
    whence = ("", "*/", f"{namespace}/", *(("./",) if namespace == of else ()))
    return any(f"{by}{pattern}" in entries for pattern in covering(host) for by in whence)


def lowered(entry: str) -> str:
    """Return a host of a server, with the namespaces that may have it as they are, in lower case."""
    open_to, slash, name = entry.rpartition("/")
    return f"{open_to}{slash}{name.lower()}"


def touched(server: Mapping[str, Any], hosts: Iterable[str]) -> list[str]:
    """Return the hosts, among which may be wildcards, that include any name for which a Gateway's server takes requests."""
    names = {entry.rpartition("/")[2].lower() for entry in server.get("hosts") or ()}
    return [
        host
        for host in hosts
        if not names.isdisjoint(covering(host))
        or (is_wildcard(host) and any(name.endswith(host[1:]) for name in names))
    ]


def takes(gateway: str, body: Mapping[str, Any], host: str, namespace: str) -> bool:
    """Tell whether a Gateway, ``namespace/name``, has an HTTP server that takes a host from a namespace."""
    return any(serves(server, host, namespace, of=gateway.split("/", 1)[0]) for server in http_servers(body))


def http_servers(gateway: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the servers of a Gateway that serve HTTP routes."""
    return [server for server in _servers(gateway) if _protocol(server) in _HTTP and not _passes_through(server)]


def unopened_servers(gateway: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the servers of a Gateway that route TLS connections by their SNI, without a look into them."""
    return [server for server in _servers(gateway) if _protocol(server) == "TLS" or _passes_through(server)]


def _servers(gateway: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [server for server in (gateway.get("spec") or {}).get("servers") or () if isinstance(server, Mapping)]


def _protocol(server: Mapping[str, Any]) -> str:
    return str((server.get("port") or {}).get("protocol", "")).upper()


def _passes_through(server: Mapping[str, Any]) -> bool:
    # With this mode Istio reads no HTTP, even where the port's protocol is HTTPS.
    return _protocol(server) in ("HTTPS", "TLS") and (server.get("tls") or {}).get("mode") in (
        "PASSTHROUGH",
        "AUTO_PASSTHROUGH",
    )


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
