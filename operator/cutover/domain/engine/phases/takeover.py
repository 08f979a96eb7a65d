"""A takeover that leaves users worse off: they get the route back that they had before.

This ends once the takeover is confirmed at the gateway. From then on the operator's way to Heroku is proven, and a Heroku
that fails is the app itself: the team's own route leads to the same app, so that giving it back would help nobody, and cost
the plan its attempt at each restart of a dyno.
"""

from __future__ import annotations

from dataclasses import replace

from cutover.api.v1alpha1 import MigrationPlanStatus, Phase, RouteRecord
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.moves import enter
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.wanted import undoable
from cutover.domain.holds import Hold, HoldReason
from cutover.domain.preflight.checks import heroku_answers
from cutover.domain.revision import Trial

#: Probes of Heroku in a row that show that it fails. They are a second apart.
REFUSALS = 3
#: Users' requests that show it, and the part of them that has to fail.
LEAST_REQUESTS, MOST_FAILED = 20.0, 0.5


def undo(context: Context, status: MigrationPlanStatus) -> Outcome | None:
    """Give users their own route back if Heroku fails over the operator's, before the takeover is confirmed."""
    if not undoable(status):
        return None
    why = _probes_fail(context) or _users_fail(context)
    return give_back(context, status, why) if why else None


def already_given_back(context: Context, status: MigrationPlanStatus) -> bool:
    """Tell whether users have their own route back by a process that died before it wrote the status."""
    traffic = context.seen.traffic
    given_back = Trial(status.attempt, given_back=True).revision
    return status.weight == 0 and traffic is not None and traffic.revision == given_back


def give_back(context: Context, status: MigrationPlanStatus, why: str) -> Outcome:
    """Give users their own route back, and hold the plan until its attempt is raised."""
    message = (
        f"{why}; users' requests go as they went before the takeover. Mend the way to Heroku over the operator's route, or"
        " Heroku itself; then raise spec.attempt to try again"
    )
    name = context.seen.traffic.name if context.seen.traffic is not None else ""
    undone = enter(context, status, Phase.PREFLIGHT).evolve(
        weight=None,
        share=None,
        checkpoint=None,
        baseline=None,
        templates=(),
        route=RouteRecord(trial=name),
        failed_takeover=status.attempt,
    )
    return replace(_held(context, undone, message), gives_back=not already_given_back(context, status))


def takeover_held(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Hold the plan until its attempt is raised, with the reason as far as the ledger still has it."""
    told = (entry.message for entry in reversed(status.ledger) if entry.reason == HoldReason.TAKEOVER_FAILED)
    unknown = "the last takeover failed, and users' requests go as they went before; raise spec.attempt to try again"
    return _held(context, status, next(told, unknown))


def _held(context: Context, status: MigrationPlanStatus, message: str) -> Outcome:
    return held(context, status, Hold(HoldReason.TAKEOVER_FAILED, message))


def _probes_fail(context: Context) -> str:
    """Say that Heroku's probes fail; ``""`` if they do not, or if the plan skips that check."""
    probe = context.seen.probe
    skipped = context.spec.preflight.reason_to_skip(heroku_answers.CHECK.name) is not None
    if probe is None or probe.refusals < REFUSALS or skipped:
        return ""
    return f"Heroku did not answer {probe.refusals} probes in a row after the takeover ({probe.detail})"


def _users_fail(context: Context) -> str:
    """Say that users' requests to Heroku fail; ``""`` if they do not."""
    blocks = [block.heroku for block in context.seen.samples.blocks if block.usable]
    requests, errors = sum(one.requests for one in blocks), sum(one.errors for one in blocks)
    if requests < LEAST_REQUESTS or errors < MOST_FAILED * requests:
        return ""
    return f"Heroku failed {errors:,.0f} of {requests:,.0f} requests of users after the takeover"
