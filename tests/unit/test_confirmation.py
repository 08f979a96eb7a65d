"""When a weight is in force: by what the provider can do, and never because it was written."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.played_provider import DNS, STICKY
from tests.kit.world import World

from cutover.adapters.traffic.istio.provider import CAPABILITIES as ISTIO
from cutover.api.v1alpha1 import Phase
from cutover.domain.commands.annotations import ROLLBACK_ANNOTATION
from cutover.domain.engine.actions import Prepare, SetWeight
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.confirmation import back_on_heroku, collect, confirmed, missing_capabilities
from cutover.domain.evidence.share import LEAST_REQUESTS, Pool
from cutover.domain.holds import HoldReason
from cutover.domain.traffic import Capabilities

T = 1_800_000_000.0


def block(heroku: float, eks: float, start: float = T) -> Block:
    return Block(start, start + 15, Counts(heroku, timed=heroku), Counts(eks, timed=eks))


# -------------------------------------------------------------------------------------------------------- what is needed


@pytest.mark.parametrize(
    ("can", "says"),
    [
        (ISTIO, ()),
        (STICKY, ()),
        (replace(ISTIO, stamps_revision=False), ()),
        (replace(ISTIO, confirms_share=False), ()),
        (DNS, ("DNS weights", "both legs in one place", "the way back cannot be tried", "never known to be in force")),
        (replace(ISTIO, common_vantage=False), ("both legs in one place",)),
        (replace(ISTIO, probes_leg=False), ("the way back cannot be tried",)),
        (replace(STICKY, stamps_revision=False), ("never known to be in force",)),
        # Nobody can read what is stamped.
        (replace(STICKY, probes_leg=False), ("the way back cannot be tried", "never known to be in force")),
        (Capabilities(), ("both legs in one place", "the way back cannot be tried", "never known to be in force")),
    ],
)
def test_what_is_missing(can: Capabilities, says: tuple[str, ...]) -> None:
    told = missing_capabilities(can)
    assert bool(told) == bool(says)
    known = ("both legs in one place", "the way back cannot be tried", "never known to be in force")
    assert all(words in told for words in says)
    assert [words for words in known if words in told] == [words for words in says if words in known]


# ------------------------------------------------------------------------------------------------------------ in force

ENOUGH = Pool(10.0, 100.0)


@pytest.mark.parametrize(
    ("can", "pooled", "live_at", "expected"),
    [
        # The requests show it, whatever probes say.
        (ISTIO, ENOUGH, None, True),
        (ISTIO, Pool(0.0, 100.0), None, False),
        # EKS answers nothing: only where the gateway has the route.
        (ISTIO, Pool(0.0, 200.0), None, False),
        (ISTIO, Pool(0.0, 200.0), T + 1, False),
        (ISTIO, Pool(0.0, 200.0), T, True),
        # An answer, and the time of a rollback (20 s), and some requests, whatever leg they went to.
        (STICKY, ENOUGH, None, False),
        (STICKY, ENOUGH, T, False),
        (STICKY, ENOUGH, T - 19, False),
        (STICKY, ENOUGH, T - 20, True),
        (STICKY, Pool(0.0, float(LEAST_REQUESTS)), T - 20, True),
        (STICKY, Pool(0.0, LEAST_REQUESTS - 1.0), T - 20, False),
        # Never.
        (DNS, ENOUGH, None, False),
        (DNS, ENOUGH, T - 3600, False),
        (replace(ISTIO, stamps_revision=False), Pool(0.0, 200.0), T, False),
    ],
)
def test_in_force(can: Capabilities, pooled: Pool, live_at: float | None, expected: bool) -> None:
    assert confirmed(can, pooled, block(90, 10), weight=10, previous=0, live_at=live_at) is expected


def test_requests_count_from_the_answer_on_where_only_a_revision_shows() -> None:
    before = Pool()
    for live_at, expected in ((None, Pool()), (T - 19, Pool()), (T - 20, Pool(50.0, 80.0))):
        assert collect(STICKY, before, block(30, 50), weight=10, previous=0, live_at=live_at) == expected
    unusable = Block(T, T + 15, gap="no samples")
    assert collect(STICKY, before, unusable, weight=10, previous=0, live_at=T - 60) == before


@pytest.mark.parametrize(
    ("can", "live_at", "expected"),
    [
        (ISTIO, None, False),
        (ISTIO, T, True),
        (STICKY, T - 19, False),
        (STICKY, T - 20, True),
        (DNS, T - 3600, False),
    ],
)
def test_back_on_heroku(can: Capabilities, live_at: float | None, expected: bool) -> None:
    assert back_on_heroku(can, live_at=live_at, now=T) is expected


_ANY = st.builds(
    Capabilities,
    provider=st.just("any"),
    confirms_share=st.booleans(),
    stamps_revision=st.booleans(),
    common_vantage=st.booleans(),
    probes_leg=st.booleans(),
    rollback_seconds=st.floats(0, 600),
)
_COUNTS = st.floats(0, 10_000)


@given(can=_ANY, blocks=st.lists(st.tuples(_COUNTS, _COUNTS), max_size=8), weight=st.sampled_from([0, 10, 50, 100]))
def test_without_an_answer_and_without_a_share_nothing_is_in_force(
    can: Capabilities, blocks: list[tuple[float, float]], weight: int
) -> None:
    can, pooled = replace(can, confirms_share=False), Pool()
    for number, (heroku, eks) in enumerate(blocks):
        one = block(heroku, eks, T + 15 * number)
        pooled = collect(can, pooled, one, weight=weight, previous=0, live_at=None)
        assert not confirmed(can, pooled, one, weight=weight, previous=0, live_at=None)


@given(can=_ANY, late=st.floats(0, 1200), heroku=_COUNTS, eks=_COUNTS)
def test_an_answer_counts_no_sooner_than_a_rollback_takes(
    can: Capabilities, late: float, heroku: float, eks: float
) -> None:
    can = replace(can, confirms_share=False)
    pooled = collect(can, Pool(), block(heroku, eks), weight=10, previous=0, live_at=T - late)
    found = confirmed(can, pooled, block(heroku, eks), weight=10, previous=0, live_at=T - late)
    assert found == (can.stamps_revision and T - late + can.rollback_seconds <= T and heroku + eks >= LEAST_REQUESTS)


# ------------------------------------------------------------------------------------------------------ whole cutovers


@pytest.mark.parametrize("can", [DNS, replace(ISTIO, common_vantage=False), replace(ISTIO, probes_leg=False)])
def test_nothing_moves_with_a_provider_that_cannot_show_what_is_in_force(can: Capabilities) -> None:
    world = World(capabilities=can)
    world.run(300)
    assert world.status.phase is Phase.PENDING
    assert world.status.weight is None
    assert world.status.reason == HoldReason.CAPABILITY_MISSING
    assert can.provider in world.status.message
    assert not [action for _, action in world.actions if isinstance(action, Prepare | SetWeight)]
    assert ("Stalled", "True") in {(one.type, one.status) for one in world.status.conditions}


def test_a_whole_cutover_by_revisions() -> None:
    world = World(capabilities=STICKY)
    world.run(3600)
    assert world.status.phase is Phase.COMPLETED
    # Each step is judged from the time on that a rollback takes.
    judged = set()
    for _, status in world.writes:
        if (checkpoint := status.checkpoint) is not None and checkpoint.observed_at is not None:
            judged.add(status.weight)
            assert checkpoint.live_at is not None
            assert checkpoint.observed_at >= checkpoint.live_at + STICKY.rollback_seconds
    assert judged >= {10, 25, 50, 100}


def test_a_step_that_no_answer_shows_is_not_judged() -> None:
    world = World(capabilities=STICKY).until_phase(Phase.SHIFTING)
    world.istiod_up = False  # what is written does not come to the gateways
    world.until(lambda status: status.weight == 10)
    world.run(400)
    assert (world.status.weight, world.status.reason) == (10, HoldReason.SHARE_NOT_OBSERVED)
    assert world.status.checkpoint is not None
    assert (world.status.checkpoint.live_at, world.status.checkpoint.observed_at) == (None, None)


def test_traffic_that_is_on_eks_stays_and_a_person_may_lead_it_back() -> None:
    world = World().until_judging(25)
    world.capabilities = replace(ISTIO, common_vantage=False)
    world.run(400)
    assert (world.status.weight, world.status.reason) == (25, HoldReason.CAPABILITY_MISSING)
    world.annotations[ROLLBACK_ANNOTATION] = f"a{world.status.attempt}"
    world.run(60)
    assert (world.status.phase, world.status.weight) == (Phase.ROLLED_BACK, 0)
