"""Parts of a status that only the operator reads: text when they are written, an object in memory.

What is kept so changes with every block and is written once a minute. It is made from text once, after a start, and made
into text only for a write.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class Opaque:
    """Text that stands for an object, or an object that is going to be text.

    Parameters
    ----------
    text
        As it was read from the API server; ``""`` is the beginning of whatever it stands for.
    """

    __slots__ = ("_text", "_value", "_write")

    def __init__(self, text: str = "") -> None:
        self._text: str | None = text
        self._value: Any = None
        self._write: Callable[[Any], str] | None = None

    @classmethod
    def of(cls, value: T, write: Callable[[T], str]) -> Opaque:
        """Keep an object, which nobody changes from now on.

        Parameters
        ----------
        value
            The object.
        write
            Returns its text.
        """
        kept = cls()
        kept._text, kept._value, kept._write = None, value, write
        return kept

    @property
    def text(self) -> str:
        """The text, as it is written."""
        if self._text is None:
            assert self._write is not None, "an object comes with how it is written"
            self._text = self._write(self._value)
        return self._text

    def value(self, read: Callable[[str], T]) -> T:
        """Return the object; ``read`` makes it from the text, and is always the same for the same field."""
        if self._value is None:
            self._value = read(self.text)
        found: T = self._value
        return found

    def __eq__(self, other: object) -> bool:
        """Tell whether the same is written for both."""
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
