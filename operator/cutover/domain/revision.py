"""The name of a version of the route, as stamped into it and into every response.

It is how a pass knows what an earlier one did: a VirtualService that says ``a1-rollback`` was rolled back in attempt
1, even where the operator died before it could say so in the plan's status.
"""

from __future__ import annotations

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase

#: Response header that carries the revision.
HEADER = "x-cutover-revision"


def revision(attempt: int, weight: int) -> str:
    """Name the route of one attempt at one weight, such as ``a1-w25``."""
    return f"a{attempt}-w{weight}"


def rollback_revision(attempt: int) -> str:
    """Name the route after the rollback of an attempt, such as ``a1-rollback``."""
    return f"a{attempt}-rollback"


def raise_called_off(status: MigrationPlanStatus) -> str:
    """Name the raise that a status asks for, as something that is not to happen any more: ``a1-w25@1799661845``.

    It is another one each time that the weight is decided on.
    """
    since = status.checkpoint.weight_since if status.checkpoint is not None else 0
    return f"{desired_revision(status)}@{since:.0f}"


def desired_revision(status: MigrationPlanStatus) -> str:
    """Name the route that the status asks for."""
    if status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        return rollback_revision(status.attempt)
    return revision(status.attempt, status.weight or 0)
