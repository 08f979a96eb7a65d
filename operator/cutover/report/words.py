"""Numbers, times and names as words in a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from cutover.api.v1alpha1 import EvidenceStatus, GateNumbers, LedgerEntry
from cutover.domain.journal.notifications import Severity, severity_of
from cutover.domain.verdicts import Verdict
from cutover.report.page import Bar, Tag, Tone

_VERDICTS: Mapping[str, tuple[str, Tone]] = {
    Verdict.PASS: ("pass", Tone.GOOD),
    Verdict.FAIL: ("fail", Tone.BAD),
    Verdict.UNDECIDED: ("undecided", Tone.WARN),
    Verdict.INSUFFICIENT_TRAFFIC: ("too few requests", Tone.WARN),
    Verdict.NO_DATA: ("no data", Tone.WARN),
    Verdict.QUERY_ERROR: ("query failed", Tone.WARN),
    Verdict.AMBIGUOUS: ("ambiguous", Tone.WARN),
}
_SEVERITIES = {Severity.INFO: Tone.CALM, Severity.WARNING: Tone.WARN, Severity.CRITICAL: Tone.BAD}
_DECISIONS = {"Complete": Tone.GOOD, "Advance": Tone.GOOD, "RollBack": Tone.BAD}


def moment(at: datetime) -> str:
    """Return a time in UTC, in whole seconds; the page says once that all times are UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def percent(ratio: float | None) -> str:
    """Return a fraction in percent with two or three digits; a dash for ``None`` and for what is no number."""
    if ratio is None or not math.isfinite(ratio):
        return "–"
    value = 100.0 * ratio
    if value == 0:
        return "0 %"
    return f"{value:.1f} %" if abs(value) >= 1 else f"{value:.2g} %"


def milliseconds(value: float | None) -> str:
    """Return a latency with two or three digits; a dash for ``None`` and for what is no number."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0:
        return "0 ms"
    return f"{value / 1000:,.1f} s" if value >= 10_000 else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def count(value: float | None) -> str:
    """Return a count; a dash for ``None`` and for what is no number."""
    return "–" if value is None or not math.isfinite(value) else f"{value:,.0f}"


def weights(entry: LedgerEntry) -> str:
    """Return the weights before and after a decision, or the one where it did not move."""
    if entry.from_weight == entry.to_weight:
        return f"{entry.to_weight} %"
    return f"{entry.from_weight} → {entry.to_weight} %"


def verdict(gate: GateNumbers) -> Tag:
    """Return the verdict of a gate."""
    text, tone = _VERDICTS.get(gate.verdict, (gate.verdict, Tone.WARN))
    return Tag(text, tone)


def decision(entry: LedgerEntry) -> Tag:
    """Return the name of a decision, in its tone."""
    severity = severity_of(entry.decision, entry.reason)
    return Tag(entry.decision, _DECISIONS.get(entry.decision, _SEVERITIES[severity]))


def harm(evidence: EvidenceStatus | None) -> Bar | str:
    """Return how far the evidence of harm is on its way to a rollback."""
    if evidence is None:
        return "–"
    return Bar(way(evidence.harm, evidence.harm_limit), _of(evidence.harm, evidence.harm_limit), Tone.BAD)


def safety(evidence: EvidenceStatus | None) -> Bar | str:
    """Return how far the evidence of safety is on its way to the next step."""
    if evidence is None or evidence.safety is None or evidence.safety_limit is None:
        return "–"
    return Bar(way(evidence.safety, evidence.safety_limit), _of(evidence.safety, evidence.safety_limit), Tone.GOOD)


def way(evidence: float, limit: float) -> float:
    """Return how much of the way to a limit is done, from 0 to 1.

    Evidence grows by factors, so that the way is measured by its logarithm, as in ``kubectl get``.
    """
    if not (evidence > 1.0 and limit > 1.0):
        return 0.0
    return min(1.0, math.log(evidence) / math.log(limit)) if math.isfinite(evidence) else 1.0


def _of(evidence: float, limit: float) -> str:
    if not math.isfinite(evidence) or evidence >= 1000:
        said = "over 1,000"
    elif evidence >= 10:
        said = f"{evidence:.0f}"
    else:
        said = f"{evidence:.2g}"
    return f"{said} of {limit:,.0f}"
