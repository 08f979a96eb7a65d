"""The kinds that Kopf watches for the operator: its own, and those of the traffic providers."""

from __future__ import annotations

from cutover.adapters.kube.discovery import OWN_KINDS
from cutover.adapters.traffic.istio import live

#: Kinds of routing objects, of all providers. Only objects with a plan's label are watched.
ROUTING_KINDS = live.ROUTING_KINDS
#: All watched kinds.
WATCHED = OWN_KINDS | ROUTING_KINDS
