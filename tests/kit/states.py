"""Worlds on their way to each phase of a migration, and to each reason to hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from tests.kit.custom_slos import BOUND, gates_of
from tests.kit.record import END, record
from tests.kit.target import READY
from tests.kit.world import DEAD, HEALTHY, Leg, Route, World, check, plan_spec

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.baseline.record import KeptRecord, Reach, RecordReading
from cutover.domain.heroku import HerokuNews, Release
from cutover.domain.holds import HoldReason
from cutover.domain.slo.custom import QueryProblem
from cutover.domain.verdicts import Verdict

Json = dict[str, Any]


def checked_world(rate: float = 50.0, **fields: Any) -> World:
    """Return a world whose every decision is held against the rules that do not bend."""
    return World(spec=plan_spec(**fields), rate=rate, on_decision=check)


_PLAYED: dict[str, World] = {}


def judging_world(weight: int, **fields: Any) -> World:
    """Return a checked world that has been seen at a weight: played once for each plan, as many tests begin there."""
    key = f"{weight} {fields}"
    if key not in _PLAYED:
        _PLAYED[key] = checked_world(**fields).until_judging(weight)
    return _PLAYED[key].copy()


def _invalid() -> World:
    w = judging_world(10)
    w.edit(schedule={"timeZone": "Europe/Atlantis"})
    return w


def _incapable() -> World:
    w = judging_world(10)
    w.capabilities = replace(w.capabilities, probes_leg=False)
    return w


def _preflight() -> World:
    w = checked_world()
    w.target = replace(READY, replicas=(2, 1))
    return w


def _approval() -> World:
    steps = [{"weight": 10, "hold": "10s"}, {"weight": 25, "approval": "Manual"}, {"weight": 100}]
    return checked_world(steps=steps)


def _window() -> World:
    windows = [{"days": ["Mon", "Tue"], "from": "14:00", "to": "17:00"}]
    return checked_world(schedule={"timeZone": "Europe/Paris", "windows": windows})


def _frozen() -> World:
    freeze = {"from": "2027-01-01T00:00:00Z", "to": "2027-02-01T00:00:00Z", "reason": "winter sale"}
    return checked_world(schedule={"freezes": [freeze]})


def _insufficient() -> World:
    w = judging_world(10)
    w.rate = 0.1
    return w


def _asked() -> World:
    gates = {**gates_of(), "insufficientTraffic": "AskPeople"}
    w = judging_world(10, gates=gates)
    w.rate = 0.3
    return w


def _undecided() -> World:
    # Above the margin of an advance, and too little to be called harm.
    errors = {"tolerate": {"ratio": 1.25, "margin": 0.02}, "advance": {"ratio": 1.0, "margin": 0.0005}}
    w = judging_world(10, gates={**gates_of(), "slos": [{"name": "errors", "errors": errors}]})
    w.eks = Leg(errors=0.01)
    return w


def _no_data() -> World:
    w = judging_world(10)
    w.scrapes_lost = True
    return w


def _prometheus() -> World:
    w = judging_world(10)
    w.prometheus_up = False
    return w


def _unseen() -> World:
    w = judging_world(10)
    w.istiod_up = False
    return w


def _both() -> World:
    w = judging_world(50)
    w.heroku = w.eks = Leg(errors=0.5)
    return w


def _heroku() -> World:
    w = judging_world(50)
    w.heroku = DEAD
    return w


def _unconfirmed() -> World:
    w = judging_world(100, soak="1h")
    w.eks, w.eks_to_probes = Leg(errors=0.2), HEALTHY
    return w


def _only_probes() -> World:
    w = checked_world().until_phase(Phase.BASELINE)
    w.eks_to_probes = DEAD
    return w


def _drift() -> World:
    w = judging_world(25)
    w.set_route(Route(75, "a1-w25", ("kubectl-edit",)))
    return w


def _unequal() -> World:
    w = judging_world(10)
    w.heroku = Leg(refused=0.12)
    return w


def _unshared() -> World:
    steps = [{"weight": weight, "hold": "2m"} for weight in (50, 100)]
    w = checked_world(steps=steps, ceiling=0).until_reason("Ceiling").run(60)
    w.edit(ceiling=100)
    w.until_judging(50)
    w.unshared = 0.2
    return w


def _recorded(reading: RecordReading) -> World:
    w = checked_world(baseline={"source": "Drain"})
    w.record, w.kept = reading, KeptRecord("cutover-pdf-baseline-0123456789")
    return w


def _otherwise() -> World:
    known = record()
    w = _recorded(RecordReading(known.reach, known))
    w.heroku = Leg(refused=0.2)
    return w


def _released() -> World:
    w = checked_world()
    w.news = HerokuNews((Release(42, "slug-a", "Deploy 1a2b3c4d", current=True, succeeded=True),), problem="")
    w.until_judging(10)
    w.news = HerokuNews((Release(43, "slug-b", "Deploy 5e6f7a8b", current=True, succeeded=True),), problem="")
    return w


def _undone() -> World:
    w = checked_world()
    w.gives_back = True
    w.until(lambda status: status.weight == 0)
    w.heroku = DEAD
    return w


def _breach() -> World:
    w = judging_world(25, onBreach="Hold")
    w.eks = DEAD
    return w


def _timeout() -> World:
    steps = [{"weight": 10, "hold": "10s", "timeout": "2m"}, {"weight": 100}]
    w = judging_world(10, steps=steps)
    w.rate = 1.0
    return w


def _own(verdict: Verdict) -> World:
    w = checked_world(gates=gates_of(BOUND))
    w.values["throttling"] = 0.1
    w.until_judging(10)
    w.problems["throttling"] = QueryProblem(verdict, "what Prometheus says", w.now)
    return w


def _exceeded() -> World:
    w = checked_world(gates=gates_of(BOUND))
    w.values["throttling"] = 0.4
    return w


class HoldCase(NamedTuple):
    """A world that comes to hold for one reason, what the status says then, and the weight at which it holds."""

    make: Callable[[], World]
    says: tuple[str, ...]
    weight: int | None


#: By reason; all but the one that comes of a write that failed.
HOLD_CASES = {
    HoldReason.INVALID_SPEC: HoldCase(_invalid, ("schedule.timeZone", "use an IANA name"), 10),
    HoldReason.CAPABILITY_MISSING: HoldCase(_incapable, ("provider (Istio)", "the way back cannot be tried"), 10),
    HoldReason.PREFLIGHT_FAILED: HoldCase(_preflight, ("workload", "1 of 2 replicas", "see its events"), None),
    HoldReason.TAKEOVER_FAILED: HoldCase(_undone, ("3 probes", "as they went before", "raise spec.attempt"), None),
    HoldReason.BASELINE_INCOMPLETE: HoldCase(
        lambda: _recorded(RecordReading(Reach(END, (0,) * 136 + (60,) * 200))),
        ("60% of 14d are recorded", "cutover.dev/skip-hold=a1-w10/BaselineIncomplete"),
        None,
    ),
    HoldReason.TAKEOVER_DIFFERS: HoldCase(
        _otherwise, ("Heroku refuses more since the takeover", "cutover.dev/skip-hold=a1-w10/TakeoverDiffers"), 0
    ),
    HoldReason.SUSPENDED: HoldCase(lambda: checked_world(suspend=True), ("spec.suspend", "set it to false"), None),
    HoldReason.AWAITING_APPROVAL: HoldCase(_approval, ("annotate the plan cutover.dev/approve=a1-w25",), 10),
    HoldReason.AWAITING_DECISION: HoldCase(_asked, ("annotate the plan cutover.dev/proceed=a1-w25",), 10),
    HoldReason.OUTSIDE_WINDOW: HoldCase(_window, ("the next window opens Mon 2027-01-11 14:00 CET",), 0),
    HoldReason.FROZEN: HoldCase(_frozen, ("frozen until 2027-02-01 00:00 UTC: winter sale",), 0),
    HoldReason.CEILING: HoldCase(lambda: checked_world(ceiling=25), ("ready for 50 %; raise spec.ceiling (25)",), 25),
    HoldReason.INSUFFICIENT_TRAFFIC: HoldCase(_insufficient, ("evidence of safety",), 10),
    HoldReason.UNDECIDED: HoldCase(_undecided, ("evidence of safety",), 10),
    HoldReason.NO_DATA: HoldCase(_no_data, ("a scrape was missed",), 10),
    HoldReason.PROMETHEUS_UNAVAILABLE: HoldCase(_prometheus, ("does not answer",), 10),
    HoldReason.QUERY_ERROR: HoldCase(
        lambda: _own(Verdict.QUERY_ERROR), ("gate throttling", "what Prometheus says"), 10
    ),
    HoldReason.AMBIGUOUS: HoldCase(lambda: _own(Verdict.AMBIGUOUS), ("gate throttling", "what Prometheus says"), 10),
    HoldReason.BOUND_EXCEEDED: HoldCase(_exceeded, ("gate throttling", "0.4"), 0),
    HoldReason.SHARE_NOT_OBSERVED: HoldCase(
        _unseen, ("EKS is seen with 10.0 %", "route is a1-w10 (wanted: a1-w25)", "see istiod"), 25
    ),
    HoldReason.BOTH_LEGS_UNHEALTHY: HoldCase(_both, ("both legs",), 50),
    HoldReason.HARM_UNCONFIRMED: HoldCase(
        _unconfirmed,
        ("EKS is worse (", "the probes do not confirm it", "annotate the plan cutover.dev/rollback=a1"),
        100,
    ),
    HoldReason.EKS_PROBES_FAIL: HoldCase(
        _only_probes, ("EKS answered", "worse than Heroku", "EKS: HTTP 503", "the first step waits"), 0
    ),
    HoldReason.HEROKU_CANNOT_TAKE_BACK: HoldCase(_heroku, ("nothing to go back to",), 50),
    HoldReason.DRIFT_DETECTED: HoldCase(_drift, ("edited by kubectl-edit (75 % to EKS); put back to 25 %",), 25),
    HoldReason.ANSWERS_DIFFER: HoldCase(
        _unequal,
        (
            "EKS refuses fewer requests than Heroku: Heroku answers 200 ",
            ", 401 ",
            "; EKS 200 99.9 %, 500 0.1 %; ",
            "cutover.dev/skip-hold=a1-w25/AnswersDiffer",
        ),
        10,
    ),
    HoldReason.SESSIONS_NOT_SHARED: HoldCase(
        _unshared, ("did not accept the other's sessions", "cutover.dev/skip-hold=a1-w100/SessionsNotShared"), 50
    ),
    HoldReason.LEGS_DIFFER: HoldCase(
        _released,
        (
            "Heroku changed and EKS did not since: code (v43 (Deploy 5e6f7a8b))",
            "cutover.dev/skip-hold=a1-w25/LegsDiffer",
        ),
        10,
    ),
    HoldReason.BREACH: HoldCase(_breach, ("EKS is worse", "annotate the plan cutover.dev/rollback=a1"), 25),
    HoldReason.STEP_TIMEOUT: HoldCase(
        _timeout, ("not passed within 2m", "annotate the plan cutover.dev/rollback=a1"), 10
    ),
}


def manifest(world: World, status: MigrationPlanStatus | None = None) -> Json:
    """Return the plan as the API server has it."""
    metadata: Json = {"name": "pdf", "namespace": "shop", "generation": world.generation}
    return {"metadata": metadata, "status": (status or world.stored).to_wire()}


def rolled_back(phase: Phase) -> World:
    """Return a world that is in a phase after EKS died at 25 %."""
    w = World().until_judging(25)
    w.eks = DEAD
    return w.until_phase(phase)


def _tried_again() -> World:
    w = rolled_back(Phase.ROLLED_BACK)
    w.edit(attempt=2)
    return w.until_phase(Phase.PREFLIGHT)


class PhaseCase(NamedTuple):
    """A world in a phase, and what kstatus makes of it."""

    make: Callable[[], World]
    phase: Phase
    kstatus: str


PHASE_CASES = {
    "preflight": PhaseCase(lambda: World().until_phase(Phase.PREFLIGHT), Phase.PREFLIGHT, "InProgress"),
    "baseline": PhaseCase(lambda: World().until_phase(Phase.BASELINE), Phase.BASELINE, "Current"),
    "before the first step": PhaseCase(lambda: World().until_phase(Phase.SHIFTING), Phase.SHIFTING, "Current"),
    "a step that is not seen yet": PhaseCase(lambda: World().until_reason("AwaitingShare"), Phase.SHIFTING, "Current"),
    "in mid-cutover": PhaseCase(lambda: World().until_judging(25), Phase.SHIFTING, "Current"),
    "soaking": PhaseCase(lambda: World().until_phase(Phase.SOAKING), Phase.SOAKING, "Current"),
    "completed": PhaseCase(lambda: World().until_phase(Phase.COMPLETED), Phase.COMPLETED, "Current"),
    "rolling back": PhaseCase(lambda: rolled_back(Phase.ROLLING_BACK), Phase.ROLLING_BACK, "InProgress"),
    "rolled back": PhaseCase(lambda: rolled_back(Phase.ROLLED_BACK), Phase.ROLLED_BACK, "Current"),
    "tried again": PhaseCase(_tried_again, Phase.PREFLIGHT, "InProgress"),
}
