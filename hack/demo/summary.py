"""The demo's summary: where each plan ended, and how its users fared."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from demo.play import Played
from demo.scenarios import SLOW_SECONDS
from demo.screen import phase
from demo.story import Rollback, Users, arrows, span


def tell(console: Console, played: Played) -> None:
    """Print the summary."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("plan", "its service", "path", "end", "requests harmed", ""):
        table.add_column(heading, no_wrap=True)
    for story in played.stories:
        service = story.scenario.service
        users = Users.of(played.records[service])
        table.add_row(
            Text(service, style="bold"),
            story.scenario.words,
            f"0 → {arrows(story.path)} %",
            phase(story),
            f"{users.harmed:,} of {users.requests:,}",
            Text("not as expected", style="bold red")
            if service in played.problems
            else Text("as expected", style="green"),
        )
    console.print()
    console.print(table)
    for service, back in played.rollbacks.items():
        if back is not None:
            console.print()
            console.print(Text.assemble((service, "bold"), f": {_verdict(back)}"))
            console.print(Padding(_details(back), (0, 0, 0, 2)))
    console.print()
    for service, problems in played.problems.items():
        for problem in problems:
            console.print(Text(f"{service}: {problem}", style="bold red"))


def _verdict(back: Rollback) -> str:
    return (
        f"weight 0 at the gateway {back.seconds:.1f} s after the onset at {back.weight} %; "
        f"{back.meanwhile.harmed:,} user requests harmed meanwhile"
    )


def _details(back: Rollback) -> str:
    users, minutes = back.meanwhile, span(back.end - back.onset)
    return (
        f"decided after {back.decided - back.onset:.1f} s; the last request under the old weight arrived "
        f"{back.zero - back.decided:.1f} s later\n"
        f"harmed: {users.harmed:,} of {users.requests:,} ({users.failed:,} failed, {users.slow:,} took more than "
        f"{SLOW_SECONDS:g} s), which is {100 * users.harmed_ratio:.2f} % of all users' requests\n"
        f"had it stayed at {back.weight} %: about {back.by_now:,.0f} by now and {back.in_an_hour:,.0f} over an hour "
        f"(the same {100 * users.harmed_ratio:.2f} % of the {back.since_onset:,} requests in the {minutes} min since the "
        f"onset, and of {3600 * back.rate:,.0f} an hour)"
    )
