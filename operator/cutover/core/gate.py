"""The judge: compares the two legs of a cutover on live traffic, block by block.

It says of the EKS leg *worse*, *not worse*, or *cannot tell yet*, while being asked after every block, and bounds the
chance of a false rollback over the whole cutover. It stands alone: plain numbers in, plain numbers out, no clock and no
I/O. To run it on your own numbers::

    rules = GateRules()
    evidence = begin_step(Evidence.start())
    for block in blocks:  # cutover.core.blocks.Block, in the order of time
        evidence = consume(evidence, block, rules=rules, weight=10, next_weight=25, observed_at=blocks[0].start)
        judgement = judge(evidence, rules=rules, weight=10, next_weight=25)

`Evidence` is the whole state. `Evidence.dump` and `Evidence.load` carry it through JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cutover.core import evidence as wager
from cutover.core.blocks import Block, Counts
from cutover.core.evidence import BETTER, DEAD, WORSE, Bag, Evidence, Recent

__all__ = [
    "DEFAULT_METRICS",
    "Evidence",
    "GateRules",
    "Judgement",
    "MetricJudgement",
    "MetricRule",
    "Tolerance",
    "begin_step",
    "consume",
    "judge",
]

MetricName = Literal["errors", "slow", "verySlow"]
Verdict = Literal["Worse", "NotWorse", "Undecided"]

CAP_SECONDS = 15.0
"""The caps are per this time, whatever the length of a block: clumps of errors last seconds, not blocks."""
POOLED_CAP = 4.0
"""A pool earns at most this many caps."""
POOL_SECONDS = 120.0
"""A thin pool is judged at the latest after this time."""
POOL_REQUESTS = 20.0
"""A pool with this many requests of the control is judged at once."""

ALIVE_SHARE = 0.7
"""A leg is alive when it answers at least this share of what its weight lets expect."""

SHARED_RATIO = 0.2
"""With more errors than this the control of *alive* is failing itself and says little about the other leg."""

SAFETY_FIRST, SAFETY_FLOW = 0.5, 0.01
"""Money of the safety test: half at its first bet in a step, then this much per 15 s."""

RECENT_SECONDS, RECENT_BIN_SECONDS = 45.0, 15.0
"""The recent window, in slots: with a slot that is half over it is a minute at most."""
SICK_RATIO, SICK_FACTOR, SICK_REQUESTS = 0.05, 5.0, 10.0
"""A leg is unhealthy above this fraction, and this many times the reference, with at least so many requests."""
SILENT_SECONDS, SILENT_EXPECTED = 60.0, 5.0
"""Heroku is silent after this time without an answer, where so many were to be expected."""
HARM_HOLD = 10.0
"""Nothing advances while the evidence of harm is this large."""
MOST_REQUESTS = 1e12
"""No leg does more in a block; such a count is an error of whoever counted."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What EKS may do worse than Heroku: ``p_eks <= ratio * p_heroku + margin``.

    Parameters
    ----------
    ratio
        Dimensionless factor, above 0.
    margin
        Fraction of requests, above 0 and below 1.
    """

    ratio: float
    margin: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ratio) and self.ratio > 0 and 0 < self.margin < 1):
            raise ValueError(f"a tolerance needs a ratio above 0 and a margin between 0 and 1, not {self}")


@dataclass(frozen=True, slots=True)
class MetricRule:
    """How one metric is judged.

    Parameters
    ----------
    name
        Which counts are judged.
    weight
        Share of the rollback money, a fraction. All metrics and alive together have at most 1.
    harm
        Beyond this EKS is worse.
    advance
        Within this EKS is good enough. The margin is meant for the whole traffic: it is divided by the next weight.
    floor
        Smallest tolerated fraction where there is no control to compare with.
    """

    name: MetricName
    weight: float
    harm: Tolerance
    advance: Tolerance
    floor: float


DEFAULT_METRICS = (
    MetricRule("errors", 0.4, Tolerance(1.25, 0.001), Tolerance(1.5, 0.005), 0.01),
    MetricRule("slow", 0.2, Tolerance(1.25, 0.005), Tolerance(1.5, 0.01), 0.05),
    MetricRule("verySlow", 0.2, Tolerance(1.25, 0.001), Tolerance(1.5, 0.005), 0.01),
)


@dataclass(frozen=True, slots=True)
class GateRules:
    """The rules of one plan.

    Parameters
    ----------
    alpha
        Bound on the chance of a false rollback over the whole cutover.
    beta
        Bound on the chance that a step which is not within the margins is called safe.
    block_seconds
        Length of a block; only estimates use it (a block itself says how long it is).
    warm_up_seconds
        For so long after the share was observed only *alive* is judged.
    metrics
        The judged metrics.
    alive_weight
        Share of the rollback money for *alive*.
    silent_cap, failed_cap
        What one block may contribute to *alive*, in units of ``ln(1/alpha)/4``: where the missing answers are silence,
        and where most of them came as errors.

    Raises
    ------
    ValueError
        If probabilities, times or weights make no sense.
    """

    alpha: float = 0.01
    beta: float = 0.05
    block_seconds: float = 15.0
    warm_up_seconds: float = 30.0
    metrics: tuple[MetricRule, ...] = DEFAULT_METRICS
    alive_weight: float = 0.2
    silent_cap: float = 4.0
    failed_cap: float = 6.0

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.beta < 1):
            raise ValueError("alpha and beta are probabilities between 0 and 1")
        if not (self.block_seconds > 0 and self.warm_up_seconds >= 0 and min(self.silent_cap, self.failed_cap) > 0):
            raise ValueError("blocks and caps need a positive size, the warm-up none below 0")
        if len({rule.name for rule in self.metrics}) != len(self.metrics):
            raise ValueError("a metric can be judged only once")
        weights = [self.alive_weight, *(rule.weight for rule in self.metrics)]
        if min(weights) < 0 or sum(weights) > 1 + 1e-9:
            raise ValueError(
                f"the metrics' weights and alive's must be at least 0 and at most 1 together, not {weights}"
            )

    @property
    def harm_limit(self) -> float:
        """Evidence of harm that rolls back."""
        return 1.0 / self.alpha

    @property
    def safety_limit(self) -> float:
        """Evidence of safety that advances."""
        return 1.0 / self.beta

    @property
    def unit(self) -> float:
        """The cap of 15 s, in nats: real errors come in clumps, so no clump may decide alone."""
        return math.log(self.harm_limit) / 4.0


@dataclass(frozen=True, slots=True)
class MetricJudgement:
    """What is said of one metric.

    Parameters
    ----------
    name
        A metric's name, or ``alive``.
    verdict
        ``Worse`` only when the whole judgement is worse and this metric carries most of it.
    harm
        This metric's part of the evidence of harm; all parts together are the judgement's.
    safety
        Evidence that it is within the margin of the next step. 0 for ``alive``, which has no such test.
    heroku_bad, heroku_total, eks_bad, eks_total
        Counts in this step. For ``alive`` those of the last minute: what was expected of the leg and what of it is
        missing (Heroku's is the yardstick, so nothing of it is).
    sentence
        The same for people.
    """

    name: str
    verdict: Verdict
    harm: float
    safety: float
    heroku_bad: float
    heroku_total: float
    eks_bad: float
    eks_total: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the evidence says now.

    Parameters
    ----------
    harm, harm_limit
        Evidence of harm, and what of it rolls back.
    worse
        Whether it does.
    safe
        Whether every metric's evidence of safety is enough for the next step and nothing speaks against it: evidence
        of harm below 10, Heroku neither dead nor silent, the legs not both unhealthy.
    safety, safety_limit
        Evidence of safety of the metric that has least, and what is enough.
    heroku_dead, heroku_wealth
        Whether Heroku no longer answers while EKS does, and the evidence of that (same limit as harm).
    heroku_silent
        Whether Heroku has answered nothing for a minute, though it has weight and EKS is busy.
    both_unhealthy
        Whether both legs lately fail, or are very slow, far more than Heroku did while it was well.
    metrics
        Per metric, ``alive`` last.
    main_metric
        The metric that carries most of the harm.
    eks_requests_needed, seconds_to_safe
        Estimates of what is missing until `safe`; 0 when it is safe, None when it cannot be said.
    samples
        EKS requests in this step.
    """

    harm: float
    harm_limit: float
    worse: bool
    safe: bool
    safety: float
    safety_limit: float
    heroku_dead: bool
    heroku_wealth: float
    heroku_silent: bool
    both_unhealthy: bool
    metrics: tuple[MetricJudgement, ...]
    main_metric: str
    eks_requests_needed: float | None
    seconds_to_safe: float | None
    samples: float


def begin_step(evidence: Evidence) -> Evidence:
    """Return the evidence with which a new step starts: safety is earned anew, harm stays known."""
    return replace(
        evidence,
        safety={},
        safety_money=1.0,
        pool=(Counts(), Counts()),
        pool_seconds=0.0,
        total=(Counts(), Counts()),
        total_seconds=0.0,
        blocks=0,
        empty=0,
        gaps=0,
        silent_seconds=0.0,
        silent_expected=0.0,
    )


def learn(evidence: Evidence, block: Block) -> Evidence:
    """Take in one block from before the first step: what is normal for Heroku. It is evidence of nothing else."""
    if not block.usable or block.end <= evidence.last_end or not _plausible(block.heroku) or not block.heroku.requests:
        return evidence
    return replace(_remember(evidence, block, weight=0), last_end=block.end)


def consume(
    evidence: Evidence, block: Block, *, rules: GateRules, weight: float, next_weight: float, observed_at: float
) -> Evidence:
    """Return the evidence after one more block.

    Parameters
    ----------
    evidence
        What is known before.
    block
        What both legs did. A block that is not later than the last one changes nothing (a replay is harmless), one
        that began before ``observed_at`` is not judged (it mixes two weights), an unusable one only counts as a gap.
    rules
        The plan's rules.
    weight, next_weight
        Percent of requests to EKS now and after the next advance (100 where there is none).
    observed_at
        When the share was observed, unix seconds; the warm-up counts from there.

    Raises
    ------
    ValueError
        If a weight is not between 0 and 100.
    """
    _check_weights(weight, next_weight)
    if not block.end > evidence.last_end:
        return evidence
    evidence = replace(evidence, last_end=block.end)
    if weight <= 0 or block.start < observed_at:
        return evidence
    if not (block.usable and block.end > block.start and _plausible(block.heroku) and _plausible(block.eks)):
        return replace(evidence, gaps=evidence.gaps + 1)

    # Whether to bet on safety must be known before the block, or the choice itself would be a bet.
    trusted = not _both_unhealthy(evidence)
    evidence = _wager_alive(evidence, block, rules=rules, weight=weight)
    evidence = _pay_in(evidence, block, rules)
    if block.start >= observed_at + rules.warm_up_seconds:
        evidence = replace(
            evidence,
            pool=(evidence.pool[0] + block.heroku, evidence.pool[1] + block.eks),
            pool_seconds=evidence.pool_seconds + block.end - block.start,
        )
        if _ripe(evidence, weight):
            evidence = _wager_metrics(evidence, rules=rules, weight=weight, next_weight=next_weight, trusted=trusted)
    return _remember(evidence, block, weight=weight)


def judge(evidence: Evidence, *, rules: GateRules, weight: float, next_weight: float) -> Judgement:
    """Return what the evidence says.

    Parameters
    ----------
    evidence
        What is known.
    rules, weight, next_weight
        As for `consume`.

    Raises
    ------
    ValueError
        If a weight is not between 0 and 100.
    """
    _check_weights(weight, next_weight)
    parts: dict[str, float] = {
        rule.name: rule.weight * (evidence.harm_purse.total + sum(_bag(evidence.harm, rule.name, WORSE)))
        for rule in rules.metrics
    }
    parts["alive"] = rules.alive_weight * (evidence.alive_purse.total + sum(evidence.alive))
    harm = sum(parts.values())
    worse = harm >= rules.harm_limit
    main_metric = max(parts, key=lambda name: parts[name])

    safety: dict[str, float] = {
        rule.name: evidence.safety_money + sum(_bag(evidence.safety, rule.name, BETTER)) for rule in rules.metrics
    }
    heroku_wealth = evidence.heroku_purse.total + sum(evidence.heroku)
    heroku_dead = weight < 100 and heroku_wealth >= rules.harm_limit
    heroku_silent = (
        weight < 100 and evidence.silent_seconds >= SILENT_SECONDS and evidence.silent_expected >= SILENT_EXPECTED
    )
    both_unhealthy = weight < 100 and _both_unhealthy(evidence)
    least = min(safety.values(), default=0.0)
    proven = least >= rules.safety_limit and harm < HARM_HOLD
    requests, seconds = _until_safe(evidence, safety, rules=rules, weight=weight, next_weight=next_weight)

    def verdict(name: str, good: bool) -> Verdict:
        if worse and name == main_metric:
            return "Worse"
        return "NotWorse" if good else "Undecided"

    metrics = [
        _say_metric(
            evidence,
            rule,
            verdict(rule.name, safety[rule.name] >= rules.safety_limit and parts[rule.name] < HARM_HOLD),
            parts[rule.name],
            safety[rule.name],
            rules.harm_limit,
            weight,
        )
        for rule in rules.metrics
    ]
    expected, answered = _expected(evidence, weight)
    answers = answered >= SICK_REQUESTS and answered >= ALIVE_SHARE * expected
    metrics.append(_say_alive(expected, answered, verdict("alive", answers), parts["alive"], rules.harm_limit, weight))
    return Judgement(
        harm=harm,
        harm_limit=rules.harm_limit,
        worse=worse,
        safe=proven and not (heroku_dead or heroku_silent or both_unhealthy),
        safety=least,
        safety_limit=rules.safety_limit,
        heroku_dead=heroku_dead,
        heroku_wealth=heroku_wealth,
        heroku_silent=heroku_silent,
        both_unhealthy=both_unhealthy,
        metrics=tuple(metrics),
        main_metric=main_metric,
        eks_requests_needed=requests,
        seconds_to_safe=seconds,
        samples=evidence.total[1].requests,
    )


# --- betting ---------------------------------------------------------------------------------------------------------


def _wager_alive(evidence: Evidence, block: Block, *, rules: GateRules, weight: float) -> Evidence:
    """Bet that a leg answers less than its weight lets expect, for either leg.

    The exposure is taken from the weight: taken from the requests that were answered, a leg that hangs would show as no
    traffic. At 100 % no control says how much traffic there is, and a quiet night must not look like an outage, so
    nothing is bet: there a failing leg shows in *errors*, a hanging one too as soon as the route's time-out turns its
    requests into 504s.
    """
    if weight >= 100:
        return evidence
    first = evidence.blocks == 0
    heroku, eks = block.heroku, block.eks
    alive_purse, alive_money = evidence.alive_purse.draw(first=first, intervals=1.0)
    heroku_purse, heroku_money = evidence.heroku_purse.draw(first=first, intervals=1.0)
    odds = weight / (100.0 - weight)
    return replace(
        evidence,
        alive=_bet_dead(
            wager.add(evidence.alive, alive_money), eks, heroku, odds, temper=2.0 if weight > 50 else 1.0, rules=rules
        ),
        alive_purse=alive_purse,
        heroku=_bet_dead(
            wager.add(evidence.heroku, heroku_money),
            heroku,
            eks,
            1.0 / odds,
            temper=2.0 if weight < 50 else 1.0,
            rules=rules,
        ),
        heroku_purse=heroku_purse,
    )


def _bet_dead(bag: Bag, judged: Counts, control: Counts, odds: float, *, temper: float, rules: GateRules) -> Bag:
    # Lowering a factor is always fair, so the cap may depend on the block. What failed is final: two full blocks are
    # enough, so that refused connections are answered within three scrapes of 5 s for most onsets, and for all from 10
    # EKS requests/s on. Silence may be a pause whose answers still come: it takes three.
    # Simulated with blocks of 5 s, 30-minute cutovers, 10/25/50 %, bursts, clumps, shared incidents, missed scrapes:
    # alive rolled back 0 of 900 at 5, 50 and 500 requests/s. Beyond that, one leg failing everything for up to 5 s
    # every two minutes was taken for dead in 18 of 450 (8 of 60 at 500/s with 7 instead of 6), pausing for up to 8 s
    # in 3 of 450 (7 of 120 with 6 instead of 4).
    missing = odds * control.successes - judged.successes
    if control.errors > SHARED_RATIO * control.requests:
        cap = 1.0
    elif judged.errors > missing / 2.0:
        cap = rules.failed_cap
    else:
        cap = rules.silent_cap
    factors = tuple(
        wager.log_factor(psi, judged.successes, control.successes, 0.0, ALIVE_SHARE * odds, 0.0) for psi in DEAD
    )
    return wager.bet(bag, factors, cap=cap * rules.unit, temper=temper)


def _pay_in(evidence: Evidence, block: Block, rules: GateRules) -> Evidence:
    purse, money = evidence.harm_purse.draw(
        first=evidence.blocks == 0,
        intervals=(block.end - block.start) / CAP_SECONDS,
    )
    harm: dict[str, Bag] = {
        rule.name: wager.add(_bag(evidence.harm, rule.name, WORSE), money) for rule in rules.metrics
    }
    return replace(evidence, harm=harm, harm_purse=purse)


def _ripe(evidence: Evidence, weight: float) -> bool:
    """Whether the pool is to be judged.

    Not before 15 s: a cap per time cuts most where a few errors fall into a short block, so that short blocks would
    make the judge slower and not faster (2 % errors at 10 %, 50 requests/s: 412 s with blocks of 5 s, 221 s with 15 s).
    """
    if evidence.pool_seconds < CAP_SECONDS:
        return False
    yardstick = evidence.pool[1] if weight >= 100 else evidence.pool[0]
    return yardstick.requests >= POOL_REQUESTS or evidence.pool_seconds >= POOL_SECONDS


def _wager_metrics(
    evidence: Evidence, *, rules: GateRules, weight: float, next_weight: float, trusted: bool
) -> Evidence:
    """Bet the pooled blocks on every metric, for harm and (where trusted) for safety, and empty the pool."""
    intervals = evidence.pool_seconds / CAP_SECONDS
    cap = rules.unit * min(intervals, POOLED_CAP)
    temper = 2.0 if 50 < weight < 100 else 1.0
    harm, safety = dict(evidence.harm), dict(evidence.safety)
    money = 0.0
    if trusted:
        # 1.0 is the money of an untouched step.
        money = SAFETY_FIRST if evidence.safety_money == 1.0 else min(evidence.safety_money, SAFETY_FLOW * intervals)
    for rule in rules.metrics:
        worse = _factors(evidence, rule, rule.harm, WORSE, weight, 1.0)
        better = _factors(evidence, rule, rule.advance, BETTER, weight, next_weight / 100.0)
        if worse is not None:
            harm[rule.name] = wager.bet(_bag(harm, rule.name, WORSE), worse, cap=cap, temper=temper)
        if trusted:
            bag = wager.add(_bag(safety, rule.name, BETTER), money)
            if better is not None:
                bag = wager.bet(bag, better, cap=cap, top=2.0 * rules.safety_limit)
            safety[rule.name] = bag
    return replace(
        evidence,
        harm=harm,
        safety=safety,
        safety_money=evidence.safety_money - money,
        pool=(Counts(), Counts()),
        pool_seconds=0.0,
    )


def _factors(
    evidence: Evidence,
    rule: MetricRule,
    tolerance: Tolerance,
    psis: tuple[float, ...],
    weight: float,
    reach: float,
) -> tuple[float, ...] | None:
    """Log factors of the pool, or None when there is nothing to compare with."""
    bad_a, total_a = _of(evidence.pool[0], rule.name)
    bad_b, total_b = _of(evidence.pool[1], rule.name)
    if weight >= 100:
        limit = _frozen_limit(evidence, rule, tolerance)
        return tuple(wager.log_factor(psi, bad_b, 0.0, total_b, 0.0, limit) for psi in psis)
    if total_a < 1:
        return None
    c, margin = tolerance.ratio * total_b / total_a, tolerance.margin / reach
    return tuple(wager.log_factor(psi, bad_b, bad_a, total_b, c, margin) for psi in psis)


def _frozen_limit(evidence: Evidence, rule: MetricRule, tolerance: Tolerance) -> float:
    """Tolerated fraction without a control: from the reference, but never below the floor."""
    bad, total = _of(evidence.reference, rule.name)
    return max(tolerance.ratio * _ratio(bad, total) + tolerance.margin, rule.floor)


# --- memory ----------------------------------------------------------------------------------------------------------


def _remember(evidence: Evidence, block: Block, *, weight: float) -> Evidence:
    """Count the block for the display, the recent window, Heroku's silence and the reference."""
    heroku, eks, seconds = block.heroku, block.eks, block.end - block.start
    kept, left = _slide(evidence.recent, block)
    reference = evidence.reference
    # What is normal is taken from what has left the recent window, and only if Heroku was well in it. Taken from each
    # block as it comes, the first seconds of an incident, too few to show, would make the rest of it normal.
    if not _sick(_recent_sum((*left, *kept))[0], reference):
        for slot in left:
            reference += slot.heroku
    evidence = replace(
        evidence,
        total=(evidence.total[0] + heroku, evidence.total[1] + eks),
        total_seconds=evidence.total_seconds + seconds,
        blocks=evidence.blocks + 1,
        empty=evidence.empty + (block.requests == 0),
        recent=kept,
        reference=reference,
    )
    if weight >= 100:
        return evidence
    if heroku.requests > 0:
        return replace(evidence, silent_seconds=0.0, silent_expected=0.0)
    return replace(
        evidence,
        silent_seconds=evidence.silent_seconds + seconds,
        silent_expected=evidence.silent_expected + eks.requests * (100.0 - weight) / weight,
    )


def _slide(recent: tuple[Recent, ...], block: Block) -> tuple[tuple[Recent, ...], tuple[Recent, ...]]:
    """Return the slots of the recent window with one more block, and those that have left it."""
    slot = math.floor(block.start / RECENT_BIN_SECONDS)
    heroku, eks = block.heroku, block.eks
    # Slots and not sums that decay: an incident is out of them for good after at most a minute, whatever its size.
    horizon = block.end - RECENT_SECONDS
    kept = [r for r in recent if (r.slot + 1) * RECENT_BIN_SECONDS > horizon and r.slot <= slot]
    left = tuple(r for r in recent if (r.slot + 1) * RECENT_BIN_SECONDS <= horizon)
    if kept and kept[-1].slot == slot:
        last = kept.pop()
        heroku, eks = last.heroku + heroku, last.eks + eks
    return (*kept, Recent(slot, heroku, eks)), left


def _recent_sum(recent: Sequence[Recent]) -> tuple[Counts, Counts]:
    heroku = eks = Counts()
    for r in recent:
        heroku, eks = heroku + r.heroku, eks + r.eks
    return heroku, eks


def _both_unhealthy(evidence: Evidence) -> bool:
    heroku, eks = _recent_sum(evidence.recent)
    return _sick(heroku, evidence.reference) and _sick(eks, evidence.reference)


def _sick(recent: Counts, reference: Counts) -> bool:
    """Whether a leg fails, or is very slow, far more than Heroku did while it was well."""
    names: tuple[MetricName, ...] = ("errors", "verySlow")
    for name in names:
        bad, total = _of(recent, name)
        limit = max(SICK_RATIO, SICK_FACTOR * _ratio(*_of(reference, name)))
        if total >= SICK_REQUESTS and bad > limit * total:
            return True
    return False


# --- saying it -------------------------------------------------------------------------------------------------------


def least_requests(rules: GateRules, next_weight: float) -> float:
    """Return the EKS requests without which not even a leg without any fault can prove that a step is safe."""
    return max(math.log(rules.safety_limit) * next_weight / 100.0 / rule.advance.margin for rule in rules.metrics)


def _until_safe(
    evidence: Evidence, safety: Mapping[str, float], *, rules: GateRules, weight: float, next_weight: float
) -> tuple[float | None, float | None]:
    """Estimate the EKS requests and the seconds until every metric is safe, if all goes on as in this step so far."""
    eks = evidence.total[1]
    rate = eks.requests / evidence.total_seconds if evidence.total_seconds > 0 else 0.0
    requests, seconds = 0.0, 0.0
    for rule in rules.metrics:
        if safety[rule.name] >= rules.safety_limit:
            continue
        margin = rule.advance.margin / (next_weight / 100.0)
        if weight >= 100:
            margin = _frozen_limit(evidence, rule, rule.advance)
        # Not even a leg without any fault can prove it with fewer.
        least = math.log(rules.safety_limit) / margin - eks.requests
        growth = _safety_growth(evidence, rule, margin, rules=rules, weight=weight)
        if growth is None or rate <= 0:
            requests, seconds = max(requests, least), math.inf
            continue
        waits = [
            math.log(max(rules.safety_limit / money, 1.0)) / min(nats * rate, rules.unit / CAP_SECONDS)
            for nats, money in zip(growth, _safety_stake(evidence, rule), strict=True)
            if nats > 0
        ]
        wait = max(min(waits, default=math.inf), least / rate)
        requests, seconds = max(requests, wait * rate), max(seconds, wait)
    return (None if math.isinf(requests) else requests), (None if math.isinf(seconds) else seconds)


def _safety_growth(
    evidence: Evidence, rule: MetricRule, margin: float, *, rules: GateRules, weight: float
) -> tuple[float, ...] | None:
    """Nats per EKS request by which this step's ratios let the bets on safety grow, None before there are any."""
    control = evidence.reference if weight >= 100 else evidence.total[0]
    bad_a, total_a = _of(control, rule.name)
    bad_b, total_b = _of(evidence.total[1], rule.name)
    if total_b < 1 or (weight < 100 and total_a < 1):
        return None
    # A few requests say little of EKS' own ratio. Until there are as many as the proof will take, Heroku's counts too.
    known = math.log(rules.safety_limit) / margin
    ratio = (bad_b + known * _ratio(bad_a, total_a)) / (total_b + known)
    if weight >= 100:
        return tuple(wager.log_factor(psi, ratio, 0.0, 1.0, 0.0, margin) for psi in BETTER)
    c = rule.advance.ratio * total_b / total_a
    return tuple(wager.log_factor(psi, ratio, bad_a / total_b, 1.0, c, margin) for psi in BETTER)


def _safety_stake(evidence: Evidence, rule: MetricRule) -> Bag:
    """What the bets on safety have to grow from: at least what flows in with the next one."""
    fresh = SAFETY_FIRST if evidence.safety_money == 1.0 else SAFETY_FLOW
    return wager.add(_bag(evidence.safety, rule.name, BETTER), fresh)


def _say_metric(
    evidence: Evidence,
    rule: MetricRule,
    verdict: Verdict,
    harm: float,
    safety: float,
    harm_limit: float,
    weight: float,
) -> MetricJudgement:
    heroku_bad, heroku_total = _of(evidence.total[0], rule.name)
    eks_bad, eks_total = _of(evidence.total[1], rule.name)
    if weight >= 100:
        limit = _frozen_limit(evidence, rule, rule.harm)
        said = f"EKS {_percent(eks_bad, eks_total)} of {eks_total:,.0f} requests, no control, {100 * limit:.2g} % tolerated"
    else:
        said = (
            f"EKS {_percent(eks_bad, eks_total)} vs Heroku {_percent(heroku_bad, heroku_total)} "
            f"over {eks_total:,.0f}/{heroku_total:,.0f} requests"
        )
    return MetricJudgement(
        name=rule.name,
        verdict=verdict,
        harm=harm,
        safety=safety,
        heroku_bad=heroku_bad,
        heroku_total=heroku_total,
        eks_bad=eks_bad,
        eks_total=eks_total,
        sentence=f"{said}; evidence of harm {_factor(harm)} of {harm_limit:,.0f}",
    )


def _expected(evidence: Evidence, weight: float) -> tuple[float, float]:
    """How many good answers of EKS its weight lets expect in the last minute, and how many there were."""
    heroku, eks = _recent_sum(evidence.recent)
    if weight >= 100:
        return eks.requests, eks.successes
    return heroku.successes * weight / (100.0 - weight), eks.successes


def _say_alive(
    expected: float, answered: float, verdict: Verdict, harm: float, harm_limit: float, weight: float
) -> MetricJudgement:
    if weight >= 100:
        said = f"EKS answered {answered:,.0f} of {expected:,.0f} requests well in the last minute, no control"
    else:
        said = f"EKS answered {answered:,.0f} requests well in the last minute, about {expected:,.0f} expected"
    return MetricJudgement(
        name="alive",
        verdict=verdict,
        harm=harm,
        safety=0.0,
        heroku_bad=0.0,
        heroku_total=expected,
        eks_bad=max(0.0, expected - answered),
        eks_total=expected,
        sentence=f"{said}; evidence of harm {_factor(harm)} of {harm_limit:,.0f}",
    )


def _percent(bad: float, total: float) -> str:
    if total <= 0:
        return "no answers"
    percent = 100.0 * bad / total
    return f"{percent:.1f} %" if percent >= 1 or percent == 0 else f"{percent:.2g} %"


def _factor(wealth: float) -> str:
    if wealth >= 1000:
        return "over 1,000"
    return f"{wealth:.0f}" if wealth >= 9.95 else f"{wealth:.1f}"


# --- numbers ---------------------------------------------------------------------------------------------------------


def _of(counts: Counts, name: MetricName) -> tuple[float, float]:
    """Bad and all requests of a metric."""
    match name:
        case "errors":
            return counts.errors, counts.requests
        case "slow":
            return counts.slow, counts.timed
        case "verySlow":
            return counts.very_slow, counts.timed


def _ratio(bad: float, total: float) -> float:
    return bad / total if total > 0 else 0.0


def _bag(bags: Mapping[str, Bag], name: str, psis: tuple[float, ...]) -> Bag:
    return bags.get(name) or wager.empty(len(psis))


def _plausible(counts: Counts) -> bool:
    """Whether the counts are possible at all; what is not is never bet on."""
    numbers = (counts.requests, counts.errors, counts.timed, counts.slow, counts.very_slow)
    return (
        all(0 <= number <= MOST_REQUESTS for number in numbers)
        and counts.errors <= counts.requests
        and counts.slow <= counts.timed
        and counts.very_slow <= counts.timed
    )


def _check_weights(weight: float, next_weight: float) -> None:
    if not (0 <= weight <= 100 and 0 < next_weight <= 100):
        raise ValueError(f"weights are percentages, not {weight} and then {next_weight}")
