"""``get``: plans in a table, as ``kubectl get`` has them, those first that need somebody."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from cutover.cli.live import Feed
from cutover.cli.session import (
    Output,
    Session,
    WatchOption,
    now,
    plan_names,
    show,
    tell,
    wide,
    without_managed_fields,
)
from cutover.cli.views.table import line, row, rows, table
from cutover.domain.resources import PLANS, Json

AllNamespaces = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Plans of all namespaces.")]
Selector = Annotated[str, typer.Option("--selector", "-l", help="Label selector.", show_default=False)]


class Listed(StrEnum):
    """Form of a list of plans."""

    TABLE = Output.TABLE
    WIDE = Output.WIDE
    JSON = Output.JSON
    YAML = Output.YAML
    NAME = "name"


class Sort(StrEnum):
    """Order of plans."""

    TROUBLE = "trouble"
    NAME = "name"


def get(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="PLAN", help="Only these plans.", autocompletion=plan_names, show_default=False),
    ] = None,
    all_namespaces: AllNamespaces = False,
    selector: Selector = "",
    output: Annotated[
        Listed, typer.Option("--output", "-o", help="Form of the output.", show_default=False)
    ] = Listed.TABLE,
    sort: Annotated[Sort, typer.Option(help="Plans that need somebody first, or by name.")] = Sort.TROUBLE,
    watch: WatchOption = False,
) -> None:
    """Show plans in a table, those first that need somebody."""
    found = _found(session, names or [], all_namespaces, selector)
    if output is Listed.NAME:
        for body in found:
            print(f"migrationplan.cutover.dev/{body['metadata']['name']}")
    elif output in (Listed.JSON, Listed.YAML):
        items = [without_managed_fields(body) for body in found]
        whole = items[0] if names and len(items) == 1 else {"apiVersion": "v1", "kind": "List", "items": items}
        show(whole, Output(output))
    else:
        _table(session, found, all_namespaces, sort, wide_table=output is Listed.WIDE)
    if watch:
        _watch(session, names or [], all_namespaces)


def _found(session: Session, names: list[str], everywhere: bool, selector: str) -> list[Json]:
    if names and not everywhere:
        return [session.body(name) for name in names]
    query = {"labelSelector": selector} if selector else {}
    found = session.cluster.objects(PLANS, "" if everywhere else session.namespace, **query)
    return [body for body in found if not names or body["metadata"]["name"] in names]


def _table(session: Session, found: list[Json], everywhere: bool, sort: Sort, *, wide_table: bool) -> None:
    if not found:
        tell(
            "No plans found"
            + ("." if everywhere else f" in namespace {session.namespace}; -A looks in all namespaces.")
        )
        return
    made = table(rows(found, by_trouble=sort is Sort.TROUBLE), now(), namespaces=everywhere, wide=wide_table)
    out = wide()
    out.print(made, crop=False, no_wrap=wide_table)


def _watch(session: Session, names: list[str], everywhere: bool) -> None:
    """Print a line for each change, as ``kubectl get --watch`` does; ``watch`` has a live view."""
    feed = Feed(session.cluster, "" if everywhere else session.namespace, names[0] if len(names) == 1 else "").start()
    shown = {one.key: line(one, namespaces=everywhere) for one in rows(feed.plans(), by_trouble=False)}
    out = wide()
    while True:
        feed.changed.wait()
        feed.changed.clear()
        if feed.problem:
            tell(feed.problem)
        for body in feed.plans():
            one = row(body)
            said = line(one, namespaces=everywhere)
            if (not names or one.name in names) and shown.get(one.key) != said:
                shown[one.key] = said
                out.print(Text(f"{now():%H:%M:%S} {said}"), soft_wrap=True)
