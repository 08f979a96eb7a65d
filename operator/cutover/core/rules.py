"""What a plan's gates mean in the judge's terms."""

from __future__ import annotations

from dataclasses import replace

from cutover.api.v1alpha1 import MigrationPlanSpec, MigrationPlanStatus, ToleranceSpec
from cutover.core.gate import DEFAULT_METRICS, GateRules, MetricRule, Tolerance


def gate_rules(spec: MigrationPlanSpec) -> GateRules:
    """Return the judge's rules for a plan.

    A plan that leaves a gate out gives its part of the wager to the others, in proportion.
    """
    by_name = {rule.name: rule for rule in DEFAULT_METRICS}
    chosen: list[MetricRule] = []
    for slo in spec.gates.slos:
        if slo.errors is not None:
            chosen.append(
                replace(
                    by_name["errors"], harm=_tolerance(slo.errors.tolerate), advance=_tolerance(slo.errors.advance)
                )
            )
        if slo.latency is not None:
            chosen += [by_name["slow"], by_name["verySlow"]]
    scale = sum(rule.weight for rule in DEFAULT_METRICS) / sum(rule.weight for rule in chosen)
    return GateRules(
        alpha=spec.gates.false_rollback_rate,
        block_seconds=spec.gates.block.total_seconds(),
        warm_up_seconds=spec.gates.warm_up.total_seconds(),
        metrics=tuple(replace(rule, weight=rule.weight * scale) for rule in chosen),
    )


def thresholds(spec: MigrationPlanSpec, status: MigrationPlanStatus) -> tuple[float | None, float | None]:
    """Return X1 and X2 in milliseconds: the plan's own, else the baseline's, else ``None`` (not known, or unused)."""
    latency = next((slo.latency for slo in spec.gates.slos if slo.latency is not None), None)
    if latency is None:
        return None, None
    baseline = status.baseline
    return (
        latency.slow_ms or (baseline.slow_ms if baseline else None),
        latency.very_slow_ms or (baseline.very_slow_ms if baseline else None),
    )


def thresholds_wanted(spec: MigrationPlanSpec) -> bool:
    """Tell whether the baseline has to choose a threshold."""
    latency = next((slo.latency for slo in spec.gates.slos if slo.latency is not None), None)
    return latency is not None and None in (latency.slow_ms, latency.very_slow_ms)


def _tolerance(spec: ToleranceSpec) -> Tolerance:
    return Tolerance(ratio=spec.ratio, margin=spec.margin)
