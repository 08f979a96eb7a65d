"""A takeover that leaves users worse off: they get their own route back, where they had one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.kit.world import DEAD, HANGING, HEALTHY, ROUTE_NAME, Leg, Route, World, check, kinds, plan_spec

from cutover.api.v1alpha1 import Phase, RouteRecord
from cutover.domain.engine.actions import GiveBack, WriteStatus
from cutover.domain.engine.decide import decide
from cutover.domain.engine.probe_intervals import probe_interval
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.traffic import Probe
from cutover.services.pairing import counted

GIVEN_BACK = Route(None, "a1-given-back")


def taken(*, gives_back: bool = True, **spec: Any) -> World:
    """A world in which users have just got the operator's route."""
    w = World(spec=plan_spec(**spec), on_decision=check, gives_back=gives_back)
    w.until(lambda status: status.weight == 0)
    assert w.route == Route(0, "a1-w0")
    return w


def failed(w: World) -> bool:
    return w.status.reason == "TakeoverFailed"


@pytest.mark.parametrize("fault", [DEAD, HANGING], ids=["refuses", "hangs"])
def test_users_get_their_route_back_after_three_probes(fault: Leg) -> None:
    w = taken()
    w.heroku, began = fault, w.now
    # This world looks every two seconds; that it takes five is measured with a real gateway (tests/e2e/test_takeover.py).
    w.until_reason("TakeoverFailed", within=8)
    assert w.now > began
    assert w.route == GIVEN_BACK
    assert [kind for _, kind in w.actions][-2:] == [
        next(action for _, action in w.actions if isinstance(action, GiveBack)),
        WriteStatus(),
    ]
    assert (w.status.phase, w.status.weight, w.status.failed_takeover) == (Phase.PREFLIGHT, None, 1)
    assert w.status.route == RouteRecord(trial=ROUTE_NAME)
    assert w.condition("Held") == "True"
    assert [(entry.decision, entry.reason) for entry in w.status.ledger] == [
        ("TakeOver", "PreflightPassed"),
        ("Hold", "TakeoverFailed"),
    ]
    (event,) = w.told("TakeoverFailed")
    assert event.kind == "Warning"
    for words in ("3 probes", "503", "as they went before", "spec.attempt"):
        assert words in event.message


def test_the_plan_waits_for_another_attempt_and_not_for_heroku() -> None:
    w = taken()
    w.heroku = DEAD
    w.until_reason("TakeoverFailed")
    message, done = w.status.message, len(w.actions)
    w.heroku = HEALTHY
    w.run(300)
    w.restart()
    w.run(300)
    assert failed(w)
    assert w.status.message == message
    assert (w.route, len(w.actions)) == (GIVEN_BACK, done)
    assert probe_interval(w.plan()) is None
    w.edit(attempt=2)
    w.until_phase(Phase.BASELINE, within=60)
    assert w.route == Route(0, "a2-w0")
    assert w.status.failed_takeover is None
    w.until_phase(Phase.COMPLETED)


def test_two_failed_probes_are_noise() -> None:
    w = taken()
    w.heroku = DEAD
    while w.probe is None or w.probe.refusals < 2:
        w.step()
    w.heroku = HEALTHY
    w.until_phase(Phase.SHIFTING)


def test_users_without_a_route_of_their_own_keep_the_operators() -> None:
    w = taken(gives_back=False)
    w.heroku = DEAD
    w.run(60)
    assert (w.status.reason, w.status.weight, w.route) == ("PreflightFailed", 0, Route(0, "a1-w0"))


def test_a_plan_that_skips_heroku_s_probes_is_not_judged_by_them() -> None:
    skip = [{"check": name, "reason": "no page at /"} for name in ("heroku-answers", "eks-answers")]
    w = taken(preflight={"skip": skip})
    w.probes_answered = False
    w.probe = None
    w.step()
    w.probe = Probe(w.now, "a1-w0", healthy=False, detail="HTTP 503", failures=9, refusals=9)
    w.run(30)
    assert w.status.phase in (Phase.BASELINE, Phase.SHIFTING)
    assert not w.told("TakeoverFailed")


def recording(heroku: Counts) -> World:
    """A world in the Baseline phase that has seen one block, with Heroku's probes well."""
    w = taken().until_phase(Phase.BASELINE)
    assert w.working.route is not None
    assert w.working.route.undoable
    start = w.working.checkpoint.consumed_until if w.working.checkpoint else w.now
    w.pending = (Block(start, start + w.block_seconds, heroku, Counts()),)
    w.pass_time(w.block_seconds)
    return w


@pytest.mark.parametrize(
    ("requests", "errors", "undone"), [(20, 10, True), (400, 390, True), (400, 190, False), (19, 19, False)]
)
def test_users_whose_requests_fail_get_their_route_back(requests: int, errors: int, undone: bool) -> None:
    w = recording(Counts(requests=requests, errors=errors, timed=requests))
    decision = decide(w.plan(), w.observe(), w.now)
    assert (decision.status.reason == "TakeoverFailed") is undone
    assert (kinds(decision) == [GiveBack, WriteStatus]) is undone
    if undone:
        assert f"{errors} of {requests} requests" in decision.status.message


def test_once_the_takeover_is_confirmed_a_heroku_that_fails_is_the_app_itself() -> None:
    w = taken()
    w.until(lambda status: bool(status.checkpoint and status.checkpoint.observed_at))
    assert w.status.route == RouteRecord(name=ROUTE_NAME)
    w.heroku = DEAD
    w.run(60)
    assert w.status.failed_takeover is None
    assert not w.told("TakeoverFailed")
    assert not any(isinstance(action, GiveBack) for _, action in w.actions)


def test_a_retry_is_no_takeover() -> None:
    w = taken().until_phase(Phase.SHIFTING)
    w.annotations["cutover.dev/rollback"] = "a1"
    w.until_phase(Phase.ROLLED_BACK)
    w.heroku = DEAD
    w.edit(attempt=2)
    w.run(60)
    assert (w.status.reason, w.status.weight, w.route) == ("PreflightFailed", 0, Route(0, "a2-w0"))


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_on_the_way_back_changes_nothing(when: str) -> None:
    for more in range(3):
        w = taken()
        w.heroku = DEAD
        w.crash_at = (w._attempted + more, when)
        w.until_reason("TakeoverFailed", within=20)
        assert w.route == GIVEN_BACK
        assert (w.status.weight, w.status.failed_takeover) == (None, 1)


def test_a_route_that_cannot_be_written_is_given_back_later() -> None:
    w = taken()
    w.heroku, w.route_writes_fail = DEAD, True
    w.run(20)
    assert (w.route, w.status.failed_takeover) == (Route(0, "a1-w0"), None)
    w.route_writes_fail = False
    w.until_reason("TakeoverFailed", within=5)
    assert w.route == GIVEN_BACK


def test_a_suspended_or_deleted_plan_leaves_nothing_behind() -> None:
    for way in ("suspended", "deleted"):
        w = taken()
        w.heroku = DEAD
        w.until_reason("TakeoverFailed")
        if way == "suspended":
            w.edit(suspend=True)
        w.deleting = way == "deleted"
        w.reconcile()
        assert w.route is None


def test_an_answer_from_a_gateway_without_the_route_shows_nothing_of_heroku() -> None:
    good = Probe(1.0, "a1-w0", healthy=True, detail="HTTP 200")
    refused = replace(good, healthy=False)
    unrouted = replace(refused, revision="")
    hung = replace(unrouted, hung=True)
    row: Probe | None = None
    seen = []
    for probe in (unrouted, refused, unrouted, hung, refused, good, refused):
        row = counted(row, probe)
        seen.append((row.failures, row.refusals))
    assert seen == [(1, 0), (2, 1), (3, 1), (4, 2), (5, 3), (0, 0), (1, 1)]
