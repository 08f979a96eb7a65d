"""What a plan's status records of its route, whose own labels and annotations anybody may edit."""

from __future__ import annotations

from collections.abc import Sequence

from cutover.adapters.traffic.istio.live import Live
from cutover.adapters.traffic.istio.rendering import adopts
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.original import ORIGINAL_ANNOTATION, is_recorded, original_digest
from cutover.domain.resources import Json


def name_of(route: Json) -> str:
    """Return kind and name of the object with the weights, as the status records it."""
    return f"{route['kind']} {route['metadata']['name']}"


def wrote(plan: Plan, route: Json) -> bool:
    """Tell whether the status records that the operator has written the route for this plan.

    Marks on the object cannot tell: ``kubectl replace`` and Argo CD's ``Replace=true`` remove all labels and annotations
    that are not in their file.
    """
    return plan.status.route is not None and plan.status.route.name == name_of(route)


def has_written(plan: Plan) -> bool:
    """Tell whether the status records any route: then all objects of the plan's names are the plan's."""
    return plan.status.route is not None and plan.status.route.name != ""


def recorded_originals(plan: Plan) -> Sequence[str]:
    """Return the recorded digests of original routes."""
    return plan.status.route.originals if plan.status.route is not None else ()


def originals_of(plan: Plan, wanted: Json, live: Live | None) -> tuple[str, ...]:
    """Return the digests to record: of the original routes to write, and of those that are there as recorded."""
    if not adopts(plan) or live is None:
        return tuple(recorded_originals(plan))
    there = live.body["metadata"].get("annotations") or {}
    digests = [original_digest(wanted["metadata"]["annotations"][ORIGINAL_ANNOTATION])]
    if is_recorded(there, recorded_originals(plan)):
        digests.append(original_digest(there[ORIGINAL_ANNOTATION]))
    return tuple(dict.fromkeys(digests))
