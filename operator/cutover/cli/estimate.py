"""``estimate``: how long each step takes at this traffic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from cutover.cli.exits import CliError, Exit
from cutover.cli.plan_file import PlanFileError, read_plan
from cutover.cli.session import Output, OutputOption, Session, plan_names, screen, show
from cutover.cli.views.estimates import estimates, render
from cutover.domain.plan import Plan

PlanOrNone = Annotated[
    str | None,
    typer.Argument(metavar="PLAN", help="The plan's name; not with --filename.", autocompletion=plan_names),
]
File = Annotated[
    str | None,
    typer.Option("--filename", "-f", metavar="FILE", help="A file with the plan, or - for the standard input."),
]


def estimate(
    session: Session,
    plan: PlanOrNone = None,
    filename: File = None,
    rate: Annotated[
        float | None,
        typer.Option(
            min=1e-6, help="Requests a second of the service; by default what the operator counted in this step."
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Say how long each step takes at least at this traffic, and what makes it shorter."""
    found = plan_of(session, plan, filename)
    told = found.status.estimate
    requests = rate or (told.requests_per_second if told is not None else 0.0)
    if not requests:
        raise CliError(
            f"{found.key}: no requests are counted in this step yet; ask again in a minute, or name the service's rate,"
            " such as --rate 20",
            Exit.USAGE,
        )
    made = estimates(found.spec, requests)
    if output in (Output.JSON, Output.YAML):
        show(made.to_wire(), output)
    else:
        screen().print(render(made, found.spec, told.text if told is not None else ""))


def plan_of(
    session: Session, name: str | None, filename: str | None, namespace: Callable[[], str] = lambda: "default"
) -> Plan:
    """Return the plan of a name, or of a file, whose plan is in ``namespace()`` if it names none. Raises CliError."""
    if (name is None) is (filename is None):
        raise CliError("name a plan, or a file by --filename", Exit.USAGE)
    if name is not None:
        return session.plan(name)
    try:
        return read_plan(str(filename), None, namespace())
    except PlanFileError as error:
        raise CliError(str(error)) from None
