"""Clocks that are set, and machines that are suspended, at every moment of a migration: nothing surprising comes of it.

Moments are found as in the kill matrix (see :mod:`kill_matrix`); here the process lives on, with other clocks. What ends
must be what ends undisturbed, and not earlier: no hold, window, freeze or timeout is over because a clock says so. A
machine that is set costs no time at all; one that slept costs what it slept. ``KILL_MATRIX=full`` takes all moments,
otherwise a few are drawn by ``KILL_MATRIX_SEED``. The table is printed with ``-s``.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import httpx
import pytest
from tests.kit import kill_scenarios
from tests.kit.kill_matrix import (
    Branch,
    Comparison,
    Happening,
    KillableWorld,
    Run,
    Scenario,
    at_gateway,
    branched,
    compare,
    cover,
    run,
)
from tests.kit.kill_scenarios import LONGEST, SCENARIOS, begin, told
from tests.kit.loop_rig import LoopRig
from tests.kit.sampler_rig import SamplerRig
from tests.kit.world import START

from cutover.adapters.prometheus.client import PrometheusClient
from cutover.api.v1alpha1 import Phase
from cutover.domain.engine.actions import Decision, WakeAfter
from cutover.domain.holds import HoldReason
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.services import apply
from cutover.services import plan_loop as reconciler

FULL = os.environ.get("KILL_MATRIX") == "full"
SEED = int(os.environ.get("KILL_MATRIX_SEED", "1"))
#: Moments of each scenario for each disturbance.
MOMENTS = 3
HOUR = 3600.0
#: Seconds by which the end may come earlier or later: reconciles begin at other times, blocks are judged a block later, and a
#: clock is compared again.
SLACK = 15.0
#: Seconds until a weight that was taken back is asked for again.
AGAIN = 240.0


@dataclass(frozen=True)
class Step:
    """Something that is done to a clock.

    Parameters
    ----------
    slept
        Seconds for which nobody looked after the plan.
    """

    name: str
    do: Callable[[KillableWorld], object]
    slept: float = 0.0


SET = (
    Step("an hour forward", lambda world: world.set_clock(HOUR)),
    Step("an hour back", lambda world: world.set_clock(-HOUR)),
    Step("30 s forward", lambda world: world.set_clock(30.0)),
    Step("30 s back", lambda world: world.set_clock(-30.0)),
)
ALL_SLEPT = Step("all suspended", lambda world: world.black_out(HOUR), HOUR)
SLEPT = (
    Step("suspended", lambda world: world.stop(HOUR), HOUR),
    Step("paused, and told", lambda world: world.pause(HOUR, told=True), HOUR),
    ALL_SLEPT,
)
#: The machine believes for a minute that the last hour is still to come.
UNTOLD = Step("paused, and not told", lambda world: world.pause(HOUR, told=False), HOUR)


def opens_at(minutes: int) -> dict[str, Any]:
    """Return a schedule whose only window opens some minutes after the migration begins."""
    return {"windows": [{"days": ["Mon"], "from": f"10:{minutes:02}", "to": "23:59"}]}


def thin(world: KillableWorld) -> None:
    world.rate = 0.05


BY_THE_CLOCK = (
    Scenario("window opens", Phase.COMPLETED, spec={"schedule": opens_at(5)}),
    Scenario(
        "window closes later",
        Phase.COMPLETED,
        spec={"schedule": {"windows": [{"days": ["Mon"], "from": "09:30", "to": "10:30"}]}},
    ),
    Scenario(
        "frozen later",
        Phase.COMPLETED,
        spec={
            "schedule": {
                "freezes": [{"from": "2027-01-11T10:30:00Z", "to": "2027-01-11T12:00:00Z", "reason": "sales"}],
            }
        },
    ),
    Scenario(
        "step times out",
        Phase.ROLLED_BACK,
        spec={
            "steps": [
                {"weight": 10, "hold": "15s"},
                {"weight": 25, "hold": "15s", "timeout": "4m", "onTimeout": "RollBack"},
                {"weight": 100, "hold": "15s"},
            ]
        },
        happenings=(Happening(at_gateway(25), 8, thin),),
    ),
    Scenario(
        "long holds",
        Phase.COMPLETED,
        spec={"steps": [{"weight": 10, "hold": "3m"}, {"weight": 100, "hold": "15s"}], "soak": "3m"},
    ),
)
#: Those in which a clock that jumps could have a say, besides those made for it.
ALSO = tuple(
    one
    for one in SCENARIOS
    if one.name
    in (
        "good",
        "errors at 25 %",
        "bound at 50 %",
        "own ratio at 25 %",
        "dead in the soak",
        "attempt raised",
        "route edited",
        "ceiling lowered",
        "deleted at 25 %",
        "errors at 25 %, with outages",
    )
)
ALL = {one.name: one for one in (*ALSO, *BY_THE_CLOCK)}


def undisturbed(scenario: str) -> Run:
    return kill_scenarios.undisturbed(ALL[scenario])


#: What an hour makes another story of: the calendar has changed, or users went by an edited route for so long.
OTHERWISE = ("window opens", "window closes later", "frozen later", "route edited")
#: The calendar goes by the operator's own clock: with a clock that is wrong, windows and freezes are, too.
CALENDAR = ("window opens", "window closes later", "frozen later")
Row = tuple[str, str, list[Comparison]]


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    rows: list[Row] = []
    yield rows
    print(f"\n{'scenario':34} {'clock':22} runs differ earlier later rollback")
    for scenario, step, found in rows:
        print(
            f"{scenario:34} {step:22} {len(found):4} {sum(bool(one.differences) for one in found):6} "
            f"{min(one.delay for one in found):7.1f} {max(one.delay for one in found):5.1f} "
            f"{max(one.back_delay for one in found):8.1f}"
        )


def moments(scenario: str, step: Step) -> list[int]:
    """Return the calls at which it happens: one of each kind between two writes, and some of the others."""
    points = undisturbed(scenario).points
    if step.slept and scenario in ("step times out", "ceiling lowered"):
        # A raise that is taken back, or whose time is over before it is at the gateway, is another story. So is a ceiling
        # that is lowered and raised again in the hour slept.
        points = [point for point in points if not any(kind.torn for kind in point.kinds)]
    if FULL:
        return [point.number for point in points]
    torn = [point for point in cover(points) if any(kind.torn for kind in point.kinds)]
    draw = random.Random(f"{SEED} {scenario} {step.name}")
    return sorted({point.number for point in (*draw.sample(torn, min(1, len(torn))), *draw.sample(points, MOMENTS))})


def withdrawn(world: KillableWorld) -> bool:
    """Take the raise out of the ledger that was taken back: the machine slept before it came to the route."""
    ledger = list(world.stored.ledger)
    for number, entry in enumerate(ledger):
        if entry.decision == "Withdraw":
            raises = [at for at in range(number) if ledger[at].decision in ("Advance", "Forward")]
            world.expect(
                ledger[raises[-1]].to_weight == entry.from_weight, f"{entry.message} took back something else"
            )
            kept = (*ledger[: raises[-1]], *ledger[raises[-1] + 1 : number], *ledger[number + 1 :])
            world.stored = world.stored.model_copy(update={"ledger": kept})
            return True
    return False


def seen_by_probes_first(world: KillableWorld) -> None:
    """Take the hold out of the ledger with which probes find a leg that died while everything slept.

    There are no samples from before the end of the sleep, so the first blocks cannot be judged. Probes need no samples: they
    are a moment ahead of the users' requests, and alone they hold.
    """
    ledger = world.stored.ledger
    for number, (entry, after) in enumerate(pairwise(ledger)):
        at_once = (after.at - entry.at).total_seconds() <= SLACK
        if (entry.reason, after.decision) == (HoldReason.EKS_PROBES_FAIL, "RollBack") and at_once:
            world.stored = world.stored.model_copy(update={"ledger": (*ledger[:number], *ledger[number + 1 :])})
            return


def judge(scenario: str, step: Step, number: int, other: Run) -> Comparison:
    truth = undisturbed(scenario)
    most = step.slept + (2 * SLACK if step.slept else SLACK)
    if step.slept and withdrawn(other.world):
        most += AGAIN
    if step is ALL_SLEPT:
        seen_by_probes_first(other.world)
    found = compare(truth, other)
    wrong = list(found.differences)
    for what, delay in (("end", found.delay), ("rollback", found.back_delay)):
        if not -SLACK <= delay <= most:
            wrong.append(f"{what} {delay:+.1f} s from undisturbed")
    where = next(point for point in truth.points if point.number >= number)
    seconds = where.world.now - START
    return Comparison(
        tuple(f"{step.name} at call {number} ({seconds:.1f} s, {where.world.between}): {one}" for one in wrong),
        found.resumed,
        found.delay,
        found.back_delay,
        found.untold,
        found.twice,
    )


@dataclass(frozen=True)
class Unknowing:
    """What became of a machine that does not know that it slept."""

    phase: Phase | None
    happened: bool
    gone: bool
    broken: tuple[str, ...]
    faults: tuple[str, ...]


def what_became(other: Run) -> Unknowing:
    world = other.world
    return Unknowing(world.stored.phase, bool(world.happened), world.gone, tuple(world.broken), other.faults)


def branches(scenario: str, step: Step) -> list[Branch]:
    if step is UNTOLD:
        return [Branch((number, step.do), LONGEST + 2 * HOUR, what_became) for number in moments(scenario, step)]
    return [
        Branch((number, step.do), LONGEST + 2 * step.slept, functools.partial(judge, scenario, step, number))
        for number in moments(scenario, step)
    ]


@functools.cache
def disturbed(scenario: str, of: tuple[Step, ...]) -> dict[str, list[Any]]:
    """Return what became of the migration by the step: all of them go the same way until something is done."""
    wanted = {step.name: branches(scenario, step) for step in of}
    told = iter(branched(begin(ALL[scenario]), [branch for some in wanted.values() for branch in some]))
    return {name: [next(told) for _ in some] for name, some in wanted.items()}


def outcomes(scenario: str, step: Step) -> list[Any]:
    # Those of one test function, as others may be run by another worker; and all moments are too many for one test.
    together = next(some for some in (SET, SLEPT, (UNTOLD,)) if step in some)
    return disturbed(scenario, (step,) if FULL else together)[step.name]


@pytest.mark.parametrize("step", SET, ids=lambda step: step.name)
@pytest.mark.parametrize("scenario", [name for name in ALL if name not in CALENDAR])
def test_a_clock_that_is_set_changes_nothing(scenario: str, step: Step, table: list[Row]) -> None:
    found = outcomes(scenario, step)
    table.append((scenario, step.name, found))
    assert not any(one.differences for one in found), told(found)


@pytest.mark.parametrize("step", SLEPT, ids=lambda step: step.name)
@pytest.mark.parametrize("scenario", [name for name in ALL if name not in OTHERWISE])
def test_a_machine_that_slept_does_what_is_due(scenario: str, step: Step, table: list[Row]) -> None:
    """What happened meanwhile is judged with what Prometheus has of it; a timeout that is over is over."""
    found = outcomes(scenario, step)
    table.append((scenario, step.name, found))
    assert not any(one.differences for one in found), told(found)


@pytest.mark.parametrize("scenario", [name for name in ALL if name not in OTHERWISE])
def test_a_machine_that_does_not_know_that_it_slept_raises_nothing_unseen(scenario: str) -> None:
    """Until clocks are compared it may judge the requests of an hour ago by the weight of now, and go back for it."""
    for other in outcomes(scenario, UNTOLD):
        assert not other.faults
        assert not [text for text in other.broken if "no end within" not in text]
        if ALL[scenario].end is None and other.happened:
            assert other.gone
        else:  # it may go back before the weight at which it would have been deleted
            assert other.phase in (ALL[scenario].end, Phase.ROLLED_BACK)


def test_a_branch_is_what_a_run_of_its_own_is() -> None:
    scenario = "errors at 25 %"
    for step in (SET[1], SLEPT[0]):
        number, found = moments(scenario, step)[-1], outcomes(scenario, step)[-1]
        alone = run(begin(ALL[scenario]), most=LONGEST + 2 * step.slept, disturb=(number, step.do))
        assert judge(scenario, step, number, alone) == found


def test_a_branch_that_cannot_tell_its_result_ends_and_says_why() -> None:
    """It must not go on as a second copy of the tests."""
    scenario, mine = "errors at 25 %", os.getpid()
    number = moments(scenario, SET[1])[-1]
    branch = Branch((number, SET[1].do), LONGEST, told=lambda _: lambda: None)
    with pytest.raises(AssertionError, match="pickle"):
        branched(begin(ALL[scenario]), [branch])
    assert os.getpid() == mine


# ------------------------------------------------------------------------------------------------------- part by part


@pytest.mark.parametrize("measured", [True, False])
async def test_prometheus_time_goes_on_when_the_clock_is_set(measured: bool) -> None:
    """At once, and not when clocks are compared the next time: what is decided until then is written with that time."""
    set_by = 0.0

    async def answer(request: httpx.Request) -> httpx.Response:
        result = [{"metric": {}, "value": [0, f"{time.time():.3f}"]}]
        return httpx.Response(200, json={"status": "success", "data": {"resultType": "vector", "result": result}})

    def wall() -> float:
        return time.time() + set_by

    client = PrometheusClient("http://prometheus", transport=httpx.MockTransport(answer), now=wall)
    if measured:
        await client.compare_clocks()
    for set_by in (HOUR, -HOUR, 30.0, 0.0):  # noqa: B007 -- wall() reads it
        assert wall() + client.skew == pytest.approx(time.time(), abs=0.1)


@pytest.mark.parametrize("behind", [HOUR, -HOUR])
async def test_a_pause_after_a_failure_stays_short(behind: float) -> None:
    world = SamplerRig()
    world.sampler.watch("ns/0", world.target(0))
    await world.read(2)
    world.tsdb.down = "down"
    await world.read(1)
    world.set_clock(behind)
    world.tsdb.down = ""
    await world.ask_at(world.tsdb.now + 6)
    samples = world.sampler.take("ns/0")
    assert len(samples.blocks) == 3
    assert not samples.error


async def test_scrapes_that_move_are_found_after_the_clock_was_set_back() -> None:
    world = SamplerRig(phase=None)
    world.sampler.watch("ns/0", world.target(0))
    await world.read(2)
    looked = sum("timestamp" in promql for promql, _ in world.tsdb.queries)
    world.set_clock(HOUR)
    await world.read(4)
    assert sum("timestamp" in promql for promql, _ in world.tsdb.queries) > looked


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Observation]:
    """What reconciles see; nothing is decided."""
    passes: list[Observation] = []

    def decided(plan: Plan, observation: Observation, now: float) -> Decision:
        passes.append(observation)
        return Decision(plan.status, (), wake=WakeAfter(5.0))

    monkeypatch.setattr(reconciler, "decide", decided)
    return passes


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
async def test_what_a_pass_compares_times_with_is_not_set(seen: list[Observation], seconds: float) -> None:
    world = LoopRig()
    loop = world.loop()
    await loop.reconcile()
    began, asked = seen[-1].since, asyncio.Event()

    async def probing() -> None:
        world.now, world.skew = world.now + seconds, world.skew - seconds
        asked.set()

    world.probing = probing
    world.now += 20
    real = world.now
    await loop.reconcile()
    await asked.wait()
    await asyncio.sleep(0)
    await loop.reconcile()
    assert seen[-1].since == began
    assert seen[-1].probe is not None
    assert seen[-1].probe.at == real


async def test_after_a_sleep_nothing_old_is_believed(seen: list[Observation]) -> None:
    world = LoopRig()
    loop = world.loop()
    for _ in range(2):
        await loop.reconcile()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert seen[-1].probe is not None
    world.now += HOUR
    await loop.reconcile()
    assert seen[-1].probe is None
    assert seen[-1].since == world.now


async def test_what_waits_for_a_while_does_not_wait_longer_after_the_clock_was_set_back(
    seen: list[Observation],
) -> None:
    world = LoopRig()
    loop = world.loop()
    await loop.reconcile()
    loop._applier._repairs.extend([world.now] * apply.REPAIRS_AT_ONCE)
    assert loop._applier.fought_over
    loop._failed()
    world.now -= HOUR
    assert not loop._applier.fought_over
    loop._failed()
    assert loop.failing_since == world.now
