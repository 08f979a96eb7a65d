"""What a decision writes, in which order, under which conditions, and when the next look is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.kit.world import START, asked_weight, kinds, plan_spec

from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, OnDelete, Phase
from cutover.domain.engine import writes
from cutover.domain.engine.actions import (
    Decision,
    Event,
    Prepare,
    SetWeight,
    WakeAfter,
    WakeAtBlock,
    WriteStatus,
)
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan
from cutover.domain.revision import Split, desired_revision, revision
from cutover.domain.traffic import TrafficState

BLOCK = 5.0


def status_at(
    weight: int | None, phase: Phase = Phase.SHIFTING, *, since: float = START, **fields: Any
) -> MigrationPlanStatus:
    """Return the status of a plan whose weight was decided on at a time, and was seen at the gateway."""
    known = {"at": START, "weight_since": since, "observed_at": since + 5, "consumed_until": START, **fields}
    return MigrationPlanStatus(
        observed_generation=1, phase=phase, attempt=1, weight=weight, checkpoint=Checkpoint(**known), message="."
    )


def plan_at(status: MigrationPlanStatus) -> Plan:
    return Plan("shop", "pdf", "1", 1, plan_spec(), status)


def route_of(status: MigrationPlanStatus, *, current: bool = True) -> TrafficState:
    return TrafficState(status.weight, desired_revision(status), current=current, version="7")


def decided(
    before: MigrationPlanStatus,
    after: MigrationPlanStatus,
    *,
    now: float = START,
    requeue: Any = 30.0,
    events: tuple[Event, ...] = (),
    prepare: bool = False,
    route: bool = True,
    **seen: Any,
) -> Decision:
    observation = Observation(**{"traffic": route_of(before), **seen})
    outcome = Outcome(after, "", "", requeue=requeue, events=events, prepare=prepare, route=route)
    return writes.decision_of(plan_at(before), observation, outcome, after, now)


def write_of(decision: Decision) -> SetWeight:
    (write,) = (action for action in decision.actions if isinstance(action, SetWeight))
    return write


def raised(before: MigrationPlanStatus, weight: int, now: float = START) -> MigrationPlanStatus:
    begun = Checkpoint(at=now, weight_since=now, previous_weight=before.weight or 0, consumed_until=now)
    return before.evolve(weight=weight, checkpoint=begun)


AT_10, AT_25 = status_at(10), status_at(25)
ROLLING_BACK = AT_25.evolve(weight=0, phase=Phase.ROLLING_BACK)
STRAYED = TrafficState(10, "a1-w10", current=False, version="7")


@dataclass(frozen=True)
class Case:
    """A decision, and what it does in which order."""

    make: Callable[[], Decision]
    actions: list[type]


ORDER = {
    "nothing": Case(lambda: decided(AT_10, AT_10), []),
    "raise": Case(lambda: decided(AT_10, raised(AT_10, 25)), [WriteStatus, SetWeight]),
    "lowered ceiling": Case(lambda: decided(AT_25, raised(AT_25, 10)), [SetWeight, WriteStatus]),
    "rollback": Case(lambda: decided(AT_25, ROLLING_BACK), [SetWeight, WriteStatus]),
    "rollback at weight 0": Case(
        lambda: decided(status_at(0), status_at(0, Phase.ROLLING_BACK)), [SetWeight, WriteStatus]
    ),
    "rollback, route not read": Case(lambda: decided(AT_25, ROLLING_BACK, traffic=None), [SetWeight, WriteStatus]),
    "put back": Case(lambda: decided(AT_25, AT_25, traffic=STRAYED), [SetWeight]),
    "put back, and told": Case(
        lambda: decided(AT_25, AT_25.evolve(reason="DriftDetected"), traffic=STRAYED), [WriteStatus, SetWeight]
    ),
    "put back, and told, not written yet": Case(
        lambda: decided(AT_25, AT_25.evolve(reason="DriftDetected"), traffic=STRAYED, unwritten=True),
        [SetWeight, WriteStatus],
    ),
    "raise, not written yet": Case(
        lambda: decided(AT_10, raised(AT_10, 25), unwritten=True), [SetWeight, WriteStatus]
    ),
    "takeover": Case(
        lambda: decided(status_at(None), status_at(0), traffic=TrafficState(0, "", current=True)),
        [WriteStatus, SetWeight],
    ),
    "takeover, prepared": Case(lambda: decided(status_at(None), status_at(None), prepare=True), [Prepare]),
    "takeover, prepared and told": Case(
        lambda: decided(status_at(None), status_at(None).evolve(reason="TakingOver"), prepare=True),
        [WriteStatus, Prepare],
    ),
    "route is left alone": Case(lambda: decided(AT_25, AT_25, traffic=STRAYED, route=False), []),
    "to be remembered": Case(lambda: decided(AT_10, AT_10, remember_in=0.0), [WriteStatus]),
    "to be remembered later": Case(lambda: decided(AT_10, AT_10, remember_in=9.0), []),
    "put back, to be remembered": Case(
        lambda: decided(AT_25, AT_25, traffic=STRAYED, remember_in=0.0), [SetWeight, WriteStatus]
    ),
    "prepared, to be remembered": Case(
        lambda: decided(status_at(None), status_at(None), prepare=True, remember_in=0.0), [Prepare, WriteStatus]
    ),
    "raise, to be remembered": Case(
        lambda: decided(AT_10, raised(AT_10, 25), remember_in=0.0), [WriteStatus, SetWeight]
    ),
}


@pytest.mark.parametrize("name", ORDER)
def test_order(name: str) -> None:
    assert kinds(ORDER[name].make()) == ORDER[name].actions


# ------------------------------------------------------------------------------------------------ what a write carries


def test_a_raise_carries_all_that_is_written() -> None:
    assert write_of(decided(AT_10, raised(AT_10, 25))) == SetWeight(Split(1, 25), over="7", expires=START + 60)


def test_a_rollback_has_a_revision_of_its_own_waits_on_nothing_and_never_expires() -> None:
    write = write_of(decided(AT_25, ROLLING_BACK))
    assert write == SetWeight(Split(1, 0, rolled_back=True), over="7")
    assert (write.split.revision, write.expires, write.confirm, write.supersedes) == (
        "a1-rollback",
        math.inf,
        False,
        "",
    )


def test_a_lowering_supersedes_the_raise_that_may_be_on_its_way() -> None:
    before = status_at(25, since=START - 7)
    assert write_of(decided(before, raised(before, 10))).supersedes == f"a1-w25@{START - 7:.0f}"


def test_a_route_that_was_not_read_is_written_over_whatever_there_is() -> None:
    assert write_of(decided(AT_25, ROLLING_BACK, traffic=None)).over is None


@pytest.mark.parametrize(
    ("decision", "confirmed"),
    [
        (lambda: decided(AT_10, raised(AT_10, 25)), False),  # its status is written just before
        (lambda: decided(AT_10, raised(AT_10, 25), unwritten=True), True),
        (lambda: decided(AT_25, AT_25, traffic=STRAYED), True),
        (lambda: decided(AT_25, AT_25, traffic=STRAYED, remember_in=0.0), True),  # that write comes after it
        (lambda: decided(AT_10, AT_10, traffic=TrafficState(75, "a1-w75", current=False)), False),
        (lambda: decided(AT_25, ROLLING_BACK), False),
    ],
)
def test_a_raise_needs_its_status_in_force(decision: Callable[[], Decision], confirmed: bool) -> None:
    assert write_of(decision()).confirm is confirmed


@pytest.mark.parametrize(
    ("decision", "repair"),
    [
        (lambda: decided(AT_25, AT_25, traffic=STRAYED), True),
        (lambda: decided(AT_10, raised(AT_10, 25)), False),
        (lambda: decided(AT_25, ROLLING_BACK), False),
    ],
)
def test_what_only_puts_back_is_marked(decision: Callable[[], Decision], repair: bool) -> None:
    assert write_of(decision()).repairs is repair


@pytest.mark.parametrize("late", [0.0, 30.0, 59.0, 300.0])
def test_the_lifetime_of_a_raise_has_one_beginning_however_often_it_is_tried(late: float) -> None:
    asked = raised(AT_10, 25, START)
    again = decided(asked, asked, now=START + late, traffic=replace(route_of(AT_10), current=False))
    assert write_of(again).expires == START + 60


@pytest.mark.parametrize("phase", [Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED])
def test_a_weight_that_was_at_the_gateway_is_put_back_however_old_it_is(phase: Phase) -> None:
    old = status_at(100, phase, since=START - 86_400)
    seen = TrafficState(50, "a1-w50", current=False, foreign=("kubectl-edit",))
    assert write_of(decided(old, old, traffic=seen)).expires == START + 60


@pytest.mark.parametrize(
    ("end", "split", "supersedes"),
    [
        (OnDelete.HEROKU, Split(1, 0), f"a1-w25@{START:.0f}"),
        (OnDelete.EKS, Split(1, 100), ""),
        (OnDelete.LEAVE, None, ""),
    ],
)
def test_a_deleted_plan_carries_its_last_write(end: OnDelete, split: Split | None, supersedes: str) -> None:
    action = writes.finalize(plan_at(AT_25), end)
    assert action.end is end
    assert (action.route.split if action.route else None) == split
    assert (action.route.supersedes if action.route else "") == supersedes


def test_the_first_step_of_a_deleted_plan_is_called_off_too() -> None:
    at_rest = writes.finalize(plan_at(status_at(0)), OnDelete.HEROKU)
    assert at_rest.route is not None
    assert at_rest.route.supersedes == "", "there is no raise"
    assert writes.finalize(plan_at(status_at(0, Phase.ROLLED_BACK)), OnDelete.HEROKU).route == SetWeight(
        Split(1, 0, rolled_back=True)
    )


# ------------------------------------------------------------------------------------------------------------ checkpoints


def learned(status: MigrationPlanStatus, until: float) -> MigrationPlanStatus:
    assert status.checkpoint is not None
    return status.evolve(checkpoint=status.checkpoint.evolve(consumed_until=until))


def test_evidence_is_written_at_most_once_a_minute_and_lets_others_go_first() -> None:
    status, written = AT_10, []
    for block in range(1, 121):
        now = START + block * BLOCK
        decision = decided(status, learned(status, now), now=now)
        status = decision.status
        if decision.actions:
            assert decision.actions == (WriteStatus(may_wait=True),)
            written.append(now)
    assert 9 <= len(written) <= 11
    assert all(later - earlier >= 60 for earlier, later in itertools.pairwise(written))


@pytest.mark.parametrize(
    "decision",
    [
        lambda now: decided(AT_10, learned(AT_10, now), now=now, events=(Event("Normal", "Told", "."),)),
        lambda now: decided(AT_10, learned(AT_10, now), now=now, traffic=replace(STRAYED, weight=75)),
        lambda now: decided(AT_10, learned(AT_10, now).evolve(reason="Held"), now=now),
    ],
    ids=["event", "route", "reason"],
)
def test_what_says_or_does_more_than_a_checkpoint_waits_for_nobody(decision: Callable[[float], Decision]) -> None:
    made = decision(START + 120)
    assert WriteStatus() in made.actions


# ------------------------------------------------------------------------------------------------------ the next look


@pytest.mark.parametrize(
    ("requeue", "status", "remember_in", "wake"),
    [
        (2.0, AT_10, None, WakeAfter(2.0)),
        (300.0, AT_10, None, WakeAfter(30.0)),  # Heroku's last answer must be young at the next block
        (NEXT_BLOCK, AT_10, None, WakeAtBlock(1.5 * BLOCK)),
        (BLOCK, AT_10, None, WakeAfter(BLOCK)),  # seconds that happen to be a block's are seconds
        (NEXT_BLOCK, status_at(None, Phase.PREFLIGHT), None, WakeAfter(BLOCK)),  # no block wakes it
        (300.0, status_at(100, Phase.COMPLETED), None, WakeAfter(300.0)),
        (300.0, status_at(100, Phase.COMPLETED), 42.0, WakeAfter(42.0)),
        (300.0, status_at(100, Phase.COMPLETED), 0.0, WakeAfter(300.0)),  # written now
        (NEXT_BLOCK, AT_10, 1.0, WakeAtBlock(1.0)),
    ],
)
def test_wake(requeue: Any, status: MigrationPlanStatus, remember_in: float | None, wake: object) -> None:
    assert decided(status, status, requeue=requeue, remember_in=remember_in).wake == wake


# ------------------------------------------------------------------------------------------------------------ properties

WEIGHTS = st.sampled_from([None, 0, 10, 25, 50, 100])
STATUSES = st.builds(
    status_at,
    WEIGHTS,
    st.sampled_from(list(Phase)),
    since=st.floats(START - 1000, START),
    previous_weight=st.sampled_from([0, 10, 25, 50]),
    observed_at=st.sampled_from([None, START]),
)
ROUTES = st.none() | st.builds(
    lambda weight, attempt, current: TrafficState(
        weight, "" if weight is None else revision(attempt, weight), current=current, version="7"
    ),
    WEIGHTS, st.sampled_from([1, 2]), st.booleans(),
)  # fmt: skip


@given(
    before=STATUSES, after=STATUSES, traffic=ROUTES, unwritten=st.booleans(),
    remember_in=st.sampled_from([None, 0.0, 30.0]), prepare=st.booleans(), requeue=st.sampled_from([0.0, 2.0, 300.0, NEXT_BLOCK]),
)  # fmt: skip
def test_whatever_is_decided(
    before: MigrationPlanStatus,
    after: MigrationPlanStatus,
    traffic: TrafficState | None,
    unwritten: bool,
    remember_in: float | None,
    prepare: bool,
    requeue: Any,
) -> None:
    assume(after.weight is not None or before.weight is None)
    decision = decided(
        before, after, traffic=traffic, unwritten=unwritten, remember_in=remember_in, prepare=prepare, requeue=requeue
    )
    order = kinds(decision)
    assert len(order) == len(set(order)), "each is written once"
    old, new = before.weight or 0, after.weight or 0
    down = new < old or after.phase is Phase.ROLLING_BACK or unwritten
    if SetWeight in order and WriteStatus in order and WriteStatus(may_wait=True) not in decision.actions:
        changed = (before.phase, before.weight) != (after.phase, after.weight)
        assert not changed or (order.index(SetWeight) < order.index(WriteStatus)) is down
    for action in decision.actions:
        if isinstance(action, SetWeight):
            raises = traffic is not None and (traffic.weight or 0) < new
            fenced = WriteStatus in order and order.index(WriteStatus) < order.index(SetWeight)
            assert asked_weight(decision) == new
            assert action.split.revision == desired_revision(after)
            assert action.over == (traffic.version if traffic is not None else None)
            assert action.confirm == (raises and not fenced), "a raise has its status in force"
            assert (action.expires < math.inf) == raises
            assert action.expires == math.inf or action.expires <= START + writes.RAISE_LIFETIME_SECONDS
            assert bool(action.supersedes) == (new < old and after.phase is not Phase.ROLLING_BACK)
    if remember_in == 0.0:
        assert WriteStatus in order
    match decision.wake:
        case WakeAfter(seconds):
            assert seconds >= 0
        case WakeAtBlock(at_latest):
            assert requeue is NEXT_BLOCK
            assert 0 < at_latest <= 30
