"""How surely, and how soon, a new weight is seen in the requests."""

from __future__ import annotations

import numpy as np
import pytest

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.share import Pool, eks_silent, fits, pool

STEPS = [
    (0, 1),
    (0, 2),
    (0, 10),
    (1, 2),
    (1, 5),
    (10, 25),
    (25, 50),
    (50, 100),
    (90, 95),
    (99, 100),
    (50, 25),
    (25, 0),
]


def block(eks: float, heroku: float, gap: str = "") -> Block:
    return Block(0.0, 15.0, heroku=Counts(requests=heroku), eks=Counts(requests=eks), gap=gap)


def confirmed_after(
    rng: np.random.Generator, *, share: float, weight: int, previous: int, requests: float, blocks: int
) -> int | None:
    """Return how many blocks of Poisson traffic it takes until the weight is seen."""
    pooled = Pool()
    for number in range(1, blocks + 1):
        total = rng.poisson(requests)
        eks = rng.binomial(total, share / 100)
        pooled = pool(pooled, block(eks, total - eks), weight=weight, previous=previous)
        if fits(pooled, weight=weight, previous=previous):
            return number
    return None


@pytest.mark.parametrize(("previous", "weight"), STEPS)
def test_a_live_weight_is_seen_soon(previous: int, weight: int) -> None:
    rng = np.random.default_rng(1)
    times = [
        confirmed_after(rng, share=weight, weight=weight, previous=previous, requests=750, blocks=20)
        for _ in range(300)
    ]
    seen = [time for time in times if time is not None]
    assert len(seen) == 300
    # 15 s blocks at 50 requests/s: at once, but for neighbours.
    near = abs(weight - previous) < 3
    assert np.percentile(seen, 95) <= (6 if near else 1)


@pytest.mark.parametrize(("previous", "weight"), STEPS)
def test_the_previous_weight_is_hardly_ever_taken_for_the_new_one(previous: int, weight: int) -> None:
    rng = np.random.default_rng(2)
    for requests in (20, 200):  # few requests are the hard case: the likelihoods are close for longer
        false = sum(
            confirmed_after(rng, share=previous, weight=weight, previous=previous, requests=requests, blocks=8)
            is not None
            for _ in range(400)
        )
        assert false <= 4 + 0.03 * 400, "at 100 to 1 per beginning, over the two minutes until the deadline"


def test_few_requests_take_a_while_and_get_there() -> None:
    rng = np.random.default_rng(3)
    times = [confirmed_after(rng, share=25, weight=25, previous=10, requests=5, blocks=200) for _ in range(200)]
    assert None not in times
    assert 5 <= np.median([time for time in times if time is not None]) <= 30


def test_what_came_before_the_change_is_forgotten() -> None:
    pooled = Pool()
    for _ in range(40):  # ten minutes at the old weight
        pooled = pool(pooled, block(75, 675), weight=25, previous=10)
    assert pooled == Pool(75, 750), "people see the last block"
    pooled = pool(pooled, block(188, 562), weight=25, previous=10)
    assert fits(pooled, weight=25, previous=10)


def test_an_incident_while_waiting_is_forgotten() -> None:
    """Heroku answered nothing for a minute: the share was 100 %, which fits neither weight."""
    pooled = Pool()
    for _ in range(4):
        pooled = pool(pooled, block(188, 0), weight=25, previous=10)
        assert not fits(pooled, weight=25, previous=10)
    pooled = pool(pooled, block(188, 562), weight=25, previous=10)
    assert fits(pooled, weight=25, previous=10)


def test_a_share_beyond_the_weight_is_not_the_weight() -> None:
    assert not fits(Pool(500, 1000), weight=25, previous=10)
    assert not fits(Pool(100, 1000), weight=25, previous=10)
    assert not fits(Pool(), weight=25, previous=10)


def test_an_unchanged_weight_needs_a_few_requests() -> None:
    assert not fits(Pool(0, 19), weight=0, previous=0)
    assert fits(Pool(0, 20), weight=0, previous=0)
    assert not fits(Pool(10, 20), weight=0, previous=0)


def test_unusable_blocks_are_left_out() -> None:
    before = Pool(5, 20)
    assert pool(before, block(100, 0, gap="a scrape was missed"), weight=25, previous=10) is before


@pytest.mark.parametrize("weight", [5, 10, 25, 50, 90])
def test_silence_is_believed_when_it_cannot_be_chance(weight: int) -> None:
    enough = int(np.ceil(np.log(1e-4) / np.log1p(-weight / 100)))
    assert eks_silent(Pool(0, enough), weight=weight)
    assert not eks_silent(Pool(0, enough - 1), weight=weight)
    assert not eks_silent(Pool(1, 10 * enough), weight=weight)


@pytest.mark.parametrize("weight", [0, 100])
def test_silence_says_nothing_without_a_split(weight: int) -> None:
    assert not eks_silent(Pool(0, 1e6), weight=weight)


def test_silence_adds_up_only_once_the_weight_is_live() -> None:
    silent, live = Pool(), Pool()
    for _ in range(10):
        silent = pool(silent, block(0, 20), weight=10, previous=0)
        live = pool(live, block(0, 20), weight=10, previous=0, live=True)
    assert silent == Pool(0, 20), "so it was at the weight before"
    assert live == Pool(0, 200)
    assert eks_silent(live, weight=10)
