"""Generates the picture of the rooms and the list of modules in docs/architecture.md from the code.

``python -m rooms`` rewrites both; with ``--check`` it says whether they are current, and changes nothing.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "operator" / "cutover"
PAGE = ROOT / "docs" / "architecture.md"
#: Packages whose parts are rooms of their own; everything else at the top is one room.
_HOUSES = ("domain", "adapters")


def room_of(module: str) -> str:
    """Return the room that a module is in, such as ``domain.engine`` or ``services``."""
    parts = module.split(".")[1:]
    if len(parts) > 2 and parts[0] in _HOUSES:
        # adapters.traffic.istio and adapters.dialects.istio are a pair: each is a room.
        return ".".join(parts[: 3 if parts[1] in ("traffic", "dialects") and len(parts) > 3 else 2])
    return parts[0] if parts else ""


def rooms() -> dict[str, set[str]]:
    """Return, by room, the rooms that its modules import."""
    graph = grimp.build_graph("cutover", cache_dir=None)
    found: dict[str, set[str]] = {}
    for module in sorted(graph.modules):
        path = PACKAGE.joinpath(*module.split(".")[1:])
        if path.is_dir() and not _has_code(path / "__init__.py"):
            continue
        room = room_of(module)
        if not room:
            continue
        others = {room_of(other) for other in graph.find_modules_directly_imported_by(module)}
        found.setdefault(room, set()).update(others - {room, ""})
    return found


def _has_code(file: Path) -> bool:
    body = ast.parse(file.read_text(encoding="utf-8")).body
    return any(not isinstance(node, ast.Expr) for node in body)


def direct(imports: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out the arrows that others imply: from a to c where there are arrows from a to b and from b to c."""

    def reached(room: str, seen: set[str]) -> set[str]:
        for other in imports.get(room, ()):
            if other not in seen:
                seen.add(other)
                reached(other, seen)
        return seen

    return {
        room: {other for other in others if not any(other in reached(via, {via}) for via in others - {other})}
        for room, others in imports.items()
    }


def picture(imports: Mapping[str, set[str]]) -> str:
    """Draw the rooms as a Mermaid flow chart; an arrow says *knows*."""
    lines = [
        "```mermaid",
        "flowchart TD",
        "  accTitle: The rooms of the operator",
        "  accDescr: Which rooms import which, from the process and the commands at the top to the domain at the bottom",
    ]
    for house in _HOUSES:
        inside = sorted(room for room in imports if room == house or room.startswith(f"{house}."))
        lines.append(f"  subgraph {house}")
        lines += [f'    {_node(room)}["{room.removeprefix(house).lstrip(".") or "shared"}"]' for room in inside]
        lines.append("  end")
    outside = sorted(room for room in imports if room.split(".")[0] not in _HOUSES)
    lines += [f'  {_node(room)}["{room}"]' for room in outside]
    arrows = direct(imports)
    lines += [f"  {_node(room)} --> {_node(other)}" for room in sorted(arrows) for other in sorted(arrows[room])]
    return "\n".join([*lines, "```"])


def _node(room: str) -> str:
    # The name of a house is that of the frame around its rooms.
    return f"{room}_shared" if room in _HOUSES else room.replace(".", "_")


def modules() -> str:
    """List all modules with the first sentence of their docstring, by room."""
    rows = ["| module | what it is |", "| --- | --- |"]
    for file in sorted(
        PACKAGE.rglob("*.py"), key=lambda file: (file.parent.relative_to(PACKAGE).as_posix(), file.name)
    ):
        if file.name == "__init__.py":
            continue
        docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        first = re.split(r"(?<=[.:])\s|\n\n", docstring.replace("|", "\\|"), maxsplit=1)[0].rstrip(".:")
        first = re.sub(r":(?:mod|func|class|meth):`~?([^`]+)`", r"`\1`", " ".join(first.split()).replace("``", "`"))
        rows.append(f"| `{file.relative_to(PACKAGE).as_posix()}` | {first} |")
    return "\n".join(rows)


def sizes() -> str:
    """Count the lines of code of each room."""
    counts: dict[str, list[int]] = {}
    for file in PACKAGE.rglob("*.py"):
        module = ".".join(("cutover", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        counts.setdefault(room_of(module) or "cutover", []).append(len(file.read_text(encoding="utf-8").splitlines()))
    rows = [f"| `{room}` | {len(lines)} | {sum(lines):,} | {max(lines):,} |" for room, lines in sorted(counts.items())]
    return "\n".join(["| room | files | lines | longest file |", "| --- | --- | --- | --- |", *rows])


def page(text: str) -> str:
    """Return the page with new generated parts."""
    for name, content in (("rooms", picture(rooms())), ("modules", modules())):
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        if not after:
            raise SystemExit(f"{PAGE.name} has no {begin} … {end}")
        text = f"{before}{begin}\n\n{content}\n\n{end}{after}"
    return text


def main() -> None:
    """Rewrite the page, or check it, or count lines."""
    parser = argparse.ArgumentParser(prog="rooms", description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    parser.add_argument("--sizes", action="store_true", help="print the lines of each room")
    arguments = parser.parse_args()
    if arguments.sizes:
        print(sizes())
        return
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if arguments.check and new != old:
        sys.exit(f"{PAGE.relative_to(ROOT)} is not what the code is: run python -m rooms")
    if not arguments.check:
        PAGE.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
