"""The base of all API models: reading and writing, durations, times and names."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, ClassVar, Self, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema

from cutover.api.durations import DURATION_PATTERN, format_duration, parse_duration
from cutover.api.rules import Rule, matching
from cutover.scale.field_sets import share_field_set, shared

T = TypeVar("T")

GROUP = "cutover.dev"
VERSION = "v1alpha1"


def _read_duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(format_duration, return_type=str),
    WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN, "minLength": 2, "maxLength": 32}),
]


#: Narrower than the API server's ``format: date-time``, which accepts the year 0 and a comma before the fraction.
_TIME_PATTERN = r"^2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})$"


def _read_time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if re.fullmatch(_TIME_PATTERN, value) is None:
        raise ValueError("write a time with its zone, such as 2026-12-20T00:00:00Z")
    return datetime.fromisoformat(value)


def _format_time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


#: A point in time, in whole seconds, as Kubernetes writes it.
Time = Annotated[
    datetime,
    BeforeValidator(_read_time),
    PlainSerializer(_format_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _TIME_PATTERN}),
]


def _without_nulls(data: Any) -> Any:
    match data:
        case dict():
            return {key: _without_nulls(value) for key, value in data.items() if value is not None}
        case list():
            return [_without_nulls(value) for value in data]
        case _:
            return data


class Model(BaseModel):
    """Base of all API models: immutable, camelCase on the wire, unknown fields ignored.

    Unknown fields are ignored so that an operator older than the CRD keeps working during an upgrade. The API server
    refuses them.
    """

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="ignore"
    )

    #: Rules that concern more than one field.
    RULES: ClassVar[tuple[Rule, ...]] = ()

    @model_validator(mode="after")
    def _keep_rules(self) -> Self:
        for rule in self.RULES:
            rule.check(self)
        share_field_set(self)
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed, without validation.

        Each decision copies its status several times: without what a copy of any pydantic model may need, it takes a third.
        """
        if deep:
            return super().model_copy(update=update, deep=True)
        changes = update or {}
        copied = object.__new__(type(self))
        object.__setattr__(copied, "__dict__", {**self.__dict__, **changes})
        object.__setattr__(copied, "__pydantic_extra__", None)
        object.__setattr__(copied, "__pydantic_private__", None)
        object.__setattr__(copied, "__pydantic_fields_set__", shared(self.model_fields_set, changes))
        return copied

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the rules to the model's schema."""
        schema = handler.resolve_ref_schema(handler(core))
        if cls.RULES:
            schema["x-kubernetes-validations"] = [rule.to_wire() for rule in cls.RULES]
        return schema

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Self:
        """Return the model of a manifest, read as the API server reads it.

        Types are strict (``"80"`` is no number), and a null is an absent field.
        """
        return cls.model_validate_json(json.dumps(_without_nulls(data)), strict=True)

    def to_wire(self) -> dict[str, Any]:
        """Return the model as data for JSON, with the API's field names and without absent fields."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


#: Configuration of pydantic dataclasses, beside ``frozen`` and ``slots``: read and written as models are, in a fifth of the
#: memory. It is for the numbers of gates, of which each of a thousand plans has hundreds.
COMPACT = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="ignore")


def computed(kind: Callable[..., T], /, **values: Any) -> T:
    """Return a compact object of values that the operator computed, without validation, which takes twice as long."""
    made: Any = object.__new__(cast("type", kind))
    for put, name, default in _slots(kind):
        put(made, values.get(name, default))
    return made  # type: ignore[no-any-return]


@cache
def _slots(kind: Any) -> tuple[tuple[Callable[[Any, Any], None], str, Any], ...]:
    """Return what sets each field of a compact class in an object, which is frozen; its name and its default."""
    fields = kind.__pydantic_fields__.items()
    return tuple((getattr(kind, name).__set__, name, field.get_default()) for name, field in fields)


#: One label of a DNS name, and names made of them.
LABEL = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DNS_NAME = rf"^{LABEL}(\.{LABEL})+$"
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
GATEWAY_NAME = rf"^({LABEL}/)?[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matching(OBJECT_NAME, "write the name of a Kubernetes object: lower-case letters, digits, '-' and '.'"),
]
#: Name of an SLO, a preflight check or a Prometheus server.
ShortName = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matching(r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "write lower-case letters, digits and '-', such as slow-searches"),
]
