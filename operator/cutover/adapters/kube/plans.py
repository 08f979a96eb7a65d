"""Reads MigrationPlans from the API server and writes their status."""

from __future__ import annotations

from pydantic import ValidationError

from cutover.adapters.kube.client import Cluster
from cutover.adapters.kube.events import EventPoster
from cutover.api import v1alpha1
from cutover.api.problems import problem_text
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan
from cutover.domain.resources import PLANS, Json
from cutover.ports.errors import Gone, Unavailable


class KubernetesPlans:
    """:class:`cutover.ports.plans.Plans` in the API server.

    Parameters
    ----------
    cluster
        The API server.
    instance
        Name of the operator's Pod, for Events.
    selector
        Label selector of the plans that this operator manages; other plans are Gone. The watch may report that later.
    """

    def __init__(self, cluster: Cluster, instance: str = "", selector: str | None = None) -> None:
        self._cluster = cluster
        self._selector = selector
        self._events = EventPoster(cluster, instance)

    async def read(self, namespace: str, name: str) -> tuple[Plan, str]:
        """Return the plan and its resourceVersion. Raises Gone, Unavailable."""
        body = await self._get(namespace, name)
        try:
            plan = Plan.from_object(body)
        except ValidationError as error:
            raise Unavailable(
                f"{namespace}/{name} is not a plan that this operator understands: {problem_text(error)}"
            ) from error
        return plan, body["metadata"]["resourceVersion"]

    async def _get(self, namespace: str, name: str) -> Json:
        if self._selector is None:
            return await self._cluster.get(PLANS, namespace, name)
        found = await self._cluster.list(PLANS, namespace, self._selector, name=name)
        if not found:
            raise Gone(f"{namespace}/{name} does not exist, or does not have the labels {self._selector}")
        return found[0]

    async def write_status(self, plan: Plan, status: v1alpha1.MigrationPlanStatus, resource_version: str) -> str:
        """Replace the status, fenced by the resourceVersion; return the new one. Raises Conflict, Gone, Unavailable."""
        # A PUT to /status uses nothing else of the body.
        body = {
            "apiVersion": PLANS.api_version,
            "kind": PLANS.kind,
            "metadata": {
                "namespace": plan.namespace,
                "name": plan.name,
                "uid": plan.uid,
                "resourceVersion": resource_version,
            },
            "status": status.to_wire(),
        }
        # These writes end a rollback, after the route.
        back = (
            status.phase in (v1alpha1.Phase.ROLLING_BACK, v1alpha1.Phase.ROLLED_BACK)
            or status.reason == HoldReason.ROUTE_NOT_WRITTEN
        )
        stored = await self._cluster.replace(PLANS, body, "status", urgent=back)
        written: str = stored["metadata"]["resourceVersion"]
        return written

    async def event(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        """Post an Event about the plan (``kind`` is Normal or Warning). Never raises: events are best effort."""
        await self._events.post(plan, kind, reason, message)
