"""Problems with a plan or a file as text for people, from pydantic's errors."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import ValidationError

#: Path of a field: names of fields and indices of items.
Location: TypeAlias = tuple[int | str, ...]


def mistakes(error: ValidationError) -> list[tuple[Location, str]]:
    """Return the path and the message of each mistake. Values are not quoted, as one may be a misplaced secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [(mistake["loc"], mistake["msg"].removeprefix("Value error, ")) for mistake in found]


def problem_text(error: ValidationError, prefix: str = "") -> str:
    """Return all mistakes in one line, each once, as ``spec.steps[0].weight: Input should be …``.

    Parameters
    ----------
    prefix
        Text before each mistake, such as ``sources.yaml: `` for a file, or ``bound.`` for the field that has the model.
    """
    lines = (f"{field_path(location)}: {message}".removeprefix(": ") for location, message in mistakes(error))
    return "; ".join(f"{prefix}{line}" for line in dict.fromkeys(lines))


def field_path(location: Location) -> str:
    """Return a path as Kubernetes writes it, such as ``spec.steps[0].weight``; ``""`` for the whole object."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
