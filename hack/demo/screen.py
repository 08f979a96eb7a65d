"""The display of the running demo: a live table, or plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cutover.domain.evidence.judge import GateRules
from demo.story import Story, Users, span

#: Seconds between two looks at a table that is printed as lines.
PLAIN_SECONDS = 15.0
_RULES = GateRules()
#: Widths of a share's bar and of a service's name.
_BAR, _NAME = 12, 6
_PHASE_STYLES = {
    "Shifting": "cyan",
    "Soaking": "cyan",
    "Completed": "bold green",
    "RollingBack": "bold red",
    "RolledBack": "bold magenta",
}


class Screen:
    """Prints lines with the elapsed time and, in between, where everything is.

    Parameters
    ----------
    console
        Where to; a live table needs a terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._started = time.monotonic()
        self._live: Live | None = None
        self._shown = -PLAIN_SECONDS

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def elapsed(self) -> float:
        """Seconds since the demo's start."""
        return time.monotonic() - self._started

    def say(self, text: str, *, about: str = "", style: str = "") -> None:
        """Print a line that stays.

        Parameters
        ----------
        text
            What to say.
        about
            The service that it is about.
        style
            How to print it, as rich has it.
        """
        clock = f"{span(self.elapsed):>5}"
        if not self.console.is_terminal:
            self.console.print(Text(" ".join(part for part in (clock, about, text) if part)), soft_wrap=True)
            return
        line = Table.grid(padding=(0, 1))
        line.add_column(style="dim", no_wrap=True)
        line.add_column(style="bold", no_wrap=True, min_width=_NAME if about else 0)
        line.add_column()
        line.add_row(clock, about, Text(text, style=style))
        self.console.print(line)

    def show(self, stories: Sequence[Story], users: Callable[[Story], Users]) -> None:
        """Show where everything is.

        Parameters
        ----------
        stories
            The plans.
        users
            What the users of a service had in the last ten seconds; asked only where it is shown.
        """
        if self._live is not None:
            self._live.update(
                self._table({story.scenario.service: (story, users(story)) for story in stories}), refresh=True
            )
        elif self.elapsed - self._shown >= PLAIN_SECONDS:
            self._shown = self.elapsed
            self.tell(stories, users)

    def tell(self, stories: Sequence[Story], users: Callable[[Story], Users]) -> None:
        """Print where everything is as lines that stay; parameters as for `show`."""
        for story in stories:
            self.say(_line(story, users(story)), about=story.scenario.service)

    def _table(self, rows: Mapping[str, tuple[Story, Users]]) -> RenderableType:
        table = Table(title=None, expand=False, pad_edge=False, box=None, padding=(0, 2, 0, 0))
        for heading in ("plan", "phase", "step"):
            table.add_column(heading, no_wrap=True)
        table.add_column("EKS wanted", justify="right", no_wrap=True)
        table.add_column("seen at the gateway", no_wrap=True)
        table.add_column("harm", justify="right", no_wrap=True)
        table.add_column("safety", justify="right", no_wrap=True)
        table.add_column("users, last 10 s", no_wrap=True)
        why = Table.grid(padding=(0, 2, 0, 0))
        why.add_column(no_wrap=True, style="bold")
        why.add_column()
        for service, (story, users) in rows.items():
            view = story.view
            table.add_row(
                Text(service, style="bold"),
                phase(story),
                str(view.status.get("step", "")),
                "-" if view.weight is None else f"{view.weight} %",
                _bar(view.share),
                _evidence(view.harm, _RULES.harm_limit, "red"),
                _evidence(view.safety, _RULES.safety_limit, "green"),
                _users(users),
            )
            reason, message = view.status.get("reason", ""), view.status.get("message", "")
            why.add_row(
                service, Text.assemble((f"{reason}: " if reason else "", "yellow" if view.held else ""), message)
            )
        told = Text("What each status says, as last written:", style="dim")
        return Group(Text(f"\n{span(self.elapsed):>5} elapsed\n", style="dim"), table, Text(""), told, why)


def _line(story: Story, users: Users) -> str:
    """Write a row of the table as one line, for a log."""
    view = story.view
    parts = [view.phase or "waiting for the operator"]
    if view.weight is not None:
        seen = "-" if view.share is None else f"{view.share:.1f}"
        parts.append(f"step {view.status.get('step', '')}, EKS wanted {view.weight} %, seen {seen} %")
    if view.harm is not None and view.safety is not None:
        parts.append(
            f"harm {view.harm:.3g} of {_RULES.harm_limit:.0f}, safety {view.safety:.3g} of {_RULES.safety_limit:.0f}"
        )
    parts.append(f"users in 10 s {_users(users).plain}")
    if view.status.get("reason", view.phase) != view.phase:
        parts.append(("held: " if view.held else "") + view.status["reason"])
    return " | ".join(parts)


def _bar(share: float | None) -> Text:
    if share is None:
        return Text("-", style="dim")
    full = round(_BAR * share / 100)
    # Orange and blue differ for colour-blind people, too; the picture uses them for EKS and Heroku as well.
    return Text.assemble(("━" * full, "dark_orange3"), ("━" * (_BAR - full), "steel_blue"), f" {share:5.1f} %")


def _evidence(value: float | None, limit: float, style: str) -> Text:
    if value is None:
        return Text("-", style="dim")
    shown = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
    return Text.assemble((shown, f"bold {style}" if value >= limit / 10 else ""), (f" of {limit:.0f}", "dim"))


def _users(users: Users) -> Text:
    text = Text(f"{users.requests / 10:.0f}/s")
    for count, what in ((users.failed, "failed"), (users.slow, "slow")):
        text.append(f", {count} {what}", style="bold red" if count else "dim")
    return text


def phase(story: Story) -> Text:
    """Return a plan's phase in its colour."""
    name = story.view.phase
    return Text(name or "-", style=_PHASE_STYLES.get(name, ""))
