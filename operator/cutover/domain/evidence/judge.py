"""The judge: compares the two legs of a cutover on live traffic, block by block.

It says of the EKS leg `Verdict.FAIL`, `Verdict.PASS`, or that it cannot tell yet, while being asked after every block,
and bounds the chance of a false rollback over the whole cutover. It stands alone: plain numbers in, plain numbers out,
no clock and no I/O. To run it on your own numbers::

    rules = GateRules()
    evidence = begin_step(Evidence.start())
    for block in blocks:  # cutover.domain.evidence.blocks.Block, in the order of time
        evidence = consume(evidence, block, rules=rules, weight=10, next_weight=25, observed_at=blocks[0].start)
        judgement = judge(evidence, rules=rules, weight=10, next_weight=25)

`Evidence` is the whole state. `Evidence.dump` and `Evidence.load` carry it through JSON.

A ratio of a team's own (bad events of all events, per leg) is judged by rules with one metric and without *alive*, on
blocks that hold its counts as requests and errors. `combine` makes one judgement of several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from cutover.domain.evidence import wager
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.wager import BETTER, DEAD, WORSE, Bag, Evidence, Recent
from cutover.domain.verdicts import Verdict

__all__ = [
    "DEFAULT_METRICS",
    "Evidence",
    "GateRules",
    "Judgement",
    "MetricJudgement",
    "MetricRule",
    "SideSlo",
    "Tolerance",
    "begin_step",
    "combine",
    "consume",
    "judge",
    "learn",
]

MetricName = Literal["errors", "slow", "verySlow"]

CAP_SECONDS = 15.0
"""The caps are per this time, whatever the length of a block: clumps of errors last seconds, not blocks."""
POOLED_CAP = 4.0
"""A pool earns at most this many caps."""
POOL_SECONDS = 120.0
"""A thin pool is judged at the latest after this time."""
POOL_REQUESTS = 20.0
"""A pool with this many requests of the control is judged at once."""

ALIVE = "alive"
ALIVE_SHARE = 0.75
"""A leg is alive when it answers at least this share of what its weight lets expect."""

SHARED_RATIO, SHARED_CAP = 0.2, 0.25
"""With more errors than this the control of *alive* is failing itself and says little: a block earns at most this."""

THIN_REQUESTS, THIN_SHARE = 50.0, 0.8
"""With fewer EKS requests in 15 s the cap of harm is smaller: there two or three errors, one clump, reach any cap.

So it is without a control, where nothing cancels an incident that Heroku would have had as well."""
DEAD_RATIO, DEAD_CAP = 0.9, 0.3
"""Where so much of EKS fails it is dead. Without a control a pool may then contribute so much, of ``ln(1/alpha)``."""

SAFETY_FIRST, SAFETY_FLOW = 0.6, 16.0
"""Money of the safety test: most at its first bet in a step; the rest flows in, 0.01 in the first 15 s, then ever more
slowly. All of it together is 1, and it never runs out: a step may find its quiet minutes after hours."""
LATELY_SECONDS = 600.0
"""Time constant with which counts fade that have to agree with a proof of safety."""

RECENT_SECONDS, RECENT_BIN_SECONDS = 45.0, 15.0
"""The recent window, in slots: with a slot that is half over it is a minute at most."""
SICK_RATIO, SICK_FACTOR, SICK_REQUESTS = 0.05, 5.0, 10.0
"""A leg is unhealthy above this fraction, and this many times the reference, with at least so many requests."""
RATE_SECONDS = 60.0
"""So much of a step must have been counted before its traffic can be called too little."""
SILENT_SECONDS, SILENT_EXPECTED = 60.0, 5.0
"""Heroku is silent after this time without an answer, where so many were to be expected."""
HARM_HOLD = 10.0
"""Nothing advances while the evidence of harm is this large."""
PATIENCE_SECONDS = 600.0
"""Evidence of safety that takes longer is not on its way."""
OWN_WEIGHT = 0.2
"""Share of the rollback money for a gate of the team's own, where the mesh's gates together have 1."""
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
        Share of the rollback money, a fraction. All metrics and alive together have at most 1. The share of a metric
        that is not enforced goes to those that are, see `GateRules.share`.
    harm
        Beyond this EKS is worse.
    advance
        Within this EKS is good enough. The margin is meant for the whole traffic: it is divided by the next weight.
    floor
        Smallest tolerated fraction where there is no control to compare with.
    enforced
        Whether it has a say. A metric that is only observed is judged and shown, and moves nothing.
    """

    name: MetricName
    weight: float
    harm: Tolerance
    advance: Tolerance
    floor: float
    enforced: bool = True


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
        Share of the rollback money for *alive*. With 0 the counts are not taken for the requests of a leg: nothing is
        said of whether a leg is alive, silent or ill.
    harm_cap, safety_cap
        What 15 s may contribute to the evidence of harm, or of safety, of a metric, as a share of ``ln(1/alpha)``,
        which is the way from 1 to the limit. Real errors come in clumps, so no clump may decide alone.
    silent_cap, failed_cap
        What one block may contribute to *alive*, in the same measure: where the missing answers are silence, and where
        most of them came as errors.
    counted
        What is counted, in the plural, for sentences.

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
    harm_cap: float = 1 / 4.5
    safety_cap: float = 1 / 4
    silent_cap: float = 1.0
    failed_cap: float = 1.5
    counted: str = "requests"

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.beta < 1):
            raise ValueError("alpha and beta are probabilities between 0 and 1")
        caps = (self.harm_cap, self.safety_cap, self.silent_cap, self.failed_cap)
        if not (self.block_seconds > 0 and self.warm_up_seconds >= 0 and min(caps) > 0):
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
    def way(self) -> float:
        """From 1 to the limit of harm, in nats: the measure of the caps."""
        return math.log(self.harm_limit)

    @property
    def legs(self) -> bool:
        """Whether the counts are the requests of a leg, so that silence and sickness of a leg can be seen in them."""
        return self.alive_weight > 0

    def share(self, rule: MetricRule) -> float:
        """Return what a metric has of the rollback money: its weight, and its part of what observed ones leave."""
        if not rule.enforced:
            return 0.0
        enforced = sum(other.weight for other in self.metrics if other.enforced)
        return rule.weight * sum(other.weight for other in self.metrics) / enforced if enforced else 0.0


_USUAL = GateRules()


@dataclass(frozen=True, slots=True)
class MetricJudgement:
    """What is said of one metric.

    Parameters
    ----------
    name
        A metric's name, ``alive``, or that of a gate of the team's own.
    verdict
        ``FAIL`` when the whole judgement is worse and this metric carries most of it or would be enough alone; for a
        metric that is only observed, when its own evidence would be enough. ``PASS`` when it is within the margin of
        the next step and little speaks against it.
    enforced
        Whether it has a say.
    harm, harm_limit
        This metric's part of the evidence of harm; all parts together are the judgement's. Of a metric that is only
        observed all of its own evidence, which is no part of anything.
    safety
        Evidence that it is within the margin of the next step; once it was enough in this step, what is left of it.
        0 for ``alive``, which has no such test.
    heroku_bad, heroku_total, eks_bad, eks_total
        Counts in this step. For ``alive`` those of the last minute: what was expected of the leg and what of it is
        missing (Heroku's is the yardstick, so nothing of it is).
    counts
        The counts for people.
    """

    name: str
    verdict: Verdict
    enforced: bool
    harm: float
    harm_limit: float
    safety: float
    heroku_bad: float
    heroku_total: float
    eks_bad: float
    eks_total: float
    counts: str

    @property
    def sentence(self) -> str:
        """All of it for people."""
        said = f"{self.counts}; evidence of harm {_factor(self.harm)} of {self.harm_limit:,.0f}"
        return said if self.enforced else f"{said}, only observed"


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
        Whether every enforced metric's evidence of safety is enough for the next step and nothing speaks against it:
        evidence of harm below 10, Heroku neither dead nor silent, the legs not both unhealthy. Where no metric is
        enforced *alive* has to pass instead, if it is judged.
    safety, safety_limit
        Evidence of safety of the enforced metric that has least, and what is enough.
    heroku_dead, heroku_wealth
        Whether Heroku no longer answers while EKS does, and the evidence of that (same limit as harm).
    heroku_silent
        Whether Heroku has answered nothing for a minute, though it has weight and EKS is busy.
    both_unhealthy
        Whether both legs lately fail, or are very slow, far more than Heroku did while it was well.
    metrics
        Per metric, then ``alive`` if it is judged, then the team's own gates.
    main_metric
        The metric that carries most of the harm, ``""`` if none has a say.
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

    @property
    def verdict(self) -> Verdict:
        """What is said as a whole."""
        if self.worse:
            return Verdict.FAIL
        if self.safe:
            return Verdict.PASS
        verdicts = {metric.verdict for metric in self.metrics if metric.enforced and metric.name != ALIVE}
        return Verdict.INSUFFICIENT_TRAFFIC if Verdict.INSUFFICIENT_TRAFFIC in verdicts else Verdict.UNDECIDED

    @property
    def alive(self) -> MetricJudgement | None:
        """What is said of *alive*, if it is judged."""
        return next((metric for metric in self.metrics if metric.name == ALIVE), None)


@dataclass(frozen=True, slots=True)
class SideSlo:
    """A gate of the team's own beside those of the mesh.

    Parameters
    ----------
    name
        Its name.
    judgement
        What `judge` says of its own evidence, under rules with one metric and the plan's alpha.
    weight
        Its share of the rollback money, where the mesh's gates together have 1.
    """

    name: str
    judgement: Judgement
    weight: float = OWN_WEIGHT


def begin_step(evidence: Evidence) -> Evidence:
    """Return the evidence with which a new step starts: safety is earned anew, harm stays known."""
    return evidence._replace(
        safety={},
        safety_money=1.0,
        proven=frozenset(),
        lately=(Counts(), Counts()),
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


def learn(evidence: Evidence, block: Block, rules: GateRules = _USUAL) -> Evidence:
    """Take in one block from before the first step: what is normal for Heroku. It is evidence of nothing else."""
    if not block.usable or block.end <= evidence.last_end or not _plausible(block.heroku) or not block.heroku.requests:
        return evidence
    return _remember(evidence, block, rules=rules, weight=0)._replace(last_end=block.end)


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
    evidence = evidence._replace(last_end=block.end)
    if weight <= 0 or block.start < observed_at:
        return evidence
    if not (block.usable and block.end > block.start and _plausible(block.heroku) and _plausible(block.eks)):
        return evidence._replace(gaps=evidence.gaps + 1)

    # Whether to bet on safety must be known before the block, or the choice itself would be a bet.
    trusted = not (rules.legs and _both_unhealthy(evidence))
    evidence = _wager_alive(evidence, block, rules=rules, weight=weight)
    evidence = _pay_in(evidence, block, rules)
    if block.start >= observed_at + rules.warm_up_seconds:
        evidence = evidence._replace(
            pool=(evidence.pool[0] + block.heroku, evidence.pool[1] + block.eks),
            pool_seconds=evidence.pool_seconds + block.end - block.start,
        )
        if _ripe(evidence, weight):
            evidence = _wager_metrics(evidence, rules=rules, weight=weight, next_weight=next_weight, trusted=trusted)
    return _remember(evidence, block, rules=rules, weight=weight)


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
    own = {rule.name: _own_wealth(evidence, rule, rules) for rule in rules.metrics}
    parts: dict[str, float] = {rule.name: own[rule.name] for rule in rules.metrics if rule.enforced}
    if rules.legs:
        parts[ALIVE] = rules.alive_weight * (evidence.alive_purse.total + sum(evidence.alive))
    harm = sum(parts.values())
    worse = harm >= rules.harm_limit
    main_metric = max(parts, key=lambda name: parts[name], default="")

    metrics = []
    waits = [(0.0, 0.0)]
    for rule in rules.metrics:
        safety = evidence.safety_money + sum(_bag(evidence.safety, rule.name, BETTER))
        wait = _until_safe(evidence, rule, safety, rules=rules, weight=weight, next_weight=next_weight)
        if rule.enforced:
            waits.append(wait)
            fails = worse and (rule.name == main_metric or own[rule.name] >= rules.harm_limit)
        else:
            fails = own[rule.name] >= rules.harm_limit
        total = _of(evidence.total[1], rule.name)[1]
        if fails:
            verdict = Verdict.FAIL
        elif safety >= rules.safety_limit and own[rule.name] < HARM_HOLD:
            verdict = Verdict.PASS
        elif evidence.total_seconds < RATE_SECONDS or wait[1] <= PATIENCE_SECONDS:
            verdict = Verdict.UNDECIDED
        else:
            # Where not even twice the requests that the proof takes at least have brought it, more may not either.
            least = math.log(rules.safety_limit) / _margin(evidence, rule, weight, next_weight)
            verdict = Verdict.UNDECIDED if total >= 2.0 * least else Verdict.INSUFFICIENT_TRAFFIC
        metrics.append(_say_metric(evidence, rule, verdict, own[rule.name], safety, rules, weight))
    least_safe = min((metric.safety for metric in metrics if metric.enforced), default=rules.safety_limit)
    requests, seconds = max(wait[0] for wait in waits), max(wait[1] for wait in waits)

    heroku_dead = heroku_silent = both_unhealthy = False
    proven = least_safe >= rules.safety_limit and harm < HARM_HOLD
    if rules.legs:
        alive = _judge_alive(evidence, parts[ALIVE], worse and main_metric == ALIVE, rules, weight)
        metrics.append(alive)
        if len(waits) == 1:
            proven = proven and alive.verdict is Verdict.PASS
    heroku_wealth = evidence.heroku_purse.total + sum(evidence.heroku) if rules.legs else 0.0
    if rules.legs and weight < 100:
        heroku_dead = heroku_wealth >= rules.harm_limit
        heroku_silent = evidence.silent_seconds >= SILENT_SECONDS and evidence.silent_expected >= SILENT_EXPECTED
        both_unhealthy = _both_unhealthy(evidence)
    return Judgement(
        harm=harm,
        harm_limit=rules.harm_limit,
        worse=worse,
        safe=proven and not (heroku_dead or heroku_silent or both_unhealthy),
        safety=least_safe,
        safety_limit=rules.safety_limit,
        heroku_dead=heroku_dead,
        heroku_wealth=heroku_wealth,
        heroku_silent=heroku_silent,
        both_unhealthy=both_unhealthy,
        metrics=tuple(metrics),
        main_metric=main_metric,
        eks_requests_needed=None if math.isinf(requests) else requests,
        seconds_to_safe=None if math.isinf(seconds) else seconds,
        samples=evidence.total[1].requests,
    )


def combine(main: Judgement, own: Sequence[SideSlo]) -> Judgement:
    """Make one judgement of the mesh's gates and the team's own: one test, which is wrong with a chance of at most alpha.

    Each gate's evidence counts with its share ``w`` of the money, all shares together being 1, and the largest decides:
    a gate alone rolls back at ``1/(w*alpha)``, which has a chance of at most ``w*alpha`` while it is not worse. These
    chances add up to alpha whatever the gates have to do with each other, and whenever each is read.

    An average of the evidence would be a little faster where several gates see the same harm (by ``ln 2`` with two of
    the same evidence), and is as valid while all are read up to the same moment. But own queries come late. Then one
    gate's evidence is from before what another has seen already, it can be caught at a peak that is past, and nothing
    bounds the average.

    The share of a gate that is only observed is kept for it. So a change of its mode, even on the very sight of its
    evidence, gives nobody money that was lost before.

    Parameters
    ----------
    main
        What is said of the mesh's gates.
    own
        The team's own gates, all of the plan's in all passes: one that is added or dropped while the plan is under way
        changes the shares, and adds to the bound up to what it has of the money.

    Returns
    -------
    Judgement
        ``harm`` is that of the gate with most; estimates of seconds and ``safe`` are for all, requests needed and
        samples those of the mesh.
    """
    if not own:
        return main
    everything = 1.0 + sum(gate.weight for gate in own)
    limit = main.harm_limit
    metrics = [_scaled(metric, 1.0 / everything, main.harm / everything >= limit) for metric in main.metrics]
    parts = {main.main_metric: main.harm / everything}
    enforced = [main]
    for gate in own:
        (metric,) = gate.judgement.metrics
        share = gate.weight / everything
        metrics.append(replace(_scaled(metric, share, metric.harm * share >= limit), name=gate.name))
        if metric.enforced:
            parts[gate.name] = metric.harm * share
            enforced.append(gate.judgement)
    main_metric = max(parts, key=lambda name: parts[name])
    seconds = [judgement.seconds_to_safe for judgement in enforced]
    return replace(
        main,
        harm=parts[main_metric],
        worse=parts[main_metric] >= limit,
        safe=all(judgement.safe for judgement in enforced),
        safety=min(judgement.safety for judgement in enforced),
        metrics=tuple(metrics),
        main_metric=main_metric,
        seconds_to_safe=None if None in seconds else max(wait for wait in seconds if wait is not None),
    )


def _scaled(metric: MetricJudgement, share: float, worse: bool) -> MetricJudgement:
    """Return what is said of a metric whose evidence counts with a share; what failed alone may not be enough then."""
    if not metric.enforced:
        return metric
    fails = metric.verdict is Verdict.FAIL
    return replace(
        metric, harm=metric.harm * share, verdict=Verdict.UNDECIDED if fails and not worse else metric.verdict
    )


# --- betting ---------------------------------------------------------------------------------------------------------


def _wager_alive(evidence: Evidence, block: Block, *, rules: GateRules, weight: float) -> Evidence:
    """Bet that a leg answers less than its weight lets expect, for either leg.

    The exposure is taken from the weight: taken from the requests that were answered, a leg that hangs would show as no
    traffic. At 100 % no control says how much traffic there is, and a quiet night must not look like an outage, so
    nothing is bet: there a failing leg shows in *errors*, a hanging one too as soon as the route's time-out turns its
    requests into 504s.
    """
    if weight >= 100 or not rules.legs:
        return evidence
    first = evidence.blocks == 0
    heroku, eks = block.heroku, block.eks
    alive_purse, alive_money = evidence.alive_purse.draw(first=first, intervals=1.0)
    heroku_purse, heroku_money = evidence.heroku_purse.draw(first=first, intervals=1.0)
    odds = weight / (100.0 - weight)
    return evidence._replace(
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
    # every two minutes was taken for dead in 18 of 450 (8 of 60 at 500/s with 1.75 instead of 1.5), pausing for up to
    # 8 s in 3 of 450 (7 of 120 with 1.5 instead of 1).
    missing = odds * control.successes - judged.successes
    if control.errors > SHARED_RATIO * control.requests:
        cap = SHARED_CAP
    elif judged.errors <= missing / 2.0:
        cap = rules.silent_cap
    elif judged.errors >= DEAD_RATIO * judged.requests:
        cap = rules.failed_cap
    else:
        cap = rules.failed_cap / 2.0
    factors = tuple(
        wager.log_factor(psi, judged.successes, control.successes, 0.0, ALIVE_SHARE * odds, 0.0) for psi in DEAD
    )
    return wager.bet(bag, factors, cap=cap * rules.way, temper=temper)


def _pay_in(evidence: Evidence, block: Block, rules: GateRules) -> Evidence:
    purse, money = evidence.harm_purse.draw(
        first=evidence.blocks == 0,
        intervals=(block.end - block.start) / CAP_SECONDS,
    )
    # Shares apply to the money as it is put in. So what a metric has won or lost never changes its worth with the mode
    # or the number of the others, and a metric that was only observed starts with fresh money when it is enforced.
    harm = dict(evidence.harm)
    observed: dict[str, Bag] = {}
    for rule in rules.metrics:
        if rule.enforced:
            harm[rule.name] = wager.add(_bag(harm, rule.name, WORSE), money * rules.share(rule))
        else:
            observed[rule.name] = wager.add(_bag(evidence.observed, rule.name, WORSE), money)
    return evidence._replace(harm=harm, observed=observed, harm_purse=purse)


def _own_wealth(evidence: Evidence, rule: MetricRule, rules: GateRules) -> float:
    """What a metric adds to the evidence of harm; of one that is only observed, what it would be alone."""
    if rule.enforced:
        return rules.share(rule) * evidence.harm_purse.total + sum(_bag(evidence.harm, rule.name, WORSE))
    return evidence.harm_purse.total + sum(_bag(evidence.observed, rule.name, WORSE))


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
    cap = rules.way * min(intervals, POOLED_CAP)
    eks = evidence.pool[1]
    thin = weight >= 100 or eks.requests < THIN_REQUESTS * intervals
    harm_cap = cap * rules.harm_cap * (THIN_SHARE if thin else 1.0)
    # A pool is 15 s at least, longer than a pod takes to restart, so that this is no clump; nor are nine of them an
    # incident of a minute. Without it a dead leg takes twelve, and *alive*, which is faster, needs a control.
    dead_cap = rules.way * DEAD_CAP if weight >= 100 and eks.errors >= DEAD_RATIO * eks.requests else 0.0
    temper = 2.0 if 50 < weight < 100 else 1.0
    harm, observed = dict(evidence.harm), dict(evidence.observed)
    for rule in rules.metrics:
        worse = _factors(evidence.pool, evidence, rule, rule.harm, WORSE, weight, 1.0)
        if worse is not None:
            bags = harm if rule.enforced else observed
            most = max(harm_cap, dead_cap) if rule.name == "errors" else harm_cap
            bags[rule.name] = wager.bet(_bag(bags, rule.name, WORSE), worse, cap=most, temper=temper)
    evidence = evidence._replace(harm=harm, observed=observed)
    if trusted:
        evidence = _wager_safety(evidence, rules=rules, weight=weight, next_weight=next_weight, cap=cap)
    return evidence._replace(pool=(Counts(), Counts()), pool_seconds=0.0)


def _wager_safety(evidence: Evidence, *, rules: GateRules, weight: float, next_weight: float, cap: float) -> Evidence:
    """Bet the pooled blocks on safety, metric by metric.

    Until a metric's wealth has reached ``1/beta`` in this step, its bag is a fair wager whose money is 1 in all. While
    the leg is outside the margin of that metric all through the step, wealth ever gets there with a chance of at most
    beta (Ville), and a leg is safe only when all its metrics have. So the bound is spent the first time, and whatever
    is asked for *afterwards* may follow any rule: it can only take back. What is asked for is that the proof still
    stands. The same bag goes on to say so, no more as a wager, and it has to be at the limit when the step is left:

    - 15 s take away at most what 15 s can give. A clump on EKS takes everything from a fair wager, and those on Heroku,
      which belong to the comparison, are capped; so wherever errors come in clumps, the longer the hold the less was
      left of a proof at its end. A leg that is steadily outside still loses its proof, in a few blocks where traffic
      is high; bags are clipped at ``1/beta`` so that there is not much to lose first.
    - That would let clumps of EKS alone pass, of any size. So the counts of about ten minutes, taken together, must
      speak for safety: at least one of the bets would have won on them. There clumps of both legs cancel. While none
      would, nothing is gained and losses have no limit.
    """
    intervals = evidence.pool_seconds / CAP_SECONDS
    # 1.0 is the money of an untouched step.
    first = evidence.safety_money == 1.0
    left = 1.0 - SAFETY_FIRST if first else wager.remaining(evidence.safety_money, SAFETY_FLOW, intervals)
    kept = math.exp(-evidence.pool_seconds / LATELY_SECONDS)
    lately = (_faded(evidence.lately[0], kept) + evidence.pool[0], _faded(evidence.lately[1], kept) + evidence.pool[1])
    cap *= rules.safety_cap
    safety: dict[str, Bag] = {}
    # Whoever drops the bags drops the proofs.
    proven = evidence.proven & evidence.safety.keys()
    for rule in rules.metrics:
        bag = wager.add(_bag(evidence.safety, rule.name, BETTER), evidence.safety_money - left)
        better = _factors(evidence.pool, evidence, rule, rule.advance, BETTER, weight, next_weight / 100.0)
        if better is not None:
            gain, most_lost = cap, math.inf
            if rule.name in proven:
                whole = _factors(lately, evidence, rule, rule.advance, BETTER, weight, next_weight / 100.0)
                gain, most_lost = (cap, cap) if whole and max(whole) >= 0 else (0.0, math.inf)
            bag = wager.bet(bag, better, cap=gain, top=rules.safety_limit, most_lost=most_lost)
        safety[rule.name] = bag
        if left + sum(bag) >= rules.safety_limit:
            proven |= {rule.name}
    return evidence._replace(safety=safety, safety_money=left, proven=proven, lately=lately)


def _faded(counts: Counts, kept: float) -> Counts:
    return Counts(
        counts.requests * kept, counts.errors * kept, counts.timed * kept, counts.slow * kept, counts.very_slow * kept
    )


def _factors(
    counts: tuple[Counts, Counts],
    evidence: Evidence,
    rule: MetricRule,
    tolerance: Tolerance,
    psis: tuple[float, ...],
    weight: float,
    reach: float,
) -> tuple[float, ...] | None:
    """Log factors of counts (Heroku, EKS), or None when there is nothing to compare with."""
    bad_a, total_a = _of(counts[0], rule.name)
    bad_b, total_b = _of(counts[1], rule.name)
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


def _remember(evidence: Evidence, block: Block, *, rules: GateRules, weight: float) -> Evidence:
    """Count the block for the display, the recent window, Heroku's silence and the reference."""
    heroku, eks, seconds = block.heroku, block.eks, block.end - block.start
    kept, left = _slide(evidence.recent, block)
    reference = evidence.reference
    # What is normal is taken from what has left the recent window, and only if Heroku was well in it. Taken from each
    # block as it comes, the first seconds of an incident, too few to show, would make the rest of it normal.
    # A ratio of the team's own may be anything while all is well.
    if not (rules.legs and _sick(_recent_sum((*left, *kept))[0], reference)):
        for slot in left:
            reference += slot.heroku
    evidence = evidence._replace(
        total=(evidence.total[0] + heroku, evidence.total[1] + eks),
        total_seconds=evidence.total_seconds + seconds,
        blocks=evidence.blocks + 1,
        empty=evidence.empty + (block.requests == 0),
        recent=kept,
        reference=reference,
    )
    if weight >= 100 or not rules.legs:
        return evidence
    if heroku.requests > 0:
        return evidence._replace(silent_seconds=0.0, silent_expected=0.0)
    return evidence._replace(
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
    return max(
        (math.log(rules.safety_limit) * next_weight / 100.0 / rule.advance.margin for rule in rules.metrics),
        default=0.0,
    )


def _margin(evidence: Evidence, rule: MetricRule, weight: float, next_weight: float) -> float:
    """The margin within which a metric is safe, as a fraction of EKS' requests."""
    if weight >= 100:
        return _frozen_limit(evidence, rule, rule.advance)
    return rule.advance.margin / (next_weight / 100.0)


def _until_safe(
    evidence: Evidence, rule: MetricRule, safety: float, *, rules: GateRules, weight: float, next_weight: float
) -> tuple[float, float]:
    """Estimate the EKS requests and the seconds until a metric is safe, if all goes on as in this step so far."""
    if safety >= rules.safety_limit:
        return 0.0, 0.0
    _, total = _of(evidence.total[1], rule.name)
    rate = total / evidence.total_seconds if evidence.total_seconds > 0 else 0.0
    margin = _margin(evidence, rule, weight, next_weight)
    # Not even a leg without any fault can prove it with fewer.
    least = max(0.0, math.log(rules.safety_limit) / margin - total)
    growth = _safety_growth(evidence, rule, margin, rules=rules, weight=weight)
    if growth is None or rate <= 0:
        return least, math.inf
    fastest = rules.safety_cap * rules.way / CAP_SECONDS
    waits = [
        math.log(max(rules.safety_limit / money, 1.0)) / min(nats * rate, fastest)
        for nats, money in zip(growth, _safety_stake(evidence, rule), strict=True)
        if nats > 0
    ]
    wait = max(min(waits, default=math.inf), least / rate)
    return wait * rate, wait


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
    money = evidence.safety_money
    fresh = SAFETY_FIRST if money == 1.0 else money - wager.remaining(money, SAFETY_FLOW, 1.0)
    return wager.add(_bag(evidence.safety, rule.name, BETTER), fresh)


def _say_metric(
    evidence: Evidence,
    rule: MetricRule,
    verdict: Verdict,
    harm: float,
    safety: float,
    rules: GateRules,
    weight: float,
) -> MetricJudgement:
    heroku_bad, heroku_total = _of(evidence.total[0], rule.name)
    eks_bad, eks_total = _of(evidence.total[1], rule.name)
    if weight >= 100:
        limit = _frozen_limit(evidence, rule, rule.harm)
        said = (
            f"EKS {_percent(eks_bad, eks_total, rules)} of {eks_total:,.0f} {rules.counted}, no control, "
            f"{100 * limit:.2g} % tolerated"
        )
    else:
        said = (
            f"EKS {_percent(eks_bad, eks_total, rules)} vs Heroku {_percent(heroku_bad, heroku_total, rules)} "
            f"over {eks_total:,.0f}/{heroku_total:,.0f} {rules.counted}"
        )
    return MetricJudgement(
        name=rule.name,
        verdict=verdict,
        enforced=rule.enforced,
        harm=harm,
        harm_limit=rules.harm_limit,
        safety=safety,
        heroku_bad=heroku_bad,
        heroku_total=heroku_total,
        eks_bad=eks_bad,
        eks_total=eks_total,
        counts=said,
    )


def _judge_alive(evidence: Evidence, harm: float, fails: bool, rules: GateRules, weight: float) -> MetricJudgement:
    """Judge by the last minute, for the evidence of harm is all that *alive* bets on."""
    heroku, eks = _recent_sum(evidence.recent)
    answered = eks.successes
    if weight >= 100:
        expected = eks.requests
        said = f"EKS answered {answered:,.0f} of {expected:,.0f} requests well in the last minute, no control"
    else:
        expected = heroku.successes * weight / (100.0 - weight)
        said = f"EKS answered {answered:,.0f} requests well in the last minute, about {expected:,.0f} expected"
    if fails:
        verdict = Verdict.FAIL
    elif answered >= SICK_REQUESTS and answered >= ALIVE_SHARE * expected and harm < HARM_HOLD:
        verdict = Verdict.PASS
    else:
        few = max(answered, expected) < SICK_REQUESTS
        verdict = Verdict.INSUFFICIENT_TRAFFIC if few else Verdict.UNDECIDED
    return MetricJudgement(
        name=ALIVE,
        verdict=verdict,
        enforced=True,
        harm=harm,
        harm_limit=rules.harm_limit,
        safety=0.0,
        heroku_bad=0.0,
        heroku_total=expected,
        eks_bad=max(0.0, expected - answered),
        eks_total=expected,
        counts=said,
    )


def _percent(bad: float, total: float, rules: GateRules) -> str:
    if total <= 0:
        return "no answers" if rules.legs else f"no {rules.counted}"
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
