"""Whether the Heroku leg can take the traffic back, by its probes."""

from __future__ import annotations

from cutover.api.durations import span
from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome
from cutover.domain.evidence.judgement import Judgement

#: Seconds after which a probe of the Heroku leg says nothing about now.
PROBE_LIFETIME_SECONDS = 60.0


def heroku_answers(context: Context) -> bool:
    """Tell whether the newest probe is young enough and healthy."""
    probe = context.seen.probe
    # A probe from the future has an unknown age: the clock was set back.
    return probe is not None and probe.healthy and abs(context.now - probe.at) <= PROBE_LIFETIME_SECONDS


def answers_too_little(context: Context, legs: Judgement) -> bool:
    """Tell whether Heroku answers far fewer requests than its weight, so that it is no rescue and may be down.

    It looks the same where others send many requests to EKS' Service, who must neither keep a plan from its rollback nor
    move its users up. So where EKS has got more than its weight explains, and Heroku answers its probes, Heroku is well. So it is
    where users are drawn: one client that fails on Heroku may make most of its requests.
    """
    others = legs.share_over or not context.rules.requests_drawn
    return legs.heroku_dead and not (others and heroku_answers(context))


def heroku_fails(context: Context) -> bool:
    """Tell whether Heroku cannot take the traffic back.

    A single failed probe is noise: no weight rises on it, but it is no reason for an alarm.
    """
    probe = context.seen.probe
    return probe is not None and not heroku_answers(context) and (probe.healthy or probe.failures > 1)


def probe_text(context: Context) -> str:
    """Describe the newest probe for people."""
    probe = context.seen.probe
    if probe is None:
        return "Heroku has not been asked yet"
    if probe.healthy:
        return f"the last answer of the Heroku leg is {span(context.now - probe.at)} old"
    return f"the probe of the Heroku leg: {probe.detail}"


def await_probe(status: MigrationPlanStatus, message: str) -> Outcome:
    """Wait for the first probe, which comes about a second after a restart."""
    return Outcome(status, "Judging", f"{message}; asking Heroku", requeue=1)
