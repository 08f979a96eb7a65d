"""One judgement of several: the mesh's own metrics and the custom SLOs, in one test with one bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cutover.domain.evidence.judgement import Judgement, MetricJudgement
from cutover.domain.verdicts import Verdict

RATIO_STAKE = 0.2
"""Share of the rollback money for a custom SLO, where the mesh's gates together have 1."""


@dataclass(frozen=True, slots=True)
class RatioJudgement:
    """A custom SLO beside the mesh's gates.

    Parameters
    ----------
    name
        Its name.
    judgement
        What `judge` says of its own evidence, under rules with one metric and the plan's alpha.
    weight
        Its share of the rollback money, where the mesh's gates together have 1.
    """

    name: str
    judgement: Judgement
    weight: float = RATIO_STAKE


def combine(main: Judgement, own: Sequence[RatioJudgement]) -> Judgement:
    """Make one judgement of the mesh's gates and the custom SLOs: one test, which is wrong with a chance of at most alpha.

    Each gate's evidence counts with its share ``w`` of the money, all shares together being 1, and the largest decides:
    a gate alone rolls back at ``1/(w*alpha)``, which has a chance of at most ``w*alpha`` while it is not worse. These
    chances add up to alpha whatever the gates have to do with each other, and whenever each is read.

    An average of the evidence would be a little faster where several gates see the same harm (by ``ln 2`` with two of
    the same evidence), and is as valid while all are read up to the same moment. But own queries come late. Then one
    gate's evidence is from before what another has seen already, it can be caught at a peak that is past, and nothing
    bounds the average.

    The share of a gate that is only observed is kept for it. So a change of its mode, even on the very sight of its
    evidence, gives nobody money that was lost before.

    Parameters
    ----------
    main
        What is said of the mesh's gates.
    own
        The custom SLOs, all of the plan's each time: one that is added or dropped while the plan is under way
        changes the shares, and adds to the bound up to what it has of the money.

    Returns
    -------
    Judgement
        ``harm`` is that of the gate with most; estimates of seconds and ``safe`` are for all, requests needed and
        samples those of the mesh.
    """
    if not own:
        return main
    everything = 1.0 + sum(gate.weight for gate in own)
    limit = main.harm_limit
    metrics = [_scaled(metric, 1.0 / everything, main.harm / everything >= limit) for metric in main.metrics]
    parts = {main.main_metric: main.harm / everything}
    enforced = [main]
    for gate in own:
        (metric,) = gate.judgement.metrics
        share = gate.weight / everything
        metrics.append(replace(_scaled(metric, share, metric.harm * share >= limit), name=gate.name))
        if metric.enforced:
            parts[gate.name] = metric.harm * share
            enforced.append(gate.judgement)
    main_metric = max(parts, key=lambda name: parts[name])
    seconds = [judgement.seconds_to_safe for judgement in enforced]
    return replace(
        main,
        harm=parts[main_metric],
        worse=parts[main_metric] >= limit,
        safe=all(judgement.safe for judgement in enforced),
        safety=min(judgement.safety for judgement in enforced),
        metrics=tuple(metrics),
        main_metric=main_metric,
        seconds_to_safe=None if None in seconds else max(wait for wait in seconds if wait is not None),
    )


def _scaled(metric: MetricJudgement, share: float, worse: bool) -> MetricJudgement:
    """Return what is said of a metric whose evidence counts with a share; what failed alone may not be enough then."""
    if not metric.enforced:
        return metric
    fails = metric.verdict is Verdict.FAIL
    return replace(
        metric, harm=metric.harm * share, verdict=Verdict.UNDECIDED if fails and not worse else metric.verdict
    )
