"""The MigrationPlan and its spec, with the validation rules between spec and status."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field

from cutover.api.hosts import cel_covers, covers
from cutover.api.model import Duration, Model, ShortName, Time
from cutover.api.rules import Rule, cel_seconds, matching, once, within
from cutover.api.v1alpha1.gates import Gates, InsufficientTraffic
from cutover.api.v1alpha1.status import MigrationPlanStatus
from cutover.api.v1alpha1.traffic import EksLeg, HerokuLeg, Traffic

KIND = "MigrationPlan"
PLURAL = "migrationplans"


class Approval(StrEnum):
    """Whether a step needs the approval of a person before it begins."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"


class OnTimeout(StrEnum):
    """What happens when a step has not passed within its timeout."""

    HOLD = "Hold"
    ROLL_BACK = "RollBack"


class Step(Model):
    """A weight with its hold."""

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
        default=Approval.AUTOMATIC, description="Manual: the step begins only after a person has approved it."
    )
    timeout: Annotated[Duration, within("1s", "90d", "6h or 1d12h")] | None = Field(
        default=None, description="Longest time at this weight before onTimeout applies."
    )
    on_timeout: OnTimeout = Field(
        default=OnTimeout.HOLD, description="What happens when the step has not passed within its timeout."
    )
    min_requests: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Fewest requests that EKS must have answered in this step before the next one begins, in addition to the"
        " evidence; in the last step, before the soak ends.",
    )


DEFAULT_STEPS = tuple(Step(weight=weight) for weight in (10, 25, 50, 100))


class BaselineSource(StrEnum):
    """Who counted Heroku's requests before the takeover."""

    DRAIN = "Drain"
    GATEWAY = "Gateway"


class Baseline(Model):
    """Heroku's record, taken before anything moves."""

    RULES = (
        Rule(
            "window: with a source it must be at least an hour, as the record is kept by the hour; write a longer one, such as 14d",
            f"!has(self.source) || {cel_seconds('self.window')} >= 3600",
            lambda self: self.source is None or self.window >= timedelta(hours=1),
            at=".window",
        ),
    )

    source: BaselineSource | None = Field(
        default=None,
        description="Who counted Heroku's requests before the takeover: Drain, by the logs that cutover-drain takes, or Gateway,"
        " by the gateways of traffic.istio. The takeover waits for the whole record, and Heroku is compared with it after."
        " Without a source nothing older than the takeover is compared.",
    )
    window: Annotated[Duration, within("1s", "90d", "14d")] = Field(
        default=timedelta(days=14), description="How far the record must reach back."
    )
    min_coverage: float = Field(
        default=0.95,
        gt=0.0,
        le=1.0,
        description="Least part of the window's minutes that must be recorded without loss; of effect with a source.",
    )
    backtest: bool = Field(
        default=False,
        description="Replay the gates on Heroku's traffic before the first step, and show the result.",
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
    reason: str = Field(min_length=1, max_length=256, description="Reason of the freeze, for people.")


class Schedule(Model):
    """When weight may rise. Rollbacks ignore it."""

    time_zone: Annotated[
        str,
        Field(min_length=1, max_length=64),
        # The API server cannot know which zones exist; the operator reports an unknown one.
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
    """A preflight check that the team skips on its responsibility."""

    check: ShortName = Field(description="Name of the check, such as cpu-throttling.")
    reason: str = Field(min_length=1, max_length=256, description="Why the check may be skipped, for people.")


#: A config var, or several by how they begin.
ConfigVars = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matching(r"^[A-Za-z_][A-Za-z0-9_]*[*]?$", "write the name of a variable, such as OLD_TOKEN, or OLD_* for several"),
]


class ConfigSpec(Model):
    """How the config vars of Heroku are compared with the variables on EKS: by their names, and if asked for by their values."""

    RULES = (
        Rule(
            "differOnPurpose: values are not compared without compareValues: true; write that too, or leave it out",
            "!has(self.differOnPurpose) || size(self.differOnPurpose) == 0 || self.compareValues",
            lambda self: not self.differ_on_purpose or self.compare_values,
            at=".differOnPurpose",
        ),
    )

    read_keys: bool = Field(
        default=False,
        description="Read the names of the keys of the ConfigMaps and Secrets that the workload takes variables from. The"
        " operator needs the right to get them, which it does not have by itself.",
    )
    compare_values: bool = Field(
        default=False,
        description="Compare the values of variables that both have, in memory and by keyed digests: only names of those that"
        " differ are told. The operator needs the right to get the ConfigMaps and Secrets that have them, and the API key the"
        " scope read-protected.",
    )
    only_on_heroku: Annotated[tuple[ConfigVars, ...], once("onlyOnHeroku: write each name once")] = Field(
        default=(),
        max_length=200,
        description="Config vars that EKS does without on purpose; with * at the end all that begin so.",
    )
    differ_on_purpose: Annotated[tuple[ConfigVars, ...], once("differOnPurpose: write each name once")] = Field(
        default=(),
        max_length=200,
        description="Config vars that have another value on EKS on purpose; with * at the end all that begin so.",
    )


class PreflightSpec(Model):
    """The preflight checks that are skipped, and why, and differences that are meant."""

    skip: Annotated[tuple[SkippedCheck, ...], once("skip: write each check once", key="check")] = Field(
        default=(), max_length=64, description="Checks that are skipped."
    )
    config: ConfigSpec = ConfigSpec()

    def reason_to_skip(self, check: str) -> str | None:
        """Return why a check is skipped; ``None`` if it is not."""
        return next((skip.reason for skip in self.skip if skip.check == check), None)


class OnBreach(StrEnum):
    """What evidence of harm leads to."""

    ROLL_BACK = "RollBack"
    HOLD = "Hold"


class DownAction(StrEnum):
    """What happens to the users when Heroku is down."""

    HOLD = "Hold"
    FORWARD = "Forward"


class OnHerokuDown(Model):
    """What happens when Heroku does not answer, so that there is nothing to go back to."""

    action: DownAction = Field(
        default=DownAction.HOLD,
        description="Hold: the weight stays. Forward: all traffic goes to EKS, if EKS was proven safe at its weight before,"
        " answers well, and has the replicas for it.",
    )
    after: Annotated[Duration, within("1m", "1d", "5m")] = Field(
        default=timedelta(minutes=5),
        description="How long Heroku must have been down without a break before Forward acts.",
    )


class OnDelete(StrEnum):
    """Where the traffic stays when the plan is deleted."""

    REST = "Rest"
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
            "heroku.hostname: must not be one of traffic.istio.hosts, nor included in one, as its requests would come back to the gateway; write"
            " the app's *.herokuapp.com name, or the DNS target that Heroku gave the domain",
            "!has(self.traffic.istio)"
            f" || !self.traffic.istio.hosts.exists(host, {cel_covers('host', 'self.heroku.hostname')})",
            lambda self: not any(covers(host, self.heroku.hostname) for host in self.traffic.hosts),
            at=".heroku.hostname",
        ),
        Rule(
            "gates.insufficientTraffic: AcceptProbes needs pairs of probes in each step; write traffic.probe.rate, such as 0.5",
            "self.gates.insufficientTraffic != 'AcceptProbes' || self.traffic.probe.rate > 0.0",
            lambda self: (
                self.gates.insufficient_traffic is not InsufficientTraffic.ACCEPT_PROBES or self.traffic.probe.rate > 0
            ),
            at=".gates.insufficientTraffic",
        ),
        # Users are drawn into the steps in which they move. Between two steps there is nobody to move.
        Rule(
            "ceiling: with traffic.affinity users move with the steps; write the weight of one of the steps, or 0",
            "!has(self.traffic.affinity) || self.ceiling == 0 || self.steps.exists(step, step.weight == self.ceiling)",
            lambda self: (
                self.traffic.affinity is None
                or self.ceiling == 0
                or any(step.weight == self.ceiling for step in self.steps)
            ),
            at=".ceiling",
        ),
    )

    heroku: HerokuLeg
    eks: EksLeg
    traffic: Traffic
    steps: Steps = Field(
        default=DEFAULT_STEPS,
        min_length=1,
        max_length=20,
        description="Weights in rising order, the last of them 100; by default 10, 25, 50 and 100, each held 10m.",
    )
    soak: Annotated[Duration, within("0s", "90d", "24h or 7d")] = Field(
        default=timedelta(hours=24), description="Last hold at 100 %, in which a rollback is still possible."
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
    on_heroku_down: OnHerokuDown = OnHerokuDown()
    on_delete: OnDelete = Field(
        default=OnDelete.REST,
        description="Where the traffic stays when the plan is deleted. Rest: where evidence has put it, which is EKS for a"
        " Completed plan, and otherwise Heroku. Heroku, EKS: there. Leave: the route is not changed.",
    )
    suspend: bool = Field(default=False, description="Hold the weight where it is. Rollbacks ignore it.")
    attempt: Annotated[
        int,
        Rule("must not fall; leave it as it is, or raise it to try again after a rollback", "self >= oldSelf"),
    ] = Field(default=1, ge=1, le=10_000, description="Raise it to try again after a rollback.")


# -------------------------------------------------------------------------------------------------------------- status


_EKS_HAS_NOTHING = (
    "!has(self.status) || (!has(self.status.weight) || self.status.weight == 0)"
    " && (!has(self.status.phase) || self.status.phase != 'RollingBack')"
)

#: A manifest without the provider is refused by another rule; reading the missing fields would add a second error.
_ISTIO_BEFORE_AND_AFTER = "has(self.spec.traffic.istio) && has(oldSelf.spec.traffic.istio) && "


def _kept(path: str) -> Rule:
    """Return the rule that a field keeps its value while EKS has traffic.

    The rule is at the root because only there the status is visible. An update of the spec cannot change the status, so
    the rule sees what the operator wrote.
    """
    return Rule(
        f"{path}: must not change while EKS has traffic; put it back and change it when the plan is at weight 0, or, with"
        " all traffic on EKS for good, delete the plan (onDelete: EKS) and write a new one",
        f"{_ISTIO_BEFORE_AND_AFTER if path.startswith('traffic.istio.') else ''}"
        f"self.spec.{path} == oldSelf.spec.{path} || {_EKS_HAS_NOTHING}",
        at=f".spec.{path}",
    )


def _none_added(name: str) -> Rule:
    """Return the rule that a list of ``traffic.istio`` does not grow once the operator routes the hosts.

    Only preflight checks whether a host is free on a gateway, and preflight is over by then.
    """
    path = f"spec.traffic.istio.{name}"
    return Rule(
        f"traffic.istio.{name}: none may be added once the operator routes the hosts, as only preflight checks whether it"
        " is free; put it back, or delete the plan and write a new one",
        f"{_ISTIO_BEFORE_AND_AFTER}self.{path}.all(item, item in oldSelf.{path})"
        " || !has(self.status) || !has(self.status.weight)",
        at=f".{path}",
    )


def _same(name: str) -> str:
    """Return the CEL expression that an optional field of ``traffic.istio`` keeps its value."""
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
                "heroku.hostHeader",
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
            f"({_ISTIO_BEFORE_AND_AFTER}{_same('ownership')} && {_same('virtualServiceRef')})"
            " || !has(self.status) || !has(self.status.weight)",
            at=".spec.traffic.istio.ownership",
        ),
    )

    api_version: Literal["cutover.dev/v1alpha1"]
    kind: Literal["MigrationPlan"]
    metadata: dict[str, Any] = Field(default_factory=dict)
    spec: MigrationPlanSpec
    status: MigrationPlanStatus = MigrationPlanStatus()
