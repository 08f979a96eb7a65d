"""What was skipped, and by whom: checks, holds and evidence."""

from __future__ import annotations

from cutover.api.v1alpha1 import CheckResult
from cutover.report.page import Cell, Prose, Section, Table, Tag, Tone
from cutover.report.record import Record
from cutover.report.words import moment

#: Field of the spec that skips checks, by which who wrote it is known.
SKIP_FIELD = "spec.preflight.skip"
#: Decisions in which a person's word stands in place of a hold or of evidence, by decision and reason; "" is any reason.
_IN_PLACE = {
    ("Skip", ""): "a hold",
    ("Advance", "Requested"): "evidence of safety",
    ("Forward", ""): "evidence of safety: Heroku was down",
}


def skipped(record: Record) -> Section:
    """Return the section."""
    plan = record.plan
    results = {one.check: one for one in plan.status.preflight}
    writer = plan.writers.get("spec")
    by = record.skippers.get(SKIP_FIELD) or (
        f"the plan's spec, last written {writer}" if writer else "the plan's spec"
    )
    rows: list[tuple[Cell, ...]] = [
        (f"check {one.check}", by, one.reason, _result(results[one.check].result) if one.check in results else "–")
        for one in plan.spec.preflight.skip
    ]
    for entry in record.ledger:
        what = _IN_PLACE.get((entry.decision, "")) or _IN_PLACE.get((entry.decision, entry.reason))
        if what is not None:
            who = entry.by or "the plan's spec"
            rows.append((what, who, f"{moment(entry.at)}: {entry.message or entry.reason}", Tag(entry.reason)))
    warned: list[tuple[Cell, ...]] = [
        (one.check, _result(one.result), one.message or "–")
        for one in plan.status.preflight
        if one.result in (CheckResult.WARNED, CheckResult.FAILED, CheckResult.UNKNOWN)
    ]
    blocks = (
        Table("Skipped, by whom and why", ("What", "By", "Why", "Result"), tuple(rows))
        if rows
        else Prose("Nothing was skipped.")
    )
    unheeded = (
        Table("Preflight's warnings, which hold nothing", ("Check", "Result", "What to do"), tuple(warned))
        if warned
        else Prose("Preflight had no warnings.")
    )
    return Section("Skipped and warned", (blocks, unheeded))


def _result(result: CheckResult) -> Tag:
    tones = {CheckResult.PASSED: Tone.GOOD, CheckResult.FAILED: Tone.BAD, CheckResult.SKIPPED: Tone.CALM}
    return Tag(result.value, tones.get(result, Tone.WARN))
