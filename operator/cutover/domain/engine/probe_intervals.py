"""How often to probe the legs in a plan's phase: each by itself, and both in pairs."""

from __future__ import annotations

from typing import assert_never

from cutover.api.v1alpha1 import Checkpoint, InsufficientTraffic, Phase
from cutover.domain.commands.annotations import ROLLBACK_ANNOTATION, read
from cutover.domain.engine.wanted import trial_begun, undoable
from cutover.domain.evidence.lengths import in_force
from cutover.domain.evidence.pace import load_pace
from cutover.domain.evidence.paired_safety import PairedStep
from cutover.domain.evidence.pairs import Pairs
from cutover.domain.plan import Plan
from cutover.domain.releases import safety_from
from cutover.domain.steps import next_step


def asked_back(plan: Plan) -> bool:
    """Tell whether people ask for users of a Completed plan to go back to Heroku, by annotation or by the ceiling."""
    status, text = plan.status, plan.annotations.get(ROLLBACK_ANNOTATION)
    if status.phase is not Phase.COMPLETED:
        return False
    command = read(ROLLBACK_ANNOTATION, text) if text is not None else None
    return plan.spec.ceiling < (status.weight or 0) or (command is not None and command.attempt == status.attempt)


def probe_interval(plan: Plan) -> float | None:
    """Return the seconds between two probes of the Heroku leg; ``None`` while there is no route or no reason to probe."""
    status = plan.status
    if status.weight is None and not trial_begun(plan):
        return None
    match status.phase:
        case Phase.PENDING | Phase.ROLLED_BACK:
            return None
        case Phase.COMPLETED:
            return 1.0 if asked_back(plan) else None
        case Phase.PREFLIGHT if status.weight is None and status.held is not None:
            return HELD_TRIAL_SECONDS
        case Phase.PREFLIGHT | Phase.ROLLING_BACK:
            return 1.0
        case Phase.BASELINE | Phase.SHIFTING | Phase.SOAKING:
            if undoable(status):
                return 1.0
            checkpoint = status.checkpoint
            waiting = checkpoint is not None and (
                checkpoint.observed_at is None or checkpoint.forward_asked_at is not None
            )
            return 2.0 if waiting else 10.0
        case _:
            assert_never(status.phase)


def eks_probe_interval(plan: Plan) -> float | None:
    """Return the seconds between two probes of the EKS leg by itself; ``None`` outside of preflight."""
    return probe_interval(plan) if plan.status.phase is Phase.PREFLIGHT else None


#: Seconds from one probe of each leg to the next in a trial that waits for people.
HELD_TRIAL_SECONDS = 5.0
#: Seconds from one pair of probes to the next at 100 %, and with affinity in each step: with blocks of 5 s, with longer ones
#: at most, and once something speaks against EKS.
FULL_PAIR_SECONDS, MOST_FULL_PAIR_SECONDS, URGENT_PAIR_SECONDS = 5.0, 10.0, 0.5
#: The same before the first step, and there once a pair spoke against EKS, or Heroku denied what EKS answers.
EMPTY_PAIR_SECONDS, AGAIN_PAIR_SECONDS = 20.0, 2.0
#: The same while Heroku does not answer, so that people know whether EKS would.
STRANDED_PAIR_SECONDS = 5.0
#: Seconds after which nothing is urgent any more: a finding that lasts so long waits for a person.
URGENCY_SECONDS = 600.0


def pair_interval(plan: Plan, pairs: Pairs, now: float, *, heroku_fails: bool) -> float | None:
    """Return the seconds from one pair of probes to the next; ``None`` where none are wanted.

    EKS is asked where its probes disturb no share, and where people have to know whether it answers.

    Parameters
    ----------
    plan
        The plan with its working status.
    pairs
        What is known from pairs.
    now
        Unix seconds.
    heroku_fails
        Whether the newest probes of the Heroku leg failed.
    """
    spec, status = plan.spec, plan.status
    judged = status.phase in (Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING)
    if status.weight is None or not judged or status.checkpoint is None:
        return None
    rate = spec.traffic.probe.rate
    intervals = [1.0 / rate] if rate else []
    # Where users are drawn, the number of requests does not show that EKS answers none.
    if status.weight == 100 or (status.weight and spec.traffic.affinity is not None):
        calm = min(max(in_force(spec, status).seconds, FULL_PAIR_SECONDS), MOST_FULL_PAIR_SECONDS)
        intervals.append(URGENT_PAIR_SECONDS if _urgent(status.checkpoint, pairs, now) else calm)
    elif status.weight == 0 and status.checkpoint.observed_at is not None:
        intervals.append(AGAIN_PAIR_SECONDS if pairs.row or pairs.denied_row else EMPTY_PAIR_SECONDS)
    elif heroku_fails:
        intervals.append(STRANDED_PAIR_SECONDS)
    return min(intervals, default=None)


def paired_step(plan: Plan) -> PairedStep | None:
    """Return the step in which pairs are evidence of safety; ``None`` where they are none."""
    spec, status = plan.spec, plan.status
    if spec.gates.insufficient_traffic is not InsufficientTraffic.ACCEPT_PROBES or status.phase is not Phase.SHIFTING:
        return None
    observed = status.checkpoint is not None and status.checkpoint.observed_at is not None
    upcoming = next_step(spec, status.weight or 0)
    if not status.weight or not observed or upcoming is None:
        return None
    return PairedStep(status.attempt, status.weight, upcoming.weight, safety_from(status))


def _urgent(checkpoint: Checkpoint, pairs: Pairs, now: float) -> bool:
    """Tell whether users' requests or a pair have lately begun to speak against EKS."""
    turned = load_pace(checkpoint.pace).turned_since
    since = [pairs.row_since] if pairs.row else []
    since += [turned] if turned is not None else []
    return any(now - one < URGENCY_SECONDS for one in since)
