"""What is wrong with a plan or a file, in words: pydantic's errors as people read them."""

from __future__ import annotations

from pydantic import ValidationError


def problem_text(error: ValidationError, prefix: str = "") -> str:
    """Return all mistakes in one line, each once, as ``spec.steps[0].weight: Input should be …``.

    Values are not quoted: one of them may be a secret in the wrong place.

    Parameters
    ----------
    prefix
        Put before each mistake, such as ``sources.yaml: `` for a file, or ``bound.`` for the field that the model stands in.
    """
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = (_line(field_path(one["loc"]), one["msg"].removeprefix("Value error, ")) for one in found)
    return "; ".join(f"{prefix}{line}" for line in dict.fromkeys(lines))


def field_path(location: tuple[int | str, ...]) -> str:
    """Write the way to a field as Kubernetes does, such as ``spec.steps[0].weight``; ``""`` for the whole."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")


def _line(path: str, message: str) -> str:
    return f"{path}: {message}" if path else message
