"""The ledger, which is past decisions with their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self, Unpack

from pydantic import Field

from cutover.api.model import Model, Time
from cutover.api.v1alpha1.status.gates import GateNumbers

if TYPE_CHECKING:
    from cutover.api.v1alpha1.changes import LedgerEntryChanges

#: Decisions kept in ``status.ledger``; the oldest go first.
LEDGER_LENGTH = 30


class NewReleases(Model):
    """Releases on Heroku that an entry of the ledger is about."""

    named: tuple[int, ...] = Field(default=(), description="Versions that the message names, oldest first.")
    more: int = Field(default=0, description="How many there are besides.")


class LedgerEntry(Model):
    """One decision with its numbers."""

    at: Time
    attempt: int
    decision: str
    from_weight: int
    to_weight: int
    reason: str
    message: str = ""
    gates: tuple[GateNumbers, ...] = Field(default=(), description="The gates' numbers at that moment.")
    queries: tuple[str, ...] = Field(default=(), description="PromQL of the custom SLOs.")
    subject: str | None = Field(
        default=None,
        description="What the decision is about: the gate that caused a rollback, a refused annotation, or who edited the route.",
    )
    by: str | None = Field(
        default=None,
        description="Who asked for it, and when: as the annotation says, or the field manager that wrote it or the spec.",
    )
    edited: tuple[str, ...] = Field(
        default=(),
        description="What an edit changed: fields of the spec by path, steps as steps.25, and gates that are judged as gates.errors. Left out of old entries of a long ledger.",
    )
    releases: NewReleases | None = Field(
        default=None, description="Releases on Heroku that the entry tells of; only with HerokuReleased."
    )

    def evolve(self, **changes: Unpack[LedgerEntryChanges]) -> Self:
        """Return a copy with some fields changed: mypy checks their names and types, and nothing does at run time."""
        return self.model_copy(update=changes)
