"""Plans and templates that are accepted or refused, and updates: read by the tests of pydantic and of the API server."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

_FOLDER = Path(__file__).parent


class _Loader(yaml.SafeLoader):
    """Leaves times as texts, as kubectl does."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load(path: Path) -> Any:
    """Read a YAML file as kubectl would."""
    return yaml.load(path.read_text(encoding="utf-8"), _Loader)


BASE: dict[str, Any] = load(_FOLDER / "base.yaml")
TEMPLATE: dict[str, Any] = load(_FOLDER / "template.yaml")


def changed(
    manifest: dict[str, Any], assign: dict[str, Any] | None = None, drop: list[str] | None = None
) -> dict[str, Any]:
    """Return the manifest with other values at dotted paths below ``spec``."""
    out = copy.deepcopy(manifest)
    for path, value in (assign or {}).items():
        _parent(out, path)[path.split(".")[-1]] = copy.deepcopy(value)
    for path in drop or []:
        _parent(out, path).pop(path.split(".")[-1], None)
    return out


def _parent(manifest: dict[str, Any], path: str) -> dict[str, Any]:
    node: dict[str, Any] = manifest["spec"]
    for key in path.split(".")[:-1]:
        node = node[key]
    return node


@dataclass(frozen=True)
class Case:
    """One manifest. ``says`` is empty where it is accepted; ``old`` and ``status`` are for updates."""

    name: str
    manifest: dict[str, Any]
    says: tuple[str, ...] = ()
    old: dict[str, Any] = field(default_factory=lambda: BASE)
    status: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def cases(file: str) -> list[Case]:
    """Return the cases of ``good``, ``bad``, ``updates`` or ``templates``."""
    found = []
    for raw in load(_FOLDER / f"{file}.yaml"):
        old = changed(TEMPLATE if file == "templates" else BASE, raw.get("from"))
        new = changed(old, raw.get("set"), raw.get("drop"))
        found.append(Case(raw["case"], new, tuple(raw.get("says", ())), old, raw.get("status", {})))
    return found
