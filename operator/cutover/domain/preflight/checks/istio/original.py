"""The routes of an adopted VirtualService as they were: an annotation, for the way back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cutover.domain.resources import Json

#: Annotation of an adopted VirtualService with its routes as they were, and what else was changed.
ORIGINAL_ANNOTATION = "cutover.dev/original"

#: Bytes of that annotation: the API server takes 256 KiB of annotations in all, and others need some of them.
ORIGINAL_LIMIT = 128 * 1024


def read_original(annotations: Mapping[str, str]) -> Json:
    """Return what was noted at the adoption: ``routes``, and ``annotations`` that had another value; empty if nothing.

    People may have edited it. What is no route is left out: the way back must not depend on it.
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
    """Tell whether it has the types of Istio's CRD, as far as they are relied on here."""
    destinations = value.get("route") if isinstance(value, dict) else None
    return isinstance(destinations, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("destination"), dict)
        and isinstance(one.get("weight", 0), int)
        and one.get("weight", 0) >= 0
        for one in destinations
    )


def note_original(routes: Sequence[Json], annotations: Mapping[str, str]) -> str:
    """Return the annotation's value.

    Parameters
    ----------
    annotations
        Those of ``HANDS_OFF`` that were there already, with their values.
    """
    return json.dumps(
        {"annotations": dict(annotations), "routes": list(routes)}, separators=(",", ":"), sort_keys=True
    )
