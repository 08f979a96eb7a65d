"""Stages: the spans of time at one weight, as the ledger tells them, each with the numbers by which it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cutover.api.v1alpha1 import GateNumbers, LedgerEntry, Phase
from cutover.report.record import Record


class End(StrEnum):
    """How a stage ended."""

    NEXT_STEP = "the next step began"
    COMPLETED = "the migration was completed"
    ROLLED_BACK = "all traffic went back to Heroku"
    LOWERED = "the weight was lowered"
    FORWARDED = "all traffic went to EKS, because Heroku was down"
    WITHDRAWN = "the weight never reached the gateway and was withdrawn"
    NOT_YET = "it has not ended"


#: Decisions that begin a stage, and how the stage before ended by them.
_MOVES = {
    "TakeOver": End.NEXT_STEP,
    "Advance": End.NEXT_STEP,
    "Forward": End.FORWARDED,
    "Lower": End.LOWERED,
    "Withdraw": End.WITHDRAWN,
    "RollBack": End.ROLLED_BACK,
    "Complete": End.COMPLETED,
    "Retry": End.NEXT_STEP,
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A span of time at one weight.

    Parameters
    ----------
    attempt
        Attempt that it is of.
    weight
        Percent of requests to EKS.
    since, until
        Its begin and end; ``until`` is the time of the report where it has not ended.
    end
        How it ended.
    left_by
        The decision that ended it.
    gates
        The gates' numbers at its end; empty where nothing was judged, or where the record does not have them any more.
    entries
        The decisions that were made in it, besides the one that ended it.
    completed
        Whether the migration was completed before it began.
    """

    attempt: int
    weight: int
    since: datetime
    until: datetime
    end: End = End.NOT_YET
    left_by: LedgerEntry | None = None
    gates: tuple[GateNumbers, ...] = ()
    entries: tuple[LedgerEntry, ...] = ()
    completed: bool = False

    @property
    def at_rest(self) -> bool:
        """Whether the traffic rests on Heroku after a rollback, for good or until another attempt."""
        return self.left_by is None and any(entry.decision == "RolledBack" for entry in self.entries)

    @property
    def seconds(self) -> float:
        """Length of the stage."""
        return max((self.until - self.since).total_seconds(), 0.0)


def stages(record: Record) -> tuple[Stage, ...]:
    """Return the stages of all attempts, in order; the first may be missing where the ledger is full."""
    found: list[Stage] = []
    begun: LedgerEntry | None = None
    inside: list[LedgerEntry] = []
    for entry in record.ledger:
        if entry.decision not in _MOVES:
            inside.append(entry)
            continue
        if begun is not None:
            found.append(_stage(begun, inside, _MOVES[entry.decision], entry, entry.at, entry.gates))
        begun, inside = entry, []
    if begun is not None:
        status = record.plan.status
        judged = tuple(status.gates) if (status.weight or 0) > 0 and status.phase is not Phase.COMPLETED else ()
        found.append(_stage(begun, inside, End.NOT_YET, None, max(record.at, begun.at), judged))
    return tuple(found)


def _stage(
    begun: LedgerEntry,
    inside: Sequence[LedgerEntry],
    end: End,
    left_by: LedgerEntry | None,
    until: datetime,
    gates: Sequence[GateNumbers],
) -> Stage:
    return Stage(
        attempt=begun.attempt,
        weight=begun.to_weight,
        since=begun.at,
        until=until,
        end=end,
        left_by=left_by,
        gates=tuple(gates),
        entries=tuple(inside),
        completed=begun.decision == "Complete",
    )
