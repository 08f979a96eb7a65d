"""What audits read for a plan whose workload is a Deployment of the corpus."""

from __future__ import annotations

import yaml
from tests.kit.target import named

from cutover.domain.preflight.inventory import Inventory
from cutover.domain.resources import (
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    POD_DISRUPTION_BUDGETS,
    SERVICES,
    Json,
)


def inventory(deployment: Json) -> Inventory:
    """Return what is read for a plan whose target is a Deployment of the corpus."""
    told = deployment["metadata"].get("annotations", {})
    port = told.get("service", "80")
    service = {"ports": [{"port": 80, "targetPort": int(port) if port.isdecimal() else port}]}
    scaled = {"scaleTargetRef": {"kind": "Deployment", "name": "pdf"}, "maxReplicas": int(told.get("hpa", "1"))}
    budget = yaml.safe_load(told.get("pdb", "{maxUnavailable: 1}"))
    labels = deployment["spec"].get("template", {}).get("metadata", {}).get("labels")
    budgets = [named("shop", "pdf", spec={"selector": {"matchLabels": labels}, **budget})] if budget != "none" else []
    return Inventory(
        objects={
            DEPLOYMENTS: {("shop", "pdf"): deployment},
            SERVICES: {("shop", "pdf"): named("shop", "pdf", spec=service)},
        },
        lists={
            HORIZONTAL_POD_AUTOSCALERS: [named("shop", "pdf", spec=scaled)] if "hpa" in told else [],
            POD_DISRUPTION_BUDGETS: budgets,
        },
    )
