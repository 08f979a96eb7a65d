"""All preflight checks: found in their folder, made at their stage, skipped where the plan says so and may."""

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
    """Return the ``CHECK`` of each module under ``checks/``: by stage, then the general ones before a provider's."""
    names = [module.name for module in pkgutil.walk_packages(checks.__path__, f"{checks.__name__}.")]
    modules = [importlib.import_module(name) for name in sorted(names, key=lambda name: (name.count("."), name))]
    found = [module.CHECK for module in modules if hasattr(module, "CHECK")]
    return tuple(sorted(found, key=lambda check: list(Stage).index(check.stage)))


CHECKS = _found()
#: Names that ``preflight.skip`` may have.
NAMES = tuple(check.name for check in CHECKS)


def reads(plan: Plan) -> tuple[Read, ...]:
    """Return what the plan's checks read, each once, in the order in which it has to be read."""
    wanted = (read for check in CHECKS if check.applies(plan.spec) for read in check.reads if read.wanted(plan))
    return tuple(dict.fromkeys(wanted))


def before_takeover(
    plan: Plan,
    inventory: Inventory | None,
    slos: Sequence[CustomSlo] = (),
    readings: Mapping[str, SloReading] | None = None,
) -> tuple[CheckStatus, ...]:
    """Make the checks that come before the takeover.

    Parameters
    ----------
    plan
        The plan.
    inventory
        What was read for :func:`reads`; ``None`` where the API server could not be asked.
    slos
        The plan's custom SLOs, templates resolved.
    readings
        What became known of them, by name.
    """
    return _made(Stage.BEFORE_TAKEOVER, plan, inventory, Facts(slos=slos, readings=readings or {}))


def after_takeover(
    plan: Plan, inventory: Inventory | None, probe: Probe | None, revision: str
) -> tuple[CheckStatus, ...]:
    """Make the checks that come once the operator's route is written, at weight 0.

    Parameters
    ----------
    plan, inventory
        As for :func:`before_takeover`.
    probe
        The newest probe of the Heroku leg.
    revision
        The route that was written.
    """
    return _made(Stage.AFTER_TAKEOVER, plan, inventory, Facts(probe=probe, revision=revision))


def passed(statuses: Sequence[CheckStatus]) -> bool:
    """Tell whether nothing stands in the way."""
    return not _open(statuses)


def summary(statuses: Sequence[CheckStatus]) -> str:
    """Say in a sentence what stands in the way."""
    return "; ".join(f"{status.check}: {status.message}" for status in _open(statuses))


def warnings(statuses: Sequence[CheckStatus]) -> str:
    """Say in a sentence what was warned of; ``""`` if nothing."""
    return "; ".join(f"{one.check}: {one.message}" for one in statuses if one.result is CheckResult.WARNED)


def awaited(statuses: Sequence[CheckStatus]) -> bool:
    """Tell whether answers that come by themselves are all that is missing."""
    coming = {check.name for check in CHECKS if check.awaited}
    return all(one.result is CheckResult.UNKNOWN and one.check in coming for one in _open(statuses))


def unanswered(statuses: Sequence[CheckStatus]) -> bool:
    """Tell whether a check could not be made: that is worth asking again soon, as people need not mend anything."""
    return any(one.result is CheckResult.UNKNOWN for one in statuses)


def _open(statuses: Sequence[CheckStatus]) -> list[CheckStatus]:
    return [one for one in statuses if one.result in (CheckResult.FAILED, CheckResult.UNKNOWN)]


def _made(stage: Stage, plan: Plan, inventory: Inventory | None, facts: Facts) -> tuple[CheckStatus, ...]:
    return tuple(
        _status(check, plan, _finding(check, plan, inventory, facts))
        for check in CHECKS
        if check.stage is stage and check.applies(plan.spec)
    )


def _finding(check: Check, plan: Plan, inventory: Inventory | None, facts: Facts) -> Finding:
    """Ask the check; or answer in its place where what it reads was not read."""
    if not check.reads:
        return check.judge(plan, facts)
    if inventory is None:
        return unknown("the API server could not be asked")
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
