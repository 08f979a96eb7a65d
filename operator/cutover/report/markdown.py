"""A page as Markdown, for a pull request: the same as in HTML, with a sentence in place of each chart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import assert_never

from cutover.domain.texts import plain
from cutover.report.page import Bar, Block, Bullets, Cell, Chart, Facts, Page, Prose, Section, Table, Tag, Tone

#: Characters that are markup in GitHub's and GitLab's Markdown, or in a formula.
_MARKUP = re.compile(r"([\\`*_\[\]|~$])")
#: What chats and forges make links, mentions and references of.
_MENTION, _LINK, _REFERENCE = re.compile(r"(?<!\w)@"), re.compile(r"://|\bwww\."), re.compile(r"[#!](?=\d)")
#: The signs of a line's begin that make it a heading, a list or a quotation.
_LINE = re.compile(r"^([-+#>=]|\d+[.)](?=\s|$))")
_SIGNS = {Tone.GOOD: "✅", Tone.BAD: "❌", Tone.WARN: "⚠️", Tone.CALM: ""}
_BAR = 10


def markdown(page: Page) -> str:
    """Return the page as Markdown of GitHub's kind. No text can become markup, a link, a mention or a reference."""
    lines = [f"# {escape(page.title)}", "", f"**{_cell(page.outcome)}** {escape(page.lead)}"]
    for section in page.sections:
        lines += _section(section, 2)
    return "\n".join([*lines, "", "---", "", escape(page.foot), ""])


def escape(text: str) -> str:
    """Return a text that is shown as it is, in a paragraph and in a cell of a table."""
    literal = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    literal = _MARKUP.sub(r"\\\1", _MENTION.sub("(at)", literal))
    literal = _LINK.sub(lambda found: found[0].replace(":", "\\:").replace("www.", "www\\."), literal)
    literal = _REFERENCE.sub(lambda found: f"{found[0]}&#8203;", literal)
    return _LINE.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", literal.strip())


def _section(section: Section, level: int) -> Iterator[str]:
    yield from ("", f"{'#' * level} {escape(section.title)}")
    for block in section.blocks:
        yield ""
        yield from _block(block)
    for part in section.sections:
        yield from _section(part, level + 1)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Prose(text):
            yield escape(text)
        case Facts(rows):
            for name, value in rows:
                yield f"- {escape(name)}: {_cell(value)}"
        case Bullets(items):
            for item in items:
                yield f"- {escape(item)}"
        case Table(caption, head, rows):
            yield from (f"**{escape(caption)}**", "")
            yield from _rows(head, rows)
        case Chart(title, description):
            yield f"**{escape(title)}.** {escape(description)}"
        case _:
            assert_never(block)


def _rows(head: tuple[str, ...], rows: tuple[tuple[Cell, ...], ...]) -> Iterator[str]:
    yield f"| {' | '.join(map(escape, head))} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(cell: Cell) -> str:
    match cell:
        case str():
            return escape(cell)
        case Tag(text, tone):
            return f"{_SIGNS[tone]} {escape(text)}".strip()
        case Bar(progress, text):
            done = round(_BAR * min(max(progress, 0.0), 1.0))
            return f"{'▰' * done}{'▱' * (_BAR - done)} {escape(text)}"
        case _:
            assert_never(cell)
