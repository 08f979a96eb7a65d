"""What the judge learns of clumps, and how much a block may contribute for it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from tests.kit.gate_traces import Regression, Run, Traffic, blocks_of

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.clumps import calm, note_pool
from cutover.domain.evidence.judge import Evidence, GateRules, consume, learn

RULES = GateRules()
Pair = tuple[tuple[float, float], tuple[float, float]]


def leg(requests: float, errors: float = 0) -> Counts:
    return Counts(requests, errors, requests)


def learned(pairs: list[Pair]) -> Evidence:
    """Learn from pools of (requests, errors) of Heroku and of EKS."""
    evidence = Evidence()
    for heroku, eks in pairs:
        evidence = note_pool(evidence._replace(pool=(leg(*heroku), leg(*eks))), RULES)
    return evidence


@pytest.mark.parametrize("bad", [1, 2, 7, 30])
def test_the_dispersion_of_independent_errors_is_one(bad: int) -> None:
    """Each of the bad requests of two pools fell into one of them by chance: all the ways, by their weights."""
    spread = 0.0
    for first in range(bad + 1):
        evidence = learned([((100, first), (0, 0)), ((100, bad - first), (0, 0))])
        spread += math.comb(bad, first) / 2**bad * evidence.clumps["errors"][0]
    assert spread == pytest.approx(bad)


USUAL: Pair = ((675, 1), (75, 0))


@pytest.mark.parametrize("clumped", [((675, 40), (75, 0)), ((675, 1), (75, 12))], ids=["on Heroku", "on EKS"])
def test_a_clump_of_either_leg_is_remembered_for_a_while(clumped: Pair) -> None:
    assert calm(learned([USUAL] * 20), "errors")
    after = [*[USUAL] * 20, clumped, USUAL]
    assert not calm(learned(after), "errors")
    assert not calm(learned([*after, *[USUAL] * 40]), "errors")
    assert calm(learned([*after, *[USUAL] * 400]), "errors")
    assert calm(learned(after), "slow"), "it is of errors"


def test_nothing_is_known_before_there_are_pools_of_both_legs() -> None:
    assert not calm(learned([USUAL] * 3), "errors")
    assert not calm(learned([((675, 1), (0, 0))] * 50), "errors")
    assert calm(learned([USUAL] * 4), "errors")


def test_a_leg_that_becomes_worse_and_stays_so_is_no_clump() -> None:
    rng = np.random.default_rng(1)
    pools: list[Pair] = [((675, rng.binomial(675, 0.001)), (75, rng.binomial(75, 0.001))) for _ in range(20)]
    worse: list[Pair] = [((675, rng.binomial(675, 0.001)), (75, 2 + n % 2)) for n in range(20)]
    for n in range(20):
        assert calm(learned(pools + worse[:n]), "errors")


def test_what_is_learned_survives_storage_and_begins_before_the_first_step() -> None:
    evidence = Evidence()
    for n in range(40):
        errors = 40 if n == 20 else 1
        evidence = learn(evidence, Block(n * 5.0, n * 5.0 + 5, leg(250, errors)))
    assert evidence.pools[0] == 13
    assert evidence.clumps["errors"][0] > 10 * evidence.clumps["errors"][1]
    loaded = Evidence.load(json.loads(json.dumps(evidence.dump())))
    assert loaded.clumps["errors"] == pytest.approx(evidence.clumps["errors"], rel=1e-5)
    assert (loaded.pools, loaded.last_pool) == (evidence.pools, evidence.last_pool)


def test_the_largest_clump_can_be_stored() -> None:
    evidence = learned([((1e12, 1e12), (1e12, 1e12)), ((1e12, 0), (1e12, 0))])
    loaded = Evidence.load(json.loads(json.dumps(evidence.dump())))
    assert not calm(loaded, "errors")


@pytest.mark.parametrize(("clumped", "share"), [(False, 2.5), (True, 4.5)])
def test_a_block_contributes_more_where_errors_come_one_by_one(clumped: bool, share: float) -> None:
    pairs = [*[USUAL] * 20, ((675, 1), (75, 12)) if clumped else USUAL, USUAL]
    before = learned(pairs)._replace(harm={"errors": (1.0, 1.0, 1.0, 1.0)})
    after = consume(
        before._replace(pool=(Counts(), Counts())),
        Block(0, 15, leg(675), leg(75, 75)),
        rules=RULES,
        weight=10,
        next_weight=25,
        observed_at=-1000,
    )
    assert max(after.harm["errors"]) == pytest.approx(math.exp(math.log(100) / share), rel=0.05)


def test_at_full_weight_nothing_is_known_of_shared_incidents() -> None:
    before = learned([USUAL] * 20)._replace(harm={"errors": (1.0, 1.0, 1.0, 1.0)}, pool=(Counts(), Counts()))
    block = Block(0, 15, leg(0), leg(750, 600))
    after = consume(before, block, rules=RULES, weight=100, next_weight=100, observed_at=-1000)
    assert max(after.harm["errors"]) == pytest.approx(math.exp(0.8 * math.log(100) / 4.5), rel=0.05)


def seconds_to_worse(rate: float, seed: int) -> float:
    """From the onset of 2 % errors on, 5 minutes into a step at 10 %."""
    run = Run(RULES, Evidence())
    blocks = blocks_of(
        np.random.default_rng(seed),
        Traffic(rate=rate),
        weight=10,
        seconds=900,
        block=15,
        regression=Regression(300, errors=0.02),
    )
    end = run.step(blocks, 10, 25, until=lambda judgement: judgement.worse)
    assert end is not None
    return end - 300


@pytest.mark.parametrize(("rate", "limit"), [(50, 205), (500, 120)])
def test_independent_errors_are_found_sooner(rate: float, limit: float) -> None:
    times = sorted(seconds_to_worse(rate, seed) for seed in range(9))
    assert times[0] > 0
    assert times[4] <= limit
