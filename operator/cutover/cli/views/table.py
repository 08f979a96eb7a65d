"""The table of plans. It is made of the raw objects, so that a plan that this version cannot read is shown as well."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutover.api.v1alpha1 import Phase
from cutover.cli.views.parts import PHASES, age, held_style, moment, seen_percent
from cutover.domain.holds import ALARMING, HoldReason
from cutover.domain.resources import Json
from cutover.domain.texts import plain


class Trouble(IntEnum):
    """What a person should look at first."""

    ROLLING_BACK = 0
    ALARM = 1
    ROLLED_BACK = 2
    HELD = 3
    MOVING = 4
    WAITING = 5
    COMPLETED = 6


@dataclass(frozen=True, slots=True)
class Row:
    """A plan in a table; texts as they are shown."""

    namespace: str
    name: str
    phase: str
    step: str
    eks: str
    seen: str
    proof: str
    held: str
    held_since: datetime | None
    created: datetime | None
    message: str
    trouble: Trouble

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


def row(body: Json) -> Row:
    """Return the row of a plan as the API server has it; what it lacks, or has in another form, is empty."""
    metadata, status = _map(body.get("metadata")), _map(body.get("status"))
    held, share = _map(status.get("held")), _map(status.get("share"))
    observed = share.get("observed")
    reason, phase = _text(held, "reason"), _text(status, "phase")
    return Row(
        namespace=_text(metadata, "namespace"),
        name=_text(metadata, "name"),
        phase=phase,
        step=_text(status, "step"),
        eks=_text(status, "eks"),
        seen=seen_percent(observed) if isinstance(observed, int | float) else "",
        proof=_text(status, "gate"),
        held=reason,
        held_since=moment(_text(held, "since")),
        created=moment(_text(metadata, "creationTimestamp")),
        message=_text(status, "message"),
        trouble=_trouble(phase, reason),
    )


def rows(bodies: Iterable[Json], *, by_trouble: bool) -> list[Row]:
    """Return the rows of plans, by name or with those first that need somebody."""
    found = [row(body) for body in bodies]
    return sorted(found, key=lambda one: (one.trouble if by_trouble else 0, one.key))


def table(found: Sequence[Row], now: datetime, *, namespaces: bool, wide: bool) -> Table:
    """Return the table, with the same columns as ``kubectl get``.

    Parameters
    ----------
    namespaces
        Whether the plans' namespaces are shown.
    wide
        Whether the messages are.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="")
    names = ["NAME", "PHASE", "STEP", "EKS", "SEEN", "PROOF", "HELD", "SINCE", "AGE"]
    for name in (["NAMESPACE"] if namespaces else []) + names + (["MESSAGE"] if wide else []):
        made.add_column(name, no_wrap=True, overflow="ellipsis")
    for one in found:
        cells: list[RenderableType] = [one.namespace] if namespaces else []
        cells += [one.name, Text(one.phase, _phase_style(one.phase)), one.step, one.eks, one.seen]
        cells += [
            one.proof,
            Text(one.held, held_style(one.held) if one.held else ""),
            age(one.held_since, now),
            age(one.created, now),
        ]
        made.add_row(*cells, *([one.message] if wide else []))
    return made


def board(found: Sequence[Row], now: datetime, *, namespaces: bool, problem: str, height: int) -> RenderableType:
    """Return the live view of many plans: the table, and below what those that need somebody say.

    Parameters
    ----------
    problem
        Why it is not up to date; ``""`` if it is.
    height
        Lines of the terminal. What does not fit is counted.
    """
    moving = sum(one.trouble in (Trouble.MOVING, Trouble.WAITING) for one in found)
    troubled = [one for one in found if one.trouble <= Trouble.HELD]
    head = Text(
        f"{len(found)} {'plan' if len(found) == 1 else 'plans'}: {moving} on their way, {len(troubled)} held or back   {now:%H:%M:%S} UTC",
        "dim",
    )
    told = troubled[: max(0, (height - 6) // 3)]
    room = max(1, height - len(told) - 6)
    parts: list[RenderableType] = [head, Text(problem, "bold red") if problem else Text("")]
    parts.append(_narrow(found[:room], now, namespaces=namespaces))
    if len(found) > room:
        parts.append(Text(f"… and {len(found) - room} more", "dim"))
    if told:
        parts.append(Text(""))
        parts += [_said(one, namespaces=namespaces) for one in told]
    return Group(*parts)


def _narrow(found: Sequence[Row], now: datetime, *, namespaces: bool) -> Table:
    """Return a table that fits 80 columns: names and holds are cut first."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("PLAN", "PHASE", "STEP", "EKS", "SEEN", "PROOF", "HELD"):
        made.add_column(name, no_wrap=name not in ("PLAN", "HELD"))
    for one in found:
        name = f"{one.namespace}/{one.name}" if namespaces else one.name
        held = Text(no_wrap=True, overflow="ellipsis")
        if one.held:
            held.append(one.held, held_style(one.held)).append(f" {age(one.held_since, now)}")
        made.add_row(
            Text(name, "bold", no_wrap=True, overflow="ellipsis"),
            Text(one.phase, _phase_style(one.phase)),
            one.step,
            one.eks,
            one.seen,
            one.proof,
            held,
        )
    return made


def _phase_style(phase: str) -> str:
    return PHASES[Phase(phase)] if phase in PHASES else ""


def _said(one: Row, *, namespaces: bool) -> Text:
    name = f"{one.namespace}/{one.name}" if namespaces else one.name
    what = one.held or one.phase
    text = Text(no_wrap=True, overflow="ellipsis")
    return text.append(f"{name} ", "bold").append(f"{what}: ", held_style(what)).append(one.message)


def line(one: Row, *, namespaces: bool) -> str:
    """Return a plan in one line, for who follows plans without a terminal."""
    name = f"{one.namespace}/{one.name}" if namespaces else one.name
    parts = [one.phase or "not seen by an operator yet"]
    parts += [f"step {one.step}, EKS {one.eks} %"] if one.eks else []
    parts += [f"seen {one.seen} %"] if one.seen else []
    parts += [f"proof {one.proof}"] if one.proof else []
    parts += [f"held {one.held}"] if one.held else []
    return f"{name}: {'; '.join(parts)}" + (f"; {one.message}" if one.message else "")


def _trouble(phase: str, held: str) -> Trouble:
    if phase == Phase.ROLLING_BACK:
        return Trouble.ROLLING_BACK
    if held in set(HoldReason) and HoldReason(held) in ALARMING:
        return Trouble.ALARM
    if phase == Phase.ROLLED_BACK:
        return Trouble.ROLLED_BACK
    if held:
        return Trouble.HELD
    if phase == Phase.COMPLETED:
        return Trouble.COMPLETED
    return Trouble.MOVING if phase in (Phase.SHIFTING, Phase.SOAKING) else Trouble.WAITING


def _map(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _text(data: Json, name: str) -> str:
    value = data.get(name)
    return plain(value) if isinstance(value, str) else ""
