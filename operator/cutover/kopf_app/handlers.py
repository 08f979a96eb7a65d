"""Kopf's handlers, which only call the operator.

Kopf provides watches, the finalizer and one daemon for each plan. It does not write the plan's state: no ``patch``, no return
values, no progress in annotations. A daemon whose own patch failed once would never run again, and a merge patch has no
fence.
"""

from __future__ import annotations

import random
from typing import Any

import kopf

from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION, TemplateKind
from cutover.api.v1alpha1.templates import CLUSTER_GATE_TEMPLATES, GATE_TEMPLATES
from cutover.domain import managed_fields
from cutover.kopf_app.watched import ROUTING_KINDS
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.scale.packing import slim
from cutover.services.operator import Operator

#: Seconds over which the first reconciles are spread after a start.
START_SPREAD = 3.0
#: Seconds until a deletion that could not write the final route is retried.
DELETION_RETRY_SECONDS = 5.0
#: Seconds until a loop that ended by a bug is restarted; Kopf's default of 60 is too long for a rollback.
RESTART_SECONDS = 5.0


def register(registry: kopf.OperatorRegistry, operator: Operator) -> None:
    """Register the handlers.

    All handlers are coroutines: Kopf runs plain functions in threads, where loops and caches must not be used.
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
                operator.forget(uid, body)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry, id="changed")
    async def changed(type: str | None, uid: str, body: kopf.Body, event: kopf.RawEvent, **_: Any) -> None:  # noqa: A002
        slim(event["object"], managed_fields.of_spec_and_annotations)
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

    for kind in ROUTING_KINDS:

        @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"watch-{kind.plural}")
        async def routed(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
            operator.route_changed(type, body)

    @kopf.on.event(GROUP, VERSION, GATE_TEMPLATES, registry=registry, id="watch-gatetemplates")
    async def template(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        operator.template_changed(TemplateKind.GATE_TEMPLATE, type, body)

    @kopf.on.event(GROUP, VERSION, CLUSTER_GATE_TEMPLATES, registry=registry, id="watch-clustergatetemplates")
    async def cluster_template(type: str | None, body: kopf.Body, **_: Any) -> None:  # noqa: A002
        operator.template_changed(TemplateKind.CLUSTER_GATE_TEMPLATE, type, body)
