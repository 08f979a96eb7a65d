"""What a preflight check is made of. Each check is a file in :mod:`cutover.domain.preflight.checks`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from cutover.api.v1alpha1 import CheckResult, MigrationPlanSpec
from cutover.domain.plan import Plan
from cutover.domain.preflight.inventory import Inventory, Key
from cutover.domain.resources import Json, Resource
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.traffic import Probe


class Stage(Enum):
    """When a check is made."""

    BEFORE_TAKEOVER = auto()
    #: The operator's route is live, with all traffic on Heroku.
    AFTER_TAKEOVER = auto()


@dataclass(frozen=True, slots=True)
class Read:
    """Objects that a check reads, and with them the right that the operator needs.

    Parameters
    ----------
    resource
        Kind of the objects.
    names
        Namespace and name of each object; ``None`` for all objects of all namespaces, which are listed.
    keep
        What is kept of an object; ``None`` for all of it. All checks that list a kind keep the same of it, as one list
        serves all plans.
    wanted
        Whether the plan needs it at all.
    """

    resource: Resource
    names: Callable[[Plan], Iterable[Key]] | None = None
    keep: Callable[[Json], Json] | None = None
    wanted: Callable[[Plan], bool] = lambda _: True

    @property
    def verb(self) -> str:
        """The RBAC verb that it needs."""
        return "list" if self.names is None else "get"


@dataclass(frozen=True, slots=True)
class Facts:
    """What checks judge.

    Parameters
    ----------
    inventory
        Kubernetes objects. What a check reads is in it: the registry answers Unknown in its place where it is not.
    slos
        The plan's custom SLOs, templates resolved.
    readings
        What became known of them, by name.
    probe
        The newest probe of the Heroku leg.
    revision
        The route that the takeover has written.
    """

    inventory: Inventory = field(default_factory=Inventory)
    slos: Sequence[CustomSlo] = ()
    readings: Mapping[str, SloReading] = field(default_factory=dict)
    probe: Probe | None = None
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says.

    Parameters
    ----------
    message
        A sentence that says what to do; ``""`` where there is nothing to do.
    skippable
        Whether the plan can skip it. Only a guarded check may say no.
    """

    result: CheckResult
    message: str = ""
    skippable: bool = True


PASSED = Finding(CheckResult.PASSED)


def judged(problem: str) -> Finding:
    """Return Failed with a problem, or Passed where there is none."""
    return Finding(CheckResult.FAILED, problem) if problem else PASSED


def refused(problem: str) -> Finding:
    """Return Failed for what is other teams', which the plan cannot skip."""
    return Finding(CheckResult.FAILED, problem, skippable=False)


def warned(message: str) -> Finding:
    """Return Warned: it is told and recorded, and holds nothing."""
    return Finding(CheckResult.WARNED, message)


def unknown(why: str) -> Finding:
    """Return Unknown, which holds."""
    return Finding(CheckResult.UNKNOWN, why)


@dataclass(frozen=True, slots=True)
class Check:
    """One check. A module under ``checks/`` defines it as ``CHECK``, and that is all it takes.

    Parameters
    ----------
    name
        Name in ``status.preflight`` and for ``preflight.skip``.
    passes_when
        What has to be so, for the index in the docs: Markdown, with links as from ``docs/``.
    judge
        A pure function of the plan and the facts.
    reads
        Objects that it reads, in the order in which they have to be read.
    applies
        Whether it is made for a plan, by its spec.
    stage
        When it is made.
    guarded
        Whether it protects other teams: what it refuses, and what it could not find out, no plan can skip. The operator
        has more rights than the plan's author, who must not get them by a line of YAML.
    awaited
        Whether its answer comes by itself a moment after it was asked for. Unknown then holds only after a while.
    """

    name: str
    passes_when: str
    judge: Callable[[Plan, Facts], Finding]
    reads: tuple[Read, ...] = ()
    applies: Callable[[MigrationPlanSpec], bool] = lambda _: True
    stage: Stage = Stage.BEFORE_TAKEOVER
    guarded: bool = False
    awaited: bool = False
