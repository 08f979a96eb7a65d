"""Composes the page of a report from the record: which parts there are, and in which order."""

from __future__ import annotations

from cutover.report.page import Page
from cutover.report.record import Record
from cutover.report.sections.asked import asked
from cutover.report.sections.attribution import attribution
from cutover.report.sections.comparison import comparison
from cutover.report.sections.decisions import decisions
from cutover.report.sections.decommission import decommission
from cutover.report.sections.skipped import skipped
from cutover.report.sections.steps import steps
from cutover.report.sections.summary import axis, lead, outcome, summary
from cutover.report.stages import stages
from cutover.report.words import moment


def compose(record: Record) -> Page:
    """Return the page of a report."""
    found = stages(record)
    scale = axis(found)
    return Page(
        title=f"Cutover of {record.plan.key}",
        outcome=outcome(record),
        lead=lead(record),
        sections=(
            summary(record, found, scale),
            asked(record),
            steps(record, found),
            decisions(record, found),
            comparison(record, found, scale),
            attribution(record, found),
            skipped(record),
            decommission(record),
        ),
        foot=f"Made at {moment(record.at)} UTC from MigrationPlan {record.plan.key}, generation {record.plan.generation}, attempt"
        f" {record.plan.status.attempt}. All times are UTC.",
    )
