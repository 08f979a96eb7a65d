"""The MigrationPlan and its spec, with the validation rules between spec and status."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from cutover.api.hosts import cel_covers, covers
from cutover.api.model import Duration, Model
from cutover.api.rules import Rule, within
from cutover.api.v1alpha1.gates import Gates, InsufficientTraffic
from cutover.api.v1alpha1.spec.baseline import Baseline
from cutover.api.v1alpha1.spec.eks import EksLeg
from cutover.api.v1alpha1.spec.heroku import HerokuLeg
from cutover.api.v1alpha1.spec.preflight import PreflightSpec
from cutover.api.v1alpha1.spec.schedule import Schedule
from cutover.api.v1alpha1.spec.steps import DEFAULT_STEPS, Steps
from cutover.api.v1alpha1.spec.traffic import Traffic
from cutover.api.v1alpha1.status.plan import MigrationPlanStatus

KIND = "MigrationPlan"

PLURAL = "migrationplans"


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
