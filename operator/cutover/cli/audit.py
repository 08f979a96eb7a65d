"""``audit`` and ``diff``: preflight's checks now, with the person's own rights, and what the operator saw of both legs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cutover.api.v1alpha1 import CheckResult, CheckStatus
from cutover.cli.estimate import File, PlanOrNone, plan_of
from cutover.cli.exits import Exit
from cutover.cli.inventory import read_inventory
from cutover.cli.session import Output, OutputOption, PlanName, Session, now, screen, show
from cutover.cli.views.checks import checks, differences
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Stage
from cutover.domain.preflight.heroku_check import heroku_check

#: Checks that need what a person does not have: the operator's Prometheus, a route for its probes, a key for Heroku's API.
ONLY_OPERATOR = frozenset(
    check.name
    for check in registry.CHECKS
    if check.name == "gate-queries" or check.stage is Stage.TRIAL or check.judge.__module__ == heroku_check.__module__
)


def audit(
    session: Session,
    plan: PlanOrNone = None,
    filename: File = None,
    everything: Annotated[bool, typer.Option("--all", help="Show checks that passed, too.")] = False,
    output: OutputOption = Output.TABLE,
) -> int:
    """Run preflight's checks now, with your own rights. Exits with 6 where one fails."""
    found = plan_of(session, plan, filename, session.namespace)
    inventory = read_inventory(session.cluster, found, registry.reads(found))
    mine = [one for one in registry.before_takeover(found, inventory) if one.check not in ONLY_OPERATOR]
    its = [one for one in found.status.preflight if one.check in ONLY_OPERATOR]
    if output in (Output.JSON, Output.YAML):
        show({"now": _wire(mine), "operator": _wire(its)}, output)
    else:
        screen().print(_shown(mine, its, everything or output is Output.WIDE))
    return Exit.FOUND if any(one.result is CheckResult.FAILED for one in mine) else Exit.DONE


def _wire(found: Sequence[CheckStatus]) -> list[object]:
    return [one.to_wire() for one in found]


def _shown(mine: Sequence[CheckStatus], its: Sequence[CheckStatus], everything: bool) -> RenderableType:
    parts: list[RenderableType] = [Text("Now, with your own rights", "bold"), checks(mine, everything=everything)]
    if its:
        parts += [Text(""), Text("As the operator saw it last", "bold"), checks(its, everything=everything)]
    counts = {result: sum(one.result is result for one in mine) for result in CheckResult}
    said = ", ".join(f"{count} {result.lower()}" for result, count in counts.items() if count)
    return Group(
        *parts,
        Text(""),
        Text(f"{said or 'no checks'}; what you may not read is Unknown, and may be known to the operator"),
    )


def diff(session: Session, plan: PlanName, output: OutputOption = Output.TABLE) -> int:
    """Show how the legs' answers differ, as the operator saw them last. Exits with 6 where answers-alike fails.

    Only the operator's probes reach both legs by the plan's route, so nothing is asked anew from here.
    """
    found = session.plan(plan)
    alike = [one for one in found.status.preflight if one.check in ("answers-alike", "eks-answers", "heroku-answers")]
    if output in (Output.JSON, Output.YAML):
        status = found.status.to_wire()
        show({"checks": _wire(alike), "answers": status.get("answers"), "probes": status.get("probes")}, output)
    else:
        screen().print(differences(found, alike, now()))
    return Exit.FOUND if any(one.result is CheckResult.FAILED for one in alike) else Exit.DONE
