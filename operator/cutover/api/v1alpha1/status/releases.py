"""What each leg runs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Self, Unpack

from pydantic import Field

from cutover.api.model import Model, Time

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import ReleasesChanges


class LegName(StrEnum):
    """One of the two legs."""

    HEROKU = "Heroku"
    EKS = "EKS"


class TemplateDigests(Model):
    """Digests of the workload's Pod template. No value of it is kept."""

    code: str = Field(description="Digest of images, commands and arguments.")
    config: str = Field(description="Digest of environment, volumes and the template's annotations.")
    rest: str = Field(description="Digest of all else, such as resources and probes.")
    restart: str = Field(
        default="", description="Digest of the time at which `kubectl rollout restart` was last called."
    )


class ReleasesStatus(Model):
    """What each leg runs, as last seen, and whether code or configuration changed on one of them only."""

    of: str = Field(description="The app and the workload that this is about.")
    heroku_version: int | None = Field(
        default=None, description="Number of the release that is in force on Heroku; absent while it is unknown."
    )
    heroku_code: str = Field(default="", description="Digest of the slug's or image's identifier.")
    heroku_at: Time | None = Field(default=None, description="When a new release was last seen on Heroku.")
    dynos: dict[str, int] | None = Field(default=None, description="Number of dynos by process type.")
    sizes: dict[str, str] | None = Field(default=None, description="Size of the dynos by process type.")
    maintenance: bool | None = Field(default=None, description="Whether Heroku's maintenance mode is on.")
    certificate: str = Field(
        default="", description="Hosts with the last day of Heroku's certificate, as told in the week before that day."
    )
    eks: TemplateDigests | None = Field(default=None, description="The workload's Pod template.")
    rolling: tuple[str, ...] = Field(
        default=(), description="What changes with the workload's rollout that is under way; empty without one."
    )
    level: str = Field(
        default="", description="EKS' code and configuration when the legs were last taken to be alike."
    )
    ahead: LegName | None = Field(
        default=None, description="The leg whose code or configuration changed, while the other's did not since."
    )
    change: str = Field(default="", description="What changed there.")
    evidence_from: float | None = Field(
        default=None,
        description="Unix seconds from which on evidence of safety is about the present code; earlier evidence was dropped.",
    )
    problem: str = Field(
        default="", description="Why Heroku's API does not say what runs there. Nothing is held for it."
    )

    def evolve(self, **changes: Unpack[ReleasesChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)
