"""The workload of a plan before, while and after it rolls out."""

from __future__ import annotations

import copy
from typing import Any

from tests.kit.target import POD_TEMPLATE

from cutover.domain.resources import Json


def deployment(
    *, replicas: int = 3, new: int = 3, generation: int = 1, observed: int | None = None, **template: Any
) -> Json:
    """Return a Deployment; ``template`` are fields of its container, and ``annotations`` of the Pod."""
    pod = copy.deepcopy(POD_TEMPLATE)
    if (annotations := template.pop("annotations", None)) is not None:
        pod["metadata"]["annotations"] = annotations
    pod["spec"]["containers"][0].update(template)
    return {
        "metadata": {"generation": generation},
        "spec": {"template": pod},
        "status": {
            "observedGeneration": generation if observed is None else observed,
            "replicas": replicas,
            "updatedReplicas": new,
        },
    }
