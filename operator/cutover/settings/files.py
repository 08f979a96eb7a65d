"""Reading the files of the settings, and the fields that several of them share."""

from __future__ import annotations

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
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from cutover.api.durations import DURATION_PATTERN, parse_duration
from cutover.api.model import DNS_NAME
from cutover.api.problems import problem_text


class SettingsError(Exception):
    """The settings are unusable. The text names the variable or field, and the reason."""


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
        # The error's own text quotes the value.
        raise ValueError("write a duration such as 30s, or a number of seconds") from None


#: In JSON Schema, for who checks values before the operator does; its own texts say what is wrong.
HttpUrl = Annotated[
    str, AfterValidator(_http_url), WithJsonSchema({"type": "string", "pattern": r"^https?://[^/?#@]+(/[^?#]*)?$"})
]
Seconds = Annotated[
    float,
    BeforeValidator(
        _seconds, json_schema_input_type=float | Annotated[str, Field(min_length=1, pattern=DURATION_PATTERN)]
    ),
]


class FileModel(BaseModel):
    """Base of the files' models: camelCase, no unknown fields, no values in errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, validate_by_name=True, hide_input_in_errors=True
    )


class Tls(FileModel):
    """TLS certificates: those that the operator trusts, and its own."""

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


_File = TypeVar("_File", bound=FileModel)


def read_file(path: Path, where: str, model: type[_File]) -> _File:
    """Read a YAML file into a model.

    Parameters
    ----------
    path
        The file.
    where
        The file's name in errors.
    model
        The model of its content.

    Raises
    ------
    SettingsError
        Where the file cannot be read or is wrong. The text quotes only names of fields.
    """
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{where}: cannot be read: {error.strerror}") from None
    except yaml.MarkedYAMLError as error:  # the error's own text quotes the line
        mark = error.problem_mark or error.context_mark
        position = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SettingsError(f"{where}: not YAML{position}") from None
    except (yaml.YAMLError, ValueError):
        raise SettingsError(f"{where}: not YAML in UTF-8") from None
    try:
        return model.model_validate({} if data is None else data, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SettingsError(problem_text(error, f"{where}: ")) from None
