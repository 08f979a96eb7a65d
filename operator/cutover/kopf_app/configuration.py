"""Kopf's settings for a production operator."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import kopf

from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION
from cutover.domain.marks import PLAN_LABEL
from cutover.kopf_app.watched import ROUTING_KINDS


class NoDiffs(kopf.DiffBaseStorage):
    """Stores no last-seen state of objects, as no handler uses Kopf's diffs.

    Otherwise Kopf would copy the whole object at every event, and each checkpoint causes an event. It would also write the
    spec into an annotation whenever the spec changes.
    """

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:  # noqa: ARG002
        """Return the same essence for all objects."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence:  # noqa: ARG002
        """Return the same essence, so that an object is never new and never changed."""
        return kopf.BodyEssence()

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Do nothing."""


class NoProgress(kopf.AnnotationsProgressStorage):
    """Stores no progress of handlers, and believes none.

    Kopf's own storage reads it from annotations of the plan, which anybody may write who may write the plan: a forged
    success of the deletion handler would end a deletion before traffic is put to rest. Without progress a handler runs
    again, which the only one that has progress, the deletion handler, is made for. The annotation ``touch-dummy`` by which
    Kopf wakes itself for a retry stays; nothing reads it.
    """

    def fetch(self, *, key: kopf.HandlerId, body: kopf.Body) -> kopf.ProgressRecord | None:  # noqa: ARG002
        """Return no progress."""
        return None

    def store(self, *, key: kopf.HandlerId, record: kopf.ProgressRecord, body: kopf.Body, patch: kopf.Patch) -> None:
        """Do nothing."""

    def purge(self, *, key: kopf.HandlerId, body: kopf.Body, patch: kopf.Patch) -> None:
        """Do nothing."""


class Backoffs:
    """Seconds between Kopf's attempts at one request, without an end.

    Where Kopf stops retrying, an event such as a deletion stays unhandled, or a watch ends and with it the process, which
    Kubernetes restarts after growing back-offs.
    """

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((1.0, 1.0, 2.0, 3.0), itertools.repeat(5.0))


def kopf_settings(*, selector: str | None = None) -> kopf.OperatorSettings:
    """Return Kopf's settings for a production operator.

    Parameters
    ----------
    selector
        Label selector of the plans. A plan whose labels stop matching arrives as DELETED: its loop ends, and its traffic
        stays as it is, for the operator that manages it now.
    """
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = f"{GROUP}/traffic"
    settings.persistence.progress_storage = NoProgress(prefix=f"kopf.{GROUP}")
    settings.persistence.diffbase_storage = NoDiffs()
    settings.posting.enabled = False
    # With scanning Kopf would drop a kind whose CRD is being deleted, and leave its finalizer on the plans of that kind. So it
    # discovers kinds only once; running.py ensures that this is at the right time.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    # Objects per page of a list. Anybody's objects may be large: only a page of whole ones is in memory.
    settings.watching.chunk_size = 20
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    for kind in ROUTING_KINDS:
        # A mesh may have thousands of other objects. An object that loses the label arrives as DELETED.
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = PLAN_LABEL
    if selector is not None:
        settings.watching.label_selectors[GROUP, VERSION, PLURAL] = selector
    settings.queueing.worker_limit = 200
    # An idle worker keeps its slot for so long: with Kopf's default of 5 s the first events of a thousand plans, and so their
    # first reconciles, would take half a minute.
    settings.queueing.idle_timeout = 0.3
    settings.queueing.error_delays = (1, 2, 5, 10)
    return settings
