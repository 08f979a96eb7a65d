"""The mix of answers: which answers are good for the service at hand, and whether both legs give the same mix.

Requests are routed at random, so both legs get the same mix of requests. *More* refused or redirected answers on EKS are
harm, and are judged as errors are (:mod:`cutover.domain.evidence.betting`). *Fewer* are no harm, but no equality either: a
guard is gone, or Heroku throttles the gateway's one address.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cutover.domain.evidence import wager
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.metrics import bag_of, counts_of
from cutover.domain.evidence.rules import ANSWERS, GateRules, Tolerance
from cutover.domain.evidence.state import Evidence
from cutover.domain.evidence.wager import WORSE_ANSWERS, Bag

NORMAL_REQUESTS = 50.0
"""Requests of the reference from which it tells which answers are normal."""
GOOD_SHARE = 0.25
"""At least this share of the answers has to be good. It is small: where bots come in swarms that stay on one leg, refused
answers come in clumps, and must not stand for life."""
HARDLY_GOOD = 0.5
"""A leg hardly answers with less than this part of the good answers that Heroku gave while it was well."""
RECORD_REQUESTS = 200.0
"""Requests at weight 0 from which they tell how many answers are refused there."""

SESSIONS = Tolerance(1.5, 0.01)
"""Both legs refuse or redirect more than before the first step if it is more than this. It is wide, because the mix of
requests changes with the hour, and nothing cancels that.

Where the legs do not accept each other's sessions, a request fails if its session began on the other leg: of the requests
with a session, the weight's part on Heroku and the rest on EKS. Nine to one at 10 %, it is harm; at 50 % the legs are
alike, and only the record shows it."""
RECORD_SPREAD = 2.33
"""Standard errors that are added to the record's fraction: its upper limit at about 99 %."""

EQUAL_FIRST, EQUAL_FLOW = 0.6, 16.0
"""Money of each test for a difference in a step, as for safety: most at the first bet, the rest ever more slowly."""
EQUAL_TOP = 10.0
"""A difference is remembered up to this many times its limit, so that its hold ends soon after it does."""

_FEWER, _BEFORE = "fewer ", " than before"
_MORE_THROTTLED = "more throttled"
_LEGS = ("heroku ", "eks ")


# ----------------------------------------------------------------------------------------------------- good answers


@dataclass(frozen=True, slots=True)
class Good:
    """Which answers are good, by the mix that Heroku has while it is well.

    An answer with 2xx or 304 is good. Some services redirect or refuse most requests while all is well (a shortener of
    links, an API that everybody tries without a token). There the largest other class is good as well: without it hardly
    any answer would tell a leg that is alive from one that is dead.

    Parameters
    ----------
    redirected, refused
        Whether redirected, or refused, answers are good.
    share
        Good answers of all that are no errors, as a fraction of Heroku's.
    """

    redirected: bool = False
    refused: bool = False
    share: float = 1.0

    def of(self, counts: Counts) -> float:
        """Return the good answers."""
        good = counts.ok
        if self.redirected:
            good += counts.redirected
        if self.refused:
            good += counts.refused
        return good


UNKNOWN_GOOD = Good()
"""Which answers are good where the reference does not tell."""


def good_answers(reference: Counts) -> Good:
    """Return which answers are good, by Heroku's counts while it was well.

    Classes are added, the largest first, until `GOOD_SHARE` of the answers are good.
    """
    answered = reference.successes
    if answered < NORMAL_REQUESTS:
        return UNKNOWN_GOOD
    good, added = reference.ok, set[str]()
    others = ((reference.redirected, "redirected"), (reference.refused, "refused"))
    for count, name in sorted(others, reverse=True):
        if count and good < GOOD_SHARE * answered:
            good += count
            added.add(name)
    return Good("redirected" in added, "refused" in added, good / answered)


def hardly_good(counts: Counts, good: Good) -> bool:
    """Tell whether a leg gives less than half of the good answers that Heroku gave while it was well.

    It sees what the metrics cannot: all classes together, those that a plan excepts and throttled answers, too.
    """
    return good.of(counts) < HARDLY_GOOD * good.share * counts.requests


def judged_alive(counts: Counts, good: Good) -> Counts:
    """Return the counts of a leg of which *alive* is asked: whatever is not good has failed."""
    answered = good.of(counts)
    return Counts(counts.requests, counts.requests - answered)


def control_alive(counts: Counts, good: Good, most: float = math.inf) -> Counts:
    """Return the counts of the control of *alive*: its good answers, of which there are ``most`` at most, and its errors."""
    return Counts(min(good.of(counts), most) + counts.errors, counts.errors)


# ---------------------------------------------------------------------------------------------------- differences


@dataclass(frozen=True, slots=True)
class Differences:
    """Evidence that the legs do not give the same answers, in this step.

    Parameters
    ----------
    fewer
        Evidence that EKS gives fewer answers of a class than Heroku, by class: refused, redirected, throttled.
    throttled
        Evidence that EKS throttles more than Heroku.
    sessions
        Evidence that both legs refuse, or redirect, more than Heroku did before the first step.
    limit
        How much of it is enough.
    """

    fewer: Mapping[str, float]
    throttled: float
    sessions: float
    limit: float

    @property
    def largest(self) -> float:
        """Evidence of the largest difference."""
        return max(*self.fewer.values(), self.throttled, self.sessions, 0.0)


NONE = Differences({}, 0.0, 0.0, math.inf)


def differences(evidence: Evidence, rules: GateRules) -> Differences:
    """Return the evidence for each difference."""
    if not rules.same_answers:
        return NONE
    # A bet that has not begun is worth nothing yet.
    wealth = {name: evidence.equal_money + sum(bag) for name, bag in evidence.unequal.items()}
    # Where users are drawn the legs have other users, and so other answers. That both refuse more than before still says something.
    compared = (*ANSWERS, "throttled") if rules.requests_drawn else ()
    return Differences(
        fewer={name: wealth.get(_FEWER + name, 0.0) for name in compared},
        throttled=wealth.get(_MORE_THROTTLED, 0.0) if compared else 0.0,
        sessions=max(min(wealth.get(leg + name + _BEFORE, 0.0) for leg in _LEGS) for name in ANSWERS),
        limit=rules.harm_limit,
    )


def wager_differences(evidence: Evidence, *, rules: GateRules, cap: float, weight: float) -> Evidence:
    """Bet the pooled blocks on each difference of the legs.

    The formula is that of harm with the legs exchanged, so a test finds a difference by chance in at most one step of
    ``1/alpha``, and what hits both legs cancels. That both legs refuse more than before cannot cancel: it is a comparison
    with the record of weight 0, and only ever a reason to hold.

    Parameters
    ----------
    cap
        The most that the pool may contribute, in nats.
    """
    heroku, eks = evidence.pool
    if not rules.same_answers or weight >= 100 or heroku.requests < 1 or eks.requests < 1:
        return evidence
    first = evidence.equal_money == 1.0
    left = 1.0 - EQUAL_FIRST if first else wager.remaining(evidence.equal_money, EQUAL_FLOW, 1.0)
    unequal = dict(evidence.unequal)
    for name, bad_b, total_b, bad_a, total_a, tolerance in _bets(evidence, rules):
        c = tolerance.ratio * total_b / total_a if total_a else 0.0
        # A bet that begins now has all the money that was paid in so far.
        fresh = (evidence.equal_money if name in unequal else 1.0) - left
        bag = wager.add(bag_of(unequal, name, WORSE_ANSWERS), fresh)
        factors = wager.log_factors(WORSE_ANSWERS, bad_b, bad_a, total_b, c, tolerance.margin)
        unequal[name] = wager.bet(bag, factors, cap=cap, top=EQUAL_TOP * rules.harm_limit)
    return evidence._replace(unequal=unequal, equal_money=left)


def _bets(evidence: Evidence, rules: GateRules) -> Iterator[tuple[str, float, float, float, float, Tolerance]]:
    """Return name, bad and all requests of the judged side and of its control, and what is tolerated, for each bet.

    Most plans are never throttled, and their legs refuse as many as before. The bets on that begin once earlier blocks
    show it. The pool itself may not decide it, or the choice would be a bet of its own.
    """
    heroku, eks = evidence.pool
    for rule in rules.metrics:
        if rule.name not in ANSWERS or not rule.enforced:
            continue
        bad_a, total_a = counts_of(heroku, rule.name)
        bad_b, total_b = counts_of(eks, rule.name)
        yield _FEWER + rule.name, bad_a, total_a, bad_b, total_b, rule.harm
        if rule.name == "refused" and evidence.total[0].throttled + evidence.total[1].throttled > 0:
            yield _FEWER + "throttled", heroku.throttled, total_a, eks.throttled, total_b, rule.harm
            yield _MORE_THROTTLED, eks.throttled, total_b, heroku.throttled, total_a, rule.harm
        before, total = counts_of(evidence.record, rule.name)
        if total >= RECORD_REQUESTS:
            upper = before + RECORD_SPREAD * (1.0 + math.sqrt(before + 1.0))
            limit = Tolerance(1.0, min(SESSIONS.ratio * upper / total + SESSIONS.margin, 0.99))
            names = [leg + rule.name + _BEFORE for leg in _LEGS]
            lately = [counts_of(leg, rule.name) for leg in evidence.lately]
            if names[0] in evidence.unequal or all(bad > limit.margin * whole for bad, whole in lately):
                yield names[0], bad_a, total_a, 0.0, 0.0, limit
                yield names[1], bad_b, total_b, 0.0, 0.0, limit


# ------------------------------------------------------------------------------------------------------ by code


def recounted(evidence: Evidence, counted: str) -> Evidence:
    """Return the evidence after an edit of the codes that count as refused or redirected.

    What was earned with other counts proves nothing any more. The reference cannot be counted anew: what was excepted
    counts as refused in it, so that nothing looks worse than Heroku that is not.

    Parameters
    ----------
    counted
        The codes that count from now on, in words.
    """
    return evidence._replace(
        harm=_without_answers(evidence.harm),
        observed=_without_answers(evidence.observed),
        safety=_without_answers(evidence.safety),
        unequal={},
        equal_money=1.0,
        pool=(Counts(), Counts()),
        pool_seconds=0.0,
        lately=(Counts(), Counts()),
        reference=_nothing_excepted(evidence.reference),
        record=_nothing_excepted(evidence.record),
        counted=counted,
    )


def _without_answers(bags: Mapping[str, Bag]) -> Mapping[str, Bag]:
    return {name: bag for name, bag in bags.items() if name not in ANSWERS}


def _nothing_excepted(counts: Counts) -> Counts:
    return counts._replace(refused=counts.refused + counts.excepted, excepted=0.0)


MOST_CODES = 16
"""Most codes that are kept of a leg; the rarest are added up as `OTHER`."""
OTHER = "other"


def add_codes(codes: Mapping[str, float], more: Mapping[str, float]) -> Mapping[str, float]:
    """Return the answers by HTTP status with more of them."""
    if not more:
        return codes
    added = dict(codes)
    for code, count in more.items():
        added[code] = added.get(code, 0.0) + count
    return added if len(added) <= MOST_CODES else top_codes(added, MOST_CODES - 1)


def top_codes(codes: Mapping[str, float], most: int) -> dict[str, float]:
    """Return the most frequent codes, most frequent first, and the sum of the others."""
    named = sorted((code for code in codes if code != OTHER), key=lambda code: (-codes[code], code))
    top = {code: codes[code] for code in named[:most]}
    others = sum(codes[code] for code in named[most:]) + codes.get(OTHER, 0.0)
    return {**top, OTHER: others} if others else top
