"""Settings from environment variables, ``CUTOVER_…``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, Json, ValidationInfo, WithJsonSchema, field_validator
from pydantic_settings import SettingsConfigDict

from cutover.settings.files import FileModel, HttpUrl
from cutover.settings.variables import Variables, read_variables

PREFIX = "CUTOVER_"
#: Variables of the development tools, which are no settings of the operator.
_NOT_OURS = frozenset({f"{PREFIX}CACHE"})


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


_KEY = r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?"
_REQUIREMENT = (
    rf"\s*(!?\s*{_KEY}|{_KEY}\s*(=|==|!=)\s*{_VALUE}|{_KEY}\s+(in|notin)\s*\(\s*{_VALUE}(\s*,\s*{_VALUE})*\s*\))\s*"
)


_SELECTOR = rf"^{_REQUIREMENT}(,{_REQUIREMENT})*$"


def _selector(value: str) -> str:
    # Kopf retries a watch that the API server refuses for ever, and no plan is reconciled.
    if re.fullmatch(_SELECTOR, value) is None:
        raise ValueError("write a label selector, such as cutover.dev/shard=a or cutover.dev/shard notin (a, b)")
    return value


def _url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class _Gateway(FileModel):
    """How the operator reaches a gateway."""

    url: HttpUrl = Field(description="Where the gateway's proxies take requests.")
    proxy_protocol: bool = Field(
        default=False, description="Whether they take connections only with the PROXY protocol."
    )


Gateway = Annotated[_Gateway, BeforeValidator(_url, json_schema_input_type=HttpUrl | _Gateway)]


class Settings(Variables):
    """The operator's settings; a variable's name is ``CUTOVER_`` and the field in capitals."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX, enable_decoding=False)

    prometheus_url: HttpUrl | None = Field(
        default=None, description="Where Prometheus' API is, with its prefix if it has one."
    )
    prometheus_token_file: Path | None = Field(default=None, description="File with a bearer token for Prometheus.")
    prometheus_sources: Path | None = Field(default=None, description="File with more about Prometheus servers, YAML.")
    notifications: Path | None = Field(default=None, description="File with the receivers of notifications, YAML.")
    reports: bool = Field(
        default=False, description="Whether the report of each plan that ends is kept in a ConfigMap beside it."
    )
    reports_folder: Path | None = Field(
        default=None, description="Folder in which the report of each plan that ends is kept, such as one of a volume."
    )
    reports_url: HttpUrl | None = Field(
        default=None, description="Address at which that folder is served, for links in notifications."
    )
    settle: float = Field(
        default=1.0, ge=0, le=60, description="Seconds after the end of a block at which it is read."
    )
    gateway_urls: Json[dict[str, Gateway]] | dict[str, Gateway] = Field(
        default_factory=dict,
        description=(
            'Address of gateways that have no Service, as {"namespace/name": "http://…"}, or that need the PROXY '
            'protocol, as {"namespace/name": {"url": "http://…", "proxyProtocol": true}}.'
        ),
    )
    cluster_domain: str = Field(default="cluster.local", description="The cluster's DNS domain.")
    namespaces: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        default=(), description="Namespaces whose plans the operator manages, separated by commas; all if empty."
    )
    selector: (
        Annotated[str, AfterValidator(_selector), WithJsonSchema({"type": "string", "pattern": _SELECTOR})] | None
    ) = Field(
        default=None,
        description="Label selector of the plans that the operator manages, as cutover.dev/shard=a; all without it.",
    )
    gateway_namespaces: Annotated[tuple[str, ...], BeforeValidator(_split)] = Field(
        default=(),
        description="Namespaces whose Gateways plans of others may use, separated by commas, with * and ?; any if empty.",
    )
    heroku_key_files: Json[dict[str, Path]] | dict[str, Path] = Field(
        default_factory=dict,
        description='Files with keys for Heroku\'s API by namespaces of plans, with * and ?, as {"shop-*": "/etc/…/key"}.',
    )
    heroku_api_url: HttpUrl = Field(
        default="https://api.heroku.com", description="Address of Heroku's Platform API; another one in tests."
    )
    drain_namespace: str | None = Field(
        default=None,
        max_length=63,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="Namespace in which cutover-drain runs, for plans with baseline.source: Drain.",
    )
    kubeconfig: Path | None = Field(
        default=None, description="Kubeconfig to use; by default the Pod's ServiceAccount."
    )
    lease: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        description="Lease, as namespace/name, by which several processes elect the one that acts; without it, each acts.",
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

    @field_validator("reports_url")
    @classmethod
    def _of_a_folder(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("reports_folder", "") is None:
            raise ValueError("it is the address of CUTOVER_REPORTS_FOLDER; set that as well, or leave this out")
        return value


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings.

    Parameters
    ----------
    environ
        The environment. Empty variables count as not set, as the chart writes them.

    Raises
    ------
    SettingsError
        Where variables are unknown or wrong. The text names all of them, and quotes no value.
    """
    return read_variables(Settings, environ, others=_NOT_OURS)
