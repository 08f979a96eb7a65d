"""Whether the Heroku leg can take the traffic back, as far as its probes can say."""

from __future__ import annotations

from cutover.api.durations import span
from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.engine.context import Context
from cutover.domain.engine.outcome import Outcome

#: Seconds after which a probe of the Heroku leg says nothing about now.
PROBE_LIFETIME_SECONDS = 60.0


def heroku_answers(context: Context) -> bool:
    """Tell whether Heroku has answered well within the lifetime of a probe."""
    probe = context.seen.probe
    # A probe from the future has an unknown age: the clock was set back.
    return probe is not None and probe.healthy and abs(context.now - probe.at) <= PROBE_LIFETIME_SECONDS


def heroku_fails(context: Context) -> bool:
    """Tell whether the way back is closed.

    A single answer that fails is noise of a service that errs: no weight rises on it, but it is no alarm either.
    """
    probe = context.seen.probe
    return probe is not None and not heroku_answers(context) and (probe.healthy or probe.failures > 1)


def probe_text(context: Context) -> str:
    """Say what the newest probe found."""
    probe = context.seen.probe
    if probe is None:
        return "Heroku has not been asked yet"
    if probe.healthy:
        return f"the last answer of the Heroku leg is {span(context.now - probe.at)} old"
    return f"the probe of the Heroku leg: {probe.detail}"


def await_probe(status: MigrationPlanStatus, message: str) -> Outcome:
    """Wait for the first probe, which comes within a second or so after a restart."""
    return Outcome(status, "Judging", f"{message}; asking Heroku", requeue=1)
