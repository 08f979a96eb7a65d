"""Receivers of notifications, from the file that ``CUTOVER_NOTIFICATIONS`` names."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from cutover.api.model import ShortName
from cutover.api.rules import once
from cutover.domain.journal.notifications import DEFAULT_TEMPLATE, Severity, check_template
from cutover.settings.environment import PREFIX, Settings
from cutover.settings.files import FileModel, Seconds, Tls, read_file


class ReceiverKind(StrEnum):
    """The format that a receiver understands."""

    SLACK = "Slack"
    CLOUD_EVENTS = "CloudEvents"


class ContentMode(StrEnum):
    """How a request carries a CloudEvent."""

    STRUCTURED = "Structured"
    BINARY = "Binary"


class ThrottleSpec(FileModel):
    """The most messages that a receiver gets."""

    burst: int = Field(default=5, ge=1, le=1000, description="Messages at once.")
    every: Annotated[Seconds, Field(ge=0.1, le=3600)] = Field(default=10.0, description="Between two, after that.")


_Patterns = tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*?-]{1,63}$")], ...]
#: Headers that the operator itself sets.
_OWN_HEADERS = frozenset({"content-type", "content-length", "host", "transfer-encoding", "connection", "user-agent"})


class Receiver(FileModel):
    """A receiver of notifications about decisions."""

    name: ShortName = Field(description="Name, for logs, metrics and the plans' status.")
    kind: ReceiverKind = Field(description="Slack or CloudEvents.")
    url_file: Path = Field(description="File with the URL, which is a secret.")
    header_files: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")], Path] = Field(
        default_factory=dict, description="Files with the values of headers, such as Authorization."
    )
    namespaces: _Patterns = Field(default=(), description="Namespaces of plans, with * and ?; all if empty.")
    severities: tuple[Severity, ...] = Field(default=(), description="info, warning, critical; all if empty.")
    reasons: _Patterns = Field(default=(), description="Decisions or reasons, with * and ?; all if empty.")
    template: Annotated[str, AfterValidator(check_template), StringConstraints(min_length=1, max_length=2000)] = Field(
        default=DEFAULT_TEMPLATE, description="Slack: the message, with {{ placeholders }}."
    )
    mode: ContentMode = Field(default=ContentMode.STRUCTURED, description="CloudEvents: Structured or Binary.")
    source: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~:/-]{0,200}$")] = Field(
        default="", description="CloudEvents: put before the event's source, to tell clusters apart."
    )
    throttle: ThrottleSpec = Field(default=ThrottleSpec(), description="How much at most.")
    timeout: Annotated[Seconds, Field(ge=1, le=60)] = Field(default=10.0, description="How long one request may take.")
    allow: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(), description="Loopback and link-local networks that may be connected to, such as 127.0.0.0/8."
    )
    tls: Tls = Field(default=Tls(), description="Certificates.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind is not ReceiverKind.SLACK and "template" in self.model_fields_set:
            raise ValueError("template is of Slack; leave it out")
        if self.kind is not ReceiverKind.CLOUD_EVENTS and {"mode", "source"} & self.model_fields_set:
            raise ValueError("mode and source are of CloudEvents; leave them out")
        names = [name.lower() for name in self.header_files]
        if len(set(names)) != len(names):
            raise ValueError("headerFiles: a header may come once")
        if taken := sorted(name for name in names if name in _OWN_HEADERS or name.startswith("ce-")):
            raise ValueError(f"headerFiles: the operator sets {', '.join(taken)} itself; leave it out")
        return self


class _NotificationsFile(FileModel):
    """The file that CUTOVER_NOTIFICATIONS names."""

    receivers: Annotated[
        tuple[Receiver, ...], Field(max_length=20), once("each name may come once; write another name", key="name")
    ] = ()


def read_receivers(settings: Settings) -> tuple[Receiver, ...]:
    """Read the receivers of notifications; none without a file.

    Raises
    ------
    SettingsError
        Where the file cannot be read or is wrong. The text quotes only names of fields.
    """
    path = settings.notifications
    if path is None:
        return ()
    return read_file(path, f"{PREFIX}NOTIFICATIONS: {path}", _NotificationsFile).receivers
