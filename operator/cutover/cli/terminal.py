"""Writes to the terminal: colours where there is one, ASCII where there is no UTF-8."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from rich.console import Console, RenderableType

#: Columns of a table of which nothing is cut; a terminal wraps its lines, as kubectl's.
ALL_COLUMNS = 400
#: Columns of a screen that is written to a file.
SCREEN_COLUMNS = 80
#: One character for one, so that columns stay where they are.
_ASCII = str.maketrans(
    {
        "█": "#", "▌": "#", "░": ".", "─": "-", "━": "=", "│": "|", "→": ">", "…": "~", "·": "-", "•": "*", "×": "x",
        "≥": ">", "≤": "<", "✓": "+", "✗": "x", "–": "-", "—": "-", "’": "'", "“": '"', "”": '"', "‘": "'", "\u00a0": " ",
    }
)  # fmt: skip


def ascii_only(text: str) -> str:
    """Return a text of the same length in ASCII."""
    return text.translate(_ASCII).encode("ascii", "replace").decode()


class _File(io.TextIOBase):
    """A file that is no terminal with UTF-8: blanks at the ends of lines are left out, and without UTF-8 all but ASCII."""

    def __init__(self, file: TextIO, *, utf8: bool) -> None:
        self._file = file
        self._utf8 = utf8

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8" if self._utf8 else "ascii"

    def write(self, text: str) -> int:
        if not self.isatty():
            text = "\n".join(line.rstrip(" ") for line in text.split("\n"))
        self._file.write(text if self._utf8 else ascii_only(text))
        return len(text)

    def flush(self) -> None:
        self._file.flush()

    def isatty(self) -> bool:
        return self._file.isatty()

    def fileno(self) -> int:
        return self._file.fileno()


def console(file: TextIO | None = None, *, columns: int | None = None) -> Console:
    """Return a console for a file, by default the standard output.

    It has colours only in a terminal, and not with ``NO_COLOR``.

    Parameters
    ----------
    columns
        Columns; ``None`` for the terminal's, or ``COLUMNS``, or 80.
    """
    file = file or sys.stdout
    # Python takes the locale C for UTF-8; whoever names it by LC_ALL wants ASCII.
    asks_ascii = os.environ.get("LC_ALL") in ("C", "POSIX")
    utf8 = not asks_ascii and (file.encoding or "ascii").lower().replace("-", "").startswith("utf8")
    if columns is None and not file.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        columns = SCREEN_COLUMNS
    target: TextIO = file if utf8 and file.isatty() else _File(file, utf8=utf8)  # type: ignore[assignment]
    return Console(file=target, highlight=False, emoji=False, markup=False, width=columns, soft_wrap=False)


def lines(renderable: RenderableType, *, columns: int = SCREEN_COLUMNS) -> str:
    """Return what a renderable looks like without colours, without blanks at the ends of lines."""
    file = io.StringIO()
    Console(file=file, width=columns, highlight=False, emoji=False, markup=False, no_color=True).print(renderable)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())
