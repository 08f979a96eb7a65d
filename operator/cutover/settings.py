"""What the person who runs the operator decides, read from the environment (``CUTOVER_…``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Json, ValidationError

PREFIX = "CUTOVER_"


def _http_url(value: str) -> str:
    if not value.startswith(("http://", "https://")):
        raise ValueError("must start with http:// or https://")
    return value.rstrip("/")


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


HttpUrl = Annotated[str, AfterValidator(_http_url)]


class Settings(BaseModel):
    """The operator's settings; the name of the variable is ``CUTOVER_`` and the field in capitals."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prometheus_url: HttpUrl = Field(description="Where Prometheus' API is, with its prefix if it has one.")
    prometheus_token_file: Path | None = Field(default=None, description="File with a bearer token for Prometheus.")
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
