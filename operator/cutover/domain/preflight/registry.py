"""The registry of preflight checks: finds them in their folder, runs them at their stage, and applies ``preflight.skip``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cutover.api.v1alpha1 import CheckResult, CheckStatus
from cutover.domain.plan import Plan
from cutover.domain.preflight import checks
from cutover.domain.preflight.check import Check, Facts, Finding, Read, Stage, unknown
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.slo.custom import CustomSlo, SloReading
from cutover.domain.traffic import Probe


def _found() -> tuple[Check, ...]:
    """Return the ``CHECK`` of each module under ``checks/``: by stage, and general checks before a provider's."""
    names = [module.name for module in pkgutil.walk_packages(checks.__path__, f"{checks.__name__}.")]
    modules = [importlib.import_module(name) for name in sorted(names, key=lambda name: (name.count("."), name))]
    found = [module.CHECK for module in modules if hasattr(module, "CHECK")]
    return tuple(sorted(found, key=lambda check: list(Stage).index(check.stage)))


CHECKS = _found()
#: Names that ``preflight.skip`` may use.
NAMES = tuple(check.name for check in CHECKS)


def reads(plan: Plan) -> tuple[Read, ...]:
    """Return the reads of a plan's checks, each once, in the order in which they must be made."""
    wanted = (read for check in CHECKS if check.applies(plan.spec) for read in check.reads if read.wanted(plan))
    return tuple(dict.fromkeys(wanted))


def before_takeover(
    plan: Plan,
    inventory: Inventory | None,
    slos: Sequence[CustomSlo] = (),
    readings: Mapping[str, SloReading] | None = None,
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
    """
    return _run(Stage.BEFORE_TAKEOVER, plan, inventory, Facts(slos=slos, readings=readings or {}))


def after_takeover(
    plan: Plan, inventory: Inventory | None, probe: Probe | None, revision: str
) -> tuple[CheckStatus, ...]:
    """Run the checks after the operator's route is written, at weight 0.

    Parameters
    ----------
    plan, inventory
        As for :func:`before_takeover`.
    probe
        The newest probe of the Heroku leg.
    revision
        Revision of the route that was written.
    """
    return _run(Stage.AFTER_TAKEOVER, plan, inventory, Facts(probe=probe, revision=revision))


def passed(statuses: Sequence[CheckStatus]) -> bool:
    """Tell whether no check failed or is unknown."""
    return not _open(statuses)


def summary(statuses: Sequence[CheckStatus]) -> str:
    """Return the messages of checks that failed or are unknown, as a sentence."""
    return "; ".join(f"{status.check}: {status.message}" for status in _open(statuses))


def warnings(statuses: Sequence[CheckStatus]) -> str:
    """Return the messages of checks that warned, as a sentence; ``""`` if there are none."""
    return "; ".join(f"{status.check}: {status.message}" for status in statuses if status.result is CheckResult.WARNED)


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
    return tuple(
        _status(check, plan, _finding(check, plan, inventory, facts))
        for check in CHECKS
        if check.stage is stage and check.applies(plan.spec)
    )


def _finding(check: Check, plan: Plan, inventory: Inventory | None, facts: Facts) -> Finding:
    """Run a check, or return Unknown if what it reads could not be read."""
    if not check.reads:
        return check.judge(plan, facts)
    if inventory is None:
        return unknown("the API server gave no answer")
    missing = [inventory.unread[read.resource] for read in check.reads if read.resource in inventory.unread]
    if missing:
        return unknown("; ".join(dict.fromkeys(missing)))
    return check.judge(plan, replace(facts, inventory=inventory))


def _status(check: Check, plan: Plan, finding: Finding) -> CheckStatus:
    protects = not finding.skippable or (check.guarded and finding.result is CheckResult.UNKNOWN)
    if finding.result is not CheckResult.PASSED and not protects:
        for skip in plan.spec.preflight.skip:
            if skip.check == check.name:
                return CheckStatus(check=check.name, result=CheckResult.SKIPPED, message=f"skipped: {skip.reason}")
    return CheckStatus(check=check.name, result=finding.result, message=finding.message)
