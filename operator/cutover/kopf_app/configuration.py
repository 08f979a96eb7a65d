"""Kopf's settings for a production operator."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import kopf

from cutover.adapters.traffic.istio.live import ROUTING_KINDS
from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION
from cutover.domain.marks import PLAN_LABEL


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
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{GROUP}")
    settings.persistence.diffbase_storage = NoDiffs()
    settings.posting.enabled = False
    # With scanning Kopf would drop a kind whose CRD is being deleted, and leave its finalizer on the plans of that kind. So it
    # discovers kinds only once; running.py ensures that this is at the right time.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
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
