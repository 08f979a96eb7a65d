"""Kopf's settings for a production operator."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import kopf

from cutover.adapters.traffic.istio.live import ROUTING_KINDS
from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION
from cutover.domain.marks import PLAN_LABEL


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
        Which plans it looks after, by their labels. A plan that loses them is seen as DELETED: its loop ends, and its
        traffic stays as it is, for the operator that it belongs to by now.
    """
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = f"{GROUP}/traffic"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{GROUP}")
    settings.persistence.diffbase_storage = NoDiffs()
    settings.posting.enabled = False
    # Kopf would let go of a kind whose CRD is on its way out, and leave its finalizer on the plans that go with it. Which
    # kinds there are is looked at once, then; running.py sees to it that this is at the right time.
    settings.scanning.disabled = True
    settings.networking.request_timeout = 10
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Backoffs()
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    for kind in ROUTING_KINDS:
        # A mesh may have thousands that are not ours. An object that loses the label is seen: as DELETED.
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = PLAN_LABEL
    if selector is not None:
        settings.watching.label_selectors[GROUP, VERSION, PLURAL] = selector
    settings.queueing.worker_limit = 200
    # A worker that has nothing left to do keeps its place for so long: with Kopf's own 5 s the first events of a thousand
    # plans, and with them their first reconciles, would take half a minute.
    settings.queueing.idle_timeout = 0.3
    settings.queueing.error_delays = (1, 2, 5, 10)
    return settings
