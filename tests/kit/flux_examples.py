"""The manifests of examples/flux, as they are and with the pace of tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from sandbox.flux import REPOSITORY
from sandbox.manifests import Json

FOLDER = Path(__file__).parents[2] / "examples" / "flux"


def documents() -> Iterator[Json]:
    """Yield all manifests."""
    for path in sorted(FOLDER.rglob("*.yaml")):
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def migration(name: str, **fields: Any) -> Json:
    """Return the example's Kustomization of a migration under another name, for a folder of its own.

    Parameters
    ----------
    name
        Its name, and that of the folder.
    fields
        Fields of its spec that replace the example's.
    """
    found = next(
        one for one in documents() if one["kind"] == "Kustomization" and one["metadata"]["name"] == "pdf-migration"
    )
    del found["spec"]["dependsOn"]
    found["metadata"]["name"] = name
    # Nothing happens by the clock alone: what is tested is asked for.
    pace = {"interval": "1h", "retryInterval": "1h", "path": f"./{name}"}
    found["spec"] |= {**pace, "sourceRef": {"kind": "GitRepository", "name": REPOSITORY}, **fields}
    return found
