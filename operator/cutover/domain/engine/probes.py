"""What the probes of both legs say, for decisions, the status and people."""

from __future__ import annotations

import math

from cutover.api.durations import span
from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, ProbesStatus
from cutover.domain.engine.context import Context
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.evidence.numbers import rounded
from cutover.domain.evidence.pairs import NO_PAIRS
from cutover.domain.evidence.probe_key import FAILS, IN_A_ROW, ProbeKey
from cutover.domain.holds import Hold, HoldReason

#: Pairs after which the plan says that none of them counts.
LEAST_ASKED = 10
#: Slots of the recent minute, of 15 s, in which EKS has answered nobody.
SILENT_SLOTS = 2


def proven_by_probes(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint) -> bool:
    """Tell whether pairs prove harm below 100 %.

    If the plan declares a rate, pairs are evidence at every step. Pairs that fail in a row, however, prove no outage there: the
    users' own requests have a control and show it sooner. If users are drawn, their requests do not show it; then pairs that
    fail in a row prove an outage if EKS answers no user either.
    """
    if not 0 < (status.weight or 0) < 100 or context.probes_say is not ProbeKey.EKS_WORSE:
        return False
    declared = context.spec.traffic.probe.rate > 0 and context.seen.pairs.harm >= context.rules.harm_limit
    return declared or (not context.rules.requests_drawn and _eks_silent(checkpoint))


def _eks_silent(checkpoint: Checkpoint) -> bool:
    """Tell whether EKS has lately answered no user well, and Heroku some."""
    newest = load_evidence(checkpoint).recent[-SILENT_SLOTS:]
    return len(newest) == SILENT_SLOTS and all(not slot.eks.successes and slot.heroku.successes for slot in newest)


def proof_by_probes(context: Context) -> str:
    """Describe, for a plan that accepts pairs in place of users' requests, how far their evidence of safety has come."""
    safety = context.seen.pairs.safety
    if safety is None:
        return "the legs have not been asked in pairs in this step yet"
    limit = context.rules.safety_limit
    text = f"{safety.pairs} pairs of probes: evidence of safety {safety.evidence:.2g} of {limit:.0f}"
    if not safety.pairs and context.seen.pairs.asked >= LEAST_ASKED:
        return f"{text}, as Heroku answers none of the probed paths well; choose others in traffic.probe.paths"
    missing = math.log(limit / max(safety.evidence, 1.0)) / safety.step.margin
    if missing > 0:
        text += f", at least {span(missing / context.spec.traffic.probe.rate)} more"
    return text


def safe_by_probes(context: Context) -> bool:
    """Tell whether pairs have proven in this step that EKS answers well enough for the next, and still say so."""
    safety = context.seen.pairs.safety
    return (
        safety is not None and safety.evidence >= context.rules.safety_limit and context.probes_say is ProbeKey.ALIKE
    )


def eks_probes_fail(context: Context, status: MigrationPlanStatus) -> Hold | None:
    """Return the hold for an EKS leg that answers probes worse than Heroku does.

    Before the first step two in a row are enough: waiting costs nothing.
    """
    said = context.probes_say
    waiting = not status.weight and said is ProbeKey.UNSURE and context.seen.pairs.row >= FAILS
    if not (waiting or said is ProbeKey.EKS_WORSE):
        return None
    where = "the first step waits" if not status.weight else "users' requests do not show it"
    return Hold(HoldReason.EKS_PROBES_FAIL, f"{pairs_text(context)}; {where}; it goes on once EKS answers them")


def heroku_denies(context: Context, status: MigrationPlanStatus) -> Hold | None:
    """Return the hold for a Heroku that refuses or redirects, all the time, what EKS answers well.

    A 4xx or a redirect by itself may be right for a path, so it makes no probe unhealthy, and no Heroku a dead one that
    users are moved away from. It is the difference that says what users would go back to.
    """
    enough = IN_A_ROW if status.weight else FAILS
    if context.probes_say is not ProbeKey.ALIKE or context.seen.pairs.denied_row < enough:
        return None
    said = (
        "in pair after pair of probes Heroku refuses or redirects what EKS answers well: users on Heroku get that, too"
    )
    choice = "mend Heroku, or choose paths in traffic.probe.paths that both legs answer"
    return Hold(HoldReason.HEROKU_CANNOT_TAKE_BACK, f"{said}; {choice}")


def await_pair(context: Context, status: MigrationPlanStatus) -> bool:
    """Tell whether the first step waits for a pair of probes that shows that EKS answers."""
    if not context.can.probes_eks or status.weight:
        return False
    return context.probes_say in (ProbeKey.UNKNOWN, ProbeKey.UNSURE) or 0 < context.seen.pairs.denied_row < FAILS


def pairs_text(context: Context) -> str:
    """Describe the pairs for people."""
    pairs, heroku, eks = context.seen.pairs, context.seen.probe, context.seen.eks_probe
    if pairs == NO_PAIRS or pairs.last is None:
        return "the legs have not been asked in pairs yet"
    answers = f"Heroku: {heroku.detail if heroku else 'no answer'}, EKS: {eks.detail if eks else 'no answer'}"
    if pairs.both_row >= FAILS:
        return f"probes of both legs fail ({answers})"
    said = f"EKS answered worse than Heroku in {pairs.against_eks} of {pairs.asked} pairs of probes"
    if pairs.row > 1:
        said += f", the last {pairs.row} in a row"
    return f"{said} ({answers})"


def probes_status(context: Context) -> ProbesStatus | None:
    """Return the numbers of the pairs for the status; ``None`` where none are asked."""
    pairs = context.seen.pairs
    if pairs.last is None:
        return None
    return ProbesStatus(
        pairs=pairs.asked,
        against_eks=pairs.against_eks,
        against_heroku=pairs.against_heroku,
        both_failed=pairs.both_failed,
        in_a_row=pairs.row,
        harm=rounded(pairs.harm, 3),
        harm_limit=rounded(context.rules.harm_limit, 6),
        verdict=context.probes_say,
        safety=None if pairs.safety is None else rounded(pairs.safety.evidence, 3),
        safety_limit=None if pairs.safety is None else rounded(context.rules.safety_limit, 6),
        sentence=pairs_text(context),
    )
