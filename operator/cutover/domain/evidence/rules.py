"""The rules of the judge: what is compared, what is tolerated, and how much one moment may contribute."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

MetricName = Literal["errors", "slow", "verySlow"]

ALIVE = "alive"
"""Name of the metric that tells whether a leg answers at all."""

CAP_SECONDS = 15.0
"""Seconds that a cap is for, at any length of a block, because clumps of errors last seconds, not blocks."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much worse than Heroku EKS may be: ``p_eks <= ratio * p_heroku + margin``.

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
    stake
        Part of the rollback money, a fraction. All metrics and *alive* together have at most 1. The stake of an observed
        metric goes to the enforced ones, see `GateRules.stake_of`.
    harm
        Beyond this EKS is worse.
    advance
        Within this EKS is good enough. The margin is for the whole traffic: it is divided by the next weight.
    floor
        Smallest tolerated fraction without a control.
    enforced
        Whether the verdict decides. An observed metric is judged and shown, and moves nothing.
    """

    name: MetricName
    stake: float
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
        Bound on the chance that a step outside the margins is called safe.
    block_seconds
        Seconds of a block; used for estimates only, as a block has its start and end.
    warm_up_seconds
        Seconds after the share was observed in which only *alive* is judged.
    metrics
        The judged metrics.
    alive_stake
        Part of the rollback money for *alive*. With 0 the counts are not the requests of a leg, and it is not judged
        whether a leg is alive, silent or unhealthy.
    harm_cap, safety_cap
        How much 15 s may contribute to a metric's evidence of harm, or of safety, as a fraction of ``ln(1/alpha)``, the
        distance from 1 to the limit. Real errors come in clumps, so no clump may decide alone.
    silent_cap, failed_cap
        How much one block may contribute to *alive*, as the same fraction: if answers are missing, and if most of the
        missing answers came as errors.

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
        stakes = [self.alive_stake, *(rule.stake for rule in self.metrics)]
        if min(stakes) < 0 or sum(stakes) > 1 + 1e-9:
            raise ValueError(
                f"the stakes of the metrics and of alive must be at least 0 and at most 1 together, not {stakes}"
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
    def harm_nats(self) -> float:
        """The distance from 1 to the limit of harm, in nats: the unit of the caps."""
        return math.log(self.harm_limit)

    @property
    def legs(self) -> bool:
        """Whether the counts are the requests of a leg, so that they show a silent or unhealthy leg."""
        return self.alive_stake > 0

    def stake_of(self, rule: MetricRule) -> float:
        """Return a metric's part of the rollback money: its stake, and its part of the stakes of observed metrics."""
        if not rule.enforced:
            return 0.0
        enforced = sum(other.stake for other in self.metrics if other.enforced)
        return rule.stake * sum(other.stake for other in self.metrics) / enforced if enforced else 0.0
