"""Check ``route-writers``: with ownership ``Adopt``, no other controller would put the routes' weights back.

``spec.http`` is one field to the API server, so two writers cannot each own a part of it. People with kubectl are no
controllers: an edit of theirs happens once, and the operator puts it back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutover.api.v1alpha1 import Ownership
from cutover.domain.managed_fields import owners
from cutover.domain.marks import FIELD_MANAGER
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged
from cutover.domain.preflight.checks.istio.names import owned_by
from cutover.domain.preflight.checks.istio.team_route import THE_TEAMS_ROUTE, team_route

#: Prefix of Flux's annotations.
FLUX = "kustomize.toolkit.fluxcd.io"
_ARGO_TRACKING = "argocd.argoproj.io/tracking-id"


def judge(plan: Plan, facts: Facts) -> Finding:
    """Find the controllers that own the routes of the team's VirtualService."""
    root = team_route(plan, facts.inventory)
    return judged(problem(root) if root is not None else "")


def problem(root: Mapping[str, Any]) -> str:
    """Return the controllers that write a VirtualService's routes, each with what to do; ``""`` if there are none."""
    metadata = root["metadata"]
    name, annotations = metadata["name"], metadata.get("annotations") or {}
    marks = {**(metadata.get("labels") or {}), **annotations}
    writers = dict.fromkeys(
        owner.manager for owner in owners(metadata, "spec", "http") if owner.manager != FIELD_MANAGER
    )
    if _ARGO_TRACKING in annotations:
        writers.setdefault("argocd-controller")
    flux_is_off = (
        marks.get(f"{FLUX}/reconcile", "").lower() == "disabled" or marks.get(f"{FLUX}/ssa", "").lower() == "ignore"
    )
    return "; ".join(
        f"{manager} {_advice(manager, name)}"
        for manager in writers
        if not manager.startswith("kubectl") and not (manager == "kustomize-controller" and flux_is_off)
    )


def _advice(manager: str, name: str) -> str:
    then = "and then skip this check with that as the reason"
    if manager == "kustomize-controller":
        return (
            "(Flux) applies spec.http and would put the weights back; write in Git under metadata.annotations "
            f"{FLUX}/ssa: IfNotPresent {then}, or: kubectl annotate virtualservice {name} {FLUX}/reconcile=disabled"
        )
    if manager.startswith("argocd"):
        return (
            "(Argo CD) syncs spec.http and would put the weights back; write in the Application's spec ignoreDifferences:"
            f" [{{group: networking.istio.io, kind: VirtualService, name: {name}, jsonPointers: [/spec/http]}}] and "
            f"syncPolicy: {{syncOptions: [RespectIgnoreDifferences=true]}} {then}"
        )
    if manager.lower().startswith("helm"):
        return (
            "(Helm) upgrades spec.http and would put the weights back; write in the HelmRelease's spec driftDetection: "
            f"{{ignore: [{{paths: [/spec/http], target: {{kind: VirtualService, name: {name}}}}}]}} {then}"
        )
    return f"writes spec.http and would put the weights back; have it leave spec.http of {name} alone {then}"


CHECK = Check(
    name="route-writers",
    passes_when="with ownership `Adopt`: no other controller writes that VirtualService's routes, or"
    " [was told not to](ownership.md#who-else-writes)",
    applies=owned_by(Ownership.ADOPT),
    reads=(THE_TEAMS_ROUTE,),
    judge=judge,
)
