"""Combine the judgements of the mesh's metrics and of custom SLOs into one test with one error bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cutover.domain.evidence.judgement import Judgement, MetricJudgement
from cutover.domain.verdicts import Verdict

RATIO_STAKE = 0.2
"""Stake of a custom SLO in the rollback money; the mesh's gates together have 1."""


@dataclass(frozen=True, slots=True)
class RatioJudgement:
    """The judgement of a custom SLO that compares the legs, by itself.

    Parameters
    ----------
    name
        Name of the SLO.
    judgement
        What `judge` says of its evidence, under rules with one metric and the plan's alpha.
    stake
        Its part of the rollback money; the mesh's gates together have 1.
    """

    name: str
    judgement: Judgement
    stake: float = RATIO_STAKE


def combine(main: Judgement, ratios: Sequence[RatioJudgement]) -> Judgement:
    """Combine the mesh's gates and custom SLOs into one test, whose chance of a false rollback is at most alpha.

    Each gate's evidence counts with its part ``w`` of the money; all parts add up to 1, and the largest product decides.
    So a gate alone rolls back at ``1/(w*alpha)``, which has a chance of at most ``w*alpha`` while the gate is not worse.
    These chances add up to alpha, however the gates depend on each other and whenever each is read.

    An average of the evidence would be a little faster if several gates see the same harm (by ``ln 2`` with two gates of
    equal evidence), and is as valid if all are read up to the same moment. But the queries of custom SLOs come late: one
    gate's evidence is then older than another's, it can be caught at a peak that is past, and nothing bounds the average.

    A gate that is only observed keeps its part. So a change of its mode, even one made in view of its evidence, brings
    no lost money back.

    Parameters
    ----------
    main
        Judgement of the mesh's gates.
    ratios
        Judgements of all custom SLOs of the plan that compare the legs. An SLO that is added or dropped while the plan
        is under way changes the parts, and adds at most its part to the bound.

    Returns
    -------
    Judgement
        ``harm`` is that of the gate with most evidence; estimates of seconds and ``safe`` are for all gates; the requests
        needed and the samples are the mesh's.
    """
    if not ratios:
        return main
    everything = 1.0 + sum(ratio.stake for ratio in ratios)
    limit = main.harm_limit
    metrics = [_scaled(metric, 1.0 / everything, main.harm / everything >= limit) for metric in main.metrics]
    parts = {main.main_metric: main.harm / everything}
    enforced = [main]
    for ratio in ratios:
        (metric,) = ratio.judgement.metrics
        part = ratio.stake / everything
        metrics.append(_scaled(metric, part, metric.harm * part >= limit)._replace(name=ratio.name))
        if metric.enforced:
            parts[ratio.name] = metric.harm * part
            enforced.append(ratio.judgement)
    main_metric = max(parts, key=lambda name: parts[name])
    seconds = [judgement.seconds_to_safe for judgement in enforced]
    return main._replace(
        harm=parts[main_metric],
        worse=parts[main_metric] >= limit,
        safe=all(judgement.safe for judgement in enforced),
        safety=min(judgement.safety for judgement in enforced),
        metrics=tuple(metrics),
        main_metric=main_metric,
        seconds_to_safe=None if None in seconds else max(wait for wait in seconds if wait is not None),
    )


def _scaled(metric: MetricJudgement, part: float, worse: bool) -> MetricJudgement:
    """Return the judgement of a metric with its part of the money; what failed alone may not be enough then."""
    if not metric.enforced:
        return metric
    fails = metric.verdict is Verdict.FAIL
    return metric._replace(
        harm=metric.harm * part, verdict=Verdict.UNDECIDED if fails and not worse else metric.verdict
    )
