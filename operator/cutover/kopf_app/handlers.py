"""What Kopf calls, and nothing more.

Kopf brings watches, the finalizer and one daemon a plan. It is kept away from the plan's state: no ``patch``, no return
values, no progress in annotations. A daemon whose own patch failed once would be gone for good, and a merge patch has
no fence.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Protocol

import kopf

from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION, TemplateKind
from cutover.api.v1alpha1.templates import CLUSTER_GATE_TEMPLATES, GATE_TEMPLATES
from cutover.domain import managed_fields
from cutover.ports import Conflict, Gone, Unavailable
from cutover.services.plan_loop import PlanLoop, Ports

ISTIO = ("networking.istio.io", "v1")
ROUTING_KINDS = ("virtualservices", "serviceentries", "destinationrules")
#: The label that names the plan a routing object belongs to.
PLAN_LABEL = "cutover.dev/plan"
#: Seconds over which the first passes are spread after a start.
START_SPREAD = 3.0
#: Seconds until a deletion that could not put traffic to rest is tried again.
DELETION_RETRY_SECONDS = 5.0
#: Seconds until a loop that ended by a fault of ours is started again; Kopf's own 60 are long for a rollback.
RESTART_SECONDS = 5.0


class Routes(Protocol):
    """The watch cache of routing objects."""

    def observe_event(self, kind: str | None, body: Mapping[str, Any]) -> bool:
        """Take in one watch event; return whether it was news."""


class Templates(Protocol):
    """The watch cache of templates of gates."""

    def observe_event(self, kind: TemplateKind, event: str | None, body: Mapping[str, Any]) -> bool:
        """Take in one watch event; return whether it was news."""


class Operator:
    """All running loops, by the plan's UID."""

    def __init__(self, ports: Ports, routes: Routes, templates: Templates) -> None:
        self._ports = ports
        self._routes = routes
        self._templates = templates
        self.loops: dict[str, PlanLoop] = {}
        self.serving = False
        # All plans are woken at the end of each block: looking for each among all would be most of the work.
        self._uids: dict[str, str] = {}  # by ``namespace/name``

    def loop(self, uid: str, body: Mapping[str, Any]) -> PlanLoop:
        """Return the plan's loop; the same for the daemon and the deletion, which share its lock."""
        if uid not in self.loops:
            self.loops[uid] = PlanLoop(self._ports, lambda: body)
            self._uids[_key(body)] = uid
        return self.loops[uid]

    def let_go(self, uid: str, body: Mapping[str, Any]) -> PlanLoop | None:
        """Forget a plan's loop and return it, if there is one."""
        if self._uids.get(_key(body)) == uid:
            del self._uids[_key(body)]
        return self.loops.pop(uid, None)

    def end(self, uid: str, body: Mapping[str, Any]) -> None:
        """Let go of a plan that does not exist any more."""
        if (loop := self.let_go(uid, body)) is not None:
            loop.end()
        self._ports.notifier.forget(uid)  # the loop may have ended by itself before

    def wake(self, key: str) -> None:
        """Make the next pass of the plan ``namespace/name`` now."""
        if (loop := self.loops.get(self._uids.get(key, ""))) is not None:
            loop.wake()

    def route_changed(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """Take in a routing object and wake its plan."""
        if self._routes.observe_event(kind, body):
            metadata = body["metadata"]
            name = (metadata.get("labels") or {}).get(PLAN_LABEL)
            if name:
                self.wake(f"{metadata['namespace']}/{name}")

    def template_changed(self, kind: TemplateKind, event: str | None, body: Mapping[str, Any]) -> None:
        """Take in a template of gates and wake the plans that refer to it: one may wait for it."""
        if not self._templates.observe_event(kind, event, body):
            return
        metadata = body["metadata"]
        for loop in self.loops.values():
            plan = loop.plan
            if plan is None or not plan.has_spec or metadata.get("namespace") not in (None, plan.namespace):
                continue
            named = [slo.template for slo in plan.spec.gates.slos if slo.template is not None]
            if any((one.kind, one.name) == (kind, metadata["name"]) for one in named):
                loop.wake()


def _key(body: Mapping[str, Any]) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"


class Packed(MutableMapping[str, Any]):
    """A part of an object that is kept as JSON: a quarter of the memory, and it is seldom looked into.

    Nobody writes into it; but Kopf, where it is to add or remove a finalizer, compares objects by way of jsonpatch, which
    looks into mappings only if they could be written.
    """

    __slots__ = ("_text",)

    def __init__(self, part: Mapping[str, Any]) -> None:
        self._text = json.dumps(part, separators=(",", ":"))

    def __getitem__(self, name: str) -> Any:
        return _unpacked(self._text)[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_unpacked(self._text))

    def __len__(self) -> int:
        return len(_unpacked(self._text))

    def __setitem__(self, name: str, value: Any) -> None:
        self._text = json.dumps({**_unpacked(self._text), name: value}, separators=(",", ":"))

    def __delitem__(self, name: str) -> None:
        self._text = json.dumps({key: value for key, value in self.items() if key != name}, separators=(",", ":"))


@functools.lru_cache(maxsize=8)
def _unpacked(text: str) -> dict[str, Any]:
    """Return what is packed; who reads a part reads all its fields, one after the other."""
    part: dict[str, Any] = json.loads(text)
    return part


def slim(body: Any) -> None:
    """Make an object smaller, in place: Kopf keeps the newest one of each plan.

    Spec and status are packed, and of the managed fields stays who owns the spec and which annotations; nobody asks for
    the rest, a third of the object.
    """
    for part in ("spec", "status"):
        if isinstance(body.get(part), dict):
            body[part] = Packed(body[part])
    metadata = body["metadata"]
    if "managedFields" in metadata:
        metadata["managedFields"] = managed_fields.of_spec_and_annotations(metadata["managedFields"] or ())


class NoDiffs(kopf.DiffBaseStorage):
    """Remembers nothing of an object, as no handler asks what has changed.

    Otherwise Kopf would copy the whole object at every event, which comes of each checkpoint, and write all of its spec
    into an annotation whenever that changes.
    """

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002
        """Return what is the same for all objects."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence:  # noqa: ARG002
        """Return the same, so that an object is never new and never changed."""
        return kopf.BodyEssence()

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Do nothing."""


class Backoffs:
    """Seconds between Kopf's attempts at one request: it never gives up.

    A request that Kopf gives up is an event that nobody handles any more, such as a deletion, or the end of a watch and
    with it of the process, which then starts anew as late as Kubernetes thinks fit.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 1.0, 2.0, 3.0), itertools.repeat(5.0))


def kopf_settings(*, selector: str | None = None) -> kopf.OperatorSettings:
    """Return Kopf's settings for a production operator.

    Parameters
    ----------
    selector
        Which plans it looks after, by their labels. One that loses them is seen as DELETED: its loop ends, and its
        traffic stays as it is, for the operator that it belongs to by now.
    """
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = f"{GROUP}/traffic"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{GROUP}")
    settings.persistence.diffbase_storage = NoDiffs()
    settings.posting.enabled = False
    # Kopf would let go of a kind whose CRD is on its way out, and leave its finalizer on the plans that go with it. Which
    # kinds there are is looked at once, then; main.py sees to it that this is at the right time.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    for plural in ROUTING_KINDS:
        # A mesh may have thousands that are not ours. One that loses the label is seen: as DELETED.
        settings.watching.label_selectors[(*ISTIO, plural)] = PLAN_LABEL
    if selector is not None:
        settings.watching.label_selectors[GROUP, VERSION, PLURAL] = selector
    settings.queueing.worker_limit = 200
    # A worker that has nothing left to do keeps its place for so long: with Kopf's own 5 s the first events of a thousand
    # plans, and with them their first passes, would take half a minute.
    settings.queueing.idle_timeout = 0.3
    settings.queueing.error_delays = (1, 2, 5, 10)
    return settings


def register(registry: kopf.OperatorRegistry, operator: Operator) -> None:
    """Register the handlers.

    Each is a coroutine, however little it does: Kopf runs plain functions in threads, where loops and caches must not be
    touched.
    """

    @kopf.daemon(
        GROUP,
        VERSION,
        PLURAL,
        registry=registry,
        id="migrate",
        initial_delay=lambda **_: random.uniform(0, START_SPREAD),
        backoff=RESTART_SECONDS,
        cancellation_timeout=5.0,
    )
    async def migrate(uid: str, body: kopf.Body, stopped: kopf.DaemonStopped, **_: Any) -> None:
        loop = operator.loop(uid, body)
        try:
            await loop.run(lambda: bool(stopped))
        finally:
            if operator.loops.get(uid) is loop and not body.metadata.deletion_timestamp:
                operator.let_go(uid, body)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry, id="changed")
    async def changed(type: str | None, uid: str, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:  # noqa: A002
        slim(event["object"])
        if type == "DELETED":
            operator.end(uid, body)
        elif (loop := operator.loops.get(uid)) is not None:
            loop.notice(body)

    @kopf.on.delete(GROUP, VERSION, PLURAL, registry=registry, id="deleted", backoff=RESTART_SECONDS)
    async def deleted(uid: str, body: kopf.Body, **_: Any) -> None:
        try:
            await operator.loop(uid, body).finalize(body)
        except Gone:
            pass
        except (Conflict, Unavailable) as outage:
            raise kopf.TemporaryError(str(outage), delay=DELETION_RETRY_SECONDS) from outage
        operator.end(uid, body)

    for plural in ROUTING_KINDS:

        @kopf.on.event(*ISTIO, plural, registry=registry, id=f"watch-{plural}")
        async def routed(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
            operator.route_changed(type, body)

    @kopf.on.event(GROUP, VERSION, GATE_TEMPLATES, registry=registry, id="watch-gatetemplates")
    async def template(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        operator.template_changed(TemplateKind.GATE_TEMPLATE, type, body)

    @kopf.on.event(GROUP, VERSION, CLUSTER_GATE_TEMPLATES, registry=registry, id="watch-clustergatetemplates")
    async def cluster_template(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        operator.template_changed(TemplateKind.CLUSTER_GATE_TEMPLATE, type, body)
