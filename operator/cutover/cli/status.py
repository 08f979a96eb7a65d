"""``status``, ``explain`` and ``history``: one plan, from near."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cutover.api.v1alpha1 import Phase
from cutover.cli.exits import CliError, Exit
from cutover.cli.live import Feed, follow
from cutover.cli.session import (
    Output,
    OutputOption,
    PlanName,
    Session,
    WatchOption,
    now,
    readable,
    show,
    without_managed_fields,
)
from cutover.cli.session import screen as console_of_screen
from cutover.cli.views.explanation import explain as explained
from cutover.cli.views.explanation import render
from cutover.cli.views.history import history as decisions
from cutover.cli.views.screen import screen
from cutover.domain.plan import Plan

#: Lines of a decision, with a long message.
_ENTRY = 4

ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="Exit with 6 where the plan is held or has gone back, for scripts.")
]


def status(
    session: Session,
    plan: PlanName,
    output: OutputOption = Output.TABLE,
    watch: WatchOption = False,
    exit_code: ExitCode = False,
) -> int:
    """Show one plan on one screen: both legs, gates, why it waits, what to do."""
    found = _show(session, plan, output, watch, lambda one, lines: _screen(session, one, lines), _whole)
    back = found.status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
    return Exit.FOUND if exit_code and (back or found.status.held is not None) else Exit.DONE


def explain(session: Session, plan: PlanName, output: OutputOption = Output.TABLE, watch: WatchOption = False) -> None:
    """Say why a plan did or does not move, and what to do."""

    def data(_: Any, one: Plan) -> Any:
        return {part.title: list(part.lines) for part in explained(one, now(), session.where)}

    _show(session, plan, output, watch, lambda one, _: render(explained(one, now(), session.where)), data)


def history(
    session: Session,
    plan: PlanName,
    output: OutputOption = Output.TABLE,
    watch: WatchOption = False,
    gates: Annotated[bool, typer.Option("--gates", help="With the gates' numbers at each decision.")] = False,
) -> None:
    """Show the last decisions with their reasons, oldest first."""

    def data(_: Any, one: Plan) -> Any:
        return [entry.to_wire() for entry in one.status.ledger]

    with_gates = gates or output is Output.WIDE

    def view(one: Plan, lines: int) -> RenderableType:
        # A live view is cut at its end, where the newest are.
        entries = one.status.ledger[-max(1, lines // _ENTRY) :] if watch else one.status.ledger
        return decisions(entries, gates=with_gates)

    _show(session, plan, output, watch, view, data)


def _whole(body: Any, _: Plan) -> Any:
    return without_managed_fields(body)


def _screen(session: Session, plan: Plan, lines: int) -> RenderableType:
    return screen(plan, now(), columns=console_of_screen().size.width, height=lines, where=session.where)


def _show(
    session: Session,
    name: str,
    output: Output,
    watch: bool,
    view: Callable[[Plan, int], RenderableType],
    data: Callable[[Any, Plan], Any],
) -> Plan:
    """Show a plan as a view of a number of lines, or as data; return it as it was at first."""
    body = session.body(name)
    if output in (Output.JSON, Output.YAML):
        if watch:
            raise CliError("--watch shows a view; without it -o json and -o yaml give data", Exit.USAGE)
        found = readable(body)
        show(data(body, found), output)
        return found
    found = readable(body)
    console = console_of_screen()
    # Where it is printed once, the prompt takes a line.
    lines = max(24, console.size.height) if console.is_terminal else 40
    if not watch:
        console.print(view(found, lines - 1))
        return found
    feed = Feed(session.cluster, session.namespace, name).start()

    def live() -> RenderableType:
        try:
            shown = view(readable(feed.only()), console.size.height)
        except CliError as error:
            return Text(str(error), "bold red")
        return Group(shown, Text(feed.problem, "bold red")) if feed.problem else shown

    follow(feed, live, console)
    return found
