"""Reading MigrationPlans and writing their status and Events."""

from __future__ import annotations

from typing import Protocol

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.plan import Plan


class Plans(Protocol):
    """MigrationPlans in the API server."""

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        """Return the plan and its resourceVersion. Raises Gone, Unavailable."""

    async def write_status(self, plan: Plan, status: MigrationPlanStatus, resource_version: str) -> str:
        """Replace the status, fenced by the resourceVersion; return the new one. Raises Conflict, Gone, Unavailable."""

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        """Post an Event about the plan (``kind`` is Normal or Warning). Never raises: events are best effort."""
