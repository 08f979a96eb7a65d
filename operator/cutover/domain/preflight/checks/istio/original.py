"""The original routes of an adopted VirtualService, kept in an annotation to restore them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cutover.domain.resources import Json

#: Annotation of an adopted VirtualService with its original routes and annotations.
ORIGINAL_ANNOTATION = "cutover.dev/original"

#: Most bytes of that annotation: the API server accepts 256 KiB of annotations in all, and others need some of it.
ORIGINAL_LIMIT = 128 * 1024

#: Hexadecimal digits of the annotation's digest, which nobody may be able to forge.
_DIGEST = 32


def original_digest(text: str) -> str:
    """Return the digest by which the status recognises the annotation's value."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]


def is_recorded(annotations: Mapping[str, str], recorded: Sequence[str]) -> bool:
    """Tell whether the annotation has a value that the operator wrote.

    Parameters
    ----------
    recorded
        Digests in ``status.route.originals``.
    """
    return ORIGINAL_ANNOTATION in annotations and original_digest(annotations[ORIGINAL_ANNOTATION]) in recorded


def read_original(annotations: Mapping[str, str], recorded: Sequence[str]) -> Json:
    """Return ``routes`` and changed ``annotations`` as they were at the adoption; an empty dict if there are none.

    Whoever may edit the object may edit the annotation. A value that the operator did not write is ignored: otherwise
    the operator would write anybody's routes with its own rights.

    Parameters
    ----------
    recorded
        Digests in ``status.route.originals``.
    """
    if not is_recorded(annotations, recorded):
        return {}
    try:
        noted = json.loads(annotations[ORIGINAL_ANNOTATION])
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
