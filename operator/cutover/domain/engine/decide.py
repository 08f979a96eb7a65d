"""The state machine: why weight moves, and why it does not.

:func:`decide` is the one place. It looks at a plan and at what was observed, and says what the plan's status becomes
and what has to be written, in which order:

- going up, the intent is written to the status first (its resourceVersion is the fence against a second operator),
  then the route;
- going back, the route is written first and waits on nothing.

Every pass derives its actions from how the world differs from the status, so a crash between two writes heals at the
next pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, assert_never

from cutover.api.v1alpha1 import (
    Approval,
    ApprovedStep,
    BaselineStatus,
    BoundBaseline,
    BoundSlo,
    Checkpoint,
    GateKind,
    MigrationPlanSpec,
    MigrationPlanStatus,
    Mode,
    OnBreach,
    OnDelete,
    OnTimeout,
    Ownership,
    Phase,
    Share,
    Step,
    format_duration,
)
from cutover.api.v1alpha1.templates import Template
from cutover.domain.backtest.replay import least_seconds
from cutover.domain.baseline.thresholds import LEAST_REQUESTS, choose_thresholds
from cutover.domain.commands.annotations import (
    APPROVE_ANNOTATION,
    ROLLBACK_ANNOTATION,
    SKIP_ANNOTATION,
    Command,
    Skippable,
    approve,
    assignment,
    read,
    rollback,
)
from cutover.domain.commands.refusals import Refusal, refusals
from cutover.domain.engine import schedule
from cutover.domain.engine.actions import Decision, Event, Finalize, WriteStatus
from cutover.domain.engine.assessment import Assessment, assess, edits
from cutover.domain.engine.conditions import conditions
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.support import not_yet_supported, problems
from cutover.domain.engine.writes import decision_of, samples_wanted
from cutover.domain.evidence import judge as gate
from cutover.domain.evidence import sentences
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.ingest import GAPS_UNTIL_NO_DATA, dump_evidence, ingest, load_evidence, share
from cutover.domain.evidence.numbers import numbers_of
from cutover.domain.evidence.share import LEAST_REQUESTS as LEAST_SHARE_REQUESTS
from cutover.domain.evidence.share import Pool
from cutover.domain.evidence.tolerances import gate_rules, thresholds_wanted
from cutover.domain.holds import ALARMING, QUIET, Hold, HoldReason
from cutover.domain.journal.ledger import note, note_hold, note_repair
from cutover.domain.journal.spec_snapshot import changes as spec_changes
from cutover.domain.journal.spec_snapshot import spec_snapshot
from cutover.domain.observation import Observation, Plan
from cutover.domain.preflight import target as preflight
from cutover.domain.revision import desired_revision, revision, rollback_revision
from cutover.domain.slo.custom import CustomSlo
from cutover.domain.slo.judge import begin_step, ingest_custom_slos, judge_custom_slos
from cutover.domain.slo.templates import Resolution, changes, custom_slos
from cutover.domain.steps import current_step, next_step, progress
from cutover.domain.texts import shorten
from cutover.domain.verdicts import Verdict

#: Seconds (or eight blocks, if longer) after which a weight that cannot be seen at the gateway is a hold.
SHARE_DEADLINE_SECONDS = 120.0
#: Seconds after which a probe of the Heroku leg says nothing about now.
PROBE_LIFETIME_SECONDS = 60.0
#: Seconds between what a route refers to and the route itself. Gateways get both in one go from an istiod that gathers
#: changes (it does for 10 s at the most, ``PILOT_DEBOUNCE_MAX``), and answer 503 while they know the route but not yet the
#: way behind it.
PREPARED_SECONDS = 10.0
#: Seconds after a start for which a rollback that is in the route already may wait for what led to it.
CAUSE_SECONDS = 30.0
#: Seconds for which a raise that could not be written to the route is tried on; then its evidence is too old.
RAISE_LIFETIME_SECONDS = 60.0
#: Seconds after a start in which a template that is not there may still be told of.
TEMPLATES_SECONDS = 5.0
#: Characters of a message in the status; it is repeated in the conditions.
LONGEST_MESSAGE = 1000
#: Gates that a message tells of; the status has an entry for each.
MOST_TOLD = 3


def decide(plan: Plan, observation: Observation, now: float) -> Decision:
    """Decide what happens to a plan.

    Parameters
    ----------
    plan
        The plan with its working status.
    observation
        What this pass saw.
    now
        Unix seconds.
    """
    if plan.deleting:
        end = _resting_place(plan)
        events: tuple[Event, ...] = ()
        if end is not plan.spec.on_delete:
            rests = "goes to Heroku" if end is OnDelete.HEROKU else "stays where it is"
            message = f"traffic {rests}: onDelete EKS is for a plan whose evidence has put all of it on EKS"
            events = (Event("Warning", "RestsElsewhere", message),)
        return Decision(status=plan.status, actions=(Finalize(end),), events=events)
    current = _Pass(plan, observation, now)
    return current.finish(current.outcome())


def refuse(plan: Plan, now: float) -> Decision:
    """Say in the status that the plan's spec cannot be read (``plan.unreadable``); nothing else can be decided."""
    current = _Pass(plan, Observation(), now)
    return current.finish(current.refused())


def not_written(plan: Plan, decision: Decision, problem: str, now: float) -> Decision:
    """Say in the status that the route of a decision could not be written, whatever was decided: nobody waits unseen.

    Parameters
    ----------
    plan
        The plan as it was before the decision, or after the part of it that succeeded.
    problem
        Why not, in words for people.
    """
    current = _Pass(plan, Observation(), now)
    message = f"the route to {decision.status.weight or 0} % cannot be written: {problem}; it is tried on"
    if decision.status.phase is Phase.ROLLING_BACK:
        message = f"{decision.status.message}: {message}"
    held = current.finish(current.unwritten(message))
    return replace(held, actions=tuple(action for action in held.actions if action == WriteStatus()))


def resolve(plan: Plan, templates: Mapping[str, Template | str], *, frozen: bool = True) -> Resolution:
    """Return the plan's own gates.

    Parameters
    ----------
    plan
        The plan.
    templates
        As they are now, by ``Kind/name``.
    frozen
        Whether those that are in force stay it: a change of a template waits for the next step.
    """
    return custom_slos(
        plan.spec,
        plan_name=plan.name,
        namespace=plan.namespace,
        frozen=plan.status.templates if frozen else (),
        kept=plan.status.templates,
        templates=templates,
    )


def custom_slos_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the team's own queries are of use in the plan's phase."""
    return status.phase in (Phase.PREFLIGHT, Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING)


def baselines_wanted(status: MigrationPlanStatus, gates: Iterable[CustomSlo]) -> tuple[str, ...]:
    """Return the bounds whose value before the migration is still to be recorded."""
    if status.phase is not Phase.BASELINE:
        return ()
    known = {(one.gate, one.query_digest) for one in status.baseline.bounds} if status.baseline else set()
    return tuple(
        own.name
        for own in gates
        if isinstance(own.slo, BoundSlo)
        and own.slo.times_baseline is not None
        and (own.name, own.query_digest) not in known
    )


def backtest_wanted(plan: Plan, now: float) -> bool:
    """Tell whether it is time for the replay that the plan asks for."""
    status, baseline = plan.status, plan.status.baseline
    return (
        plan.spec.baseline.backtest
        and status.phase is Phase.BASELINE
        and status.checkpoint is not None
        and status.checkpoint.observed_at is not None
        and baseline is not None
        and baseline.backtest is None
        and now - baseline.since.timestamp() >= _record_seconds(plan.spec)
        and not (thresholds_wanted(plan.spec) and baseline.slow_ms is None)
    )


def _record_seconds(spec: MigrationPlanSpec) -> float:
    """Return the seconds of Heroku's traffic that a replay wants to see, with some to spare."""
    return min(spec.baseline.window.total_seconds(), 1.1 * least_seconds(spec))


def probe_interval(status: MigrationPlanStatus) -> float | None:
    """Return the seconds between two probes of the Heroku leg; ``None`` while there is no route to probe."""
    if status.weight is None:
        return None
    match status.phase:
        case Phase.PENDING | Phase.COMPLETED | Phase.ROLLED_BACK:
            return None
        case Phase.PREFLIGHT | Phase.ROLLING_BACK:
            return 1.0
        case Phase.BASELINE | Phase.SHIFTING | Phase.SOAKING:
            waiting = status.checkpoint is not None and status.checkpoint.observed_at is None
            return 2.0 if waiting else 10.0
        case _:
            assert_never(status.phase)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One look at one plan."""

    plan: Plan
    seen: Observation
    now: float

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.now, UTC)

    @property
    def block_seconds(self) -> float:
        return self.plan.spec.gates.block.total_seconds()

    # -------------------------------------------------------------------------------------------------- the phases

    def outcome(self) -> Outcome:
        """Choose by what people and the world say first, then by phase."""
        status = self._refused_commands(self._edited(self.plan.status))
        if (attempt := self._rolled_back_by_route(status)) is not None:
            status = status.model_copy(update={"attempt": attempt})
            # What led to it is most often still to be seen: a person's command, or the evidence.
            before = self._when_written()
            again = self._command(status) or (before.judge(status) if status.phase is not Phase.COMPLETED else None)
            if again is not None and again.status.phase is Phase.ROLLING_BACK:
                return again
            if not (samples := self.seen.samples).blocks and not samples.error:
                young = 0 <= self.now - self.seen.since < CAUSE_SECONDS
                if young and status.phase is not Phase.COMPLETED:
                    # The first blocks are read after the first pass, and the traffic is where it has to be.
                    message = "the route is rolled back; reading what led to it"
                    return Outcome(self.plan.status, "CatchingUp", message, requeue=1, route=False)
            return self.roll_back(status, "Resumed", "the route was rolled back before it could be written down")
        unread = status.weight is not None and self.seen.traffic is None  # its route may be rolled back
        over = status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        if not over and not unread and status.attempt != self.plan.spec.attempt:
            # Raised while nothing was to be tried again: take note, so that it does not start a try by surprise later.
            status = status.model_copy(update={"attempt": self.plan.spec.attempt, "approved": None})
        if commanded := self._command(status):
            return commanded
        if status.phase in (Phase.PENDING, Phase.PREFLIGHT) and (invalid := self._invalid()):
            return self._reading_templates(status) or self._held(status, invalid)
        if status.phase in (Phase.COMPLETED, Phase.ROLLED_BACK) and (invalid := self._invalid()):
            return self._still(status) or self._held(status, invalid, requeue=300)
        match status.phase:
            case Phase.PENDING:
                return self.pending(status)
            case Phase.PREFLIGHT:
                return self.preflight(status)
            case Phase.BASELINE:
                return self.baseline(status)
            case Phase.SHIFTING | Phase.SOAKING:
                return self.judge(status)
            case Phase.COMPLETED:
                return Outcome(status, "Completed", "all traffic is on EKS and the soak is over", requeue=300)
            case Phase.ROLLING_BACK:
                return self.rolling_back(status)
            case Phase.ROLLED_BACK:
                return self.rolled_back(status)
            case _:
                assert_never(status.phase)

    def refused(self) -> Outcome:
        return self._hold(self.plan.status, HoldReason.INVALID_SPEC, self.plan.unreadable)

    def unwritten(self, message: str) -> Outcome:
        return self._hold(self.plan.status, HoldReason.ROUTE_NOT_WRITTEN, message)

    def pending(self, status: MigrationPlanStatus) -> Outcome:
        if self.plan.spec.suspend:
            return self._hold(status, HoldReason.SUSPENDED, "spec.suspend is set; set it to false to start")
        started = self._enter(status, Phase.PREFLIGHT)
        return Outcome(started, "Preflight", "checking the target", requeue=0)

    def preflight(self, status: MigrationPlanStatus) -> Outcome:
        spec = self.plan.spec
        gates = self._resolve()
        queries = preflight.check_queries(spec, gates.gates, self.seen.own)
        checks = (*preflight.check_target(spec, self.seen.workload), *queries)
        status = status.model_copy(update={"preflight": checks})
        if not preflight.passed(checks):
            detail = "; ".join((preflight.summary(checks), *self.seen.errors))
            open_checks = [check for check in checks if not preflight.passed((check,))]
            if open_checks == [check for check in queries if check.status == preflight.UNKNOWN] and (
                self._waited(self._since(status)) < SHARE_DEADLINE_SECONDS
            ):
                return Outcome(status, "Preflight", detail, requeue=1)
            # A hiccup of the API server is nothing that people have to mend first.
            unanswered = self.seen.workload is None or any(check.status == preflight.UNKNOWN for check in queries)
            return self._hold(status, HoldReason.PREFLIGHT_FAILED, detail, requeue=2 if unanswered else 10)
        if spec.suspend:
            return self._hold(status, HoldReason.SUSPENDED, "spec.suspend is set; set it to false to go on")
        if status.weight is None:
            if self.seen.traffic is None:  # also where people have taken all the checks upon themselves
                detail = "; ".join(
                    ("whether a route of an earlier plan is there could not be read", *self.seen.errors)
                )
                return self._hold(status, HoldReason.PREFLIGHT_FAILED, detail, requeue=2)
            if there := self.seen.traffic.weight:
                reference = spec.traffic.istio.virtual_service_ref
                detail = (
                    f"VirtualService {reference.name} sends {there} % to EKS already, and the takeover would send it all "
                    "to Heroku; set that weight to 0 first if this is what you want"
                    if spec.traffic.istio.ownership is Ownership.ADOPT and reference is not None
                    else f"a route of an earlier plan sends {there} % elsewhere, and the takeover would send it all to "
                    "Heroku; delete that VirtualService first if this is what you want"
                )
                return self._hold(status, HoldReason.PREFLIGHT_FAILED, detail, requeue=10)
            left = PREPARED_SECONDS - (self.seen.prepared_for or 0.0)
            if left > 0:
                message = f"the gateways learn of the way to Heroku; the takeover is in {_span(left)}"
                return Outcome(status, "TakingOver", message, requeue=left, prepare=self.seen.prepared_for is None)
            message = (
                f"traffic of {', '.join(spec.traffic.istio.hosts)} is routed by the operator, all of it to Heroku"
            )
            ledger = note(status, "TakeOver", to=0, reason="PreflightPassed", message=message, now=self.time)
            taken = self._at_weight(status, 0).model_copy(update={"ledger": ledger})
            event = Event("Normal", "TakeOver", message)
            return Outcome(taken, "TakingOver", message, events=(event,), requeue=1)
        heroku = preflight.check_heroku(spec, self.seen.probe, desired_revision(status))
        status = status.model_copy(update={"preflight": (*checks, heroku)})
        if not preflight.passed((heroku,)):
            detail = preflight.summary((heroku,)) or heroku.message
            if heroku.status == preflight.UNKNOWN and self._waited(self._since(status)) < SHARE_DEADLINE_SECONDS:
                return Outcome(status, "TakingOver", detail, requeue=1)
            return self._hold(status, HoldReason.PREFLIGHT_FAILED, detail, requeue=2)
        if self.seen.traffic is None or not self.seen.traffic.current:
            # The answer proves the route; where that check is skipped nothing else does.
            return Outcome(status, "TakingOver", "the route is being written", requeue=1)
        started = self._enter(status, Phase.BASELINE).model_copy(
            update={
                "baseline": BaselineStatus(since=self.time),
                "checkpoint": self._checkpoint(status, previous=0),
                "templates": gates.resolved,
            }
        )
        return Outcome(started, "Recording", "recording Heroku's traffic at the gateway", requeue=0)

    def baseline(self, status: MigrationPlanStatus) -> Outcome:
        spec = self.plan.spec
        checkpoint = self._ingest(status)
        status = status.model_copy(update={"checkpoint": checkpoint, "share": self._share(checkpoint)})
        if hold := self._blind(checkpoint):
            return self._held(status, hold)
        pooled = Pool(*checkpoint.share_pool)
        if checkpoint.observed_at is None:
            hosts = ", ".join(spec.traffic.istio.hosts)
            message = (
                f"{pooled.total:.0f} requests of {hosts} seen at the gateway since the takeover; "
                f"{LEAST_SHARE_REQUESTS} prove it: point the host's DNS at the gateway if it is not"
            )
            if self._waited(self._since(status)) < SHARE_DEADLINE_SECONDS:
                return Outcome(status, "Recording", message, requeue=self.block_seconds)
            return self._hold(status, HoldReason.INSUFFICIENT_TRAFFIC, message)
        baseline = status.baseline or BaselineStatus(since=self.time)
        if thresholds_wanted(spec):
            histogram = self.seen.histogram
            if histogram is None:
                detail = "; ".join(self.seen.errors)
                if not detail:
                    return Outcome(status, "Recording", "reading Heroku's latencies", requeue=1)
                return self._hold(status, HoldReason.PROMETHEUS_UNAVAILABLE, detail)
            if histogram.total < LEAST_REQUESTS:
                elapsed = max(self.now - baseline.since.timestamp(), 1.0)
                left = (LEAST_REQUESTS - histogram.total) * elapsed / max(histogram.total, 1.0)
                message = (
                    f"{histogram.total:,.0f} of {LEAST_REQUESTS:,} requests for the latency thresholds, about "
                    f"{_span(left)} at this traffic; naming slowMs and verySlowMs in the latency gate makes it shorter"
                )
                if self._waited(self._since(status)) < SHARE_DEADLINE_SECONDS:
                    return Outcome(status, "Recording", message, requeue=self.block_seconds)
                enforced = any(slo.latency is not None and slo.mode is Mode.ENFORCE for slo in spec.gates.slos)
                if enforced or not histogram.total:
                    return self._hold(status, HoldReason.INSUFFICIENT_TRAFFIC, message)
                # What is only observed holds nothing: it makes do with the few that there are.
            try:
                slow, very_slow = choose_thresholds(histogram)
            except ValueError as problem:
                return self._hold(status, HoldReason.NO_DATA, str(problem))
            baseline = baseline.model_copy(
                update={"requests": round(histogram.total), "slow_ms": slow, "very_slow_ms": very_slow}
            )
        status = status.model_copy(update={"baseline": baseline})
        gates = {own.name: own for own in self._resolve().gates}
        for bound in baselines_wanted(status, gates.values()):
            reading = self.seen.own.get(bound)
            if reading is None or reading.baseline is None:
                why = reading.problem.message if reading is not None and reading.problem else "not asked yet"
                message = f"gate {bound}: its value before the migration is not known: {why}"
                if self._waited(self._since(status)) < SHARE_DEADLINE_SECONDS:
                    return Outcome(status, "Recording", message, requeue=self.block_seconds)
                if not gates[bound].enforced:
                    continue  # it goes without a verdict
                return self._hold(status, HoldReason.NO_DATA, message)
            value = float(f"{reading.baseline:.6g}")
            known = (
                *(one for one in baseline.bounds if one.gate != bound),
                BoundBaseline(gate=bound, value=value, query_digest=gates[bound].query_digest),
            )
            baseline = baseline.model_copy(update={"bounds": known})
            status = status.model_copy(update={"baseline": baseline})
        if spec.baseline.backtest and baseline.backtest is None:
            left = baseline.since.timestamp() + _record_seconds(spec) - self.now
            if left > 0:
                message = f"recording Heroku's traffic for the backtest for another {_span(left)}"
                return Outcome(status, "Recording", message, requeue=self.block_seconds)
            if self.seen.backtest is None:
                message = "replaying the gates on Heroku's own traffic (baseline.backtest)"
                return Outcome(status, "Backtesting", message, requeue=self.block_seconds)
            baseline = baseline.model_copy(update={"backtest": self.seen.backtest})
        started = self._enter(status, Phase.SHIFTING).model_copy(update={"baseline": baseline})
        return Outcome(started, "BaselineRecorded", "the takeover is seen at the gateway", requeue=0)

    def judge(self, status: MigrationPlanStatus) -> Outcome:
        """Shifting and soaking: take in what was seen, go back on harm, move up on evidence, hold otherwise."""
        weight = status.weight or 0
        if withdrawn := self._withdrawn(status):
            return withdrawn
        if drifted := self._put_back(status):
            return drifted
        status = self._repaired(status)
        checkpoint = self._ingest(status)
        judgement = self._assess(status, checkpoint)
        observed = checkpoint.observed_at is not None
        gates = judgement.status(self.seen.queries, mesh=weight > 0)
        still = self._still(status)
        if weight and still is None and (edited := edits(status.gates, gates)):
            # No guard is lowered without a line.
            text = "; ".join(edited)
            ledger = note(status, "Gates", to=weight, reason="PlanEdited", message=text, now=self.time)
            status = status.model_copy(update={"ledger": ledger})
        status = status.model_copy(
            update={
                "checkpoint": checkpoint,
                "share": self._share(checkpoint),
                "templates": self._resolve().resolved,
                "gates": gates,
                "gate": judgement.summary(observed=observed, at_full=weight == 100) if weight else "",
                "evidence": judgement.evidence() if weight else None,
            }
        )
        if weight and observed and (judgement.legs.worse or judgement.failing_bound):
            return self.breach(status, judgement)
        if still is not None:
            # Nor are gates gone from the status that were not read yet: they would seem to be removed.
            return replace(still, status=status.model_copy(update={"gates": still.status.gates}))
        hold = self._blocked(status, checkpoint, judgement)
        if hold is not None and hold.reason not in _WAITING:
            return self._held(status, hold)
        if self._late(max(checkpoint.consumed_until, checkpoint.weight_since)):
            # A clock says that the hold is over, or the timeout; what happened meanwhile is not known yet.
            return Outcome(status, "CatchingUp", "reading what happened since the last checkpoint", requeue=1)
        # A step that has passed does not time out, however long people keep it from the next one. Nor does one for want of
        # data, or for a bound that is outside for a moment: that passes, or becomes a failure or a hold of its own.
        passed = hold is None and observed and (judgement.legs.safe or weight == 100)
        if not passed and judgement.mute is None and (late := self.timed_out(status, hold)):
            return late
        if hold is not None:
            return self._held(status, hold)
        if checkpoint.observed_at is None:
            message = f"waiting for {weight} % to be seen at the gateway"
            return Outcome(status, "AwaitingShare", message, requeue=1)
        if weight == 100:
            return self.soak(status, checkpoint, judgement)
        return self.advance(status, checkpoint, judgement)

    def timed_out(self, status: MigrationPlanStatus, hold: Hold | None) -> Outcome | None:
        """End a step that has not passed in its time, as the plan says."""
        weight = status.weight or 0
        step = current_step(self.plan.spec, weight)
        if status.phase is not Phase.SHIFTING or step is None or step.timeout is None:
            return None
        if self.now - self._since(status) < step.timeout.total_seconds():
            return None
        message = f"the step at {weight} % has not passed within {format_duration(step.timeout)}"
        if hold is not None:
            message += f" ({hold.reason}: {hold.message})"
        if step.on_timeout is OnTimeout.HOLD:
            message += f"; it goes on once it has; annotate the plan {assignment(rollback(status.attempt))} to go back"
            return self._hold(status, HoldReason.STEP_TIMEOUT, message)
        # Impatience is no emergency: it does not go back to what does not answer.
        if self.seen.probe is None:
            return self._asking_heroku(status, message)
        if not self._heroku_answers():
            return self._hold(status, HoldReason.HEROKU_CANNOT_TAKE_BACK, f"{message}; {self._probe_text()}")
        return self.roll_back(status, HoldReason.STEP_TIMEOUT, message)

    def advance(self, status: MigrationPlanStatus, checkpoint: Checkpoint, judgement: Assessment) -> Outcome:
        """Move to the next step if its time has come, the evidence allows it and nobody holds it."""
        spec, weight = self.plan.spec, status.weight or 0
        target = next_step(spec, weight)
        if target is None:  # the API server wants the last step to be 100, and 100 soaks
            return self._hold(status, HoldReason.INVALID_SPEC, "steps: the last step must have weight 100")
        step = current_step(spec, weight)
        left = step.hold.total_seconds() - self._watched(checkpoint) if step and weight else 0.0
        evidence = self._evidence_text(judgement) if weight else "Heroku's baseline is recorded"
        skipped: list[tuple[str, str]] = []
        skip = self._skip(status, target)
        if left > 0 and judgement.safe and skip is not None and Skippable.HOLD_TIME in skip.holds:
            skipped.append((Skippable.HOLD_TIME, f"{weight} % for another {_span(left)}"))
            left = 0.0
        if spec.suspend:
            message = f"spec.suspend is set; set it to false to go on; at {weight} %, {evidence}"
            return self._hold(status, HoldReason.SUSPENDED, message)
        if left > 0:
            message = f"{weight} % for another {_span(left)}; {evidence}"
            return Outcome(status, "Judging", message, requeue=min(left, self.block_seconds))
        if weight and not judgement.safe:
            return self._not_safe(status, judgement, f"the hold at {weight} % is over; {evidence}")
        if not weight and (outside := judgement.outside()):
            return self._held(status, outside)
        if not self._heroku_answers():
            return self._asking_heroku(status, f"ready for {target.weight} %; {evidence}")
        if self.seen.traffic is None:  # somebody may have changed it; and it could not be written either
            detail = "; ".join(("the route cannot be read", *self.seen.errors))
            return Outcome(status, "Judging", f"ready for {target.weight} %; {detail}", requeue=2)
        if not self.seen.traffic.current:
            detail = f"the route is being written anew at {weight} % first"
            return Outcome(status, "Judging", f"ready for {target.weight} %; {detail}", requeue=1)
        if hold := self._gatekept(status, target):
            return self._held(status, hold)
        newest = self._resolve(frozen=False)
        if newest.problems:
            return self._reading_templates(status) or self._hold(
                status, HoldReason.INVALID_SPEC, f"ready for {target.weight} %; {'; '.join(newest.problems)}"
            )
        message = f"{weight} % → {target.weight} %: {evidence}"
        if target.approval is Approval.MANUAL:
            message += f"; approved {self._approval(status, target)}"
        if skip is not None:
            skipped += [(hold.reason, hold.message) for hold in self._calendar(target) if hold.reason in skip.holds]
        events: list[Event] = []
        for reason, why in skipped:
            assert skip is not None, "nothing is skipped by itself"
            text = f"{reason} is skipped, asked for by the annotation {SKIP_ANNOTATION} {skip.who}: {why}"
            status = self._noted(status, "Skip", reason=reason, message=text)
            events.append(Event("Normal", "Skip", text))
        status = self._with_templates(status, newest)
        ledger = note(status, "Advance", to=target.weight, reason="EvidenceOfSafety", message=message, now=self.time)
        moved = self._at_weight(status, target.weight).model_copy(update={"ledger": ledger})
        events.append(Event("Normal", "Advance", message))
        return Outcome(moved, "AwaitingShare", message, events=tuple(events), requeue=1)

    def _not_safe(self, status: MigrationPlanStatus, judgement: Assessment, message: str) -> Outcome:
        """Tell whether evidence is on its way, wants traffic, or does not come although there is traffic."""
        legs, left = judgement.legs, judgement.legs.seconds_to_safe
        # A bound that alone is not met takes a moment, or becomes a failure.
        if legs.safe or (left is not None and left <= gate.PATIENCE_SECONDS):
            return Outcome(status, "AwaitingEvidence", message, requeue=self.block_seconds)
        thin = legs.verdict is Verdict.INSUFFICIENT_TRAFFIC
        return self._hold(status, HoldReason.INSUFFICIENT_TRAFFIC if thin else HoldReason.UNDECIDED, message)

    def soak(self, status: MigrationPlanStatus, checkpoint: Checkpoint, judgement: Assessment) -> Outcome:
        """Hold at 100 %, with the way back open."""
        spec = self.plan.spec
        if status.phase is Phase.SHIFTING:
            status = self._enter(status, Phase.SOAKING)
        step = current_step(spec, 100)
        soak = max(spec.soak, step.hold if step else timedelta())
        left = soak.total_seconds() - self._watched(checkpoint)
        if left > 0:
            message = f"all traffic on EKS; soaking for another {_span(left)}"
            return Outcome(status, "Soaking", message, requeue=min(left, self.block_seconds))
        # The end of the soak ends the judging too: not in the middle of a suspicion.
        alive = judgement.legs.alive
        assert alive is not None, "it is judged in every plan"
        if judgement.legs.harm >= gate.HARM_HOLD or alive.eks_bad > (1 - gate.ALIVE_SHARE) * alive.eks_total:
            message = (
                f"the soak is over, but not with evidence of harm {judgement.legs.harm:.0f} of {judgement.legs.harm_limit:.0f}; "
                + sentences.counted(numbers_of(alive))
            )
            return self._hold(status, HoldReason.UNDECIDED, f"{message}; it goes on until that is settled")
        if outside := judgement.outside():
            return self._held(status, outside)
        if mute := judgement.mute:
            message = f"the soak is over, but gate {mute.gate.name} has no verdict: {mute.sentence}"
            return Outcome(status, "Soaking", message, requeue=self.block_seconds)
        if spec.suspend:
            message = "spec.suspend is set; set it to false to end the soak, which is over"
            return self._hold(status, HoldReason.SUSPENDED, message)
        message = f"all traffic is on EKS and the soak of {format_duration(soak)} is over"
        done = self._enter(status, Phase.COMPLETED).model_copy(
            update={"ledger": note(status, "Complete", to=100, reason="SoakOver", message=message, now=self.time)}
        )
        return Outcome(done, "Completed", message, events=(Event("Normal", "Completed", message),), requeue=300)

    def breach(self, status: MigrationPlanStatus, judgement: Assessment) -> Outcome:
        """Evidence of harm: go back, unless Heroku is no rescue or the plan says to hold."""
        if judgement.legs.worse:
            culprit = judgement.legs.main_metric
            reason, detail = "EvidenceOfHarm", f"EKS is worse ({culprit}): {judgement.sentence(culprit)}"
            without_control = status.weight == 100 or judgement.legs.heroku_silent
        else:
            bound = judgement.failing_bound
            assert bound is not None
            reason, detail = HoldReason.BOUND_EXCEEDED, f"gate {bound.gate.name}: {bound.sentence}"
            without_control = True  # a bound says nothing of Heroku
        if judgement.legs.heroku_dead:
            message = f"{detail}; Heroku answers far fewer requests than its weight: mend one of them"
            return self._hold(status, HoldReason.BOTH_LEGS_UNHEALTHY, message)
        if judgement.legs.both_unhealthy and not judgement.legs.worse:
            message = f"{detail}; both legs fail far more than before: mend what they share"
            return self._hold(status, HoldReason.BOTH_LEGS_UNHEALTHY, message)
        if self.plan.spec.on_breach is OnBreach.HOLD:
            leave = f"annotate the plan {assignment(rollback(status.attempt))} to go back"
            return self._hold(status, HoldReason.BREACH, f"{detail}; held, because spec.onBreach is Hold; {leave}")
        if without_control and self.seen.probe is None:
            return self._asking_heroku(status, detail)
        if without_control and not self._heroku_answers():
            message = f"{detail}; {self._probe_text()}: mend one of them"
            return self._hold(status, HoldReason.BOTH_LEGS_UNHEALTHY, message)
        return self.roll_back(status, reason, detail)

    def roll_back(self, status: MigrationPlanStatus, reason: str, message: str) -> Outcome:
        """Send everything back to Heroku."""
        text = f"{status.weight or 0} % → 0 %: {message}"
        ledger = note(status, "RollBack", to=0, reason=reason, message=text, now=self.time)
        back = self._enter(self._at_weight(status, 0), Phase.ROLLING_BACK).model_copy(
            update={"ledger": ledger, "gates": status.gates, "gate": status.gate, "evidence": status.evidence}
        )
        return Outcome(back, reason, text, events=(Event("Warning", "RollBack", text),), requeue=0.5)

    def rolling_back(self, status: MigrationPlanStatus) -> Outcome:
        checkpoint = self._ingest(status)
        status = status.model_copy(update={"checkpoint": checkpoint, "share": self._share(checkpoint)})
        probe, (cause, last) = self.seen.probe, _last_rollback(status)
        answered = (
            probe is not None
            and probe.revision == rollback_revision(status.attempt)
            and probe.at >= checkpoint.weight_since
        )
        if not answered and checkpoint.observed_at is None:
            message = f"waiting for 0 % to be seen at the gateway; {last}"
            if self._waited(self._since(status)) < SHARE_DEADLINE_SECONDS:
                return Outcome(status, "RollingBack", message, requeue=1)
            return self._hold(status, HoldReason.SHARE_NOT_OBSERVED, message, requeue=1)
        message = f"all traffic is on Heroku; {last}"
        # The gates' numbers and queries stay with the line that they decided.
        bare = status.model_copy(update={"gates": ()})
        ledger = note(bare, "RolledBack", to=0, reason=cause, message=message, now=self.time)
        done = self._enter(status, Phase.ROLLED_BACK).model_copy(update={"ledger": ledger})
        event = Event("Normal", "RolledBack", message)
        return Outcome(done, cause, last, events=(event,))

    def rolled_back(self, status: MigrationPlanStatus) -> Outcome:
        if self.plan.spec.attempt <= status.attempt:
            cause, last = _last_rollback(status)
            return Outcome(status, cause, last, requeue=300)
        message = f"attempt {self.plan.spec.attempt} starts"
        # Evidence is dropped: what spoke against the last attempt would end this one at once.
        fresh = {
            "attempt": self.plan.spec.attempt,
            "gates": (),
            "gate": "",
            "evidence": None,
            "share": None,
            "checkpoint": None,
            "templates": (),
            "approved": None,
            "void": None,
        }
        anew = status.model_copy(update=fresh)
        anew = self._enter(self._at_weight(anew, 0), Phase.PREFLIGHT).model_copy(
            update={"ledger": note(anew, "Retry", to=0, reason="AttemptRaised", message=message, now=self.time)}
        )
        return Outcome(anew, "Preflight", message, events=(Event("Normal", "Retry", message),), requeue=0)

    # --------------------------------------------------------------------------------- what people and the world say

    def _wished(self, annotation: str) -> Command | None:
        """Return what an annotation asks for, if that can be understood."""
        text = self.plan.annotations.get(annotation)
        return None if text is None else read(annotation, text, self.plan.writers.get(annotation))

    def _leave(self, annotation: str, status: MigrationPlanStatus, target: Step) -> Command | None:
        """Return a person's leave for the step that comes next, if there is one and it still counts."""
        command = self._wished(annotation)
        if command is None or (command.attempt, command.weight) != (status.attempt, target.weight):
            return None
        return None if (status.void or {}).get(annotation) == self.plan.annotations[annotation] else command

    def _approval(self, status: MigrationPlanStatus, target: Step) -> str | None:
        """Return who has approved a step; ``None`` if nobody has."""
        if command := self._leave(APPROVE_ANNOTATION, status, target):
            return command.who
        approved = status.approved
        return approved.by if approved is not None and approved.weight == target.weight else None

    def _skip(self, status: MigrationPlanStatus, target: Step) -> Command | None:
        """Return what a person skips on the way to a step."""
        return self._leave(SKIP_ANNOTATION, status, target)

    def _editor(self) -> str:
        """Say who edited the spec last, as the end of a sentence."""
        writer = self.plan.writers.get("spec")
        return "" if writer is None else f" {writer}"

    def _edited(self, status: MigrationPlanStatus) -> MigrationPlanStatus:
        """Note what was edited since the spec was looked at last, and what a raised ceiling approves."""
        spec, before = self.plan.spec, status.spec_snapshot
        if status.weight is None or self.plan.unreadable:
            return status
        if before is not None and before.generation == self.plan.generation:
            return status
        after = spec_snapshot(spec, self.plan.generation)
        # Those of the mesh's metrics are in the status once they judge; after a crash in the first step it may be without.
        numbers = status.weight > 0 and any(one.kind is GateKind.COMPARATIVE for one in status.gates)
        if before is not None and (text := spec_changes(before, after, gates=not numbers)):
            text = f"edited{self._editor()}: {text}"
            status = self._noted(status, "Edit", reason="PlanEdited", message=text)
        if before is not None:
            status = self._approved_by_ceiling(status, before.ceiling)
        return status.model_copy(update={"spec_snapshot": after})

    def _approved_by_ceiling(self, status: MigrationPlanStatus, before: int) -> MigrationPlanStatus:
        """Take a raised ceiling for the approval of the first step that the old one held back: Git is the approval."""
        ceiling = self.plan.spec.ceiling
        held_back = next_step(self.plan.spec, before)
        if before < ceiling and held_back is not None and (status.weight or 0) < held_back.weight <= ceiling:
            by = f"by spec.ceiling {before} → {ceiling}{self._editor()}"
            return status.model_copy(update={"approved": ApprovedStep(weight=held_back.weight, by=by)})
        if status.approved is not None and status.approved.weight > ceiling:
            return status.model_copy(update={"approved": None})
        return status

    def _refused_commands(self, status: MigrationPlanStatus) -> MigrationPlanStatus:
        """Note commands that are not obeyed, each once."""
        told = {entry.subject for entry in status.ledger if entry.decision == "Refuse"}
        for refusal in self._refusals(status):
            if refusal.subject not in told:
                status = self._noted(
                    status, "Refuse", reason=refusal.reason, message=str(refusal), subject=refusal.subject
                )
        return status

    def _noted(
        self, status: MigrationPlanStatus, decision: str, *, reason: str, message: str, subject: str | None = None
    ) -> MigrationPlanStatus:
        """Note what moves no weight, without the gates' numbers: they have no part in it."""
        bare, weight = status.model_copy(update={"gates": ()}), status.weight or 0
        ledger = note(bare, decision, to=weight, reason=reason, message=message, subject=subject, now=self.time)
        return status.model_copy(update={"ledger": ledger})

    def _rolled_back_by_route(self, status: MigrationPlanStatus) -> int | None:
        """Return the attempt whose route was rolled back by a pass that died before it wrote the status."""
        traffic = self.seen.traffic
        if traffic is None or status.phase not in (Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED):
            return None
        # That pass may have taken note of a raised attempt, too.
        attempts = range(status.attempt, max(status.attempt, self.plan.spec.attempt) + 1)
        return next((attempt for attempt in attempts if traffic.revision == rollback_revision(attempt)), None)

    def _when_written(self) -> _Pass:
        """Return the pass as it was when the route was written: what came after belongs to another weight."""
        seen = self.seen
        if seen.traffic is None or seen.traffic.written_at is None:
            return self
        until = seen.traffic.written_at + 1  # the API server leaves out the fraction of a second

        def blocks(known: tuple[Block, ...]) -> tuple[Block, ...]:
            return tuple(block for block in known if block.end <= until)

        own = {
            name: replace(
                reading,
                blocks=blocks(reading.blocks),
                points=tuple(point for point in reading.points if point[0] <= until),
            )
            for name, reading in seen.own.items()
        }
        samples = replace(seen.samples, blocks=blocks(seen.samples.blocks))
        return replace(self, seen=replace(seen, samples=samples, own=own), now=min(self.now, until))

    def _command(self, status: MigrationPlanStatus) -> Outcome | None:
        """Go back, or down, because a person says so."""
        weight = status.weight or 0
        if status.phase not in (Phase.SHIFTING, Phase.SOAKING, Phase.COMPLETED):
            return None
        command = self._wished(ROLLBACK_ANNOTATION)
        if command is not None and command.attempt == status.attempt:
            # At weight 0, too: who has asked to go back does not want to see the first step.
            text = f"asked for by the annotation {ROLLBACK_ANNOTATION} {command.who}"
            return self.roll_back(status, "Requested", text)
        ceiling = self.plan.spec.ceiling
        if ceiling >= weight:
            return None
        if ceiling == 0:
            return self.roll_back(status, "Requested", f"asked for by spec.ceiling 0{self._editor()}")
        message = f"{weight} % → {ceiling} %: spec.ceiling was lowered{self._editor()}"
        given = {name: self.plan.annotations.get(name, "") for name in (APPROVE_ANNOTATION, SKIP_ANNOTATION)}
        lowered = self._enter(self._at_weight(status, ceiling), Phase.SHIFTING).model_copy(
            update={
                "ledger": note(status, "Lower", to=ceiling, reason="Ceiling", message=message, now=self.time),
                # What was meant for the way up until here is not meant for the next.
                "approved": None,
                "void": {name: text for name, text in given.items() if text} or None,
            }
        )
        return Outcome(lowered, "AwaitingShare", message, events=(Event("Normal", "Lower", message),), requeue=1)

    def _withdrawn(self, status: MigrationPlanStatus) -> Outcome | None:
        """Take back a raise that never reached the route, once its evidence is old or something holds it by now."""
        checkpoint, traffic, weight = status.checkpoint, self.seen.traffic, status.weight or 0
        if checkpoint is None or traffic is None or (checkpoint.live_at, checkpoint.observed_at) != (None, None):
            return None
        before = checkpoint.previous_weight
        if before >= weight or (traffic.weight, traffic.revision) != (before, revision(status.attempt, before)):
            return None
        why = ""
        if hold := self._held_raise(status, before):
            why = f"{hold.reason}: {hold.message}"
        elif self.now - checkpoint.weight_since > RAISE_LIFETIME_SECONDS:
            why = f"the evidence is {_span(self.now - checkpoint.weight_since)} old"
        if not why:
            return None
        message = f"{weight} % → {before} %: {weight} % could not be written to the route, and now {why}"
        lowered = self._at_weight(status, before).model_copy(
            update={"ledger": note(status, "Withdraw", to=before, reason="NotWritten", message=message, now=self.time)}
        )
        return Outcome(lowered, "Withdrawn", message, events=(Event("Normal", "Withdraw", message),), requeue=1)

    def _held_raise(self, status: MigrationPlanStatus, before: int) -> Hold | None:
        """Return what would hold the raise to the status' weight if it were decided now."""
        if invalid := self._invalid():
            return invalid
        if self.seen.samples.error:
            return Hold(HoldReason.PROMETHEUS_UNAVAILABLE, self.seen.samples.error)
        if self._heroku_fails():
            return Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, self._probe_text())
        if self.plan.spec.suspend:
            return Hold(HoldReason.SUSPENDED, "spec.suspend is set")
        target = next_step(self.plan.spec, before)
        return self._gatekept(status, target) if target is not None else None

    def _repaired(self, status: MigrationPlanStatus) -> MigrationPlanStatus:
        """Note somebody else's edit that left the weights alone: it is put back, and the judging goes on.

        A tool that repeats it must not keep a plan from going back. What was learned of safety meanwhile is dropped.
        """
        traffic, checkpoint = self.seen.traffic, status.checkpoint
        if traffic is None or traffic.current or not traffic.foreign or checkpoint is None:
            return status
        editors = ", ".join(traffic.foreign)
        message = f"the route was edited by {editors} (not its weights); put back"
        evidence = load_evidence(checkpoint)._replace(safety={}, safety_money=1.0)
        return status.model_copy(
            update={
                "checkpoint": checkpoint.model_copy(update={"evidence": dump_evidence(evidence)}),
                "ledger": note_repair(
                    status, reason=HoldReason.DRIFT_DETECTED, message=message, subject=editors, now=self.time
                ),
            }
        )

    def _put_back(self, status: MigrationPlanStatus) -> Outcome | None:
        """Answer somebody else's edit of the weights: it is put back, and the weight has to be seen again."""
        traffic = self.seen.traffic
        gone = traffic is not None and traffic.weight is None
        if traffic is None or traffic.current or not (traffic.foreign or gone):
            return None
        weight = status.weight or 0
        if (traffic.weight, traffic.revision) == (weight, desired_revision(status)):
            return None
        who = f"edited by {', '.join(traffic.foreign)}" if traffic.foreign else "deleted or made unreadable"
        seen = "no readable weight" if gone else f"{traffic.weight} % to EKS"
        message = f"the route was {who} ({seen}); put back to {weight} %"
        previous = weight if traffic.weight is None else traffic.weight
        repaired = status.model_copy(
            update={
                "checkpoint": self._checkpoint(status, previous=previous),
                "ledger": note_repair(
                    status, reason=HoldReason.DRIFT_DETECTED, message=message, subject=f"{who}: {seen}", now=self.time
                ),
            }
        )
        event = Event("Warning", HoldReason.DRIFT_DETECTED, message)
        return Outcome(
            repaired,
            "DriftDetected",
            message,
            hold=Hold(HoldReason.DRIFT_DETECTED, message),
            events=(event,),
            requeue=1,
        )

    # --------------------------------------------------------------------------------------------------- the holds

    def _blind(self, checkpoint: Checkpoint) -> Hold | None:
        """Without data nothing moves, in either direction."""
        if self.seen.samples.error:
            return Hold(HoldReason.PROMETHEUS_UNAVAILABLE, self.seen.samples.error)
        late = self._late(max(checkpoint.consumed_until, checkpoint.weight_since, self.seen.since))
        if late or checkpoint.gaps >= GAPS_UNTIL_NO_DATA:
            gap = next((block.gap for block in reversed(self.seen.samples.blocks) if block.gap), "")
            detail = f": {gap}" if gap else "; is the gateway scraped, and does operator and Prometheus time agree?"
            return Hold(HoldReason.NO_DATA, f"Prometheus has no usable counts of the gateway{detail}")
        return None

    def _late(self, heard: float) -> bool:
        """Tell whether blocks should have come since then, or cannot come for long, as the clock was set back."""
        return abs(self.now - heard) > 4 * self.block_seconds + 5

    def _invalid(self) -> Hold | None:
        """Hold what cannot be done as asked; traffic that is on EKS is still judged, and the way back stays open."""
        found = (self.plan.unreadable,) if self.plan.unreadable else self._problems()
        return Hold(HoldReason.INVALID_SPEC, "; ".join(found)) if found else None

    def _problems(self) -> tuple[str, ...]:
        resolved = self._resolve()
        return (*problems(self.plan.spec, resolved.gates, self.seen.sources), *resolved.problems)

    def _blocked(self, status: MigrationPlanStatus, checkpoint: Checkpoint, judgement: Assessment) -> Hold | None:
        """Return what keeps the plan where it is whatever the clock and the evidence of safety say."""
        weight = status.weight or 0
        if invalid := self._invalid():
            return invalid
        if blind := self._blind(checkpoint):
            return blind
        if weight and checkpoint.observed_at is not None:
            if judgement.legs.both_unhealthy:
                return Hold(
                    HoldReason.BOTH_LEGS_UNHEALTHY,
                    "both legs fail far more than before: a shared incident; nothing moves",
                )
            if judgement.legs.heroku_dead:
                return Hold(
                    HoldReason.HEROKU_CANNOT_TAKE_BACK,
                    "Heroku answers far fewer requests than its weight: there is nothing to go back to",
                )
        if checkpoint.observed_at is None:
            return self._unseen(status, checkpoint)
        if self._heroku_fails():
            return Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, f"{self._probe_text()}: there is nothing to go back to")
        if missing := judgement.missing(self.now, started=weight > 0):
            return missing
        if weight and weight < 100 and judgement.legs.heroku_silent:
            return Hold(HoldReason.INSUFFICIENT_TRAFFIC, "the Heroku leg has no requests to compare with")
        return None

    def _unseen(self, status: MigrationPlanStatus, checkpoint: Checkpoint) -> Hold | None:
        """Hold once a weight has not shown at the gateway for too long; an earlier drift stays told until it is seen."""
        weight, pooled = status.weight or 0, Pool(*checkpoint.share_pool)
        deadline = max(SHARE_DEADLINE_SECONDS, 8 * self.block_seconds)
        if self._waited(checkpoint.weight_since) >= deadline:
            probe = self.seen.probe
            elsewhere = probe is not None and probe.revision not in ("", desired_revision(status))
            if pooled.total < LEAST_SHARE_REQUESTS and not elsewhere:
                return Hold(
                    HoldReason.INSUFFICIENT_TRAFFIC,
                    f"{weight} % was set {_span(self.now - checkpoint.weight_since)} ago, and {pooled.total:.0f} requests "
                    "are too few to see it at the gateway; it goes on with more traffic",
                )
            seen = (
                f"{pooled.percent:.1f} % of {pooled.total:,.0f} requests"
                if pooled.percent is not None
                else "no requests"
            )
            route = probe.revision or probe.detail if probe is not None else "unknown"
            return Hold(
                HoldReason.SHARE_NOT_OBSERVED,
                f"{weight} % was set {_span(self.now - checkpoint.weight_since)} ago, but EKS is seen with {seen}; the "
                f"gateway's route is {route} (wanted: {desired_revision(status)}); see istiod and the gateway's proxies",
            )
        if status.reason == HoldReason.DRIFT_DETECTED:
            return Hold(HoldReason.DRIFT_DETECTED, status.message)
        return None

    def _gatekept(self, status: MigrationPlanStatus, target: Step) -> Hold | None:
        """Return what people have put between a safe plan and its next step."""
        spec = self.plan.spec
        if target.weight > spec.ceiling:
            return Hold(
                HoldReason.CEILING, f"ready for {target.weight} %; raise spec.ceiling ({spec.ceiling}) to go on"
            )
        if target.approval is Approval.MANUAL and self._approval(status, target) is None:
            leave = assignment(approve(status.attempt, target.weight))
            message = f"ready for {target.weight} %; annotate the plan {leave}"
            told = [str(refusal) for refusal in self._refusals(status) if refusal.annotation == APPROVE_ANNOTATION]
            return Hold(HoldReason.AWAITING_APPROVAL, "; ".join((message, *told)))
        skip = self._skip(status, target)
        skipped = skip.holds if skip is not None else ()
        return next((hold for hold in self._calendar(target) if hold.reason not in skipped), None)

    def _calendar(self, target: Step) -> tuple[Hold, ...]:
        """Return why the calendar does not let a step begin now."""
        calendar = self.plan.spec.schedule
        if calendar is None:
            return ()
        found = []
        if freeze := schedule.active_freeze(calendar, self.time):
            message = f"ready for {target.weight} %; frozen until {freeze.to:%F %R %Z}: {freeze.reason}"
            found.append(Hold(HoldReason.FROZEN, message))
        if not schedule.in_window(calendar, self.time):
            opening = schedule.next_opening(calendar, self.time)
            until = f"; the next window opens {opening:%a %F %R %Z}" if opening else ""
            message = f"ready for {target.weight} %, outside the windows{until}"
            found.append(Hold(HoldReason.OUTSIDE_WINDOW, message))
        return tuple(found)

    def _refusals(self, status: MigrationPlanStatus) -> tuple[Refusal, ...]:
        """Return the commands that will not be obeyed."""
        return tuple(refusals(self.plan.annotations, spec=self.plan.spec, status=status))

    def _hold(self, status: MigrationPlanStatus, reason: HoldReason, message: str, requeue: float = 30.0) -> Outcome:
        return self._held(status, Hold(reason, message), requeue)

    def _held(self, status: MigrationPlanStatus, hold: Hold, requeue: float = 30.0) -> Outcome:
        events: tuple[Event, ...] = ()
        if status.reason != hold.reason and hold.reason not in QUIET:
            kind: Literal["Normal", "Warning"] = "Warning" if hold.reason in ALARMING else "Normal"
            events = (Event(kind, hold.reason, hold.message),)
        requeue = min(requeue, max(self.block_seconds, 1.0)) if samples_wanted(status) else requeue
        noted = status.model_copy(update={"ledger": note_hold(status, hold, self.time)})
        return Outcome(noted, hold.reason, hold.message, hold=hold, events=events, requeue=requeue)

    # ----------------------------------------------------------------------------------------------------- helpers

    def _heroku_answers(self) -> bool:
        probe = self.seen.probe
        # One from the future is as old as nobody knows: the clock was set back.
        return probe is not None and probe.healthy and abs(self.now - probe.at) <= PROBE_LIFETIME_SECONDS

    def _heroku_fails(self) -> bool:
        """Tell whether the way back is closed, as far as probes can say.

        One answer that fails is noise of a service that errs; no weight rises on it, but it is no alarm either.
        """
        probe = self.seen.probe
        return probe is not None and not self._heroku_answers() and (probe.healthy or probe.failures > 1)

    def _probe_text(self) -> str:
        probe = self.seen.probe
        if probe is None:
            return "Heroku has not been asked yet"
        if probe.healthy:
            return f"the last answer of the Heroku leg is {_span(self.now - probe.at)} old"
        return f"the probe of the Heroku leg: {probe.detail}"

    def _asking_heroku(self, status: MigrationPlanStatus, message: str) -> Outcome:
        """Wait for the first probe, which comes within a second or so after a restart."""
        return Outcome(status, "Judging", f"{message}; asking Heroku", requeue=1)

    def _resolve(self, *, frozen: bool = True) -> Resolution:
        return resolve(self.plan, self.seen.templates, frozen=frozen)

    def _reading_templates(self, status: MigrationPlanStatus) -> Outcome | None:
        """Wait a moment for templates after a start: the watch tells of one after the other."""
        if self.now - self.seen.since > TEMPLATES_SECONDS or not self._resolve(frozen=False).problems:
            return None
        return Outcome(status, str(status.phase), "reading the templates of gates", requeue=1)

    def _still(self, status: MigrationPlanStatus) -> Outcome | None:
        """Leave what is said as it is while templates are read: a plan that was valid is not invalid for a moment."""
        # Those in force are known without being read.
        if not self._resolve().problems or self._reading_templates(status) is None:
            return None
        held = next((c for c in status.conditions if (c.type, c.status) == ("Held", "True")), None)
        known = held is not None and held.reason in list(HoldReason)  # another version may have held it
        hold = Hold(HoldReason(held.reason), held.message) if held is not None and known else None
        return Outcome(status, status.reason or str(status.phase), status.message, hold=hold, requeue=1)

    def _with_templates(self, status: MigrationPlanStatus, newest: Resolution) -> MigrationPlanStatus:
        """Put the newest templates in force, and say which of them have changed."""
        changed = changes(status.templates, newest.resolved)
        if changed:
            message, weight = "; ".join(changed), status.weight or 0
            ledger = note(status, "Gates", to=weight, reason="TemplateChanged", message=message, now=self.time)
            before = {(one.gate, one.definition) for one in status.templates}
            other = {one.gate for one in newest.resolved if (one.gate, one.definition) not in before}
            # What is other from now on is told here, and is no edit of the plan.
            gates = tuple(
                replace(one, limits=None, queries=(), query_digest=None) if one.name in other else one
                for one in status.gates
            )
            status = status.model_copy(update={"ledger": ledger, "gates": gates})
        return status.model_copy(update={"templates": newest.resolved})

    def _ingest(self, status: MigrationPlanStatus) -> Checkpoint:
        weight = status.weight or 0
        before = status.checkpoint or self._checkpoint(status, previous=0)
        target = next_step(self.plan.spec, weight)
        next_weight = target.weight if target else 100
        checkpoint = ingest(
            before,
            self.seen.samples.blocks,
            rules=gate_rules(self.plan.spec),
            weight=weight,
            next_weight=next_weight,
            probe=self.seen.probe,
            revision=desired_revision(status),
        )
        own = ingest_custom_slos(
            before,
            self._resolve().gates,
            self.seen.own,
            spec=self.plan.spec,
            weight=weight,
            next_weight=next_weight,
            observed_at=checkpoint.observed_at,
            restarted=next_weight > before.next_weight > 0,
        )
        return checkpoint.model_copy(update={"custom_slos": own})

    def _assess(self, status: MigrationPlanStatus, checkpoint: Checkpoint) -> Assessment:
        spec, weight = self.plan.spec, status.weight or 0
        target = next_step(spec, weight)
        next_weight = target.weight if target else 100
        mesh = gate.judge(load_evidence(checkpoint), rules=gate_rules(spec), weight=weight, next_weight=next_weight)
        gates = self._resolve().gates
        asked = {(one.name, one.query_digest) for one in gates}
        own = judge_custom_slos(
            checkpoint,
            gates,
            self.seen.own,
            spec=spec,
            baselines={one.gate: one.value for one in status.baseline.bounds if (one.gate, one.query_digest) in asked}
            if status.baseline
            else {},
            weight=weight,
            next_weight=next_weight,
            now=self.now,
        )
        return assess(mesh, own)

    def _share(self, checkpoint: Checkpoint) -> Share | None:
        return share(checkpoint, load_evidence(checkpoint), max(checkpoint.consumed_until, checkpoint.weight_since))

    def _checkpoint(self, status: MigrationPlanStatus, previous: int) -> Checkpoint:
        """Start to look for a weight anew; evidence of harm stays, evidence of safety has to be earned again."""
        before = status.checkpoint
        evidence = dump_evidence(gate.begin_step(load_evidence(before))) if before is not None else ""
        own = begin_step(before.custom_slos) if before is not None else ()
        consumed = before.consumed_until if before is not None else self.now
        return Checkpoint(
            at=self.now,
            weight_since=self.now,
            previous_weight=previous,
            consumed_until=max(consumed, self.now - 2 * self.block_seconds),
            evidence=evidence,
            custom_slos=own,
        )

    def _at_weight(self, status: MigrationPlanStatus, weight: int) -> MigrationPlanStatus:
        return status.model_copy(
            update={
                "weight": weight,
                "since": self.time,
                "gate": "",
                "evidence": None,
                "checkpoint": self._checkpoint(status, previous=status.weight or 0),
            }
        )

    def _enter(self, status: MigrationPlanStatus, phase: Phase) -> MigrationPlanStatus:
        return status.model_copy(update={"phase": phase, "since": self.time})

    def _watched(self, checkpoint: Checkpoint) -> float:
        """Return for how many seconds the step's requests were counted.

        What has a hold run out: by a clock, a machine that slept or a Prometheus that was away would do so unwatched.
        """
        return load_evidence(checkpoint).total_seconds

    def _waited(self, since: float) -> float:
        """Return for how many seconds somebody has waited and looked: what nobody looked after is no alarm by itself."""
        return self.now - max(since, self.seen.since)

    def _since(self, status: MigrationPlanStatus) -> float:
        return status.since.timestamp() if status.since is not None else self.now

    def _evidence_text(self, judgement: Assessment) -> str:
        legs = judgement.legs
        if judgement.safe:
            return f"every gate is within its margin; evidence of harm {legs.harm:.2g} of {legs.harm_limit:.0f}"
        text = f"evidence of safety {legs.safety:.2g} of {legs.safety_limit:.0f}"
        if legs.harm >= gate.HARM_HOLD:
            text += f", evidence of harm {legs.harm:.0f} of {legs.harm_limit:.0f}"
        if legs.seconds_to_safe:
            text += f", about {_span(legs.seconds_to_safe)} at this traffic"
        unmet = [f"gate {one.gate.name}: {one.sentence}" for one in judgement.unmet]
        more = [f"{len(unmet) - MOST_TOLD} more gates do not pass"] if len(unmet) > MOST_TOLD else []
        return "; ".join((text, *unmet[:MOST_TOLD], *more))

    # ---------------------------------------------------------------------------------------------------- the writes

    def finish(self, outcome: Outcome) -> Decision:
        """Derive what follows from the outcome: conditions, the writes and their order."""
        before, plan = self.plan.status, self.plan
        outcome = self._tell_refusals(self._name_editors(outcome))
        message = shorten(outcome.message, LONGEST_MESSAGE)
        unsupported = () if plan.unreadable else not_yet_supported(plan.spec)
        status = outcome.status.model_copy(
            update={
                "observed_generation": plan.generation,
                "attempt": outcome.status.attempt or plan.spec.attempt,
                "step": progress(plan.spec, outcome.status.weight),
                "since": outcome.status.since or self.time,
                "reason": str(outcome.reason),
                "message": message,
                "conditions": conditions(
                    before,
                    phase=outcome.status.phase,
                    hold=outcome.hold and replace(outcome.hold, message=message),
                    reason=str(outcome.reason),
                    message=message,
                    unsupported=unsupported,
                    generation=plan.generation,
                    now=self.time,
                ),
            }
        )
        return decision_of(plan, self.seen, outcome, status, self.now)

    def _name_editors(self, outcome: Outcome) -> Outcome:
        """Tell of edits that are put back in passing, in phases that need not see the weight again."""
        traffic = self.seen.traffic
        known = outcome.reason == HoldReason.DRIFT_DETECTED
        if known or outcome.status.weight is None or traffic is None or traffic.current or not traffic.foreign:
            return outcome
        message = f"the route was edited by {', '.join(traffic.foreign)}; put back to {outcome.status.weight} %"
        event = Event("Warning", HoldReason.DRIFT_DETECTED, message)
        return replace(outcome, events=(*outcome.events, event))

    def _tell_refusals(self, outcome: Outcome) -> Outcome:
        """Tell of the commands that this pass has refused."""
        known = {(entry.at, entry.reason) for entry in self.plan.status.ledger if entry.decision == "Refuse"}
        events = tuple(
            Event("Warning", "Refuse", entry.message)
            for entry in outcome.status.ledger
            if (entry.decision, entry.at) == ("Refuse", self.time) and (entry.at, entry.reason) not in known
        )
        return replace(outcome, events=(*events, *outcome.events)) if events else outcome


def _resting_place(plan: Plan) -> OnDelete:
    """Return where a deleted plan's traffic rests: as declared, but on EKS only if evidence has put all of it there."""
    status, declared = plan.status, plan.spec.on_delete
    if declared is not OnDelete.EKS or status.weight == 100:
        return declared
    # What was never taken over may be the route of an earlier plan, which rests where that one left it; and nothing goes
    # back by itself where the plan says that there is no way back for the data.
    stays = status.weight is None or plan.spec.on_breach is OnBreach.HOLD
    return OnDelete.LEAVE if stays else OnDelete.HEROKU


#: Holds that a step's timeout may end: the plan waits for evidence or for people, not for data or for Heroku.
_WAITING = frozenset({HoldReason.INSUFFICIENT_TRAFFIC, HoldReason.SHARE_NOT_OBSERVED, HoldReason.DRIFT_DETECTED})


def _last_rollback(status: MigrationPlanStatus) -> tuple[str, str]:
    """Return reason and message of what led back; a plan that stays rolled back keeps telling why."""
    told = ((entry.reason, entry.message) for entry in reversed(status.ledger) if entry.decision == "RollBack")
    return next(told, (str(Phase.ROLLED_BACK), ""))


def _span(seconds: float) -> str:
    """Write a time to wait as people say it."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} days"
