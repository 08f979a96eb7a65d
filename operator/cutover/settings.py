"""What the person who runs the operator decides: the environment (``CUTOVER_…``), and the files that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from cutover.api.durations import parse_duration
from cutover.api.model import DNS_NAME, ShortName
from cutover.api.problems import problem_text
from cutover.api.rules import once
from cutover.domain.journal.notifications import DEFAULT_TEMPLATE, Severity, check_template

PREFIX = "CUTOVER_"


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise ValueError("must have no user and no password in it: an address is shown, and they belong in files")
    if parts.query or parts.fragment:
        raise ValueError("must end with the path")
    return value.rstrip("/")


def _seconds(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_duration(value).total_seconds()
    except ValueError:
        # Its own text quotes the value.
        raise ValueError("write a duration such as 30s, or a number of seconds") from None


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_REQUIREMENT = (
    rf"\s*(!?\s*{_KEY}|{_KEY}\s*(=|==|!=)\s*{_VALUE}|{_KEY}\s+(in|notin)\s*\(\s*{_VALUE}(\s*,\s*{_VALUE})*\s*\))\s*"
)


def _selector(value: str) -> str:
    # A watch that the API server refuses is tried for ever, and nobody looks after any plan.
    if re.fullmatch(rf"{_REQUIREMENT}(,{_REQUIREMENT})*", value) is None:
        raise ValueError("write a label selector, such as cutover.dev/shard=a or cutover.dev/shard notin (a, b)")
    return value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Seconds = Annotated[float, BeforeValidator(_seconds)]


class _FileModel(BaseModel):
    """Base of what the files hold: camelCase, nothing unknown, nothing quoted in errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class BasicAuthFiles(_FileModel):
    """A name and a password."""

    username_file: Path = Field(description="File with the name.")
    password_file: Path = Field(description="File with the password.")


class Tls(_FileModel):
    """Whom to trust, and who the operator is, at the level of TLS."""

    ca_file: Path | None = Field(default=None, description="Certificates to trust, PEM; instead of the public CAs.")
    cert_file: Path | None = Field(default=None, description="The operator's certificate, PEM.")
    key_file: Path | None = Field(default=None, description="Its key, PEM without a password.")
    server_name: Annotated[str, StringConstraints(pattern=DNS_NAME)] | None = Field(
        default=None, description="Name in the server's certificate, where it is not that of the URL."
    )

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("certFile and keyFile belong together; write both or none")
        return self


class SigV4Scope(_FileModel):
    """What requests are signed for, with the credentials of the operator's Pod."""

    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = Field(
        description="AWS region, such as eu-west-1."
    )
    service: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = Field(
        default="aps", description="AWS service: aps is Amazon Managed Service for Prometheus."
    )


#: What the operator itself says in a query.
_OWN_PARAMETERS = frozenset({"query", "time", "start", "end", "step", "timeout"})


class PrometheusServer(_FileModel):
    """A Prometheus, or what speaks its API, and how the operator proves who it is."""

    url: HttpUrl = Field(description="Where its API is, with its path prefix if it has one.")
    scrape_interval: Annotated[Seconds, Field(gt=0, le=120)] | None = Field(
        default=None, description="How often the gateways are scraped there; default CUTOVER_SCRAPE_INTERVAL."
    )
    timeout: Annotated[Seconds, Field(ge=1, le=60)] = Field(default=10.0, description="How long one query may take.")
    tenant: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!_.*'()|-]{1,512}$")] | None = Field(
        default=None, description="Tenant of Mimir and Cortex, sent as X-Scope-OrgID."
    )
    parameters: dict[str, str] = Field(
        default_factory=dict, description='Sent with every query, such as partial_response: "false" for Thanos.'
    )
    bearer_token_file: Path | None = Field(default=None, description="File with a bearer token.")
    basic_auth: BasicAuthFiles | None = Field(default=None, description="Files with a name and a password.")
    tls: Tls = Field(default=Tls(), description="Certificates.")
    sigv4: SigV4Scope | None = Field(default=None, description="Sign requests for AWS.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(one is not None for one in (self.bearer_token_file, self.basic_auth, self.sigv4)) > 1:
            raise ValueError("at most one of bearerTokenFile, basicAuth and sigv4 can be used; leave the others out")
        if self.tls != Tls() and not self.url.startswith("https://"):
            raise ValueError("tls needs a url with https://")
        if taken := sorted(_OWN_PARAMETERS & set(self.parameters)):
            raise ValueError(f"parameters: the operator sets {', '.join(taken)} itself; leave it out")
        return self


class NamedPrometheus(PrometheusServer):
    """One that plans of some namespaces may choose by name."""

    name: ShortName = Field(description="What plans write in spec.gates.prometheus.")
    namespaces: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9*?-]{1,63}$")], ...] = Field(
        default=(), description="Namespaces whose plans may choose it, with * and ?; none if empty."
    )


class _PrometheusFile(_FileModel):
    """The file that CUTOVER_PROMETHEUS_SOURCES names."""

    default: PrometheusServer | None = None
    sources: Annotated[
        tuple[NamedPrometheus, ...], once("each name may come once; write another name", key="name")
    ] = ()


class PrometheusServers(_FileModel):
    """All Prometheus servers that the operator may ask.

    Parameters
    ----------
    default
        For plans that name none.
    named
        Those that some plans may choose.
    """

    default: PrometheusServer
    named: tuple[NamedPrometheus, ...] = ()


class ReceiverKind(StrEnum):
    """What a receiver of notifications understands."""

    SLACK = "Slack"
    CLOUD_EVENTS = "CloudEvents"


class ContentMode(StrEnum):
    """How a CloudEvent is put into a request."""

    STRUCTURED = "Structured"
    BINARY = "Binary"


class ThrottleSpec(_FileModel):
    """How much a receiver is told at most."""

    burst: int = Field(default=5, ge=1, le=1000, description="Messages at once.")
    every: Annotated[Seconds, Field(ge=0.1, le=3600)] = Field(default=10.0, description="Between two, after that.")


_Patterns = tuple[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9*?-]{1,63}$")], ...]
#: What the operator itself says in a request.
_OWN_HEADERS = frozenset({"content-type", "content-length", "host", "transfer-encoding", "connection", "user-agent"})


class Receiver(_FileModel):
    """Somebody who is told of decisions."""

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
        default=(), description="Networks on the operator's machine or link that may be connected to, as 127.0.0.0/8."
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


class _NotificationsFile(_FileModel):
    """The file that CUTOVER_NOTIFICATIONS names."""

    receivers: Annotated[
        tuple[Receiver, ...], Field(max_length=20), once("each name may come once; write another name", key="name")
    ] = ()


class Settings(BaseModel):
    """The operator's settings; the name of the variable is ``CUTOVER_`` and the field in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prometheus_url: HttpUrl | None = Field(
        default=None, description="Where Prometheus' API is, with its prefix if it has one."
    )
    prometheus_token_file: Path | None = Field(default=None, description="File with a bearer token for Prometheus.")
    prometheus_sources: Path | None = Field(default=None, description="File with more about Prometheus servers, YAML.")
    notifications: Path | None = Field(default=None, description="File with who is told of decisions, YAML.")
    scrape_interval: float = Field(
        default=15.0, gt=0, le=120, description="Seconds between two scrapes of the gateway."
    )
    settle: float = Field(
        default=1.0, ge=0, le=60, description="Seconds after the end of a block at which it is read."
    )
    gateway_urls: Json[dict[str, HttpUrl]] | dict[str, HttpUrl] = Field(
        default_factory=dict,
        description='Address of gateways that have no Service, as {"namespace/name": "http://…"}.',
    )
    cluster_domain: str = Field(default="cluster.local", description="The cluster's DNS domain.")
    namespaces: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        default=(), description="Namespaces to look after, separated by commas; all if empty."
    )
    selector: Annotated[str, AfterValidator(_selector)] | None = Field(
        default=None, description="Label selector of the plans to look after, as cutover.dev/shard=a; all without it."
    )
    gateway_namespaces: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        default=(),
        description="Namespaces whose Gateways plans of others may use, separated by commas, with * and ?; any if empty.",
    )
    kubeconfig: Path | None = Field(
        default=None, description="Kubeconfig to use; by default the Pod's ServiceAccount."
    )
    lease: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        description="Lease, as namespace/name, by which several elect the one that acts; without it, each acts.",
    )
    health_port: int = Field(default=8080, ge=0, le=65535, description="Port of /healthz; 0 for none.")
    metrics_port: int = Field(default=9090, ge=0, le=65535, description="Port of /metrics; 0 for none.")
    listen_address: str = Field(default="0.0.0.0", description="Address of both.")
    development_heroku: Json[tuple[str, int]] | None = Field(
        default=None, description="Development only: [address, port] that stand in for every Heroku app, unverified."
    )
    log_level: str = Field(
        default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR."
    )


class SettingsError(Exception):
    """The environment is not usable; the text says which variable and why."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises
    ------
    SettingsError
        Where a variable is missing, unknown or wrong.
    """
    values = {name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX)}
    values.pop("cache", None)  # where the development tools keep their builds
    try:
        return Settings.model_validate({name: value for name, value in values.items() if value != ""})
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'_'.join(str(part) for part in problem['loc'][:1]).upper()}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)
        ]
        raise SettingsError("; ".join(dict.fromkeys(lines))) from error


def read_servers(settings: Settings) -> PrometheusServers:
    """Put together which Prometheus servers there are, from the environment and the file that it names.

    Raises
    ------
    SettingsError
        Where there is no default server, or the file cannot be read or is wrong. Nothing of the file is quoted but the
        names of fields.
    """
    variable = f"{PREFIX}PROMETHEUS_SOURCES"
    file = _PrometheusFile()
    if settings.prometheus_sources is not None:
        file = _read_file(settings.prometheus_sources, f"{variable}: {settings.prometheus_sources}", _PrometheusFile)
    if settings.prometheus_url is None:
        if settings.prometheus_token_file is not None:
            raise SettingsError(f"{PREFIX}PROMETHEUS_TOKEN_FILE: goes with {PREFIX}PROMETHEUS_URL, which is not set")
        if file.default is None:
            raise SettingsError(f"{PREFIX}PROMETHEUS_URL: needed, unless the file of {variable} has a default")
        default = file.default
    elif file.default is not None:
        raise SettingsError(f"{variable}: default: {PREFIX}PROMETHEUS_URL is set as well; leave one of them out")
    else:
        default = PrometheusServer(url=settings.prometheus_url, bearer_token_file=settings.prometheus_token_file)
    return PrometheusServers(default=default, named=file.sources)


def read_receivers(settings: Settings) -> tuple[Receiver, ...]:
    """Read who is told of decisions; nobody without a file.

    Raises
    ------
    SettingsError
        Where the file cannot be read or is wrong. Nothing of it is quoted but the names of fields.
    """
    path = settings.notifications
    if path is None:
        return ()
    return _read_file(path, f"{PREFIX}NOTIFICATIONS: {path}", _NotificationsFile).receivers


_File = TypeVar("_File", bound=_FileModel)


def _read_file(path: Path, where: str, model: type[_File]) -> _File:
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{where}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:  # its own text quotes the line
        mark = error.problem_mark or error.context_mark
        position = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{where}: not YAML{position}") from None
    except (yaml.YAMLError, ValueError):
        raise SettingsError(f"{where}: not YAML in UTF-8") from None
    try:
        return model.model_validate({} if data is None else data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SettingsError(problem_text(error, f"{where}: ")) from None
