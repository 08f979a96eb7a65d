"""At 100 %, where there is no control: two keys together roll back, one alone holds.

One key is the users' requests against the app's own record, by their newest blocks and by the judge's evidence. The other
is the operator's probes of both legs, in pairs. Each is blind where the other sees: requests cannot tell a fault of EKS from
an incident that Heroku has as well, and probes know a few paths only.

==================  ==========================================  ========================================
users' requests     probes of both legs                         what follows
==================  ==========================================  ========================================
harmed              EKS answers worse, Heroku answers           rollback
harmed              Heroku fails                                hold ``BothLegsUnhealthy``
harmed              alike, for two minutes                      hold ``HarmUnconfirmed``
harmed              alike so far, or not asked yet              both are asked twice a second
harmed              a row against EKS has begun                 both are asked twice a second
well                EKS answers worse, Heroku answers           hold ``EksProbesFail``
any                 both fail                                   hold ``BothLegsUnhealthy``
well                Heroku fails, or denies what EKS answers    hold ``HerokuCannotTakeBack``
well                alike                                       the soak goes on
==================  ==========================================  ========================================

The team's own SLOs need no second key. They say themselves what harm is, and probes cannot see it.
"""

from __future__ import annotations

from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus
from cutover.domain.commands.annotations import assignment, rollback
from cutover.domain.engine.assessment import Assessment
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import held
from cutover.domain.engine.outcome import Outcome
from cutover.domain.engine.phases.breach import back_or_hold, no_rescue
from cutover.domain.engine.probes import pairs_text
from cutover.domain.evidence.ingest import load_evidence
from cutover.domain.evidence.live_key import LiveKey, failing_since, live_key
from cutover.domain.evidence.pace import load_pace
from cutover.domain.evidence.probe_key import ProbeKey
from cutover.domain.evidence.rules import ALIVE
from cutover.domain.holds import Hold, HoldReason

#: Seconds after which harm that no probe confirms is a hold: so long it may be a moment of the traffic.
UNCONFIRMED_SECONDS = 120.0
#: Seconds after which the newest block says nothing about now.
BLOCK_LIFETIME_SECONDS = 60.0


def at_full(
    context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint, assessment: Assessment
) -> Outcome | None:
    """Decide at 100 % by both keys; ``None`` if nothing is harmed, or if other questions decide."""
    if not context.can.probes_eks or assessment.failing_bound or assessment.worse_by_custom_slo:
        return None
    probes = context.probes_say
    live = _live(context, checkpoint, assessment, probes)
    if not live:
        if probes is ProbeKey.BOTH_FAIL:
            return no_rescue(context, status, f"{pairs_text(context)}: mend what they share")
        return None
    detail = f"EKS is worse ({live.metric}): {live.detail}; {pairs_text(context)}"
    match probes:
        case ProbeKey.EKS_WORSE:
            return back_or_hold(context, status, "EvidenceOfHarm", detail, culprit=live.metric)
        case ProbeKey.BOTH_FAIL | ProbeKey.HEROKU_FAILS:
            return no_rescue(context, status, f"{detail}: mend one of them")
        case ProbeKey.ALIKE | ProbeKey.UNSURE | ProbeKey.UNKNOWN:
            turned = load_pace(checkpoint.pace).turned_since
            lasting = turned is None or context.now - turned >= UNCONFIRMED_SECONDS
            # Pairs that speak against EKS become enough soon, or end; a hold that is told stays meanwhile.
            alike = probes is ProbeKey.ALIKE
            if lasting and (alike or (probes is ProbeKey.UNSURE and status.reason == HoldReason.HARM_UNCONFIRMED)):
                return held(context, status, _unconfirmed(status, detail), requeue=1)
            return Outcome(status, "Judging", f"{detail}; asking both legs", requeue=0.5)


def _live(context: Context, checkpoint: Checkpoint, assessment: Assessment, probes: ProbeKey) -> LiveKey:
    """Return the key of the users' requests."""
    pace, rules = load_pace(checkpoint.pace), context.rules
    if pace.newest and abs(context.now - pace.newest[-1].end) <= BLOCK_LIFETIME_SECONDS:
        if key := live_key(pace, load_evidence(checkpoint), rules, context.hours):
            return key
        if probes is ProbeKey.EKS_WORSE and failing_since(pace, context.seen.pairs.row_since):
            return LiveKey(ALIVE, "every request of a user has failed since the probes began to fail")
    if assessment.legs.worse:
        culprit = assessment.legs.main_metric
        return LiveKey(culprit, assessment.sentence(culprit))
    return LiveKey()


def _unconfirmed(status: MigrationPlanStatus, detail: str) -> Hold:
    how = f"look at EKS, and annotate the plan {assignment(rollback(status.attempt))} to go back"
    return Hold(HoldReason.HARM_UNCONFIRMED, f"{detail}: the probes do not confirm it; {how}")
