"""Which users move with which step, where users and not requests are split (``traffic.affinity``).

A user is drawn once, into a cohort: the users who move with the same step. With steps of 10, 25, 50 and 100 % a tenth of all
users are in the first, 15 % in the second, a quarter in the third and half in the last. A cohort is on EKS while the weight is
that of its step or higher. So

- the share of users is the weight, exactly, whichever steps a user has been away for: of those whom 10 % left on Heroku, one
  in six moves with 25 %;
- nobody moves back but by a lower weight, and then only those who came with the steps that are taken back;
- a new user gets EKS with a chance that is the weight.

The draw is for one attempt and one ladder of weights (:func:`ladder`). With another attempt, or other weights, all users are
drawn anew, which leaves the share exact too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from cutover.domain.plan import Plan
from cutover.domain.revision import Split

#: Hexadecimal digits that tell ladders of weights apart.
_DIGITS = 8


@dataclass(frozen=True, slots=True)
class Cohort:
    """The users who move with the same step.

    Parameters
    ----------
    weight
        Percent: the weight from which on they are on EKS.
    percent
        Percent of all users who are in it.
    """

    weight: int
    percent: int

    def on_eks(self, weight: int) -> bool:
        """Tell whether they are on EKS at a weight."""
        return self.weight <= weight


def cohorts(plan: Plan, split: Split) -> tuple[Cohort, ...]:
    """Return the cohorts into which new users are drawn; none where all users are on one leg, or requests are split."""
    if plan.spec.traffic.affinity is None or not 0 < split.weight < 100:
        return ()
    return tuple(Cohort(weight, weight - below) for below, weight in pairwise((0, *_weights(plan, split))))


def ladder(plan: Plan, split: Split) -> str:
    """Name the draw: cookies of another one, such as those of the attempt before, mean nothing.

    Plans have ladders of their own, so that a cookie that apps on one host share means nothing to the other plan.
    """
    text = f"{plan.uid}/{','.join(map(str, _weights(plan, split)))}"
    return f"a{split.attempt}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:_DIGITS]}"


def _weights(plan: Plan, split: Split) -> list[int]:
    """Return the weights by which users are drawn, the last of them 100."""
    steps: Iterable[int] = (step.weight for step in plan.spec.steps)
    # Only if the steps were edited meanwhile, no step has the weight.
    return sorted({*steps, split.weight, 100})
