"""Replay a plan's cutover on Heroku's recorded traffic, to estimate its false-rollback rate.

Heroku's record is split into two legs of the same service (:mod:`cutover.domain.backtest.splitting`). From many random
moments, the plan's steps are climbed on these legs with the operator's judge (:mod:`cutover.domain.evidence.judge`) and its
confirmation of weights (:mod:`cutover.domain.evidence.share`). Every rollback is then a false one. Approvals, windows and
the ceiling are assumed to permit each step. A run ends when the plan would go to 100 %, where there is no control to compare
with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from cutover.api.durations import span
from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.domain.backtest.climbing import Rung, climb, least_seconds, rungs_of
from cutover.domain.backtest.few_requests import ways
from cutover.domain.backtest.forecast import Forecast, forecast_of, per_second
from cutover.domain.backtest.record import Record
from cutover.domain.backtest.splitting import Split, divisible
from cutover.domain.evidence.judge import GateRules, least_requests
from cutover.domain.evidence.tolerances import gate_rules


class NotPossible(Exception):
    """A replay is not possible; the text says why, for people."""


def backtest(
    record: Record,
    spec: MigrationPlanSpec,
    *,
    runs: int = 200,
    seed: int = 1,
    split: Split | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _runs: None,
) -> Forecast:
    """Replay a plan's cutover on a record of Heroku.

    Parameters
    ----------
    record
        Heroku's traffic, counted with the latency thresholds that the plan will be judged by.
    spec
        The plan's spec.
    runs
        Number of cutovers to replay.
    seed
        The same seed and record give the same forecast.
    split
        How the record is split: by default by instances if two or more have enough traffic, else by time.
    on_progress
        Called after each run with the number of runs that are done, and of all runs.

    Raises
    ------
    NotPossible
        If there is nothing to replay: no step below 100 %, none of the mesh's gates, a record that is too short for the
        plan's holds or has too little traffic for its steps.
    """
    import numpy as np

    rules, rungs = gate_rules(spec), rungs_of(spec)
    if runs < 1:
        raise NotPossible("at least one cutover must be replayed")
    if not any(rule.enforced for rule in rules.metrics):
        raise NotPossible("the plan enforces none of errors, latency and answers; custom SLOs are not replayed")
    if not rungs:
        raise NotPossible("the plan has no step below 100 %, so there is nothing to compare with")
    record = record.trimmed()
    usable, counts = record.arrays()
    if not usable.any():
        raise NotPossible("no requests of Heroku are in the record")
    rate = record.requests / (record.usable * record.block_seconds)
    by = split or ("instances" if divisible(counts) else "time")
    if by == "time":
        counts = counts.sum(axis=0, keepdims=True)
    judged = record.blocks if by == "instances" else record.blocks // 2
    _check_traffic(spec, rules, rungs, rate)
    needed = least_seconds(spec, by)
    latest = record.blocks - math.ceil(needed / record.block_seconds)
    if latest < 0:
        raise NotPossible(
            f"the record is {span(record.seconds)} long, and one cutover takes at least {span(needed)} of it"
            + (" when split by time" if by == "time" else "")
        )

    done = []
    for number in range(runs):
        rng = np.random.default_rng([seed, number])
        start = int(rng.integers(latest + 1))
        done.append(climb(rng, usable, counts, rules, rungs, record.block_seconds, start=start, split=by))
        on_progress(number + 1, runs)
    instances = int((counts[:, :, 0].sum(axis=1) > 0).sum())
    return forecast_of(
        done, spec, rules, rungs, record=record, split=by, instances=instances, rate=rate, judged=judged
    )


def _check_traffic(spec: MigrationPlanSpec, rules: GateRules, rungs: Iterable[Rung], rate: float) -> None:
    """Raise NotPossible if no run could pass a step, which a replay would find out only after hours."""
    short, needed = "", 0.0
    for rung in rungs:
        least = max(least_requests(rules, rung.next_weight), rung.least)
        time = rung.longest - rules.warm_up_seconds
        brought = rate * rung.weight / 100 * max(time, 0.0)
        if brought < least:
            wanted = least / (rung.weight / 100 * time) if time > 0 else math.inf
            needed = max(needed, wanted)
            short = short or (
                f"the step at {rung.weight} % needs at least {least:,.0f} EKS requests, and {per_second(rate)} bring "
                f"{brought:,.0f} in {span(rung.longest)}"
            )
    if short:
        cure = f"; {per_second(needed)} would be needed" if math.isfinite(needed) else ""
        raise NotPossible(" ".join((f"too little traffic: {short}{cure}.", *ways(spec, rules, rate))))
