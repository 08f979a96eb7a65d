"""The blocks of one plan between reading and delivery."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cutover.domain.evidence.blocks import Block
from cutover.ports.block_feed import BlockSubscription
from cutover.services.isolation import Isolation
from cutover.services.reading import LONGEST_REPLAY

#: Seconds of blocks that are kept after delivery, for a plan that was reloaded after a conflict.
_KEPT_SECONDS = 120.0


@dataclass(slots=True, eq=False)
class BlockQueue:
    """The blocks of one plan, and how far they were read and delivered.

    Parameters
    ----------
    subscription
        The plan's newest subscription.
    delivered
        End of the last delivered block, or start of the first wanted block.
    fetched
        End of the last block that was read.
    blocks
        The last delivered blocks, for a plan that seeks back, and then the undelivered ones.
    not_before, pause
        Unix seconds of the operator's clock before which Prometheus is not queried again, and how long a pause that is.
    span
        Longest time, in seconds, that one query covers. Halved where there is no answer: an hour of many gateways may be
        more than Prometheus returns, however often it is queried.
    isolation
        With how many others the plan is asked about.
    """

    subscription: BlockSubscription
    delivered: float
    fetched: float
    blocks: deque[Block] = field(default_factory=deque)
    error: str = ""
    not_before: float = 0.0
    pause: float = 0.0
    span: float = LONGEST_REPLAY
    isolation: Isolation = field(default_factory=Isolation)

    def pauses(self, now: float) -> bool:
        """Tell whether there is a pause at a time of the operator's clock. Where that was set back, there is none."""
        return 0 < self.not_before - now <= 2 * self.pause

    def wait(self, seconds: float, now: float) -> None:
        """Begin a pause."""
        self.not_before, self.pause = now + seconds, seconds

    def waiting(self) -> int:
        """Return the number of undelivered blocks."""
        return round((self.fetched - self.delivered) / self.subscription.block_seconds)

    def seek(self, position: float, *, again: bool) -> None:
        """Continue after another block; with ``again``, read it again where it is not kept."""
        if self.blocks and self.blocks[0].start <= position <= self.fetched:
            self.delivered = position
        elif again:
            self.blocks.clear()
            self.delivered = self.fetched = position

    def deliver(self) -> tuple[Block, ...]:
        """Return the undelivered blocks, and keep some for a plan that seeks back."""
        blocks = tuple(block for block in self.blocks if block.end > self.delivered)
        self.delivered = self.fetched
        while len(self.blocks) * self.subscription.block_seconds > _KEPT_SECONDS:
            self.blocks.popleft()
        return blocks
