"""CloudEvents 1.0 over HTTP (https://cloudevents.io), by the CloudEvents SDK: one event for each entry of a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from typing import assert_never

from cloudevents.core.bindings.http import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from cutover.adapters.notify.transport import Message
from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION
from cutover.domain.journal.notifications import Notice, Severity
from cutover.domain.journal.outbox import Batch
from cutover.domain.resources import CONFIG_MAPS
from cutover.settings import ContentMode


class _Utf8Json(JSONFormat):
    """The SDK's JSON format, with the encoding in the content type as in the specification's examples."""

    def get_content_type(self) -> str:
        return f"{self.CONTENT_TYPE}; charset=UTF-8"


_JSON = _Utf8Json()


class CloudEventsFormat:
    """Writes events for a program.

    Parameters
    ----------
    mode
        Whether the event's attributes are in the body or in headers.
    source
        Prefix of the event's source, to tell clusters apart.
    """

    #: A program gets every entry.
    digests = False

    def __init__(self, mode: ContentMode, source: str = "") -> None:
        self._mode = mode
        self._source = source

    def write(self, batch: Batch) -> Message:
        """Return the event of the first notice; without digests a batch has only one."""
        return self._message(cloud_event(batch.notices[0], batch.lost, self._source))

    def reason(self, said: str) -> str:  # noqa: ARG002  # the body may be any program's
        """Return nothing to log of an error's body, as it may repeat the request."""
        return ""

    def _message(self, event: CloudEvent) -> Message:
        match self._mode:
            case ContentMode.STRUCTURED:
                made = to_structured(event, _JSON)
            case ContentMode.BINARY:
                made = to_binary(event, _JSON)
            case _:
                assert_never(self._mode)
        return Message(made.headers, made.body)


def cloud_event(notice: Notice, lost: Mapping[Severity, int], source: str = "") -> CloudEvent:
    """Return the event of a notice, with the whole entry of the ledger as its data.

    Parameters
    ----------
    notice
        The notice.
    lost
        Number of earlier notices that were dropped, by severity.
    source
        Prefix of the event's source.
    """
    entry = notice.entry
    data = {
        "namespace": notice.namespace,
        "plan": notice.plan,
        "uid": notice.uid,
        "severity": notice.severity,
        **entry.to_wire(),
    }
    if notice.report:
        data["report"] = {"kind": CONFIG_MAPS.kind, "namespace": notice.namespace, "name": notice.report}
    if notice.report_url:
        data["reportUrl"] = notice.report_url
    if lost:
        data["notTold"] = dict(lost)
    attributes = {
        "specversion": "1.0",
        "id": notice.id,
        "source": f"{source}/apis/{GROUP}/{VERSION}/namespaces/{notice.namespace}/{PLURAL}/{notice.plan}",
        "type": f"dev.cutover.migrationplan.{entry.decision.lower()}",
        "subject": f"{notice.namespace}/{notice.plan}",
        "time": entry.at.astimezone(UTC).replace(microsecond=0),  # in whole seconds, as the API server has it
        "datacontenttype": "application/json",
        "severity": str(notice.severity),
    }
    return CloudEvent(attributes, data)
