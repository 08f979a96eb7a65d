"""``watch``: a live view of many plans."""

from __future__ import annotations

from rich.console import RenderableType

from cutover.cli.get import AllNamespaces
from cutover.cli.live import Feed, follow
from cutover.cli.session import Session, now, screen, wide
from cutover.cli.views.table import board, line, rows


def watch(session: Session, all_namespaces: AllNamespaces = False) -> None:
    """Follow many plans in a live view, until Ctrl-C.

    Without a terminal it writes a line for each plan whenever one changes.
    """
    feed = Feed(session.cluster, "" if all_namespaces else session.namespace).start()
    console = screen()

    def view() -> RenderableType:
        found = rows(feed.plans(), by_trouble=True)
        if not console.is_terminal:
            return "\n".join(line(one, namespaces=all_namespaces) for one in found)
        return board(found, now(), namespaces=all_namespaces, problem=feed.problem, height=console.size.height)

    follow(feed, view, console if console.is_terminal else wide())
