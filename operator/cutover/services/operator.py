"""The loops of all plans, and which events wake which loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cutover.api.v1alpha1 import TemplateKind
from cutover.domain.marks import PLAN_LABEL
from cutover.ports.all import Ports
from cutover.services.plan_loop import PlanLoop


class Routes(Protocol):
    """The watch cache of routing objects."""

    def observe_event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Ingest one watch event; return whether it changed an object of a plan."""

    def forget(self, namespace: str, plan: str) -> None:
        """Forget the objects of a plan that is gone."""


class Templates(Protocol):
    """The watch cache of gate templates."""

    def observe_event(self, kind: TemplateKind, event: str | None, body: Mapping[str, Any]) -> bool:
        """Ingest one watch event; return whether it changed the cache."""


class Operator:
    """All running loops, by the plan's UID."""

    def __init__(self, ports: Ports, routes: Routes, templates: Templates) -> None:
        self._ports = ports
        self._routes = routes
        self._templates = templates
        self.loops: dict[str, PlanLoop] = {}
        self.serving = False
        # All plans are woken at the end of each block: a search through all loops for each would be most of the work.
        self._uids: dict[str, str] = {}  # by ``namespace/name``
        self._by_namespace: dict[str, set[str]] = {}

    def loop(self, uid: str, body: Mapping[str, Any]) -> PlanLoop:
        """Return the plan's loop. The daemon and the deletion handler get the same, and share its lock."""
        if uid not in self.loops:
            self.loops[uid] = PlanLoop(self._ports, lambda: body)
            self._uids[_key(body)] = uid
            self._by_namespace.setdefault(body["metadata"]["namespace"], set()).add(uid)
        return self.loops[uid]

    def forget(self, uid: str, body: Mapping[str, Any]) -> PlanLoop | None:
        """Forget a plan's loop and return it, if there is any."""
        if self._uids.get(_key(body)) == uid:
            del self._uids[_key(body)]
        namespace = body["metadata"]["namespace"]
        uids = self._by_namespace.get(namespace, set())
        uids.discard(uid)
        if not uids:
            self._by_namespace.pop(namespace, None)
        self._routes.forget(namespace, body["metadata"]["name"])
        return self.loops.pop(uid, None)

    def end(self, uid: str, body: Mapping[str, Any]) -> None:
        """End the loop of a plan that does not exist any more."""
        if (loop := self.forget(uid, body)) is not None:
            loop.end()
        self._ports.notifier.forget(uid)  # the loop may have ended by itself already
        if self._ports.reports is not None:
            self._ports.reports.forget(uid)

    def wake(self, key: str) -> None:
        """Start the next reconcile of the plan ``namespace/name`` now."""
        if (loop := self.loops.get(self._uids.get(key, ""))) is not None:
            loop.wake()

    def route_changed(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Ingest a routing object and wake its plan."""
        if self._routes.observe_event(kind, body):
            metadata = body["metadata"]
            name = (metadata.get("labels") or {}).get(PLAN_LABEL)
            if name:
                self.wake(f"{metadata['namespace']}/{name}")

    def template_changed(self, kind: TemplateKind, event: str | None, body: Mapping[str, Any]) -> None:
        """Ingest a gate template and wake the plans that refer to it: they may wait for it."""
        if not self._templates.observe_event(kind, event, body):
            return
        metadata = body["metadata"]
        namespace = metadata.get("namespace")
        uids = self.loops.keys() if namespace is None else self._by_namespace.get(namespace, ())
        for loop in [self.loops[uid] for uid in uids]:
            plan = loop.plan
            if plan is None or not plan.has_spec:
                continue
            named = [slo.template for slo in plan.spec.gates.slos if slo.template is not None]
            if any((reference.kind, reference.name) == (kind, metadata["name"]) for reference in named):
                loop.wake()


def _key(body: Mapping[str, Any]) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"
