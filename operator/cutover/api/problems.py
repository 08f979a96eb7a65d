"""What is wrong with a plan or a file, in words: pydantic's errors as people read them."""

from __future__ import annotations

from typing import TypeAlias

from pydantic import ValidationError

#: The way to a field: names, and numbers of items.
Location: TypeAlias = tuple[int | str, ...]


def mistakes(error: ValidationError) -> list[tuple[Location, str]]:
    """Return where each mistake is, and what it is. Values are not quoted: one may be a secret in the wrong place."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return [(one["loc"], one["msg"].removeprefix("Value error, ")) for one in found]


def problem_text(error: ValidationError, prefix: str = "") -> str:
    """Return all mistakes in one line, each once, as ``spec.steps[0].weight: Input should be …``.

    Parameters
    ----------
    prefix
        Put before each mistake, such as ``sources.yaml: `` for a file, or ``bound.`` for the field that the model stands in.
    """
    lines = (f"{field_path(location)}: {message}".removeprefix(": ") for location, message in mistakes(error))
    return "; ".join(f"{prefix}{line}" for line in dict.fromkeys(lines))


def field_path(location: Location) -> str:
    """Write the way to a field as Kubernetes does, such as ``spec.steps[0].weight``; ``""`` for the whole."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
