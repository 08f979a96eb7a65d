"""``audit`` and ``diff``: preflight's checks now, with the person's own rights and by the operator, and how the legs differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cutover.adapters.kube.answers import Forbidden
from cutover.api.v1alpha1 import CheckResult, CheckStatus
from cutover.cli.asking import Cached, Patience, answer, ask, seconds_of
from cutover.cli.estimate import File, PlanOrNone, plan_of
from cutover.cli.exits import CliError, Exit
from cutover.cli.inventory import read_inventory
from cutover.cli.session import Output, OutputOption, PlanName, Session, now, screen, show, tell
from cutover.cli.views.checks import checks, differences, looked
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Stage
from cutover.domain.preflight.checks import answers_alike
from cutover.domain.preflight.heroku_check import heroku_check
from cutover.domain.resources import Json
from cutover.ports.errors import Unavailable

#: Checks that need what a person does not have: the operator's Prometheus, a route for its probes, a key for Heroku's API.
ONLY_OPERATOR = frozenset(
    check.name
    for check in registry.CHECKS
    if check.name == "gate-queries" or check.stage is Stage.TRIAL or check.judge.__module__ == heroku_check.__module__
)
#: Checks that the operator runs anew after the takeover where somebody asks for it; before it, it runs all of them.
_AGAIN = frozenset({answers_alike.NAME, *(check.name for check in registry.REPEATED)})


def audit(
    session: Session,
    plan: PlanOrNone = None,
    filename: File = None,
    everything: Annotated[bool, typer.Option("--all", help="Show checks that passed, too.")] = False,
    cached: Cached = False,
    timeout: Patience = "2m",
    output: OutputOption = Output.TABLE,
) -> int:
    """Run preflight's checks now, with your own rights and by the operator. Exits with 6 where one fails."""
    seconds = seconds_of(timeout)
    found = plan_of(session, plan, filename, lambda: session.namespace)
    request, problem = "", ""
    if plan is not None and not cached:
        try:
            request = ask(session, found)
        except Unavailable as error:
            problem = f"the operator was not asked anew: {error}"
    inventory = read_inventory(session.cluster, found, registry.reads(found))
    mine = [one for one in registry.before_takeover(found, inventory) if one.check not in ONLY_OPERATOR]
    if request:
        found, problem = answer(session, found.name, request, seconds)
    unread = {
        one.check for one in mine if one.result is CheckResult.UNKNOWN or one.message.startswith(registry.UNREAD)
    }
    its = [one for one in found.status.preflight if one.check in ONLY_OPERATOR | unread]
    if output in (Output.JSON, Output.YAML):
        show({"now": _wire(mine), "operator": _wire(its), "audit": _asked(found)}, output)
    else:
        fresh = bool(request) and not problem
        screen().print(_shown(found, mine, its, fresh=fresh, everything=everything or output is Output.WIDE))
    if problem:
        tell(f"kubectl-cutover: {problem}; what is said of the operator's checks is what it saw before")
    if any(one.result is CheckResult.FAILED for one in (*mine, *_now(found, its))):
        return Exit.FOUND
    return Exit.NOT_YET if request and problem else Exit.DONE


def _wire(found: Sequence[CheckStatus]) -> list[object]:
    return [one.to_wire() for one in found]


def _asked(plan: Plan) -> Json | None:
    audit = plan.status.audit
    return audit.to_wire() if audit is not None else None


def _now(plan: Plan, its: Sequence[CheckStatus]) -> list[CheckStatus]:
    """Return the operator's checks that are of now where it was asked."""
    return [one for one in its if plan.status.weight is None or one.check in _AGAIN]


def _shown(
    plan: Plan, mine: Sequence[CheckStatus], its: Sequence[CheckStatus], *, fresh: bool, everything: bool
) -> RenderableType:
    parts: list[RenderableType] = [Text("Now, with your own rights", "bold"), checks(mine, everything=everything)]
    present = _now(plan, its) if fresh else []
    before = [one for one in its if one not in present]
    if present:
        parts += [Text(""), Text("Now, by the operator", "bold"), checks(present, everything=everything)]
    if before:
        title = "In preflight, by the operator" if fresh else "As the operator saw it last"
        parts += [Text(""), Text(title, "bold"), checks(before, everything=everything)]
    if fresh:
        parts += looked(plan)
    counts = {result: sum(one.result is result for one in mine) for result in CheckResult}
    said = ", ".join(f"{count} {result.lower()}" for result, count in counts.items() if count)
    return Group(
        *parts,
        Text(""),
        Text(
            f"With your rights: {said or 'no checks'}. What you may not read is Unknown, and the operator may know it."
        ),
    )


def diff(
    session: Session,
    plan: PlanName,
    cached: Cached = False,
    timeout: Patience = "2m",
    output: OutputOption = Output.TABLE,
) -> int:
    """Have the operator compare both legs' answers now, and show how they differ. Exits with 6 where they do."""
    seconds = seconds_of(timeout)
    found = session.plan(plan)
    if not cached:
        try:
            request = ask(session, found)
        except Forbidden as error:
            raise CliError(f"{error}; --cached shows what the operator saw last, and needs no right to ask") from None
        found, problem = answer(session, plan, request, seconds)
        if problem:
            raise CliError(f"{problem}; --cached shows what it saw before", Exit.NOT_YET)
    # The other two are of the trial.
    names = {answers_alike.NAME} | ({"eks-answers", "heroku-answers"} if found.status.weight is None else set())
    alike = [one for one in found.status.preflight if one.check in names]
    if output in (Output.JSON, Output.YAML):
        status = found.status.to_wire()
        show(
            {
                "audit": _asked(found),
                "checks": _wire(alike),
                "answers": status.get("answers"),
                "probes": status.get("probes"),
            },
            output,
        )
    else:
        screen().print(differences(found, alike, now(), fresh=not cached))
    good = (CheckResult.PASSED, CheckResult.SKIPPED)
    compared = [one for one in alike if one.check == answers_alike.NAME]
    return Exit.DONE if compared and compared[0].result in good else Exit.FOUND
