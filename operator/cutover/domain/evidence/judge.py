"""The judge: compares the two legs of a cutover on live traffic, block by block.

After every block it gives the EKS leg a verdict, such as `Verdict.FAIL`, `Verdict.PASS` or undecided, and it bounds the
chance of a false rollback over the whole cutover. It depends on nothing else: plain numbers in, plain numbers out, no
clock and no I/O. To run it on other numbers::

    rules = GateRules()
    evidence = begin_step(Evidence.start())
    for block in blocks:  # cutover.domain.evidence.blocks.Block, in the order of time
        evidence = consume(evidence, block, rules=rules, weight=10, next_weight=25, observed_at=blocks[0].start)
        judgement = judge(evidence, rules=rules, weight=10, next_weight=25)

`Evidence` is the whole state. `Evidence.dump` and `Evidence.load` carry it through JSON.

The ratio of a custom SLO (bad events of all events, per leg) is judged by rules with one metric and without *alive*, on
blocks that have its counts as requests and errors. `combine` makes one judgement of several.
"""

from __future__ import annotations

import math

from cutover.domain.evidence import wager
from cutover.domain.evidence.alive import ALIVE_FRACTION, share_off, share_over
from cutover.domain.evidence.betting import SAFETY_FIRST, SAFETY_FLOW, THIN_WEIGHT, begin_step, consume, learn
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.combining import RatioJudgement, combine
from cutover.domain.evidence.edits import follow_tolerances
from cutover.domain.evidence.hourly import HourlyReference, limits_alone
from cutover.domain.evidence.judgement import Judgement, MetricJudgement
from cutover.domain.evidence.memory import SICK_REQUESTS, both_unhealthy, recent_sum
from cutover.domain.evidence.metrics import bag_of, check_weights, counts_of, frozen_limit, ratio, reference_of
from cutover.domain.evidence.mix import differences, good_answers
from cutover.domain.evidence.rules import (
    ALIVE,
    CAP_SECONDS,
    DEFAULT_METRICS,
    GateRules,
    MetricRule,
    Reference,
    Tolerance,
)
from cutover.domain.evidence.state import Evidence
from cutover.domain.evidence.wager import BETTER, Bag, strengths
from cutover.domain.verdicts import Verdict

__all__ = [
    "ALIVE",
    "ALIVE_FRACTION",
    "DEFAULT_METRICS",
    "Evidence",
    "GateRules",
    "Judgement",
    "MetricJudgement",
    "MetricRule",
    "RatioJudgement",
    "Tolerance",
    "begin_step",
    "combine",
    "consume",
    "judge",
    "learn",
]

RATE_SECONDS = 60.0
"""Seconds of a step that must have been counted before its traffic can be called too little."""
SILENT_SECONDS, SILENT_EXPECTED = 60.0, 5.0
"""Heroku is silent after this many seconds without an answer, if at least this many answers were expected."""
HARM_HOLD = 10.0
"""Nothing advances while the evidence of harm is this large or larger."""
PATIENCE_SECONDS = 600.0
"""Seconds: evidence of safety that takes longer is a reason to hold."""


def judge(
    evidence: Evidence,
    *,
    rules: GateRules,
    weight: float,
    next_weight: float,
    hours: HourlyReference | None = None,
) -> Judgement:
    """Judge the evidence.

    Parameters
    ----------
    evidence
        The evidence so far.
    rules, weight, next_weight, hours
        As for `consume`.

    Raises
    ------
    ValueError
        If a weight is not between 0 and 100.
    """
    check_weights(weight, next_weight)
    # The rules may have been edited since the last block: no step begins on a proof for a wider margin.
    evidence = follow_tolerances(evidence, rules)
    wealth = {rule.name: wealth_of(evidence, rule, rules) for rule in rules.metrics}
    parts: dict[str, float] = {rule.name: wealth[rule.name] for rule in rules.metrics if rule.enforced}
    main_metric = max(parts, key=lambda name: parts[name], default="")
    harm = sum(parts.values())
    harm_of_alive = rules.alive_stake * (evidence.alive_purse.total + sum(evidence.alive)) if rules.legs else 0.0
    # The metrics are bet on with each pool, and alive with each block. So their sum could be read when alive is at a peak and
    # a metric has not lost yet what the pool's blocks will cost it: no supermartingale. The larger of the two decides. Each
    # reaches the limit with at most its stake's part of alpha, and together that is alpha.
    if harm_of_alive > harm:
        main_metric, harm = ALIVE, harm_of_alive
    worse = harm >= rules.harm_limit

    metrics = []
    waits = [(0.0, 0.0)]
    for rule in rules.metrics:
        safety = evidence.safety_money + sum(bag_of(evidence.safety, rule.name, BETTER))
        wait = _until_safe(evidence, rule, safety, rules=rules, weight=weight, next_weight=next_weight)
        alone = wealth[rule.name] >= rules.harm_limit
        if rule.enforced:
            waits.append(wait)
        if alone if not rule.enforced else worse and (alone or rule.name == main_metric):
            verdict = Verdict.FAIL
        elif safety >= rules.safety_limit and wealth[rule.name] < HARM_HOLD:
            verdict = Verdict.PASS
        else:
            verdict = _unproven(evidence, rule, wait[1], rules=rules, weight=weight, next_weight=next_weight)
        metrics.append(_metric(evidence, rule, verdict, wealth[rule.name], safety, rules, weight, hours))
    least_safe = min((metric.safety for metric in metrics if metric.enforced), default=rules.safety_limit)
    requests, seconds = max(wait[0] for wait in waits), max(wait[1] for wait in waits)

    recent = recent_sum(evidence.recent if rules.legs else ())
    proven = least_safe >= rules.safety_limit and harm < HARM_HOLD
    if rules.legs:
        alive = _judge_alive(evidence, recent, harm_of_alive, worse and main_metric == ALIVE, rules, weight)
        metrics.append(alive)
        # A leg that has just begun to hang has all its proofs still. With few requests the proofs are all there is.
        proven = proven and (
            alive.verdict is Verdict.PASS or (alive.verdict is Verdict.INSUFFICIENT_TRAFFIC and len(waits) > 1)
        )
    heroku_wealth = evidence.heroku_purse.total + sum(evidence.heroku) if rules.legs else 0.0
    compared = rules.legs and weight < 100
    heroku_dead = compared and heroku_wealth >= rules.harm_limit
    silent = evidence.silent_seconds >= SILENT_SECONDS and evidence.silent_expected >= SILENT_EXPECTED
    # Of users who are drawn, the share of requests says nothing, nor that one leg has none for a while.
    by_share = compared and rules.requests_drawn
    off, over = by_share and share_off(evidence, rules.harm_limit), by_share and share_over(evidence, weight)
    silent = by_share and silent
    unhealthy = compared and both_unhealthy(recent, evidence, rules)
    return Judgement(
        harm=harm,
        harm_limit=rules.harm_limit,
        worse=worse,
        safe=proven and not (heroku_dead or silent or unhealthy or off or over),
        safety=least_safe,
        safety_limit=rules.safety_limit,
        heroku_dead=heroku_dead,
        heroku_wealth=heroku_wealth,
        heroku_silent=silent,
        both_unhealthy=unhealthy,
        share_off=off,
        share_over=over,
        metrics=tuple(metrics),
        main_metric=main_metric,
        eks_requests_needed=None if math.isinf(requests) else requests,
        seconds_to_safe=None if math.isinf(seconds) else seconds,
        samples=evidence.total[1].requests,
        differences=differences(evidence, rules),
    )


def _unproven(
    evidence: Evidence, rule: MetricRule, wait: float, *, rules: GateRules, weight: float, next_weight: float
) -> Verdict:
    """Return whether an unproven metric waits for evidence or for traffic; ``wait`` is the estimate in seconds."""
    if evidence.total_seconds < RATE_SECONDS or wait <= PATIENCE_SECONDS:
        return Verdict.UNDECIDED
    # If twice the least requests of a proof have not brought it, more requests may not bring it either.
    least = math.log(rules.safety_limit) / _margin(evidence, rule, weight, next_weight)
    total = counts_of(evidence.total[1], rule.name)[1]
    return Verdict.UNDECIDED if total >= 2.0 * least else Verdict.INSUFFICIENT_TRAFFIC


def wealth_of(evidence: Evidence, rule: MetricRule, rules: GateRules) -> float:
    """Return what a metric adds to the evidence of harm; for an observed metric, its evidence as if it were alone."""
    if rule.enforced:
        return rules.stakes[rule.name] * evidence.harm_purse.total + sum(
            bag_of(evidence.harm, rule.name, strengths(rule.name))
        )
    return evidence.harm_purse.total + sum(bag_of(evidence.observed, rule.name, strengths(rule.name)))


def least_requests(rules: GateRules, next_weight: float) -> float:
    """Return the fewest EKS requests with which a faultless leg can prove that a step is safe."""
    return max(
        (math.log(rules.safety_limit) * next_weight / 100.0 / rule.advance.margin for rule in rules.metrics),
        default=0.0,
    )


def _margin(evidence: Evidence, rule: MetricRule, weight: float, next_weight: float) -> float:
    """Return the margin within which a metric is safe, as a fraction of EKS' requests."""
    if weight >= 100:
        limit = frozen_limit(evidence, rule, rule.advance)
        return rule.floor if limit is None else limit
    return rule.advance.margin / (next_weight / 100.0)


def _until_safe(
    evidence: Evidence, rule: MetricRule, safety: float, *, rules: GateRules, weight: float, next_weight: float
) -> tuple[float, float]:
    """Estimate the EKS requests and the seconds until a metric is safe, if the step goes on as so far."""
    if safety >= rules.safety_limit:
        return 0.0, 0.0
    _, total = counts_of(evidence.total[1], rule.name)
    rate = total / evidence.total_seconds if evidence.total_seconds > 0 else 0.0
    margin = _margin(evidence, rule, weight, next_weight)
    # Even a faultless leg needs this many.
    least = max(0.0, math.log(rules.safety_limit) / margin - total)
    growth = _safety_growth(evidence, rule, margin, rules=rules, weight=weight)
    if growth is None or rate <= 0:
        return least, math.inf
    fastest = rules.safety_cap / CAP_SECONDS
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
    """Return the nats per EKS request by which the bets on safety grow at this step's ratios; ``None`` without counts."""
    bad_a, total_a = reference_of(evidence, rule.name) if weight >= 100 else counts_of(evidence.total[0], rule.name)
    bad_b, total_b = counts_of(evidence.total[1], rule.name)
    if total_b < 1 or (weight < 100 and total_a < 1):
        return None
    # A few requests say little about EKS' ratio. Until there are as many as the proof takes, Heroku's ratio counts too.
    known = math.log(rules.safety_limit) / margin
    expected = (bad_b + known * ratio(bad_a, total_a)) / (total_b + known)
    if weight >= 100:
        return wager.log_factors(BETTER, expected, 0.0, 1.0, 0.0, margin)
    c = rule.advance.ratio * total_b / total_a
    return wager.log_factors(BETTER, expected, bad_a / total_b, 1.0, c, margin)


def _safety_stake(evidence: Evidence, rule: MetricRule) -> Bag:
    """Return the money from which the bets on safety grow: at least what flows in with the next bet."""
    money = evidence.safety_money
    fresh = SAFETY_FIRST if money == 1.0 else money - wager.remaining(money, SAFETY_FLOW, 1.0)
    return wager.add(bag_of(evidence.safety, rule.name, BETTER), fresh)


def _metric(
    evidence: Evidence,
    rule: MetricRule,
    verdict: Verdict,
    harm: float,
    safety: float,
    rules: GateRules,
    weight: float,
    hours: HourlyReference | None,
) -> MetricJudgement:
    limits = limits_alone(evidence, rule, rules, hours) if weight >= 100 else None
    if hours is None:
        reference = None
    elif weight >= 100:
        reference = Reference.RECORD if limits is not None and limits.by_record else Reference.EARLIER_STEPS
    else:
        thin = weight > THIN_WEIGHT and hours.normal(evidence, rule.name) is not None
        reference = Reference.HEROKU_AND_RECORD if thin else Reference.HEROKU
    heroku_bad, heroku_total = counts_of(evidence.total[0], rule.name)
    eks_bad, eks_total = counts_of(evidence.total[1], rule.name)
    return MetricJudgement(
        name=rule.name,
        verdict=verdict,
        enforced=rule.enforced,
        harm=harm,
        harm_limit=rules.harm_limit,
        safety=safety,
        safety_limit=rules.safety_limit,
        heroku_bad=heroku_bad,
        heroku_total=heroku_total,
        eks_bad=eks_bad,
        eks_total=eks_total,
        compared=weight < 100,
        tolerated=limits.hour if limits is not None else None,
        rule=rule,
        reference=reference,
    )


def _judge_alive(
    evidence: Evidence, recent: tuple[Counts, Counts], harm: float, fails: bool, rules: GateRules, weight: float
) -> MetricJudgement:
    """Judge *alive* by the last minute, because its bets are on harm only."""
    heroku, eks = recent
    if rules.same_answers:
        good = good_answers(evidence.reference)
        answered, expected = good.of(eks), good.of(heroku)
        share = good.share
    else:
        answered, expected, share = eks.successes, heroku.successes, 1.0
    if weight >= 100:
        expected = share * eks.requests
    elif rules.requests_drawn:
        expected *= weight / (100.0 - weight)
    else:
        answered = eks.successes
        expected = eks.requests * heroku.successes / heroku.requests if heroku.requests else 0.0
    if fails:
        verdict = Verdict.FAIL
    elif answered >= SICK_REQUESTS and answered >= ALIVE_FRACTION * expected and harm < HARM_HOLD:
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
        safety_limit=0.0,
        heroku_bad=0.0,
        heroku_total=expected,
        eks_bad=max(0.0, expected - answered),
        eks_total=max(expected, answered),
        compared=weight < 100,
    )
