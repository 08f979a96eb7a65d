"""Host names and wildcards, as Istio reads them: which include which."""

from __future__ import annotations

from cutover.api.model import DNS_NAME

#: A whole name, or a wildcard for the names below another: ``*.shop.example.com``.
HOST = DNS_NAME.replace("^", r"^(\*\.)?")


def is_wildcard(host: str) -> bool:
    """Tell whether a host stands for many names."""
    return host.startswith("*")


def covers(pattern: str, host: str) -> bool:
    """Tell whether a host, which may be a wildcard, is or includes another, which may be one too.

    A wildcard includes names with any number of labels in its place, but not the name behind it.
    """
    pattern, host = pattern.lower(), host.lower()
    return host.endswith(pattern[1:]) if is_wildcard(pattern) else pattern == host
