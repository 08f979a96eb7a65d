"""What Flux, Argo CD and ``kubectl wait`` make of a plan in every phase and for every hold, as the core produces it.

:func:`kstatus` is the algorithm of sigs.k8s.io/cli-utils/pkg/kstatus/status written out: ``checkGenericProperties``,
``checkGeneration`` and ``checkReadyCondition``, in their order and with the order of the conditions as it is in the object.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from tests.kit.states import HOLD_CASES, PHASE_CASES, manifest, rolled_back
from tests.kit.world import DEAD, World, plan_spec

from cutover.api.crd import crd
from cutover.api.v1alpha1 import Phase
from cutover.domain.engine.actions import Decision
from cutover.domain.engine.decide import not_written, refuse
from cutover.domain.holds import HoldReason
from cutover.domain.observation import Observation
from cutover.domain.plan import Plan

Json = dict[str, Any]


def kstatus(manifest: Json) -> str:
    """Compute what ``status.Compute`` returns for a custom resource."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    # A status without the field skips this check.
    if "generation" in metadata and status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    conditions = status.get("conditions") or []
    for condition in conditions:
        # In one loop: the first of the two in the list decides.
        if (condition["type"], condition["status"]) == ("Reconciling", "True"):
            return "InProgress"
        if (condition["type"], condition["status"]) == ("Stalled", "True"):
            return "Failed"
    for condition in conditions:
        if condition["type"] == "Ready" and condition["status"] in ("True", "False", "Unknown"):
            return "Current" if condition["status"] == "True" else "InProgress"
    # Neither helps: a resource without conditions is taken to be current.
    return "Current"


def answers(found: Json) -> set[str]:
    """Return what kstatus says in whatever order the conditions are; exactly one of its three is true."""
    three = [one for one in found["status"]["conditions"] if one["type"] in ("Ready", "Reconciling", "Stalled")]
    assert [one["status"] for one in three].count("True") == 1, three
    return {kstatus({**found, "status": {**found["status"], "conditions": p}}) for p in itertools.permutations(three)}


# ------------------------------------------------------------------------------------------------- phases and holds


def _world(**fields: Any) -> World:
    return World(spec=plan_spec(**fields))


@pytest.mark.parametrize(("make", "phase", "expected"), PHASE_CASES.values(), ids=PHASE_CASES)
def test_each_phase(make: Callable[[], World], phase: Phase, expected: str) -> None:
    w = make()
    assert w.stored.phase is phase
    assert answers(manifest(w)) == {expected}


def test_all_phases_are_there() -> None:
    """Pending is left within the first reconcile, unless something holds the plan there: see the holds."""
    assert {phase for _, phase, _ in PHASE_CASES.values()} == set(Phase) - {Phase.PENDING}


#: The others leave a plan current: it is where it should be, and the hold is told elsewhere.
NOT_CURRENT = {
    HoldReason.INVALID_SPEC: "Failed",
    HoldReason.CAPABILITY_MISSING: "Failed",
    HoldReason.PREFLIGHT_FAILED: "InProgress",
    HoldReason.TAKEOVER_FAILED: "Failed",
    HoldReason.SHARE_NOT_OBSERVED: "InProgress",
}


@pytest.mark.parametrize("reason", HOLD_CASES)
def test_each_hold(reason: HoldReason) -> None:
    w = HOLD_CASES[reason].make().until_reason(reason)
    assert w.stored.reason == reason
    assert answers(manifest(w)) == {NOT_CURRENT.get(reason, "Current")}


def test_a_route_that_cannot_be_written() -> None:
    """The one hold that comes of a write that failed."""
    w = _world().until_judging(10)
    told = not_written(w.plan(), Decision(w.status, ()), "missing permission", w.now)
    assert told.status.reason == HoldReason.ROUTE_NOT_WRITTEN
    assert answers(manifest(w, told.status)) == {"InProgress"}


def test_every_hold_is_covered() -> None:
    assert set(HOLD_CASES) | {HoldReason.ROUTE_NOT_WRITTEN} == set(HoldReason)


# -------------------------------------------------------------------------------------------------- beginnings, ends


def test_a_plan_that_the_operator_has_not_seen_is_in_progress() -> None:
    """Without the CRD's default it would be current: Flux would go on before anybody looked at it."""
    (version,) = crd()["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]
    unseen: Json = {"metadata": {"generation": 1}, "status": status["default"]}
    assert status["default"] == {"observedGeneration": -1}
    assert kstatus(unseen) == "InProgress"
    assert kstatus({"metadata": {"generation": 1}}) == "Current"


def test_an_edit_is_in_progress_until_it_is_observed_in_every_condition() -> None:
    w = _world().until_judging(10)
    w.edit(soak="2h")
    assert kstatus(manifest(w)) == "InProgress"
    w.reconcile()
    assert kstatus(manifest(w)) == "Current"
    # kubectl wait does not believe a condition that is older than the spec.
    assert {condition.observed_generation for condition in w.stored.conditions} == {w.generation}


def test_a_plan_that_is_told_not_to_begin_is_as_asked_and_begins_later() -> None:
    w = _world(suspend=True)
    w.run(5)
    assert (w.stored.phase, kstatus(manifest(w))) == (Phase.PENDING, "Current")
    w.edit(suspend=False)
    w.reconcile()
    assert kstatus(manifest(w)) == "InProgress"


def test_a_stalled_rollback_is_over_with_the_next_spec() -> None:
    w = rolled_back(Phase.ROLLED_BACK)
    w.edit(schedule={"timeZone": "Europe/Atlantis"})
    w.until_reason(HoldReason.INVALID_SPEC)
    assert kstatus(manifest(w)) == "Failed"
    w.edit(schedule={"timeZone": "Europe/Paris"})
    w.run(5)
    assert kstatus(manifest(w)) == "Current"


def test_a_spec_that_cannot_be_read_fails() -> None:
    w = _world()
    unreadable = {"metadata": {"namespace": "shop", "name": "pdf", "uid": "1", "generation": 1}, "spec": {}}
    status = refuse(Plan.refused(unreadable, "heroku: Field required"), w.now).status
    assert answers(manifest(w, status)) == {"Failed"}


def test_a_plan_that_is_being_deleted_is_terminating() -> None:
    found = manifest(_world().until_judging(10))
    found["metadata"]["deletionTimestamp"] = "2027-01-11T10:00:00Z"
    assert kstatus(found) == "Terminating"


def test_at_most_one_of_the_three_is_true_all_along() -> None:
    """A whole cutover, a rollback and an attempt: kstatus never finds two answers, and is current while it shifts."""
    w = _world()
    seen: list[tuple[Phase, str]] = []

    def look(w: World, plan: Plan, observed: Observation, decision: Decision) -> None:
        (answer,) = answers(manifest(w, decision.status))
        seen.append((decision.status.phase, answer))

    w.on_decision = look
    w.until_phase(Phase.SOAKING)
    w.eks = DEAD
    w.until_phase(Phase.ROLLED_BACK)
    by_phase = {phase: {answer for one, answer in seen if one is phase} for phase, _ in seen}
    assert by_phase == {
        Phase.PREFLIGHT: {"InProgress"},
        Phase.BASELINE: {"Current"},
        Phase.SHIFTING: {"Current"},
        Phase.SOAKING: {"Current"},
        Phase.ROLLING_BACK: {"InProgress"},
        Phase.ROLLED_BACK: {"Current"},
    }
