"""Steps, which are weights with their holds."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from cutover.api.model import Duration, Model
from cutover.api.rules import Rule, cel_seconds, within


class Approval(StrEnum):
    """Whether a step needs the approval of a person before it begins."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class OnTimeout(StrEnum):
    """What happens when a step has not passed within its timeout."""

    HOLD = "Hold"
    ROLL_BACK = "RollBack"


class Step(Model):
    """A weight with its hold."""

    RULES = (
        Rule(
            "timeout: must not be shorter than hold, or the step could never pass; write a longer timeout, or leave it out",
            f"!has(self.timeout) || {cel_seconds('self.timeout')} >= {cel_seconds('self.hold')}",
            lambda self: self.timeout is None or self.timeout >= self.hold,
            at=".timeout",
        ),
    )

    weight: int = Field(ge=1, le=100, description="Percent of requests sent to EKS during the step.")
    hold: Annotated[Duration, within("0s", "90d")] = Field(
        default=timedelta(minutes=10), description="Least time at this weight."
    )
    approval: Approval = Field(
        default=Approval.AUTOMATIC, description="Manual: the step begins only after a person has approved it."
    )
    timeout: Annotated[Duration, within("1s", "90d", "6h or 1d12h")] | None = Field(
        default=None, description="Longest time at this weight before onTimeout applies."
    )
    on_timeout: OnTimeout = Field(
        default=OnTimeout.HOLD, description="What happens when the step has not passed within its timeout."
    )
    min_requests: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Fewest requests that EKS must have answered in this step before the next one begins, in addition to the"
        " evidence; in the last step, before the soak ends.",
    )


DEFAULT_STEPS = tuple(Step(weight=weight) for weight in (10, 25, 50, 100))

Steps = Annotated[
    tuple[Step, ...],
    Rule(
        "steps: weights must rise from step to step; write them in order, such as 10, 25, 50, 100",
        "self.map(step, step.weight).isSorted() && self.all(a, self.exists_one(b, a.weight == b.weight))",
        lambda steps: all(a.weight < b.weight for a, b in pairwise(steps)),
    ),
    Rule(
        "steps: the last weight must be 100, or the migration would never be done; write a last step {weight: 100}, held"
        " back by ceiling or approval: Manual if need be",
        "size(self) == 0 || self[size(self) - 1].weight == 100",
        lambda steps: not steps or steps[-1].weight == 100,
    ),
]
