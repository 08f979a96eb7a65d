"""Who knows of Istio: its settings, its metrics and its words have rooms of their own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "operator" / "cutover"
#: What belongs to a provider.
ROOMS = ("api/", "adapters/traffic/istio/", "adapters/dialects/istio/", "domain/preflight/checks/istio/")
METRIC = re.compile(r"\bistio_(requests?|responses?|tcp)_\w+")
WORDS = re.compile(r"VirtualService|DestinationRule|ServiceEntry|istiod|Istio")

MODULES = [
    pytest.param(path, id=str(path.relative_to(PACKAGE)))
    for path in sorted(PACKAGE.rglob("*.py"))
    if not str(path.relative_to(PACKAGE)).startswith(ROOMS)
]


def reads_settings(tree: ast.AST) -> list[int]:
    """Return the lines that read ``….traffic.istio``."""
    return sorted(
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr == "istio"
        and isinstance(node.value, ast.Attribute | ast.Name)
        and (node.value.attr if isinstance(node.value, ast.Attribute) else node.value.id) == "traffic"
    )


def texts(tree: ast.AST) -> list[str]:
    """Return the strings of a module that are no docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    constants = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and id(node) not in docstrings)
    return [node.value for node in constants if isinstance(node.value, str)]


@pytest.mark.parametrize("path", MODULES)
def test_a_providers_settings_and_metrics_stay_in_its_rooms(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert reads_settings(ast.parse(source)) == []
    assert METRIC.findall(source) == []


@pytest.mark.parametrize("path", [one for one in MODULES if "/engine/" in str(one.values[0])])
def test_decisions_speak_in_no_providers_words(path: Path) -> None:
    told = texts(ast.parse(path.read_text(encoding="utf-8")))
    assert [text for text in told if WORDS.search(text)] == []


def test_what_is_looked_for_is_found() -> None:
    assert reads_settings(ast.parse("plan.spec.traffic.istio.hosts\ntraffic.istio\nspec.istio")) == [1, 2]
    assert METRIC.search("rate(istio_requests_total[5m])")
    assert not METRIC.search("istio_adopt.leg_host")
    assert texts(ast.parse('"""Istio."""\nword = "istiod"')) == ["istiod"]
