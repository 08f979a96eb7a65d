"""Which Pods testers' requests go to: reads the Service's selector and port, beside the plans' loops."""

from __future__ import annotations

import asyncio
import math

from cutover.adapters.kube.client import Cluster
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.preview_pods import PreviewPods, preview_pods
from cutover.domain.resources import DEPLOYMENTS, SERVICES, Json, Resource
from cutover.ports.errors import Gone, Unavailable

#: Seconds for which they are known: a Service's selector changes seldom.
LIFETIME_SECONDS = 60.0


class Previews:
    """The Pods for testers of all plans with ``traffic.preview``.

    Nothing that users need depends on them. So no decision waits for them, and where they cannot be read or selected any more,
    what is there stays: preflight has said what is wrong with the Service, and says it again in the next attempt.

    Parameters
    ----------
    cluster
        The API server.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # By plan; the time is in seconds of the event loop.
        self._known: dict[str, tuple[float, PreviewPods | None]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}

    def of(self, plan: Plan) -> PreviewPods | None:
        """Return the Pods as far as they are known, and read them again if that is long ago; ``None`` without a preview."""
        if plan.spec.traffic.preview is None:
            self.forget(plan)
            return None
        read_at, pods = self._known.get(plan.key, (-math.inf, None))
        task = self._reading.get(plan.key)
        if asyncio.get_running_loop().time() - read_at >= LIFETIME_SECONDS and (task is None or task.done()):
            self._reading[plan.key] = asyncio.create_task(self.read(plan))
        return pods

    async def read(self, plan: Plan) -> None:
        """Read the Pods now."""
        if plan.spec.traffic.preview is None:
            return
        _, pods = self._known.get(plan.key, (-math.inf, None))
        eks = plan.spec.eks
        try:
            service = await self._get(SERVICES, plan.namespace, eks.service.name)
            workload = await self._get(DEPLOYMENTS, plan.namespace, eks.workload_ref.name)
        except Unavailable:
            pass  # it is read again a minute later
        else:
            found = preview_pods(plan, service, workload)
            pods = pods if isinstance(found, str) else found
        self._known[plan.key] = asyncio.get_running_loop().time(), pods

    def forget(self, plan: Plan) -> None:
        """Forget what is known of a plan's Pods."""
        self._known.pop(plan.key, None)
        if (task := self._reading.pop(plan.key, None)) is not None:
            task.cancel()

    async def _get(self, resource: Resource, namespace: str, name: str) -> Json | None:
        try:
            return await self._cluster.get(resource, namespace, name)
        except Gone:
            return None
