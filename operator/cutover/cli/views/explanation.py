"""Why a plan did or does not move, from its status alone: what it waits for, what would lead back, what moved it last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutover.api.v1alpha1 import Approval, GateKind, GateStatus, Mode, Phase, format_duration
from cutover.cli.views.advice import advice
from cutover.cli.views.parts import age
from cutover.domain.commands.refusals import refusals
from cutover.domain.evidence.rules import ALIVE
from cutover.domain.evidence.sentences import sentence
from cutover.domain.holds import HoldReason
from cutover.domain.journal.ledger import last_move
from cutover.domain.plan import Plan
from cutover.domain.steps import current_step, next_step
from cutover.domain.texts import plain
from cutover.domain.verdicts import Verdict

#: Where each hold is explained at length.
HOLDS_PAGE = "docs/holds.md"


@dataclass(frozen=True, slots=True)
class Part:
    """A heading and what stands under it."""

    title: str
    lines: tuple[str, ...]


def explain(plan: Plan, now: datetime, where: str = "") -> tuple[Part, ...]:
    """Return why a plan did or does not move.

    Parameters
    ----------
    where
        Options that name the plan's namespace in commands; ``""`` if it is the person's own.
    """
    parts = [
        Part("Where it is", (_where(plan, now),)),
        Part(*_waiting(plan, now)),
        Part("Gates", tuple(_gates(plan.status.gates))),
        Part("What would lead back", tuple(_back(plan))),
        Part("What moved it last", tuple(_last(plan, now))),
        Part("Commands that are refused", tuple(map(str, _refused(plan)))),
        Part("What to do", tuple(filter(None, (advice(plan, where).replace("`", ""),)))),
    ]
    return tuple(part for part in parts if part.lines)


def render(parts: Sequence[Part]) -> RenderableType:
    """Return an explanation as it is shown."""
    made: list[RenderableType] = []
    for part in parts:
        made.append(Text(part.title, "bold"))
        for line in part.lines:
            grid = Table.grid(padding=0)
            grid.add_column(width=2)
            grid.add_column(overflow="fold")
            grid.add_row("", Text(line))
            made.append(grid)
    return Group(*made)


def _where(plan: Plan, now: datetime) -> str:
    status = plan.status
    if status.observed_generation < 0:
        return (
            "No operator has looked at this plan: does one run, and does it manage this namespace (or these labels)?"
        )
    since = f" for {age(status.since, now)}" if status.since is not None else ""
    if status.weight is None:
        return f"{status.phase}{since}: the operator does not route the hosts yet, and users go as they went before."
    seen = f"; the gateway shows {status.share.observed:g} %" if status.share is not None else ""
    return f"{status.phase}{since}, attempt {status.attempt}: {status.weight} % of requests are meant for EKS{seen}."


def _waiting(plan: Plan, now: datetime) -> tuple[str, tuple[str, ...]]:
    status = plan.status
    if status.held is not None:
        reason = status.held.reason
        lines = [f"{reason}, for {age(status.held.since, now)}: {plain(status.message)}"]
        page = f"{HOLDS_PAGE}#{reason.lower()}" if reason in set(HoldReason) else HOLDS_PAGE
        return "Why it does not move", (*lines, *_next(plan), f"More: {page}")
    match status.phase:
        case Phase.COMPLETED:
            return "Why it does not move", ("The cutover is complete: all traffic is on EKS, on evidence.",)
        case Phase.ROLLED_BACK:
            return "Why it does not move", (
                f"It went back to Heroku and waits for another attempt: {plain(status.message)}",
            )
        case Phase.ROLLING_BACK:
            return "What it is doing", (f"It goes back to Heroku: {plain(status.message)}",)
        case _:
            said = f"{status.reason}: {plain(status.message)}" if status.reason else ""
            return "What it waits for", tuple(filter(None, (said, *_next(plan))))


def _next(plan: Plan) -> Iterator[str]:
    """Say what the next step asks for, besides what the message tells."""
    status, spec = plan.status, plan.spec
    if status.weight is None or status.phase not in (Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING):
        return
    step, upcoming = current_step(spec, status.weight), next_step(spec, status.weight)
    if upcoming is None:
        yield f"All traffic is on EKS. It soaks for {format_duration(spec.soak)}, with the way back open."
        return
    asks = [f"{format_duration(step.hold)} at {step.weight} %"] if step is not None else []
    evidence = status.evidence
    if evidence is not None and evidence.safety is not None and evidence.safety_limit:
        asks.append(f"evidence of safety {evidence.safety:.3g} of {evidence.safety_limit:.0f}")
    if step is not None and step.min_requests:
        asks.append(f"{step.min_requests:,} requests that EKS answered in this step")
    if upcoming.approval is Approval.MANUAL:
        asks.append("a person's approval")
    if spec.schedule is not None:
        asks.append("the calendar (spec.schedule)")
    if spec.ceiling < upcoming.weight:
        asks.append(f"a ceiling of {upcoming.weight} or more (it is {spec.ceiling})")
    yield f"The step at {upcoming.weight} % asks for: {', '.join(asks)}." if asks else f"Next is {upcoming.weight} %."
    if status.estimate is not None:
        yield f"Estimate of the proof: {status.estimate.text}."


def _gates(gates: Sequence[GateStatus]) -> Iterator[str]:
    """Say what each gate says, those that do not pass first."""
    for gate in sorted(gates, key=lambda one: one.verdict == Verdict.PASS):
        text = f"{gate.name} {gate.verdict}: {plain(gate.sentence or sentence(gate))}"
        evidence = gate.evidence
        if (
            gate.kind is not GateKind.BOUND
            and evidence is not None
            and evidence.safety is not None
            and gate.name != ALIVE
        ):
            text += f"; evidence of safety {evidence.safety:.3g} of {evidence.safety_limit or 0:.0f}"
        yield text


def _back(plan: Plan) -> Iterator[str]:
    status, evidence = plan.status, plan.status.evidence
    if not status.weight or status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.COMPLETED):
        return
    if evidence is not None:
        leads = "rolls back" if plan.spec.on_breach == "RollBack" else "holds (onBreach: Hold)"
        yield f"Evidence of harm is {evidence.harm:.2g}; {evidence.harm_limit:.0f} {leads}."
    failing = [gate.name for gate in status.gates if gate.verdict == Verdict.FAIL and gate.mode is Mode.ENFORCE]
    if failing:
        yield f"Failing now: {', '.join(failing)}."


def _last(plan: Plan, now: datetime) -> Iterator[str]:
    moves = [entry for entry in plan.status.ledger if entry.from_weight != entry.to_weight]
    entry = moves[-1] if moves else last_move(plan.status)
    if entry is None:
        yield "Nothing has moved it yet."
        return
    by = f", asked for by {plain(entry.by)}" if entry.by else ""
    at = f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC, {age(entry.at, now)} ago"
    yield f"{entry.decision} {entry.from_weight} → {entry.to_weight} % ({at}), {entry.reason}{by}: {plain(entry.message)}"
    for gate in entry.gates:
        if gate.name == entry.subject:
            yield f"The numbers then: {gate.name} {gate.verdict}: {plain(sentence(gate))}"


def _refused(plan: Plan) -> Iterator[object]:
    yield from refusals(plan.annotations, spec=plan.spec, status=plan.status)
