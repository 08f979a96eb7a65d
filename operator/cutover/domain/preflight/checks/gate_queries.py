"""Check ``gate-queries``: Prometheus understands the queries of the plan's custom SLOs before anything moves."""

from __future__ import annotations

from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.domain.plan import Plan
from cutover.domain.preflight.check import Check, Facts, Finding, judged, unknown
from cutover.domain.slo.custom import SloReading
from cutover.domain.verdicts import Verdict


def judge(plan: Plan, facts: Facts) -> Finding:  # noqa: ARG001
    """Find queries that Prometheus refuses, or answers with several series."""
    waiting, wrong = [], []
    for slo in facts.slos:
        reading = facts.readings.get(slo.name, SloReading())
        problem = reading.problem
        if problem is not None and problem.verdict in (Verdict.QUERY_ERROR, Verdict.AMBIGUOUS):
            wrong.append(f"gate {slo.name}: {problem.message}")
        elif not reading.asked_at:
            waiting.append(f"gate {slo.name}: {problem.message if problem else 'not asked yet'}")
    return unknown("; ".join(waiting)) if waiting and not wrong else judged("; ".join(wrong))


def _applies(spec: MigrationPlanSpec) -> bool:
    return any(slo.custom for slo in spec.gates.slos)


CHECK = Check(
    name="gate-queries",
    passes_when="Prometheus understands every query of the plan's custom SLOs; a query without data yet passes",
    applies=_applies,
    judge=judge,
    awaited=True,
)
