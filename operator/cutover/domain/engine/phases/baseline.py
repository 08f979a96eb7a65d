"""The Baseline phase: whether Heroku's record is enough to compare EKS with.

Heroku's traffic is recorded at the gateway, at weight 0.
"""

from __future__ import annotations

from cutover.api.durations import span
from cutover.api.v1alpha1 import (
    BaselineSource,
    BaselineStatus,
    BoundBaseline,
    Checkpoint,
    MigrationPlanStatus,
    Mode,
    Phase,
)
from cutover.domain.baseline.histogram import Histogram
from cutover.domain.baseline.thresholds import LEAST_REQUESTS, choose_thresholds
from cutover.domain.engine.consume import consume_blocks, observed_share
from cutover.domain.engine.context import Context
from cutover.domain.engine.holds import blind, held, too_early
from cutover.domain.engine.moves import enter
from cutover.domain.engine.outcome import NEXT_BLOCK, Outcome
from cutover.domain.engine.phases.compared import compared
from cutover.domain.engine.phases.takeover import undo
from cutover.domain.engine.share_holds import crowded
from cutover.domain.engine.wanted import baselines_wanted, seconds_until_replay
from cutover.domain.evidence.share import LEAST_REQUESTS as LEAST_SHARE_REQUESTS
from cutover.domain.evidence.share import Pool
from cutover.domain.evidence.tolerances import thresholds_wanted
from cutover.domain.holds import Hold, HoldReason


def baseline(context: Context, status: MigrationPlanStatus) -> Outcome:
    """Confirm the takeover at the gateway, record what the gates need of Heroku, then begin to shift."""
    if undone := undo(context, status):
        return undone
    checkpoint = consume_blocks(context, status)
    status = status.evolve(checkpoint=checkpoint, share=observed_share(checkpoint))
    if hold := blind(context, checkpoint):
        return held(context, status, hold)
    if checkpoint.observed_at is None:
        return _unseen(context, status, checkpoint)
    recorded = status.baseline or BaselineStatus(since=context.time)
    for record in (_record_thresholds, _record_bounds, _record_backtest):
        found = record(context, status, recorded)
        if isinstance(found, Outcome):
            return found
        recorded = found
        status = status.evolve(baseline=recorded)
    judged = compared(context, status)
    if isinstance(judged, Outcome):
        return judged
    status = judged
    started = enter(context, status, Phase.SHIFTING)
    return Outcome(started, "BaselineRecorded", "the takeover is seen at the gateway", requeue=0)


def _unseen(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint) -> Outcome:
    """Wait until the hosts' requests come through the gateway."""
    pooled = Pool(*checkpoint.share_pool)
    message = (
        f"{pooled.total:.0f} requests of {context.hosts} seen at the gateway since the takeover; "
        f"{LEAST_SHARE_REQUESTS} prove it: point the host's DNS at the gateway if it is not"
    )
    crowd = crowded(context, status, pooled)
    if too_early(context, status):
        return _recording(status, crowd or message)
    reason = HoldReason.SHARE_NOT_OBSERVED if crowd else HoldReason.INSUFFICIENT_TRAFFIC
    return held(context, status, Hold(reason, crowd or message))


def _record_thresholds(
    context: Context, status: MigrationPlanStatus, recorded: BaselineStatus
) -> BaselineStatus | Outcome:
    """Choose the latency thresholds that the plan does not name."""
    if not thresholds_wanted(context.spec):
        return recorded
    histogram = _recorded_latencies(context) or context.seen.histogram
    if histogram is None:
        detail = "; ".join(context.seen.errors)
        if not detail:
            return Outcome(status, "Recording", "reading Heroku's latencies", requeue=1)
        return held(context, status, Hold(HoldReason.PROMETHEUS_UNAVAILABLE, detail))
    if histogram.total < LEAST_REQUESTS and (wait := _too_few(context, status, recorded, histogram)):
        return wait
    try:
        slow, very_slow = choose_thresholds(histogram)
    except ValueError as problem:
        return held(context, status, Hold(HoldReason.NO_DATA, str(problem)))
    return recorded.evolve(requests=round(histogram.total), slow_ms=slow, very_slow_ms=very_slow)


def _recorded_latencies(context: Context) -> Histogram | None:
    """Return the latencies of the record, where it was taken at the same gateways and has enough requests."""
    record = context.seen.record.record if context.seen.record is not None else None
    if record is None or record.source != BaselineSource.GATEWAY:
        return None
    histogram = Histogram(record.buckets)
    return histogram if histogram.total >= LEAST_REQUESTS else None


def _too_few(
    context: Context, status: MigrationPlanStatus, recorded: BaselineStatus, histogram: Histogram
) -> Outcome | None:
    """Wait for more requests. A latency gate that is only observed holds nothing, and goes on with few requests."""
    elapsed = max(context.now - recorded.since.timestamp(), 1.0)
    left = (LEAST_REQUESTS - histogram.total) * elapsed / max(histogram.total, 1.0)
    message = (
        f"{histogram.total:,.0f} of {LEAST_REQUESTS:,} requests for the latency thresholds, about "
        f"{span(left)} at this traffic; naming slowMs and verySlowMs in the latency gate makes it shorter"
    )
    if too_early(context, status):
        return _recording(status, message)
    enforced = any(slo.latency is not None and slo.mode is Mode.ENFORCE for slo in context.spec.gates.slos)
    if enforced or not histogram.total:
        return held(context, status, Hold(HoldReason.INSUFFICIENT_TRAFFIC, message))
    return None


def _record_bounds(
    context: Context, status: MigrationPlanStatus, recorded: BaselineStatus
) -> BaselineStatus | Outcome:
    """Record the value before the migration for each bound with ``timesBaseline``."""
    gates = {gate.name: gate for gate in context.slos.gates}
    for name in baselines_wanted(status.evolve(baseline=recorded), gates.values()):
        reading = context.seen.slo_readings.get(name)
        if reading is None or reading.baseline is None:
            why = reading.problem.message if reading is not None and reading.problem else "not asked yet"
            message = f"gate {name}: its value before the migration is not known: {why}"
            if too_early(context, status):
                return _recording(status.evolve(baseline=recorded), message)
            if not gates[name].enforced:
                continue  # the gate stays without a verdict
            return held(context, status.evolve(baseline=recorded), Hold(HoldReason.NO_DATA, message))
        value = float(f"{reading.baseline:.6g}")
        others = (bound for bound in recorded.bounds if bound.gate != name)
        recorded = recorded.evolve(
            bounds=(*others, BoundBaseline(gate=name, value=value, query_digest=gates[name].query_digest))
        )
    return recorded


def _record_backtest(
    context: Context, status: MigrationPlanStatus, recorded: BaselineStatus
) -> BaselineStatus | Outcome:
    """Record what a replay of the gates on Heroku's traffic predicts, if the plan asks for it."""
    if not context.spec.baseline.backtest or recorded.backtest is not None:
        return recorded
    left = seconds_until_replay(context.spec, recorded, context.now)
    if left > 0:
        return _recording(status, f"recording Heroku's traffic for the backtest for another {span(left)}")
    if context.seen.backtest is None:
        message = "replaying the gates on Heroku's traffic (baseline.backtest)"
        return Outcome(status, "Backtesting", message, requeue=NEXT_BLOCK)
    return recorded.evolve(backtest=context.seen.backtest)


def _recording(status: MigrationPlanStatus, message: str) -> Outcome:
    return Outcome(status, "Recording", message, requeue=NEXT_BLOCK)
