"""Climb a plan's steps once on two legs of the record, with the operator's judge and its confirmation of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.domain.backtest.splitting import Split, legs
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules, begin_step, consume, judge
from cutover.domain.evidence.share import Pool, fits, pool

if TYPE_CHECKING:  # numpy is imported only where a replay runs
    import numpy as np
    from numpy.typing import NDArray

    from cutover.domain.backtest.record import Array

Ending = Literal["passed", "rolled back", "undecided", "record ended"]

#: Seconds beyond its hold after which a step is stuck; the step's timeout may be shorter.
PATIENCE_SECONDS = 6 * 3600.0
#: Seconds before a run from which the judge learns what is normal.
LEARNED_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Rung:
    """One step below 100 %, with what it asks for.

    Parameters
    ----------
    weight, next_weight
        Percent of requests to EKS.
    hold, longest
        Seconds at the weight: at least, and until the step is stuck.
    least
        Fewest EKS requests.
    """

    weight: int
    next_weight: int
    hold: float
    longest: float
    least: int


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


def least_seconds(spec: MigrationPlanSpec, split: Split = "time") -> float:
    """Return the least seconds of record that one cutover takes: its holds and warm-ups, and twice that if split by time."""
    rungs = rungs_of(spec)
    least = sum(rung.hold for rung in rungs) + spec.gates.warm_up.total_seconds() * len(rungs)
    return least * 2 if split == "time" else least


def rungs_of(spec: MigrationPlanSpec) -> list[Rung]:
    """Return the steps that are climbed."""
    rungs = []
    for step, following in pairwise(spec.steps):
        hold = step.hold.total_seconds()
        longest = hold + PATIENCE_SECONDS
        if step.timeout is not None:
            longest = min(longest, step.timeout.total_seconds())
        rungs.append(Rung(step.weight, following.weight, hold, longest, step.min_requests or 0))
    return rungs


def climb(
    rng: np.random.Generator,
    usable: NDArray[np.bool_],
    counts: Array,
    rules: GateRules,
    rungs: Sequence[Rung],
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
