"""Reads a Dockerfile, as far as the project's own needs it; anything else in one is an error here."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

_KNOWN = frozenset({"ARG", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "RUN", "USER"})


@dataclass
class Stage:
    """A stage: its base, and its instructions in order, as the name and the rest of the line."""

    name: str
    base: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """Return the last instruction of a kind."""
        return [rest for name, rest in self.steps if name == instruction][-1]

    @property
    def entrypoint(self) -> list[str]:
        command: list[str] = json.loads(self.last("ENTRYPOINT"))
        return command


def read(path: Path) -> list[Stage]:
    """Return the stages. Raises ValueError for an instruction that is not known here."""
    stages, defaults = list[Stage](), dict[str, str]()
    for instruction, rest in _instructions(path.read_text(encoding="utf-8")):
        if instruction == "FROM":
            base, *name = expanded(rest, defaults).split(" AS ")
            stages.append(Stage("".join(name) or str(len(stages)), base))
        elif instruction not in _KNOWN:
            raise ValueError(f"{path.name}: {instruction} is not known here")
        elif stages:
            stages[-1].steps.append((instruction, rest))
        else:
            defaults |= dict(pairs(rest, {}))
    return stages


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        if line.strip():
            instruction, rest = line.split(maxsplit=1)
            yield instruction, rest.strip()


def pairs(text: str, values: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what ENV, ARG and LABEL say, filled in with variables that are set."""
    for word in shlex.split(text):
        name, _, value = word.partition("=")
        yield name, expanded(value, values)


def expanded(text: str, values: Mapping[str, str]) -> str:
    """Fill in variables. Raises KeyError for one that is not set."""
    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", lambda match: values[match[1] or match[2]], text)


def ignores(path: Path) -> list[tuple[str, bool]]:
    """Return the patterns of a .dockerignore, each with whether it leaves out."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    patterns = [line for line in lines if line and not line.startswith("#")]
    return [(pattern.removeprefix("!"), not pattern.startswith("!")) for pattern in patterns]


def in_context(path: str, patterns: list[tuple[str, bool]]) -> bool:
    """Tell whether a file is sent to the builder: the last pattern that fits it, or a folder above it, decides."""
    parents = [path, *(str(parent) for parent in Path(path).parents)][:-1]
    sent = True
    for pattern, leaves_out in patterns:
        if any(fnmatch(part, pattern.removeprefix("**/")) for part in (*parents, *_below(pattern, path))):
            sent = not leaves_out
    return sent


def _below(pattern: str, path: str) -> tuple[str, ...]:
    """Return the names in a path, where a pattern asks for them at any depth."""
    return Path(path).parts if pattern.startswith("**/") else ()
