"""The report as documents within a limit of size, for an object of the API server."""

from __future__ import annotations

from dataclasses import replace

from cutover.report.compose import compose
from cutover.report.html import html
from cutover.report.markdown import markdown
from cutover.report.record import Record

HTML, MARKDOWN = "report.html", "report.md"
#: Bytes of all documents together. The API server takes 1 MiB of a ConfigMap, and etcd 1.5 MiB of any object.
LONGEST = 900_000


def documents(record: Record, longest: int = LONGEST) -> dict[str, str]:
    """Return the documents by their file names.

    If they are too long together, first the lines over time are left out, then the Events, and then the page in HTML. What
    is left out is said in the Markdown.

    Parameters
    ----------
    record
        What the report is made from.
    longest
        Bytes of all documents in UTF-8.
    """
    found: dict[str, str] = {}
    for part in (record, _without_lines(record), replace(_without_lines(record), events=(), older=())):
        page = compose(part)
        found = {HTML: html(page), MARKDOWN: markdown(page)}
        if size(found) <= longest:
            return found
    note = "\nThe page in HTML is too long for this object: `kubectl cutover report` makes it anew.\n"
    cut = found[MARKDOWN].encode()[: max(longest - len(note.encode()), 0)].decode(errors="ignore")
    return {MARKDOWN: cut + note}


def size(found: dict[str, str]) -> int:
    """Return the bytes of documents in UTF-8."""
    return sum(len(text.encode()) for text in found.values())


def _without_lines(record: Record) -> Record:
    history = record.history
    if history is None:
        return record
    problems = (*history.problems, "the lines over time were left out, as they are too long for this object")
    return replace(record, history=replace(history, lines={}, problems=problems))
