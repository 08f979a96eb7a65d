"""Prometheus servers: from the environment, and from the file that ``CUTOVER_PROMETHEUS_SOURCES`` names."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from cutover.api.model import ShortName
from cutover.api.rules import once
from cutover.settings.environment import PREFIX, Settings
from cutover.settings.files import FileModel, HttpUrl, Seconds, SettingsError, Tls, read_file


class BasicAuthFiles(FileModel):
    """A name and a password."""

    username_file: Path = Field(description="File with the name.")
    password_file: Path = Field(description="File with the password.")


class SigV4Scope(FileModel):
    """Region and service of AWS' signatures, which use the credentials of the operator's Pod."""

    region: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = Field(
        description="AWS region, such as eu-west-1."
    )
    service: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = Field(
        default="aps", description="AWS service: aps is Amazon Managed Service for Prometheus."
    )


#: Parameters that the operator itself sets.
_OWN_PARAMETERS = frozenset({"query", "time", "start", "end", "step", "timeout"})


_LabelValue = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class PrometheusServer(FileModel):
    """A Prometheus server, or a server that speaks its API, with the operator's credentials for it."""

    url: HttpUrl = Field(description="Where its API is, with its path prefix if it has one.")
    timeout: Annotated[Seconds, Field(ge=1, le=60)] = Field(default=10.0, description="How long one query may take.")
    tenant: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!_.*'()|-]{1,512}$")] | None = Field(
        default=None, description="Tenant of Mimir and Cortex, sent as X-Scope-OrgID."
    )
    parameters: dict[str, str] = Field(
        default_factory=dict, description='Sent with every query, such as partial_response: "false" for Thanos.'
    )
    matchers: dict[Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,62}$")], _LabelValue] = Field(
        default_factory=dict,
        description="Labels with their values, put into every query: cluster: prod where the server has several clusters.",
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
        if "__name__" in self.matchers:
            raise ValueError("matchers: __name__ is the name of each metric; write a label that all metrics have")
        if taken := sorted(_OWN_PARAMETERS & set(self.parameters)):
            raise ValueError(f"parameters: the operator sets {', '.join(taken)} itself; leave it out")
        return self


class NamedPrometheus(PrometheusServer):
    """A server that plans of some namespaces may choose by name."""

    name: ShortName = Field(description="What plans write in spec.gates.prometheus.")
    namespaces: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z0-9*?-]{1,63}$")], ...] = Field(
        default=(), description="Namespaces whose plans may choose it, with * and ?; none if empty."
    )


class _PrometheusFile(FileModel):
    """The file that CUTOVER_PROMETHEUS_SOURCES names."""

    default: PrometheusServer | None = None
    sources: Annotated[
        tuple[NamedPrometheus, ...], once("each name may come once; write another name", key="name")
    ] = ()


class PrometheusServers(FileModel):
    """All Prometheus servers that the operator may query.

    Parameters
    ----------
    default
        For plans that name no server.
    named
        Servers that some plans may choose.
    """

    default: PrometheusServer
    named: tuple[NamedPrometheus, ...] = ()


def read_servers(settings: Settings) -> PrometheusServers:
    """Read the Prometheus servers from the environment and the file that it names.

    Raises
    ------
    SettingsError
        Where there is no default server, or the file cannot be read or is wrong. The text quotes only names of fields.
    """
    variable = f"{PREFIX}PROMETHEUS_SOURCES"
    file = _PrometheusFile()
    if settings.prometheus_sources is not None:
        file = read_file(settings.prometheus_sources, f"{variable}: {settings.prometheus_sources}", _PrometheusFile)
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
