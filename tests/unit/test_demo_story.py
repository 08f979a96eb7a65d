"""The demo's sums, on records whose truth is known."""

from __future__ import annotations

from typing import Any

import pytest

from demo.scenarios import SCENARIOS, SLOW_SECONDS
from demo.story import Story, Users, View, arrival, eks_share, rollback
from demoapps.records import Record

PDF, IMAGES, SEARCH, ACCOUNT = SCENARIOS


def record(at: float, leg: str = "heroku", revision: str = "a1-w25", **changes: Any) -> Record:
    latency = changes.pop("latency", 0.01)
    values = {"status": 200, "reason": "", "sent_latency": latency} | changes
    return Record(at=at, host="images.example.com", leg=leg, revision=revision, latency=latency, **values)


def ledger(*moves: tuple[str, int, int]) -> list[dict[str, Any]]:
    return [
        {
            "decision": decision,
            "fromWeight": before,
            "toWeight": after,
            "message": f"{before} % → {after} %",
            "attempt": 1,
        }
        for decision, before, after in moves
    ]


def status(
    phase: str, weight: int, *, seen: bool = True, moves: tuple[tuple[str, int, int], ...] = ()
) -> dict[str, Any]:
    checkpoint = {"weightSince": 100.0} | ({"observedAt": 105.0} if seen else {})
    return {"phase": phase, "weight": weight, "checkpoint": checkpoint, "ledger": ledger(*moves)}


UP = (("TakeOver", 0, 0), ("Advance", 0, 10), ("Advance", 10, 25))
BACK = (*UP, ("RollBack", 25, 0))


def rolled_back(onset: float | None = 100.0) -> Story:
    story = Story(IMAGES, View(0.0), onset=onset)
    story.ingest(View(200.0, status("RolledBack", 0, moves=BACK)))
    story.weights[:] = [(50.0, 25), (109.5, 0)]
    return story


def test_a_rollback_is_measured_on_the_requests_themselves() -> None:
    records = [
        record(99.0, "eks", status=500),  # before the onset
        record(101.0, "eks"),
        record(102.0, "eks", status=500),
        record(103.0, "eks", latency=SLOW_SECONDS + 1),
        record(104.0, "none", "", status=0, reason="timeout"),
        record(110.0, "heroku", "a1-w25"),  # Heroku's answer, but the old route's
        record(111.0, "heroku", "a1-rollback"),
        *(record(111.0 + i, "heroku", "a1-rollback") for i in range(1, 6)),
    ]
    back = rollback(rolled_back(), records, 120.0)
    assert back is not None
    assert (back.weight, back.zero, back.decided) == (25, 110.0, 109.5)
    assert back.seconds == 10.0
    assert back.meanwhile == Users(requests=5, failed=2, slow=1)
    assert back.since_onset == 11
    assert back.by_now == pytest.approx(11 * 3 / 5)
    assert back.rate == pytest.approx(11 / 20)
    assert back.in_an_hour == pytest.approx(3 / 5 * 11 / 20 * 3600)


def test_a_request_counts_when_it_arrived_not_when_it_was_due() -> None:
    late = record(99.0, "eks", latency=3.0, sent_latency=1.0)
    assert arrival(late) == 101.0
    back = rollback(rolled_back(), [late], 120.0)
    assert back is not None
    assert back.zero == 101.0


@pytest.mark.parametrize(
    ("story", "records"),
    [
        pytest.param(rolled_back(), [record(111.0, "heroku", "a1-rollback")], id="nothing under the old weight"),
        pytest.param(rolled_back(onset=None), [record(101.0, "eks")], id="no fault"),
        pytest.param(Story(IMAGES, View(0.0), onset=100.0), [record(101.0, "eks")], id="no rollback"),
    ],
)
def test_no_rollback_is_no_number(story: Story, records: list[Record]) -> None:
    assert rollback(story, records, 120.0) is None


def test_shed_requests_harm_nobody_and_slow_failures_count_once() -> None:
    records = [record(1.0, "none", status=0, reason="shed"), record(1.0, "eks", status=504, latency=30.0)]
    assert Users.of(records) == Users(requests=1, failed=1, slow=0)
    assert eks_share([]) is None


def test_the_fault_begins_once_its_weight_is_seen() -> None:
    story = Story(IMAGES, View(0.0))
    story.ingest(View(1.0, status("Shifting", 10)))
    assert not story.fault_due
    story.ingest(View(2.0, status("Shifting", 25, seen=False)))
    assert not story.fault_due
    story.ingest(View(3.0, status("Shifting", 25)))
    assert story.fault_due
    story.onset = 3.0
    assert not story.fault_due


def test_every_decision_is_told_once() -> None:
    story = Story(PDF, View(0.0))
    assert story.ingest(View(1.0, status("Preflight", 0, moves=UP[:1]))) == ["TakeOver: 0 % → 0 %"]
    assert story.ingest(View(2.0, status("Preflight", 0, moves=UP[:1]))) == []
    two = story.ingest(View(3.0, status("Shifting", 25, moves=UP)))
    assert two == ["Advance: 0 % → 10 %", "Advance: 10 % → 25 %"]
    soaking = status("Soaking", 100, moves=UP) | {"message": "20 s to go"}
    assert story.ingest(View(4.0, soaking)) == ["Soaking: 20 s to go"]
    again = status("Completed", 100, moves=UP) | {"message": "10 % → 25 %"}
    assert story.ingest(View(5.0, again)) == ["Completed"]


def test_users_who_are_signed_out_are_harmed_and_their_plan_goes_back() -> None:
    assert (ACCOUNT.expected_phase, ACCOUNT.expected_path) == ("RolledBack", (10, 0))
    story = Story(ACCOUNT, View(0.0), onset=100.0)
    moves = (("TakeOver", 0, 0), ("Advance", 0, 10), ("RollBack", 10, 0))
    story.ingest(View(200.0, status("RolledBack", 0, moves=moves)))
    assert list(story.shortcomings()) == []
    signed_out = [record(101.0, "eks", "a1-w10", status=401), record(102.0, "heroku", "a1-w10")]
    back = rollback(story, signed_out, 120.0)
    assert back is not None
    assert back.meanwhile == Users(requests=2, failed=1, slow=0)


def test_what_did_not_go_as_expected_is_said() -> None:
    good = rolled_back()
    assert good.path == (10, 25, 0)
    assert list(good.shortcomings()) == []
    other = Story(SEARCH, View(0.0), onset=1.0)
    other.ingest(View(1.0, status("RolledBack", 0, moves=BACK)))
    assert list(other.shortcomings()) == ["it went 10 → 25 → 0 and not 10 → 25 → 50 → 0"]
    idle = Story(IMAGES, View(0.0))
    assert len(list(idle.shortcomings())) == 2
