"""The vocabulary of holds: why a plan is not moving, and what to do about it.

``docs/holds.md`` explains each to operators of plans; a test keeps the two lists equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HoldReason(StrEnum):
    """Reason of the ``Held`` condition."""

    INVALID_SPEC = "InvalidSpec"
    CAPABILITY_MISSING = "CapabilityMissing"
    PREFLIGHT_FAILED = "PreflightFailed"
    BASELINE_INCOMPLETE = "BaselineIncomplete"
    TAKEOVER_FAILED = "TakeoverFailed"
    TAKEOVER_DIFFERS = "TakeoverDiffers"
    SUSPENDED = "Suspended"
    AWAITING_APPROVAL = "AwaitingApproval"
    AWAITING_DECISION = "AwaitingDecision"
    OUTSIDE_WINDOW = "OutsideWindow"
    FROZEN = "Frozen"
    CEILING = "Ceiling"
    INSUFFICIENT_TRAFFIC = "InsufficientTraffic"
    UNDECIDED = "Undecided"
    NO_DATA = "NoData"
    QUERY_ERROR = "QueryError"
    AMBIGUOUS = "Ambiguous"
    BOUND_EXCEEDED = "BoundExceeded"
    PROMETHEUS_UNAVAILABLE = "PrometheusUnavailable"
    SHARE_NOT_OBSERVED = "ShareNotObserved"
    BOTH_LEGS_UNHEALTHY = "BothLegsUnhealthy"
    HARM_UNCONFIRMED = "HarmUnconfirmed"
    EKS_PROBES_FAIL = "EksProbesFail"
    HEROKU_CANNOT_TAKE_BACK = "HerokuCannotTakeBack"
    DRIFT_DETECTED = "DriftDetected"
    ROUTE_NOT_WRITTEN = "RouteNotWritten"
    ANSWERS_DIFFER = "AnswersDiffer"
    SESSIONS_NOT_SHARED = "SessionsNotShared"
    LEGS_DIFFER = "LegsDiffer"
    BREACH = "Breach"
    STEP_TIMEOUT = "StepTimeout"


#: Holds that a person should look at now: they are told as Warning events.
ALARMING = frozenset(
    {
        HoldReason.INVALID_SPEC,
        HoldReason.CAPABILITY_MISSING,
        HoldReason.PREFLIGHT_FAILED,
        HoldReason.TAKEOVER_FAILED,
        HoldReason.TAKEOVER_DIFFERS,
        HoldReason.PROMETHEUS_UNAVAILABLE,
        HoldReason.QUERY_ERROR,
        HoldReason.AMBIGUOUS,
        HoldReason.BOUND_EXCEEDED,
        HoldReason.SHARE_NOT_OBSERVED,
        HoldReason.BOTH_LEGS_UNHEALTHY,
        HoldReason.HARM_UNCONFIRMED,
        HoldReason.EKS_PROBES_FAIL,
        HoldReason.HEROKU_CANNOT_TAKE_BACK,
        HoldReason.DRIFT_DETECTED,
        HoldReason.ROUTE_NOT_WRITTEN,
        HoldReason.ANSWERS_DIFFER,
        HoldReason.SESSIONS_NOT_SHARED,
        HoldReason.BREACH,
        HoldReason.STEP_TIMEOUT,
    }
)

#: Holds that come and go with the traffic: shown, but neither an event nor a line in the ledger.
QUIET = frozenset({HoldReason.INSUFFICIENT_TRAFFIC, HoldReason.UNDECIDED, HoldReason.NO_DATA})


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a plan does not move, in a word and in a sentence."""

    reason: HoldReason
    message: str
