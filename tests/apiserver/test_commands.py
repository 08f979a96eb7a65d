"""Who is named for a command and for an edit, by the managed fields that a real API server keeps."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from tests.corpus import BASE

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.commands.annotations import APPROVE_ANNOTATION, ROLLBACK_ANNOTATION
from cutover.domain.engine.decide import decide
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan

from .conftest import Kubectl

NOW = 1_800_000_000.0
STAMP = r"20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z"


def apply(kubectl: Kubectl, manager: str, **fields: Any) -> None:
    """Apply a plan as kustomize-controller does."""
    plan = {**BASE, "metadata": {"name": "pdf"}, "spec": {**BASE["spec"], **fields}}
    kubectl(
        "apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", stdin=json.dumps(plan)
    )


def read(kubectl: Kubectl) -> Plan:
    return Plan.from_object(json.loads(kubectl("get", "mplan", "pdf", "-o", "json", "--show-managed-fields")))


def write_status(kubectl: Kubectl, status: MigrationPlanStatus) -> None:
    patch = json.dumps({"status": status.to_wire()})
    kubectl("patch", "mplan", "pdf", "--subresource=status", "--type=merge", "--field-manager=cutover", "-p", patch)


def test_who_wrote_what_is_named(kubectl: Kubectl) -> None:
    apply(kubectl, "kustomize-controller", ceiling=10)
    write_status(kubectl, MigrationPlanStatus(phase=Phase.SHIFTING, attempt=1, weight=25, step="2/4"))
    assert {name: writer.manager for name, writer in read(kubectl).writers.items()} == {"spec": "kustomize-controller"}
    kubectl("annotate", "mplan", "pdf", f"{APPROVE_ANNOTATION}=a1-w25")
    kubectl("annotate", "mplan", "pdf", f"{ROLLBACK_ANNOTATION}=a1", "--field-manager=jane")
    kubectl("label", "mplan", "pdf", "team=docs")
    kubectl("patch", "mplan", "pdf", "--type=merge", "-p", '{"spec": {"ceiling": 30}}', "--field-manager=kubectl-edit")
    plan = read(kubectl)
    assert plan.writers[APPROVE_ANNOTATION].manager == "kubectl-annotate"
    assert plan.writers[ROLLBACK_ANNOTATION].manager == "jane"
    assert plan.writers["spec"].manager in ("kubectl-edit", "kustomize-controller"), "within one second"
    status = decide(plan, Observation(), NOW).status
    said = f"25 % → 0 %: asked for by the annotation {re.escape(ROLLBACK_ANNOTATION)} by the field manager jane at {STAMP}"
    assert re.fullmatch(said, status.ledger[-1].message)
    # Who says who it is is named so, and the API server takes it.
    write_status(kubectl, status)
    kubectl("annotate", "mplan", "pdf", "--overwrite", f"{ROLLBACK_ANNOTATION}=a1 by jane@example.com")
    plan = read(kubectl)
    assert plan.status.spec_snapshot == status.spec_snapshot
    shifting = replace(plan, status=plan.status.model_copy(update={"phase": Phase.SHIFTING, "weight": 25}))
    again = decide(shifting, Observation(), NOW)
    assert re.search(rf"rollback by jane@example\.com at {STAMP}$", again.status.ledger[-1].message)
