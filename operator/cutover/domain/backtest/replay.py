"""Replaying a plan's cutover on what Heroku did: how often would the gate go back though there is nothing to find?

Heroku's record is split into two legs that are the same service, and the plan's steps are climbed on them, from many
random moments, with the operator's own judge (:mod:`cutover.domain.evidence.judge`) and its own way of seeing a weight
(:mod:`cutover.domain.evidence.share`). Every rollback is a false one. Approvals, windows and the ceiling are taken for granted; a
run ends when the plan would go to 100 %, where there is no control to compare with.

What the two splits can show, and what not:

- ``instances``: what EKS gets is taken from one gateway (or router dyno) as far as that goes, then from the next, in an
  order that each run draws anew; Heroku gets the rest. Both legs are of the same seconds. Trouble of one gateway alone
  (a restart, a node, a slow connection) falls on one leg, as trouble of a leg would. Trouble of a Heroku dyno
  reaches all gateways and so both legs: such clumps cancel here, and would not between real legs. A gateway that is
  worse all the time looks like a worse leg, although in a real cutover every gateway splits by the same weights: there
  the prediction is too dark.
- ``time``: of two neighbouring blocks one is EKS' and the other Heroku's, drawn anew for each pair. Clumps of errors fall
  on one leg alone, as they would between real legs. But whatever changes from one block to the next, the drift of the
  day or the edge of an incident, is then a difference of the legs too, which it would not be in a real cutover: it is
  pessimistic. What lasts longer than a block lasts half as long, as each pair makes one block.

In both the requests of a leg are thinned at random to its weight: the number is binomial, and errors and slow requests
among them are hypergeometric. Thinning alone, each request to a leg by itself, would be no test: it breaks every clump
into halves that cancel. Neither split knows what EKS is like; a service that behaves there as on Heroku is assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Literal

from cutover.api.durations import span
from cutover.api.v1alpha1 import BacktestStatus, BacktestStep, MigrationPlanSpec
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, begin_step, consume, judge, least_requests
from cutover.domain.evidence.share import Pool, fits, pool
from cutover.domain.evidence.tolerances import gate_rules

if TYPE_CHECKING:  # the operator itself has no need of it
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.integer]

Split = Literal["instances", "time"]
Ending = Literal["passed", "rolled back", "undecided", "record ended"]

#: A step that takes longer than its hold and this is stuck, in seconds; its own timeout may be shorter.
PATIENCE_SECONDS = 6 * 3600.0
#: The record is split by instances where at least this fraction of the requests is not the busiest instance's.
SECOND_SHARE = 0.2
#: A block of more requests is an error of whoever counted (and more than can be drawn from).
MOST_REQUESTS = 10**8
#: Seconds before a run's beginning from which the judge learns what is normal.
LEARNED_SECONDS = 600.0
#: With less than this many times the requests that half of the runs need, a step waits for traffic.
SCARCE = 5.0
#: Chance that the interval of the rate does not contain it.
INTERVAL_MISS = 0.05

_FIELDS = 5
_BATCH = 64  # blocks drawn at a time


class NotPossible(Exception):
    """There is nothing to replay, or not on this record; the text says why and is for people."""


class Record:
    """What Heroku did: counts per gateway instance and block.

    Parameters
    ----------
    block_seconds
        Length of a block.
    """

    def __init__(self, block_seconds: float) -> None:
        self.block_seconds = block_seconds
        self._parts: list[tuple[NDArray[np.bool_], dict[str, Array]]] = []

    def add(self, blocks: Sequence[Block], instances: Mapping[str, Sequence[Block]] | None = None) -> None:
        """Append what came next.

        Parameters
        ----------
        blocks
            All instances together. Only Heroku's counts are used, and which blocks are usable.
        instances
            The same blocks of each instance by itself, where they are known; one that is not usable counts as nothing,
            as that of a gateway that is not there.
        """
        import numpy as np

        usable = np.array([block.usable and _plausible(block.heroku) for block in blocks], dtype=bool)
        self._parts.append((usable, {name: _array(own, usable) for name, own in (instances or {"": blocks}).items()}))

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return sum(len(usable) for usable, _ in self._parts)

    @property
    def usable(self) -> int:
        """How many of them can be judged."""
        return sum(int(usable.sum()) for usable, _ in self._parts)

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.blocks * self.block_seconds

    @property
    def requests(self) -> int:
        """How many requests it has."""
        return sum(int(counts[:, 0].sum()) for _, instances in self._parts for counts in instances.values())

    def trimmed(self) -> Record:
        """Return it without the time before its first request and after its last."""
        usable, counts = self.arrays()
        busy = (counts[:, :, 0].sum(axis=0) > 0).nonzero()[0]
        first, last = (int(busy[0]), int(busy[-1]) + 1) if len(busy) else (0, 0)
        trimmed = Record(self.block_seconds)
        own = {str(number): each[first:last] for number, each in enumerate(counts)}
        trimmed._parts.append((usable[first:last], own))
        return trimmed

    def arrays(self) -> tuple[NDArray[np.bool_], Array]:
        """Return which blocks are usable, and counts by instance, block and field of `Counts`."""
        import numpy as np

        names = sorted({name for _, instances in self._parts for name in instances})
        counts = np.zeros((max(len(names), 1), self.blocks, _FIELDS), dtype=np.int32)
        at = 0
        for usable, instances in self._parts:
            for name, own in instances.items():
                counts[names.index(name), at : at + len(usable)] = own
            at += len(usable)
        return np.concatenate([np.zeros(0, dtype=bool), *(usable for usable, _ in self._parts)]), counts


def _array(blocks: Sequence[Block], usable: NDArray[np.bool_]) -> Array:
    import numpy as np

    counts = np.zeros((len(usable), _FIELDS), dtype=np.int32)
    for number, block in enumerate(blocks):
        one = block.heroku
        if usable[number] and block.usable and _plausible(one):
            counts[number] = (one.requests, one.errors, one.timed, one.slow, one.very_slow)
    return counts


def _plausible(counts: Counts) -> bool:
    """Whether the counts are possible at all, as the judge sees it; it also keeps a draw from failing."""
    return 0 <= counts.errors <= counts.requests <= MOST_REQUESTS and (
        0 <= counts.very_slow <= counts.slow <= counts.timed <= MOST_REQUESTS
        # A plan may leave out either threshold.
        or (counts.slow == 0 and 0 <= counts.very_slow <= counts.timed <= MOST_REQUESTS)
    )


# --- what comes out --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Climb:
    """One step of one run.

    Parameters
    ----------
    weight
        Percent of requests to EKS.
    ending
        ``passed`` into the next step, or how the run ended here.
    seconds
        At this weight.
    proven_after
        Seconds from when the weight was seen until it was first proven safe; ``None`` if it never was.
    proven_with
        EKS requests until then.
    """

    weight: int
    ending: Ending
    seconds: float
    proven_after: float | None
    proven_with: float


@dataclass(frozen=True, slots=True)
class StepForecast:
    """What is predicted for one step; of the runs that reached it.

    Parameters
    ----------
    weight, next_weight
        Percent of requests to EKS.
    requests
        EKS requests that prove it safe, the median; the least that can, where no run had enough.
    proven_seconds, slowest_proven_seconds
        Time from when the weight is seen until it is proven safe: median and what 9 of 10 stay below; infinite where
        so many were never safe.
    seconds, slowest_seconds
        Time at the weight, the hold included. A run that got stuck counts with the time after which it was given up.
    rolled_back, undecided, record_ended
        Runs that ended here.
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
    """What a replay predicts.

    Parameters
    ----------
    runs, false_rollbacks, stuck
        Cutovers replayed, those that went back, and those that got nowhere in time or before the record ended.
    low, high
        95 % interval of the false-rollback rate, by Clopper and Pearson: exact for runs that do not depend on each
        other. Here they overlap in time: see ``apart``.
    allowed
        The plan's ``falseRollbackRate``.
    apart
        How many cutovers fit into the record side by side.
    seconds
        Time of the whole cutover without the soak, the median; ``None`` where no run got through.
    steps
        Each step that a run reached.
    split, instances
        How the record was split, and how many instances it has.
    record_seconds, rate, unusable
        Length of the record, its requests per second, and the fraction of its blocks that cannot be judged.
    notes
        What to know of these figures, in sentences.
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
        """Say it in a few sentences."""
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
        """The fraction of runs that went back."""
        return self.false_rollbacks / self.runs

    def status(self) -> BacktestStatus:
        """Return what a plan's status shows of it."""
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
    """Return the status where there is no forecast, and why."""
    return BacktestStatus(runs=0, false_rollbacks=0, stuck=0, message=f"There is no forecast: {reason}")


# --- replaying -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rung:
    weight: int
    next_weight: int
    hold: float
    longest: float


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
        What Heroku did. Its latency thresholds are those that the plan will be judged by.
    spec
        The plan's.
    runs
        Cutovers to replay.
    seed
        The same seed and record give the same forecast.
    split
        How the record is split; by default by instances where there are two or more with enough traffic, else by time.
    on_progress
        Called after each run with how many are done and how many there will be.

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
        raise NotPossible("the plan enforces neither errors nor latency; gates of your own are not replayed")
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
    _check_traffic(rules, rungs, rate)
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
    """Return the seconds of record that one cutover takes at the least: its holds and warm-ups; by time, twice that."""
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
        rungs.append(_Rung(step.weight, following.weight, hold, longest))
    return rungs


def _divisible(counts: Array) -> bool:
    requests = counts[:, :, 0]
    total = int(requests.sum())
    return total > 0 and 1 - int(requests.max(axis=0).sum()) / total >= SECOND_SHARE


def _check_traffic(rules: GateRules, rungs: Iterable[_Rung], rate: float) -> None:
    """Refuse what no run could pass: hours of replay would only say so more slowly."""
    short, needed = "", 0.0
    for rung in rungs:
        least, time = least_requests(rules, rung.next_weight), rung.longest - rules.warm_up_seconds
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
        raise NotPossible(f"too little traffic: {short}{cure}")


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
    """Climb the steps once, by the rules of :meth:`cutover.domain.engine.phases.judging.judge`."""
    position = start
    learned = counts[:, max(0, position - round(LEARNED_SECONDS / length)) : position].sum(axis=(0, 1)).tolist()
    evidence = Evidence.start(Counts(*learned))
    order = rng.permutation(len(counts)).tolist()
    # A pass that has just set a weight finds it in the next block at the earliest.
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
                if judgement.safe and block.usable and clock - observed_at >= rung.hold:
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
        Where chance comes from.
    usable, counts
        As from :meth:`Record.arrays`.
    order
        Numbers of the instances, in the order in which EKS takes from them.
    position
        Block of the record to begin with.
    weight
        Fraction of the requests for EKS.
    split
        By time, two blocks of the record make one, and all instances must have been added up to a single one.
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
            # Two blocks of the record are one of the run: half of their requests keeps the rate what it was.
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
    """Return how many requests to take of each instance: all of the first, then of the next, until there are enough."""
    before = requests.cumsum(axis=0) - requests
    taken: Array = (wanted - before).clip(0, requests)
    return taken


def take(rng: np.random.Generator, counts: Array, requests: Array) -> Array:
    """Draw so many requests at random, without putting any back.

    Parameters
    ----------
    rng
        Where chance comes from.
    counts
        What there is; the last axis has the fields of `Counts`.
    requests
        How many to take, at most as many as there are.

    Returns
    -------
    Array
        Counts of what was taken; the rest is what is left of ``counts``.

    Notes
    -----
    The latency histogram may lag the requests by a flush, so that its number is taken in proportion.
    """
    import numpy as np

    of, errors, timed, slow, very_slow = (counts[..., index] for index in range(_FIELDS))
    share = np.divide(requests, of, out=np.zeros(of.shape), where=of > 0)
    taken_timed = np.floor(share * timed + rng.random(of.shape)).astype(np.int64).clip(0, timed)
    taken_slow = rng.hypergeometric(slow, timed - slow, taken_timed)
    # Very slow requests are among the slow ones, unless only their threshold is judged.
    within = np.where(slow > 0, slow, timed)
    among = np.where(slow > 0, taken_slow, taken_timed)
    taken: Array = np.stack(
        [
            requests,
            rng.hypergeometric(errors, of - errors, requests),
            taken_timed,
            taken_slow,
            rng.hypergeometric(very_slow, within - very_slow, among),
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
        notes=tuple(_notes(spec, rungs, steps, runs=len(done), apart=apart, rate=rate)),
    )


def _step(rung: _Rung, rules: GateRules, climbs: Sequence[Climb]) -> StepForecast:
    # Those that went back, or ran out of record, say nothing of how long the step would have taken.
    told = [climb for climb in climbs if climb.ending in ("passed", "undecided")] or climbs
    proofs = [math.inf if climb.proven_after is None else climb.proven_after for climb in told]
    with_proof = [climb.proven_with for climb in told if climb.proven_after is not None]
    return StepForecast(
        weight=rung.weight,
        next_weight=rung.next_weight,
        requests=quantile(with_proof, 0.5) if with_proof else least_requests(rules, rung.next_weight),
        proven_seconds=quantile(proofs, 0.5),
        slowest_proven_seconds=quantile(proofs, 0.9),
        seconds=quantile([climb.seconds for climb in told], 0.5),
        slowest_seconds=quantile([climb.seconds for climb in told], 0.9),
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
    if own := [slo.name for slo in spec.gates.slos if slo.errors is None and slo.latency is None]:
        yield f"Gates of your own are not replayed: {', '.join(own)}."


def _runs(number: int) -> str:
    return "one run" if number == 1 else f"{number} runs"


def quantile(values: Sequence[float], fraction: float) -> float:
    """Return the smallest value that at least this fraction of the values does not exceed."""
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]


def clopper_pearson(events: int, trials: int, miss: float = INTERVAL_MISS) -> tuple[float, float]:
    """Return the exact interval of a probability of which ``events`` in ``trials`` were seen.

    It holds the true value with a probability of at least ``1 - miss``, whatever that is (Clopper and Pearson 1934).
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


# --- saying it -------------------------------------------------------------------------------------------------------


def percent(fraction: float) -> str:
    """Write a fraction as a percentage of two digits."""
    return f"{100 * fraction:.2g} %" if fraction < 0.995 else "100 %"


def per_second(rate: float) -> str:
    """Write a rate of requests."""
    return f"{rate:.3g} requests/s"
