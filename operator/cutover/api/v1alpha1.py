"""``cutover.dev/v1alpha1``: what people write in a MigrationPlan and what the operator answers.

Field names are the API's contract; every model is immutable. The CRD in ``crds/`` is generated from these models by
:mod:`cutover.api.crd`, so a rule that the API server can check by itself is stated here once, beside the field it
concerns.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from cutover.api.gates import DEFAULT_SLOS as DEFAULT_SLOS
from cutover.api.gates import HISTOGRAM_BOUNDS_MS as HISTOGRAM_BOUNDS_MS
from cutover.api.gates import BoundSlo as BoundSlo
from cutover.api.gates import ErrorsSlo as ErrorsSlo
from cutover.api.gates import Gates as Gates
from cutover.api.gates import LatencySlo as LatencySlo
from cutover.api.gates import Mode as Mode
from cutover.api.gates import RatioSlo as RatioSlo
from cutover.api.gates import Slo as Slo
from cutover.api.gates import TemplateKind as TemplateKind
from cutover.api.gates import TemplateRef as TemplateRef
from cutover.api.gates import ToleranceSpec as ToleranceSpec
from cutover.api.model import DNS_NAME, GATEWAY_NAME, Duration, Model, ObjectName, ShortName, Time
from cutover.api.model import GROUP as GROUP
from cutover.api.model import VERSION as VERSION
from cutover.api.rules import Rule, cel_seconds, matching, once, within
from cutover.api.rules import format_duration as format_duration
from cutover.api.rules import parse_duration as parse_duration

KIND = "MigrationPlan"
PLURAL = "migrationplans"

#: Decisions kept in ``status.ledger``; the oldest go first.
LEDGER_LENGTH = 30


# ---------------------------------------------------------------------------------------------------------------- spec


class SecretKeyRef(Model):
    """A key of a Secret in the plan's own namespace."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")
    key: str = Field(min_length=1, max_length=253, description="Key in the Secret's data.")


#: Ends of names that are never public (RFC 6761, 6762 and 8375, ICANN's ``.internal``), a label ``svc``, as Services of
#: clusters have it, and IPv4 addresses: where the gateways' proxies must not be sent by a plan.
_NOT_PUBLIC = (
    r"(^|\.)svc(\.|$)|\.[0-9][-a-z0-9]*$"
    r"|\.(arpa|corp|home|internal|intranet|invalid|lan|local|localdomain|localhost|private|test)$"
)


class HerokuLeg(Model):
    """The Heroku side of the split."""

    app: Annotated[
        str,
        Field(min_length=3, max_length=30),
        matching(
            r"^[a-z][a-z0-9-]{1,28}[a-z0-9]$",
            "write the app's name as Heroku has it: 3 to 30 lower-case letters, digits and '-', such as acme-pdf",
        ),
    ] = Field(description="Name of the Heroku app.")
    hostname: Annotated[
        str,
        Field(min_length=3, max_length=238),  # with the prefix of the leg's own name no more than DNS allows
        matching(DNS_NAME, "write a DNS name without scheme, port or path, such as acme-pdf-1a2b3c.herokuapp.com"),
        Rule(
            "write a public name, not an address or a name of a cluster, a machine or a private network; such as"
            " acme-pdf-1a2b3c.herokuapp.com",
            f"!self.matches({json.dumps(_NOT_PUBLIC)})",
            lambda hostname: re.search(_NOT_PUBLIC, hostname) is None,
        ),
    ] = Field(description="Host name that Heroku's router knows the app by; prefer the *.herokuapp.com name.")
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret that holds a read-only key for Heroku's Platform API."
    )


class ServiceRef(Model):
    """A Service of the plan's namespace and one of its ports."""

    name: Annotated[
        str,
        Field(min_length=1, max_length=63),
        matching(
            r"^[a-z]([-a-z0-9]*[a-z0-9])?$", "write the name of a Service of the plan's namespace, without a dot"
        ),
    ] = Field(description="Name of the Service.")
    port: int = Field(ge=1, le=65535, description="Port of the Service, by number.")


class WorkloadRef(Model):
    """The workload behind the Service, in the plan's namespace."""

    api_version: Literal["apps/v1"] = Field(default="apps/v1", description="API group and version of the workload.")
    kind: Literal["Deployment"] = Field(default="Deployment", description="Kind of the workload.")
    name: ObjectName = Field(description="Name of the workload.")


class EksLeg(Model):
    """The EKS side of the split."""

    service: ServiceRef = Field(description="Service that takes the requests, with the port for HTTP.")
    workload_ref: WorkloadRef = Field(description="Workload behind the Service, in the plan's namespace.")


class Ownership(StrEnum):
    """Who owns the VirtualService that carries the weights."""

    GENERATE = "Generate"
    DELEGATE = "Delegate"
    ADOPT = "Adopt"


class VirtualServiceRef(Model):
    """The VirtualService that ``Delegate`` and ``Adopt`` work on."""

    name: ObjectName = Field(description="Name of the VirtualService, in the plan's namespace.")


Hosts = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=253)], ...],
    Rule(
        "hosts: a wildcard is not supported, as it may take in hosts of other services; write each host by its name",
        "!self.exists(host, host.contains('*'))",
        lambda hosts: not any("*" in host for host in hosts),
    ),
    Rule(
        "hosts: write DNS names in lower case without scheme, port or path, such as pdf.example.com",
        f"self.all(host, host.contains('*') || host.matches({json.dumps(DNS_NAME)}))",
        lambda hosts: all("*" in host or re.fullmatch(DNS_NAME, host) for host in hosts),
    ),
    once("hosts: write each host once"),
]

Gateways = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=317)], ...],
    Rule(
        "gateways: mesh is not supported, as traffic inside the mesh cannot be compared yet; write ingress gateways only,"
        " such as istio-ingress/public",
        "!('mesh' in self)",
        lambda gateways: "mesh" not in gateways,
    ),
    Rule(
        "gateways: write namespace/name, or name for a Gateway of the plan's namespace, such as istio-ingress/public",
        f"self.all(gateway, gateway.matches({json.dumps(GATEWAY_NAME)}))",
        lambda gateways: all(re.fullmatch(GATEWAY_NAME, gateway) for gateway in gateways),
    ),
    once("gateways: write each gateway once"),
]


class IstioTraffic(Model):
    """How the host's traffic is split in Istio."""

    RULES = (
        Rule(
            "virtualServiceRef: needed with ownership Adopt or Delegate; write the name of the VirtualService to work on,"
            " or ownership: Generate",
            "self.ownership == 'Generate' || has(self.virtualServiceRef)",
            lambda self: self.ownership is Ownership.GENERATE or self.virtual_service_ref is not None,
            at=".virtualServiceRef",
        ),
        Rule(
            "virtualServiceRef: must not be set with ownership Generate, which makes its own; leave it out, or write"
            " ownership: Adopt or Delegate",
            "self.ownership != 'Generate' || !has(self.virtualServiceRef)",
            lambda self: self.ownership is not Ownership.GENERATE or self.virtual_service_ref is None,
            at=".virtualServiceRef",
        ),
    )

    hosts: Hosts = Field(
        min_length=1, max_length=16, description="Public host names whose requests are split, without wildcards."
    )
    gateways: Gateways = Field(
        min_length=1, max_length=8, description="Gateways as namespace/name, or name for one in the plan's namespace."
    )
    ownership: Ownership = Field(
        default=Ownership.GENERATE,
        description="Who owns the VirtualService. Generate: the operator makes its own. Delegate: the one named by"
        " virtualServiceRef delegates to the operator's. Adopt: the operator takes over the one named.",
    )
    virtual_service_ref: VirtualServiceRef | None = Field(
        default=None, description="Needed with ownership Delegate or Adopt."
    )
    timeout: Annotated[Duration, within("1s", "1h", "30s")] = Field(
        default=timedelta(seconds=30), description="Time-out of a request on either leg; Heroku's own is 30s."
    )
    probe_path: Annotated[
        str,
        Field(min_length=1, max_length=256),
        matching(
            r"^/([-A-Za-z0-9._~!$&'()*+,;=:@%][-A-Za-z0-9._~!$&'()*+,;=:@%/]*)?$",
            "write a path that begins with '/', but not '//', without a query, such as /healthz",
        ),
    ] = Field(
        default="/",
        description="Path that the operator requests of the Heroku leg through the gateway, to prove the way back;"
        " pick a cheap one.",
    )


class Traffic(Model):
    """The provider that moves the traffic."""

    istio: IstioTraffic


class Approval(StrEnum):
    """Whether moving to a step's weight needs a person."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class OnTimeout(StrEnum):
    """What happens when a step has not passed within its timeout."""

    HOLD = "Hold"
    ROLL_BACK = "RollBack"


class Step(Model):
    """A target weight with its hold."""

    RULES = (
        Rule(
            "timeout: must not be shorter than hold, or the step could never pass; write a longer timeout, or leave it out",
            f"!has(self.timeout) || {cel_seconds('self.timeout')} >= {cel_seconds('self.hold')}",
            lambda self: self.timeout is None or self.timeout >= self.hold,
            at=".timeout",
        ),
    )

    weight: int = Field(ge=1, le=100, description="Percent of requests sent to EKS during the step.")
    hold: Annotated[Duration, within("0s", "90d")] = Field(
        default=timedelta(minutes=10), description="Least time at this weight."
    )
    approval: Approval = Field(
        default=Approval.AUTOMATIC, description="Manual: a person lets the plan enter this step."
    )
    timeout: Annotated[Duration, within("1s", "90d", "6h or 1d12h")] | None = Field(
        default=None, description="Longest time at this weight before onTimeout applies."
    )
    on_timeout: OnTimeout = Field(
        default=OnTimeout.HOLD, description="What happens when the step has not passed within its timeout."
    )


DEFAULT_STEPS = tuple(Step(weight=weight) for weight in (10, 25, 50, 100))


class Baseline(Model):
    """Heroku's own record, taken before anything moves."""

    window: Annotated[Duration, within("1s", "90d", "14d")] = Field(
        default=timedelta(days=14), description="How far the record must reach back."
    )
    min_coverage: float = Field(
        default=0.95, gt=0.0, le=1.0, description="Least part of the window for which there must be data."
    )
    backtest: bool = Field(
        default=False,
        description="Replay the gates on Heroku's own traffic before the first step, and show the result.",
    )


class Weekday(StrEnum):
    """Day of the week."""

    MON = "Mon"
    TUE = "Tue"
    WED = "Wed"
    THU = "Thu"
    FRI = "Fri"
    SAT = "Sat"
    SUN = "Sun"


ClockTime = Annotated[
    str,
    Field(min_length=5, max_length=5),
    matching(r"^([01][0-9]|2[0-3]):[0-5][0-9]$", 'write hours and minutes as "HH:MM" in quotes, such as "09:00"'),
]


class Window(Model):
    """Hours in which weight may rise."""

    RULES = (
        Rule(
            'to: must be after from; write a window that passes midnight as two: to "23:59", and from "00:00" on the next day',
            "self.from < self.to",
            lambda self: self.from_ < self.to,
            at=".to",
        ),
    )

    days: tuple[Weekday, ...] = Field(min_length=1, max_length=7, description="Days of the week, from Mon to Sun.")
    from_: ClockTime = Field(alias="from", description="Start of the window in the schedule's time zone, as HH:MM.")
    to: ClockTime = Field(description="End of the window on the same day, as HH:MM.")


class Freeze(Model):
    """A span of time in which weight must not rise."""

    RULES = (
        Rule(
            "to: must be after from; write the end of the freeze, such as 2027-01-04T08:00:00Z",
            "self.from < self.to",  # both are timestamps in CEL, by their format
            lambda self: self.from_ < self.to,
            at=".to",
        ),
    )

    from_: Time = Field(alias="from", description="Start of the freeze, with its zone: 2026-12-20T00:00:00Z.")
    to: Time = Field(description="End of the freeze, with its zone.")
    reason: str = Field(min_length=1, max_length=256, description="Why, for people.")


class Schedule(Model):
    """When weight may rise. Rollbacks ignore it."""

    time_zone: Annotated[
        str,
        Field(min_length=1, max_length=64),
        # Which zones exist is beyond the API server; the operator reports one that it does not know.
        matching(
            r"^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$", "write an IANA time zone, such as Europe/Paris or UTC"
        ),
    ] = Field(default="UTC", description="IANA name, such as Europe/Paris.")
    windows: tuple[Window, ...] = Field(
        default=(), max_length=16, description="Hours in which weight may rise; at any time if there are none."
    )
    freezes: tuple[Freeze, ...] = Field(
        default=(), max_length=32, description="Spans of time in which weight must not rise."
    )


class SkippedCheck(Model):
    """A preflight check that the team takes upon itself."""

    check: ShortName = Field(description="Name of the check, such as cpu-throttling.")
    reason: str = Field(min_length=1, max_length=256, description="Why it may be left out, for people.")


class PreflightSpec(Model):
    """Which preflight checks are left out, and why."""

    skip: Annotated[tuple[SkippedCheck, ...], once("skip: write each check once", key="check")] = Field(
        default=(), max_length=32, description="Checks that are left out."
    )


class OnBreach(StrEnum):
    """What evidence of harm leads to."""

    ROLL_BACK = "RollBack"
    HOLD = "Hold"


class OnDelete(StrEnum):
    """Where traffic rests when the plan is deleted."""

    HEROKU = "Heroku"
    EKS = "EKS"
    LEAVE = "Leave"


Steps = Annotated[
    tuple[Step, ...],
    Rule(
        "steps: weights must rise from step to step; write them in order, such as 10, 25, 50, 100",
        "self.map(step, step.weight).isSorted() && self.all(a, self.exists_one(b, a.weight == b.weight))",
        lambda steps: all(a.weight < b.weight for a, b in pairwise(steps)),
    ),
    Rule(
        "steps: the last weight must be 100, or the migration would never be done; write a last step {weight: 100}, held"
        " back by ceiling or approval: Manual if need be",
        "size(self) == 0 || self[size(self) - 1].weight == 100",
        lambda steps: not steps or steps[-1].weight == 100,
    ),
]


class MigrationPlanSpec(Model):
    """One service's migration."""

    RULES = (
        Rule(
            "heroku.hostname: must not be one of traffic.istio.hosts, as its requests would come back to the gateway; write"
            " the app's *.herokuapp.com name",
            "!(self.heroku.hostname in self.traffic.istio.hosts)",
            lambda self: self.heroku.hostname not in self.traffic.istio.hosts,
            at=".heroku.hostname",
        ),
    )

    heroku: HerokuLeg
    eks: EksLeg
    traffic: Traffic
    steps: Steps = Field(
        default=DEFAULT_STEPS,
        min_length=1,
        max_length=20,
        description="Target weights in rising order, the last of them 100; by default 10, 25, 50 and 100, each held 10m.",
    )
    soak: Annotated[Duration, within("0s", "90d", "24h or 7d")] = Field(
        default=timedelta(hours=24), description="Last hold at 100 %, with the way back open."
    )
    ceiling: int = Field(default=100, ge=0, le=100, description="Weight that is never exceeded.")
    gates: Gates = Gates()
    baseline: Baseline = Baseline()
    schedule: Schedule | None = Field(default=None, description="When weight may rise. Rollbacks ignore it.")
    preflight: PreflightSpec = PreflightSpec()
    on_breach: OnBreach = Field(
        default=OnBreach.ROLL_BACK,
        description="What evidence of harm leads to: RollBack, or Hold where there is no way back for the data.",
    )
    on_delete: OnDelete = Field(
        default=OnDelete.HEROKU, description="Where traffic rests when the plan is deleted; Leave touches nothing."
    )
    suspend: bool = Field(default=False, description="Hold the weight where it is. Rollbacks ignore it.")
    attempt: Annotated[
        int,
        Rule("must not fall; leave it as it is, or raise it to try again after a rollback", "self >= oldSelf"),
    ] = Field(default=1, ge=1, le=10_000, description="Raise it to try again after a rollback.")


# -------------------------------------------------------------------------------------------------------------- status


class Phase(StrEnum):
    """Where a plan is."""

    PENDING = "Pending"
    PREFLIGHT = "Preflight"
    BASELINE = "Baseline"
    SHIFTING = "Shifting"
    SOAKING = "Soaking"
    COMPLETED = "Completed"
    ROLLING_BACK = "RollingBack"
    ROLLED_BACK = "RolledBack"


def _round_share(value: float) -> float:
    return round(value, 1)  # more digits are noise, and make a ragged column


class Share(Model):
    """Percent of requests seen on the EKS leg at the gateway."""

    observed: Annotated[float, PlainSerializer(_round_share, return_type=float, when_used="json")] = Field(
        description="Percent, 0 to 100, to a tenth."
    )
    at: Time = Field(description="When it was observed.")


class GateStatus(Model):
    """What a gate says, and on what numbers."""

    name: str = Field(description="Name of the SLO.")
    kind: str = Field(default="Comparative", description="Comparative, Ratio or Bound.")
    mode: Mode = Field(default=Mode.ENFORCE, description="Observe: shown only.")
    verdict: str = Field(
        description="Pass, Fail, Undecided, InsufficientTraffic, NoData, QueryError or Ambiguous; only Fail rolls back."
    )
    evidence: str = Field(default="", description="One sentence with the numbers.")
    limits: str = Field(default="", description="What is tolerated, and what lets the next step begin.")
    heroku: str = Field(default="", description="Heroku's number, for people.")
    eks: str = Field(default="", description="EKS' number, for people.")
    samples: int = Field(default=0, description="Requests of both legs that were judged in this step.")
    queries: tuple[str, ...] = Field(default=(), description="What Prometheus is asked, to look at it yourself.")


class EvidenceStatus(Model):
    """What all gates that decide say together."""

    harm: float = Field(description="Evidence of harm.")
    harm_limit: float = Field(description="Evidence of harm that rolls back.")
    safety: float = Field(description="Evidence of safety of the gate that has least.")
    safety_limit: float = Field(description="Evidence of safety that the next step needs.")


class CheckStatus(Model):
    """One preflight check."""

    check: str = Field(description="Name of the check.")
    status: str = Field(description="Passed, Failed, Unknown or Skipped.")
    message: str = ""


class BoundBaseline(Model):
    """What a bound's query gave before anything moved."""

    gate: str = Field(description="Name of the SLO.")
    value: float = Field(description="95th percentile of the last day.")
    about: str = Field(default="", description="Which query gave it, in short.")


class BacktestStep(Model):
    """What a replay predicts for one step."""

    weight: int = Field(description="Percent of requests to EKS.")
    requests: int = Field(description="EKS requests that prove it safe, the median.")
    seconds: int = Field(description="Time at the weight, the median.")
    slowest_seconds: int = Field(description="What 9 of 10 stay below.")


class BacktestStatus(Model):
    """What the gates would have done with Heroku compared with itself."""

    runs: int = Field(description="Cutovers that were replayed.")
    false_rollbacks: int = Field(description="Those that were rolled back, though there was nothing to find.")
    stuck: int = Field(description="Those that did not get to the end of the record.")
    seconds: int | None = Field(default=None, description="Time for the whole cutover without the soak, the median.")
    steps: tuple[BacktestStep, ...] = Field(default=(), description="Each step.")
    message: str = Field(default="", description="The same in a sentence, or why there is none.")


class BaselineStatus(Model):
    """What was recorded of Heroku before anything moved."""

    since: Time
    requests: int = 0
    slow_ms: float | None = None
    very_slow_ms: float | None = None
    bounds: tuple[BoundBaseline, ...] = Field(default=(), description="What the bounds' queries gave.")
    backtest: BacktestStatus | None = Field(default=None, description="What a replay of the gates predicts.")


class LedgerEntry(Model):
    """One decision with its numbers."""

    at: Time
    attempt: int
    decision: str
    from_weight: int
    to_weight: int
    reason: str
    message: str = ""
    gates: tuple[str, ...] = ()
    queries: tuple[str, ...] = Field(default=(), description="What Prometheus was asked by the team's own gates.")


class OwnEvidence(Model):
    """What a restarted operator needs to go on judging one of the team's own ratios."""

    gate: str = Field(description="Name of the SLO.")
    about: str = Field(default="", description="What it is evidence of, in short: queries and limits.")
    consumed_until: float = Field(description="Unix seconds; end of the last judged block.")
    gaps: int = Field(default=0, description="Blocks in a row, up to the last one, that could not be judged.")
    evidence: str = Field(default="", description="The judge's state, as JSON for itself.")


class ResolvedTemplate(Model):
    """A template as it was when the step began: it stays in force until the next."""

    gate: str = Field(description="Name of the SLO.")
    template: str = Field(description="Kind and name, as ClusterGateTemplate/cpu-throttling.")
    generation: int = Field(description="The template's generation.")
    definition: str = Field(description="The gate that came of it, as JSON for the operator itself.")


class ApprovedStep(Model):
    """A step that may begin because the ceiling that held it back was raised."""

    weight: int = Field(description="Percent of the step.")
    by: str = Field(description="From what to what the ceiling was raised, and who did it.")


class Checkpoint(Model):
    """What a restarted operator needs to go on judging where it was."""

    at: float = Field(default=0.0, description="Unix seconds of this checkpoint.")
    weight_since: float = Field(description="Unix seconds at which the current weight was decided.")
    previous_weight: int = Field(
        default=0, ge=0, le=100, description="Weight before that; seeing the new one means telling them apart."
    )
    share_pool: tuple[float, float] = Field(
        default=(0.0, 0.0), description="Requests to EKS and to both legs, pooled until the weight is seen."
    )
    live_at: float | None = Field(
        default=None, description="Unix seconds; when a probe first saw the current route at the gateway."
    )
    observed_at: float | None = Field(
        default=None, description="Unix seconds; when the weight was seen at the gateway."
    )
    next_weight: int = Field(default=0, description="Next step's weight, which the evidence of safety is for.")
    consumed_until: float = Field(default=0.0, description="Unix seconds; end of the last judged block.")
    gaps: int = Field(default=0, description="Blocks in a row, up to the last one, that could not be judged.")
    evidence: str = Field(default="", description="The judge's state, as JSON for itself: people read the gates.")
    own: tuple[OwnEvidence, ...] = Field(default=(), description="The same for each ratio of the team's own.")


class Condition(Model):
    """A standard Kubernetes condition."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str = ""
    last_transition_time: Time
    observed_generation: int


class MigrationPlanStatus(Model):
    """What the operator is doing, why, and on what numbers."""

    observed_generation: int = Field(default=-1, description="Generation of the spec that this status is about.")
    phase: Phase = Field(default=Phase.PENDING, description="Where the plan is.")
    attempt: int = Field(default=0, description="The spec's attempt that this status is about.")
    step: str = Field(default="", description="Current step of all steps, such as 2/4.")
    weight: int | None = Field(
        default=None, ge=0, le=100, description="Desired percent of requests to EKS; unset before takeover."
    )
    share: Share | None = Field(default=None, description="Percent of requests seen on the EKS leg at the gateway.")
    since: Time | None = Field(default=None, description="Start of the current phase or step.")
    reason: str = Field(default="", description="Why it is there, in one word.")
    message: str = Field(default="", description="Why it is there, in one sentence with the numbers.")
    gate: str = Field(default="", description="Short summary of the gates for the table.")
    gates: tuple[GateStatus, ...] = Field(default=(), description="What each gate says.")
    evidence: EvidenceStatus | None = Field(default=None, description="What the gates that decide say together.")
    templates: tuple[ResolvedTemplate, ...] = Field(default=(), description="Templates of gates that are in force.")
    preflight: tuple[CheckStatus, ...] = Field(default=(), description="What each preflight check says.")
    baseline: BaselineStatus | None = Field(
        default=None, description="What was recorded of Heroku before the first step."
    )
    ledger: tuple[LedgerEntry, ...] = Field(default=(), description="The last decisions, oldest first.")
    notified: dict[str, str] | None = Field(
        default=None, description="The last decision that each receiver of notifications was told."
    )
    checkpoint: Checkpoint | None = Field(default=None, description="For the operator itself, after a restart.")
    guards: dict[str, str] | None = Field(
        default=None,
        description="What the spec said when it was last looked at: what of it is edited is in the ledger.",
    )
    approved: ApprovedStep | None = Field(
        default=None, description="Step that was approved by raising the ceiling, in this attempt."
    )
    void: dict[str, str] | None = Field(
        default=None, description="Annotations that count no more, as they were given before the weight was lowered."
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        description="Ready, Reconciling, Stalled, Progressing, Held, Completed and RolledBack.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )


# ---------------------------------------------------------------------------------------------------------------- plan

#: No request of users goes to EKS, nor did it a moment ago. Not only the phases between the legs count: while EKS has
#: everything, Completed included, a change would move all users at once, to something that nobody has judged.
_EKS_HAS_NOTHING = (
    "!has(self.status) || (!has(self.status.weight) || self.status.weight == 0)"
    " && (!has(self.status.phase) || self.status.phase != 'RollingBack')"
)


def _kept(path: str) -> Rule:
    """Return the rule that a field keeps its value while EKS has traffic.

    It stands at the root because the status is visible from there only. An update of the spec cannot change the
    status: what the rule sees is what the operator wrote.
    """
    return Rule(
        f"{path}: must not change while EKS has traffic; put it back and change it when the plan is at weight 0, or, with"
        " all traffic on EKS for good, delete the plan (onDelete: EKS) and write a new one",
        f"self.spec.{path} == oldSelf.spec.{path} || {_EKS_HAS_NOTHING}",
        at=f".spec.{path}",
    )


def _none_added(name: str) -> Rule:
    """Return the rule that a list of ``traffic.istio`` does not grow once the operator routes the hosts.

    Preflight asks whether a host is free on a gateway, and it is over by then.
    """
    path = f"spec.traffic.istio.{name}"
    return Rule(
        f"traffic.istio.{name}: none may be added once the operator routes the hosts, as only preflight asks whether it is"
        " free; put it back, or delete the plan and write a new one",
        f"self.{path}.all(one, one in oldSelf.{path}) || !has(self.status) || !has(self.status.weight)",
        at=f".{path}",
    )


def _same(name: str) -> str:
    """Return the CEL expression that a field of ``traffic.istio``, which may be left out, keeps its value."""
    new, old = f"self.spec.traffic.istio.{name}", f"oldSelf.spec.traffic.istio.{name}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


class MigrationPlan(Model):
    """Moves one service's traffic from Heroku to EKS: in steps, on evidence, with the way back open."""

    RULES = (
        Rule(
            "metadata.name: at most 63 characters, because it is the value of a label; write a shorter one",
            "size(self.metadata.name) <= 63",
            lambda plan: len(plan.metadata.get("name", "")) <= 63,
        ),
        *(
            _kept(path)
            for path in (
                "heroku.app",
                "heroku.hostname",
                "eks.service",
                "traffic.istio.hosts",
                "traffic.istio.gateways",
            )
        ),
        _none_added("hosts"),
        _none_added("gateways"),
        Rule(
            "traffic.istio.ownership: neither it nor virtualServiceRef must change once the operator routes the host, or"
            " two VirtualServices would; put it back, or delete the plan and write a new one",
            f"({_same('ownership')} && {_same('virtualServiceRef')}) || !has(self.status) || !has(self.status.weight)",
            at=".spec.traffic.istio.ownership",
        ),
    )

    api_version: Literal["cutover.dev/v1alpha1"]
    kind: Literal["MigrationPlan"]
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: MigrationPlanSpec
    status: MigrationPlanStatus = MigrationPlanStatus()
