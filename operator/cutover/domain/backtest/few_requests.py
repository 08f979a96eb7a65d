"""Few requests: how long each step takes at a plan's traffic at least, and which of the plan's fields make it shorter.

Computed from the plan and a rate alone, so that there is an answer where a replay would not end. All times are those of an
EKS leg without any fault: even it must have answered so many requests in a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cutover.api.durations import span
from cutover.api.v1alpha1 import InsufficientTraffic, MigrationPlanSpec, Step
from cutover.domain.evidence.betting import SAFETY_FIRST
from cutover.domain.evidence.judge import PATIENCE_SECONDS, least_requests
from cutover.domain.evidence.paired_safety import PairedStep, pairs_needed
from cutover.domain.evidence.rules import CAP_SECONDS, GateRules

#: Pairs of probes a second, for a plan that has no rate.
_USUAL_RATE = 1.0
#: A ladder of other steps is worth telling if it takes at most this part of the plan's time.
_WORTH_TELLING = 0.8


@dataclass(frozen=True, slots=True)
class Need:
    """What a step takes at least.

    Parameters
    ----------
    weight
        Percent of requests to EKS.
    requests
        Fewest EKS requests, by the evidence and ``minRequests``.
    seconds
        Seconds for so many, for the bets on them, each of which may gain only so much, and for the step's hold.
    """

    weight: int
    requests: float
    seconds: float


def needs(steps: Sequence[Step], rules: GateRules, rate: float) -> tuple[Need, ...]:
    """Return what each step below 100 % takes at least.

    Parameters
    ----------
    steps
        Steps in rising order.
    rules
        The plan's rules.
    rate
        Requests of the service per second, above 0.
    """
    bets = (
        CAP_SECONDS * math.ceil(math.log(rules.safety_limit / SAFETY_FIRST) / rules.safety_cap)
        if rules.metrics
        else 0.0
    )
    found = []
    for step, following in pairwise(steps):
        requests = max(least_requests(rules, following.weight), step.min_requests or 0)
        proof = max(requests / (rate * step.weight / 100), bets) + rules.warm_up_seconds
        found.append(Need(step.weight, requests, max(proof, step.hold.total_seconds())))
    return tuple(found)


def ways(spec: MigrationPlanSpec, rules: GateRules, rate: float) -> Iterator[str]:
    """Return, where requests are few, what the plan takes at least and what makes it shorter, in sentences.

    Parameters
    ----------
    spec, rules
        The plan's spec and its rules.
    rate
        Requests of the service per second, above 0.
    """
    now = needs(spec.steps, rules, rate)
    # Longer than its hold, by more than the time in which evidence is waited for without a hold.
    slow = [
        need
        for need, step in zip(now, spec.steps, strict=False)
        if need.seconds > step.hold.total_seconds() + PATIENCE_SECONDS
    ]
    if not slow:
        return
    whole = sum(need.seconds for need in now)
    each = ", ".join(
        f"{need.weight} % {span(need.seconds)} ({math.ceil(need.requests):,} EKS requests)" for need in now
    )
    yield f"At {rate:.2g} requests/s even a faultless EKS leg takes at least: {each}; {span(whole)} in all."
    if ladder := _shorter(spec, rules, rate, whole):
        yield ladder
    asked = spec.gates.insufficient_traffic is InsufficientTraffic.ASK_PEOPLE
    holds = span(sum(step.hold.total_seconds() for step in spec.steps[:-1]))
    what = "As gates.insufficientTraffic is AskPeople" if asked else "With gates.insufficientTraffic: AskPeople"
    floor = "" if any(step.min_requests for step in spec.steps) else "; minRequests keeps that from being too early"
    yield f"{what}, a person may let each step begin once its hold is over, {holds} in all, in place of evidence{floor}."
    yield _by_probes(spec, rules)


def _by_probes(spec: MigrationPlanSpec, rules: GateRules) -> str:
    """Return how long the steps take at least if pairs of probes prove them."""
    rate = spec.traffic.probe.rate or _USUAL_RATE
    accepted = spec.gates.insufficient_traffic is InsufficientTraffic.ACCEPT_PROBES
    what = (
        "As gates.insufficientTraffic is AcceptProbes" if accepted else "With gates.insufficientTraffic: AcceptProbes"
    )
    times = [
        max(
            step.hold.total_seconds(),
            pairs_needed(PairedStep(1, step.weight, upper.weight), rate, rules.safety_limit) / rate,
        )
        for step, upper in pairwise(spec.steps)
    ]
    return (
        f"{what} and traffic.probe.rate: {rate:g}, probes of both legs may prove the steps in {span(sum(times))} in all, for"
        " what the probed paths show."
    )


def _shorter(spec: MigrationPlanSpec, rules: GateRules, rate: float, whole: float) -> str:
    """Return which later step to begin with, if that is much shorter; ``""`` otherwise."""
    ladders = [spec.steps[first:] for first in range(1, len(spec.steps) - 1)]
    times = [(sum(need.seconds for need in needs(steps, rules, rate)), steps) for steps in ladders]
    shortest, steps = min(times, key=lambda one: one[0], default=(whole, spec.steps))
    if shortest > _WORTH_TELLING * whole:
        return ""
    weights = ", ".join(str(step.weight) for step in steps)
    return f"With the steps {weights} it takes at least {span(shortest)}; more users are on EKS before anything is proven."
