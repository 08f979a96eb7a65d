"""Judging custom SLOs: evidence of each ratio, and what each gate says now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from cutover.api.opaque import Opaque
from cutover.api.v1alpha1 import (
    Checkpoint,
    CustomSloEvidence,
    GateKind,
    GateLimits,
    GateNumbers,
    GateStatus,
    MigrationPlanSpec,
)
from cutover.api.v1alpha1.gates import BoundSlo, RatioSlo
from cutover.domain.evidence import judge as gate
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.ingest import GAPS_UNTIL_NO_DATA, keep, load
from cutover.domain.evidence.judge import GateRules, Judgement, MetricJudgement, MetricRule
from cutover.domain.evidence.numbers import finite, numbers_of, told
from cutover.domain.evidence.sentences import sentence
from cutover.domain.evidence.tolerances import tolerance
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.slo import bounds
from cutover.domain.slo.bounds import BoundJudgement
from cutover.domain.slo.custom import CustomSlo, QueryProblem, SloReading
from cutover.domain.slo.series import block_length
from cutover.domain.texts import shorten
from cutover.domain.verdicts import Verdict

#: Tolerated fraction of a ratio where there is no control to compare with, at least.
FLOOR = 0.01
#: Events of Heroku's from which it is known what is normal for a ratio. Fewer do not tell `FLOOR` from ten times as much.
LEAST_REFERENCE = 100.0
#: Characters of a sentence in the status: what Prometheus says of a query has no end.
LONGEST_SENTENCE = 240
#: Seconds for which a gate may be without a verdict until that is a hold. Until then nothing advances either.
GRACE_SECONDS: Mapping[Verdict, float] = {Verdict.NO_DATA: 90.0, Verdict.QUERY_ERROR: 30.0, Verdict.AMBIGUOUS: 0.0}
_HOLDS = {
    Verdict.NO_DATA: HoldReason.NO_DATA,
    Verdict.QUERY_ERROR: HoldReason.QUERY_ERROR,
    Verdict.AMBIGUOUS: HoldReason.AMBIGUOUS,
}


@dataclass(frozen=True, slots=True)
class CustomSloJudgement:
    """What is said of a custom SLO.

    Parameters
    ----------
    gate
        The gate.
    verdict
        What it says.
    why
        Why there is no verdict, for people; ``""`` where the numbers say it.
    since
        Unix seconds since when there is no verdict, where it is NO_DATA, QUERY_ERROR or AMBIGUOUS; else 0.
    judgement
        The evidence of a ratio, ``None`` of a bound.
    metric
        What of it is said of the ratio; in company its part of the evidence.
    bound
        What is said of a bound's values, ``None`` of a ratio.
    baseline
        What a bound's query gave before anything moved, if that is known.
    values
        Values of a bound that were judged.
    unseen
        Percent to EKS that a bound's value is judged for and that is not seen at the gateway yet, else ``None``.
    """

    gate: CustomSlo
    verdict: Verdict
    why: str = ""
    since: float = 0.0
    judgement: Judgement | None = None
    metric: MetricJudgement | None = None
    bound: BoundJudgement | None = None
    baseline: float | None = None
    values: int = 0
    unseen: int | None = None

    @property
    def failing_bound(self) -> bool:
        """Whether it is a bound that decides, and fails."""
        return self.gate.enforced and isinstance(self.gate.slo, BoundSlo) and self.verdict is Verdict.FAIL

    @property
    def numbers(self) -> GateNumbers:
        """The same as numbers."""
        if self.metric is not None:
            metric = replace(self.metric, verdict=self.verdict)
            return numbers_of(metric, GateKind.RATIO)
        bound = self.bound or BoundJudgement(self.verdict)
        outside = bound.outside_seconds
        return GateNumbers(
            name=self.gate.name,
            verdict=self.verdict,
            kind=GateKind.BOUND,
            mode=self.gate.mode,
            limits=bound_limits(self.gate.slo) if isinstance(self.gate.slo, BoundSlo) else None,
            value=finite(bound.number),
            outside_seconds=round(outside) if outside is not None else None,
            baseline=finite(self.baseline),
        )

    @property
    def sentence(self) -> str:
        """The same for people."""
        said = self.why or sentence(self.numbers)
        return said if self.unseen is None else f"{said}; {self.unseen} % is not seen at the gateway yet"

    def status(self, queries: tuple[str, ...]) -> GateStatus:
        """Return the same as an entry of the status, with the queries as far as there is room for them."""
        counted = self.metric.heroku_total + self.metric.eks_total if self.metric is not None else self.values
        return told(
            self.numbers,
            shorten(self.sentence, LONGEST_SENTENCE),
            samples=round(counted),
            queries=queries,
            query_digest=self.gate.query_digest,
        )

    def hold(self, now: float) -> Hold | None:
        """Return the hold for want of a verdict, once it has been missing for too long."""
        grace = GRACE_SECONDS.get(self.verdict)
        if not self.gate.enforced or grace is None or now - self.since < grace:
            return None
        return Hold(_HOLDS[self.verdict], f"gate {self.gate.name}: {self.sentence}")


def bound_limits(slo: BoundSlo) -> GateLimits:
    """Return what a bound tolerates."""
    return GateLimits(
        min=finite(slo.min, 15),
        max=finite(slo.max, 15),
        times_baseline=slo.times_baseline,
        for_seconds=slo.for_.total_seconds(),
    )


def ratio_rules(slo: RatioSlo, spec: MigrationPlanSpec) -> GateRules:
    """Return the judge's rules for one custom SLO that compares the legs. It has a wager of its own.

    Its mode is none of them: its share of the money is kept for it while it is only observed, so that it goes on with its
    evidence when it is enforced.
    """
    rule = MetricRule("errors", 1.0, tolerance(slo.tolerate), tolerance(slo.advance), FLOOR)
    return GateRules(
        alpha=spec.gates.false_rollback_rate,
        block_seconds=spec.gates.block.total_seconds(),
        warm_up_seconds=spec.gates.warm_up.total_seconds(),
        metrics=(rule,),
        alive_weight=0.0,
    )


def ingest_custom_slos(
    checkpoint: Checkpoint,
    gates: Iterable[CustomSlo],
    readings: Mapping[str, SloReading],
    *,
    spec: MigrationPlanSpec,
    weight: int,
    next_weight: int,
    observed_at: float | None,
    restarted: bool,
) -> tuple[CustomSloEvidence, ...]:
    """Consume the blocks of custom SLOs that compare the legs, as far as they lie after the weight was observed.

    Evidence belongs to a gate by its name: a gate that is gone leaves none behind. Of other queries or limits under the
    same name it begins anew.

    Parameters
    ----------
    checkpoint
        What is known before.
    gates, readings
        The plan's custom SLOs, and what became known of them.
    weight, next_weight
        Percent of requests to EKS now and after the next advance.
    observed_at
        Unix seconds at which the weight was seen at the gateway.
    restarted
        Whether the evidence of safety is to be earned anew, because the next weight was raised.
    """
    known = {one.gate: one for one in checkpoint.custom_slos}
    ingested = []
    for own in gates:
        if not isinstance(own.slo, RatioSlo):
            continue
        before = known.get(own.name) or CustomSloEvidence(gate=own.name, consumed_until=checkpoint.consumed_until)
        blocks = readings[own.name].blocks if own.name in readings else ()
        evidence, until, gaps = _of_use(before, own), before.consumed_until, before.gaps
        if restarted:
            evidence = gate.begin_step(evidence)
        rules = ratio_rules(own.slo, spec)
        for block in blocks:
            if not until <= block.start < block.end:
                continue
            until, gaps = block.end, 0 if block.usable else gaps + 1
            if observed_at is None or block.start < observed_at:
                continue
            if weight == 0:
                # Of EKS there is nothing to learn yet, and what cannot be would make the evidence unreadable.
                evidence = gate.learn(evidence, replace(block, eks=Counts()), rules)
            elif weight < 100 or _reference(evidence) >= LEAST_REFERENCE:
                evidence = gate.consume(
                    evidence, block, rules=rules, weight=weight, next_weight=next_weight, observed_at=observed_at
                )
        ingested.append(
            CustomSloEvidence(
                gate=own.name,
                query_digest=own.query_digest,
                limit_digest=own.limit_digest,
                consumed_until=until,
                gaps=gaps,
                evidence=keep(evidence),
            )
        )
    return tuple(ingested)


def _of_use(before: CustomSloEvidence, own: CustomSlo) -> gate.Evidence:
    """Return the evidence as far as it is about what is asked and tolerated now: people edit plans at any time."""
    evidence = load(before.evidence)
    if before.query_digest not in ("", own.query_digest):
        return gate.Evidence()
    if before.limit_digest in ("", own.limit_digest):
        return evidence
    # Other limits: what is normal for Heroku stays, and so does what was spent of the money.
    return gate.begin_step(evidence)._replace(harm={}, observed={})


def begin_step(own: Iterable[CustomSloEvidence]) -> tuple[CustomSloEvidence, ...]:
    """Return the evidence with which a new step starts."""
    return tuple(one.model_copy(update={"evidence": keep(gate.begin_step(load(one.evidence)))}) for one in own)


def judge_custom_slos(
    checkpoint: Checkpoint,
    gates: Iterable[CustomSlo],
    readings: Mapping[str, SloReading],
    *,
    spec: MigrationPlanSpec,
    baselines: Mapping[str, float],
    weight: int,
    next_weight: int,
    now: float,
) -> tuple[CustomSloJudgement, ...]:
    """Say what each of custom SLOs says now.

    Parameters
    ----------
    checkpoint
        With the evidence up to now.
    baselines
        What bounds' queries gave before anything moved, by gate.
    now
        Unix seconds.
    """
    known = {one.gate: one for one in checkpoint.custom_slos}
    said = []
    for own in gates:
        reading = readings.get(own.name, SloReading())
        match own.slo:
            case BoundSlo():
                said.append(_judge_bound(own, own.slo, reading, checkpoint, baselines.get(own.name), weight, now))
            case RatioSlo():
                evidence = known.get(own.name)
                one = _judge_ratio(own, own.slo, reading, evidence, spec, weight, next_weight, now)
                started = checkpoint.observed_at or checkpoint.weight_since
                said.append(replace(one, since=max(one.since, started)) if one.since else one)
    return tuple(said)


def _judge_bound(
    own: CustomSlo,
    slo: BoundSlo,
    reading: SloReading,
    checkpoint: Checkpoint,
    baseline: float | None,
    weight: int,
    now: float,
) -> CustomSloJudgement:
    since = checkpoint.observed_at if checkpoint.observed_at is not None else checkpoint.weight_since
    judged = bounds.judge(slo, reading, baseline=baseline, since=since if weight else 0.0, now=now)
    unseen = weight and checkpoint.observed_at is None and judged.verdict is Verdict.FAIL
    return CustomSloJudgement(
        gate=own,
        verdict=Verdict.UNDECIDED if unseen else judged.verdict,
        why=judged.why,
        since=max(reading.problem.since, since) if reading.problem else since,
        bound=judged,
        baseline=baseline if slo.times_baseline is not None and bounds.of_use(baseline) else None,
        values=len(reading.points),
        unseen=weight if unseen else None,
    )


def _judge_ratio(
    own: CustomSlo,
    slo: RatioSlo,
    reading: SloReading,
    evidence: CustomSloEvidence | None,
    spec: MigrationPlanSpec,
    weight: int,
    next_weight: int,
    now: float,
) -> CustomSloJudgement:
    judgement = gate.judge(
        load(evidence.evidence if evidence else Opaque()),
        rules=ratio_rules(slo, spec),
        weight=weight,
        next_weight=next_weight,
    )
    metric = replace(judgement.metrics[0], name=own.name, enforced=own.enforced)
    judgement = replace(judgement, metrics=(metric,))
    said = CustomSloJudgement(gate=own, verdict=metric.verdict, judgement=judgement, metric=metric)
    problem = reading.problem or _silence(slo, evidence, reading, spec, now)
    if problem is None and weight == 100:
        problem = _incomparable(load(evidence.evidence if evidence else Opaque()))
    if problem is None:
        return said
    return replace(said, verdict=problem.verdict, why=problem.message, since=problem.since)


def _reference(evidence: gate.Evidence) -> float:
    """Return how many events of Heroku's are known."""
    return evidence.reference.requests + sum(slot.heroku.requests for slot in evidence.recent)


def _incomparable(evidence: gate.Evidence) -> QueryProblem | None:
    """Return that at full weight there is nothing to compare with: the gate was added late, or hardly saw Heroku."""
    seen = _reference(evidence)
    if seen >= LEAST_REFERENCE:
        return None
    message = (
        f"only {seen:,.0f} events of Heroku's are known, {LEAST_REFERENCE:.0f} are needed, and at 100 % no more will come;"
        " set mode: Observe, or lower spec.ceiling to compare the legs again"
    )
    return QueryProblem(Verdict.NO_DATA, message, 0.0)


def _silence(
    slo: RatioSlo, evidence: CustomSloEvidence | None, reading: SloReading, spec: MigrationPlanSpec, now: float
) -> QueryProblem | None:
    """Return that no blocks come, or none that can be judged."""
    if evidence is None:
        return None
    length = block_length(int(spec.gates.block.total_seconds()), slo.scrape_interval.total_seconds())
    if now - evidence.consumed_until > 4 * length + 5:
        message = (
            f"no counts have come for {round(now - evidence.consumed_until)} s; ask its queries in Prometheus:"
            " are the counters scraped?"
        )
        return QueryProblem(Verdict.NO_DATA, message, evidence.consumed_until)
    if evidence.gaps >= GAPS_UNTIL_NO_DATA:
        gap = next((block.gap for block in reversed(reading.blocks) if block.gap), "samples are missing or contradict")
        message = f"the last {evidence.gaps} blocks could not be judged: {gap}"
        return QueryProblem(Verdict.NO_DATA, message, evidence.consumed_until - evidence.gaps * length)
    return None
