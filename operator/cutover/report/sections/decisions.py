"""Decisions, holds and people: the ledger, and what people asked for."""

from __future__ import annotations

from cutover.api.v1alpha1 import LEDGER_LENGTH
from cutover.domain.holds import ALARMING
from cutover.report.page import Block, Prose, Section, Table, Tag, Tone
from cutover.report.record import Record
from cutover.report.stages import Stage
from cutover.report.words import decision, moment, weights

#: Events that are shown; Kubernetes keeps them for an hour by default.
MOST_EVENTS = 50


def decisions(record: Record, spans: tuple[Stage, ...]) -> Section:
    """Return the section."""
    ledger = record.ledger
    if not ledger:
        return Section("Decisions, holds and people", (Prose("Nothing was decided yet."),))
    rows = tuple(
        (str(number), moment(one.at), decision(one), weights(one), one.reason, one.by or "–", one.message or "–")
        for number, one in enumerate(ledger, start=1)
    )
    head = ("No.", "At", "Decision", "To EKS", "Reason", "Asked for by", "Why, with the numbers")
    blocks: list[Block] = [Table("Decisions, oldest first", head, rows)]
    if len(record.plan.status.ledger) >= LEDGER_LENGTH and not record.older:
        blocks.append(
            Prose(
                f"A plan keeps its last {LEDGER_LENGTH} decisions. Earlier ones are in the operator's log; give it with --log."
            )
        )
    sections = [_holds(spans), _people(record)]
    if record.events:
        sections.append(_events(record))
    return Section("Decisions, holds and people", tuple(blocks), tuple(sections))


def _holds(spans: tuple[Stage, ...]) -> Section:
    rows = tuple(
        (
            Tag(entry.reason, Tone.WARN if entry.reason in ALARMING else Tone.CALM),
            moment(entry.at),
            f"{stage.weight} %",
            "it lasts, or has ended since" if stage.left_by is None else moment(stage.until),
            entry.message or "–",
        )
        for stage in spans
        for entry in stage.entries
        if entry.decision == "Hold"
    )
    if not rows:
        return Section(
            "Holds", (Prose("No hold was recorded. Holds for want of traffic or data are never recorded."),)
        )
    head = ("Reason", "From", "At", "Ended at the latest", "Why")
    note = "A hold is recorded once for each reason and weight. Holds for want of traffic or data are never recorded."
    return Section("Holds", (Table("Holds", head, rows), Prose(note)))


def _people(record: Record) -> Section:
    rows = tuple(
        (one.by, moment(one.at), Tag(one.decision), one.message or "–") for one in record.ledger if one.by is not None
    )
    if not rows:
        return Section("People", (Prose("Nobody took part: every decision was made on evidence and the plan."),))
    return Section("People", (Table("What people asked for", ("Who", "At", "Decision", "What"), rows),))


def _events(record: Record) -> Section:
    shown = sorted(record.events, key=lambda one: one.at)[-MOST_EVENTS:]
    rows = tuple(
        (one.reason, moment(one.at), Tag(one.kind, Tone.WARN if one.kind == "Warning" else Tone.CALM), one.message)
        for one in shown
    )
    return Section(
        "Events", (Table("Kubernetes' Events that are still kept", ("Reason", "At", "Type", "What"), rows),)
    )
