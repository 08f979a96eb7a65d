"""Posts Events about plans, for ``kubectl describe`` and other readers of Events."""

from __future__ import annotations

import logging
import time
import uuid
from datetime import UTC, datetime

from cutover.adapters.kube.client import Cluster
from cutover.domain.marks import FIELD_MANAGER
from cutover.domain.plan import Plan
from cutover.domain.resources import EVENTS, PLANS
from cutover.domain.texts import plain
from cutover.ports.errors import Conflict, Gone, Unavailable

logger = logging.getLogger(__name__)

#: Equal Events of one plan within this many seconds are posted once.
EVENT_QUIET_SECONDS = 300.0


class EventPoster:
    """Posts Events; equal Events are posted once in five minutes.

    Parameters
    ----------
    cluster
        The API server.
    instance
        Name of the operator's Pod.
    """

    def __init__(self, cluster: Cluster, instance: str = "") -> None:
        self._cluster = cluster
        self._instance = instance
        self._posted: dict[tuple[str, str, str], float] = {}

    async def post(self, plan: Plan, kind: str, reason: str, message: str) -> None:
        """Post an Event about the plan (``kind`` is Normal or Warning). Never raises: events are best effort.

        The same reason and message of a plan are posted once in five minutes.
        """
        now = time.monotonic()
        self._posted = {key: at for key, at in self._posted.items() if now - at < EVENT_QUIET_SECONDS}
        key = (plan.uid, reason, message)
        if key in self._posted:
            return
        self._posted[key] = now
        stamp = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {"namespace": plan.namespace, "name": f"{plan.name}.{uuid.uuid4().hex[:16]}"},
            "involvedObject": {
                "apiVersion": PLANS.api_version,
                "kind": PLANS.kind,
                "namespace": plan.namespace,
                "name": plan.name,
                "uid": plan.uid,
            },
            "type": kind,
            "reason": reason,
            "message": plain(message)[:1024],  # the API server's limit
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": FIELD_MANAGER},
            "reportingComponent": FIELD_MANAGER,
            "reportingInstance": self._instance,
        }
        try:
            await self._cluster.create(EVENTS, body)
        except (Conflict, Gone, Unavailable) as error:
            logger.warning("Event %s about plan %s was not posted: %s", reason, plan.key, error)
