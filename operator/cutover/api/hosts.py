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


def cel_covers(pattern: str, host: str) -> str:
    """Return the CEL expression for :func:`covers`, of two expressions; the API server has both in lower case."""
    return f"{pattern} == {host} || ({pattern}.startsWith('*') && {host}.endsWith({pattern}.substring(1)))"


def covering(host: str) -> tuple[str, ...]:
    """Return all patterns in lower case that cover a host, the most specific first.

    To look for these among many patterns takes no longer than for few.
    """
    host = host.lower()
    exact = () if is_wildcard(host) else (host,)
    return (*exact, *(f"*{host[start:]}" for start in range(1 if is_wildcard(host) else 0, len(host) + 1)))
