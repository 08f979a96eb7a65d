"""What to observe in a plan's phase: blocks, custom SLOs, baselines, a backtest, and what the route should say.

The service that observes asks these functions first, so that nothing is read that no decision uses.
"""

from __future__ import annotations

from collections.abc import Iterable

from cutover.api.v1alpha1 import (
    BaselineStatus,
    BoundSlo,
    DownAction,
    MigrationPlanSpec,
    MigrationPlanStatus,
    Phase,
)
from cutover.domain.backtest.climbing import least_seconds
from cutover.domain.commands.annotations import SKIP_ANNOTATION, Skippable, read
from cutover.domain.evidence.tolerances import thresholds_wanted
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks import answers_alike
from cutover.domain.revision import Split, Trial, desired_revision, desired_split
from cutover.domain.slo.custom import CustomSlo
from cutover.domain.steps import next_step
from cutover.domain.traffic import Capabilities, Probe


def samples_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the plan's phase uses blocks."""
    return status.checkpoint is not None and status.phase in (
        Phase.BASELINE,
        Phase.SHIFTING,
        Phase.SOAKING,
        Phase.ROLLING_BACK,
    )


def custom_slos_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the plan's phase uses the queries of custom SLOs."""
    return status.phase in (Phase.PREFLIGHT, Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING)


def baselines_wanted(status: MigrationPlanStatus, gates: Iterable[CustomSlo]) -> tuple[str, ...]:
    """Return the names of the bounds whose value before the migration is not recorded yet."""
    if status.phase is not Phase.BASELINE:
        return ()
    known = {(bound.gate, bound.query_digest) for bound in status.baseline.bounds} if status.baseline else set()
    return tuple(
        gate.name
        for gate in gates
        if isinstance(gate.slo, BoundSlo)
        and gate.slo.times_baseline is not None
        and (gate.name, gate.query_digest) not in known
    )


def backtest_wanted(plan: Plan, now: float) -> bool:
    """Tell whether it is time for the backtest that the plan asks for.

    Parameters
    ----------
    plan
        The plan with its working status.
    now
        Unix seconds.
    """
    status, baseline = plan.status, plan.status.baseline
    return (
        plan.spec.baseline.backtest
        and status.phase is Phase.BASELINE
        and status.checkpoint is not None
        and status.checkpoint.observed_at is not None
        and baseline is not None
        and baseline.backtest is None
        and seconds_until_replay(plan.spec, baseline, now) <= 0
        and not (thresholds_wanted(plan.spec) and baseline.slow_ms is None)
    )


def seconds_until_replay(spec: MigrationPlanSpec, recorded: BaselineStatus, now: float) -> float:
    """Return the seconds of Heroku's traffic that a backtest still needs, with a margin; the record of before is enough."""
    if spec.baseline.source is not None and recorded.record is not None:
        return 0.0
    needed = min(spec.baseline.window.total_seconds(), 1.1 * least_seconds(spec))
    return recorded.since.timestamp() + needed - now


#: Results after which Heroku is not compared any more with the time before the takeover.
COMPARED = ("Alike", "TooFew", "Skipped")


def least_coverage(plan: Plan) -> float | None:
    """Return the part of the window from which the record is read hour by hour; ``None`` where no record is wanted.

    Before the takeover that is the plan's, or nothing where a person skips the hold for less. After it, the record is
    read as it is, to compare Heroku with it.
    """
    status, spec = plan.status, plan.spec.baseline
    if spec.source is None:
        return None
    if status.phase is Phase.PREFLIGHT and status.weight is None and not (plan.spec.suspend or takeover_failed(plan)):
        return 0.0 if _skipped(plan, Skippable.BASELINE_INCOMPLETE) else spec.min_coverage
    recorded = status.baseline
    if status.phase is not Phase.BASELINE or recorded is None or recorded.record is None:
        return None
    return None if recorded.takeover is not None and recorded.takeover.verdict in COMPARED else 0.0


def record_until(status: MigrationPlanStatus) -> float | None:
    """Return the Unix seconds at which the record ends: ``None`` for now, before the takeover."""
    before = status.baseline.record if status.baseline is not None else None
    return before.until.timestamp() if before is not None and status.phase is Phase.BASELINE else None


def keeping_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the takeover is so near that the record is kept in full."""
    return status.phase is Phase.PREFLIGHT and status.weight is None and status.held is None


def _skipped(plan: Plan, hold: Skippable) -> bool:
    """Tell whether an annotation skips a hold of the first step."""
    text, status = plan.annotations.get(SKIP_ANNOTATION), plan.status
    command = read(SKIP_ANNOTATION, text) if text is not None else None
    upcoming = next_step(plan.spec, status.weight or 0)
    if command is None or upcoming is None or hold not in command.holds:
        return False
    return (command.attempt, command.weight) == (status.attempt or plan.spec.attempt, upcoming.weight)


def capacity_wanted(plan: Plan) -> bool:
    """Tell whether the plan wants to know how many replicas EKS can have: Heroku is down, and all users may go to EKS."""
    checkpoint = plan.status.checkpoint
    return (
        plan.spec.on_heroku_down.action is DownAction.FORWARD
        and plan.status.phase is Phase.SHIFTING
        and 0 < (plan.status.weight or 0) < 100
        and checkpoint is not None
        and checkpoint.heroku_down_since is not None
    )


def releases_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the plan wants to know what the legs run: users may be split between them, or will soon be."""
    return status.weight is not None and status.phase in (Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING)


def neighbours_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the plan wants to know who else sends requests to its legs: what the gateway counts does not fit."""
    return status.reason == HoldReason.SHARE_NOT_OBSERVED


#: Phases in which both legs have a route of the operator's, and none is just being moved to.
_ROUTED = (Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED, Phase.ROLLED_BACK)


def audit_asked_at(status: MigrationPlanStatus) -> float | None:
    """Return the Unix seconds since when a request for audits waits for its answer; ``None`` if none does.

    While users are taken over or go back, it waits until that is done.
    """
    audit = status.audit
    if audit is None or audit.answered_at is not None:
        return None
    before = status.phase in (Phase.PENDING, Phase.PREFLIGHT) and status.weight is None
    return audit.asked_at.timestamp() if before or status.phase in _ROUTED else None


def audits_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the audits are run again: at each step, and at 100 %; otherwise where somebody asks for them."""
    return status.phase in (Phase.SHIFTING, Phase.SOAKING) or (
        status.phase in _ROUTED and audit_asked_at(status) is not None
    )


def compares_again(status: MigrationPlanStatus) -> bool:
    """Tell whether both legs' answers are compared once more, after the takeover, because somebody asks for it."""
    return status.weight is not None and status.phase in _ROUTED and audit_asked_at(status) is not None


#: Seconds between two questions of the same kind whose answers only advise: in preflight, where people mend what they are
#: told, and once the plan is Completed. Heroku's API is asked nine times each time, of an account that has 75 requests a
#: minute for all.
ADVICE_SECONDS, LATE_ADVICE_SECONDS = 600.0, 43_200.0


def advice_interval(status: MigrationPlanStatus) -> float | None:
    """Return the seconds between two questions to Heroku's API, to DNS and to the drain's record; ``None`` for none."""
    match status.phase:
        case Phase.PREFLIGHT:
            return ADVICE_SECONDS
        case Phase.COMPLETED:
            return LATE_ADVICE_SECONDS
        case _:
            return None


def route_wanted(plan: Plan, can: Capabilities) -> Split | Trial | None:
    """Return what the plan's route should say; ``None`` while it should have none.

    Parameters
    ----------
    plan
        The plan with its working status.
    can
        What the traffic provider can do.
    """
    status = plan.status
    if status.weight is not None:
        return desired_split(status)
    trying = can.tries and status.phase is Phase.PREFLIGHT and not plan.spec.suspend
    return Trial(status.attempt, given_back=takeover_failed(plan)) if trying else None


def takeover_failed(plan: Plan) -> bool:
    """Tell whether the takeover of this attempt failed, so that the plan waits for another."""
    failed = plan.status.failed_takeover
    return failed is not None and plan.spec.attempt <= failed


def undoable(status: MigrationPlanStatus) -> bool:
    """Tell whether the takeover is so young that users get their own route back if Heroku fails."""
    young = status.weight == 0 and status.phase in (Phase.PREFLIGHT, Phase.BASELINE)
    return young and status.route is not None and status.route.undoable


def trial_begun(plan: Plan) -> bool:
    """Tell whether the probes have a route while users have none of the operator's, or soon will."""
    status = plan.status
    waits = plan.spec.suspend or takeover_failed(plan)
    return status.weight is None and not waits and status.route is not None and status.route.trial != ""


def answers_wanted(plan: Plan, probes: Iterable[Probe | None], can: Capabilities) -> bool:
    """Tell whether to ask for the answers that are compared: the gateway has the trial's route, or somebody asks for it later.

    Parameters
    ----------
    plan
        The plan with its working status.
    probes
        The newest probes of both legs. A leg that hangs does not tell the route.
    can
        What the traffic provider can do.
    """
    if not can.probes_eks or plan.spec.preflight.reason_to_skip(answers_alike.NAME) is not None:
        return False
    wanted = desired_revision(plan.status)
    there = any(probe is not None and probe.revision == wanted for probe in probes)
    return (trial_begun(plan) and there) or compares_again(plan.status)
