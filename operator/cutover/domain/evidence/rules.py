"""The rules of the judge: what is compared, what is tolerated, and what one moment may contribute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MetricName = Literal["errors", "slow", "verySlow"]

ALIVE = "alive"
"""Name of the metric that tells whether a leg answers at all."""

CAP_SECONDS = 15.0
"""The caps are per this time, whatever the length of a block: clumps of errors last seconds, not blocks."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What EKS may do worse than Heroku: ``p_eks <= ratio * p_heroku + margin``.

    Parameters
    ----------
    ratio
        Dimensionless factor, above 0.
    margin
        Fraction of requests, above 0 and below 1.
    """

    ratio: float
    margin: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.ratio) and self.ratio > 0 and 0 < self.margin < 1):
            raise ValueError(f"a tolerance needs a ratio above 0 and a margin between 0 and 1, not {self}")


@dataclass(frozen=True, slots=True)
class MetricRule:
    """How one metric is judged.

    Parameters
    ----------
    name
        Which counts are judged.
    weight
        Share of the rollback money, a fraction. All metrics and alive together have at most 1. The share of a metric
        that is not enforced goes to those that are, see `GateRules.share`.
    harm
        Beyond this EKS is worse.
    advance
        Within this EKS is good enough. The margin is meant for the whole traffic: it is divided by the next weight.
    floor
        Smallest tolerated fraction where there is no control to compare with.
    enforced
        Whether it has a say. A metric that is only observed is judged and shown, and moves nothing.
    """

    name: MetricName
    weight: float
    harm: Tolerance
    advance: Tolerance
    floor: float
    enforced: bool = True


DEFAULT_METRICS = (
    MetricRule("errors", 0.4, Tolerance(1.25, 0.001), Tolerance(1.5, 0.005), 0.01),
    MetricRule("slow", 0.2, Tolerance(1.25, 0.005), Tolerance(1.5, 0.01), 0.05),
    MetricRule("verySlow", 0.2, Tolerance(1.25, 0.001), Tolerance(1.5, 0.005), 0.01),
)


@dataclass(frozen=True, slots=True)
class GateRules:
    """The rules of one plan.

    Parameters
    ----------
    alpha
        Bound on the chance of a false rollback over the whole cutover.
    beta
        Bound on the chance that a step which is not within the margins is called safe.
    block_seconds
        Length of a block; only estimates use it (a block itself says how long it is).
    warm_up_seconds
        For so long after the share was observed only *alive* is judged.
    metrics
        The judged metrics.
    alive_stake
        Share of the rollback money for *alive*. With 0 the counts are not taken for the requests of a leg: nothing is
        said of whether a leg is alive, silent or ill.
    harm_cap, safety_cap
        What 15 s may contribute to the evidence of harm, or of safety, of a metric, as a share of ``ln(1/alpha)``,
        which is the way from 1 to the limit. Real errors come in clumps, so no clump may decide alone.
    silent_cap, failed_cap
        What one block may contribute to *alive*, in the same measure: where the missing answers are silence, and where
        most of them came as errors.

    Raises
    ------
    ValueError
        If probabilities, times or weights make no sense.
    """

    alpha: float = 0.01
    beta: float = 0.05
    block_seconds: float = 15.0
    warm_up_seconds: float = 30.0
    metrics: tuple[MetricRule, ...] = DEFAULT_METRICS
    alive_stake: float = 0.2
    harm_cap: float = 1 / 4.5
    safety_cap: float = 1 / 4
    silent_cap: float = 1.0
    failed_cap: float = 1.5

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.beta < 1):
            raise ValueError("alpha and beta are probabilities between 0 and 1")
        caps = (self.harm_cap, self.safety_cap, self.silent_cap, self.failed_cap)
        if not (self.block_seconds > 0 and self.warm_up_seconds >= 0 and min(caps) > 0):
            raise ValueError("blocks and caps need a positive size, the warm-up none below 0")
        if len({rule.name for rule in self.metrics}) != len(self.metrics):
            raise ValueError("a metric can be judged only once")
        weights = [self.alive_stake, *(rule.weight for rule in self.metrics)]
        if min(weights) < 0 or sum(weights) > 1 + 1e-9:
            raise ValueError(
                f"the metrics' weights and alive's must be at least 0 and at most 1 together, not {weights}"
            )

    @property
    def harm_limit(self) -> float:
        """Evidence of harm that rolls back."""
        return 1.0 / self.alpha

    @property
    def safety_limit(self) -> float:
        """Evidence of safety that advances."""
        return 1.0 / self.beta

    @property
    def way(self) -> float:
        """From 1 to the limit of harm, in nats: the measure of the caps."""
        return math.log(self.harm_limit)

    @property
    def legs(self) -> bool:
        """Whether the counts are the requests of a leg, so that silence and sickness of a leg can be seen in them."""
        return self.alive_stake > 0

    def share(self, rule: MetricRule) -> float:
        """Return what a metric has of the rollback money: its weight, and its part of what observed ones leave."""
        if not rule.enforced:
            return 0.0
        enforced = sum(other.weight for other in self.metrics if other.enforced)
        return rule.weight * sum(other.weight for other in self.metrics) / enforced if enforced else 0.0
