"""What is kept of a plan is small, and says what it said."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from pydantic import ValidationError
from tests.kit.builders import spec_fields
from tests.kit.routing import rendered

from cutover.adapters.traffic.istio.live import RouteCache
from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.managed_fields import of_spec_and_annotations
from cutover.domain.plan import Plan
from cutover.scale.packing import slim

SPEC = spec_fields()


def _size(value: Any) -> int:
    """Return the bytes of memory that a value takes with all that it is made of."""
    seen, left, size = set[int](), [value], 0
    while left:
        one = left.pop()
        if id(one) not in seen and not isinstance(one, type):
            seen.add(id(one))
            size += sys.getsizeof(one)
            left += gc.get_referents(one)
    return size


def test_a_plan_is_kept_in_little_space_and_read_as_it_was() -> None:
    metadata = {"namespace": "docs", "name": "pdf", "uid": "u1"}
    status = {"phase": "Shifting", "attempt": 1, "weight": 10, "checkpoint": {"at": 0.1, "weightSince": 0.0}}
    bodies = [{"metadata": metadata, "spec": SPEC, "status": status}, {"metadata": metadata, "spec": SPEC}]
    for body in bodies:
        before, kept = Plan.from_object(body), dict(body)
        slim(kept, of_spec_and_annotations)
        slim(kept, of_spec_and_annotations)  # Kopf may hand the same object out again
        assert Plan.from_object(kept) == before
        assert dict(kept["spec"]) == SPEC
        assert _size(kept["spec"]) < 0.5 * _size(SPEC)


def test_an_unreadable_part_stays_unreadable_where_it_is_kept() -> None:
    metadata = {"namespace": "docs", "name": "pdf", "uid": "u1"}
    for broken in ({"spec": {**SPEC, "steps": [{"weight": "x"}]}}, {"spec": SPEC, "status": {"weight": "x"}}):
        body: dict[str, Any] = {"metadata": metadata, **broken}
        with pytest.raises(ValidationError) as plain:
            Plan.from_object(body)
        slim(body, of_spec_and_annotations)
        with pytest.raises(ValidationError) as packed:
            Plan.from_object(body)
        assert packed.value.errors(include_url=False) == plain.value.errors(include_url=False)


def test_models_of_the_same_fields_share_the_set_of_their_names() -> None:
    one, other = (MigrationPlanStatus.model_validate({"attempt": 1, "weight": weight}) for weight in (10, 25))
    assert one.model_fields_set is other.model_fields_set
    assert one.model_fields_set == {"attempt", "weight"}
    copied = one.model_copy(update={"reason": "Judging"})
    assert copied.model_fields_set == {"attempt", "weight", "reason"}
    assert one.model_fields_set == {"attempt", "weight"}
    assert copied.model_fields_set is other.model_copy(update={"reason": ""}).model_fields_set


def test_a_route_is_kept_in_little_space_and_read_as_it_was() -> None:
    metadata = {"namespace": "docs", "name": "pdf", "uid": "u1"}
    cache = RouteCache()
    for body in rendered(Plan.from_object({"metadata": metadata, "spec": SPEC}), 10):
        body["metadata"]["resourceVersion"] = "5"
        owned = [{"manager": "cutover", "time": "2027-01-11T09:00:00Z", "fieldsV1": {"f:spec": {"f:http": {}}}}]
        live = cache.put({**body, "metadata": {**body["metadata"], "managedFields": owned}})
        assert live.body == body
        assert _size(live) < 0.5 * _size(body)
        assert cache.holds(live)
        body["metadata"]["resourceVersion"] = "6"
        cache.put(body)
        assert not cache.holds(live)
