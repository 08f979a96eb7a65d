"""The kill matrix: whatever moment the operator is killed at, the migration ends as if it had not been.

See :mod:`kill_matrix` for how points are found. Here each kind of point (which call, before or after it, in which
phase) is killed at least once, and each kind between two writes once for each scenario. ``KILL_MATRIX=full`` kills at all points, which takes some minutes.
Pairs of points for two kills in a run are drawn by ``KILL_MATRIX_SEED``. The table is printed with ``-s``.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import random
import typing
from collections.abc import Iterator

import pytest
from tests.kit import kill_scenarios
from tests.kit.kill_matrix import (
    AWAY,
    Comparison,
    Killed,
    Kind,
    Point,
    Run,
    compare,
    cover,
    killed,
    run,
)
from tests.kit.kill_scenarios import LONGEST, SCENARIOS, begin, told

from cutover.api.v1alpha1 import Phase
from cutover.domain.engine.phases.preflight import PREPARED_SECONDS
from cutover.ports.all import Ports

FULL = os.environ.get("KILL_MATRIX") == "full"
SEED = int(os.environ.get("KILL_MATRIX_SEED", "1"))
#: Runs with two kills for each scenario.
PAIRS = 20 if FULL else 1
#: Seconds until a killed process is replaced: at once, and so late that what matters happens meanwhile.
SOON, LATE = 1.0, 45.0
#: Seconds by which a kill may delay an end, besides the absence: reconciles begin at other times than they would have, blocks
#: are judged a block later, and a write is tried again.
SLACK = 10.0
#: And besides that where somebody edits the route: the edit falls into another part of a block, and the weight, which has to be
#: seen again, is seen two blocks later.
EDIT_SLACK = 10.0
#: At 100 % a new process asks its pairs of probes again, and six in a row against EKS have to last 12 s.
PAIRS_SLACK = 12.0


def undisturbed(scenario: str) -> Run:
    return kill_scenarios.undisturbed(next(one for one in SCENARIOS if one.name == scenario))


def kinds_before(scenario: str) -> set[Kind]:
    """Return the kinds of points of the scenarios before this one."""
    names = [one.name for one in SCENARIOS]
    before = names[: names.index(scenario)]
    return {kind for name in before for point in undisturbed(name).points for kind in point.kinds}


Row = tuple[str, str, int, int, list[Comparison]]


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """Print what was found: calls and worlds of the undisturbed run, killed runs, and how they differ."""
    rows: list[Row] = []
    yield rows
    print(f"\n{'scenario':34} {'killed':16} points worlds runs differ resumed delay rollback untold twice")
    for name, how, calls, worlds, found in rows:
        print(
            f"{name:34} {how:16} {calls:6} {worlds:6} {len(found):4} {sum(bool(one.differences) for one in found):6} "
            f"{sum(one.resumed for one in found):7} {max(one.delay for one in found):5.1f} "
            f"{max(one.back_delay for one in found):8.1f} {sum(one.untold for one in found):6} "
            f"{sum(one.twice for one in found):5}"
        )


def judge(truth: Run, where: str, other: Run, away: float) -> Comparison:
    """Compare, and name the point in whatever differs."""
    found = compare(truth, other)
    late = max(found.delay, found.back_delay)
    slack = SLACK + (2 * AWAY if truth.world.scenario.trouble == "away" else 0.0)
    slack += {"route edited": EDIT_SLACK, "dead in the soak": PAIRS_SLACK}.get(truth.world.scenario.name, 0.0)
    # Who comes anew does not know for how long the gateways have known the way to Heroku.
    slack += PREPARED_SECONDS * where.count(str(Phase.PREFLIGHT))
    slow = (f"{late:.1f} s later than undisturbed",) if late > away + slack else ()
    return dataclasses.replace(found, differences=tuple(f"{where}: {one}" for one in (*found.differences, *slow)))


@pytest.mark.parametrize("scenario", [one.name for one in SCENARIOS])
def test_undisturbed_a_migration_goes_as_it_should(scenario: str) -> None:
    truth = undisturbed(scenario)
    assert truth.world.settled
    assert not truth.world.broken
    assert not truth.faults


@pytest.mark.parametrize("scenario", [one.name for one in SCENARIOS])
def test_a_kill_changes_nothing(scenario: str, table: list[Row]) -> None:
    truth = undisturbed(scenario)
    points = truth.points if FULL else cover(truth.points, kinds_before(scenario))
    found = [judge(truth, str(point), killed(point, most=LONGEST, away=SOON), SOON) for point in points]
    table.append((scenario, "at once back", truth.calls, len(truth.points), found))
    assert not any(one.differences for one in found), told(found)


@pytest.mark.parametrize("scenario", ["errors at 25 %", "bound at 50 %", "own ratio at 25 %", "template changed"])
def test_nor_does_a_long_absence(scenario: str, table: list[Row]) -> None:
    """Steps end, and what is wrong begins, while nobody looks."""
    truth = undisturbed(scenario)
    points = truth.points if FULL else [point for point in truth.points if follows_a_write_of_the_route(point)]
    found = [judge(truth, str(point), killed(point, most=LONGEST, away=LATE), LATE) for point in points]
    table.append((scenario, f"{LATE:.0f} s away", truth.calls, len(truth.points), found))
    assert not any(one.differences for one in found), told(found)


def follows_a_write_of_the_route(point: Point) -> bool:
    return any(kind.call.startswith("cluster.") and kind.when == "after" for kind in point.kinds)


@pytest.mark.parametrize("scenario", [one.name for one in SCENARIOS])
def test_nor_do_two_kills(scenario: str, table: list[Row]) -> None:
    truth, draw, found = undisturbed(scenario), random.Random(f"{SEED} {scenario}"), []
    for _ in range(PAIRS):
        first = draw.choice(truth.points)
        between = killed(first, most=LONGEST, keep=True)
        if not between.points:
            continue  # it was the last call, behind which there is nobody to kill
        second = draw.choice(between.points)
        other = killed(second, most=LONGEST)
        found.append(judge(truth, f"{first}, then {second}", other, 2 * SOON))
    table.append((scenario, "twice", truth.calls, len(truth.points), found))
    assert found
    assert not any(one.differences for one in found), told(found)


def test_every_port_is_called_by_some_scenario() -> None:
    """What is not called is not killed: a new method needs a scenario that comes to it."""
    called = {kind.call for one in SCENARIOS for point in undisturbed(one.name).points for kind in point.kinds}
    hints = typing.get_type_hints(Ports)
    for own in (
        "slots",
        "unhurried",
        "turns",
        "urgent_turns",
        "dialect",
        "answers",
        "heroku",
        "heroku_record",
        "resolver",
        "records",
        "reports",
    ):  # of the process itself; a dialect only names what to ask for, others give advice, and tests of their own kill the last two
        del hints[own]
    protocols = {name: hint for name, hint in hints.items() if getattr(hint, "_is_protocol", False)}
    assert protocols.keys() >= {"plans", "traffic", "block_feed", "slo_feed"}
    wanted = {
        f"{name}.{method}"
        for name, protocol in protocols.items()
        for method, _ in inspect.getmembers(protocol, inspect.isfunction)
        if not method.startswith("_")
    } | (hints.keys() - protocols.keys())
    assert not wanted - called


# ------------------------------------------------------------------------------------------------- the matrix itself


def test_a_loop_that_is_really_killed_leaves_the_same() -> None:
    """A copy of the world at a point is what a process leaves that dies there, whatever it tries to do when it dies."""
    truth = undisturbed("errors at 25 %")
    for point in cover(truth.points):
        world = begin(truth.world.scenario)
        with pytest.raises(Killed):
            run(world, most=LONGEST, kill_at=point.number)
        assert world.written == point.world.written
        assert world.stored == point.world.stored
        assert world.objects.objects == point.world.objects.objects
