"""Replay a plan's cutover on Heroku's recorded traffic, to estimate its false-rollback rate.

Heroku's record is split into two legs of the same service. From many random moments, the plan's steps are climbed on these
legs with the operator's judge (:mod:`cutover.domain.evidence.judge`) and its confirmation of weights
(:mod:`cutover.domain.evidence.share`). Every rollback is then a false one. Approvals, windows and the ceiling are assumed to
permit each step. A run ends when the plan would go to 100 %, where there is no control to compare with.

What the two splits can show, and what not:

- ``instances``: EKS' requests are taken from one gateway (or router dyno) until it has no more, then from the next, in an
  order that each run draws anew; Heroku gets the rest. Both legs have the same seconds. Trouble of one gateway alone (a
  restart, a node, a slow connection) falls on one leg, like trouble of a leg. Trouble of a Heroku dyno reaches all
  gateways and so both legs: such clumps cancel here, but would not between real legs. A gateway that is worse all the
  time looks like a worse leg, although in a real cutover every gateway splits by the same weights: then the prediction is
  too pessimistic.
- ``time``: of two neighbouring blocks one is for EKS and the other for Heroku, drawn anew for each pair. Clumps of errors
  fall on one leg alone, as they would between real legs. But any change from one block to the next, such as the drift of
  the day or the edge of an incident, also becomes a difference of the legs, which it is not in a real cutover: this split
  is pessimistic. An event longer than a block lasts half as long, because each pair makes one block.

In both splits the requests of a leg are thinned at random to its weight: the number is binomial, and each class of
answers and the slow requests among them are hypergeometric. Thinning alone, with each request assigned by itself, would
be no test: it breaks every clump into halves that cancel. Neither split knows EKS; the service is assumed to behave there
as on Heroku.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Literal

from cutover.api.durations import span
from cutover.api.v1alpha1 import BacktestStatus, BacktestStep, MigrationPlanSpec
from cutover.domain.backtest.few_requests import ways
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, begin_step, consume, judge, least_requests
from cutover.domain.evidence.share import Pool, fits, pool
from cutover.domain.evidence.tolerances import gate_rules

if TYPE_CHECKING:  # numpy is imported only where a replay runs
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.integer]

Split = Literal["instances", "time"]
Ending = Literal["passed", "rolled back", "undecided", "record ended"]

#: Seconds beyond its hold after which a step is stuck; the step's timeout may be shorter.
PATIENCE_SECONDS = 6 * 3600.0
#: Fraction of requests outside the busiest instance from which the record is split by instances.
OTHER_INSTANCES = 0.2
#: Most requests in a block. More is an error in the counters, and more than can be drawn from.
MOST_REQUESTS = 10**8
#: Seconds before a run from which the judge learns what is normal.
LEARNED_SECONDS = 600.0
#: A step is short of traffic with less than this many times the requests that half of the runs need.
SCARCE = 5.0
#: Chance that the interval of the rate misses the true rate.
INTERVAL_MISS = 0.05

_FIELDS = len(Counts._fields)
_BATCH = 64  # blocks drawn at a time


class NotPossible(Exception):
    """A replay is not possible; the text says why, for people."""


class Record:
    """Heroku's recorded traffic: counts per gateway instance and block.

    Parameters
    ----------
    block_seconds
        Seconds of a block.
    """

    def __init__(self, block_seconds: float) -> None:
        self.block_seconds = block_seconds
        self._parts: list[tuple[NDArray[np.bool_], dict[str, Array]]] = []

    def add(self, blocks: Sequence[Block], instances: Mapping[str, Sequence[Block]] | None = None) -> None:
        """Append the next blocks.

        Parameters
        ----------
        blocks
            Blocks of all instances together. Only Heroku's counts are used, and whether the blocks are usable.
        instances
            The same blocks of each instance, if they are known. An unusable block counts as empty, like that of a gateway
            that does not exist.
        """
        import numpy as np

        usable = np.array([block.usable and _plausible(block.heroku) for block in blocks], dtype=bool)
        self._parts.append(
            (usable, {name: _array(counted, usable) for name, counted in (instances or {"": blocks}).items()})
        )

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return sum(len(usable) for usable, _ in self._parts)

    @property
    def usable(self) -> int:
        """Number of blocks that can be judged."""
        return sum(int(usable.sum()) for usable, _ in self._parts)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.blocks * self.block_seconds

    @property
    def requests(self) -> int:
        """Number of requests."""
        return sum(int(counts[:, 0].sum()) for _, instances in self._parts for counts in instances.values())

    def trimmed(self) -> Record:
        """Return the record from its first request to its last."""
        usable, counts = self.arrays()
        busy = (counts[:, :, 0].sum(axis=0) > 0).nonzero()[0]
        first, last = (int(busy[0]), int(busy[-1]) + 1) if len(busy) else (0, 0)
        trimmed = Record(self.block_seconds)
        instances = {str(number): each[first:last] for number, each in enumerate(counts)}
        trimmed._parts.append((usable[first:last], instances))
        return trimmed

    def arrays(self) -> tuple[NDArray[np.bool_], Array]:
        """Return which blocks are usable, and counts by instance, block and field of `Counts`."""
        import numpy as np

        names = sorted({name for _, instances in self._parts for name in instances})
        counts = np.zeros((max(len(names), 1), self.blocks, _FIELDS), dtype=np.int32)
        at = 0
        for usable, instances in self._parts:
            for name, part in instances.items():
                counts[names.index(name), at : at + len(usable)] = part
            at += len(usable)
        return np.concatenate([np.zeros(0, dtype=bool), *(usable for usable, _ in self._parts)]), counts


def _array(blocks: Sequence[Block], usable: NDArray[np.bool_]) -> Array:
    import numpy as np

    counts = np.zeros((len(usable), _FIELDS), dtype=np.int32)
    for number, block in enumerate(blocks):
        heroku = block.heroku
        if usable[number] and block.usable and _plausible(heroku):
            counts[number] = heroku
    return counts


def _plausible(counts: Counts) -> bool:
    """Tell whether counts are possible, by the judge's rules. Impossible counts would make a draw fail."""
    classes = (counts.ok, counts.errors, counts.refused, counts.redirected, counts.throttled, counts.excepted)
    return (
        min(classes) >= 0
        and counts.requests <= MOST_REQUESTS
        and (
            0 <= counts.very_slow <= counts.slow <= counts.timed <= MOST_REQUESTS
            # A plan may leave out either threshold.
            or (counts.slow == 0 and 0 <= counts.very_slow <= counts.timed <= MOST_REQUESTS)
        )
    )


# --- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Climb:
    """One step of one run.

    Parameters
    ----------
    weight
        Percent of requests to EKS.
    ending
        ``passed`` if the next step began, else how the run ended.
    seconds
        Seconds at this weight.
    proven_after
        Seconds from the confirmation of the weight to the first proof of safety; ``None`` without a proof.
    proven_with
        EKS requests up to the proof.
    """

    weight: int
    ending: Ending
    seconds: float
    proven_after: float | None
    proven_with: float


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


# --- replaying -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rung:
    weight: int
    next_weight: int
    hold: float
    longest: float
    least: int


def backtest(
    record: Record,
    spec: MigrationPlanSpec,
    *,
    runs: int = 200,
    seed: int = 1,
    split: Split | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _runs: None,
) -> Forecast:
    """Replay a plan's cutover on a record of Heroku.

    Parameters
    ----------
    record
        Heroku's traffic, counted with the latency thresholds that the plan will be judged by.
    spec
        The plan's spec.
    runs
        Number of cutovers to replay.
    seed
        The same seed and record give the same forecast.
    split
        How the record is split: by default by instances if two or more have enough traffic, else by time.
    on_progress
        Called after each run with the number of runs that are done, and of all runs.

    Raises
    ------
    NotPossible
        If there is nothing to replay: no step below 100 %, none of the mesh's gates, a record that is too short for the
        plan's holds or has too little traffic for its steps.
    """
    import numpy as np

    rules, rungs = gate_rules(spec), _rungs(spec)
    if runs < 1:
        raise NotPossible("at least one cutover must be replayed")
    if not any(rule.enforced for rule in rules.metrics):
        raise NotPossible("the plan enforces none of errors, latency and answers; custom SLOs are not replayed")
    if not rungs:
        raise NotPossible("the plan has no step below 100 %, so there is nothing to compare with")
    record = record.trimmed()
    usable, counts = record.arrays()
    if not usable.any():
        raise NotPossible("no requests of Heroku are in the record")
    rate = record.requests / (record.usable * record.block_seconds)
    by = split or ("instances" if _divisible(counts) else "time")
    if by == "time":
        counts = counts.sum(axis=0, keepdims=True)
    judged = record.blocks if by == "instances" else record.blocks // 2
    _check_traffic(spec, rules, rungs, rate)
    needed = least_seconds(spec, by)
    latest = record.blocks - math.ceil(needed / record.block_seconds)
    if latest < 0:
        raise NotPossible(
            f"the record is {span(record.seconds)} long, and one cutover takes at least {span(needed)} of it"
            + (" when split by time" if by == "time" else "")
        )

    done = []
    for number in range(runs):
        rng = np.random.default_rng([seed, number])
        start = int(rng.integers(latest + 1))
        done.append(_run(rng, usable, counts, rules, rungs, record.block_seconds, start=start, split=by))
        on_progress(number + 1, runs)
    instances = int((counts[:, :, 0].sum(axis=1) > 0).sum())
    return _forecast(done, spec, rules, rungs, record=record, split=by, instances=instances, rate=rate, judged=judged)


def least_seconds(spec: MigrationPlanSpec, split: Split = "time") -> float:
    """Return the least seconds of record that one cutover takes: its holds and warm-ups, and twice that if split by time."""
    rungs = _rungs(spec)
    least = sum(rung.hold for rung in rungs) + spec.gates.warm_up.total_seconds() * len(rungs)
    return least * 2 if split == "time" else least


def _rungs(spec: MigrationPlanSpec) -> list[_Rung]:
    rungs = []
    for step, following in pairwise(spec.steps):
        hold = step.hold.total_seconds()
        longest = hold + PATIENCE_SECONDS
        if step.timeout is not None:
            longest = min(longest, step.timeout.total_seconds())
        rungs.append(_Rung(step.weight, following.weight, hold, longest, step.min_requests or 0))
    return rungs


def _divisible(counts: Array) -> bool:
    requests = counts[:, :, 0]
    total = int(requests.sum())
    return total > 0 and 1 - int(requests.max(axis=0).sum()) / total >= OTHER_INSTANCES


def _check_traffic(spec: MigrationPlanSpec, rules: GateRules, rungs: Iterable[_Rung], rate: float) -> None:
    """Raise NotPossible if no run could pass a step, which a replay would find out only after hours."""
    short, needed = "", 0.0
    for rung in rungs:
        least = max(least_requests(rules, rung.next_weight), rung.least)
        time = rung.longest - rules.warm_up_seconds
        brought = rate * rung.weight / 100 * max(time, 0.0)
        if brought < least:
            wanted = least / (rung.weight / 100 * time) if time > 0 else math.inf
            needed = max(needed, wanted)
            short = short or (
                f"the step at {rung.weight} % needs at least {least:,.0f} EKS requests, and {per_second(rate)} bring "
                f"{brought:,.0f} in {span(rung.longest)}"
            )
    if short:
        cure = f"; {per_second(needed)} would be needed" if math.isfinite(needed) else ""
        raise NotPossible(" ".join((f"too little traffic: {short}{cure}.", *ways(spec, rules, rate))))


def _run(
    rng: np.random.Generator,
    usable: NDArray[np.bool_],
    counts: Array,
    rules: GateRules,
    rungs: Sequence[_Rung],
    length: float,
    *,
    start: int,
    split: Split,
) -> list[Climb]:
    """Climb the steps once, by the rules of :func:`cutover.domain.engine.phases.judging.judge`."""
    position = start
    learned = counts[:, max(0, position - round(LEARNED_SECONDS / length)) : position].sum(axis=(0, 1)).tolist()
    evidence = Evidence.start(Counts(*learned))
    order = rng.permutation(len(counts)).tolist()
    # A reconcile that has just set a weight can confirm it by the next block at the earliest.
    clock, previous, climbs = 0.0, 0, list[Climb]()
    for rung in rungs:
        weight, next_weight = rung.weight, rung.next_weight
        evidence = begin_step(evidence)
        since, observed_at, pooled = clock, None, Pool()
        proven_after, proven_with = None, 0.0
        ending: Ending = "record ended"
        split_up = legs(rng, usable, counts, order=order, position=position, weight=weight / 100, split=split)
        for gap, heroku, eks in split_up:
            position += 2 if split == "time" else 1
            block = Block(clock, clock + length, heroku, eks, "unusable" if gap else "")
            clock = block.end
            if observed_at is None:
                pooled = pool(pooled, block, weight=weight, previous=previous)
                if fits(pooled, weight=weight, previous=previous):
                    observed_at = block.end
            else:
                evidence = consume(
                    evidence, block, rules=rules, weight=weight, next_weight=next_weight, observed_at=observed_at
                )
                judgement = judge(evidence, rules=rules, weight=weight, next_weight=next_weight)
                if judgement.worse and not judgement.heroku_dead:
                    ending = "rolled back"
                    break
                if judgement.safe and proven_after is None:
                    proven_after, proven_with = clock - observed_at, judgement.samples
                enough = judgement.samples >= rung.least
                if judgement.safe and enough and block.usable and clock - observed_at >= rung.hold:
                    ending = "passed"
                    break
            if clock - since >= rung.longest:
                ending = "undecided"
                break
        climbs.append(Climb(weight, ending, clock - since, proven_after, proven_with))
        if ending != "passed":
            break
        previous = weight
    return climbs


# --- splitting -------------------------------------------------------------------------------------------------------


def legs(
    rng: np.random.Generator,
    usable: NDArray[np.bool_],
    counts: Array,
    *,
    order: Sequence[int],
    position: int,
    weight: float,
    split: Split,
) -> Iterator[tuple[bool, Counts, Counts]]:
    """Split the record from a position on: yield whether a block is a gap, and Heroku's and EKS' counts.

    Parameters
    ----------
    rng
        Source of randomness.
    usable, counts
        From :meth:`Record.arrays`.
    order
        Indices of the instances, in the order in which EKS takes from them.
    position
        Index of the first block.
    weight
        Fraction of the requests for EKS.
    split
        With ``time``, two blocks of the record make one, and the counts must be the sum of all instances.
    """
    import numpy as np

    blocks = counts.shape[1]
    stride = 2 if split == "time" else 1
    while position + stride <= blocks:
        size = min(_BATCH, (blocks - position) // stride)
        part = counts[order, position : position + size * stride]
        good = usable[position : position + size * stride]
        requests = part[:, :, 0].sum(axis=0)
        if split == "time":
            pairs = part[0].reshape(size, 2, _FIELDS)
            swapped = rng.random(size) < 0.5
            pairs = np.where(swapped[:, None, None], pairs[:, ::-1], pairs)
            part, good = pairs.transpose(1, 0, 2), good[::2] & good[1::2]
            # Two blocks of the record make one block of the run: half of their requests keeps the rate.
            requests = (requests.reshape(size, 2).sum(axis=1) + rng.integers(0, 2, size)) // 2
        eks = take(rng, part, _first(part[:, :, 0], rng.binomial(requests, weight)))
        rest = part - eks
        left = requests - eks[:, :, 0].sum(axis=0)
        heroku = take(rng, rest, _first(rest[::-1, :, 0], left)[::-1]) if split == "time" else rest
        rows = zip(good.tolist(), heroku.sum(axis=0).tolist(), eks.sum(axis=0).tolist(), strict=True)
        for fine, heroku_counts, eks_counts in rows:
            yield not fine, Counts(*heroku_counts), Counts(*eks_counts)
        position += size * stride


def _first(requests: Array, wanted: Array) -> Array:
    """Return how many requests to take from each instance: all of the first, then of the next, until there are enough."""
    before = requests.cumsum(axis=0) - requests
    taken: Array = (wanted - before).clip(0, requests)
    return taken


def take(rng: np.random.Generator, counts: Array, requests: Array) -> Array:
    """Draw requests at random, without replacement.

    Parameters
    ----------
    rng
        Source of randomness.
    counts
        Counts to draw from; the last axis has the fields of `Counts`.
    requests
        How many requests to draw, at most as many as there are.

    Returns
    -------
    Array
        Counts of the drawn requests.

    Notes
    -----
    The latency histogram may lag the requests by a flush, so requests are drawn from it in proportion.
    """
    import numpy as np

    of, errors, timed, slow, very_slow, *classes = (counts[..., index] for index in range(_FIELDS))
    fraction = np.divide(requests, of, out=np.zeros(of.shape), where=of > 0)
    taken_timed = np.floor(fraction * timed + rng.random(of.shape)).astype(np.int64).clip(0, timed)
    taken_slow = rng.hypergeometric(slow, timed - slow, taken_timed)
    # Very slow requests are also slow, unless the plan judges only very slow ones.
    within = np.where(slow > 0, slow, timed)
    among = np.where(slow > 0, taken_slow, taken_timed)
    # An answer is in one class at most: each class is drawn from what the classes before it left.
    left, to_draw, answers = of, requests, []
    for answer in (errors, *classes):
        drawn = rng.hypergeometric(answer, left - answer, to_draw)
        left, to_draw = left - answer, to_draw - drawn
        answers.append(drawn)
    taken: Array = np.stack(
        [
            requests,
            answers[0],
            taken_timed,
            taken_slow,
            rng.hypergeometric(very_slow, within - very_slow, among),
            *answers[1:],
        ],
        axis=-1,
    )
    return taken


# --- adding up -------------------------------------------------------------------------------------------------------


def _forecast(
    done: Sequence[Sequence[Climb]],
    spec: MigrationPlanSpec,
    rules: GateRules,
    rungs: Sequence[_Rung],
    *,
    record: Record,
    split: Split,
    instances: int,
    rate: float,
    judged: int,
) -> Forecast:
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


def _step(rung: _Rung, rules: GateRules, climbs: Sequence[Climb]) -> StepForecast:
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
    rungs: Sequence[_Rung],
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


# --- words -----------------------------------------------------------------------------------------------------------


def percent(fraction: float) -> str:
    """Write a fraction as a percentage of two digits."""
    return f"{100 * fraction:.2g} %" if fraction < 0.995 else "100 %"


def per_second(rate: float) -> str:
    """Write a rate of requests."""
    return f"{rate:.3g} requests/s"
