"""The commands that ask something of a plan: each says what will happen, asks once, writes, and tells what came of it."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.cli.asking import LOOK_SECONDS, seconds_of
from cutover.cli.exits import CliError, Exit
from cutover.cli.intents import commands, edits
from cutover.cli.intents.git import caution, from_git
from cutover.cli.intents.intent import Author, Intent
from cutover.cli.session import PlanName, Session, now, readable, tell, write
from cutover.domain.commands.annotations import Skippable, assignment
from cutover.domain.commands.annotations import rollback as rollback_command
from cutover.domain.resources import PLANS, Json
from cutover.domain.texts import plain
from cutover.ports.errors import Gone, Unavailable

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Git = Annotated[bool, typer.Option("--git", help="Write nothing: print the change to commit instead.")]
Timeout = Annotated[
    str,
    typer.Option(
        "--timeout", metavar="DURATION", help="How long to wait for the effect, such as 5m; 0s for not at all."
    ),
]


def rollback(session: Session, plan: PlanName, yes: Yes = False, git: Git = False, timeout: Timeout = "2m") -> int:
    """Go back to Heroku now, from any step."""
    body = session.body(plan)
    try:
        found = readable(body)
    except CliError as error:
        command = assignment(rollback_command(attempt_of(body)))
        by_hand = f"kubectl -n {body['metadata']['namespace']} annotate mplan {plan} --overwrite {command}"
        raise CliError(f"{error}. To go back without it: {by_hand}") from None
    return _carry_out(session, body, commands.rollback(found, _author(session)), yes, git, timeout)


def approve(
    session: Session,
    plan: PlanName,
    weight: Annotated[int | None, typer.Option("--weight", help="The step; by default the next one.")] = None,
    yes: Yes = False,
    git: Git = False,
    timeout: Timeout = "2m",
) -> int:
    """Approve a step with approval: Manual. It still needs its evidence."""
    body = session.body(plan)
    return _carry_out(session, body, commands.approve(readable(body), _author(session), weight), yes, git, timeout)


def proceed(session: Session, plan: PlanName, yes: Yes = False, git: Git = False, timeout: Timeout = "2m") -> int:
    """Let the next step begin where traffic brings no evidence, if the plan asks people."""
    body = session.body(plan)
    return _carry_out(session, body, commands.proceed(readable(body), _author(session)), yes, git, timeout)


def skip(
    session: Session,
    plan: PlanName,
    holds: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HOLD]...",
            help=f"What to skip: {', '.join(Skippable)}; by default the present hold.",
            autocompletion=lambda incomplete: [one for one in Skippable if one.startswith(incomplete)],
        ),
    ] = None,
    yes: Yes = False,
    git: Git = False,
    timeout: Timeout = "2m",
) -> int:
    """Let the next step begin in spite of a window, a freeze, or another hold that can be skipped."""
    body = session.body(plan)
    return _carry_out(session, body, commands.skip(readable(body), _author(session), holds or ()), yes, git, timeout)


def forward(session: Session, plan: PlanName, yes: Yes = False, git: Git = False, timeout: Timeout = "2m") -> int:
    """Send all users to EKS while Heroku is down."""
    body = session.body(plan)
    return _carry_out(session, body, commands.forward(readable(body), _author(session)), yes, git, timeout)


def suspend(session: Session, plan: PlanName, yes: Yes = False, git: Git = False, timeout: Timeout = "1m") -> int:
    """Hold the weight where it is. Harm still leads back."""
    body = session.body(plan)
    return _carry_out(session, body, edits.suspend(readable(body)), yes, git, timeout)


def resume(session: Session, plan: PlanName, yes: Yes = False, git: Git = False, timeout: Timeout = "1m") -> int:
    """Go on after suspend."""
    body = session.body(plan)
    return _carry_out(session, body, edits.resume(readable(body)), yes, git, timeout)


def retry(session: Session, plan: PlanName, yes: Yes = False, git: Git = False, timeout: Timeout = "1m") -> int:
    """Begin another attempt after a rollback."""
    body = session.body(plan)
    return _carry_out(session, body, edits.retry(readable(body)), yes, git, timeout)


def ceiling(
    session: Session,
    plan: PlanName,
    weight: Annotated[int, typer.Argument(metavar="WEIGHT", min=0, max=100, help="Percent; 0 rolls back.")],
    yes: Yes = False,
    git: Git = False,
    timeout: Timeout = "2m",
) -> int:
    """Set the highest weight. Raising it approves the step that it held back."""
    body = session.body(plan)
    return _carry_out(session, body, edits.ceiling(readable(body), weight), yes, git, timeout)


def attempt_of(body: Json) -> int:
    """Return the attempt of a plan that cannot be read, as far as it tells."""
    for part in ("status", "spec"):
        attempt = (body.get(part) or {}).get("attempt")
        if isinstance(attempt, int) and attempt > 0:
            return attempt
    return 1


def _author(session: Session) -> Author:
    return Author(session.cluster.who(), now().replace(microsecond=0))


def _carry_out(session: Session, body: Json, intent: Intent, yes: bool, git: bool, timeout: str) -> int:
    seconds = seconds_of(timeout)
    if git:
        if not intent.git:
            raise CliError(
                "this command counts only now and cannot be given by a commit; leave --git out", Exit.REFUSED
            )
        write(f"{intent.git}\n")
        return Exit.DONE
    for effect in filter(None, (*intent.effects, caution(intent, from_git(body)))):
        tell(f"- {effect}")
    _ask(intent.question, session, yes)
    before = readable(body).status
    _write(session, body, intent)
    if intent.later:
        tell(f"Written; {intent.later}.")
        return Exit.DONE
    return _wait(session, body, intent, before, seconds) if seconds else Exit.DONE


def _ask(question: str, session: Session, yes: bool) -> None:
    if yes:
        return
    asked = f"{question} ({session.cluster.server})"
    if not sys.stdin.isatty():
        raise CliError(f"{asked} Nobody is there to ask; --yes does it without", Exit.DECLINED)
    tell(f"{asked} [y/N]")
    try:
        answer = input().strip().lower()
    except EOFError:
        answer = ""
    if answer not in ("y", "yes"):
        raise CliError("nothing was written", Exit.DECLINED)


def _write(session: Session, body: Json, intent: Intent) -> None:
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    session.cluster.patch(PLANS, namespace, name, intent.patch)


def _wait(session: Session, body: Json, intent: Intent, before: MigrationPlanStatus, seconds: float) -> int:
    """Look for the effect; return the exit code."""
    namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
    end, said, shown, trouble = time.monotonic() + seconds, before, "", ""
    while True:
        try:
            said, trouble = readable(session.cluster.get(PLANS, namespace, name)).status, ""
        except Gone:
            raise CliError(f"{namespace}/{name} was deleted meanwhile") from None
        except Unavailable as error:
            trouble = str(error)
        if no := _refusal(before, said, intent.annotation):
            tell(f"The operator refuses it: {no}")
            return Exit.REFUSED
        if effect := intent.seen(said):
            tell(f"Done: {effect}. {said.phase}: {plain(said.message)}")
            return Exit.DONE
        if (words := trouble or f"{said.phase}, {said.reason}: {plain(said.message)}") != shown:
            shown = words
            tell(f"  {words}")
        if time.monotonic() >= end:
            tell(
                f"It was written, and its effect was not seen within {seconds:.0f} s. It stays, and counts as soon as it"
                " can. If the lines above do not change, see whether an operator runs and manages this plan."
            )
            return Exit.NOT_YET
        time.sleep(LOOK_SECONDS)


def _refusal(before: MigrationPlanStatus, after: MigrationPlanStatus, annotation: str) -> str:
    """Return the operator's refusal of a command since ``before``; ``""`` if there is none."""
    known = [(entry.at, entry.subject) for entry in before.ledger if entry.decision == "Refuse"]
    for entry in reversed(after.ledger):
        if entry.decision == "Refuse" and annotation and (entry.subject or "").startswith(f"{annotation}="):
            return "" if (entry.at, entry.subject) in known else plain(entry.message)
    return ""
