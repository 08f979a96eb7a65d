"""Write the index of preflight's checks into the docs, from the checks themselves.

``python -m cutover.domain.preflight.docs`` writes the index; with ``--check`` it only tells whether the index is current.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cutover.domain.preflight.check import Check
from cutover.domain.preflight.registry import CHECKS

PAGE = Path("docs/holds.md")
BEGIN = "<!-- The checks, from their own files: make docs -->"
END = "<!-- End of the checks -->"


def index() -> str:
    """Return the checks as a table in Markdown."""
    rows = (f"| `{check.name}` | {check.passes_when} | {_reads(check)} |" for check in CHECKS)
    return "\n".join(("| check | passes when | reads |", "| --- | --- | --- |", *rows))


def _reads(check: Check) -> str:
    return ", ".join(dict.fromkeys(f"{read.verb} {read.resource.plural}" for read in check.reads))


def renewed(page: str) -> str:
    """Return the page with the current index.

    Raises
    ------
    ValueError
        If the page has no place for the index.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"no place for the index of checks: write the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{index()}\n{END}{after}"


def main() -> None:
    """Write the index, or with ``--check`` fail if it is not current."""
    page = PAGE.read_text(encoding="utf-8")
    current = renewed(page)
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(current, encoding="utf-8")
    elif current != page:
        sys.exit(f"{PAGE} is not what the checks say; run: make docs")


if __name__ == "__main__":
    main()
