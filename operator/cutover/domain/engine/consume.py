"""Ingest new blocks and assess all gates of a plan."""

from __future__ import annotations

from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus, Share
from cutover.domain.engine.assessment import Assessment, assess
from cutover.domain.engine.context import Context
from cutover.domain.engine.moves import begin_checkpoint
from cutover.domain.evidence.ingest import ingest, load_evidence, share
from cutover.domain.evidence.judge import judge
from cutover.domain.evidence.lengths import in_force
from cutover.domain.releases import safety_from
from cutover.domain.revision import desired_revision
from cutover.domain.slo.judge import ingest_custom_slos, judge_custom_slos
from cutover.domain.steps import next_step


def consume_blocks(context: Context, status: MigrationPlanStatus) -> Checkpoint:
    """Return the checkpoint after the new blocks: first they confirm the weight, then they are evidence."""
    weight, next_weight = _weights(context, status)
    can, safe_from = context.can, safety_from(status)
    before = status.checkpoint or begin_checkpoint(context, status, previous=0)
    checkpoint = ingest(
        before,
        # Counts of two observers cannot be compared.
        context.seen.samples.blocks if can.common_vantage else (),
        rules=context.rules,
        weight=weight,
        next_weight=next_weight,
        probe=context.seen.probe,
        revision=desired_revision(status),
        can=can,
        safety_from=safe_from,
        hours=context.hours,
    )
    custom = ingest_custom_slos(
        before,
        context.slos.gates,
        context.seen.slo_readings,
        spec=context.spec,
        weight=weight,
        next_weight=next_weight,
        observed_at=checkpoint.observed_at,
        restarted=next_weight > before.next_weight > 0,
        safety_from=safe_from,
    )
    return checkpoint.evolve(custom_slos=custom) if custom or checkpoint.custom_slos else checkpoint


def assess_gates(context: Context, status: MigrationPlanStatus, checkpoint: Checkpoint) -> Assessment:
    """Judge all gates together: the mesh's metrics and the custom SLOs."""
    weight, next_weight = _weights(context, status)
    rules = context.rules
    mesh = judge(load_evidence(checkpoint), rules=rules, weight=weight, next_weight=next_weight, hours=context.hours)
    gates = context.slos.gates
    asked = {(custom.name, custom.query_digest) for custom in gates}
    recorded = status.baseline.bounds if status.baseline else ()
    custom = judge_custom_slos(
        checkpoint,
        gates,
        context.seen.slo_readings,
        spec=context.spec,
        block_seconds=in_force(context.spec, context.plan.status).seconds,
        baselines={bound.gate: bound.value for bound in recorded if (bound.gate, bound.query_digest) in asked},
        weight=weight,
        next_weight=next_weight,
        now=context.now,
    )
    return assess(mesh, custom)


def observed_share(checkpoint: Checkpoint) -> Share | None:
    """Return the percent of requests that the gateway has sent to EKS since the weight was decided."""
    return share(checkpoint, load_evidence(checkpoint), max(checkpoint.consumed_until, checkpoint.weight_since))


def watched_seconds(checkpoint: Checkpoint) -> float:
    """Return the seconds in which the step's requests were counted.

    A step's hold ends by these seconds. By the clock, a machine that slept or an outage of Prometheus would end the hold
    unwatched.
    """
    return load_evidence(checkpoint).total_seconds


def _weights(context: Context, status: MigrationPlanStatus) -> tuple[int, int]:
    """Return the current weight, and the next weight, which the evidence of safety is for."""
    weight = status.weight or 0
    upcoming = next_step(context.spec, weight)
    return weight, upcoming.weight if upcoming else 100
