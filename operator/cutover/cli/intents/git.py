"""What applies a plan from Git, and the change to commit there."""

from __future__ import annotations

from collections.abc import Sequence

from cutover.cli.intents.intent import Intent
from cutover.domain.managed_fields import owners
from cutover.domain.plan import Plan
from cutover.domain.resources import Json
from cutover.domain.texts import plain

_FLUX = "kustomize.toolkit.fluxcd.io"

_HELM = "helm.toolkit.fluxcd.io"

_ARGO = "argocd.argoproj.io/tracking-id"

# --------------------------------------------------------------------------------------------------------------- Git


def from_git(body: Json) -> str:
    """Return what applies a plan from Git, in words; ``""`` if nothing is known to."""
    metadata = body.get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    for group, kind in ((_FLUX, "Kustomization"), (_HELM, "HelmRelease")):
        if name := labels.get(f"{group}/name"):
            return plain(f"Flux ({kind} {labels.get(f'{group}/namespace', '')}/{name})")
    managers = {owner.manager for owner in owners(metadata)}
    if _ARGO in annotations or any(manager.startswith("argocd") for manager in managers):
        return "Argo CD"
    return "Flux" if managers & {"kustomize-controller", "helm-controller"} else ""


def caution(intent: Intent, applied_by: str) -> str:
    """Return what Git will make of an intent; ``""`` for nothing."""
    if not applied_by:
        return ""
    if intent.annotation:
        return f"{applied_by} leaves this annotation alone: it has a field manager of its own."
    return (
        f"{applied_by} applies this plan from Git, and undoes an edit of its spec at the next interval. Make the change in"
        " Git: --git prints what to commit."
    )


def spec_change(plan: Plan, name: str, before: bool | int, after: bool | int, message: str) -> str:
    """Return the change of a field of the spec, as a diff with a commit message."""
    lines = [" spec:", f"-  {name}: {as_yaml(before)}", f"+  {name}: {as_yaml(after)}"]
    return _change(plan, lines, message.format(name=plan.name))


def annotation_change(plan: Plan, annotation: str, value: str, question: str) -> str:
    """Return the change of an annotation, as a diff with a commit message."""
    lines = [" metadata:", "   annotations:"]
    if annotation in plan.annotations:
        lines.append(f'-    {annotation}: "{plain(plan.annotations[annotation])}"')
    return _change(plan, [*lines, f'+    {annotation}: "{value}"'], question.rstrip("?"))


def _change(plan: Plan, lines: Sequence[str], message: str) -> str:
    head = (f"# MigrationPlan {plan.key}, in its file in Git:", f"--- a/{plan.name}.yaml", f"+++ b/{plan.name}.yaml")
    return "\n".join((*head, *lines, f'# git commit -m "{message}"'))


def as_yaml(value: bool | int) -> str:
    """Return a value as YAML has it."""
    return str(value).lower()
