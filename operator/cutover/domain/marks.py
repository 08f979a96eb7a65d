"""How the operator's own objects are told from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Names the operator in ``metadata.managedFields`` of whatever it writes.
FIELD_MANAGER = "cutover"

#: What marks the operator's own objects; either is enough, as people take labels off.
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
PLAN_UID_ANNOTATION = "cutover.dev/plan-uid"

#: Label that names an object's plan.
PLAN_LABEL = "cutover.dev/plan"


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Tell whether an object is the operator's."""
    return (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == FIELD_MANAGER or PLAN_UID_ANNOTATION in (
        metadata.get("annotations") or {}
    )
