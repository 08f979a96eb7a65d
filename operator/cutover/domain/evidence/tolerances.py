"""The judge's rules for a plan: its gates, tolerances and latency thresholds."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from cutover.api.v1alpha1 import (
    DEFAULT_ANSWERS,
    HISTOGRAM_BOUNDS_MS,
    AnswersSlo,
    ErrorsSlo,
    MigrationPlanSpec,
    MigrationPlanStatus,
    Mode,
    Slo,
    ToleranceSpec,
)
from cutover.domain.evidence.answers import ALL_CODES, Codes
from cutover.domain.evidence.judge import DEFAULT_METRICS, GateRules, MetricRule, Tolerance

#: Least ratio to Heroku's beyond which EKS is worse where users are drawn. One user's requests are all on one leg, so that equal
#: legs differ as their users do, and for as long as these stay. What is between this and the tolerance for the next step holds.
USERS_RATIO = 2.0


def gate_rules(spec: MigrationPlanSpec) -> GateRules:
    """Return the judge's rules for a plan.

    If a plan leaves a gate out, its part of the wager goes to the other gates, in proportion. Of two gates of one kind the
    first is judged: :func:`cutover.domain.engine.support.problems` holds such a plan, but it must still be able to roll
    back.
    """
    gates = spec.gates
    errors = next((slo for slo in gates.slos if slo.errors is not None), None)
    latency = next((slo for slo in gates.slos if slo.latency is not None), None)
    answers = answers_slo(spec)
    return _gate_rules(
        errors and errors.errors,
        errors and errors.mode,
        latency and latency.mode,
        answers.answers or AnswersSlo(),
        answers.mode,
        gates.false_rollback_rate,
        gates.warm_up.total_seconds(),
        requests_drawn=spec.traffic.affinity is None,
    )


# A reconcile asks three times, and most plans are alike.
@lru_cache(maxsize=256)
def _gate_rules(
    errors: ErrorsSlo | None,
    errors_mode: Mode | None,
    latency_mode: Mode | None,
    answers: AnswersSlo,
    answers_mode: Mode,
    alpha: float,
    warm_up_seconds: float,
    *,
    requests_drawn: bool,
) -> GateRules:
    by_name: dict[str, MetricRule] = {rule.name: rule for rule in DEFAULT_METRICS}
    chosen: list[MetricRule] = []
    if errors is not None:
        harm, advance = tolerance(errors.tolerate), tolerance(errors.advance)
        enforced = errors_mode is Mode.ENFORCE
        chosen.append(replace(by_name["errors"], harm=harm, advance=advance, enforced=enforced))
    if latency_mode is not None:
        chosen += [replace(by_name[name], enforced=latency_mode is Mode.ENFORCE) for name in ("slow", "verySlow")]
    for name, slo in (("refused", answers.refused), ("redirected", answers.redirected)):
        chosen.append(
            replace(
                by_name[name],
                harm=tolerance(slo.tolerate),
                advance=tolerance(slo.advance),
                enforced=answers_mode is Mode.ENFORCE,
                codes=answers.codes,
            )
        )
    if not requests_drawn:
        chosen = [between_users(rule) for rule in chosen]
    scale = sum(rule.stake for rule in DEFAULT_METRICS) / sum(rule.stake for rule in chosen)
    return GateRules(
        alpha=alpha,
        warm_up_seconds=warm_up_seconds,
        metrics=tuple(replace(rule, stake=rule.stake * scale) for rule in chosen),
        requests_drawn=requests_drawn,
    )


def between_users(rule: MetricRule) -> MetricRule:
    """Return a rule as it is where users are drawn."""
    return replace(rule, harm=replace(rule.harm, ratio=max(rule.harm.ratio, USERS_RATIO)))


def answers_slo(spec: MigrationPlanSpec) -> Slo:
    """Return the SLO of a plan's answers. A plan without it is judged by the defaults."""
    return next((slo for slo in spec.gates.slos if slo.answers is not None), DEFAULT_ANSWERS)


def codes(spec: MigrationPlanSpec) -> Codes:
    """Return which codes of a plan count as refused or redirected."""
    answers = answers_slo(spec).answers
    return _codes(answers.only, answers.except_) if answers is not None else ALL_CODES


@lru_cache(maxsize=256)  # every reconcile asks
def _codes(only: tuple[int, ...] | None, excepted: tuple[int, ...] | None) -> Codes:
    return Codes(frozenset(map(str, only or ())), frozenset(map(str, excepted or ())))


def thresholds(spec: MigrationPlanSpec, status: MigrationPlanStatus) -> tuple[float | None, float | None]:
    """Return X1 and X2 in milliseconds: the plan's, else the baseline's, else ``None`` (unknown or unused).

    If the plan names only one of them, the baseline's other one is moved if need be, so that X1 stays below X2.
    """
    latency = next((slo.latency for slo in spec.gates.slos if slo.latency is not None), None)
    if latency is None:
        return None, None
    baseline = status.baseline
    slow = latency.slow_ms or (baseline.slow_ms if baseline else None)
    very_slow = latency.very_slow_ms or (baseline.very_slow_ms if baseline else None)
    if slow is not None and very_slow is not None and very_slow <= slow:
        if latency.slow_ms is not None:
            return slow, next((bound for bound in HISTOGRAM_BOUNDS_MS if bound > slow), None)
        if latency.very_slow_ms is not None:
            return next((bound for bound in reversed(HISTOGRAM_BOUNDS_MS) if bound < very_slow), None), very_slow
    return slow, very_slow


def thresholds_wanted(spec: MigrationPlanSpec) -> bool:
    """Tell whether a latency threshold has to be chosen from the baseline."""
    latency = next((slo.latency for slo in spec.gates.slos if slo.latency is not None), None)
    return latency is not None and None in (latency.slow_ms, latency.very_slow_ms)


def tolerance(spec: ToleranceSpec) -> Tolerance:
    """Return a plan's tolerance in the judge's terms."""
    return Tolerance(ratio=spec.ratio, margin=spec.margin)
