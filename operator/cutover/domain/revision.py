"""The revision of a route: the name that is stamped into the route and into every response.

By the revision a reconcile knows what an earlier one did: a VirtualService with ``a1-rollback`` was rolled back in
attempt 1, even if the operator died before it wrote the plan's status.
"""

from __future__ import annotations

from dataclasses import dataclass

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase

#: Response header that carries the revision.
HEADER = "x-cutover-revision"


def revision(attempt: int, weight: int) -> str:
    """Name the route of one attempt at one weight, such as ``a1-w25``."""
    return f"a{attempt}-w{weight}"


def rollback_revision(attempt: int) -> str:
    """Name the route after the rollback of an attempt, such as ``a1-rollback``."""
    return f"a{attempt}-rollback"


@dataclass(frozen=True, slots=True)
class Split:
    """What a route says: how requests are split, and for which attempt.

    Parameters
    ----------
    attempt
        The plan's attempt that the route belongs to.
    weight
        Percent of requests to EKS.
    rolled_back
        Whether it is the route after a rollback, which has its own revision.
    """

    attempt: int
    weight: int
    rolled_back: bool = False

    @property
    def revision(self) -> str:
        """The name that is stamped into the route."""
        return rollback_revision(self.attempt) if self.rolled_back else revision(self.attempt, self.weight)


@dataclass(frozen=True, slots=True)
class Trial:
    """What a route says while only the operator's probes have it: users go as they went before.

    Parameters
    ----------
    attempt
        The plan's attempt that the route belongs to.
    given_back
        Whether users had the operator's route meanwhile, and it was taken back as Heroku failed them.
    """

    attempt: int
    given_back: bool = False

    @property
    def revision(self) -> str:
        """The name that is stamped into the route."""
        return f"a{self.attempt}-{'given-back' if self.given_back else 'trial'}"


def raise_called_off(status: MigrationPlanStatus) -> str:
    """Return the name by which a raise that the status asks for is called off: ``a1-w25@1799661845``.

    Each decision on a weight has its own name.
    """
    since = status.checkpoint.weight_since if status.checkpoint is not None else 0
    return f"{desired_revision(status)}@{since:.0f}"


def desired_split(status: MigrationPlanStatus, weight: int | None = None) -> Split:
    """Return the route that the status asks for, or would ask for at another weight."""
    rolled_back = status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    return Split(status.attempt, (status.weight or 0) if weight is None else weight, rolled_back)


def desired_revision(status: MigrationPlanStatus) -> str:
    """Name the route that the status asks for: before the takeover, that of the trial."""
    return Trial(status.attempt).revision if status.weight is None else desired_split(status).revision
