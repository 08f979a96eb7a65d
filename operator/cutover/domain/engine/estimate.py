"""What the next step still needs: requests of EKS, and the time that they take at the step's traffic."""

from __future__ import annotations

import math

from cutover.api.durations import span
from cutover.api.v1alpha1 import Checkpoint, Estimate, Step
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.evidence.judge import Judgement


def estimate(legs: Judgement, checkpoint: Checkpoint, step: Step | None, weight: int) -> Estimate:
    """Return what is missing until the evidence of safety and ``minRequests`` are enough.

    Before EKS has answered anything, its rate is taken from both legs' requests and the weight, and the proof is that of a
    leg without any fault.

    Parameters
    ----------
    legs
        The judgement of both legs.
    checkpoint
        The checkpoint with the step's counts.
    step
        The step that the weight belongs to; ``None`` if the plan has no such step any more.
    weight
        Percent of requests to EKS, above 0.
    """
    evidence = load_evidence(checkpoint)
    heroku, eks = (counts.requests for counts in evidence.total)
    elapsed = evidence.total_seconds
    rate = (heroku + eks) / elapsed if elapsed > 0 else 0.0
    eks_rate = eks / elapsed if eks > 0 else rate * weight / 100
    requests, seconds = legs.eks_requests_needed, legs.seconds_to_safe
    if seconds is None and requests is not None and eks_rate > 0 and not (heroku and eks):
        seconds = requests / eks_rate
    short = requests_short(step, legs)
    if short > 0:
        requests = None if requests is None else max(requests, short)
        if seconds is not None:
            seconds = max(seconds, short / eks_rate) if eks_rate > 0 else None
    return Estimate(
        text=_text(rate, requests, seconds),
        requests_per_second=float(f"{rate:.3g}"),
        seconds=None if seconds is None else math.ceil(seconds),
        eks_requests=None if requests is None else math.ceil(requests),
    )


def requests_short(step: Step | None, legs: Judgement) -> float:
    """Return how many of the step's ``minRequests`` EKS has not answered yet."""
    return max(0.0, (step.min_requests or 0) - legs.samples) if step is not None else 0.0


def _text(rate: float, requests: float | None, seconds: float | None) -> str:
    at = f"at {rate:,.0f} requests/s" if rate >= 10 else f"at {rate:.2g} requests/s"
    if requests == 0 and seconds == 0:
        return f"enough for the next step, {at}"
    if rate == 0:
        return "unknown without requests"
    if seconds is None:
        return f"unknown: more requests of this kind do not prove EKS good enough, {at}"
    return f"about {span(seconds)} {at}"
