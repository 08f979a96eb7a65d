"""The tests' own house: what they share is in tests/kit, and no test leans on another test's file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODULES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "tests").rglob("*.py")}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def imported(module: str) -> Iterator[str]:
    """Return the full names of modules, and of what is taken from them."""
    package = module.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(TREES[module]):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(source, names, level):
                above = package[: len(package) - level + 1] if level else []
                base = ".".join((*above, *([source] if source else [])))
                yield from (f"{base}.{alias.name}" for alias in names)


def test_imports_are_seen() -> None:
    assert "tests.kit.world.World" in set(imported("tests/kit/states.py"))
    assert "tests.e2e.observing.rescue" in set(imported("tests/e2e/test_cutover.py"))


def test_nothing_is_imported_from_a_test() -> None:
    found = {
        module: names
        for module in MODULES
        if (names := {name for name in imported(module) if name.startswith("tests.") and ".test_" in name})
    }
    assert not found, "move what they share to tests/kit"


def test_nobody_changes_the_path_of_imports() -> None:
    """It is set in pyproject.toml. A subprocess may be given it."""
    found = [f"{module}:{node.lineno}" for module, tree in TREES.items() for node in ast.walk(tree) if changes(node)]
    assert not found


def changes(node: ast.AST) -> bool:
    """Return whether this is ``sys.path.insert`` or the like, or sets ``sys.path``."""
    match node:
        case ast.Attribute(ast.Attribute(ast.Name("sys"), "path")):
            return True
        case ast.Attribute(ast.Name("sys"), "path", ast.Store()):
            return True
        case ast.Subscript(ast.Attribute(ast.Name("sys"), "path"), ctx=ast.Store() | ast.Del()):
            return True
    return False


def test_changes_are_seen() -> None:
    for source in ("sys.path.insert(0, 'x')", "sys.path += ['x']", "sys.path = []", "sys.path[:0] = ['x']"):
        assert any(changes(node) for node in ast.walk(ast.parse(source)))
    assert not any(changes(node) for node in ast.walk(ast.parse("':'.join(sys.path)")))


def test_there_is_one_world() -> None:
    """Rigs for single parts are named for their part."""
    worlds = [
        module
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and node.name == "World"
    ]
    assert worlds == ["tests/kit/world.py"]
