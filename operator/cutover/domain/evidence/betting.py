"""How blocks become evidence: each block is a bet on every metric, for harm, for safety and for a dead leg."""

from __future__ import annotations

import math

from cutover.domain.evidence import wager
from cutover.domain.evidence.alive import DEAD_RATIO, wager_alive
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.clumps import calm, note_pool
from cutover.domain.evidence.edits import follow_thresholds, follow_tolerances
from cutover.domain.evidence.hourly import HourlyReference, limits_alone, witness_limit
from cutover.domain.evidence.memory import both_unhealthy, recent_sum, remember
from cutover.domain.evidence.metrics import bag_of, check_weights, counts_of, frozen_limit, plausible
from cutover.domain.evidence.mix import wager_differences
from cutover.domain.evidence.rules import CAP_SECONDS, WAY, GateRules, MetricRule, Tolerance
from cutover.domain.evidence.state import SHORT_MONEY, Evidence
from cutover.domain.evidence.wager import BETTER, Bag, strengths

POOLED_CAP = 4.0
"""A pool contributes at most this many caps."""
POOL_SECONDS = 120.0
"""Seconds after which a thin pool is judged."""
POOL_REQUESTS = 20.0
"""Requests expected of the control with which a pool is judged at once."""

THIN_REQUESTS, THIN_FRACTION = 50.0, 0.8
"""With fewer EKS requests in 15 s the cap of harm is smaller, because two or three errors, one clump, reach any cap.

The cap is also smaller without a control, where nothing cancels an incident that Heroku would have had as well."""
DEAD_CAP = 0.3 * WAY
"""Nats that a pool may contribute without a control if nearly all requests fail (`DEAD_RATIO`)."""
THIN_WEIGHT, TEMPER = 50.0, 2.0
"""Above this weight Heroku's side is thin, and the logarithms of evidence of harm are divided."""
HOUR_FRACTION = 1.0 / 3.0
"""The part of the cap of harm for what is only above the limit of the record's hour. The record says what is normal of an hour,
not of its minutes: so it takes some ten of them, and a job that makes five bad ones in each hour is not harm."""

SAFETY_FIRST, SAFETY_FLOW = 0.6, 16.0
"""Money of the safety test: most at its first bet in a step; the rest flows in, 0.01 in the first 15 s, then ever more
slowly. It adds up to 1 and never runs out, because a step may find its quiet minutes only after hours."""
LATELY_SECONDS = 600.0
"""Time constant with which the counts fade that have to agree with a proof of safety."""

_USUAL = GateRules()


def begin_step(evidence: Evidence) -> Evidence:
    """Return the evidence with which a new step starts: safety is earned anew, harm stays known."""
    return evidence._replace(
        safety={},
        safety_money=1.0,
        proven=frozenset(),
        lately=(Counts(), Counts()),
        share_odds=0.0,
        unanswered=0.0,
        short=SHORT_MONEY,
        pool=(Counts(), Counts()),
        pool_seconds=0.0,
        total=(Counts(), Counts()),
        total_seconds=0.0,
        blocks=0,
        empty=0,
        gaps=0,
        silent_seconds=0.0,
        silent_expected=0.0,
        unequal={},
        equal_money=1.0,
        codes=({}, {}),
    )


def learn(evidence: Evidence, block: Block, rules: GateRules = _USUAL) -> Evidence:
    """Ingest one block from before the first step: it only shows what is normal for Heroku."""
    if not block.usable or block.end <= evidence.last_end or not plausible(block.heroku) or not block.heroku.requests:
        return evidence
    evidence, block = follow_thresholds(evidence, block)
    evidence = evidence._replace(
        pool=(evidence.pool[0] + block.heroku, Counts()), pool_seconds=evidence.pool_seconds + block.end - block.start
    )
    if _ripe(evidence, 0.0):
        evidence = note_pool(evidence, rules)._replace(pool=(Counts(), Counts()), pool_seconds=0.0)
    return remember(evidence, block, rules=rules, weight=0)._replace(
        last_end=block.end, record=evidence.record + block.heroku
    )


def consume(
    evidence: Evidence,
    block: Block,
    *,
    rules: GateRules,
    weight: float,
    next_weight: float,
    observed_at: float,
    hours: HourlyReference | None = None,
) -> Evidence:
    """Return the evidence after one more block.

    Parameters
    ----------
    evidence
        The evidence so far.
    block
        Counts of both legs. A block that is not later than the last one changes nothing (a replay is harmless), a block
        that began before ``observed_at`` is not judged (it mixes two weights), an unusable block only counts as a gap.
    rules
        The plan's rules.
    weight, next_weight
        Percent of requests to EKS now and after the next advance (100 if there is no next advance).
    observed_at
        Unix seconds at which the share was observed; the warm-up counts from there.
    hours
        What is normal in each hour of the week; ``None`` for a plan without a record of the time before.

    Raises
    ------
    ValueError
        If a weight is not between 0 and 100.
    """
    check_weights(weight, next_weight)
    if not block.end > evidence.last_end:
        return evidence
    evidence = evidence._replace(last_end=block.end)
    if weight <= 0 or block.start < observed_at:
        return evidence
    if not (block.usable and block.end > block.start and plausible(block.heroku) and plausible(block.eks)):
        return evidence._replace(gaps=evidence.gaps + 1)

    evidence, block = follow_thresholds(follow_tolerances(evidence, rules), block)
    evidence = wager_alive(evidence, block, rules=rules, weight=weight, observed_at=observed_at)
    evidence = _pay_in(evidence, block, rules)
    if block.start >= observed_at + rules.warm_up_seconds:
        trusted = evidence.pool_trusted
        if not evidence.pool_seconds:
            # Whether a pool is bet on must be known before its first block. Asked later, the lucky pools would be chosen.
            trusted = not (rules.legs and both_unhealthy(recent_sum(evidence.recent), evidence, rules))
        evidence = evidence._replace(
            pool=(evidence.pool[0] + block.heroku, evidence.pool[1] + block.eks),
            pool_seconds=evidence.pool_seconds + block.end - block.start,
            pool_trusted=trusted,
        )
        if _ripe(evidence, weight):
            evidence = _wager_metrics(evidence, rules=rules, weight=weight, next_weight=next_weight, hours=hours)
    return remember(evidence, block, rules=rules, weight=weight)


def _pay_in(evidence: Evidence, block: Block, rules: GateRules) -> Evidence:
    """Put fresh money into each metric's bag of the rollback test, by its stake."""
    purse, money = evidence.harm_purse.draw(
        first=evidence.blocks == 0,
        intervals=(block.end - block.start) / CAP_SECONDS,
    )
    # Stakes apply to money when it is put in. So the money in a metric's bag never depends on the mode or the number of
    # other metrics, and a metric that was only observed starts with fresh money when it is enforced.
    harm = dict(evidence.harm)
    observed: dict[str, Bag] = {}
    for rule in rules.metrics:
        psis = strengths(rule.name)
        if rule.enforced:
            harm[rule.name] = wager.add(bag_of(harm, rule.name, psis), money * rules.stakes[rule.name])
        else:
            observed[rule.name] = wager.add(bag_of(evidence.observed, rule.name, psis), money)
    return evidence._replace(harm=harm, observed=observed, harm_purse=purse)


def _ripe(evidence: Evidence, weight: float) -> bool:
    """Tell whether the pool is ready to be judged.

    It is never ready before 15 s: a cap per time cuts most if a few errors fall into a short block, so short blocks would
    make the judge slower, not faster (2 % errors at 10 %, 50 requests/s: 412 s with blocks of 5 s, 221 s with 15 s).
    """
    if evidence.pool_seconds < CAP_SECONDS:
        return False
    # Requests of both legs: a pool that ends when one leg has enough of them ends by how they were assigned, which is what
    # is judged.
    requests = evidence.pool[0].requests + evidence.pool[1].requests
    enough = POOL_REQUESTS if weight >= 100 else POOL_REQUESTS / (1.0 - weight / 100.0)
    return requests >= enough or evidence.pool_seconds >= POOL_SECONDS


def _wager_metrics(
    evidence: Evidence, *, rules: GateRules, weight: float, next_weight: float, hours: HourlyReference | None
) -> Evidence:
    """Bet the pooled blocks on every metric, for harm and (if trusted) for safety, and empty the pool."""
    intervals = evidence.pool_seconds / CAP_SECONDS
    caps = min(intervals, POOLED_CAP)
    eks = evidence.pool[1]
    thin = weight >= 100 or eks.requests < THIN_REQUESTS * intervals
    scale = caps * (THIN_FRACTION if thin else 1.0)
    harm_cap = rules.harm_cap * scale
    # A pool is at least 15 s long, longer than a pod's restart, so a pool of failures is no clump; and the nine pools that
    # this takes are no incident of a minute. Without this cap a dead leg takes twelve pools; *alive*, which is faster,
    # needs a control.
    dead_cap = DEAD_CAP if weight >= 100 and eks.errors >= DEAD_RATIO * eks.requests else 0.0
    temper = TEMPER if THIN_WEIGHT < weight < 100 else 1.0
    harm, observed = dict(evidence.harm), dict(evidence.observed)
    for rule in rules.metrics:
        psis = strengths(rule.name)
        # Without a control, a shared incident is one on EKS alone, and nobody can have learned of it.
        most = rules.calm_cap * scale if weight < 100 and calm(evidence, rule.name) else harm_cap
        most = max(most, dead_cap) if rule.name == "errors" else most
        worse = _harm_factors(
            evidence, rule, rules, weight, hours, temper=temper, cap=most, hour_cap=harm_cap * HOUR_FRACTION
        )
        if worse is not None:
            bags = harm if rule.enforced else observed
            bags[rule.name] = wager.bet(bag_of(bags, rule.name, psis), worse, cap=most)
    evidence = evidence._replace(harm=harm, observed=observed)
    evidence = wager_differences(evidence, rules=rules, cap=harm_cap, weight=weight)
    if evidence.pool_trusted:
        evidence = _wager_safety(
            evidence, rules=rules, weight=weight, next_weight=next_weight, cap=rules.safety_cap * caps
        )
    return note_pool(evidence, rules)._replace(pool=(Counts(), Counts()), pool_seconds=0.0)


def _harm_factors(
    evidence: Evidence,
    rule: MetricRule,
    rules: GateRules,
    weight: float,
    hours: HourlyReference | None,
    *,
    temper: float,
    cap: float,
    hour_cap: float,
) -> tuple[float, ...] | None:
    """Return the log factors of the pool against "EKS is not worse", tempered; ``None`` if there is nothing to compare with."""
    psis, (bad, total) = strengths(rule.name), counts_of(evidence.pool[1], rule.name)
    if weight >= 100:
        limits = limits_alone(evidence, rule, rules, hours)
        if limits is None:
            return None
        moment = wager.log_factors(psis, bad, 0.0, total, 0.0, limits.moment)
        if limits.hour >= limits.moment:
            return moment
        return with_hour(moment, wager.log_factors(psis, bad, 0.0, total, 0.0, limits.hour), cap, hour_cap)
    both = factors(evidence.pool, evidence, rule, rule.harm, psis, weight, 1.0)
    if both is None or temper == 1.0:
        return both
    limit = witness_limit(evidence, rule, rules, hours)
    alone = None if limit is None else wager.log_factors(psis, bad, 0.0, total, 0.0, limit)
    return with_witness(both, alone, temper)


def with_hour(moment: tuple[float, ...], hour: tuple[float, ...], cap: float, hour_cap: float) -> tuple[float, ...]:
    """Return the log factors against the limit of an hour and against the wider one of any moment, each up to its own cap.

    A bet on more than a wider limit never gains more than the same bet on more than a narrower one. So the larger of both,
    lowered by caps, is at most the factor against the narrower limit, whose expectation is at most 1 within that limit.
    It is never below the factor against the wider limit: no harm is found later than without the record.
    """
    return tuple([max(min(wide, cap), min(narrow, hour_cap)) for wide, narrow in zip(moment, hour, strict=True)])


def with_witness(both: tuple[float, ...], alone: tuple[float, ...] | None, temper: float) -> tuple[float, ...]:
    """Return the log factors of a thin Heroku, tempered unless the record finds EKS as much worse.

    It is never above the factor of the live Heroku, whose expectation is at most 1 however bad Heroku is, and whatever the
    record says: what hits both legs still cancels.

    Parameters
    ----------
    both
        EKS against the live Heroku.
    alone
        EKS against the limit of the record's hour; ``None`` if it does not know the hour.
    temper
        Divides the first.
    """
    if alone is None:
        return tuple([live / temper for live in both])
    return tuple([min(live, max(record, live / temper)) for live, record in zip(both, alone, strict=True)])


def _wager_safety(evidence: Evidence, *, rules: GateRules, weight: float, next_weight: float, cap: float) -> Evidence:
    """Bet the pooled blocks on safety, metric by metric.

    Until a metric's wealth reaches ``1/beta`` in this step, its bag is a fair wager whose money adds up to 1. If the leg
    is outside the metric's margin all through the step, the wealth ever reaches ``1/beta`` with a chance of at most beta
    (Ville), and a leg is safe only if all its metrics have reached it. So the bound is spent the first time. Any rule is
    allowed *afterwards*, because it can only take the proof back. The rule is that the proof still stands. The same bag
    shows it, no longer as a wager, and has to be at the limit when the step ends:

    - 15 s take away at most what 15 s can give. In a fair wager a clump on EKS takes everything, while the clumps on
      Heroku, which belong to the comparison, are capped; so with clumped errors a longer hold would leave less of a
      proof. A leg that is steadily outside still loses its proof, within a few blocks if traffic is high; bags are
      clipped at ``1/beta``, so that there is not much to lose first.
    - That alone would let clumps of any size pass if only EKS has them. So the counts of about ten minutes together must
      also speak for safety: at least one of the bets would have won on them. Over that time clumps of both legs cancel.
      While no bet would have won, nothing is gained and losses have no limit.
    """
    intervals = evidence.pool_seconds / CAP_SECONDS
    # 1.0 is the money of an untouched step.
    first = evidence.safety_money == 1.0
    left = 1.0 - SAFETY_FIRST if first else wager.remaining(evidence.safety_money, SAFETY_FLOW, intervals)
    kept = math.exp(-evidence.pool_seconds / LATELY_SECONDS)
    lately = (_faded(evidence.lately[0], kept) + evidence.pool[0], _faded(evidence.lately[1], kept) + evidence.pool[1])
    safety: dict[str, Bag] = {}
    # An edit that drops the bags also drops the proofs.
    proven = evidence.proven & evidence.safety.keys()
    for rule in rules.metrics:
        bag = wager.add(bag_of(evidence.safety, rule.name, BETTER), evidence.safety_money - left)
        better = factors(evidence.pool, evidence, rule, rule.advance, BETTER, weight, next_weight / 100.0)
        if better is not None:
            gain, most_lost = cap, math.inf
            if rule.name in proven:
                whole = factors(lately, evidence, rule, rule.advance, BETTER, weight, next_weight / 100.0)
                gain, most_lost = (cap, cap) if whole and max(whole) >= 0 else (0.0, math.inf)
            bag = wager.bet(bag, better, cap=gain, top=rules.safety_limit, most_lost=most_lost)
        safety[rule.name] = bag
        if left + sum(bag) >= rules.safety_limit:
            proven |= {rule.name}
    return evidence._replace(safety=safety, safety_money=left, proven=proven, lately=lately)


def _faded(counts: Counts, kept: float) -> Counts:
    return Counts(*[number * kept for number in counts])


def factors(
    counts: tuple[Counts, Counts],
    evidence: Evidence,
    rule: MetricRule,
    tolerance: Tolerance,
    psis: tuple[float, ...],
    weight: float,
    reach: float,
) -> tuple[float, ...] | None:
    """Return the log factors of counts (Heroku, EKS); ``None`` if there is nothing to compare with."""
    bad_a, total_a = counts_of(counts[0], rule.name)
    bad_b, total_b = counts_of(counts[1], rule.name)
    if weight >= 100:
        limit = frozen_limit(evidence, rule, tolerance)
        if limit is None:
            return None
        return wager.log_factors(psis, bad_b, 0.0, total_b, 0.0, limit)
    if total_a < 1:
        return None
    c, margin = tolerance.ratio * total_b / total_a, tolerance.margin / reach
    return wager.log_factors(psis, bad_b, bad_a, total_b, c, margin)
