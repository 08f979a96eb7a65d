"""What is in force until the next step or edit: templates, what protects users in the spec, an approval."""

from __future__ import annotations

from pydantic import Field

from cutover.api.model import Model


class ResolvedTemplate(Model):
    """A gate template as it was when the step began; it stays in force until the next step."""

    gate: str = Field(description="Name of the SLO.")
    template: str = Field(description="Kind and name, such as ClusterGateTemplate/cpu-throttling.")
    generation: int = Field(description="Generation of the template.")
    definition: str = Field(description="The resolved gate, as JSON for the operator itself.")


class SpecSnapshot(Model):
    """Snapshot of the spec fields that protect users; the ledger records every edit of them."""

    generation: int = Field(description="Generation of the spec.")
    ceiling: int = Field(description="The spec's ceiling.")
    steps: dict[str, str] = Field(description="The spec's steps, by weight.")
    fields: dict[str, str] = Field(description="Other fields of the spec, by path.")


class ApprovedStep(Model):
    """A step that was approved by raising the ceiling that held it back."""

    weight: int = Field(description="Weight of the step.")
    by: str = Field(description="The old and the new ceiling, and who raised it.")
