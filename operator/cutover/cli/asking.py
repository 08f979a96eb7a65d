"""Asks the operator to look once more at what only it can see, by an annotation that moves nothing, and waits for that."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from cutover.api.durations import parse_duration
from cutover.cli.exits import CliError, Exit
from cutover.cli.session import Session, now, tell
from cutover.domain.commands.annotations import AUDIT_ANNOTATION, audit_request
from cutover.domain.plan import Plan
from cutover.domain.resources import PLANS
from cutover.domain.texts import plain
from cutover.ports.errors import Unavailable

#: Seconds between two looks for what was written to come about.
LOOK_SECONDS = 1.0

Cached = Annotated[
    bool, typer.Option("--cached", help="Write nothing and ask nobody: show what the operator saw last.")
]
Patience = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long to wait for the operator, such as 5m.")
]


def seconds_of(timeout: str) -> float:
    """Return the seconds of ``--timeout``. Raises CliError."""
    try:
        return parse_duration(timeout).total_seconds()
    except ValueError as error:
        raise CliError(f"--timeout: {error}", Exit.USAGE) from None


def ask(session: Session, plan: Plan) -> str:
    """Ask the operator to look once more at a plan; return the request.

    Raises
    ------
    Gone, Unavailable
        If it cannot be written, as where the right is missing.
    """
    name = session.cluster.who()
    text = audit_request(f"{f'by {name} ' if name else ''}at {now():%Y-%m-%dT%H:%M:%S.%fZ}")
    patch = {"metadata": {"annotations": {AUDIT_ANNOTATION: text}}}
    session.cluster.patch(PLANS, plan.namespace, plan.name, patch)
    return text


def answer(session: Session, name: str, request: str, seconds: float) -> tuple[Plan, str]:
    """Return the plan once the operator has looked, and ``""``; or as it is after the time, and why it has not.

    Raises
    ------
    CliError
        If the plan is gone.
    """
    end, noted, plan, trouble = time.monotonic() + seconds, False, session.plan(name), ""
    while True:
        audit = plan.status.audit
        mine = audit is not None and audit.request == request
        if audit is not None and mine and audit.answered_at is not None:
            return plan, ""
        if mine and not noted:
            noted = True
            tell("The operator has taken note, and looks now.")
        if time.monotonic() >= end:
            break
        time.sleep(min(LOOK_SECONDS, max(0.0, end - time.monotonic())))
        try:
            plan, trouble = session.plan(name), ""
        except Unavailable as error:
            trouble = str(error)
    if trouble:
        return plan, f"the answer could not be read: {trouble}"
    if noted:
        status = plan.status
        return plan, f"the operator has not finished within {seconds:.0f} s; {status.phase}: {plain(status.message)}"
    return plan, (
        f"the operator has not taken note within {seconds:.0f} s: see whether one runs, manages this plan and is of this"
        " version"
    )
