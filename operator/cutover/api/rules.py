"""Rules on a plan that pydantic and the API server check alike.

A :class:`Rule` is stated once, beside the field it concerns: as a CEL expression for the API server, as a predicate for
pydantic, and with one message for both, which says what to write instead.
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
    """One rule, on a whole model (in ``Model.RULES``) or on one value (as metadata of ``Annotated``).

    Parameters
    ----------
    message
        What is wrong and what to write instead.
    cel
        The rule as the API server evaluates it; ``self`` is the value.
    holds
        The same rule for pydantic. ``None`` where only the API server can check it, for want of the old object.
    at
        Field of the model that the API server's error points at, with a leading dot.
    schema
        What the rule also says in plain OpenAPI, for editors and linters that know no CEL.
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
        """Check the value after its type."""
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

    CEL's own durations know no days: they are read as hours and taken 24 times. A text that is no duration gives a
    number as well, never an error that would stand beside the message of the rule on its form.
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
        # A list of one, as CEL has no variables.
        f" && [{cel_seconds('self')}].all(seconds, seconds >= {low // second} && seconds <= {high // second})",
        lambda value: low <= value <= high,
    )


def _decimal(value: float) -> str:
    """Return a number as people and CEL write a fraction: never as 1e-06, never without its point."""
    return f"{value:.9f}".rstrip("0")


def between(least: float, most: float, example: str) -> Rule:
    """Return the rule that a number is inside bounds that are not whole.

    OpenAPI's ``minimum`` and ``maximum`` will not do: for a number written without a fraction the API server cuts the
    fraction off the bounds as well, and takes 0 where the least is 0.0001.
    """
    return Rule(
        f"write {example}; from {_decimal(least)} to {_decimal(most)}",
        f"self >= {_decimal(least)} && self <= {_decimal(most)}",
        lambda value: least <= value <= most,
    )


def once(message: str, *, key: str = "") -> Rule:
    """Return the rule that no item of a list comes twice, or no attribute ``key`` of its items."""

    def holds(items: Any) -> bool:
        values = [getattr(item, key) if key else item for item in items]
        return len(values) == len(set(values))

    a, b = (f"a.{key}", f"b.{key}") if key else ("a", "b")
    return Rule(message, f"self.all(a, self.exists_one(b, {a} == {b}))", holds)
