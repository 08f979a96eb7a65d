"""Status fields that only the operator reads: an object in memory, text in the API server.

Such a field changes with every block and is written once a minute. Its object is parsed once, after a start, and turned
into text only for a write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class Opaque:
    """A value that is an object in memory and text when written; each form is made when it is needed.

    Parameters
    ----------
    text
        Text from the API server; ``""`` stands for the initial object.
    """

    __slots__ = ("_text", "_value", "_write")

    def __init__(self, text: str = "") -> None:
        self._text: str | None = text
        self._value: Any = None
        self._write: Callable[[Any], str] | None = None

    @classmethod
    def of(cls, value: T, write: Callable[[T], str]) -> Opaque:
        """Return an Opaque for an object, which must not be changed from now on.

        Parameters
        ----------
        value
            The object.
        write
            Returns the object's text.
        """
        kept = cls()
        kept._text, kept._value, kept._write = None, value, write
        return kept

    @property
    def text(self) -> str:
        """The text that is written."""
        if self._text is None:
            assert self._write is not None, "an object has a function that writes it"
            self._text = self._write(self._value)
        return self._text

    def value(self, read: Callable[[str], T]) -> T:
        """Return the object. ``read`` parses it from the text, and must be the same function for the same field."""
        if self._value is None:
            self._value = read(self.text)
        found: T = self._value
        return found

    def __eq__(self, other: object) -> bool:
        """Tell whether both have equal objects or the same text."""
        if not isinstance(other, Opaque):
            return NotImplemented
        known = self._value is not None and other._value is not None
        return self is other or (known and bool(self._value == other._value)) or self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Opaque({self.text!r})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read and write it as a string."""
        text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema())
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda kept: kept.text, return_schema=core_schema.str_schema()
            ),
        )
