"""Split the record into two legs of the same service.

- ``instances``: EKS' requests are taken from one gateway (or router dyno) until it has no more, then from the next, in an
  order that each run draws anew; Heroku gets the rest. Both legs have the same seconds. Trouble of one gateway alone (a
  restart, a node, a slow connection) falls on one leg, like trouble of a leg. Trouble of a Heroku dyno reaches all
  gateways and so both legs: such clumps cancel here, but would not between real legs. A gateway that is worse all the
  time looks like a worse leg, although in a real cutover every gateway splits by the same weights: then the prediction is
  too pessimistic.
- ``time``: of two neighbouring blocks one is for EKS and the other for Heroku, drawn anew for each pair. Clumps of errors
  fall on one leg alone, as they would between real legs. But any change from one block to the next, such as the drift of
  the day or the edge of an incident, also becomes a difference of the legs, which it is not in a real cutover: this split
  is pessimistic. An event longer than a block lasts half as long, because each pair makes one block.

In both splits the requests of a leg are thinned at random to its weight: the number is binomial, and each class of
answers and the slow requests among them are hypergeometric. Thinning alone, with each request assigned by itself, would
be no test: it breaks every clump into halves that cancel. Neither split knows EKS; the service is assumed to behave there
as on Heroku.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from cutover.domain.backtest.record import FIELDS
from cutover.domain.evidence.blocks import Counts

if TYPE_CHECKING:  # numpy is imported only where a replay runs
    import numpy as np
    from numpy.typing import NDArray

    from cutover.domain.backtest.record import Array

Split = Literal["instances", "time"]

#: Fraction of requests outside the busiest instance from which the record is split by instances.
OTHER_INSTANCES = 0.2

_BATCH = 64  # blocks drawn at a time


def divisible(counts: Array) -> bool:
    """Tell whether two or more instances have enough traffic to split the record by them."""
    requests = counts[:, :, 0]
    total = int(requests.sum())
    return total > 0 and 1 - int(requests.max(axis=0).sum()) / total >= OTHER_INSTANCES


def legs(
    rng: np.random.Generator,
    usable: NDArray[np.bool_],
    counts: Array,
    *,
    order: Sequence[int],
    position: int,
    weight: float,
    split: Split,
) -> Iterator[tuple[bool, Counts, Counts]]:
    """Split the record from a position on: yield whether a block is a gap, and Heroku's and EKS' counts.

    Parameters
    ----------
    rng
        Source of randomness.
    usable, counts
        From :meth:`Record.arrays`.
    order
        Indices of the instances, in the order in which EKS takes from them.
    position
        Index of the first block.
    weight
        Fraction of the requests for EKS.
    split
        With ``time``, two blocks of the record make one, and the counts must be the sum of all instances.
    """
    import numpy as np

    blocks = counts.shape[1]
    stride = 2 if split == "time" else 1
    while position + stride <= blocks:
        size = min(_BATCH, (blocks - position) // stride)
        part = counts[order, position : position + size * stride]
        good = usable[position : position + size * stride]
        requests = part[:, :, 0].sum(axis=0)
        if split == "time":
            pairs = part[0].reshape(size, 2, FIELDS)
            swapped = rng.random(size) < 0.5
            pairs = np.where(swapped[:, None, None], pairs[:, ::-1], pairs)
            part, good = pairs.transpose(1, 0, 2), good[::2] & good[1::2]
            # Two blocks of the record make one block of the run: half of their requests keeps the rate.
            requests = (requests.reshape(size, 2).sum(axis=1) + rng.integers(0, 2, size)) // 2
        eks = take(rng, part, _first(part[:, :, 0], rng.binomial(requests, weight)))
        rest = part - eks
        left = requests - eks[:, :, 0].sum(axis=0)
        heroku = take(rng, rest, _first(rest[::-1, :, 0], left)[::-1]) if split == "time" else rest
        rows = zip(good.tolist(), heroku.sum(axis=0).tolist(), eks.sum(axis=0).tolist(), strict=True)
        for fine, heroku_counts, eks_counts in rows:
            yield not fine, Counts(*heroku_counts), Counts(*eks_counts)
        position += size * stride


def _first(requests: Array, wanted: Array) -> Array:
    """Return how many requests to take from each instance: all of the first, then of the next, until there are enough."""
    before = requests.cumsum(axis=0) - requests
    taken: Array = (wanted - before).clip(0, requests)
    return taken


def take(rng: np.random.Generator, counts: Array, requests: Array) -> Array:
    """Draw requests at random, without replacement.

    Parameters
    ----------
    rng
        Source of randomness.
    counts
        Counts to draw from; the last axis has the fields of `Counts`.
    requests
        How many requests to draw, at most as many as there are.

    Returns
    -------
    Array
        Counts of the drawn requests.

    Notes
    -----
    The latency histogram may lag the requests by a flush, so requests are drawn from it in proportion.
    """
    import numpy as np

    of, errors, timed, slow, very_slow, *classes = (counts[..., index] for index in range(FIELDS))
    fraction = np.divide(requests, of, out=np.zeros(of.shape), where=of > 0)
    taken_timed = np.floor(fraction * timed + rng.random(of.shape)).astype(np.int64).clip(0, timed)
    taken_slow = rng.hypergeometric(slow, timed - slow, taken_timed)
    # Very slow requests are also slow, unless the plan judges only very slow ones.
    within = np.where(slow > 0, slow, timed)
    among = np.where(slow > 0, taken_slow, taken_timed)
    # An answer is in one class at most: each class is drawn from what the classes before it left.
    left, to_draw, answers = of, requests, []
    for answer in (errors, *classes):
        drawn = rng.hypergeometric(answer, left - answer, to_draw)
        left, to_draw = left - answer, to_draw - drawn
        answers.append(drawn)
    taken: Array = np.stack(
        [
            requests,
            answers[0],
            taken_timed,
            taken_slow,
            rng.hypergeometric(very_slow, within - very_slow, among),
            *answers[1:],
        ],
        axis=-1,
    )
    return taken
