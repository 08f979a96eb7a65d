"""Replays on made-up records of which it is known what they have to say."""

from __future__ import annotations

import asyncio
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit import builders
from tests.kit.fake_tsdb import EKS, HEROKU, NAMESPACE, FakePrometheus, Gateway
from tests.kit.fake_tsdb import START as TSDB_START

from cutover.adapters.dialects.istio.counters import IstioDialect
from cutover.api.v1alpha1 import BacktestStatus, BaselineStatus, MigrationPlanSpec, MigrationPlanStatus
from cutover.cli.backtest import main
from cutover.cli.plan_file import read_plan
from cutover.domain.backtest.climbing import least_seconds
from cutover.domain.backtest.few_requests import ways
from cutover.domain.backtest.forecast import Forecast, clopper_pearson, quantile
from cutover.domain.backtest.record import Record
from cutover.domain.backtest.replay import NotPossible, backtest
from cutover.domain.backtest.splitting import Split, legs, take
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.tolerances import gate_rules
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription
from cutover.services import backtest_process
from cutover.services.backtest import read_record, read_thresholds
from cutover.services.backtest_process import Backtests

ROOT = Path(__file__).resolve().parents[2]
LENGTH = 15.0
DIALECT = IstioDialect()
BLOCKS_A_DAY = 5760
MINIMAL: dict[str, Any] = yaml.safe_load((ROOT / "examples/minimal.yaml").read_text(encoding="utf-8"))


def documented() -> dict[float, list[float]]:
    """Return what docs say of the same kind of traffic: requests/s → seconds until each step is proven safe."""
    page = (ROOT / "docs/gates.md").read_text(encoding="utf-8")
    table = page.partition("Time until a step is proven safe")[2].partition("\n\n")[2].partition("\n\n")[0]
    head, _, *lines = ([cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines() if "|" in line)
    found: dict[float, list[float]] = {}
    for column, rate in enumerate(head):
        if rate in ("10", "50"):
            found[float(rate)] = [float(line[column].partition(" s ")[0]) for line in lines]
    return found


PROVEN = documented()

Ratios = Callable[[np.random.Generator, int, int], Any]


def spec(hold: str = "1m", **fields: Any) -> MigrationPlanSpec:
    steps = [{"weight": weight, "hold": hold} for weight in (10, 25, 50, 100)]
    return MigrationPlanSpec.from_wire({**MINIMAL["spec"], "steps": steps, **fields})


def steady(rng: np.random.Generator, gateway: int, blocks: int) -> Any:
    return np.full(blocks, 0.001)


def clumps(rng: np.random.Generator, gateway: int, blocks: int) -> Any:
    """Everywhere at once, in single blocks, one in four: as of a dyno that fails, which all gateways see."""
    return np.where(np.random.default_rng(5).random(blocks) < 1 / 4, 0.2, 0.001)


def sick_gateway(rng: np.random.Generator, gateway: int, blocks: int) -> Any:
    """The first gateway fails half of its requests for 90 s, four times an hour."""
    sick = (np.arange(blocks) % 60 < 6) & (gateway == 0)
    return np.where(sick, 0.5, 0.001)


def record(
    rate: float, *, days: float = 1.0, gateways: int = 2, errors: Ratios = steady, gaps: float = 0.0, seed: int = 1
) -> Record:
    """Make a record whose slow and very slow requests are independent of each other, 4 % and 0.1 %."""
    rng = np.random.default_rng(seed)
    number = round(days * BLOCKS_A_DAY)
    lost = rng.random(number) < gaps
    per_gateway: dict[str, list[Block]] = {}
    for gateway in range(gateways):
        requests = rng.poisson(rate * LENGTH / gateways, number)
        bad = rng.binomial(requests, errors(rng, gateway, number))
        very_slow = rng.binomial(requests, 0.001)
        slow = np.minimum(requests, very_slow + rng.binomial(requests, 0.039))
        rows = np.stack([requests, bad, requests, slow, very_slow], axis=1).tolist()
        per_gateway[f"gw-{gateway}"] = [
            Block(LENGTH * n, LENGTH * (n + 1), Counts(*map(float, row)), gap="lost" if gone else "")
            for n, (row, gone) in enumerate(zip(rows, lost.tolist(), strict=True))
        ]
    made = Record(LENGTH)
    together = [
        Block(blocks[0].start, blocks[0].end, sum((one.heroku for one in blocks), Counts()), gap=blocks[0].gap)
        for blocks in zip(*per_gateway.values(), strict=True)
    ]
    half = number // 2  # as it is read: in parts
    for part in (slice(None, half), slice(half, None)):
        made.add(together[part], {name: blocks[part] for name, blocks in per_gateway.items()})
    return made


# --------------------------------------------------------------------------------------------- what it has to find out


@pytest.mark.parametrize("split", ["instances", "time"])
@pytest.mark.parametrize("rate", sorted(PROVEN))
def test_a_steady_service_is_let_through_in_the_times_of_the_documentation(rate: float, split: Split) -> None:
    predicted = backtest(record(rate), spec(), runs=60, split=split)
    assert (predicted.false_rollbacks, predicted.stuck) == (0, 0)
    assert predicted.within
    assert [step.weight for step in predicted.steps] == [10, 25, 50]
    for step, seconds in zip(predicted.steps, PROVEN[rate], strict=True):
        assert step.proven_seconds == pytest.approx(seconds, rel=0.25)
        # A leg at 10 % has 10 % of the traffic.
        assert step.requests == pytest.approx(rate * step.weight / 100 * step.proven_seconds, rel=0.25)
        assert step.seconds <= step.slowest_seconds
    assert predicted.seconds == pytest.approx(sum(step.seconds for step in predicted.steps), rel=0.1)


def test_the_hold_is_kept() -> None:
    predicted = backtest(record(50), spec(hold="10m"), runs=20)
    assert len(predicted.steps) == 3
    assert all(step.seconds >= 600 for step in predicted.steps)
    assert predicted.seconds is not None
    assert 1800 <= predicted.seconds < 2400


def test_a_gateway_that_fails_now_and_then_is_predicted_to_roll_back() -> None:
    predicted = backtest(record(50, errors=sick_gateway), spec(hold="10m"), runs=40)
    assert predicted.split == "instances"
    assert predicted.false_rollbacks > 4
    assert not predicted.within
    assert f"{predicted.false_rollbacks} were rolled back with nothing to find" in predicted.sentence()


def test_thinned_at_random_only_the_same_trouble_would_not_show() -> None:
    """Both gateways in one, and by requests at random: what the splits are for."""
    together = record(50, errors=sick_gateway)
    usable, counts = together.arrays()
    rng = np.random.default_rng(1)
    merged = counts.sum(axis=0, keepdims=True)
    worst = 0.0
    for _, heroku, eks in legs(rng, usable, merged, order=[0], position=0, weight=0.5, split="instances"):
        if heroku.errors > 50:
            worst = max(worst, abs(eks.errors / eks.requests - heroku.errors / heroku.requests))
    assert worst < 0.12
    split = legs(rng, usable, counts, order=[0, 1], position=0, weight=0.5, split="instances")
    assert max(eks.errors / eks.requests for _, heroku, eks in split if heroku.errors < 5) > 0.4


def test_clumps_cost_time() -> None:
    steps = [{"weight": weight, "hold": "5m", "timeout": "30m"} for weight in (10, 25, 50)]
    plan = spec(steps=[*steps, {"weight": 100}])
    calm, clumped = (backtest(record(50, errors=errors), plan, runs=30, split="time") for errors in (steady, clumps))
    assert calm.stuck == 0
    assert clumped.stuck > 3
    assert clumped.seconds is not None
    assert calm.seconds is not None
    assert clumped.seconds > calm.seconds
    assert re.search(r"not proven safe within 30 min in \w+ runs?: there is traffic enough", clumped.sentence())


def test_a_split_by_time_finds_more_than_one_by_gateways_where_all_gateways_suffer() -> None:
    by_gateway, by_time = (
        backtest(record(50, errors=clumps), spec(), runs=30, split=split) for split in ("instances", "time")
    )
    assert sum(step.proven_seconds for step in by_gateway.steps) < sum(step.proven_seconds for step in by_time.steps)


def test_little_traffic_is_stuck_and_says_what_it_takes() -> None:
    steps = [{"weight": 10, "hold": "1m", "timeout": "40m"}, {"weight": 25, "hold": "1m"}, {"weight": 100}]
    predicted = backtest(record(1.0), spec(steps=steps), runs=20, split="time")
    assert predicted.stuck > 5
    assert predicted.false_rollbacks == 0
    assert re.search(
        r"step at 10 % was not proven safe within 40 min in \d+ runs: 1 requests/s bring 2\d\d EKS requests in that",
        predicted.sentence(),
    )
    with pytest.raises(
        NotPossible,
        match=r"too little traffic: the step at 10 % needs at least 150 .* 0\.0\d+ requests/s would be needed",
    ):
        backtest(record(0.02), spec(), runs=20)


@pytest.mark.parametrize(
    ("rate", "fields", "said"),
    [
        (50.0, {}, []),
        (
            0.2,
            {},
            ["10 % 2.1 h (150 EKS requests)", "With the steps 50, 100 it takes at least", "AskPeople, a person may"],
        ),
        (
            0.2,
            {"gates": {"insufficientTraffic": "AskPeople"}},
            [
                "As gates.insufficientTraffic is AskPeople, a person",
                "AcceptProbes and traffic.probe.rate: 1, probes of",
            ],
        ),
        (
            0.2,
            {
                "gates": {"insufficientTraffic": "AcceptProbes"},
                "traffic": {**builders.spec_fields()["traffic"], "probe": {"rate": 0.5}},
            },
            [
                "As gates.insufficientTraffic is AcceptProbes and traffic.probe.rate: 0.5, probes of both legs may prove"
            ],
        ),
        (
            50.0,
            {"steps": [{"weight": 10, "minRequests": 36_000}, {"weight": 100}]},
            ["10 % 2.0 h (36,000 EKS requests)"],
        ),
    ],
)
def test_few_requests_are_told_with_the_ways_out(rate: float, fields: dict[str, Any], said: list[str]) -> None:
    plan = spec(**fields)
    told = " ".join(ways(plan, gate_rules(plan), rate))
    assert [one for one in said if one not in told] == []
    assert bool(told) is bool(said)


def test_the_example_in_the_docs_is_what_is_told() -> None:
    plan = MigrationPlanSpec.from_wire(MINIMAL["spec"])
    page = (ROOT / "docs/backtest.md").read_text(encoding="utf-8")
    for sentence in ways(plan, gate_rules(plan), 0.2):
        assert f"{sentence}\n" in page


def test_too_little_traffic_for_a_replay_is_told_with_the_ways_out() -> None:
    with pytest.raises(NotPossible, match=r"would be needed\. At 0\.0\d+ requests/s even a faultless EKS leg takes"):
        backtest(record(0.02), spec(), runs=20)


def test_min_requests_are_replayed() -> None:
    steps = [{"weight": 10, "hold": "1m", "minRequests": 3000}, {"weight": 25, "hold": "1m"}, {"weight": 100}]
    first, _ = backtest(record(50, days=0.2), spec(steps=steps), runs=5).steps
    assert first.seconds == pytest.approx(600, rel=0.2)


def test_a_record_without_gaps_is_faster_than_one_with() -> None:
    whole, holed = (backtest(record(10, gaps=gaps), spec(), runs=20) for gaps in (0.0, 0.3))
    assert holed.unusable == pytest.approx(0.3, abs=0.02)
    assert holed.false_rollbacks == 0
    for one, other in zip(whole.steps, holed.steps, strict=True):
        assert one.proven_seconds < other.proven_seconds


def test_runs_that_overlap_are_told_of() -> None:
    assert "fit into the record side by side" in backtest(record(50, days=0.1), spec(), runs=60).sentence()
    assert "side by side" not in backtest(record(50, days=2), spec(), runs=60).sentence()


# --------------------------------------------------------------------------------------------------- what it stands on


def test_the_same_seed_gives_the_same_forecast() -> None:
    def once(seed: int) -> Forecast:
        return backtest(record(20, days=0.5), spec(), runs=10, seed=seed)

    assert once(1) == once(1)
    assert once(1) != once(2)


def test_it_is_split_by_instances_where_there_are_two_with_enough_traffic() -> None:
    assert backtest(record(50), spec(), runs=2).split == "instances"
    assert backtest(record(50, gateways=1), spec(), runs=2).split == "time"
    unequal = Record(LENGTH)
    busy = [Block(LENGTH * n, LENGTH * (n + 1), Counts(700, 1, 700, 20, 1)) for n in range(2000)]
    idle = [Block(block.start, block.end, Counts(50, 0, 50, 2, 0)) for block in busy]
    both = [Block(b.start, b.end, b.heroku + i.heroku) for b, i in zip(busy, idle, strict=True)]
    unequal.add(both, {"busy": busy, "idle": idle})
    assert backtest(unequal, spec(), runs=2).split == "time"


@pytest.mark.parametrize(
    ("fields", "made", "reason"),
    [
        ({"steps": [{"weight": 100}]}, record(50, days=0.1), "no step below 100 %"),
        ({"hold": "12h"}, record(50, days=0.5), r"the record is 12\.0 h long, and one cutover takes at least 36\.0 h"),
        ({}, Record(LENGTH), "no requests of Heroku"),
        ({}, record(0, days=0.1), "no requests of Heroku"),
        (
            {
                "gates": {
                    "slos": [
                        {"name": "errors", "mode": "Observe", "errors": {}},
                        {"name": "answers", "mode": "Observe", "answers": {}},
                    ]
                }
            },
            record(5, days=0.1),
            "none of errors, latency and answers",
        ),
    ],
)
def test_what_cannot_be_replayed_is_said(fields: dict[str, Any], made: Record, reason: str) -> None:
    with pytest.raises(NotPossible, match=reason):
        backtest(made, spec(**fields), runs=2)


def test_the_least_record_is_enough() -> None:
    plan = spec(hold="10m")
    made = record(50, days=(least_seconds(plan) + 20 * LENGTH) / 86_400, gateways=1)
    assert backtest(made, plan, runs=3).split == "time"


def test_the_status_is_what_the_api_takes() -> None:
    predicted = backtest(record(50, days=0.2), spec(), runs=5)
    status = predicted.status()
    assert BacktestStatus.from_wire(json.loads(json.dumps(status.to_wire()))) == status
    assert status.runs == 5
    assert status.message == predicted.sentence()


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    backtest(record(50, days=0.1), spec(), runs=4, on_progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("trials", [1, 20, 200, 5000])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 1.0])
def test_the_interval_is_exact(trials: int, fraction: float) -> None:
    """At either end what was seen, or more extreme, has a chance of 2.5 %."""
    events = round(trials * fraction)
    low, high = clopper_pearson(events, trials)

    def chance(of: Sequence[int], probability: float) -> float:
        logs = [
            math.log(math.comb(trials, k)) + k * math.log(probability) + (trials - k) * math.log1p(-probability)
            for k in of
        ]
        return math.fsum(map(math.exp, logs))

    assert low == 0 if events == 0 else chance(range(events, trials + 1), low) == pytest.approx(0.025, rel=1e-6)
    assert high == 1 if events == trials else chance(range(events + 1), high) == pytest.approx(0.025, rel=1e-6)


def test_quantiles() -> None:
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2
    assert quantile([math.inf, 1.0, 2.0], 0.9) == math.inf
    assert quantile([1.0], 0.9) == 1


# ------------------------------------------------------------------------------------------------------------ the splits


@st.composite
def counts_of(draw: st.DrawFn, instances: int | None = None) -> Any:
    """Counts of some instances and blocks that hold together as a gateway's do."""
    shape = (instances or draw(st.integers(1, 4)), draw(st.integers(0, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    requests = rng.integers(0, draw(st.sampled_from([1, 3, 50, 100_000])) + 1, shape)
    timed = np.clip(requests + rng.integers(-3, 4, shape), 0, None)  # the histogram lags, or catches up
    errors = rng.binomial(requests, rng.random(shape))
    slow = rng.binomial(timed, rng.random(shape))
    very_slow = rng.binomial(slow, rng.random(shape))
    left, classes = requests - errors, []
    for _ in range(4):  # refused, redirected, throttled, excepted
        classes.append(rng.binomial(left, rng.random(shape)))
        left = left - classes[-1]
    return np.stack([requests, errors, timed, slow, very_slow, *classes], axis=-1)


def row(counts: Counts) -> list[float]:
    return list(counts)


@given(counts=counts_of(), seed=st.integers(0, 1000), weight=st.sampled_from([0.01, 0.1, 0.5, 0.95]))
def test_no_request_is_lost_or_doubled_between_instances(counts: Any, seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    usable = rng.random(counts.shape[1]) < 0.8
    order = rng.permutation(len(counts)).tolist()
    split = list(legs(rng, usable, counts, order=order, position=0, weight=weight, split="instances"))
    assert [not gap for gap, _, _ in split] == usable.tolist()
    assert [row(heroku + eks) for _, heroku, eks in split] == counts.sum(axis=0).tolist()
    for _, heroku, eks in split:
        for leg in (heroku, eks):
            assert 0 <= leg.errors <= leg.requests
            assert leg.ok >= 0
            assert 0 <= leg.very_slow <= leg.slow <= leg.timed


@given(counts=counts_of(instances=1), seed=st.integers(0, 1000), weight=st.sampled_from([0.01, 0.1, 0.5, 0.95]))
def test_a_pair_of_blocks_keeps_half_of_its_requests(counts: Any, seed: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    usable = rng.random(counts.shape[1]) < 0.8
    split = list(legs(rng, usable, counts, order=[0], position=0, weight=weight, split="time"))
    assert len(split) == counts.shape[1] // 2
    for number, (gap, heroku, eks) in enumerate(split):
        there = counts[0, 2 * number : 2 * number + 2].sum(axis=0)
        assert gap == (not usable[2 * number : 2 * number + 2].all())
        assert heroku.requests + eks.requests in (there[0] // 2, (there[0] + 1) // 2)
        assert all(taken <= most for taken, most in zip(row(heroku + eks), there.tolist(), strict=True))
        for leg in (heroku, eks):
            assert 0 <= leg.errors <= leg.requests
            assert leg.ok >= 0
            assert 0 <= leg.very_slow <= leg.slow <= leg.timed


def test_no_request_of_a_pair_is_in_both_legs() -> None:
    """Four requests, one error, one refused; two are taken, and where each leg has one, only one of them is the error."""
    counts = np.tile([[4, 1, 4, 1, 1, 1, 0, 0, 0], [0] * 9], (2000, 1)).reshape(1, 4000, 9)
    usable = np.ones(4000, dtype=bool)
    split = legs(np.random.default_rng(1), usable, counts, order=[0], position=0, weight=0.5, split="time")
    taken = [row(heroku + eks) for _, heroku, eks in split]
    assert {requests for requests, *_ in taken} == {2}
    assert max(errors for _, errors, *_ in taken) == 1
    assert max(slow for _, _, _, slow, *_ in taken) == 1
    assert max(refused for *_, refused, _, _, _ in taken) == 1


@given(counts=counts_of(), seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_what_is_taken_was_there(counts: Any, seed: int, share: float) -> None:
    requests = np.floor(share * counts[..., 0]).astype(np.int64)
    taken = take(np.random.default_rng(seed), counts, requests)
    assert (taken[..., 0] == requests).all()
    assert ((taken >= 0) & (taken <= counts)).all()
    rest = counts - taken
    for part in (taken, rest):
        assert (part[..., 1] <= part[..., 0]).all()
        assert (part[..., 3] <= part[..., 2]).all()
        assert (part[..., 4] <= part[..., 3]).all()
        assert (part[..., 1] + part[..., 5:].sum(axis=-1) <= part[..., 0]).all()


@pytest.mark.parametrize("split", ["instances", "time"])
@settings(max_examples=20)
@given(weight=st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.9]))
def test_a_leg_has_its_weight_of_requests_and_of_all_else(split: Split, weight: float) -> None:
    made = record(40, days=0.25, gateways=3 if split == "instances" else 1, errors=lambda rng, _, n: np.full(n, 0.05))
    usable, counts = made.arrays()
    order = list(range(len(counts)))
    parts = list(legs(np.random.default_rng(3), usable, counts, order=order, position=0, weight=weight, split=split))
    eks = np.array([row(eks) for _, _, eks in parts]).sum(axis=0)
    both = np.array([row(heroku + eks) for _, heroku, eks in parts]).sum(axis=0)
    spread = 5 * np.sqrt(both * weight * (1 - weight)) + 1
    assert (np.abs(eks - weight * both) <= spread).all()
    rate = both[0] / (len(parts) * LENGTH)
    assert rate == pytest.approx(40, rel=0.05)


# ------------------------------------------------------------------------------------------------- from Prometheus


def scraped(seconds: int, tsdb: FakePrometheus) -> Counts:
    """Serve by two gateways, one of which restarts and one of which is replaced; return what Heroku did in truth."""
    draw = random.Random(1)
    gateways = [Gateway("gw-0"), Gateway("gw-1")]
    truth = Counts()
    for second in range(seconds):
        for number, gateway in enumerate(gateways):
            for _ in range(draw.randint(0, 3)):
                code = "503" if draw.random() < 0.05 else "200"
                milliseconds = 400.0 if draw.random() < 0.1 else 20.0
                gateway.serve(HEROKU, code, milliseconds)
                gateway.serve(EKS)
                truth += Counts(1, code == "503", 1, milliseconds > 250, 0)
            if (second + 4 * number) % 15 == 0:
                gateway.scrape(tsdb, TSDB_START + second + 0.2)
        if second == seconds // 3:
            gateways[0].restart()
        if second == seconds // 2:
            gateways[1] = Gateway("gw-2")
    return truth


async def test_the_record_has_what_each_gateway_counted() -> None:
    tsdb = FakePrometheus()
    truth = scraped(6000, tsdb)
    target = BlockSubscription(HEROKU, "", (NAMESPACE,), 250.0, 1000.0, 15, TSDB_START)
    told: list[tuple[str, int, int]] = []
    made = await read_record(tsdb, DIALECT, target, end=TSDB_START + 6000, on_progress=lambda *args: told.append(args))
    usable, counts = made.arrays()
    assert len(counts) == 3
    assert usable.mean() > 0.95
    # One block is lost where a gateway is new; the first scrape, and what came after the last, is in none.
    assert counts[:, :, 0].sum() == pytest.approx(truth.requests, rel=0.02)
    for column, true in ((1, truth.errors), (3, truth.slow)):
        assert counts[:, :, column].sum() / counts[:, :, 0].sum() == pytest.approx(true / truth.requests, rel=0.05)
    assert (told[-1][1] >= 5970, told[-1][2]) == (True, 6000)
    assert max(int(query[query.rindex("[") + 1 : -3]) for query, _ in tsdb.queries) <= 3_700_000, "an hour at the most"


async def test_thresholds_come_from_the_last_day_where_nobody_names_them() -> None:
    tsdb = FakePrometheus()
    scraped(3000, tsdb)
    plan = Plan("shop", "pdf", "", 1, spec())
    target = BlockSubscription(HEROKU, "", (NAMESPACE,), None, None, 15, TSDB_START)
    chosen = await read_thresholds(tsdb, DIALECT, plan, target, end=TSDB_START + 3000)
    assert (chosen.slow_ms, chosen.very_slow_ms) == (1000.0, 1000.0), "it has no other bounds"
    named = Plan(
        "shop", "pdf", "", 1, spec(gates={"slos": [{"name": "l", "latency": {"slowMs": 250, "verySlowMs": 1000}}]})
    )
    tsdb.queries.clear()
    chosen = await read_thresholds(tsdb, DIALECT, named, target, end=TSDB_START + 3000)
    assert (chosen.slow_ms, chosen.very_slow_ms, tsdb.queries) == (250.0, 1000.0, [])
    with pytest.raises(NotPossible, match=r"takes 1,000; name slowMs"):
        await read_thresholds(tsdb, DIALECT, plan, target, end=TSDB_START + 60)


# ---------------------------------------------------------------------------------------------------------- the command


def run(arguments: list[str], text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cutover.cli.backtest", *arguments],
        input=text,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("CUTOVER_")}, **environ},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


NOWHERE = "http://127.0.0.1:9"
VALID = yaml.safe_dump(MINIMAL)


@pytest.mark.parametrize(
    ("arguments", "text", "reason"),
    [
        (["--plan", "-", "--prometheus", NOWHERE], VALID, "Prometheus at 127.0.0.1:9 cannot be connected to"),
        (["--plan", "-"], VALID, "CUTOVER_PROMETHEUS_URL: needed"),
        (
            ["--plan", "-", "--prometheus", "localhost"],
            VALID,
            "--prometheus: url: must start with http://",
        ),
        (["--plan", "nowhere.yaml"], "", "nowhere.yaml cannot be read: No such file or directory"),
        (["--plan", "-"], "a: [", "the standard input is not YAML in line"),
        (["--plan", "-"], "kind: Pod", "has no MigrationPlan"),
        (["--plan", "-"], f"{VALID}\n---\n{VALID}", "has 2 plans; choose one with --name"),
        (["--plan", "-", "--name", "other"], VALID, "has no MigrationPlan named other"),
        (["--plan", "-"], VALID.replace("hostname: ", "hostname: '_'\n    x: "), "spec.heroku.hostname"),
        (["--plan", "-", "--runs", "0"], VALID, "0 is not between 1 and 100000"),
        (["--plan", "-", "--days", "x"], VALID, "invalid days value: 'x'"),
        ([], "", "the following arguments are required: --plan"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    arguments: list[str], text: str, reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process: each start of another one takes a second."""
    for name in [name for name in os.environ if name.startswith("CUTOVER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert reason in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""


def test_json_says_it_too() -> None:
    done = run(["--plan", "-", "--prometheus", NOWHERE, "--json"], VALID)
    assert done.returncode == 1
    assert "Prometheus at 127.0.0.1:9" in json.loads(done.stdout)["backtest"]["message"]


def test_a_plan_is_found_among_other_documents(tmp_path: Path) -> None:
    path = tmp_path / "plan.yaml"
    freeze = {"from": "2026-12-20T00:00:00Z", "to": "2027-01-04T00:00:00Z", "reason": "holidays"}
    body = {**MINIMAL, "spec": {**MINIMAL["spec"], "schedule": {"freezes": [freeze]}}}
    # YAML reads times that are not quoted.
    text = yaml.safe_dump_all([{"kind": "Namespace"}, None, body]).replace(
        "'2026-12-20T00:00:00Z'", "2026-12-20T00:00:00Z"
    )
    path.write_text(text)
    plan = read_plan(str(path), None)
    assert plan.name == MINIMAL["metadata"]["name"]
    assert plan.spec.schedule is not None


# --------------------------------------------------------------------------------------------------- in the operator


TARGET = BlockSubscription(HEROKU, "", (NAMESPACE,), None, None, 15, 0.0)


async def test_the_operator_is_told_why_there_is_no_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_PROMETHEUS_URL", NOWHERE)
    status = await Backtests().forecast(Plan("shop", "pdf", "", 1, spec()), TARGET)
    assert status.runs == 0
    assert status.message.startswith("There is no forecast: Prometheus at 127.0.0.1:9 cannot be connected to")


async def test_a_replay_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTOVER_PROMETHEUS_URL", NOWHERE)
    status = await Backtests(timeout=0.01).forecast(Plan("shop", "pdf", "", 1, spec()), TARGET)
    assert "was not done within" in status.message


async def test_a_replay_ends_with_the_plan_that_asked_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()
        writer.close()

    async def start(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await begin(*command, **options))
        return started[-1]

    started, begin = list[asyncio.subprocess.Process](), asyncio.create_subprocess_exec
    monkeypatch.setattr(asyncio, "create_subprocess_exec", start)
    asked = asyncio.Event()
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    monkeypatch.setenv("CUTOVER_PROMETHEUS_URL", f"http://127.0.0.1:{port}")
    task = asyncio.create_task(Backtests().forecast(Plan("shop", "pdf", "", 1, spec()), TARGET))
    await asyncio.wait_for(asked.wait(), 300)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 60)
    # It did not end by itself, when Prometheus' time was over.
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    server.close()


def test_the_operator_does_not_load_numpy_for_it() -> None:
    code = "import sys, cutover.services.backtest_process, cutover.services.backtest; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_namespaces_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many plans of one namespace do not queue before those of all others."""
    began, running = list[str](), 0

    async def replay(command: Sequence[str], manifest: bytes) -> BacktestStatus:
        nonlocal running
        running += 1
        assert running == 1
        began.append(json.loads(manifest)["metadata"]["namespace"])
        await asyncio.sleep(0)
        running -= 1
        return BacktestStatus(runs=1, false_rollbacks=0, stuck=0)

    monkeypatch.setattr(backtest_process, "_in_a_process", replay)
    backtests = Backtests()
    plans = [
        *(Plan("many", f"p{number}", "", 1, spec()) for number in range(5)),
        *(Plan(name, "pdf", "", 1, spec()) for name in ("one", "two")),
    ]
    tasks = [asyncio.create_task(backtests.forecast(plan, TARGET)) for plan in plans]
    await asyncio.sleep(0)
    tasks[1].cancel()  # its plan is gone
    await asyncio.gather(*tasks, return_exceptions=True)
    assert began == ["many", "many", "one", "two", "many", "many"]
    assert (await backtests.forecast(plans[0], TARGET)).runs == 1


@pytest.mark.parametrize(
    ("source", "drain", "asks", "thresholds"),
    [
        (None, "logs", f"--service={HEROKU}", True),
        ("Gateway", "logs", f"--gateway-namespace={NAMESPACE}", True),
        ("Drain", "logs", "--drain-namespace=logs", False),
        ("Drain", None, f"--service={HEROKU}", True),
    ],
)
async def test_the_record_of_before_is_what_is_replayed(
    monkeypatch: pytest.MonkeyPatch, source: str | None, drain: str | None, asks: str, thresholds: bool
) -> None:
    asked = list[tuple[Sequence[str], dict[str, Any]]]()

    async def replay(command: Sequence[str], manifest: bytes) -> BacktestStatus:
        asked.append((command, json.loads(manifest)))
        return BacktestStatus(runs=1, false_rollbacks=0, stuck=0)

    monkeypatch.setattr(backtest_process, "_in_a_process", replay)
    baseline = {} if source is None else {"baseline": {"source": source}}
    recorded = BaselineStatus(since=datetime(2027, 1, 11, tzinfo=UTC), slow_ms=250, very_slow_ms=1000)
    plan = Plan("shop", "pdf", "", 1, spec(**baseline), MigrationPlanStatus(baseline=recorded))
    await Backtests(drain_namespace=drain).forecast(plan, TARGET)
    ((command, manifest),) = asked
    assert asks in command
    assert any(one.startswith("--drain") for one in command) == (not any(one.startswith("--serv") for one in command))
    # The gateway's thresholds say nothing about the times of Heroku's router.
    assert ("baseline" in manifest["status"]) == thresholds
