"""The judge of custom SLOs: evidence of each ratio, and the verdict of each gate."""

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
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.edits import follow_release
from cutover.domain.evidence.ingest import GAPS_UNTIL_NO_DATA, keep, load
from cutover.domain.evidence.judge import (
    Evidence,
    GateRules,
    Judgement,
    MetricJudgement,
    MetricRule,
    begin_step,
    consume,
    judge,
    learn,
)
from cutover.domain.evidence.numbers import finite, gate_status, numbers_of
from cutover.domain.evidence.sentences import sentence
from cutover.domain.evidence.tolerances import tolerance
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.slo import bounds
from cutover.domain.slo.bounds import BoundJudgement
from cutover.domain.slo.custom import CustomSlo, QueryProblem, SloReading
from cutover.domain.slo.ratio import block_length
from cutover.domain.texts import plain, shorten
from cutover.domain.verdicts import Verdict

#: Least tolerated fraction of a ratio at 100 %, where there is no control to compare with.
FLOOR = 0.01
#: Heroku events that are enough to know what is normal for a ratio. Fewer cannot tell `FLOOR` from ten times as much.
LEAST_REFERENCE = 100.0
#: Characters of a sentence in the status, because Prometheus' error messages can be of any length.
LONGEST_SENTENCE = 240
#: Seconds without a verdict after which a gate holds the plan. Nothing advances before that either.
GRACE_SECONDS: Mapping[Verdict, float] = {Verdict.NO_DATA: 90.0, Verdict.QUERY_ERROR: 30.0, Verdict.AMBIGUOUS: 0.0}
_HOLDS = {
    Verdict.NO_DATA: HoldReason.NO_DATA,
    Verdict.QUERY_ERROR: HoldReason.QUERY_ERROR,
    Verdict.AMBIGUOUS: HoldReason.AMBIGUOUS,
}


@dataclass(frozen=True, slots=True)
class CustomSloJudgement:
    """The judgement of one custom SLO.

    Parameters
    ----------
    gate
        The custom SLO.
    verdict
        Its verdict.
    why
        Why there is no verdict, for people; ``""`` if the numbers say it.
    since
        Unix seconds since when there is no verdict, if it is NO_DATA, QUERY_ERROR or AMBIGUOUS; else 0.
    judgement
        The judgement of a ratio by itself; ``None`` for a bound.
    metric
        The ratio's metric; once combined with other gates, with its part of the evidence.
    bound
        The judgement of a bound's values; ``None`` for a ratio.
    baseline
        The value of a bound's query before the migration, if it is known.
    values
        How many values of a bound were judged.
    unseen
        The weight, while a bound that would fail waits for the gateway to show this weight; else ``None``.
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
        """Whether it is an enforced bound that fails."""
        return self.gate.enforced and isinstance(self.gate.slo, BoundSlo) and self.verdict is Verdict.FAIL

    @property
    def numbers(self) -> GateNumbers:
        """The judgement as numbers."""
        if self.metric is not None:
            metric = self.metric._replace(verdict=self.verdict)
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
        """The judgement as a sentence, for people."""
        text = self.why or sentence(self.numbers)
        return text if self.unseen is None else f"{text}; {self.unseen} % is not seen at the gateway yet"

    def status(self, queries: tuple[str, ...]) -> GateStatus:
        """Return the entry for the status, with its queries, which the caller has shortened."""
        counted = self.metric.heroku_total + self.metric.eks_total if self.metric is not None else self.values
        return gate_status(
            self.numbers,
            plain(shorten(self.sentence, LONGEST_SENTENCE)),
            samples=round(counted),
            queries=queries,
            query_digest=self.gate.query_digest,
        )

    def hold(self, now: float) -> Hold | None:
        """Return the hold for a verdict that has been missing for too long."""
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
    """Return the judge's rules for one custom SLO that compares the legs. Each such SLO has a separate wager.

    The rules do not depend on the mode: while the SLO is only observed, its part of the money is kept for it, so that its
    evidence counts when it is enforced.
    """
    rule = MetricRule("errors", 1.0, tolerance(slo.tolerate), tolerance(slo.advance), FLOOR)
    return GateRules(
        alpha=spec.gates.false_rollback_rate,
        warm_up_seconds=spec.gates.warm_up.total_seconds(),
        metrics=(rule,),
        alive_stake=0.0,
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
    safety_from: float = 0.0,
) -> tuple[CustomSloEvidence, ...]:
    """Ingest the blocks of custom SLOs that compare the legs, if they lie after the weight was observed.

    Evidence belongs to a gate by its name: the evidence of a removed gate is dropped, and a gate with other queries or
    limits under the same name begins anew.

    Parameters
    ----------
    checkpoint
        The evidence so far.
    gates, readings
        The plan's custom SLOs, and what was read for them, by name.
    weight, next_weight
        Percent of requests to EKS now and after the next advance.
    observed_at
        Unix seconds at which the gateway showed the weight; ``None`` if it has not yet.
    restarted
        Whether the evidence of safety is earned anew, because the next weight was raised.
    safety_from
        Unix seconds from which on blocks are evidence of safety: a leg changed what it runs.
    """
    known = {kept.gate: kept for kept in checkpoint.custom_slos}
    ingested = []
    for custom in gates:
        if not isinstance(custom.slo, RatioSlo):
            continue
        before = known.get(custom.name) or CustomSloEvidence(
            gate=custom.name, consumed_until=checkpoint.consumed_until
        )
        blocks = readings[custom.name].blocks if custom.name in readings else ()
        evidence, until, gaps = _of_use(before, custom), before.consumed_until, before.gaps
        if restarted:
            evidence = begin_step(evidence)
        if until < safety_from:
            evidence = follow_release(evidence)
        rules = ratio_rules(custom.slo, spec)
        for block in blocks:
            if not until <= block.start < block.end:
                continue
            until, gaps = block.end, 0 if block.usable else gaps + 1
            if observed_at is None or block.start < observed_at:
                continue
            if weight == 0:
                # EKS has no weight yet. Its counts are dropped: an impossible count would make the evidence unreadable.
                evidence = learn(evidence, replace(block, eks=Counts()), rules)
            elif weight < 100 or _reference(evidence) >= LEAST_REFERENCE:
                evidence = consume(
                    evidence, block, rules=rules, weight=weight, next_weight=next_weight, observed_at=observed_at
                )
                if block.start < safety_from:
                    evidence = follow_release(evidence)
        ingested.append(
            CustomSloEvidence(
                gate=custom.name,
                query_digest=custom.query_digest,
                limit_digest=custom.limit_digest,
                consumed_until=until,
                gaps=gaps,
                evidence=keep(evidence),
            )
        )
    return tuple(ingested)


def _of_use(before: CustomSloEvidence, custom: CustomSlo) -> Evidence:
    """Return the evidence that still applies to the current queries and limits, as plans may be edited at any time."""
    evidence = load(before.evidence)
    if before.query_digest not in ("", custom.query_digest):
        return Evidence()
    if before.limit_digest in ("", custom.limit_digest):
        return evidence
    # With other limits, what is normal for Heroku stays, and spent money stays spent.
    return begin_step(evidence)._replace(harm={}, observed={})


def begin_step_of_custom_slos(kept: Iterable[CustomSloEvidence]) -> tuple[CustomSloEvidence, ...]:
    """Return the evidence of all custom SLOs with which a new step starts."""
    return tuple(slo.evolve(evidence=keep(begin_step(load(slo.evidence)))) for slo in kept)


def judge_custom_slos(
    checkpoint: Checkpoint,
    gates: Iterable[CustomSlo],
    readings: Mapping[str, SloReading],
    *,
    spec: MigrationPlanSpec,
    block_seconds: int,
    baselines: Mapping[str, float],
    weight: int,
    next_weight: int,
    now: float,
) -> tuple[CustomSloJudgement, ...]:
    """Judge each custom SLO.

    Parameters
    ----------
    checkpoint
        The checkpoint with the evidence so far.
    block_seconds
        Length of the plan's blocks.
    baselines
        The values of bounds' queries before the migration, by gate.
    now
        Unix seconds.
    """
    known = {kept.gate: kept for kept in checkpoint.custom_slos}
    judgements = []
    for custom in gates:
        reading = readings.get(custom.name, SloReading())
        match custom.slo:
            case BoundSlo():
                judgements.append(
                    _judge_bound(custom, custom.slo, reading, checkpoint, baselines.get(custom.name), weight, now)
                )
            case RatioSlo():
                evidence = known.get(custom.name)
                length = block_length(block_seconds, custom.slo.scrape_interval.total_seconds())
                judged = _judge_ratio(custom, custom.slo, reading, evidence, spec, length, weight, next_weight, now)
                started = checkpoint.observed_at or checkpoint.weight_since
                judgements.append(replace(judged, since=max(judged.since, started)) if judged.since else judged)
    return tuple(judgements)


def _judge_bound(
    custom: CustomSlo,
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
        gate=custom,
        verdict=Verdict.UNDECIDED if unseen else judged.verdict,
        why=judged.why,
        since=max(reading.problem.since, since) if reading.problem else since,
        bound=judged,
        baseline=baseline if slo.times_baseline is not None and bounds.of_use(baseline) else None,
        values=len(reading.points),
        unseen=weight if unseen else None,
    )


def _judge_ratio(
    custom: CustomSlo,
    slo: RatioSlo,
    reading: SloReading,
    evidence: CustomSloEvidence | None,
    spec: MigrationPlanSpec,
    length: int,
    weight: int,
    next_weight: int,
    now: float,
) -> CustomSloJudgement:
    judgement = judge(
        load(evidence.evidence if evidence else Opaque()),
        rules=ratio_rules(slo, spec),
        weight=weight,
        next_weight=next_weight,
    )
    metric = judgement.metrics[0]._replace(name=custom.name, enforced=custom.enforced)
    judgement = judgement._replace(metrics=(metric,))
    said = CustomSloJudgement(gate=custom, verdict=metric.verdict, judgement=judgement, metric=metric)
    problem = reading.problem or _silence(evidence, reading, length, now)
    if problem is None and weight == 100:
        problem = _incomparable(load(evidence.evidence if evidence else Opaque()))
    if problem is None:
        return said
    return replace(said, verdict=problem.verdict, why=problem.message, since=problem.since)


def _reference(evidence: Evidence) -> float:
    """Return the number of Heroku events that are known."""
    return evidence.reference.requests + sum(slot.heroku.requests for slot in evidence.recent)


def _incomparable(evidence: Evidence) -> QueryProblem | None:
    """Return the problem that at 100 % there is nothing to compare with: too few Heroku events were counted before."""
    seen = _reference(evidence)
    if seen >= LEAST_REFERENCE:
        return None
    message = (
        f"only {seen:,.0f} Heroku events are known, {LEAST_REFERENCE:.0f} are needed, and at 100 % no more will come;"
        " set mode: Observe, or lower spec.ceiling to compare the legs again"
    )
    return QueryProblem(Verdict.NO_DATA, message, 0.0)


def _silence(evidence: CustomSloEvidence | None, reading: SloReading, length: int, now: float) -> QueryProblem | None:
    """Return the problem that no blocks come, or none that can be judged."""
    if evidence is None:
        return None
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
