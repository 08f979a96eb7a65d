"""What a report consists of, apart from its format: sections of prose, facts, lists, tables and charts.

HTML and Markdown are made from the same page. All texts in it are plain; a format escapes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from markupsafe import Markup


class Tone(StrEnum):
    """What a word means to the reader, for its colour; the word itself says the same."""

    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    CALM = "calm"


@dataclass(frozen=True, slots=True)
class Tag:
    """One word with a tone, such as a verdict."""

    text: str
    tone: Tone = Tone.CALM


@dataclass(frozen=True, slots=True)
class Bar:
    """How far something is on its way.

    Parameters
    ----------
    progress
        From 0 to 1.
    text
        The same in numbers.
    tone
        What a full bar means.
    """

    progress: float
    text: str
    tone: Tone = Tone.GOOD


Cell: TypeAlias = str | Tag | Bar


@dataclass(frozen=True, slots=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values."""

    rows: tuple[tuple[str, Cell], ...]


@dataclass(frozen=True, slots=True)
class Bullets:
    """A list.

    Parameters
    ----------
    items
        The entries.
    """

    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first cell of each row is the row's heading.

    Parameters
    ----------
    caption
        What the table shows.
    head
        Headings of the columns.
    rows
        Cells, as many in each row as there are columns.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture.

    Parameters
    ----------
    title
        What it shows.
    description
        The same in a sentence, for who cannot see it and for formats without pictures.
    svg
        The picture; its texts are escaped.
    """

    title: str
    description: str
    svg: Markup


Block: TypeAlias = Prose | Facts | Bullets | Table | Chart


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page under a heading."""

    title: str
    blocks: tuple[Block, ...] = ()
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report.

    Parameters
    ----------
    title
        Heading of the page.
    outcome
        What came of the migration, in a word or two.
    lead
        The same in a sentence.
    sections
        The parts, in order.
    foot
        Where and when the report was made.
    """

    title: str
    outcome: Tag
    lead: str
    sections: tuple[Section, ...]
    foot: str
