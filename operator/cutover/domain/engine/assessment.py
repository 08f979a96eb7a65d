"""What all gates of a plan say together: whether EKS is worse, whether the next step is safe, and what people see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from cutover.api.v1alpha1 import EvidenceStatus, GateKind, GateStatus
from cutover.domain.evidence import judge as gate
from cutover.domain.evidence.judge import Judgement, MetricJudgement
from cutover.domain.evidence.numbers import evidence_of, numbers_of, told
from cutover.domain.evidence.sentences import limits, sentence
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.slo.judge import CustomSloJudgement
from cutover.domain.texts import share_out
from cutover.domain.verdicts import Verdict

#: Characters of the queries of custom SLOs in the status, together.
LONGEST_QUERIES = 2400

_SILENT = (Verdict.NO_DATA, Verdict.QUERY_ERROR, Verdict.AMBIGUOUS)


@dataclass(frozen=True, slots=True)
class Assessment:
    """What the gates say now.

    Parameters
    ----------
    legs
        What all comparisons of the legs say, in one test: the mesh's own metrics and the custom SLOs.
    own
        What each custom SLO says.
    """

    legs: Judgement
    own: tuple[CustomSloJudgement, ...] = ()

    @property
    def failing_bound(self) -> CustomSloJudgement | None:
        """A bound that decides, and fails."""
        return next((one for one in self.own if one.failing_bound), None)

    @property
    def unmet(self) -> tuple[CustomSloJudgement, ...]:
        """Custom SLOs that decide, and do not let the next step begin."""
        return tuple(one for one in self.own if one.gate.enforced and one.verdict is not Verdict.PASS)

    @property
    def mute(self) -> CustomSloJudgement | None:
        """A custom SLO that decides, and has no verdict for want of an answer."""
        return next((one for one in self.unmet if one.verdict in _SILENT), None)

    @property
    def safe(self) -> bool:
        """Whether every gate that decides lets the next step begin."""
        return self.legs.safe and not self.unmet

    def missing(self, now: float, *, started: bool) -> Hold | None:
        """Return the hold for a gate that has had no verdict for too long.

        Before the first step (not ``started``) there is often nothing to see of EKS yet: that holds nothing.
        """
        holds = (one.hold(now) for one in self.own if started or one.verdict is not Verdict.NO_DATA)
        return next((hold for hold in holds if hold is not None), None)

    def outside(self) -> Hold | None:
        """Return the hold for a bound that is exceeded where there is nothing to go back from, or not yet."""
        for one in self.unmet:
            if one.judgement is None and one.verdict in (Verdict.FAIL, Verdict.UNDECIDED):
                message = f"gate {one.gate.name}: {one.sentence}; it goes on once the value is back inside"
                return Hold(HoldReason.BOUND_EXCEEDED, message)
        return None

    def sentence(self, name: str) -> str:
        """Return what a gate says of the legs, for people."""
        return next(
            (sentence(numbers_of(metric, self._kind(name))) for metric in self.legs.metrics if metric.name == name), ""
        )

    def _kind(self, name: str) -> GateKind:
        return GateKind.RATIO if any(one.gate.name == name for one in self.own) else GateKind.COMPARATIVE

    def status(self, queries: Mapping[str, str], *, mesh: bool) -> tuple[GateStatus, ...]:
        """Return the entries of the status.

        Parameters
        ----------
        queries
            PromQL to look at the mesh's own metrics, by name.
        mesh
            Whether these are judged yet.
        """
        queries_of = iter(share_out([query for one in self.own for query in one.gate.queries], LONGEST_QUERIES))
        own = {one.gate.name: one.status(tuple(islice(queries_of, len(one.gate.queries)))) for one in self.own}
        compared = tuple(_entry(metric, queries) for metric in self.legs.metrics if metric.name not in own)
        return (*(compared if mesh else ()), *own.values())

    def evidence(self) -> EvidenceStatus:
        """Return the evidence of all together."""
        return evidence_of(self.legs)

    def summary(self, *, observed: bool, at_full: bool) -> str:
        """Say the same in a word or two, for the table."""
        legs = self.legs
        if not observed:
            return ""
        if legs.worse:
            return f"worse ({legs.main_metric})"
        if bound := self.failing_bound:
            return f"exceeded ({bound.gate.name})"
        if legs.harm >= legs.harm_limit / 10:
            return f"harm {legs.harm:.0f}/{legs.harm_limit:.0f}"
        if mute := self.mute:
            return f"{mute.verdict} ({mute.gate.name})"
        if at_full:
            return "not worse"  # there is no next step to be safe for
        if self.safe:
            return "safe"
        if legs.safe:
            return f"{self.unmet[0].verdict} ({self.unmet[0].gate.name})"
        return f"safe {legs.safety:.2g}/{legs.safety_limit:.0f}"


def _entry(metric: MetricJudgement, queries: Mapping[str, str]) -> GateStatus:
    """Return the entry of one of the mesh's own metrics."""
    numbers = numbers_of(metric)
    return told(
        numbers,
        sentence(numbers),
        samples=round(metric.heroku_total + metric.eks_total),
        queries=(queries[metric.name],) if metric.name in queries else (),
    )


def edits(before: Sequence[GateStatus], after: Sequence[GateStatus]) -> tuple[str, ...]:
    """Return, in words for the ledger, which gates guard less or otherwise than a moment ago."""
    now = {one.name: one for one in after}
    said = []
    for old in before:
        new = now.get(old.name)
        if new is None:
            said.append(f"{old.name} was removed" + (f" ({limits(old.kind, old.limits)})" if old.limits else ""))
            continue
        if old.mode is not new.mode:
            said.append(f"{old.name}: {old.mode} → {new.mode}")
        if old.limits is not None and new.limits is not None:  # where it is not known what it was, nothing is told
            if old.kind is not new.kind:
                said.append(f"{old.name}: {old.kind} → {new.kind}, {limits(new.kind, new.limits)}")
                continue
            if old.limits != new.limits:
                said.append(f"{old.name}: {limits(old.kind, old.limits)} → {limits(new.kind, new.limits)}")
        if None not in (old.query_digest, new.query_digest) and old.query_digest != new.query_digest:
            said.append(f"{old.name} has other queries")
    return tuple(said)


def assess(mesh: Judgement, own: Sequence[CustomSloJudgement]) -> Assessment:
    """Put together what the mesh's own metrics say and what the custom SLOs say."""
    ratios = [gate.SideSlo(one.gate.name, one.judgement) for one in own if one.judgement is not None]
    legs = gate.combine(mesh, ratios)
    by_name = {metric.name: metric for metric in legs.metrics}
    said = []
    for one in own:
        metric = by_name.get(one.gate.name)
        # In company a ratio has a part of the money only; what it says is that part. Harm that is proven stays so without
        # new data; what is not proven must not hide that there are none.
        if metric is not None and (one.verdict not in _SILENT or metric.verdict is Verdict.FAIL):
            one = replace(one, verdict=metric.verdict, why="")
        one = replace(one, metric=metric)
        said.append(one)
    return Assessment(legs, tuple(said))
