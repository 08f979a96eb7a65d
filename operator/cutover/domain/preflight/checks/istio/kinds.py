"""Istio's kinds, as the API server addresses them."""

from __future__ import annotations

from cutover.domain.resources import Resource

_GROUP = ("networking.istio.io", "v1")

GATEWAYS = Resource(*_GROUP, "Gateway", "gateways")
#: VirtualServices have the weights.
VIRTUAL_SERVICES = Resource(*_GROUP, "VirtualService", "virtualservices", urgent=frozenset({"get", "update"}))
SERVICE_ENTRIES = Resource(*_GROUP, "ServiceEntry", "serviceentries")
DESTINATION_RULES = Resource(*_GROUP, "DestinationRule", "destinationrules")
