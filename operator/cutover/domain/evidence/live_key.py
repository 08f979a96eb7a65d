"""The live key: whether EKS' requests look harmed at 100 %, compared with the app's own record.

The key alone moves nothing, as it has no control: an incident that Heroku would have had as well turns it, and so do robots
that ask for what is not there, or users who go home at once. It decides together with the key of the probes
(:mod:`cutover.domain.evidence.pairs`). So it may turn early, on a few seconds of requests.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from cutover.api.durations import span
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.hourly import HourlyReference, limits_alone
from cutover.domain.evidence.metrics import counts_of, upper_limit
from cutover.domain.evidence.mix import good_answers, hardly_good
from cutover.domain.evidence.pace import Pace
from cutover.domain.evidence.rules import ALIVE, ALONE, GateRules
from cutover.domain.evidence.state import Evidence

BAD_FRACTION, LEAST_BAD = 0.5, 3
"""A window looks harmed if this fraction of its requests failed, and at least so many."""
DEVIATIONS, MARGIN_EVENTS = 3.0, 3.0
"""Or if bad requests are above the tolerated number by so many standard deviations of a Poisson count, and so many."""
MISSING_FRACTION, LEAST_EXPECTED = 0.5, 12.0
"""Or if there are fewer than this fraction of the requests to expect, where so many are to be expected."""


class LiveKey(NamedTuple):
    """Whether the key is turned.

    Parameters
    ----------
    metric
        The metric that turned it; ``alive`` where most requests fail, have no good answer or are missing; ``throttled``
        where too many are throttled, which is no metric; ``""`` if it is not turned.
    detail
        What turned it, for people.
    """

    metric: str = ""
    detail: str = ""

    def __bool__(self) -> bool:
        return bool(self.metric)


def live_key(pace: Pace, evidence: Evidence, rules: GateRules, hours: HourlyReference | None = None) -> LiveKey:
    """Return the key by the newest blocks.

    Parameters
    ----------
    pace
        The memory of the requests, with EKS' newest blocks.
    evidence
        The judge's state: its reference is Heroku's record, while Heroku had requests and was well.
    rules
        The plan's rules.
    hours
        What is normal in each hour of the week; ``None`` for a plan without a record of the time before. The key looks at
        seconds, so an hour that was worse before is tolerated, and one that was better proves nothing.
    """
    usual = pace.usual
    limits = [
        (rule.name, tolerated.moment)
        for rule in rules.metrics
        if rule.enforced and (tolerated := limits_alone(evidence, rule, rules, hours)) is not None
    ]
    good, throttled = good_answers(evidence.reference), _throttled_limit(evidence.reference, rules.reference_doubt)
    for seconds, counts in pace.windows():
        if counts.errors >= max(LEAST_BAD, BAD_FRACTION * counts.requests):
            return LiveKey(
                ALIVE, f"EKS failed {counts.errors:,.0f} of {counts.requests:,.0f} requests {_last(seconds)}"
            )
        for name, limit in limits:
            bad, total = counts_of(counts, name)
            if exceeds(bad, limit * total):
                return LiveKey(name, f"{name}: EKS {bad:,.0f} of {total:,.0f} requests {_last(seconds)}, {_by(limit)}")
        if rules.same_answers and exceeds(counts.throttled, throttled * counts.requests):
            share = f"{counts.throttled:,.0f} of {counts.requests:,.0f} requests {_last(seconds)}"
            return LiveKey("throttled", f"EKS throttled {share}, {_by(throttled)}")
        well = good.of(counts)
        if rules.same_answers and counts.requests - well >= LEAST_BAD and hardly_good(counts, good):
            return LiveKey(
                ALIVE, f"EKS gave a good answer to {well:,.0f} of {counts.requests:,.0f} requests {_last(seconds)}"
            )
        expected = (usual or 0.0) * seconds
        if expected >= LEAST_EXPECTED and counts.requests < MISSING_FRACTION * expected:
            answered = f"{counts.requests:,.0f} requests were answered {_last(seconds)}"
            return LiveKey(ALIVE, f"{answered}, at least {expected:,.0f} expected")
    return LiveKey()


def _throttled_limit(reference: Counts, doubt: float) -> float:
    """Return the tolerated fraction of throttled requests. Limits by address are often met at full traffic first."""
    normal = upper_limit(reference.throttled, reference.requests, doubt) if reference.throttled else 0.0
    return min(ALONE.ratio * normal + ALONE.margin, (1.0 + normal) / 2.0)


def exceeds(bad: float, expected: float) -> bool:
    """Tell whether bad requests are far above the tolerated number, by more than chance."""
    # The first comparison is nearly always enough.
    return bad > expected and bad > expected + DEVIATIONS * math.sqrt(expected) + MARGIN_EVENTS


def _by(limit: float) -> str:
    return f"{100 * limit:.2g} % tolerated, by the record"


def _last(seconds: float) -> str:
    return f"in the last {span(seconds, exact=True)}"


def failing_since(pace: Pace, at: float) -> bool:
    """Tell whether no request was answered well since a time, and at least two were not: too few for the key.

    Parameters
    ----------
    at
        Unix seconds; blocks that began before are left out.
    """
    blocks = [block.eks for block in pace.newest if block.start >= at]
    bad = sum(one.errors + one.refused + one.throttled + one.excepted for one in blocks)
    return bad >= 2 and not any(one.ok + one.redirected for one in blocks)
