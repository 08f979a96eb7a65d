"""Labels and annotations that mark the objects that the operator wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: The operator's field manager, in ``metadata.managedFields`` of every object it writes.
FIELD_MANAGER = "cutover"

#: Mark the objects that the operator wrote. One of the two is enough, because people remove labels.
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
PLAN_UID_ANNOTATION = "cutover.dev/plan-uid"

#: Label with the name of the plan that an object belongs to.
PLAN_LABEL = "cutover.dev/plan"


def is_ours(metadata: Mapping[str, Any]) -> bool:
    """Tell whether the operator wrote an object."""
    return (metadata.get("labels") or {}).get(MANAGED_BY_LABEL) == FIELD_MANAGER or PLAN_UID_ANNOTATION in (
        metadata.get("annotations") or {}
    )
