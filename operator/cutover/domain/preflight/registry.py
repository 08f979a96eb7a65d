"""The registry of preflight checks: finds them in their folder, runs them at their stage, and applies ``preflight.skip``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cutover.api.v1alpha1 import CheckResult, CheckStatus
from cutover.domain.alike.findings import PathAnswers
from cutover.domain.baseline.record import Record
from cutover.domain.dns import HostRecord
from cutover.domain.dynos import DynoUse
from cutover.domain.heroku import HerokuReading
from cutover.domain.plan import Plan
from cutover.domain.preflight import checks
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, Read, Stage, unknown, warned
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.traffic import Leg, Probe


def _found() -> tuple[Check, ...]:
    """Return the ``CHECK`` of each module under ``checks/``: by stage, and general checks before a provider's."""
    names = [module.name for module in pkgutil.walk_packages(checks.__path__, f"{checks.__name__}.")]
    modules = [importlib.import_module(name) for name in sorted(names, key=lambda name: (name.count("."), name))]
    found = [module.CHECK for module in modules if hasattr(module, "CHECK")]
    return tuple(sorted(found, key=lambda check: list(Stage).index(check.stage)))


CHECKS = _found()
#: Checks that are judged again at each step.
REPEATED = tuple(check for check in CHECKS if check.repeats)
#: Finds who else sends requests to the plan's legs, also after preflight.
_NEIGHBOURS = next(check for check in CHECKS if check.name == "service-unshared")
#: Results of audits that find something.
FINDINGS = (CheckResult.WARNED, CheckResult.FAILED)
#: Compares both legs' answers, also after preflight.
_ALIKE = next(check for check in CHECKS if check.name == "answers-alike")
#: Characters of warnings that are told whole at the takeover.
LONGEST_WARNING = 400
#: How the message of an advisory check begins whose objects could not be read.
UNREAD = "not looked at: "
#: Names that ``preflight.skip`` may use.
NAMES = tuple(check.name for check in CHECKS)
#: Names of the checks whose messages change with every probe.
PROBED = frozenset(check.name for check in CHECKS if check.volatile)


def reads(plan: Plan) -> tuple[Read, ...]:
    """Return the reads of a plan's checks, each once, in the order in which they must be made."""
    asked = [check for check in CHECKS if check.applies(plan.spec)]
    declared = [read for check in asked for read in check.reads] + [read for check in asked for read in check.may_read]
    return tuple(dict.fromkeys(read for read in declared if read.wanted(plan)))


def before_takeover(
    plan: Plan,
    inventory: Inventory | None,
    slos: Sequence[CustomSlo] = (),
    readings: Mapping[str, SloReading] | None = None,
    heroku: HerokuReading | None = None,
    *,
    dns: Sequence[HostRecord] = (),
    dynos: DynoUse | None = None,
    record: Record | None = None,
) -> tuple[CheckStatus, ...]:
    """Run the checks before the takeover.

    Parameters
    ----------
    plan
        The plan.
    inventory
        The objects for :func:`reads`; ``None`` if the API server gave no answer.
    slos
        The plan's custom SLOs, templates resolved.
    readings
        What was read for each custom SLO, by its name.
    heroku
        What Heroku's API says about the app; ``None`` without a key for it.
    dns
        What DNS says about the hosts, as far as it was asked.
    dynos
        What the web dynos use; ``None`` if it is not recorded.
    record
        Heroku's record of the time before; ``None`` where none is asked for, or too little of it is there.
    """
    facts = Facts(slos=slos, readings=readings or {}, heroku=heroku, dns=dns, dynos=dynos, record=record)
    return _run(Stage.BEFORE_TAKEOVER, plan, inventory, facts)


def again_reads(plan: Plan) -> tuple[Read, ...]:
    """Return what has to be read to judge the audits again."""
    return tuple(dict.fromkeys(read for check in REPEATED if check.applies(plan.spec) for read in check.reads))


def again(plan: Plan, inventory: Inventory) -> tuple[CheckStatus, ...]:
    """Run the audits again, once users are being moved; those that pass are left out.

    Parameters
    ----------
    plan
        The plan.
    inventory
        The objects for :func:`again_reads`.
    """
    found = (
        _status(check, plan, _finding(check, plan, inventory, Facts()))
        for check in REPEATED
        if check.applies(plan.spec)
    )
    return tuple(status for status in found if status.result is not CheckResult.PASSED)


def compared_again(plan: Plan, answers: Sequence[PathAnswers]) -> CheckStatus:
    """Judge both legs' answers to the plan's paths once more, after the takeover.

    Parameters
    ----------
    plan
        The plan.
    answers
        The answers of both legs.
    """
    return _status(_ALIKE, plan, _ALIKE.judge(plan, Facts(answers=answers, asks_eks=True)))


def in_trial(
    plan: Plan,
    inventory: Inventory | None,
    probes: Mapping[Leg, Probe | None],
    *,
    asks_eks: bool,
    revision: str,
    answers: Sequence[PathAnswers] | None,
) -> tuple[CheckStatus, ...]:
    """Run the checks that need the probes' route, in the trial or at weight 0.

    Parameters
    ----------
    plan, inventory
        As for :func:`before_takeover`.
    probes
        The newest probes of the legs; ``None`` for a leg that was not asked yet.
    asks_eks
        Whether the traffic provider can ask EKS.
    revision
        Revision of the route that the probes should meet.
    answers
        The answers that users get now, and those of both legs; ``None`` if they were not asked for yet.
    """
    asked = {leg: probe for leg, probe in probes.items() if probe is not None}
    facts = Facts(probes=asked, asks_eks=asks_eks, revision=revision, answers=answers)
    return _run(Stage.TRIAL, plan, inventory, facts)


def neighbour_reads(plan: Plan) -> tuple[Read, ...]:
    """Return what has to be read to find who else sends requests to the plan's legs."""
    return _NEIGHBOURS.reads if _NEIGHBOURS.applies(plan.spec) else ()


def neighbours(plan: Plan, inventory: Inventory | None) -> str:
    """Return who else sends requests to the plan's legs, and what to do; ``""`` if nobody is known to.

    Parameters
    ----------
    plan
        The plan.
    inventory
        The objects for :func:`neighbour_reads`; ``None`` while they are not read.
    """
    if inventory is None or not neighbour_reads(plan):
        return ""
    finding = _finding(_NEIGHBOURS, plan, inventory, Facts())
    return finding.message if finding.result is CheckResult.FAILED else ""


def passed(statuses: Sequence[CheckStatus]) -> bool:
    """Tell whether no check failed or is unknown."""
    return not _open(statuses)


def summary(statuses: Sequence[CheckStatus]) -> str:
    """Return the messages of checks that failed or are unknown, as a sentence."""
    by_message: dict[str, list[str]] = {}
    for status in _open(statuses):
        by_message.setdefault(status.message, []).append(status.check)
    return "; ".join(f"{', '.join(names)}: {message}" for message, names in by_message.items())


def warnings(statuses: Sequence[CheckStatus]) -> str:
    """Return the messages of checks that warned, as a sentence; ``""`` if there are none.

    Where they are too long for an Event or a line of the ledger, only the checks are named.
    """
    return findings([status for status in statuses if status.result is CheckResult.WARNED])


def findings(found: Sequence[CheckStatus]) -> str:
    """Return the messages of checks as a sentence; where it is too long, only their names."""
    told = "; ".join(f"{status.check}: {status.message}" for status in found)
    if len(told) <= LONGEST_WARNING:
        return told
    return f"{', '.join(status.check for status in found)}; status.preflight has what to do"


def awaited(statuses: Sequence[CheckStatus]) -> bool:
    """Tell whether only answers are missing that come by themselves."""
    coming = {check.name for check in CHECKS if check.awaited}
    return all(status.result is CheckResult.UNKNOWN and status.check in coming for status in _open(statuses))


def unanswered(statuses: Sequence[CheckStatus]) -> bool:
    """Tell whether a check is unknown. It is worth running again soon, as there may be nothing to mend."""
    return any(status.result is CheckResult.UNKNOWN for status in statuses)


def _open(statuses: Sequence[CheckStatus]) -> list[CheckStatus]:
    return [status for status in statuses if status.result in (CheckResult.FAILED, CheckResult.UNKNOWN)]


def _run(stage: Stage, plan: Plan, inventory: Inventory | None, facts: Facts) -> tuple[CheckStatus, ...]:
    found = (
        (check, _status(check, plan, _finding(check, plan, inventory, facts)))
        for check in CHECKS
        if check.stage is stage and check.applies(plan.spec)
    )
    return tuple(one for check, one in found if not (check.advisory and one.result is CheckResult.PASSED))


def _finding(check: Check, plan: Plan, inventory: Inventory | None, facts: Facts) -> Finding:
    """Run a check, or return Unknown if what it reads could not be read."""
    if not check.reads:
        return check.judge(plan, facts)
    if inventory is None:
        return PASSED if check.advisory else unknown("the API server gave no answer")
    missing = [inventory.unread[read.resource] for read in check.reads if read.resource in inventory.unread]
    if missing:
        why = "; ".join(dict.fromkeys(missing))
        return warned(f"{UNREAD}{why}") if check.advisory else unknown(why)
    return check.judge(plan, replace(facts, inventory=inventory))


def _status(check: Check, plan: Plan, finding: Finding) -> CheckStatus:
    protects = not finding.skippable or (check.guarded and finding.result is CheckResult.UNKNOWN)
    if finding.result is not CheckResult.PASSED and not protects:
        reason = plan.spec.preflight.reason_to_skip(check.name)
        if reason is not None:
            return CheckStatus(check=check.name, result=CheckResult.SKIPPED, message=f"skipped: {reason}")
    return CheckStatus(check=check.name, result=finding.result, message=finding.message)
