"""The objects as they are written as a whole: an adopted VirtualService with its marks, and what of a live object stays."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cutover.adapters.traffic.istio import adopt as istio_adopt
from cutover.adapters.traffic.istio.live import Live, named_by_us
from cutover.adapters.traffic.istio.recorded import has_written, recorded_originals, wrote
from cutover.adapters.traffic.istio.rendering import adopts, shape
from cutover.api.v1alpha1 import Phase
from cutover.domain.marks import FIELD_MANAGER, MANAGED_BY_LABEL, PLAN_LABEL, PLAN_UID_ANNOTATION, is_ours
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.original import (
    ORIGINAL_ANNOTATION,
    ORIGINAL_LIMIT,
    note_original,
    read_original,
)
from cutover.domain.resources import Json
from cutover.domain.revision import Split, desired_split
from cutover.ports.errors import Unavailable

#: Annotation with the last raise that was cancelled before it reached the route.
CALLED_OFF_ANNOTATION = "cutover.dev/called-off"

#: Bytes of an object's annotations that the API server takes.
ANNOTATIONS_LIMIT = 256 * 1024
#: Bytes of labels and annotations that others may add to an object of the operator's name.
FOREIGN_LIMIT = 200 * 1024


def completed(plan: Plan, split: Split, wanted: Json, live: Live | None, cluster_domain: str) -> Json:
    """Return the wanted object, with the spec of an adopted VirtualService derived from the live object."""
    if not adopts(plan) or live is None:
        return wanted
    metadata = live.body["metadata"]
    annotations = metadata.get("annotations") or {}
    noted = read_original(annotations, recorded_originals(plan))
    spec, routes = istio_adopt.adopt(
        live.body["spec"] or {},
        plan,
        split,
        shape(plan, split, cluster_domain),
        noted.get("routes", ()),
    )
    before = noted["annotations"] if noted else _selected(annotations, istio_adopt.HANDS_OFF)
    original = note_original(routes, before)
    if noted and len(original.encode()) > ORIGINAL_LIMIT:
        # The team's routes grew meanwhile. The weights matter more than a later restoration.
        original = annotations[ORIGINAL_ANNOTATION]
    ours = {**wanted["metadata"]["annotations"], ORIGINAL_ANNOTATION: original}
    return {**wanted, "metadata": {**wanted["metadata"], "annotations": ours}, "spec": spec}


def restored(plan: Plan, live: Live, cluster_domain: str) -> Json:
    """Return an adopted VirtualService with the team's original routes and annotations, and without ours."""
    metadata = live.body["metadata"]
    annotations = dict(metadata.get("annotations") or {})
    noted = read_original(annotations, recorded_originals(plan))
    # First to 0: a route that is not recognised keeps this weight.
    nobody = desired_split(plan.status, 0)
    spec, _ = istio_adopt.adopt(live.body["spec"] or {}, plan, nobody, shape(plan, nobody, cluster_domain), ())
    spec = istio_adopt.restore(spec, plan, noted.get("routes", ()))
    for name in (*istio_adopt.HANDS_OFF, ORIGINAL_ANNOTATION, PLAN_UID_ANNOTATION, CALLED_OFF_ANNOTATION):
        annotations.pop(name, None)
    annotations |= noted.get("annotations", {})
    metadata = {**metadata, "labels": without_label(metadata), "annotations": annotations}
    return {**live.body, "metadata": metadata, "spec": spec}


def takes_over(plan: Plan, route: Json, live: Live | None) -> bool:
    """Tell whether this write adopts the team's VirtualService, which then has to be adoptable.

    Later writes do not ask: whatever others changed in it and in the annotations, a rollback stays possible.
    """
    if live is None:
        return True
    if wrote(plan, route):
        return False
    owner = (live.body["metadata"].get("annotations") or {}).get(PLAN_UID_ANNOTATION)
    return owner != plan.uid and plan.status.phase in (Phase.PENDING, Phase.PREFLIGHT)


def without_label(metadata: Mapping[str, Json]) -> Json:
    """Return the labels without the plan's, so that deleting the operator's objects by label does not delete the team's."""
    return {name: value for name, value in (metadata.get("labels") or {}).items() if name != PLAN_LABEL}


def merged(live: Json, wanted: Json, plan: Plan) -> Json:
    """Return the live object with our spec, labels and annotations; other metadata stays.

    Of an object of the operator's name it stays as long as it is small: a rollback must not depend on how much others wrote.

    Raises
    ------
    Unavailable
        Where the object never was the operator's.
    """
    metadata, ours = live["metadata"], wanted["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    # Once the route is written, all objects of these names are the plan's, even after edits by others.
    if named_by_us(metadata["name"]) and not is_ours(metadata) and not has_written(plan):
        raise Unavailable(
            f"{live['kind']} {metadata['namespace']}/{metadata['name']} exists and is not the operator's: delete or "
            f"rename it, or hand it over with the label {MANAGED_BY_LABEL}={FIELD_MANAGER}"
        )
    if named_by_us(metadata["name"]) and _size(labels) + _size(annotations) > FOREIGN_LIMIT:
        labels, annotations = {}, {}
    return {
        **wanted,
        "metadata": {
            **metadata,
            "labels": {**labels, **ours["labels"]},
            "annotations": {**annotations, **ours["annotations"]},
        },
    }


def fitted(wanted: Json, live: Json, plan: Plan) -> Json:
    """Return the wanted object with those of our annotations that the API server takes beside the team's.

    The team's own VirtualService keeps the team's annotations, and a later restoration matters less than the weights. The
    takeover itself has all of ours, or is refused.
    """
    if named_by_us(wanted["metadata"]["name"]) or not wrote(plan, wanted):
        return wanted
    annotations = live["metadata"].get("annotations") or {}
    left, ours = ANNOTATIONS_LIMIT - _size(annotations), dict[str, str]()
    for name, value in wanted["metadata"]["annotations"].items():
        more = _size({name: value}) - _size(_selected(annotations, [name]))
        if more <= max(left, 0):
            left -= more
            ours[name] = value
    return {**wanted, "metadata": {**wanted["metadata"], "annotations": ours}}


def _size(texts: Mapping[str, str]) -> int:
    return sum(len(name.encode()) + len(value.encode()) for name, value in texts.items())


def _selected(annotations: Mapping[str, str], names: Iterable[str]) -> Json:
    return {name: annotations[name] for name in names if name in annotations}
