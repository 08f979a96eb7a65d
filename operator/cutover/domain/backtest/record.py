"""Heroku's recorded traffic: counts of each gateway instance and block, in arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from cutover.domain.evidence.blocks import Block, Counts

if TYPE_CHECKING:  # numpy is imported only where a replay runs
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[np.integer]

#: Most requests in a block. More is an error in the counters, and more than can be drawn from.
MOST_REQUESTS = 10**8
#: Length of the last axis of counts: the fields of `Counts`.
FIELDS = len(Counts._fields)


class Record:
    """Heroku's recorded traffic: counts per gateway instance and block.

    Parameters
    ----------
    block_seconds
        Seconds of a block.
    """

    def __init__(self, block_seconds: float) -> None:
        self.block_seconds = block_seconds
        self._parts: list[tuple[NDArray[np.bool_], dict[str, Array]]] = []

    def add(self, blocks: Sequence[Block], instances: Mapping[str, Sequence[Block]] | None = None) -> None:
        """Append the next blocks.

        Parameters
        ----------
        blocks
            Blocks of all instances together. Only Heroku's counts are used, and whether the blocks are usable.
        instances
            The same blocks of each instance, if they are known. An unusable block counts as empty, like that of a gateway
            that does not exist.
        """
        import numpy as np

        usable = np.array([block.usable and _plausible(block.heroku) for block in blocks], dtype=bool)
        self._parts.append(
            (usable, {name: _array(counted, usable) for name, counted in (instances or {"": blocks}).items()})
        )

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return sum(len(usable) for usable, _ in self._parts)

    @property
    def usable(self) -> int:
        """Number of blocks that can be judged."""
        return sum(int(usable.sum()) for usable, _ in self._parts)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.blocks * self.block_seconds

    @property
    def requests(self) -> int:
        """Number of requests."""
        return sum(int(counts[:, 0].sum()) for _, instances in self._parts for counts in instances.values())

    def trimmed(self) -> Record:
        """Return the record from its first request to its last."""
        usable, counts = self.arrays()
        busy = (counts[:, :, 0].sum(axis=0) > 0).nonzero()[0]
        first, last = (int(busy[0]), int(busy[-1]) + 1) if len(busy) else (0, 0)
        trimmed = Record(self.block_seconds)
        instances = {str(number): each[first:last] for number, each in enumerate(counts)}
        trimmed._parts.append((usable[first:last], instances))
        return trimmed

    def arrays(self) -> tuple[NDArray[np.bool_], Array]:
        """Return which blocks are usable, and counts by instance, block and field of `Counts`."""
        import numpy as np

        names = sorted({name for _, instances in self._parts for name in instances})
        counts = np.zeros((max(len(names), 1), self.blocks, FIELDS), dtype=np.int32)
        at = 0
        for usable, instances in self._parts:
            for name, part in instances.items():
                counts[names.index(name), at : at + len(usable)] = part
            at += len(usable)
        return np.concatenate([np.zeros(0, dtype=bool), *(usable for usable, _ in self._parts)]), counts


def _array(blocks: Sequence[Block], usable: NDArray[np.bool_]) -> Array:
    import numpy as np

    counts = np.zeros((len(usable), FIELDS), dtype=np.int32)
    for number, block in enumerate(blocks):
        heroku = block.heroku
        if usable[number] and block.usable and _plausible(heroku):
            counts[number] = heroku
    return counts


def _plausible(counts: Counts) -> bool:
    """Tell whether counts are possible, by the judge's rules. Impossible counts would make a draw fail."""
    classes = (counts.ok, counts.errors, counts.refused, counts.redirected, counts.throttled, counts.excepted)
    return (
        min(classes) >= 0
        and counts.requests <= MOST_REQUESTS
        and (
            0 <= counts.very_slow <= counts.slow <= counts.timed <= MOST_REQUESTS
            # A plan may leave out either threshold.
            or (counts.slow == 0 and 0 <= counts.very_slow <= counts.timed <= MOST_REQUESTS)
        )
    )
