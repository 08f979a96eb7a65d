"""Which field manager owns which field of an object, by the API server's ``metadata.managedFields``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Owner:
    """A field manager that owns a field.

    Parameters
    ----------
    manager
        Name of the field manager; ``unknown`` if the entry has none.
    time
        When it wrote last, as the API server writes times; ``""`` if that is not known.
    """

    manager: str
    time: str


def owners(metadata: Mapping[str, Any], *path: str) -> tuple[Owner, ...]:
    """Return the owners of a field, the latest first; without a path, all owners of the object.

    Parameters
    ----------
    metadata
        The object's metadata, as the API server has it.
    path
        Names of fields, from the object down, such as ``"spec", "http"``.
    """
    found = [
        Owner(str(entry.get("manager", "unknown")), str(entry.get("time", "")))
        for entry in metadata.get("managedFields") or ()
        if _owns(entry.get("fieldsV1"), path)
    ]
    return tuple(sorted(found, key=lambda owner: owner.time, reverse=True))


def _owns(fields: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(fields, Mapping) or f"f:{name}" not in fields:
            return False
        fields = fields[f"f:{name}"]
    return True


def without(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata without managed fields, which are half of an object."""
    return {name: value for name, value in metadata.items() if name != "managedFields"}


def of_spec_and_annotations(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Keep only the owners of a plan's spec and annotations; the other managed fields are a third of the object."""
    return [kept for entry in entries if (kept := _slim(entry))]


def _slim(entry: Mapping[str, Any]) -> dict[str, Any]:
    fields = entry.get("fieldsV1") or {}
    kept: dict[str, Any] = {"f:spec": {}} if "f:spec" in fields else {}
    if annotations := (fields.get("f:metadata") or {}).get("f:annotations"):
        kept["f:metadata"] = {"f:annotations": annotations}
    if not kept:
        return {}
    return {"fieldsV1": kept, **{name: entry[name] for name in ("manager", "time") if name in entry}}
