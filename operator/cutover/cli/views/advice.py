"""What a person can do about each hold, in a line with the command to type."""

from __future__ import annotations

from collections.abc import Mapping

from cutover.api.v1alpha1 import Phase
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan
from cutover.domain.steps import next_step

#: By hold. ``{go}`` is ``kubectl cutover``, ``{plan}`` the plan as the command line takes it, ``{next}`` the next step's weight.
HOLDS: Mapping[HoldReason, str] = {
    HoldReason.INVALID_SPEC: "correct the spec in Git; the message names the field",
    HoldReason.CAPABILITY_MISSING: "choose a traffic provider that can do what is missing",
    HoldReason.PREFLIGHT_FAILED: "mend what the message names; `{go} audit {plan}` looks again with your own rights",
    HoldReason.TAKEOVER_FAILED: "mend Heroku's way through the gateway, then `{go} retry {plan}`",
    HoldReason.BASELINE_INCOMPLETE: "wait for the record, shorten baseline.window in Git, or `{go} skip {plan} BaselineIncomplete`",
    HoldReason.TAKEOVER_DIFFERS: "see what the gateway changes of requests, or `{go} skip {plan} TakeoverDiffers`",
    HoldReason.SUSPENDED: "`{go} resume {plan}`, or set suspend to false in Git",
    HoldReason.AWAITING_APPROVAL: "`{go} approve {plan}` lets the step at {next} % begin",
    HoldReason.AWAITING_DECISION: "`{go} proceed {plan}` lets the step at {next} % begin in place of evidence",
    HoldReason.OUTSIDE_WINDOW: "wait for the window, or `{go} skip {plan} OutsideWindow`",
    HoldReason.FROZEN: "wait for the end of the freeze, or `{go} skip {plan} Frozen`",
    HoldReason.CEILING: "raise spec.ceiling in Git, which approves the step; `{go} ceiling {plan} {next} --git` shows how",
    HoldReason.INSUFFICIENT_TRAFFIC: "wait for traffic; `{go} estimate {plan}` shows how long and what makes it shorter",
    HoldReason.UNDECIDED: "mend what EKS does worse (the gates' numbers), or edit the gates in Git",
    HoldReason.NO_DATA: "see that Prometheus scrapes the gateways, and that clocks agree",
    HoldReason.QUERY_ERROR: "correct the query of the custom SLO; the message quotes Prometheus",
    HoldReason.AMBIGUOUS: "name the cluster in the settings (matchers), or make the query give one series",
    HoldReason.BOUND_EXCEEDED: "bring the value back inside of the bound, or correct the bound in Git",
    HoldReason.PROMETHEUS_UNAVAILABLE: "bring Prometheus back; `{go} rollback {plan}` works without it",
    HoldReason.SHARE_NOT_OBSERVED: "see that the route is in force at every gateway, and that nobody else sends to the Service",
    HoldReason.BOTH_LEGS_UNHEALTHY: "end the incident that both legs share; `{go} rollback {plan}` if Heroku is better off",
    HoldReason.HARM_UNCONFIRMED: "look at EKS now; `{go} rollback {plan}` if its users are harmed",
    HoldReason.EKS_PROBES_FAIL: "mend EKS' answers to probes, or correct traffic.probe.paths",
    HoldReason.HEROKU_CANNOT_TAKE_BACK: "bring Heroku back; if EKS is well, `{go} forward {plan}` sends all users there",
    HoldReason.DRIFT_DETECTED: "find who else writes the route; the message names them",
    HoldReason.ROUTE_NOT_WRITTEN: "the message says what refuses the write: istiod's webhook, a right, the API server",
    HoldReason.ANSWERS_DIFFER: "find out why the answers differ, or `{go} skip {plan} AnswersDiffer`",
    HoldReason.SESSIONS_NOT_SHARED: "have both legs accept each other's sessions, or `{go} skip {plan} SessionsNotShared`",
    HoldReason.LEGS_DIFFER: "release the same on the leg that is behind, or `{go} skip {plan} LegsDiffer`",
    HoldReason.BREACH: "decide: `{go} rollback {plan}`, or mend EKS",
    HoldReason.STEP_TIMEOUT: "it goes on once the step passes; `{go} rollback {plan}` goes back",
}
GO = "kubectl cutover"


def advice(plan: Plan, where: str = "") -> str:
    """Return what a person can do about where a plan is; ``""`` if there is nothing to do.

    Parameters
    ----------
    where
        Options that name the plan's namespace, such as ``-n shop``; ``""`` if it is the person's own.
    """
    status = plan.status
    named = f"{plan.name}{f' {where}' if where else ''}"
    upcoming = next_step(plan.spec, status.weight or 0)
    words = {"go": GO, "plan": named, "next": str(upcoming.weight if upcoming else 100)}
    if status.held is not None and status.held.reason in set(HoldReason):
        return HOLDS[HoldReason(status.held.reason)].format(**words)
    if status.phase is Phase.ROLLED_BACK:
        return "mend EKS, then `{go} retry {plan}`, or raise spec.attempt in Git".format(**words)
    if status.phase is Phase.COMPLETED:
        return "take the plan out of Git; its traffic rests on EKS (onDelete)"
    return ""
