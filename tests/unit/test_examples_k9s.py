"""The examples for k9s ask for what a plan has, and their command is one that the operator reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from cutover.api.crd import COLUMNS, PLAN, schema
from cutover.api.v1alpha1 import GROUP, PLURAL, VERSION
from cutover.domain.commands.annotations import ROLLBACK_ANNOTATION, read

FOLDER = Path(__file__).parents[2] / "examples" / "k9s"
VIEWS = yaml.safe_load((FOLDER / "views.yaml").read_text(encoding="utf-8"))["views"]
PLUGINS = yaml.safe_load((FOLDER / "plugins.yaml").read_text(encoding="utf-8"))["plugins"]
#: Fields of k9s' plugins.
KNOWN = {"shortCut", "description", "scopes", "command", "background", "confirm", "dangerous", "args"}


def has(path: str) -> bool:
    """Return whether a plan may have what a JSONPath leads to."""
    node: Any = schema(PLAN)
    for part in path.removeprefix(".").replace("[*]", "").split("."):
        node = node.get("items", node).get("properties", {}).get(part)
        if node is None:
            return False
    return True


def test_paths_are_looked_up() -> None:
    assert has(".status.ledger[*].message")
    assert not has(".status.ledger[*].reasons")


def test_the_view_has_columns_that_there_are() -> None:
    (view,) = [VIEWS[name] for name in (f"{GROUP}/{VERSION}/{PLURAL}",)]
    own = {name.upper() for name, *_ in COLUMNS}
    for column in view["columns"]:
        name, _, path = column.partition("|")[0].partition(":")
        assert has(path) if path else name in own | {"NAME", "NAMESPACE"}, column
    name, _, order = view["sortColumn"].partition(":")
    assert order == "desc"
    assert name in {column.partition(":")[0] for column in view["columns"]}


@pytest.mark.parametrize("name", PLUGINS)
def test_a_key_asks_for_fields_that_there_are(name: str) -> None:
    plugin = PLUGINS[name]
    assert plugin.keys() <= KNOWN
    assert plugin["scopes"] == [PLURAL]
    assert plugin["args"][-3:] == ["$CONTEXT", "$NAMESPACE", "$NAME"]
    text = plugin["args"][1]
    whole = re.findall(r"\{(?:range )?(\.status[\w.\[\]*]+)\}", text)
    assert whole
    loop = re.search(r"\{range ([\w.\[\]*]+)\}", text)
    inner = re.findall(r"\{(\.\w+)\}", text)
    assert all(has(path) for path in whole)
    assert all(has(f"{loop[1]}{path}") for path in inner if loop)
    assert bool(inner) is bool(loop)


def test_keys_differ_and_what_moves_users_asks_first() -> None:
    assert len({plugin["shortCut"] for plugin in PLUGINS.values()}) == len(PLUGINS)
    moving = {name for name, plugin in PLUGINS.items() if "annotate" in plugin["args"][1]}
    assert moving == {"cutover-rollback"}
    plugin = PLUGINS["cutover-rollback"]
    assert plugin["confirm"]
    assert plugin["dangerous"]
    (value,) = re.findall(rf"{ROLLBACK_ANNOTATION}=(\S+)\"", plugin["args"][1])
    assert read(ROLLBACK_ANNOTATION, value.replace("$attempt", "3")) is not None
