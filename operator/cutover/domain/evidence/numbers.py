"""The numbers of a gate for the status and the ledger, rounded.

Sentences for people are made from these numbers in :mod:`cutover.domain.evidence.sentences`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

from cutover.api.model import computed
from cutover.api.v1alpha1 import (
    AnswersStatus,
    EvidenceStatus,
    GateCounts,
    GateKind,
    GateLimits,
    GateNumbers,
    GateRatios,
    GateStatus,
    LegCounts,
    Mode,
    ToleranceStatus,
)
from cutover.domain.evidence.judgement import Judgement, MetricJudgement
from cutover.domain.evidence.mix import top_codes
from cutover.domain.evidence.rules import ALIVE, Tolerance
from cutover.domain.evidence.sentences import TOLD_CODES

#: Decimals of counts: some custom SLOs count seconds.
_COUNT_DECIMALS = 3
_NUMBERS = tuple(field.name for field in fields(GateNumbers))


def rounded(value: float, digits: int) -> float:
    """Round a number to some significant digits."""
    return float(f"{value:.{digits}g}")


def finite(value: float | None, digits: int = 6) -> float | None:
    """Return a rounded number for JSON; ``None`` for ``None``, NaN and infinity."""
    return rounded(value, digits) if value is not None and math.isfinite(value) else None


def numbers_of(metric: MetricJudgement, kind: GateKind = GateKind.COMPARATIVE) -> GateNumbers:
    """Return the judgement of a metric as numbers."""
    heroku, eks = (
        computed(LegCounts, bad=round(bad, _COUNT_DECIMALS), total=round(total, _COUNT_DECIMALS))
        for bad, total in ((metric.heroku_bad, metric.heroku_total), (metric.eks_bad, metric.eks_total))
    )
    of_heroku = metric.compared and metric.name != ALIVE  # alive has no ratio for Heroku
    return computed(
        GateNumbers,
        name=metric.name,
        verdict=metric.verdict,
        kind=kind,
        mode=mode_of(metric),
        counts=computed(GateCounts, heroku=heroku if metric.compared else None, eks=eks),
        ratios=computed(
            GateRatios,
            heroku=_fraction(metric.heroku_bad, metric.heroku_total) if of_heroku else None,
            eks=_fraction(metric.eks_bad, metric.eks_total),
            tolerated=finite(metric.tolerated, 4),
        ),
        evidence=evidence_of(metric),
        limits=limits_of(metric.rule.harm, metric.rule.advance, metric.rule.codes)
        if metric.rule is not None
        else None,
        reference=metric.reference,
    )


def mode_of(metric: MetricJudgement) -> Mode:
    """Return whether a metric's verdict decides."""
    return Mode.ENFORCE if metric.enforced else Mode.OBSERVE


def evidence_of(judgement: MetricJudgement | Judgement) -> EvidenceStatus:
    """Return the evidence of one metric, or of all metrics together."""
    tested = judgement.safety_limit > 0
    return computed(
        EvidenceStatus,
        harm=rounded(judgement.harm, 3),
        harm_limit=rounded(judgement.harm_limit, 6),
        safety=rounded(judgement.safety, 3) if tested else None,
        safety_limit=rounded(judgement.safety_limit, 6) if tested else None,
    )


# All plans, and all entries of their ledgers, share a few values.
@lru_cache(maxsize=1024)
def limits_of(harm: Tolerance, advance: Tolerance, codes: str = "") -> GateLimits:
    """Return the limits of a comparison, and which codes count in it."""
    return GateLimits(
        harm=ToleranceStatus(harm.ratio, harm.margin),
        advance=ToleranceStatus(advance.ratio, advance.margin),
        codes=codes or None,
    )


def answers_of(codes: tuple[Mapping[str, float], Mapping[str, float]]) -> AnswersStatus | None:
    """Return the most frequent answers of both legs by HTTP status; ``None`` before the first answer."""
    if not any(codes):
        return None
    heroku, eks = (
        {code: round(count) for code, count in top_codes(leg, TOLD_CODES).items() if round(count)} for leg in codes
    )
    return computed(AnswersStatus, heroku=heroku, eks=eks)


def numbers_only(gate: GateStatus) -> GateNumbers:
    """Return the numbers of a status entry, without its sentence, samples and queries."""
    return computed(GateNumbers, **_shared(gate))


def gate_status(
    numbers: GateNumbers,
    sentence: str,
    *,
    samples: int,
    queries: tuple[str, ...] = (),
    query_digest: str | None = None,
) -> GateStatus:
    """Return the status entry for a gate's numbers."""
    return computed(
        GateStatus, **_shared(numbers), sentence=sentence, samples=samples, queries=queries, query_digest=query_digest
    )


def _shared(gate: GateNumbers) -> dict[str, Any]:
    return {name: getattr(gate, name) for name in _NUMBERS}


def _fraction(bad: float, total: float) -> float | None:
    return rounded(bad / total, 4) if total > 0 else None
