"""The original routes of an adopted VirtualService, kept in an annotation to restore them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cutover.domain.resources import Json

#: Annotation of an adopted VirtualService with its original routes and annotations.
ORIGINAL_ANNOTATION = "cutover.dev/original"

#: Most bytes of that annotation: the API server accepts 256 KiB of annotations in all, and others need some of it.
ORIGINAL_LIMIT = 128 * 1024


def read_original(annotations: Mapping[str, str]) -> Json:
    """Return ``routes`` and changed ``annotations`` as they were at the adoption; an empty dict if there are none.

    The annotation may have been edited. Invalid routes are left out, because a rollback must not depend on them.
    """
    try:
        noted = json.loads(annotations.get(ORIGINAL_ANNOTATION, "{}"))
    except ValueError:
        return {}
    if not isinstance(noted, dict) or not noted:
        return {}
    routes, before = noted.get("routes"), noted.get("annotations")
    return {
        "annotations": {name: str(value) for name, value in before.items()} if isinstance(before, dict) else {},
        "routes": [route for route in routes if _is_route(route)] if isinstance(routes, list) else [],
    }


def _is_route(value: Any) -> bool:
    """Tell whether a value has the types of a route in Istio's CRD, as far as the operator relies on them."""
    destinations = value.get("route") if isinstance(value, dict) else None
    return isinstance(destinations, list) and all(
        isinstance(item, dict)
        and isinstance(item.get("destination"), dict)
        and isinstance(item.get("weight", 0), int)
        and item.get("weight", 0) >= 0
        for item in destinations
    )


def note_original(routes: Sequence[Json], annotations: Mapping[str, str]) -> str:
    """Return the annotation's value for original routes and annotations.

    Parameters
    ----------
    annotations
        Annotations of ``HANDS_OFF`` that already existed, with their values.
    """
    return json.dumps(
        {"annotations": dict(annotations), "routes": list(routes)}, separators=(",", ":"), sort_keys=True
    )
