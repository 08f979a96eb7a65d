"""One plan on one screen: where it is, both legs side by side, what it waits for, what to do, and the last decisions."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import log

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutover.api.v1alpha1 import (
    AnswersStatus,
    CheckResult,
    EvidenceStatus,
    GateKind,
    GateStatus,
    LedgerEntry,
    LegCounts,
    MigrationPlanStatus,
    Mode,
    Phase,
)
from cutover.cli.views.advice import advice
from cutover.cli.views.parts import EKS, HEROKU, PHASES, VERDICTS, age, bar, held_style, percent
from cutover.domain.evidence.rules import ALIVE
from cutover.domain.evidence.sentences import tolerated_by_bound
from cutover.domain.plan import Plan
from cutover.domain.texts import plain

#: Columns of the weight's bars and of the evidence's.
_WEIGHT_BAR, _EVIDENCE_BAR = 40, 8
#: Decisions that are shown at least, also where there are many gates.
_LEAST_DECISIONS = 2


def screen(plan: Plan, now: datetime, *, columns: int = 80, height: int = 24, where: str = "") -> RenderableType:
    """Return the screen of a plan.

    Parameters
    ----------
    columns, height
        The terminal's size. What does not fit is cut, the least important first.
    where
        Options that name the plan's namespace in commands; ``""`` if it is the person's own.
    """
    status = plan.status
    above = [_head(plan, now), _legs(plan), Text(""), *_weights(status, plan.spec.ceiling, now), Text("")]
    below = [*_answers(status.answers), Text(""), *_why(plan, now, where, columns), Text("")]
    # The prompt, or a problem of the live view, has the last line.
    room = height - 1 - _lines(above, columns) - _lines(below, columns)
    body: list[RenderableType]
    if status.gates:
        table = _gates(status, room - _LEAST_DECISIONS - 1)
        body, taken = [table], len(table.rows) + 1
    else:
        body = _checks(status, room - _LEAST_DECISIONS)
        taken = len(body)
    return Group(*above, *body, *below, *_ledger(status.ledger, max(1, room - taken)))


def _lines(parts: Sequence[RenderableType], columns: int) -> int:
    """Return how many lines parts take."""
    console = Console(width=columns, file=io.StringIO())
    return len(console.render_lines(Group(*parts), console.options))


def _head(plan: Plan, now: datetime) -> RenderableType:
    status = plan.status
    phase = Text(status.phase, PHASES.get(status.phase, ""))
    left = Text.assemble((plan.key, "bold"), "   ", phase)
    if status.step:
        left.append(f" {status.step}")
    left.append(f"   attempt {status.attempt or plan.spec.attempt}")
    if status.since is not None:
        left.append(f"   for {age(status.since, now)}")
    checkpoint = status.checkpoint
    if checkpoint is not None and checkpoint.at:
        left.append(f"   numbers of {age(datetime.fromtimestamp(checkpoint.at, UTC), now)} ago", "dim")
    if plan.deleting:
        left.append("   being deleted", "bold yellow")
    return _cut(left)


def _legs(plan: Plan) -> RenderableType:
    spec = plan.spec
    hosts = ", ".join(spec.traffic.hosts)
    service = f"{spec.eks.service.name}.{plan.namespace}:{spec.eks.service.port}"
    return _cut(Text.assemble(f"{hosts}   ", (spec.heroku.hostname, HEROKU), " → ", (service, EKS)))


def _weights(status: MigrationPlanStatus, ceiling: int, now: datetime) -> Iterator[RenderableType]:
    if status.weight is None:
        yield Text("The operator does not route the hosts yet: users go as they went before.", "dim")
        return
    cap = f"   ceiling {ceiling} %" if ceiling < 100 else ""
    arrow = f"   {status.eks} not seen yet" if "→" in status.eks else ""
    yield _cut(_line("wanted", status.weight, f"{status.weight} % to EKS{arrow}{cap}"))
    if status.share is None:
        yield Text("seen    -", "dim")
        return
    observed = status.share.observed
    yield _cut(_line("seen", observed, f"{observed:g} % of requests, {age(status.share.at, now)} ago"))


def _line(name: str, value: float, said: str) -> Text:
    return Text.assemble(f"{name:<8}", bar(value / 100, _WEIGHT_BAR, full=EKS, empty=HEROKU), f" {said}")


# ------------------------------------------------------------------------------------------------------- gates, checks


def _gates(status: MigrationPlanStatus, room: int) -> Table:
    """Return both legs by gate, the worst first where not all fit, with the bars of the evidence."""
    upcoming = status.checkpoint.next_weight if status.checkpoint is not None else 0
    safety = f"safe for {upcoming} %" if upcoming else "safe"
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("gate", "left"), ("Heroku", "right"), ("EKS", "right")):
        made.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for name in ("verdict", safety, "harm"):
        made.add_column(name, no_wrap=True, overflow="ellipsis")
    requests = next((gate.counts for gate in status.gates if gate.name != ALIVE and gate.counts is not None), None)
    if requests is not None:
        made.add_row("requests", _total(requests.heroku), _total(requests.eks), "", "", "")
    fixed = len(made.rows) + (status.evidence is not None)
    gates = list(status.gates)
    if len(gates) > max(1, room - fixed):
        gates = sorted(gates, key=_urgency)[: max(1, room - fixed - 1)]
    for gate in gates:
        made.add_row(*_gate(gate))
    if left := len(status.gates) - len(gates):
        made.add_row(Text(f"… {left} more", "dim"), "", "", "", "", "")
    if status.evidence is not None:
        made.add_row("together", "", "", "", *_evidence(status.evidence))
    return made


def _urgency(gate: GateStatus) -> tuple[int, float]:
    order = ("Fail", "QueryError", "Ambiguous", "NoData", "Undecided", "InsufficientTraffic", "Pass")
    harm = -gate.evidence.harm if gate.evidence is not None else 0.0
    return (order.index(gate.verdict) if gate.verdict in order else 0, harm)


def _gate(gate: GateStatus) -> list[RenderableType]:
    observed = " (observed)" if gate.mode is Mode.OBSERVE else ""
    verdict = Text(f"{gate.verdict}{observed}", VERDICTS.get(gate.verdict, ""))
    if gate.kind is GateKind.BOUND:
        before = f"{gate.baseline:.3g}" if gate.baseline is not None else "-"
        value = f"{gate.value:.3g}" if gate.value is not None else "-"
        return [gate.name, before, value, verdict, Text(tolerated_by_bound(gate), "dim"), ""]
    heroku = eks = "-"
    if gate.name == ALIVE and gate.counts is not None and gate.counts.eks is not None:
        counts = gate.counts
        heroku = f"{counts.heroku.total:,.0f} due" if counts.heroku is not None else "-"
        eks = f"{counts.eks.total - counts.eks.bad:,.0f} good" if counts.eks is not None else "-"
    elif gate.ratios is not None:
        heroku, eks = percent(gate.ratios.heroku), percent(gate.ratios.eks)
    return [gate.name, heroku, eks, verdict, *_evidence(gate.evidence)]


def _evidence(evidence: EvidenceStatus | None) -> tuple[RenderableType, RenderableType]:
    if evidence is None:
        return "", ""
    safety: RenderableType = ""
    if evidence.safety is not None and evidence.safety_limit:
        way = way_to(evidence.safety, evidence.safety_limit)
        words = f" {_number(evidence.safety)}/{evidence.safety_limit:.0f}"
        safety = bar(way, _EVIDENCE_BAR, full="green").append(words)
    harm = bar(way_to(evidence.harm, evidence.harm_limit), _EVIDENCE_BAR, full="red")
    return safety, harm.append(f" {_number(evidence.harm)}/{evidence.harm_limit:.0f}")


def _number(value: float) -> str:
    """Return evidence in few characters: ``0.28``, ``8.9``, ``893``, ``12k``."""
    if value >= 10_000:
        return f"{value / 1000:,.0f}k" if value < 1e7 else ">9999k"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def way_to(evidence: float, limit: float) -> float:
    """Return how far evidence is on its way to a limit. It is multiplied by each block, so the way is in logarithms."""
    if evidence <= 1 or limit <= 1:
        return 1.0 if evidence >= limit else 0.0
    return min(1.0, log(evidence) / log(limit))


def _total(counts: LegCounts | None) -> str:
    return f"{counts.total:,.0f}" if counts is not None else "-"


def _answers(answers: AnswersStatus | None) -> Iterator[RenderableType]:
    if answers is None or not (answers.heroku or answers.eks):
        return
    yield _cut(
        Text.assemble(
            "answers  ", (f"Heroku {_mix(answers.heroku)}", HEROKU), "   ", (f"EKS {_mix(answers.eks)}", EKS)
        )
    )


def _mix(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    parts = sorted(counts.items(), key=lambda one: -one[1])
    return ", ".join(f"{code} {100 * count / total:.3g} %" for code, count in parts[:3]) if total else "-"


def _checks(status: MigrationPlanStatus, room: int) -> list[RenderableType]:
    """Return the checks that say something, those that hold the plan first."""
    order = (CheckResult.FAILED, CheckResult.UNKNOWN, CheckResult.WARNED, CheckResult.SKIPPED)
    told = [check for check in status.preflight if check.result in order]
    if status.phase not in (Phase.PENDING, Phase.PREFLIGHT):
        told = []
    told.sort(key=lambda check: order.index(check.result))
    shown = told if len(told) <= room else told[: max(1, room - 1)]
    name = max((len(check.check) for check in shown), default=0)
    made: list[RenderableType] = [
        _cut(Text.assemble(f"{one.check:<{name}}  ", (f"{one.result:<7}  ", CHECKS[one.result]), plain(one.message)))
        for one in shown
    ]
    return made + ([Text(f"… {len(told) - len(shown)} more", "dim")] if len(told) > len(shown) else [])


CHECKS = {
    CheckResult.PASSED: "green",
    CheckResult.FAILED: "bold red",
    CheckResult.WARNED: "yellow",
    CheckResult.UNKNOWN: "yellow",
    CheckResult.SKIPPED: "dim",
}


# ------------------------------------------------------------------------------------------------------- why, decisions


def _why(plan: Plan, now: datetime, where: str, columns: int) -> Iterator[RenderableType]:
    status, held = plan.status, plan.status.held
    if held is not None:
        head = Text.assemble(
            ("held ", "bold"), (held.reason, held_style(held.reason)), f" for {age(held.since, now)}: "
        )
    else:
        head = Text(f"{status.reason}: " if status.reason else "")
    message = plain(status.message) or "no operator has looked at this plan yet"
    yield _two_lines(head.append(message), columns)
    if status.estimate is not None and held is None:
        yield _cut(Text(f"next step: {status.estimate.text}", "dim"))
    if todo := advice(plan, where):
        yield _two_lines(Text.assemble(("do   ", "bold"), todo.replace("`", "")), columns)


def _ledger(entries: Sequence[LedgerEntry], room: int) -> Iterator[RenderableType]:
    for entry in entries[-room:]:
        weights = (
            f"{entry.from_weight}→{entry.to_weight}" if entry.from_weight != entry.to_weight else f"{entry.to_weight}"
        )
        by = f" by {entry.by}" if entry.by else ""
        text = Text.assemble(
            (f"{entry.at.astimezone(UTC):%m-%d %H:%M:%S} ", "dim"),
            (f"{entry.decision} ", "bold"),
            f"{weights} % {entry.reason}{plain(by)}: {plain(entry.message)}",
        )
        yield _cut(text)


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _two_lines(text: Text, columns: int) -> Text:
    """Return a text that takes two lines at most."""
    text.truncate(2 * columns - 12, overflow="ellipsis")
    return text
