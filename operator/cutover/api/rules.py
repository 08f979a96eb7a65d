"""Validation rules that both pydantic and the API server check.

A :class:`Rule` is written once, beside its field: as a CEL expression for the API server, as a predicate for pydantic, and
with one message for both, which says what to write instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from cutover.api.durations import DURATION_PATTERN, parse_duration


@dataclass(frozen=True, slots=True, eq=False)  # metadata of Annotated must be hashable
class Rule:
    """A validation rule for a model (in ``Model.RULES``) or for one value (in ``Annotated``).

    Parameters
    ----------
    message
        What is wrong and what to write instead.
    cel
        The rule as the API server evaluates it; ``self`` is the value.
    holds
        The rule as a predicate for pydantic; ``None`` if only the API server can check it, as it needs the old object.
    at
        Field of the model that the API server's error points at, with a leading dot.
    schema
        Parts of the rule in plain OpenAPI, for editors and linters without CEL.
    """

    message: str
    cel: str
    holds: Callable[[Any], bool] | None = None
    at: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)

    def to_wire(self) -> dict[str, str]:
        """Return the rule as an entry of ``x-kubernetes-validations``."""
        return {"rule": self.cel, "message": self.message} | ({"fieldPath": self.at} if self.at else {})

    def check(self, value: Any) -> Any:
        """Return the value, or raise ValueError with the message."""
        if self.holds is not None and not self.holds(value):
            raise ValueError(self.message)
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Check the rule after the value's type."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the rule to the value's schema."""
        schema = {**handler(core), **self.schema}
        schema["x-kubernetes-validations"] = [*schema.get("x-kubernetes-validations", ()), self.to_wire()]
        return schema


def matching(pattern: str, message: str) -> Rule:
    """Return the rule that a text matches the (anchored) pattern."""
    compiled = re.compile(pattern)
    return Rule(
        message,
        f"self.matches({json.dumps(pattern)})",  # a JSON string is a CEL string
        lambda text: compiled.fullmatch(text) is not None,
        schema={"pattern": pattern},
    )


def cel_seconds(duration: str) -> str:
    """Return a CEL expression for the seconds of a duration.

    CEL's durations have no days, so days are read as hours and multiplied by 24. An invalid text also gives a number, not
    an error that would appear beside the message of the rule for its form.
    """
    days = f"duration('0' + {duration}.find('^[0-9]{{1,6}}d').replace('d', 'h')).getSeconds() * 24"
    rest = f"duration('0h' + {duration}.find('([0-9]{{1,6}}h)?([0-9]{{1,6}}m)?([0-9]{{1,6}}s)?$')).getSeconds()"
    return f"{days} + {rest}"


def within(least: str, most: str, example: str = "15m or 1h30m") -> Rule:
    """Return the rule that a duration is well-formed and inside the bounds."""
    low, high = parse_duration(least), parse_duration(most)
    second = timedelta(seconds=1)
    return Rule(
        f"write a duration from {least} to {most} in whole units in the order d, h, m, s, such as {example}",
        f"self.matches({json.dumps(DURATION_PATTERN)})"
        # A list with one item, because CEL has no variables.
        f" && [{cel_seconds('self')}].all(seconds, seconds >= {low // second} && seconds <= {high // second})",
        lambda value: low <= value <= high,
    )


def _decimal(value: float) -> str:
    """Return a number as a decimal fraction for people and CEL: not as 1e-06, and with its point."""
    return f"{value:.9f}".rstrip("0")


def between(least: float, most: float, example: str) -> Rule:
    """Return the rule that a number is inside bounds that are not whole.

    OpenAPI's ``minimum`` and ``maximum`` are not enough: for a number without a fraction the API server also cuts the
    fraction off the bounds, and accepts 0 if the minimum is 0.0001.
    """
    return Rule(
        f"write {example}; from {_decimal(least)} to {_decimal(most)}",
        f"self >= {_decimal(least)} && self <= {_decimal(most)}",
        lambda value: least <= value <= most,
    )


def once(message: str, *, key: str = "") -> Rule:
    """Return the rule that no item of a list occurs twice, or no two items with the same attribute ``key``."""

    def holds(items: Any) -> bool:
        values = [getattr(item, key) if key else item for item in items]
        return len(values) == len(set(values))

    a, b = (f"a.{key}", f"b.{key}") if key else ("a", "b")
    return Rule(message, f"self.all(a, self.exists_one(b, {a} == {b}))", holds)
