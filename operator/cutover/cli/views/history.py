"""The ledger as a table, oldest decision first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutover.api.v1alpha1 import LedgerEntry
from cutover.cli.views.parts import VERDICTS
from cutover.domain.evidence.sentences import sentence
from cutover.domain.texts import plain

_DECISIONS = {"RollBack": "bold red", "Advance": "green", "Hold": "yellow", "Refuse": "bold yellow", "Lower": "yellow"}


def history(entries: Sequence[LedgerEntry], *, gates: bool) -> RenderableType:
    """Return the decisions.

    Parameters
    ----------
    gates
        Whether the gates' numbers at the moment of each decision follow it.
    """
    if not entries:
        return Text("nothing was decided yet")
    parts: list[RenderableType] = []
    for entry in entries:
        made = Table.grid(padding=(0, 2, 0, 0))
        for _ in range(4):
            made.add_column(no_wrap=True)
        weights = f"{entry.from_weight} → {entry.to_weight} %"
        made.add_row(
            Text(f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", "dim"),
            Text(entry.decision, _DECISIONS.get(entry.decision, "bold")),
            weights if entry.from_weight != entry.to_weight else f"{entry.to_weight} %",
            f"{entry.reason} (attempt {entry.attempt})",
        )
        parts.append(made)
        said = plain(entry.message) + (f"; by {plain(entry.by)}" if entry.by else "")
        parts += [_indented(Text(said))] if said else []
        if gates:
            parts += [_indented(_gate(entry, number)) for number in range(len(entry.gates))]
    return Group(*parts)


def _gate(entry: LedgerEntry, number: int) -> Text:
    gate = entry.gates[number]
    return Text.assemble((f"{gate.name} {gate.verdict}: ", VERDICTS.get(gate.verdict, "")), plain(sentence(gate)))


def _indented(text: Text) -> RenderableType:
    made = Table.grid(padding=0)
    made.add_column(width=4)
    made.add_column(overflow="fold")
    made.add_row("", text)
    return made
