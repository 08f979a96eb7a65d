"""What the judge says: plain numbers and verdicts. Sentences are made of them elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from cutover.domain.evidence.rules import ALIVE, MetricRule
from cutover.domain.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class MetricJudgement:
    """What is said of one metric.

    Parameters
    ----------
    name
        A metric's name, ``alive``, or that of a custom SLO.
    verdict
        ``FAIL`` when the whole judgement is worse and this metric carries most of it or would be enough alone; for a
        metric that is only observed, when its own evidence would be enough. ``PASS`` when it is within the margin of
        the next step and little speaks against it.
    enforced
        Whether it has a say.
    harm, harm_limit
        This metric's part of the evidence of harm; all parts together are the judgement's. Of a metric that is only
        observed all of its own evidence, which is no part of anything.
    safety, safety_limit
        Evidence that it is within the margin of the next step; once it was enough in this step, what is left of it. And
        what is enough. Both are 0 for ``alive``, which has no such test.
    heroku_bad, heroku_total, eks_bad, eks_total
        Counts in this step. For ``alive`` those of the last minute: Heroku's total is what was to be expected of EKS,
        EKS' bad ones are the answers that are missing of it, and the others are those that came.
    compared
        Whether there is a control to compare with: at 100 % there is none.
    tolerated
        Where there is none, the fraction of EKS' requests that is tolerated.
    rule
        What it was judged by, ``None`` for ``alive``.
    """

    name: str
    verdict: Verdict
    enforced: bool
    harm: float
    harm_limit: float
    safety: float
    safety_limit: float
    heroku_bad: float
    heroku_total: float
    eks_bad: float
    eks_total: float
    compared: bool = True
    tolerated: float | None = None
    rule: MetricRule | None = None


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
        Per metric, then ``alive`` if it is judged, then the custom SLOs.
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
