"""The judge's results, as plain numbers and verdicts; sentences are made in :mod:`cutover.domain.evidence.sentences`."""

from __future__ import annotations

from typing import NamedTuple

from cutover.domain.evidence.mix import NONE as NO_DIFFERENCES
from cutover.domain.evidence.mix import Differences
from cutover.domain.evidence.rules import ALIVE, MetricRule, Reference
from cutover.domain.verdicts import Verdict


class MetricJudgement(NamedTuple):
    """The judgement of one metric. It is a tuple because each decision makes half a dozen.

    Parameters
    ----------
    name
        Name of the metric, ``alive``, or the name of a custom SLO.
    verdict
        ``FAIL`` if the whole judgement is worse and this metric has most of the evidence or would be enough alone; for
        an observed metric, if its evidence would be enough alone. ``PASS`` if it is within the margin of the next step
        and there is little evidence of harm.
    enforced
        Whether its verdict decides.
    harm, harm_limit
        This metric's part of the evidence of harm. The judgement's is that of *alive*, or all other parts together if that
        is more. For an observed metric, all its evidence, which is no part of the judgement's.
    safety, safety_limit
        Evidence that it is within the margin of the next step, and how much is enough. Once it was enough in this step,
        what is left of it. Both are 0 for ``alive``, which has no such test.
    heroku_bad, heroku_total, eks_bad, eks_total
        Counts in this step. For ``alive``, counts of the last minute: Heroku's total is the number of answers expected of
        EKS, and EKS' bad ones are the missing answers.
    compared
        Whether there is a control to compare with; at 100 % there is none.
    tolerated
        Without a control, the tolerated fraction of EKS' requests; else ``None``.
    rule
        The rule of the metric; ``None`` for ``alive``.
    reference
        What EKS is held against for harm; ``None`` for ``alive``, and where the plan has no record of the time before.
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
    reference: Reference | None = None


class Judgement(NamedTuple):
    """The judgement of all metrics together.

    Parameters
    ----------
    harm, harm_limit
        Evidence of harm, and how much of it rolls back.
    worse
        Whether the evidence of harm has reached its limit.
    safe
        Whether every enforced metric has enough evidence of safety for the next step, and nothing speaks against it:
        evidence of harm below 10, Heroku neither dead nor silent, the legs not both unhealthy, the share as it should be. Without an enforced
        metric, *alive* has to pass, if it is judged.
    safety, safety_limit
        Least evidence of safety of the enforced metrics, and how much is enough.
    heroku_dead, heroku_wealth
        Whether Heroku no longer answers while EKS does, and the evidence of that (with the limit of harm).
    heroku_silent
        Whether Heroku has answered nothing for a minute although it has weight and EKS is busy.
    both_unhealthy
        Whether both legs lately fail or are very slow far more often than Heroku did while it was healthy.
    share_off
        Whether EKS gets fewer requests than its weight, and has since the step began. Where all that it gets is answered,
        this is no harm, but a route that is not in force everywhere, or requests that last longer than the step.
    share_over
        Whether EKS has got more of this step's requests than its weight explains, as where others send to the same Service.
    metrics
        The mesh's metrics, then ``alive`` if it is judged, then the custom SLOs.
    main_metric
        The metric with most evidence of harm; ``""`` if no metric is enforced.
    eks_requests_needed, seconds_to_safe
        Estimates of what is missing until `safe`: 0 if it is safe, ``None`` if unknown.
    samples
        EKS requests in this step.
    differences
        Evidence that the legs do not give the same answers. They keep nothing from being `safe`: a person may skip them.
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
    share_off: bool
    share_over: bool
    metrics: tuple[MetricJudgement, ...]
    main_metric: str
    eks_requests_needed: float | None
    seconds_to_safe: float | None
    samples: float
    differences: Differences = NO_DIFFERENCES

    @property
    def verdict(self) -> Verdict:
        """The verdict of all metrics together."""
        if self.worse:
            return Verdict.FAIL
        if self.safe:
            return Verdict.PASS
        verdicts = {metric.verdict for metric in self.metrics if metric.enforced and metric.name != ALIVE}
        return Verdict.INSUFFICIENT_TRAFFIC if Verdict.INSUFFICIENT_TRAFFIC in verdicts else Verdict.UNDECIDED

    @property
    def alive(self) -> MetricJudgement | None:
        """The judgement of *alive*; ``None`` if it is not judged."""
        return next((metric for metric in self.metrics if metric.name == ALIVE), None)
