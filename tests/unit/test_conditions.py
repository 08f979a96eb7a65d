"""What kubectl wait, Flux and Argo CD see."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cutover.api.v1alpha1 import Condition, MigrationPlanStatus, Phase
from cutover.domain.engine.conditions import conditions
from cutover.domain.holds import Hold, HoldReason

NOW = datetime(2027, 1, 11, 10, tzinfo=UTC)
BREACH = Hold(HoldReason.BREACH, "EKS is worse")
INVALID = Hold(HoldReason.INVALID_SPEC, "steps: mend them")


def of(
    phase: Phase,
    hold: Hold | None = None,
    *,
    before: MigrationPlanStatus | None = None,
    unsupported: tuple[str, ...] = (),
    generation: int = 3,
    now: datetime = NOW,
) -> tuple[Condition, ...]:
    return conditions(
        before or MigrationPlanStatus(),
        phase=phase,
        hold=hold,
        reason=hold.reason if hold else "Judging",
        message=hold.message if hold else "10 % for another 5 min",
        unsupported=unsupported,
        generation=generation,
        now=now,
    )


def kstatus(found: tuple[Condition, ...], generation: int = 3) -> str:
    """Compute the status as kstatus does: https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus."""
    by_type = {condition.type: condition.status for condition in found}
    if any(condition.observed_generation != generation for condition in found):
        return "InProgress"
    if by_type.get("Reconciling") == "True":
        return "InProgress"
    if by_type.get("Stalled") == "True":
        return "Failed"
    return "Current" if by_type.get("Ready") == "True" else "InProgress"


@pytest.mark.parametrize(
    ("phase", "hold", "true", "computed"),
    [
        (Phase.PENDING, None, {"Reconciling", "Progressing"}, "InProgress"),
        (Phase.PENDING, INVALID, {"Stalled", "Held"}, "Failed"),
        (Phase.PREFLIGHT, None, {"Reconciling", "Progressing"}, "InProgress"),
        (Phase.PREFLIGHT, Hold(HoldReason.PREFLIGHT_FAILED, "x"), {"Reconciling", "Held"}, "InProgress"),
        (Phase.BASELINE, None, {"Ready", "Progressing"}, "Current"),
        (Phase.SHIFTING, None, {"Ready", "Progressing"}, "Current"),
        (Phase.SHIFTING, BREACH, {"Ready", "Held"}, "Current"),
        (Phase.SHIFTING, INVALID, {"Stalled", "Held"}, "Failed"),
        (Phase.SOAKING, None, {"Ready", "Progressing"}, "Current"),
        (Phase.COMPLETED, None, {"Ready", "Completed"}, "Current"),
        (Phase.ROLLING_BACK, None, {"Reconciling", "Progressing"}, "InProgress"),
        (Phase.ROLLED_BACK, None, {"Ready", "RolledBack"}, "Current"),
    ],
)
def test_conditions(phase: Phase, hold: Hold | None, true: set[str], computed: str) -> None:
    found = of(phase, hold)
    assert [c.type for c in found] == [
        "Ready", "Reconciling", "Stalled", "Progressing", "Held", "Completed", "RolledBack",
    ]  # fmt: skip
    assert {c.type for c in found if c.status == "True"} == true
    assert {c.status for c in found} <= {"True", "False"}
    assert {c.observed_generation for c in found} == {3}
    assert all(c.reason for c in found), "the API wants a reason for each"
    assert kstatus(found) == computed


def test_a_plan_of_days_does_not_hold_up_whoever_applied_it() -> None:
    """Ready and not Reconciling while weight is between the legs, so that Flux' health check passes."""
    found = {c.type: c.status for c in of(Phase.SHIFTING, Hold(HoldReason.AWAITING_APPROVAL, "x"))}
    assert (found["Ready"], found["Reconciling"], found["Stalled"]) == ("True", "False", "False")


def test_a_new_generation_is_observed_by_all() -> None:
    before = MigrationPlanStatus(conditions=of(Phase.SHIFTING))
    assert {c.observed_generation for c in of(Phase.SHIFTING, before=before, generation=4)} == {4}


def test_transition_times_change_with_the_status_only() -> None:
    before = MigrationPlanStatus(conditions=of(Phase.SHIFTING))
    later = NOW + timedelta(minutes=5)
    found = of(Phase.SHIFTING, BREACH, before=before, now=later)
    changed = {c.type for c in found if c.last_transition_time == later}
    assert changed == {"Progressing", "Held"}
    ready = next(c for c in found if c.type == "Ready")
    assert (ready.reason, ready.last_transition_time) == ("Breach", NOW), "a reason alone is no transition"


def test_fields_without_effect_show_as_a_condition_only_where_there_are_any() -> None:
    found = of(Phase.PENDING, unsupported=("baseline: x", "heroku.apiKeySecretRef: y"))
    assert found[-1].type == "NotYetSupported"
    assert found[-1].message == "baseline: x; heroku.apiKeySecretRef: y"
