"""Indexes of what :mod:`cutover.domain.preflight.checks.istio.listed` keeps, each made once for all plans.

A plan looks up its hosts and destinations, and never walks through the objects of others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from cutover.api.hosts import covering, is_wildcard
from cutover.domain.marks import PLAN_LABEL
from cutover.domain.preflight.inventory import key_of
from cutover.domain.resources import Json


@dataclass(frozen=True, slots=True)
class Hosts:
    """Objects by their hosts."""

    by_host: dict[str, list[Json]] = field(default_factory=dict)
    _covered: dict[str, tuple[list[str], list[tuple[str, Json]]]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[Json]) -> Hosts:
        """Index objects with ``hosts`` in lower case."""
        index = cls()
        for item in items:
            for host in item.get("hosts", ()):
                index.by_host.setdefault(host, []).append(item)
        return index

    def named(self, host: str) -> Sequence[Json]:
        """Return the objects with exactly a host."""
        return self.by_host.get(host.lower(), ())

    def overlapping(self, host: str) -> Iterator[tuple[str, Json]]:
        """Yield hosts that have a name in common with one, with their objects: the most specific that cover it first.

        Of an object whose hosts a wildcard covers only one of these is found, as it may have thousands.
        """
        for pattern in covering(host):
            yield from ((pattern, item) for item in self.named(pattern))
        if is_wildcard(host):
            yield from self._below(host.lower())[1]

    def below(self, host: str) -> Sequence[str]:
        """Return the hosts, other than itself, that a wildcard covers; none for a name."""
        return self._below(host.lower())[0] if is_wildcard(host) else ()

    def _below(self, wildcard: str) -> tuple[list[str], list[tuple[str, Json]]]:
        if wildcard not in self._covered:
            hosts = [one for one in self.by_host if one.endswith(wildcard[1:]) and one != wildcard]
            items = {id(item): (one, item) for one in hosts for item in self.by_host[one]}
            self._covered[wildcard] = hosts, list(items.values())
        return self._covered[wildcard]


@dataclass(frozen=True, slots=True)
class Routes:
    """All VirtualServices, by their hosts and by where they send requests.

    Parameters
    ----------
    sending, mirroring
        Those that send, or mirror, requests to a destination, by :func:`destination_key`.
    delegating
        Those that delegate to a VirtualService, by its ``namespace/name``.
    owners
        Namespace and label of the plan of each.
    cut
        Those that are not whole.
    """

    hosts: Hosts
    sending: dict[str, list[Json]] = field(default_factory=dict)
    mirroring: dict[str, list[Json]] = field(default_factory=dict)
    delegating: dict[str, list[Json]] = field(default_factory=dict)
    owners: set[tuple[str, str | None]] = field(default_factory=set)
    cut: list[Json] = field(default_factory=list)

    @classmethod
    def of(cls, items: Sequence[Json]) -> Routes:
        """Index VirtualServices."""
        index = cls(Hosts.of(items))
        for item in items:
            for part, found in (
                ("sends", index.sending),
                ("mirrors", index.mirroring),
                ("delegates", index.delegating),
            ):
                for name in item.get(part, ()):
                    found.setdefault(name, []).append(item)
            index.owners.add(owner_of(item))
            if "cut" in item:
                index.cut.append(item)
        return index

    def is_bound(self, item: Json, gateways: frozenset[str]) -> bool:
        """Tell whether a VirtualService is on one of some Gateways, or delegated to by one that is."""
        key = "/".join(key_of(item))
        return any(not gateways.isdisjoint(one.get("gateways", ())) for one in (item, *self.delegating.get(key, ())))


def owner_of(item: Json) -> tuple[str, str | None]:
    """Return the namespace of an object, and the plan that its label names."""
    metadata = item["metadata"]
    return metadata["namespace"], (metadata.get("labels") or {}).get(PLAN_LABEL)
