"""The audits at each step, as the Deployment may have been changed since the takeover, and when somebody asks for them.

What is new is told once. Whoever asks gets both legs' answers compared as well, and reads in the status when all of it had
been looked at.
"""

from __future__ import annotations

from dataclasses import replace

from cutover.api.v1alpha1 import LONGEST_MESSAGE, AuditStatus, CheckStatus
from cutover.domain.commands.annotations import AUDIT_ANNOTATION, audit_request
from cutover.domain.engine.actions import Event
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.wanted import audit_asked_at, audits_wanted, compares_again
from cutover.domain.journal.ledger import note
from cutover.domain.preflight.checks import answers_alike
from cutover.domain.preflight.registry import FINDINGS, REPEATED, compared_again, findings
from cutover.domain.texts import plain, shorten

_BEFORE_TRIAL = (
    "the operator's requests have no route at the gateway before the trial, which begins once the checks pass"
)
#: Names of the checks that are judged again at each step.
_NAMES = frozenset(check.name for check in REPEATED)


def tell_audits(context: Context, outcome: Outcome) -> Outcome:
    """Take over what the audits and the legs' answers say now, and answer who asked for it."""
    return _answer(context, _found_now(context, outcome))


def _found_now(context: Context, outcome: Outcome) -> Outcome:
    """Take over what is found now, with a line in the ledger and an Event for what was not found before."""
    status, seen = outcome.status, context.seen
    found, again = tuple[CheckStatus, ...](), frozenset[str]()
    if seen.audits is not None and audits_wanted(status):
        found, again = seen.audits, _NAMES
    if seen.answers is not None and compares_again(status):
        found, again = (*found, compared_again(context.plan, seen.answers)), again | {answers_alike.NAME}
    known = {one.check: one for one in status.preflight if one.check in again}
    if known == {one.check: one for one in found}:
        return outcome
    told = {(one.check, one.result) for one in known.values()}
    new = [one for one in found if one.result in FINDINGS and (one.check, one.result) not in told]
    others = tuple(one for one in status.preflight if one.check not in again)
    status = status.evolve(preflight=(*others, *found))
    if not new:
        return replace(outcome, status=status)
    message = f"since the takeover the audits find: {findings(new)}"
    weight = status.weight or 0
    ledger = note(status, "Audit", to=weight, reason="NewFindings", message=message, now=context.time)
    event = Event("Warning", "NewFindings", message)
    return replace(outcome, status=status.evolve(ledger=ledger), events=(*outcome.events, event))


def _answer(context: Context, outcome: Outcome) -> Outcome:
    """Note a new request, or that the last one is answered."""
    text, status = context.plan.annotations.get(AUDIT_ANNOTATION), outcome.status
    if text is None:
        return outcome
    request, audit = audit_request(text), status.audit
    # A time that is still to come is of a clock that was set back since, or of somebody else.
    ahead = audit is not None and audit.answered_at is None and audit.asked_at > context.time
    if audit is None or audit.request != request or ahead:
        noted = AuditStatus(request=request, asked_at=context.time)
        return replace(outcome, status=status.evolve(audit=noted), requeue=0)
    if audit_asked_at(context.plan.status) is None or not context.seen.asked_anew:
        return outcome
    why = _not_compared(context)
    if why == _BEFORE_TRIAL and outcome.hold is None:
        return outcome  # it goes on by itself, so that the legs are asked soon
    problems = (f"the legs' answers: {why}" if why else "", *context.seen.not_asked)
    message = shorten(plain("; ".join(filter(None, problems))), LONGEST_MESSAGE)
    answered = audit.evolve(answered_at=context.time, message=message)
    return replace(outcome, status=status.evolve(audit=answered))


def _not_compared(context: Context) -> str:
    """Return why the legs' answers were not compared; ``""`` if they were."""
    plan = context.plan
    if context.seen.answers is not None:
        return ""
    if plan.spec.preflight.reason_to_skip(answers_alike.NAME) is not None:
        return f"preflight.skip names {answers_alike.NAME}"
    if not context.seen.capabilities.probes_eks:
        return "the traffic provider cannot ask EKS"
    if plan.spec.suspend and plan.status.weight is None:
        return "spec.suspend is set, and the operator has no route yet"
    return _BEFORE_TRIAL
