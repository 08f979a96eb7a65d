"""Results of preflight's checks, and of audits that somebody asks for later."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Self, Unpack

from pydantic import Field

from cutover.api.model import Model, Time

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import AuditChanges

#: Characters of a message in the status, which may quote others. The message of the plan is repeated in the conditions.
LONGEST_MESSAGE = 1000


class CheckResult(StrEnum):
    """Result of a preflight check; Failed and Unknown hold the plan."""

    PASSED = "Passed"
    FAILED = "Failed"
    WARNED = "Warned"
    UNKNOWN = "Unknown"
    SKIPPED = "Skipped"


class CheckStatus(Model):
    """A preflight check and its result."""

    check: str = Field(description="Name of the check.")
    result: CheckResult = Field(
        description="Failed and Unknown hold the plan; Warned is shown and holds nothing; Skipped is due to preflight.skip."
    )
    message: str = Field(
        default="",
        description="What to do.",
        # For the API server alone: a longer one, which an earlier version wrote, is cut with the next write.
        json_schema_extra={"maxLength": LONGEST_MESSAGE},
    )


#: Characters that are kept of the annotation ``cutover.dev/audit``.
LONGEST_REQUEST = 120


class AuditStatus(Model):
    """What somebody asked for by the annotation ``cutover.dev/audit``: the audits, and both legs' answers, as they are now."""

    request: str = Field(
        description="Value of the annotation.",
        # For the API server alone, as for CheckStatus.
        json_schema_extra={"maxLength": LONGEST_REQUEST},
    )
    asked_at: Time = Field(description="When the operator took note of it.")
    answered_at: Time | None = Field(
        default=None, description="When all of it had been looked at and was in status.preflight; absent before."
    )
    message: str = Field(
        default="",
        description="What could not be looked at, and why; empty if all of it was.",
        json_schema_extra={"maxLength": LONGEST_MESSAGE},
    )

    def evolve(self, **changes: Unpack[AuditChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)
