"""What to observe in a plan's phase: blocks, probes, custom SLOs, baselines, a backtest.

The service that observes asks these functions first, so that nothing is read that no decision uses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

from cutover.api.v1alpha1 import BoundSlo, MigrationPlanSpec, MigrationPlanStatus, Phase
from cutover.domain.backtest.replay import least_seconds
from cutover.domain.evidence.tolerances import thresholds_wanted
from cutover.domain.plan import Plan
from cutover.domain.slo.custom import CustomSlo


def samples_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the plan's phase uses blocks."""
    return status.checkpoint is not None and status.phase in (
        Phase.BASELINE,
        Phase.SHIFTING,
        Phase.SOAKING,
        Phase.ROLLING_BACK,
    )


def custom_slos_wanted(status: MigrationPlanStatus) -> bool:
    """Tell whether the plan's phase uses the queries of custom SLOs."""
    return status.phase in (Phase.PREFLIGHT, Phase.BASELINE, Phase.SHIFTING, Phase.SOAKING)


def baselines_wanted(status: MigrationPlanStatus, gates: Iterable[CustomSlo]) -> tuple[str, ...]:
    """Return the names of the bounds whose value before the migration is not recorded yet."""
    if status.phase is not Phase.BASELINE:
        return ()
    known = {(bound.gate, bound.query_digest) for bound in status.baseline.bounds} if status.baseline else set()
    return tuple(
        gate.name
        for gate in gates
        if isinstance(gate.slo, BoundSlo)
        and gate.slo.times_baseline is not None
        and (gate.name, gate.query_digest) not in known
    )


def backtest_wanted(plan: Plan, now: float) -> bool:
    """Tell whether it is time for the backtest that the plan asks for.

    Parameters
    ----------
    plan
        The plan with its working status.
    now
        Unix seconds.
    """
    status, baseline = plan.status, plan.status.baseline
    return (
        plan.spec.baseline.backtest
        and status.phase is Phase.BASELINE
        and status.checkpoint is not None
        and status.checkpoint.observed_at is not None
        and baseline is not None
        and baseline.backtest is None
        and now - baseline.since.timestamp() >= record_seconds(plan.spec)
        and not (thresholds_wanted(plan.spec) and baseline.slow_ms is None)
    )


def record_seconds(spec: MigrationPlanSpec) -> float:
    """Return the seconds of Heroku's traffic that a backtest needs, with a margin."""
    return min(spec.baseline.window.total_seconds(), 1.1 * least_seconds(spec))


def probe_interval(status: MigrationPlanStatus) -> float | None:
    """Return the seconds between two probes of the Heroku leg; ``None`` while there is no route to probe."""
    if status.weight is None:
        return None
    match status.phase:
        case Phase.PENDING | Phase.COMPLETED | Phase.ROLLED_BACK:
            return None
        case Phase.PREFLIGHT | Phase.ROLLING_BACK:
            return 1.0
        case Phase.BASELINE | Phase.SHIFTING | Phase.SOAKING:
            waiting = status.checkpoint is not None and status.checkpoint.observed_at is None
            return 2.0 if waiting else 10.0
        case _:
            assert_never(status.phase)
