"""How blocks become evidence: each block is a bet on every metric, for harm, for safety and for a dead leg."""

from __future__ import annotations

import math

from cutover.domain.evidence import wager
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.memory import both_unhealthy, remember
from cutover.domain.evidence.metrics import bag_of, check_weights, counts_of, frozen_limit, plausible
from cutover.domain.evidence.rules import CAP_SECONDS, GateRules, MetricRule, Tolerance
from cutover.domain.evidence.wager import BETTER, DEAD, WORSE, Bag, Evidence

POOLED_CAP = 4.0
"""A pool contributes at most this many caps."""
POOL_SECONDS = 120.0
"""Seconds after which a thin pool is judged."""
POOL_REQUESTS = 20.0
"""Requests of the control with which a pool is judged at once."""

ALIVE_FRACTION = 0.75
"""A leg is alive if it answers at least this fraction of the requests that its weight lets expect."""

SHARED_RATIO, SHARED_CAP = 0.2, 0.25
"""Above this ratio of errors the control of *alive* fails itself and says little: a block then contributes at most this
cap."""

THIN_REQUESTS, THIN_FRACTION = 50.0, 0.8
"""With fewer EKS requests in 15 s the cap of harm is smaller, because two or three errors, one clump, reach any cap.

The cap is also smaller without a control, where nothing cancels an incident that Heroku would have had as well."""
DEAD_RATIO, DEAD_CAP = 0.9, 0.3
"""EKS is dead if at least this ratio of its requests fails. Without a control a pool may then contribute this fraction of
``ln(1/alpha)``."""

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
    """Ingest one block from before the first step: it only shows what is normal for Heroku."""
    if not block.usable or block.end <= evidence.last_end or not plausible(block.heroku) or not block.heroku.requests:
        return evidence
    return remember(evidence, block, rules=rules, weight=0)._replace(last_end=block.end)


def consume(
    evidence: Evidence, block: Block, *, rules: GateRules, weight: float, next_weight: float, observed_at: float
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

    # Whether to bet on safety must be known before the block, or the choice itself would be a bet.
    trusted = not (rules.legs and both_unhealthy(evidence))
    evidence = _wager_alive(evidence, block, rules=rules, weight=weight)
    evidence = _pay_in(evidence, block, rules)
    if block.start >= observed_at + rules.warm_up_seconds:
        evidence = evidence._replace(
            pool=(evidence.pool[0] + block.heroku, evidence.pool[1] + block.eks),
            pool_seconds=evidence.pool_seconds + block.end - block.start,
        )
        if _ripe(evidence, weight):
            evidence = _wager_metrics(evidence, rules=rules, weight=weight, next_weight=next_weight, trusted=trusted)
    return remember(evidence, block, rules=rules, weight=weight)


def _wager_alive(evidence: Evidence, block: Block, *, rules: GateRules, weight: float) -> Evidence:
    """Bet, for each leg, that it answers less than its weight lets expect.

    The exposure is taken from the weight. Taken from the answered requests, a hanging leg would look like no traffic. At
    100 % no control shows how much traffic there is, and a quiet night must not look like an outage, so nothing is bet:
    there a failing leg shows in *errors*, and so does a hanging leg once the route's time-out turns its requests into
    504s.
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
    # Lowering a factor is always fair, so the cap may depend on the block. A failed request is final: two full blocks
    # are enough, so that refused connections lead to a rollback within three scrapes of 5 s for most onsets, and for all
    # onsets from 10 EKS requests/s on. Silence may be a pause whose answers still come: it takes three full blocks.
    # Simulated with blocks of 5 s, 30-minute cutovers, 10/25/50 %, bursts, clumps, shared incidents, missed scrapes:
    # alive rolled back 0 of 900 at 5, 50 and 500 requests/s. In harder simulations, a leg that failed all requests for
    # up to 5 s every two minutes was taken for dead in 18 of 450 (8 of 60 at 500/s with 1.75 instead of 1.5), and a leg
    # that paused for up to 8 s in 3 of 450 (7 of 120 with 1.5 instead of 1).
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
        wager.log_factor(psi, judged.successes, control.successes, 0.0, ALIVE_FRACTION * odds, 0.0) for psi in DEAD
    )
    return wager.bet(bag, factors, cap=cap * rules.harm_nats, temper=temper)


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
        if rule.enforced:
            harm[rule.name] = wager.add(bag_of(harm, rule.name, WORSE), money * rules.stake_of(rule))
        else:
            observed[rule.name] = wager.add(bag_of(evidence.observed, rule.name, WORSE), money)
    return evidence._replace(harm=harm, observed=observed, harm_purse=purse)


def _ripe(evidence: Evidence, weight: float) -> bool:
    """Tell whether the pool is ready to be judged.

    It is never ready before 15 s: a cap per time cuts most if a few errors fall into a short block, so short blocks would
    make the judge slower, not faster (2 % errors at 10 %, 50 requests/s: 412 s with blocks of 5 s, 221 s with 15 s).
    """
    if evidence.pool_seconds < CAP_SECONDS:
        return False
    yardstick = evidence.pool[1] if weight >= 100 else evidence.pool[0]
    return yardstick.requests >= POOL_REQUESTS or evidence.pool_seconds >= POOL_SECONDS


def _wager_metrics(
    evidence: Evidence, *, rules: GateRules, weight: float, next_weight: float, trusted: bool
) -> Evidence:
    """Bet the pooled blocks on every metric, for harm and (if trusted) for safety, and empty the pool."""
    intervals = evidence.pool_seconds / CAP_SECONDS
    cap = rules.harm_nats * min(intervals, POOLED_CAP)
    eks = evidence.pool[1]
    thin = weight >= 100 or eks.requests < THIN_REQUESTS * intervals
    harm_cap = cap * rules.harm_cap * (THIN_FRACTION if thin else 1.0)
    # A pool is at least 15 s long, longer than a pod's restart, so a pool of failures is no clump; and the nine pools that
    # this takes are no incident of a minute. Without this cap a dead leg takes twelve pools; *alive*, which is faster,
    # needs a control.
    dead_cap = rules.harm_nats * DEAD_CAP if weight >= 100 and eks.errors >= DEAD_RATIO * eks.requests else 0.0
    temper = 2.0 if 50 < weight < 100 else 1.0
    harm, observed = dict(evidence.harm), dict(evidence.observed)
    for rule in rules.metrics:
        worse = factors(evidence.pool, evidence, rule, rule.harm, WORSE, weight, 1.0)
        if worse is not None:
            bags = harm if rule.enforced else observed
            most = max(harm_cap, dead_cap) if rule.name == "errors" else harm_cap
            bags[rule.name] = wager.bet(bag_of(bags, rule.name, WORSE), worse, cap=most, temper=temper)
    evidence = evidence._replace(harm=harm, observed=observed)
    if trusted:
        evidence = _wager_safety(evidence, rules=rules, weight=weight, next_weight=next_weight, cap=cap)
    return evidence._replace(pool=(Counts(), Counts()), pool_seconds=0.0)


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
    cap *= rules.safety_cap
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
    return Counts(
        counts.requests * kept, counts.errors * kept, counts.timed * kept, counts.slow * kept, counts.very_slow * kept
    )


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
        return tuple(wager.log_factor(psi, bad_b, 0.0, total_b, 0.0, limit) for psi in psis)
    if total_a < 1:
        return None
    c, margin = tolerance.ratio * total_b / total_a, tolerance.margin / reach
    return tuple(wager.log_factor(psi, bad_b, bad_a, total_b, c, margin) for psi in psis)
