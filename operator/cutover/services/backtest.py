"""Replays a plan's cutover on Heroku's recorded traffic, which is read from Prometheus and judged like live traffic.

People run it as a command (:mod:`cutover.cli.backtest`); the operator runs the same command in a process of its own
(:mod:`cutover.services.backtest_process`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cutover.api.durations import span
from cutover.api.v1alpha1 import BaselineStatus
from cutover.domain.backtest.forecast import Forecast
from cutover.domain.backtest.record import Record
from cutover.domain.backtest.replay import NotPossible, backtest
from cutover.domain.backtest.splitting import Split
from cutover.domain.baseline.thresholds import LEAST_REQUESTS, choose_thresholds
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.counters import Counter, CounterLabels
from cutover.domain.evidence.counting import Reading
from cutover.domain.evidence.lengths import in_force, next_length
from cutover.domain.evidence.scrapes import REACH_IN_SCRAPES, Result
from cutover.domain.evidence.tolerances import thresholds, thresholds_wanted
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription, Dialect
from cutover.ports.errors import Unavailable
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed
from cutover.services.reading import LONGEST_REPLAY, HerokuSamples, best_phase, blocks_of, heroku_samples
from cutover.services.sampler import Sampler
from cutover.services.scrape_timing import read_scrape_timing

#: Seconds of history that are read at once, at least. Where Prometheus does not answer, the span is halved down to this.
SHORTEST_READ = 300.0
_DAY = 86_400.0

#: Called with the unit ("read" seconds or "replayed" cutovers), how many are done, and how many there are.
OnProgress = Callable[[str, int, int], None]


async def forecast(
    plan: Plan,
    prometheus: Prometheus,
    dialect: Dialect,
    subscription: BlockSubscription,
    *,
    end: float,
    runs: int,
    seed: int = 1,
    split: Split | None = None,
    on_progress: OnProgress,
) -> tuple[Forecast, BlockSubscription]:
    """Read the record and replay the plan's cutover on it.

    Parameters
    ----------
    plan
        The plan; its baseline has the latency thresholds, if they are known.
    prometheus, dialect
        The server to query, and what to query.
    subscription
        Where Heroku's requests are counted, and since when; without an EKS leg, as an earlier attempt of the plan moved only
        a part of the recorded requests.
    end
        Unix seconds at which the record ends.
    runs, seed, split
        As for :func:`cutover.domain.backtest.replay.backtest`.
    on_progress
        Called with the progress.

    Returns
    -------
    tuple of Forecast and BlockSubscription
        The prediction, and the subscription that was read, with its latency thresholds.

    Raises
    ------
    NotPossible
        If there is no record to replay.
    Unavailable
        If Prometheus does not answer.
    """
    subscription = await read_length(prometheus, dialect, plan, subscription, end=end)
    subscription = await read_thresholds(prometheus, dialect, plan, subscription, end=end)
    record = await read_record(prometheus, dialect, subscription, end=end, on_progress=on_progress)
    if not record.requests:
        raise NotPossible(
            f"no requests of {subscription.heroku} at the {dialect.labels.observers} of {_listed(subscription)} in the last "
            f"{span(end - subscription.since)}; --service and --gateway-namespace or --drain-namespace say where Heroku's "
            "traffic is counted"
        )
    predicted = backtest(
        record,
        plan.spec,
        runs=runs,
        seed=seed,
        split=split,
        on_progress=lambda done, of: on_progress("replayed", done, of),
    )
    return predicted, subscription


@dataclass(frozen=True, slots=True)
class _Now:
    """A clock that stands still: a record ends at the time at which reading it began."""

    at: float

    def now(self) -> float:
        """Return Unix seconds."""
        return self.at


async def read_length(
    prometheus: Prometheus, dialect: Dialect, plan: Plan, subscription: BlockSubscription, *, end: float
) -> BlockSubscription:
    """Return the subscription with the length of blocks that suits the scrapes before ``end``.

    Raises
    ------
    Unavailable
        If Prometheus does not answer.
    """
    timing = await read_scrape_timing(prometheus, dialect, subscription.observers, end)
    blocks = next_length(plan.spec, plan.status.blocks, timing.interval(subscription.observers))
    length = in_force(plan.spec, plan.status.evolve(blocks=blocks))
    return replace(subscription, block_seconds=length.seconds, scrape_seconds=length.scrape_seconds)


async def read_thresholds(
    prometheus: Prometheus, dialect: Dialect, plan: Plan, subscription: BlockSubscription, *, end: float
) -> BlockSubscription:
    """Return the subscription with latency thresholds: the plan's, its baseline's, or chosen from the last day.

    Raises
    ------
    NotPossible
        If there are too few requests to choose them from.
    Unavailable
        If Prometheus does not answer.
    """
    status = plan.status
    if thresholds_wanted(plan.spec) and (status.baseline is None or status.baseline.slow_ms is None):
        reader = Sampler(prometheus, dialect, _Now(end), on_samples=lambda _: None)
        histogram = await reader.histogram(replace(subscription, since=max(subscription.since, end - _DAY)))
        if histogram.total < LEAST_REQUESTS:
            raise NotPossible(
                f"{histogram.total:,.0f} requests of {subscription.heroku} at the {dialect.labels.observers} of {_listed(subscription)} in the last day, "
                f"and choosing the latency thresholds takes {LEAST_REQUESTS:,}; name slowMs and verySlowMs in the latency "
                "gate, or the service that Heroku's requests are counted under, with --service"
            )
        try:
            slow, very_slow = choose_thresholds(histogram)
        except ValueError as problem:
            raise NotPossible(str(problem)) from problem
        chosen = BaselineStatus(since=datetime.fromtimestamp(end, UTC), slow_ms=slow, very_slow_ms=very_slow)
        status = status.evolve(baseline=chosen)
    slow_ms, very_slow_ms = thresholds(plan.spec, status)
    return replace(subscription, slow_ms=slow_ms, very_slow_ms=very_slow_ms)


async def read_record(
    prometheus: Prometheus,
    dialect: Dialect,
    subscription: BlockSubscription,
    *,
    end: float,
    on_progress: OnProgress,
) -> Record:
    """Read Heroku's counts at each gateway from ``subscription.since`` on, at most an hour at a time.

    Parameters
    ----------
    prometheus
        The server to query.
    dialect
        What to query.
    subscription
        Where Heroku's requests are counted, with its thresholds.
    end
        Unix seconds.
    on_progress
        Called with the seconds that were read, and all seconds.

    Raises
    ------
    Unavailable
        If Prometheus does not answer, not even for five minutes.
    """
    length, reach = subscription.block_seconds, REACH_IN_SCRAPES * subscription.scrape_seconds
    record, position, longest = Record(length), subscription.since, LONGEST_REPLAY
    while position + 2 * length <= end:
        until = min(end, position + max(longest, 2 * length))
        try:
            samples = await heroku_samples(prometheus, dialect, subscription, start=position, end=until, reach=reach)
            blocks, instances = _cut(samples, dialect, subscription, start=position, end=until)
        except Unavailable:
            if longest <= SHORTEST_READ:
                raise
            longest = max(longest / 2, SHORTEST_READ)
            continue
        record.add(blocks, instances)
        position = blocks[-1].end
        on_progress("read", round(min(position, end) - subscription.since), round(end - subscription.since))
    return record


def _cut(
    samples: HerokuSamples, dialect: Dialect, subscription: BlockSubscription, *, start: float, end: float
) -> tuple[list[Block], dict[str, list[Block]]]:
    """Cut the blocks of all gateways together and of each gateway. Blocks end just after the scrapes, like live blocks."""
    with unavailable_if_malformed(dialect.labels.product):
        all_of_them = Reading.of_answers(samples.presence, samples.counters)
        by_gateway = {name: Reading.of_answers(*own) for name, own in _by_gateway(samples).items()}
        losses = Reading.of_answers(samples.presence, samples.losses)
    newest = (all_of_them.last_scrape(source, end, inclusive=True) for source in all_of_them.sources())
    phase = best_phase([at for at in newest if at > start], subscription.scrape_seconds) or 0.0
    length = subscription.block_seconds
    first = math.ceil((start - phase) / length) * length + phase
    last = first + max(1, math.floor((end - first) / length)) * length

    def cut_all(reading: Reading) -> list[Block]:
        reach = REACH_IN_SCRAPES * subscription.scrape_seconds
        return blocks_of(reading, subscription, start=first, end=last, length=length, reach=reach)

    # Their series are of the same leg, so that what rises looks like requests.
    lost = [block.heroku.requests > 0 for block in cut_all(losses)] if samples.losses else []
    blocks = [_without(block, lost[number : number + 1]) for number, block in enumerate(cut_all(all_of_them))]
    return blocks, {name: cut_all(reading) for name, reading in by_gateway.items()}


def _without(block: Block, lost: Sequence[bool]) -> Block:
    return Block(block.start, block.end, gap="a part of its requests was lost on the way") if any(lost) else block


def _by_gateway(samples: HerokuSamples) -> dict[str, tuple[Result, Sequence[Counter[CounterLabels]]]]:
    found: dict[str, tuple[list[Mapping[str, Any]], list[Counter[CounterLabels]]]] = {}

    def parts(pod: str, instance: str) -> tuple[list[Mapping[str, Any]], list[Counter[CounterLabels]]]:
        return found.setdefault(pod or instance, ([], []))

    for item in samples.presence:
        labels: Mapping[str, str] = item["metric"]
        parts(labels.get("pod", ""), labels.get("instance", ""))[0].append(item)
    for counter in samples.counters:
        parts(counter.metric.pod, counter.metric.instance)[1].append(counter)
    return {name: parts for name, parts in found.items() if parts[1]}


def _listed(subscription: BlockSubscription) -> str:
    return ", ".join(subscription.observers)
