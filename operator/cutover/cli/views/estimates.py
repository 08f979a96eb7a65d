"""How long each step takes at least at a plan's traffic, and what makes it shorter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutover.api.durations import span
from cutover.api.v1alpha1 import MigrationPlanSpec, format_duration
from cutover.domain.backtest.few_requests import Need, needs, ways
from cutover.domain.evidence.tolerances import gate_rules
from cutover.domain.resources import Json


@dataclass(frozen=True, slots=True)
class Estimates:
    """The least times of a plan's steps.

    Parameters
    ----------
    rate
        Requests a second of the whole service.
    steps
        What each step below 100 % takes at least.
    ways
        What makes them shorter, in sentences; empty where requests are enough.
    """

    rate: float
    steps: tuple[Need, ...]
    ways: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Seconds until 100 %, the baseline and people's words aside."""
        return sum(step.seconds for step in self.steps)

    def to_wire(self) -> Json:
        """Return the numbers for programs."""
        steps = [
            {"weight": one.weight, "eksRequests": round(one.requests), "seconds": round(one.seconds)}
            for one in self.steps
        ]
        return {
            "requestsPerSecond": self.rate,
            "steps": steps,
            "seconds": round(self.seconds),
            "ways": list(self.ways),
        }


def estimates(spec: MigrationPlanSpec, rate: float) -> Estimates:
    """Return the least times of a spec's steps at a rate above 0, for an EKS leg without any fault."""
    rules = gate_rules(spec)
    return Estimates(rate, needs(spec.steps, rules, rate), tuple(ways(spec, rules, rate)))


def render(found: Estimates, spec: MigrationPlanSpec, now: str = "") -> RenderableType:
    """Return estimates as they are shown.

    Parameters
    ----------
    now
        What the operator says about the present step; ``""`` if nothing.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="")
    for name in ("STEP", "HOLD", "EKS REQUESTS", "AT LEAST"):
        made.add_column(name, justify="left" if name == "STEP" else "right", no_wrap=True)
    holds = {step.weight: format_duration(step.hold) for step in spec.steps}
    for need, upper in zip(found.steps, [one.weight for one in spec.steps[1:]], strict=True):
        made.add_row(f"{need.weight} → {upper} %", holds[need.weight], f"{need.requests:,.0f}", span(need.seconds))
    made.add_row("soak", "", "", format_duration(spec.soak))
    whole = f"{span(found.seconds)} at least until 100 %, at {found.rate:g} requests/s, by a leg without any fault."
    lines: Sequence[str] = (whole, *found.ways, *([f"The present step: {now}."] if now else []))
    return Group(made, Text(""), *(Text(line) for line in lines))
