"""Audit ``spot-nodes``: the Pods may run on nodes that a cloud takes back."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cutover.domain.preflight.audit import audit
from cutover.domain.preflight.workload import Workload
from cutover.domain.resources import Json

_SPOT = re.compile(r"\b(?:spot|preemptible)\b", re.IGNORECASE)


def find(workload: Workload) -> Iterator[str]:
    """Find a preference for spot nodes. A toleration alone does not send Pods there."""
    affinity: Json = (workload.pod.get("affinity") or {}).get("nodeAffinity") or {}
    required: Json = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = [
        one.get("preference") or {} for one in affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
    ]
    terms += required.get("nodeSelectorTerms") or []
    expressions = [one for term in terms for one in term.get("matchExpressions") or () if one.get("operator") == "In"]
    wanted = [str(value) for one in expressions for value in one.get("values") or ()]
    wanted += [str(value) for value in (workload.pod.get("nodeSelector") or {}).values()]
    if any(_SPOT.search(value) for value in wanted):
        yield (
            "the Pods are sent to spot nodes, which end with two minutes of warning or less: keep some replicas elsewhere, and"
            " have a PodDisruptionBudget"
        )


CHECK = audit("spot-nodes", "the Pods are not sent to spot nodes", find)
