"""What the SLO feed knows of each custom SLO and each plan: readings, blocks, and when the next round is due."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from cutover.api.v1alpha1.gates import BoundSlo, RatioSlo
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.scrapes import Source
from cutover.domain.slo import bounds
from cutover.domain.slo.custom import CustomSlo, QueryProblem
from cutover.domain.verdicts import Verdict
from cutover.ports.slo_feed import SloSubscription
from cutover.services.reading import LONGEST_REPLAY

#: Blocks that are kept after delivery, for a plan that was reloaded after a conflict.
_KEPT = 24


class Edge(NamedTuple):
    """The end of the last block as it was read: the newest sample of each source, or the value of a query."""

    end: float
    settle: float
    newest: Mapping[Source | int, float]


@dataclass(slots=True, eq=False)
class SloState:
    """What is known of one custom SLO.

    Parameters
    ----------
    custom
        The custom SLO.
    settle
        Seconds from the end of a block until it can be read. Doubled where a sample became visible too late.
    asked_at, points, baseline, problem
        As in `SloReading`.
    evaluated
        Unix seconds of a bound's newest evaluation.
    delivered, fetched
        Ends of the last delivered block and of the last block that was read; ``None`` before the first is wanted.
    blocks
        The last delivered blocks, for a plan that seeks back, and then the undelivered ones.
    not_before
        Unix seconds before which it is not queried.
    span
        Longest time, in seconds, that one query covers.
    edge
        The newest samples at the end of the last block when it was read.
    """

    custom: CustomSlo
    settle: float
    asked_at: float = 0.0
    points: bounds.Points = ()
    baseline: float | None = None
    problem: QueryProblem | None = None
    evaluated: float = 0.0
    delivered: float | None = None
    fetched: float | None = None
    blocks: deque[Block] = field(default_factory=deque)
    not_before: float = 0.0
    span: float = LONGEST_REPLAY
    edge: Edge | None = None

    @property
    def interval(self) -> float:
        """Seconds between two scrapes of the metrics that it reads."""
        return self.custom.slo.scrape_interval.total_seconds()

    def seek(self, position: float, *, again: bool) -> None:
        """Continue after another block; with ``again``, read it again where it is not kept."""
        if self.delivered is None or self.fetched is None:
            self.delivered = self.fetched = position
        elif position != self.delivered:
            if self.blocks and self.blocks[0].start <= position <= self.fetched:
                self.delivered = position
            elif again:
                self.blocks.clear()
                self.delivered = self.fetched = position

    def deliver(self) -> tuple[Block, ...]:
        """Return the undelivered blocks, and keep some for a plan that seeks back."""
        if self.delivered is None:
            return ()
        delivered = self.delivered
        blocks = tuple(block for block in self.blocks if block.end > delivered)
        self.delivered = self.fetched
        while len(self.blocks) > _KEPT:
            self.blocks.popleft()
        return blocks

    def note(self, verdict: Verdict, message: str, now: float) -> None:
        """Note a problem; it lasts since its verdict began."""
        known = self.problem
        self.problem = QueryProblem(verdict, message, known.since if known and known.verdict is verdict else now)


@dataclass(slots=True, eq=False)
class PlanState:
    """One plan's custom SLOs, and when they are queried.

    Parameters
    ----------
    subscription
        The newest subscription.
    gates
        By name.
    due
        Unix seconds of the next round, by the operator's clock.
    round
        The round that is under way.
    asking
        Name of the SLO that the round queries now.
    skipped
        Consecutive rounds that were skipped because the previous round was under way.
    spent
        Seconds that the round's queries took, without waiting for a slot.
    slow
        Whether its queries take long.
    urgent
        Whether there is an SLO that was never queried.
    began_for
        When the current round was due; ``None`` after its first query.
    """

    subscription: SloSubscription
    gates: dict[str, SloState] = field(default_factory=dict)
    due: float = 0.0
    round: asyncio.Task[None] | None = None
    asking: str = ""
    skipped: int = 0
    spent: float = 0.0
    slow: bool = False
    urgent: bool = False
    began_for: float | None = None


def same_queries(one: CustomSlo, other: CustomSlo) -> bool:
    """Tell whether the readings of an SLO are valid for its new version."""
    if one.queries != other.queries or one.slo.scrape_interval != other.slo.scrape_interval:
        return False
    match one.slo, other.slo:
        case RatioSlo(), RatioSlo():
            return (one.slo.good is None) == (other.slo.good is None)
        case _:
            return isinstance(one.slo, BoundSlo) and isinstance(other.slo, BoundSlo)
