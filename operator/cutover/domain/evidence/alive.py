"""*Alive*: bets that a leg answers less than its weight lets expect.

The exposure is taken from the weight. Taken from the answered requests, a hanging leg would look like no traffic. Three
things look like a leg that hangs, and are not. They are told apart while a step is young, and cost no power later:

- **Requests that last.** Just after a raise EKS has only answered requests that are shorter than the weight is old, and
  Heroku answers those of any length. So Heroku's longer ones do not count, and until half of what is usual could have
  ended, silence says nothing.
- **A route that only some gateways have.** EKS then answers all that it gets, but gets less than its weight. So a part that
  is missing is no sign of harm until the requests have once shown the whole share in this step. Until then it is a reason
  to hold (`Judgement.share_off`). Answers that are errors, and a leg that answers nothing at all, are signs of harm at once.
- **A pause** whose answers still come: it is capped, see `_cap`.

At 100 % no control shows how much traffic there is, and a quiet night must not look like an outage, so nothing is bet: there
a failing leg shows in *errors*, and so does a hanging leg once the route's time-out turns its requests into 504s.

Where users are drawn and not requests (``traffic.affinity``), the weight does not say how many requests a leg gets: one user may
make half of them. So *alive* assumes nothing of their number there. It bets that of the requests which a leg has answered at
all, less are well than on the other one, and errors alone count: a user who is refused everything is refused on either leg. A
leg that hangs shows by pairs of probes (:func:`cutover.domain.engine.probes.proven_by_probes`), or by its time-outs.
"""

from __future__ import annotations

import math

from cutover.domain.evidence import wager
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.mix import control_alive, good_answers, judged_alive
from cutover.domain.evidence.rules import WAY, GateRules
from cutover.domain.evidence.share import Pool, exceeds_weight
from cutover.domain.evidence.state import Evidence
from cutover.domain.evidence.wager import DEAD, Bag

ALIVE_FRACTION = 0.75
"""A leg is alive if it answers at least this fraction of the requests that its weight lets expect."""

SHARED_RATIO, SHARED_CAP = 0.2, 0.25 * WAY
"""Above this ratio of errors the control of *alive* fails itself and says little: a block then contributes at most this
cap, in nats."""
DEAD_RATIO = 0.9
"""A leg is dead if at least this ratio of its requests fails."""

LONGEST_SECONDS = 30.0
"""How long a request may last where nobody counts latencies: Heroku's router ends those without an answer then."""
SHARE_ODDS = 9.0
"""Log odds of the whole share against half of it, 8,000 to 1, with which requests have shown a step's share."""
SILENT_REQUESTS = 7.0
"""Expected requests after which it is no coincidence that EKS answers none, even if it gets only half of its share."""


def wager_alive(evidence: Evidence, block: Block, *, rules: GateRules, weight: float, observed_at: float) -> Evidence:
    """Bet, for each leg, that it answers less than its weight lets expect."""
    if weight >= 100 or not rules.legs:
        return evidence
    if not rules.requests_drawn:
        return _wager_answered(evidence, block, rules)
    first, odds = evidence.blocks == 0, weight / (100.0 - weight)
    heroku, eks = block.heroku, block.eks
    heroku_control, eks_control = heroku, eks
    if rules.same_answers:
        good = good_answers(evidence.reference)
        heroku, heroku_control = judged_alive(heroku, good), control_alive(heroku, good)
        # Where EKS gives good answers to what Heroku refuses or redirects, Heroku is not dead for it.
        eks, eks_control = judged_alive(eks, good), control_alive(eks, good, most=good.share * eks.successes)
    alive_purse, alive_money = evidence.alive_purse.draw(first=first, intervals=1.0)
    heroku_purse, heroku_money = evidence.heroku_purse.draw(first=first, intervals=1.0)
    # The requests of the block before `observed_at` showed the weight already.
    long, young = _long(block, block.end - observed_at)
    if evidence.share_odds < SHARE_ODDS:
        evidence = _look_for_share(evidence, eks.requests, odds * max(0.0, heroku.requests - long), young=young)
    waits = young or (evidence.share_odds < SHARE_ODDS and evidence.unanswered < SILENT_REQUESTS)
    expected, expected_of_heroku = odds * max(0.0, heroku_control.successes - long), eks_control.successes / odds
    return evidence._replace(
        alive=_bet(
            wager.add(evidence.alive, alive_money),
            eks.successes,
            expected,
            odds,
            cap=_cap(eks, heroku_control, expected, rules, waits=waits),
            temper=2.0 if weight > 50 else 1.0,
        ),
        alive_purse=alive_purse,
        heroku=_bet(
            wager.add(evidence.heroku, heroku_money),
            heroku.successes,
            expected_of_heroku,
            1.0 / odds,
            cap=_cap(heroku, eks_control, expected_of_heroku, rules),
            temper=2.0 if weight < 50 else 1.0,
        ),
        heroku_purse=heroku_purse,
    )


def _wager_answered(evidence: Evidence, block: Block, rules: GateRules) -> Evidence:
    """Bet, for each leg, that less of its requests are answered without an error than of the other one's."""
    first = evidence.blocks == 0
    alive_purse, alive_money = evidence.alive_purse.draw(first=first, intervals=1.0)
    heroku_purse, heroku_money = evidence.heroku_purse.draw(first=first, intervals=1.0)

    def bet(bag: Bag, money: float, judged: Counts, control: Counts) -> Bag:
        # The number of its own requests is given, so that it varies less than the wager allows for.
        expected = judged.requests * control.successes / control.requests if control.requests else 0.0
        cap = _cap(judged, control, expected, rules)
        return _bet(wager.add(bag, money), judged.successes, expected, 1.0, cap=cap, temper=1.0)

    return evidence._replace(
        alive=bet(evidence.alive, alive_money, block.eks, block.heroku),
        alive_purse=alive_purse,
        heroku=bet(evidence.heroku, heroku_money, block.heroku, block.eks),
        heroku_purse=heroku_purse,
    )


def share_off(evidence: Evidence, limit: float) -> bool:
    """Tell whether EKS gets less than its weight, and has done so since the step began."""
    return evidence.share_odds < SHARE_ODDS and sum(evidence.short) >= limit


def share_over(evidence: Evidence, weight: float) -> bool:
    """Tell whether EKS has got more of this step's requests than its weight explains.

    Others send requests to the same Service through the same gateway, or Heroku has not answered for a good part of the
    step. Either way what EKS answered is not what the weight gave it, and no evidence that the next step is safe.
    """
    heroku, eks = evidence.total
    return exceeds_weight(Pool(eks.requests, heroku.requests + eks.requests), weight)


def _long(block: Block, age: float) -> tuple[float, bool]:
    """Return how many of Heroku's requests may have lasted longer than the weight is old, and whether most may have."""
    slow, very_slow = block.thresholds
    if slow is None or very_slow is None:
        return 0.0, age < LONGEST_SECONDS
    if age < slow / 1000.0:
        return 0.0, True
    return block.heroku.slow if age < very_slow / 1000.0 else block.heroku.very_slow, False


def _look_for_share(evidence: Evidence, got: float, expected: float, *, young: bool) -> Evidence:
    """Ask the requests, until they have shown it once in a step, whether EKS gets its whole share.

    The odds are Wald's likelihood ratio of two Poisson counts, restarted where it speaks for less than the whole (Page's
    CUSUM). That EKS gets less is a bet, with all of its money from the beginning, because it only holds a plan.
    """
    odds = max(0.0, evidence.share_odds + got * math.log(2.0) - expected / 2.0)
    evidence = evidence._replace(
        share_odds=min(odds, SHARE_ODDS), unanswered=0.0 if got else evidence.unanswered + expected
    )
    if young:
        return evidence
    return evidence._replace(short=_bet(evidence.short, got, expected, 1.0, cap=WAY / 4.0, temper=1.0))


def _cap(judged: Counts, control: Counts, expected: float, rules: GateRules, *, waits: bool = False) -> float:
    """Return the most that a block may contribute, in nats.

    Parameters
    ----------
    expected
        Good answers that the weight lets expect of the judged leg.
    waits
        Whether answers that are missing are no sign of harm yet, unless all that come are errors.
    """
    # Lowering a factor is always fair, so the cap may depend on the block. A failed request is final: two full blocks
    # are enough, so that refused connections lead to a rollback within three scrapes of 5 s for most onsets, and for all
    # onsets from 10 EKS requests/s on. Silence may be a pause whose answers still come: it takes three full blocks.
    # Simulated with blocks of 5 s, 30-minute cutovers, 10/25/50 %, bursts, clumps, shared incidents, missed scrapes:
    # alive rolled back 0 of 900 at 5, 50 and 500 requests/s. In harder simulations, a leg that failed all requests for
    # up to 5 s every two minutes was taken for dead in 18 of 450 (8 of 60 at 500/s with 1.75 instead of 1.5), and a leg
    # that paused for up to 8 s in 3 of 450 (7 of 120 with 1.5 instead of 1).
    fails = judged.errors >= DEAD_RATIO * judged.requests
    if judged.errors <= (expected - judged.successes) / 2.0:
        cap = rules.silent_cap if not waits or (fails and judged.requests) else 0.0
    else:
        cap = rules.failed_cap if fails else rules.failed_cap / 2.0
    return min(cap, SHARED_CAP) if control.errors > SHARED_RATIO * control.requests else cap


def _bet(bag: Bag, answered: float, expected: float, odds: float, *, cap: float, temper: float) -> Bag:
    factors = wager.log_factors(DEAD, answered, expected / odds, 0.0, ALIVE_FRACTION * odds, 0.0)
    return wager.bet(bag, factors, cap=cap, temper=temper)
