"""The parts of a preflight check. Each check is a file in :mod:`cutover.domain.preflight.checks`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from cutover.api.v1alpha1 import CheckResult, MigrationPlanSpec
from cutover.domain.alike.findings import PathAnswers
from cutover.domain.baseline.record import Record
from cutover.domain.dns import HostRecord
from cutover.domain.dynos import DynoUse
from cutover.domain.heroku import HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory, Key
from cutover.domain.resources import Json, Resource
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.traffic import Leg, Probe


class Stage(Enum):
    """When a check runs."""

    BEFORE_TAKEOVER = auto()
    #: The probes of both legs have a route at the gateway, and users go as they went before. Asked again once users have
    #: the route too, with all of them on Heroku.
    TRIAL = auto()


@dataclass(frozen=True, slots=True)
class Read:
    """Objects that a check reads, and so the RBAC right that the operator needs.

    Parameters
    ----------
    resource
        Kind of the objects.
    names
        Namespace and name of each object; ``None`` for all objects of all namespaces, which are listed.
    keep
        Returns the part of an object that is kept; ``None`` to keep all of it. All checks that list a kind keep the same
        part, because one list serves all plans.
    derived
        What checks derive of the list, which is made beside the event loop.
    wanted
        Whether a plan needs the objects.
    follows
        Instead of ``names``: returns the same from the objects that were read by name before.
    """

    resource: Resource
    names: Callable[[Plan], Iterable[Key]] | None = None
    keep: Callable[[Json], Json] | None = None
    derived: tuple[Callable[[Sequence[Json]], object], ...] = ()
    wanted: Callable[[Plan], bool] = lambda _: True
    follows: Callable[[Plan, Inventory], Iterable[Key]] | None = None

    @property
    def verb(self) -> str:
        """The RBAC verb that the read needs."""
        return "list" if self.names is None and self.follows is None else "get"


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts that checks judge.

    Parameters
    ----------
    inventory
        Kubernetes objects, with all that a check reads. If something could not be read, the registry returns Unknown and
        does not run the check.
    slos
        The plan's custom SLOs, templates resolved.
    readings
        What was read for each custom SLO, by its name.
    probes
        The newest probe of each leg that was asked.
    asks_eks
        Whether the traffic provider can ask EKS.
    revision
        Revision of the route that the probes should meet.
    heroku
        What Heroku's API says about the app; ``None`` without a key for it.
    answers
        The answers that users get now, and those of both legs; ``None`` if they were not asked for yet.
    dns
        What DNS says about the hosts, as far as it was asked.
    dynos
        What the web dynos use; ``None`` if it is not recorded.
    record
        Heroku's record of the time before; ``None`` where none is asked for, or too little of it is there.
    """

    inventory: Inventory = field(default_factory=Inventory)
    slos: Sequence[CustomSlo] = ()
    readings: Mapping[str, SloReading] = field(default_factory=dict)
    probes: Mapping[Leg, Probe] = field(default_factory=dict)
    asks_eks: bool = False
    revision: str = ""
    heroku: HerokuReading | None = None
    answers: Sequence[PathAnswers] | None = None
    dns: Sequence[HostRecord] = ()
    dynos: DynoUse | None = None
    record: Record | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check.

    Parameters
    ----------
    message
        A sentence that says what to do; ``""`` if there is nothing to do.
    skippable
        Whether ``preflight.skip`` can skip the finding. Only a guarded check may set it to False.
    """

    result: CheckResult
    message: str = ""
    skippable: bool = True


PASSED = Finding(CheckResult.PASSED)


def judged(problem: str) -> Finding:
    """Return Failed with a problem, or Passed without one."""
    return Finding(CheckResult.FAILED, problem) if problem else PASSED


def refused(problem: str) -> Finding:
    """Return Failed for a problem that concerns other teams, which the plan cannot skip."""
    return Finding(CheckResult.FAILED, problem, skippable=False)


def warned(message: str) -> Finding:
    """Return Warned, which is shown and recorded, and holds nothing."""
    return Finding(CheckResult.WARNED, message)


def unknown(why: str) -> Finding:
    """Return Unknown, which holds the plan."""
    return Finding(CheckResult.UNKNOWN, why)


@dataclass(frozen=True, slots=True)
class Check:
    """A preflight check. A module under ``checks/`` only has to define it as ``CHECK``.

    Parameters
    ----------
    name
        Name in ``status.preflight`` and in ``preflight.skip``.
    passes_when
        The condition, for the index in the docs: Markdown, with links as from ``docs/``.
    judge
        A pure function of the plan and the facts.
    reads
        Objects that the check reads, in the order in which they must be read.
    may_read
        Objects that the check does without where the operator has no right to them; the chart grants none.
    applies
        Whether the check runs for a plan, by its spec.
    stage
        When the check runs.
    guarded
        Whether the check protects other teams. No plan can skip what it refuses or could not find out: the operator has
        more rights than the plan's author, who must not get these rights by a line of YAML.
    awaited
        Whether an answer comes by itself soon after the start. Unknown then holds only after a while.
    advisory
        Whether the check only advises, as audits do. What could not be read is a warning and holds nothing. The status
        leaves the check out where it passes: there are many audits, and each plan stores its status.
    repeats
        Whether it is judged again at each step: it needs objects of the cluster alone.
    volatile
        Whether its message changes from one probe to the next. Such a change alone is not written.
    """

    name: str
    passes_when: str
    judge: Callable[[Plan, Facts], Finding]
    reads: tuple[Read, ...] = ()
    may_read: tuple[Read, ...] = ()
    applies: Callable[[MigrationPlanSpec], bool] = lambda _: True
    stage: Stage = Stage.BEFORE_TAKEOVER
    guarded: bool = False
    awaited: bool = False
    advisory: bool = False
    repeats: bool = False
    volatile: bool = False
