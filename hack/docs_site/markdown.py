"""Makes Markdown as forges read it into Markdown as MkDocs reads it.

Forges follow CommonMark: a list may follow a paragraph without an empty line, and what belongs to an item is indented by two
or three characters. MkDocs' parser wants an empty line, and four characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})")
_ITEM = re.compile(r"^( *)([-*]|\d+\.)( +)\S")
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def for_mkdocs(text: str) -> str:
    """Return the text with lists as MkDocs' parser needs them."""
    out: list[str] = []
    # For each list that the line is in: the column where its items' text begins, in the source.
    depth: list[int] = []
    fence = ""
    for line in text.split("\n"):
        if fence:
            out.append(_moved(line, depth))
            if line.strip().startswith(fence):
                fence = ""
            continue
        indent = len(line) - len(line.lstrip(" "))
        if line.strip():
            while depth and indent < depth[-1]:
                depth.pop()
        item = _ITEM.match(line)
        if item and (not depth or indent >= depth[-1]):
            previous = out[-1] if out else ""
            if previous.strip() and not _ITEM.match(previous) and not _in_item(out, len(depth)):
                out.append("")
        moved = _moved(line, depth)
        if item:
            depth.append(len(item[1]) + len(item[2]) + len(item[3]))
        elif opened := _FENCE.match(line):
            fence = opened[2]
        out.append(moved)
    return "\n".join(out)


def _moved(line: str, depth: list[int]) -> str:
    """Return a line with four characters for each list that it is in."""
    if not depth or not line.strip():
        return line
    base = depth[-1]
    own = len(line) - len(line.lstrip(" "))
    return " " * (4 * len(depth) + max(0, own - base)) + line.lstrip(" ")


def _in_item(out: list[str], depth: int) -> bool:
    """Return whether the last line is the end of an item of the same list, so that the next one is its neighbour."""
    for line in reversed(out):
        if not line.strip():
            return False
        item = _ITEM.match(line)
        if item:
            return len(item[1]) == 4 * depth
        if len(line) - len(line.lstrip(" ")) < 4 * depth:
            return False
    return False


def with_links(text: str, lead: Callable[[str], str]) -> str:
    """Return the text with other targets of its links, but for those in blocks of code.

    Parameters
    ----------
    text
        Markdown.
    lead
        Returns the new target.
    """
    out, fence = [], ""
    for line in text.split("\n"):
        if fence:
            fence = "" if line.strip().startswith(fence) else fence
        elif opened := _FENCE.match(line):
            fence = opened[2]
        else:
            line = _LINK.sub(lambda found: found[1] + lead(found[2]) + found[3], line)
        out.append(line)
    return "\n".join(out)


def targets(text: str) -> set[str]:
    """Return the targets of links that are relative to the file."""
    found: set[str] = set()

    def note(target: str) -> str:
        if not re.match(r"[a-z]+:|#|/", target):
            found.add(target.partition("#")[0])
        return target

    with_links(text, note)
    return found
