"""The rules of the judge: what is compared, what is tolerated, and how much one moment may contribute."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal

MetricName = Literal["errors", "slow", "verySlow", "refused", "redirected"]

ANSWERS: tuple[MetricName, ...] = ("refused", "redirected")
"""The metrics of the mix of answers, which has to be the same on both legs."""


class Reference(StrEnum):
    """What EKS' requests are held against."""

    HEROKU = "Heroku"
    """Heroku's requests at the same time."""
    HEROKU_AND_RECORD = "HerokuAndRecord"
    """The same, and the record's hour as a second witness: above 50 %, where Heroku is thin."""
    EARLIER_STEPS = "EarlierSteps"
    """Heroku's requests in the earlier steps: at 100 %."""
    RECORD = "Record"
    """The record's hour of the week, and Heroku's requests in the earlier steps: at 100 %."""


ALIVE = "alive"
"""Name of the metric that tells whether a leg answers at all."""

CAP_SECONDS = 15.0
"""Seconds that a cap is for, at any length of a block, because clumps of errors last seconds, not blocks."""


WAY = math.log(100.0)
"""The way from 1 to the usual limit of harm, 100, in nats; the caps are written as parts of it."""


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
        metric goes to the enforced ones, see `GateRules.stakes`.
    harm
        Beyond this EKS is worse.
    advance
        Within this EKS is good enough. The margin is for the whole traffic: it is divided by the next weight.
    floor
        Smallest tolerated fraction without a control.
    alone
        The tolerance without a control, if it is another one: the mix of requests, and so of answers, is another at night.
    codes
        Which codes count, in words; ``""`` if all of the metric's do.
    enforced
        Whether the verdict decides. An observed metric is judged and shown, and moves nothing.
    """

    name: MetricName
    stake: float
    harm: Tolerance
    advance: Tolerance
    floor: float
    enforced: bool = True
    alone: Tolerance | None = None
    codes: str = ""


ALONE = Tolerance(2.0, 0.05)
"""Tolerance of refused and redirected answers without a control."""

DEFAULT_METRICS = (
    MetricRule("errors", 0.3, Tolerance(1.25, 0.001), Tolerance(1.5, 0.005), 0.01),
    MetricRule("slow", 0.15, Tolerance(1.25, 0.005), Tolerance(1.5, 0.01), 0.05),
    MetricRule("verySlow", 0.15, Tolerance(1.25, 0.001), Tolerance(1.5, 0.005), 0.01),
    MetricRule("refused", 0.1, Tolerance(1.1, 0.0025), Tolerance(1.25, 0.01), 0.05, alone=ALONE),
    MetricRule("redirected", 0.1, Tolerance(1.1, 0.005), Tolerance(1.25, 0.01), 0.05, alone=ALONE),
)


@dataclass(frozen=True)
class GateRules:
    """The rules of one plan. What follows from them is computed once, as all plans with the same gates share them.

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
    harm_cap, calm_cap, safety_cap
        How much 15 s may contribute to a metric's evidence of harm, in nats; the same where the metric's bad requests are
        known to come one by one (:mod:`cutover.domain.evidence.clumps`); and to evidence of safety. Real errors come in clumps, so
        no clump may decide alone. What a clump is does not depend on alpha, and neither do the caps: with a larger alpha
        fewer blocks decide.
    requests_drawn
        Whether each request is drawn for itself, so that the weight says how many each leg gets. Otherwise users are
        (``traffic.affinity``), and it does not.
    silent_cap, failed_cap
        How much one block may contribute to *alive*, in nats: if answers are missing, and if most of the missing answers
        came as errors.

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
    requests_drawn: bool = True
    harm_cap: float = WAY / 4.5
    calm_cap: float = WAY / 2.5
    safety_cap: float = WAY / 4
    silent_cap: float = WAY
    failed_cap: float = 1.5 * WAY

    def __post_init__(self) -> None:
        if not (0 < self.alpha < 1 and 0 < self.beta < 1):
            raise ValueError("alpha and beta are probabilities between 0 and 1")
        caps = (self.harm_cap, self.calm_cap, self.safety_cap, self.silent_cap, self.failed_cap)
        if not (self.block_seconds > 0 and self.warm_up_seconds >= 0 and min(caps) > 0):
            raise ValueError("blocks and caps need a positive size, the warm-up none below 0")
        if len({rule.name for rule in self.metrics}) != len(self.metrics):
            raise ValueError("a metric can be judged only once")
        stakes = [self.alive_stake, *(rule.stake for rule in self.metrics)]
        if min(stakes) < 0 or sum(stakes) > 1 + 1e-9:
            raise ValueError(
                f"the stakes of the metrics and of alive must be at least 0 and at most 1 together, not {stakes}"
            )

    @cached_property
    def codes(self) -> str:
        """Which codes count as refused or redirected, in words."""
        return next((rule.codes for rule in self.metrics if rule.name in ANSWERS), "")

    @property
    def harm_limit(self) -> float:
        """Evidence of harm that rolls back."""
        return 1.0 / self.alpha

    @property
    def reference_doubt(self) -> float:
        """The chance with which Heroku's real fraction may be above what is taken for normal at 100 %."""
        return self.alpha / 10.0

    @property
    def safety_limit(self) -> float:
        """Evidence of safety that advances."""
        return 1.0 / self.beta

    @property
    def legs(self) -> bool:
        """Whether the counts are the requests of a leg, so that they show a silent or unhealthy leg."""
        return self.alive_stake > 0

    @cached_property
    def same_answers(self) -> bool:
        """Whether both legs have to give the same mix of answers."""
        return any(rule.enforced and rule.name in ANSWERS for rule in self.metrics)

    @cached_property
    def stakes(self) -> Mapping[str, float]:
        """Each metric's part of the rollback money: its stake, and its part of the stakes of observed metrics, which have 0."""
        everything = sum(rule.stake for rule in self.metrics)
        enforced = sum(rule.stake for rule in self.metrics if rule.enforced)
        return {
            rule.name: rule.stake * everything / enforced if rule.enforced and enforced else 0.0
            for rule in self.metrics
        }
