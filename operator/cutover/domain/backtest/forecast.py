"""The result of a replay: figures of all runs, and their sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from cutover.api.durations import span
from cutover.api.v1alpha1 import BacktestStatus, BacktestStep, MigrationPlanSpec
from cutover.domain.backtest.climbing import Climb, Rung
from cutover.domain.backtest.few_requests import ways
from cutover.domain.backtest.record import Record
from cutover.domain.backtest.splitting import Split
from cutover.domain.evidence.judge import GateRules, least_requests

#: A step is short of traffic with less than this many times the requests that half of the runs need.
SCARCE = 5.0
#: Chance that the interval of the rate misses the true rate.
INTERVAL_MISS = 0.05


@dataclass(frozen=True, slots=True)
class StepForecast:
    """The forecast for one step, from the runs that reached it.

    Parameters
    ----------
    weight, next_weight
        Percent of requests to EKS.
    requests
        EKS requests for a proof of safety: the median, or the fewest possible if no run had a proof.
    proven_seconds, slowest_proven_seconds
        Seconds from the confirmation of the weight to the proof of safety: the median, and what 9 of 10 runs stay below;
        infinite if that many runs had no proof.
    seconds, slowest_seconds
        Seconds at the weight, the hold included: the median, and what 9 of 10 runs stay below. A stuck run counts until
        it was given up.
    rolled_back, undecided, record_ended
        Runs that ended at this step.
    """

    weight: int
    next_weight: int
    requests: float
    proven_seconds: float
    slowest_proven_seconds: float
    seconds: float
    slowest_seconds: float
    rolled_back: int
    undecided: int
    record_ended: int


@dataclass(frozen=True, slots=True)
class Forecast:
    """The result of a replay.

    Parameters
    ----------
    runs, false_rollbacks, stuck
        Replayed cutovers, those that were rolled back, and those that were stuck or reached the end of the record.
    low, high
        95 % interval of the false-rollback rate, by Clopper and Pearson. It is exact for independent runs; these runs
        overlap in time, see ``apart``.
    allowed
        The plan's ``falseRollbackRate``.
    apart
        How many cutovers fit into the record without overlap.
    seconds
        Median seconds of a whole cutover without the soak; ``None`` if no run got through.
    steps
        The steps that a run reached.
    split, instances
        How the record was split, and how many instances it has.
    record_seconds, rate, unusable
        Length of the record, its requests per second, and the fraction of its blocks that cannot be judged.
    notes
        Remarks on these figures, in sentences.
    """

    runs: int
    false_rollbacks: int
    stuck: int
    low: float
    high: float
    allowed: float
    apart: float
    seconds: float | None
    steps: tuple[StepForecast, ...]
    split: Split
    instances: int
    record_seconds: float
    rate: float
    unusable: float
    notes: tuple[str, ...] = field(default=())

    @property
    def within(self) -> bool:
        """Whether the runs do not contradict the plan's rate."""
        return self.low <= self.allowed

    def sentence(self) -> str:
        """Return the forecast in a few sentences."""
        by = f"{self.instances} gateway instances" if self.split == "instances" else "neighbouring blocks"
        said = (
            f"Of {self.runs} cutovers replayed on {span(self.record_seconds)} of Heroku's traffic ({per_second(self.rate)}, "
            f"split by {by}), {self.false_rollbacks} were rolled back with nothing to find: {percent(self.rate_seen)}, "
            f"between {percent(self.low)} and {percent(self.high)} with 95 % confidence, {percent(self.allowed)} allowed"
        )
        if self.stuck:
            said += f"; {self.stuck} got stuck"
        if self.seconds is not None:
            said += f"; half of the cutovers that got through took {span(self.seconds)} or less until 100 %"
        return " ".join((f"{said}.", *self.notes))

    @property
    def rate_seen(self) -> float:
        """The fraction of runs that were rolled back."""
        return self.false_rollbacks / self.runs

    def status(self) -> BacktestStatus:
        """Return the forecast for a plan's status."""
        return BacktestStatus(
            runs=self.runs,
            false_rollbacks=self.false_rollbacks,
            stuck=self.stuck,
            seconds=None if self.seconds is None else round(self.seconds),
            steps=tuple(
                BacktestStep(
                    weight=step.weight,
                    requests=math.ceil(step.requests),
                    seconds=round(step.seconds),
                    slowest_seconds=round(step.slowest_seconds),
                )
                for step in self.steps
            ),
            message=self.sentence(),
        )


def impossible(reason: str) -> BacktestStatus:
    """Return the status for a replay that is not possible."""
    return BacktestStatus(runs=0, false_rollbacks=0, stuck=0, message=f"There is no forecast: {reason}")


def forecast_of(
    done: Sequence[Sequence[Climb]],
    spec: MigrationPlanSpec,
    rules: GateRules,
    rungs: Sequence[Rung],
    *,
    record: Record,
    split: Split,
    instances: int,
    rate: float,
    judged: int,
) -> Forecast:
    """Add up the runs.

    Parameters
    ----------
    done
        The climbs of each run.
    spec, rules, rungs
        What the plan says.
    record, split, instances, rate, judged
        The record, how it was split, its instances with requests, its requests per second, and how many blocks of a run it
        makes at the most.
    """
    steps = tuple(
        _step(rung, rules, climbs)
        for rung in rungs
        if (climbs := [climb for climb in chain.from_iterable(done) if climb.weight == rung.weight])
    )
    through = [sum(climb.seconds for climb in run) for run in done if run[-1].ending == "passed"]
    seconds = quantile(through, 0.5) if through else None
    rollbacks = sum(step.rolled_back for step in steps)
    low, high = clopper_pearson(rollbacks, len(done))
    typical = quantile([sum(climb.seconds for climb in run) for run in done], 0.5)
    apart = judged * record.block_seconds / typical
    return Forecast(
        runs=len(done),
        false_rollbacks=rollbacks,
        stuck=sum(step.undecided + step.record_ended for step in steps),
        low=low,
        high=high,
        allowed=spec.gates.false_rollback_rate,
        apart=apart,
        seconds=seconds,
        steps=steps,
        split=split,
        instances=instances,
        record_seconds=record.seconds,
        rate=rate,
        unusable=1 - record.usable / record.blocks,
        notes=(*_notes(spec, rungs, steps, runs=len(done), apart=apart, rate=rate), *ways(spec, rules, rate)),
    )


def _step(rung: Rung, rules: GateRules, climbs: Sequence[Climb]) -> StepForecast:
    # Runs that were rolled back or reached the end of the record do not show how long the step takes.
    timed = [climb for climb in climbs if climb.ending in ("passed", "undecided")] or climbs
    proofs = [math.inf if climb.proven_after is None else climb.proven_after for climb in timed]
    with_proof = [climb.proven_with for climb in timed if climb.proven_after is not None]
    return StepForecast(
        weight=rung.weight,
        next_weight=rung.next_weight,
        requests=quantile(with_proof, 0.5) if with_proof else least_requests(rules, rung.next_weight),
        proven_seconds=quantile(proofs, 0.5),
        slowest_proven_seconds=quantile(proofs, 0.9),
        seconds=quantile([climb.seconds for climb in timed], 0.5),
        slowest_seconds=quantile([climb.seconds for climb in timed], 0.9),
        rolled_back=sum(climb.ending == "rolled back" for climb in climbs),
        undecided=sum(climb.ending == "undecided" for climb in climbs),
        record_ended=sum(climb.ending == "record ended" for climb in climbs),
    )


def _notes(
    spec: MigrationPlanSpec,
    rungs: Sequence[Rung],
    steps: Sequence[StepForecast],
    *,
    runs: int,
    apart: float,
    rate: float,
) -> Iterator[str]:
    longest = {rung.weight: rung.longest for rung in rungs}
    for step in steps:
        if not step.undecided:
            continue
        brought = rate * step.weight / 100 * longest[step.weight]
        if brought < SCARCE * step.requests:
            why = f"{per_second(rate)} bring {brought:,.0f} EKS requests in that time, and it takes about {step.requests:,.0f}"
        else:
            why = "there is traffic enough, but errors or slow requests come in clumps"
        yield (
            f"The step at {step.weight} % was not proven safe within {span(longest[step.weight])} in "
            f"{_runs(step.undecided)}: {why}."
        )
    if ended := sum(step.record_ended for step in steps):
        yield f"In {_runs(ended)} the record ended first."
    if apart < runs / 2:
        yield (
            f"Only about {max(apart, 1):.0f} cutovers fit into the record side by side, so the runs overlap and the "
            "interval is too narrow."
        )
    if custom := [slo.name for slo in spec.gates.slos if slo.custom]:
        yield f"Custom SLOs are not replayed: {', '.join(custom)}."


def _runs(number: int) -> str:
    return "one run" if number == 1 else f"{number} runs"


def quantile(values: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least ``fraction`` of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def clopper_pearson(events: int, trials: int, miss: float = INTERVAL_MISS) -> tuple[float, float]:
    """Return the exact confidence interval of a probability, from ``events`` in ``trials``.

    It contains the true value with a probability of at least ``1 - miss`` (Clopper and Pearson 1934).
    """

    def at_most(count: int, probability: float) -> float:
        log_p, log_q, log_all = math.log(probability), math.log1p(-probability), math.lgamma(trials + 1)
        return math.fsum(
            math.exp(log_all - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * log_p + (trials - k) * log_q)
            for k in range(count + 1)
        )

    def where(count: int, tail: float) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if at_most(count, middle) > tail else (low, middle)
        return (low + high) / 2

    return (
        where(events - 1, 1 - miss / 2) if events else 0.0,
        where(events, miss / 2) if events < trials else 1.0,
    )


def percent(fraction: float) -> str:
    """Write a fraction as a percentage of two digits."""
    return f"{100 * fraction:.2g} %" if fraction < 0.995 else "100 %"


def per_second(rate: float) -> str:
    """Write a rate of requests."""
    return f"{rate:.3g} requests/s"
