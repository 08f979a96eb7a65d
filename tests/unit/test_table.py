"""What ``kubectl get mplan`` shows, as somebody reads it at night."""

from __future__ import annotations

from datetime import datetime

from tests.kit.states import HOLD_CASES, checked_world, judging_world
from tests.kit.world import DEAD, START, Leg, World

from cutover.api.crd import COLUMNS
from cutover.api.v1alpha1 import Phase
from cutover.domain.holds import HoldReason


def row(world: World) -> dict[str, str]:
    """Return the cells of a plan's row, as the API server and kubectl make them of the columns' paths."""
    status = world.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    cells = {}
    for name, path, kind, priority in COLUMNS:
        value = {"status": status}
        for part in path.removeprefix(".").split("."):
            value = value.get(part) if isinstance(value, dict) else None  # type: ignore[assignment]
        if priority == 0 and path.startswith(".status"):
            if kind == "date" and value is not None:
                value = f"{world.now - datetime.fromisoformat(str(value)).timestamp():.0f}s"  # type: ignore[assignment]
            cells[name] = "" if value is None else str(value)
    return cells


def test_a_step_under_way() -> None:
    w = judging_world(10)
    assert row(w) | {"Seen": "", "Proof": ""} == {
        "Phase": "Shifting",
        "Step": "1/4",
        "EKS": "10",
        "Seen": "",
        "Proof": "",
        "Held": "",
        "Since": "",
    }


def test_proof_is_in_percent_of_the_way_and_a_failing_service_has_none() -> None:
    w = judging_world(10, rate=20.0)
    seen = [row(w)["Proof"]]
    while w.working.weight == 10:
        w.step()
        seen.append(row(w)["Proof"])
    percents = [int(one.removesuffix(" %")) for one in seen if one.endswith(" %")]
    assert percents == sorted(percents)
    assert 0 < percents[-1] < 100
    failing = judging_world(10, rate=20.0)
    failing.eks = Leg(errors=0.02)
    said = set()
    while failing.working.phase is Phase.SHIFTING:
        failing.step()
        said.add(row(failing)["Proof"])
    assert not [one for one in said if "safe" in one]
    assert any(one.startswith("harm ") for one in said)


def test_a_weight_that_is_not_in_force_shows_both() -> None:
    w = judging_world(25)
    w.istiod_up = False
    w.eks = DEAD
    w.until(lambda status: status.phase is Phase.ROLLING_BACK)
    assert row(w)["EKS"] == "25→0"
    w.istiod_up = True
    w.until(lambda status: status.phase is Phase.ROLLED_BACK)
    assert (row(w)["EKS"], row(w)["Proof"], row(w)["Held"]) == ("0", "", "")


def test_nothing_is_claimed_where_nobody_judges() -> None:
    w = checked_world().until(lambda status: status.phase is Phase.SOAKING)
    w.until(lambda status: status.gate != "")
    assert row(w)["Proof"] == "no harm seen"
    w.until(lambda status: status.phase is Phase.COMPLETED, within=100_000)
    assert (row(w)["EKS"], row(w)["Proof"], row(w)["Held"]) == ("100", "", "")
    for reason in (HoldReason.NO_DATA, HoldReason.PROMETHEUS_UNAVAILABLE):
        blind = HOLD_CASES[reason].make()
        blind.until(lambda status, reason=reason: status.reason == reason)  # type: ignore[misc]
        assert (row(blind)["Held"], row(blind)["Proof"]) == (reason, "")


def test_since_is_that_of_the_reason_and_not_of_an_older_one() -> None:
    w = judging_world(10)
    w.scrapes_lost = True
    w.until(lambda status: status.reason == HoldReason.NO_DATA).run(600)
    assert 590 <= float(row(w)["Since"].removesuffix("s")) <= 660
    w.prometheus_up = False
    w.until(lambda status: status.reason == HoldReason.PROMETHEUS_UNAVAILABLE)
    assert (row(w)["Held"], float(row(w)["Since"].removesuffix("s")) < 30) == ("PrometheusUnavailable", True)
    assert w.now > START + 600


TROUBLE = {
    HoldReason.AWAITING_APPROVAL: 1,
    HoldReason.OUTSIDE_WINDOW: 1,
    HoldReason.QUERY_ERROR: 2,
    HoldReason.PREFLIGHT_FAILED: 2,
    HoldReason.BREACH: 3,
    HoldReason.HEROKU_CANNOT_TAKE_BACK: 3,
}


def test_plans_can_be_sorted_by_how_much_they_need_a_person() -> None:
    def trouble(world: World) -> int:
        # Always there: kubectl does not sort where no plan has the field.
        found: int = world.status.model_dump(mode="json", by_alias=True, exclude_none=True)["trouble"]
        return found

    assert trouble(judging_world(10)) == 0
    for reason, wanted in TROUBLE.items():
        held = HOLD_CASES[reason].make()
        held.until(lambda status, reason=reason: status.reason == reason, within=100_000)  # type: ignore[misc]
        assert trouble(held) == wanted
    failing = judging_world(10, rate=20.0)
    failing.eks = Leg(errors=0.3)
    while failing.working.phase is Phase.SHIFTING:
        failing.step()
    assert trouble(failing) == 2
