"""All gates of a plan together: whether EKS is worse, whether the next step is safe, and what the status shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import NamedTuple

from cutover.api.deferred import Deferred
from cutover.api.v1alpha1 import EvidenceStatus, GateKind, GateStatus, Mode
from cutover.domain.evidence.judge import Judgement, MetricJudgement, RatioJudgement, combine
from cutover.domain.evidence.numbers import evidence_of, gate_status, mode_of, numbers_of
from cutover.domain.evidence.rules import MetricRule
from cutover.domain.evidence.sentences import limits, sentence
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.slo.custom import CustomSlo
from cutover.domain.slo.judge import CustomSloJudgement
from cutover.domain.texts import shorten_together
from cutover.domain.verdicts import Verdict

#: Characters of all queries of custom SLOs in the status together.
LONGEST_QUERIES = 2400

_SILENT = (Verdict.NO_DATA, Verdict.QUERY_ERROR, Verdict.AMBIGUOUS)


class GateOutline(NamedTuple):
    """A gate's entry in the status without its numbers; ``judged_by`` has its limits and, of a custom SLO, its queries."""

    name: str
    mode: Mode
    verdict: Verdict
    judged_by: MetricRule | CustomSlo | None


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the gates say now.

    Parameters
    ----------
    legs
        One test of all comparisons of the legs: the mesh's metrics and the custom SLOs' ratios.
    custom_slos
        What each custom SLO says.
    """

    legs: Judgement
    custom_slos: tuple[CustomSloJudgement, ...] = ()

    @property
    def failing_bound(self) -> CustomSloJudgement | None:
        """An enforced bound that fails."""
        return next((slo for slo in self.custom_slos if slo.failing_bound), None)

    @property
    def worse_by_custom_slo(self) -> bool:
        """Whether EKS is worse, and most by a custom SLO."""
        return self.legs.worse and any(slo.gate.name == self.legs.main_metric for slo in self.custom_slos)

    @property
    def unmet(self) -> tuple[CustomSloJudgement, ...]:
        """Enforced custom SLOs that do not pass, and so keep the next step from beginning."""
        return tuple(slo for slo in self.custom_slos if slo.gate.enforced and slo.verdict is not Verdict.PASS)

    @property
    def without_verdict(self) -> CustomSloJudgement | None:
        """An enforced custom SLO without a verdict, because its queries gave no usable answer."""
        return next((slo for slo in self.unmet if slo.verdict in _SILENT), None)

    @property
    def safe(self) -> bool:
        """Whether every enforced gate lets the next step begin."""
        return self.legs.safe and not self.unmet

    def missing(self, now: float, *, started: bool) -> Hold | None:
        """Return the hold for a gate that has had no verdict for too long.

        Before the first step (not ``started``) EKS often has no data yet, which is no reason to hold.
        """
        holds = (slo.hold(now) for slo in self.custom_slos if started or slo.verdict is not Verdict.NO_DATA)
        return next((hold for hold in holds if hold is not None), None)

    def outside(self) -> Hold | None:
        """Return the hold for an exceeded bound that is no reason to roll back, or not yet."""
        for slo in self.unmet:
            if slo.judgement is None and slo.verdict in (Verdict.FAIL, Verdict.UNDECIDED):
                message = f"gate {slo.gate.name}: {slo.sentence}; it goes on once the value is back inside"
                return Hold(HoldReason.BOUND_EXCEEDED, message)
        return None

    def sentence(self, name: str) -> str:
        """Return the sentence of a gate that compares the legs."""
        return next(
            (sentence(numbers_of(metric, self._kind(name))) for metric in self.legs.metrics if metric.name == name), ""
        )

    def _kind(self, name: str) -> GateKind:
        return GateKind.RATIO if any(slo.gate.name == name for slo in self.custom_slos) else GateKind.COMPARATIVE

    def status(self, queries: Mapping[str, str], *, mesh: bool) -> Deferred[GateStatus]:
        """Return the gates' entries for the status: most decisions are not written, and need none.

        Parameters
        ----------
        queries
            Dashboard queries: PromQL for the mesh's metrics, by metric.
        mesh
            Whether the mesh's metrics are judged yet.
        """
        own = {slo.gate.name for slo in self.custom_slos}
        compared = tuple(metric for metric in self.legs.metrics if metric.name not in own) if mesh else ()
        return Deferred(
            lambda: (*(_entry(metric, queries) for metric in compared), *self._custom_status()),
            outline=(
                *(GateOutline(metric.name, mode_of(metric), metric.verdict, metric.rule) for metric in compared),
                *(GateOutline(slo.gate.name, slo.gate.mode, slo.verdict, slo.gate) for slo in self.custom_slos),
            ),
        )

    def _custom_status(self) -> Iterator[GateStatus]:
        texts = shorten_together([query for slo in self.custom_slos for query in slo.gate.queries], LONGEST_QUERIES)
        left = iter(texts)
        return (slo.status(tuple(islice(left, len(slo.gate.queries)))) for slo in self.custom_slos)

    def evidence(self) -> EvidenceStatus:
        """Return the evidence of all comparisons together."""
        return evidence_of(self.legs)

    def summary(self, *, observed: bool, at_full: bool) -> str:
        """Summarize the gates in a word or two, for the table of ``kubectl get``.

        Evidence multiplies, so that its logarithm shows how much of the way to the limit is done: in percent.
        """
        legs = self.legs
        if not observed:
            return ""
        if legs.worse:
            return f"worse ({legs.main_metric})"
        if bound := self.failing_bound:
            return f"exceeded ({bound.gate.name})"
        if legs.harm >= legs.harm_limit / 10:
            return f"harm {_percent(legs.harm, legs.harm_limit)}"
        if slo := self.without_verdict:
            return f"{slo.verdict} ({slo.gate.name})"
        if at_full:
            return "no harm seen"  # there is no next step to be safe for
        if self.safe:
            return "safe"
        if legs.safe:
            return f"{self.unmet[0].verdict} ({self.unmet[0].gate.name})"
        return _percent(legs.safety, legs.safety_limit)


def _percent(evidence: float, limit: float) -> str:
    """Return how much of the way to a limit is done. It is 100 % only at the limit, and 0 % where nothing was gained."""
    return f"{min(99, int(100 * math.log(max(evidence, 1.0)) / math.log(limit)))} %"


def _entry(metric: MetricJudgement, queries: Mapping[str, str]) -> GateStatus:
    """Return the status entry of a metric of the mesh."""
    numbers = numbers_of(metric)
    return gate_status(
        numbers,
        sentence(numbers),
        samples=round(metric.heroku_total + metric.eks_total),
        queries=(queries[metric.name],) if metric.name in queries else (),
    )


class GateEdit(NamedTuple):
    """A gate that was removed or judges otherwise than before, and what is other in words for the ledger."""

    gate: str
    text: str


def edits(before: Sequence[GateStatus], after: Deferred[GateStatus]) -> tuple[GateEdit, ...]:
    """Return which gates were removed or judge otherwise than before."""
    if isinstance(before, Deferred) and _terms(before) == _terms(after):  # nearly always, and quickly told
        return ()
    now = {gate.name: gate for gate in after}
    said = list[GateEdit]()
    for old in before:
        new = now.get(old.name)
        if new is None:
            was = f" ({limits(old.kind, old.limits)})" if old.limits else ""
            said.append(GateEdit(old.name, f"{old.name} was removed{was}"))
            continue
        if old.mode is not new.mode:
            said.append(GateEdit(old.name, f"{old.name}: {old.mode} → {new.mode}"))
        if old.limits is not None and new.limits is not None:  # what an unknown limit was cannot be told
            if old.kind is not new.kind:
                said.append(GateEdit(old.name, f"{old.name}: {old.kind} → {new.kind}, {limits(new.kind, new.limits)}"))
                continue
            if old.limits != new.limits:
                said.append(
                    GateEdit(old.name, f"{old.name}: {limits(old.kind, old.limits)} → {limits(new.kind, new.limits)}")
                )
        if None not in (old.query_digest, new.query_digest) and old.query_digest != new.query_digest:
            said.append(GateEdit(old.name, f"{old.name} has other queries"))
    return tuple(said)


def _terms(gates: Deferred[GateStatus]) -> list[tuple[object, ...]]:
    """Return what an edit changes of gates."""
    return [(gate.name, gate.mode, gate.judged_by) for gate in gates.outline]


def assess(mesh: Judgement, custom_slos: Sequence[CustomSloJudgement]) -> Assessment:
    """Combine the judgement of the mesh's metrics with those of the custom SLOs."""
    ratios = [RatioJudgement(slo.gate.name, slo.judgement) for slo in custom_slos if slo.judgement is not None]
    legs = combine(mesh, ratios)
    by_name = {metric.name: metric for metric in legs.metrics}
    combined = []
    for slo in custom_slos:
        metric = by_name.get(slo.gate.name)
        # Beside other gates a ratio has only a part of the money, and its verdict is about that part. Proven harm stays
        # proven without new data; without proven harm, missing data must stay visible.
        if metric is not None and (slo.verdict not in _SILENT or metric.verdict is Verdict.FAIL):
            slo = replace(slo, verdict=metric.verdict, why="")
        combined.append(replace(slo, metric=metric))
    return Assessment(legs, tuple(combined))
