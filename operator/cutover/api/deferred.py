"""Status lists that change with every block and that few look at: made when somebody does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, get_args, overload

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

T = TypeVar("T")


class Deferred(Sequence[T]):
    """A tuple that is made when somebody first looks at it; otherwise like the tuple.

    It is also the annotation of a pydantic field that may have one: the field reads a tuple, and writes either.

    Parameters
    ----------
    make
        Returns the items. What it refers to must not be changed from now on.
    outline
        What is known of each item at once: objects with some of its attributes, by the same names.
    """

    __slots__ = ("_made", "_make", "outline")

    def __init__(self, make: Callable[[], tuple[T, ...]], outline: Sequence[Any]) -> None:
        self._make: Callable[[], tuple[T, ...]] | None = make
        self._made: tuple[T, ...] = ()
        self.outline = outline

    @property
    def made(self) -> tuple[T, ...]:
        """The tuple."""
        make = self._make
        if make is not None:
            # A scrape of the operator's metrics, in a thread of its own, may look at the same time: it makes an equal tuple.
            self._made = make()
            self._make = None
        return self._made

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[T, ...]: ...
    def __getitem__(self, index: int | slice) -> T | tuple[T, ...]:
        return self.made[index]

    def __len__(self) -> int:
        return len(self.made)

    def __iter__(self) -> Iterator[T]:
        return iter(self.made)

    def __eq__(self, other: object) -> bool:
        """Tell whether both have the same items."""
        if isinstance(other, Deferred):
            return self is other or self.made == other.made
        return self.made == other

    def __hash__(self) -> int:
        return hash(self.made)

    def __repr__(self) -> str:
        return repr(self.made)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read and write a field ``Sequence[T]`` as a tuple."""
        items = core_schema.tuple_schema([handler.generate_schema(get_args(source)[0])], variadic_item_index=0)
        writes = core_schema.wrap_serializer_function_ser_schema(lambda kept, write: write(tuple(kept)), schema=items)
        return core_schema.tuple_schema(items["items_schema"], variadic_item_index=0, serialization=writes)


def outline(items: Sequence[T]) -> Sequence[Any]:
    """Return the items, or the outlines of items that nobody had to make yet: for who needs no more of them."""
    return items.outline if isinstance(items, Deferred) else items
