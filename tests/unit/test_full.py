"""At 100 %: users' requests and probes of both legs together decide; what only one of them shows holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.kit import builders
from tests.kit.custom_slos import RATIO, gates_of
from tests.kit.states import checked_world
from tests.kit.world import DEAD, HANGING, HEALTHY, Leg, World, check, plan_spec

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.engine import probe_intervals
from cutover.domain.engine.probe_intervals import pair_interval
from cutover.domain.evidence.pace import Pace, store_pace
from cutover.domain.evidence.pairs import NO_PAIRS
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan

ERRORS = Leg(errors=1.0)


def soaking(rate: float = 50.0, **fields: Any) -> World:
    """Return a world that has been at 100 % for some minutes."""
    key = f"{rate} {fields}"
    if key not in _REACHED:
        made = World(spec=plan_spec(**{"soak": "6h", **fields}), rate=rate).until_judging(100, within=3600)
        made.run(30)
        made.on_decision = check
        _REACHED[key] = made
    return _REACHED[key].copy()


_REACHED: dict[str, World] = {}


def seconds_to_0(world: World, within: float = 120.0) -> float:
    onset = world.now
    world.until(lambda status: status.phase is Phase.ROLLING_BACK, within)
    return world.now - onset


@pytest.mark.parametrize("fault", [DEAD, HANGING, Leg(refused=1.0)], ids=str)
@pytest.mark.parametrize(("block", "most"), [("5s", 20), ("15s", 45)])
@pytest.mark.parametrize("into", [0.1, 0.6])
def test_a_dead_leg_is_left_in_time(fault: Leg, block: str, most: float, into: float) -> None:
    """Whenever in a block it begins; a hang before the route's time-out has made errors of it."""
    w = soaking(gates={"block": block, "warmUp": block})
    seconds = w.spec.gates.block.total_seconds()
    w.pass_time(seconds - w.now % seconds + into * seconds)
    w.eks = fault
    assert seconds_to_0(w) <= most - 1  # the gateway has the route a moment later
    entry = w.status.ledger[-1]
    assert (entry.reason, entry.subject) == ("EvidenceOfHarm", "refused" if fault.refused else "alive")
    assert "pairs of probes" in entry.message
    assert not w.told(HoldReason.HARM_UNCONFIRMED) + w.told(HoldReason.EKS_PROBES_FAIL)


def test_a_leg_that_throttles_everybody_goes_back() -> None:
    """Limits by address are often met at full traffic first."""
    w = soaking()
    w.eks = Leg(throttled=0.99)
    assert seconds_to_0(w) <= 120
    assert (w.status.ledger[-1].reason, w.status.ledger[-1].subject) == ("EvidenceOfHarm", "throttled")


def test_a_leg_that_throttles_some_is_not_completed() -> None:
    w = soaking(soak="10m")
    w.eks, w.eks_to_probes = Leg(throttled=0.2), HEALTHY
    w.run(1200)
    assert (w.status.phase, w.status.reason) == (Phase.SOAKING, HoldReason.HARM_UNCONFIRMED)
    assert "throttled" in w.status.message


def test_a_part_of_the_answers_is_found_by_both() -> None:
    w = soaking()
    w.eks = Leg(errors=0.3)
    assert seconds_to_0(w) <= 120
    assert "errors" in w.status.ledger[-1].message


def test_an_incident_of_both_legs_holds() -> None:
    w = soaking()
    w.eks = w.heroku = ERRORS
    w.until_reason(HoldReason.BOTH_LEGS_UNHEALTHY, within=40).run(60)
    assert (w.status.phase, w.status.weight) == (Phase.SOAKING, 100)
    assert [event.kind for event in w.told(HoldReason.BOTH_LEGS_UNHEALTHY)] == ["Warning"]
    w.eks = w.heroku = HEALTHY
    w.until_reason("Soaking", within=900)
    assert w.weights == [0, 10, 25, 50, 100]


def test_harm_that_no_probe_sees_holds_and_waits_for_a_person() -> None:
    w = soaking()
    w.eks, w.eks_to_probes = ERRORS, HEALTHY
    w.run(60)
    assert w.status.reason == "Judging"
    assert "asking both legs" in w.status.message
    w.until_reason(HoldReason.HARM_UNCONFIRMED, within=100).run(30)
    assert w.status.weight == 100
    w.annotations["cutover.dev/rollback"] = "a1"
    w.until_phase(Phase.ROLLED_BACK, within=30)


def test_a_leg_that_died_while_nobody_looked_is_left_without_a_hold() -> None:
    """The harm lasts for long already, but the first pairs of a new process speak against EKS: they are not alike."""
    w = soaking()
    w.eks = DEAD
    w.until_reason("Judging", within=20).pass_time(600)
    w.restart()
    for _ in range(30):  # also between two blocks, as each pair wakes the plan
        w.pass_time(1)
        w.reconcile()
    assert w.decided("RollBack") == [(100, 0)]
    assert not w.told(HoldReason.HARM_UNCONFIRMED)


def test_a_hold_for_unconfirmed_harm_is_told_once_though_a_pair_speaks_against_eks_now_and_then() -> None:
    w = soaking()
    w.eks, w.eks_to_probes = ERRORS, HEALTHY
    w.until_reason(HoldReason.HARM_UNCONFIRMED, within=200)
    for _ in range(5):
        w.eks_to_probes = DEAD
        w.run(1)
        w.eks_to_probes = HEALTHY
        w.run(10)
    assert w.status.reason == HoldReason.HARM_UNCONFIRMED
    assert len(w.told(HoldReason.HARM_UNCONFIRMED)) == 1


def test_users_who_go_home_at_once_hold_and_roll_nothing_back() -> None:
    w = soaking()
    w.rate = 1.0
    w.until_reason(HoldReason.HARM_UNCONFIRMED, within=200)
    assert "requests were answered in the last" in w.status.message
    # The quiet is the usual after a while.
    w.until_reason("Soaking", within=2400)
    assert w.weights[-1] == 100


def test_probes_alone_hold() -> None:
    w = soaking()
    w.eks_to_probes = DEAD
    w.until_reason(HoldReason.EKS_PROBES_FAIL, within=40).run(60)
    assert w.status.weight == 100
    assert "users' requests do not show it" in w.status.message
    assert w.status.probes is not None
    assert w.status.probes.in_a_row > 20
    w.eks_to_probes = None
    w.until_reason("Soaking", within=60)


def test_a_dead_leg_that_nearly_nobody_asks_is_left_once_somebody_has() -> None:
    w = soaking()
    w.rate = 0.2
    w.run(60)
    w.eks = DEAD
    assert seconds_to_0(w) <= 60


def test_a_heroku_that_dies_with_eks_well_is_no_way_back() -> None:
    w = soaking()
    w.heroku = DEAD
    w.until_reason(HoldReason.HEROKU_CANNOT_TAKE_BACK, within=60)
    w.eks = DEAD
    w.until_reason(HoldReason.BOTH_LEGS_UNHEALTHY, within=60).run(60)
    w.heroku = HEALTHY
    w.until_phase(Phase.ROLLED_BACK, within=60)


def test_a_heroku_that_refuses_what_eks_answers_is_no_way_back_and_not_dead() -> None:
    """As with a Host that it does not take any more, or the one address that all users have."""
    w = soaking(onHerokuDown={"action": "Forward"})
    w.heroku = Leg(refused=1.0)
    w.until_reason(HoldReason.HEROKU_CANNOT_TAKE_BACK, within=60).run(300)
    assert (w.status.weight, w.status.phase) == (100, Phase.SOAKING)
    assert "Heroku refuses or redirects what EKS answers well" in w.status.message
    w.heroku = HEALTHY
    w.until_reason("Soaking", within=60)
    w.heroku, w.eks = Leg(refused=1.0), DEAD
    w.until_phase(Phase.ROLLED_BACK, within=60)


def test_on_breach_hold_stays() -> None:
    w = soaking(onBreach="Hold")
    w.eks = DEAD
    w.until_reason(HoldReason.BREACH, within=30).run(60)
    assert w.status.weight == 100


def test_a_restart_of_the_operator_asks_first_and_forgets_no_pace() -> None:
    w = soaking()
    w.eks = DEAD
    w.pass_time(3)
    w.restart()
    assert seconds_to_0(w) <= 30


def test_the_pods_of_eks_may_restart() -> None:
    w = soaking()
    for _ in range(4):
        w.eks = DEAD
        w.run(9)
        w.eks = HEALTHY
        w.run(60)
    assert not w.decided("RollBack")


def test_the_team_s_own_slos_need_no_second_key() -> None:
    w = checked_world(gates=gates_of(RATIO), soak="6h")
    w.wrong[RATIO["name"]] = (0.0, 0.0)
    w.until_judging(100, within=3600).run(60)
    w.wrong[RATIO["name"]] = (0.0, 0.9)
    w.until_phase(Phase.ROLLED_BACK, within=900)
    assert w.decided("RollBack") == [(100, 0)]


def test_a_provider_that_cannot_ask_eks_decides_by_the_record() -> None:
    w = soaking()
    w.capabilities = replace(w.capabilities, probes_eks=False)
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK, within=240)
    assert "probes" not in w.status.message


# ------------------------------------------------------------------------------------------------- below 100 %, by rate


def test_the_first_step_waits_for_an_eks_that_answers() -> None:
    w = checked_world().until_phase(Phase.BASELINE)
    w.eks = DEAD
    w.until_reason(HoldReason.EKS_PROBES_FAIL).run(30)
    assert w.status.weight == 0
    w.eks = HEALTHY
    w.until(lambda status: status.weight == 10, within=120)


def test_pairs_at_a_declared_rate_are_evidence_where_requests_are_few() -> None:
    istio = {"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"]}
    w = checked_world(
        0.1, traffic={"istio": istio, "probe": {"rate": 1}}, steps=[{"weight": 50, "hold": "6h"}, {"weight": 100}]
    )
    w.until(lambda status: status.weight == 50, within=3 * 3600).until_judging(50, within=3 * 3600)
    w.eks_to_probes = Leg(errors=0.5)
    w.until(lambda status: status.phase is Phase.ROLLING_BACK, within=300)
    entry = w.status.ledger[-1]
    assert (entry.reason, entry.subject) == ("EvidenceOfHarm", "probes")


# ----------------------------------------------------------------------------------------------------- when to ask

OBSERVED = {"at": 0, "weight_since": 0, "observed_at": 5.0}


def plan(
    weight: int | None,
    phase: Phase = Phase.SHIFTING,
    *,
    rate: float = 0.0,
    observed: bool = True,
    turned: float | None = None,
) -> Plan:
    checkpoint = {**OBSERVED, "observed_at": 5.0 if observed else None, "pace": store_pace(Pace(turned_since=turned))}
    status = MigrationPlanStatus.model_validate(
        {"phase": phase, "attempt": 1, "weight": weight, "checkpoint": checkpoint}
    )
    made = builders.plan(status=status)
    probe = made.spec.traffic.probe.model_copy(update={"rate": rate})
    traffic = made.spec.traffic.model_copy(update={"probe": probe})
    return replace(made, spec=made.spec.model_copy(update={"traffic": traffic}))


@pytest.mark.parametrize(
    ("asked", "heroku_fails", "seconds"),
    [
        (plan(100), False, probe_intervals.MOST_FULL_PAIR_SECONDS),
        (plan(100, observed=False), False, probe_intervals.MOST_FULL_PAIR_SECONDS),
        (plan(100, Phase.SOAKING), False, probe_intervals.MOST_FULL_PAIR_SECONDS),
        (plan(100, turned=990.0), False, probe_intervals.URGENT_PAIR_SECONDS),
        (plan(100, turned=300.0), False, probe_intervals.MOST_FULL_PAIR_SECONDS),
        (plan(100, rate=1.0), False, 1.0),
        (plan(0), False, probe_intervals.EMPTY_PAIR_SECONDS),
        (plan(0, Phase.BASELINE), False, probe_intervals.EMPTY_PAIR_SECONDS),
        (plan(0, observed=False), False, None),
        (plan(50), False, None),
        (plan(50), True, probe_intervals.STRANDED_PAIR_SECONDS),
        (plan(50, rate=0.1), False, 10.0),
        (plan(0, Phase.ROLLING_BACK, rate=1.0), True, None),
        (plan(0, Phase.ROLLED_BACK, rate=1.0), True, None),
        (plan(100, Phase.COMPLETED, rate=1.0), True, None),
        (plan(None, Phase.PREFLIGHT, rate=1.0), True, None),
    ],
)
def test_how_often_both_legs_are_asked(asked: Plan, heroku_fails: bool, seconds: float | None) -> None:
    assert pair_interval(asked, NO_PAIRS, 1000.0, heroku_fails=heroku_fails) == seconds


def test_a_row_is_urgent_for_a_while() -> None:
    row = NO_PAIRS._replace(row=1, row_since=999.0)
    assert pair_interval(plan(100), row, 1000.0, heroku_fails=False) == probe_intervals.URGENT_PAIR_SECONDS
    assert pair_interval(plan(100), row, 2000.0, heroku_fails=False) == probe_intervals.MOST_FULL_PAIR_SECONDS


def test_before_the_first_step_a_heroku_that_refuses_what_eks_answers_holds_it() -> None:
    """Its users have that now: it is told, and nobody is moved by it."""
    w = World(spec=plan_spec()).until(lambda status: status.phase is Phase.BASELINE)
    w.heroku = Leg(redirected=1.0, refused=1.0)
    w.until_reason(HoldReason.HEROKU_CANNOT_TAKE_BACK, within=900)
    assert (w.status.weight, w.decided("Advance")) == (0, [])
    w.heroku = HEALTHY
    w.until_judging(10, within=3600)
