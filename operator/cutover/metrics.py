"""What the operator says of itself on ``/metrics``.

Gauges are read off the running loops when Prometheus scrapes, so that a pass costs nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cutover.api.v1alpha1 import Phase
from cutover.core.observation import Plan

PASSES = Counter("cutover_passes", "Passes over plans, one plan each.")
LOOKED_AT = Gauge("cutover_plans_looked_at", "Plans that this process has made a pass over and still looks after.")
_DELAYS = (0.5, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 5.0, 10.0, 20.0, 60.0, 300.0)
DECISION_DELAY = Histogram(
    "cutover_decision_delay_seconds",
    "From the end of a block to the decision on it, with what the decision wrote.",
    buckets=_DELAYS,
)
JUDGING_DELAY = Histogram(
    "cutover_judging_delay_seconds",
    "From the end of a block to the decision on it, before anything of it is written.",
    buckets=_DELAYS,
)


class Loop(Protocol):
    """What is exported of one plan's loop."""

    last_tick: float
    failing_since: float
    rollback_waits_since: float
    rollbacks: int

    @property
    def plan(self) -> Plan | None:
        """The plan with its working status."""


class Requests(Protocol):
    """Counts of requests to the API server."""

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests made, by verb."""

    @property
    def errors(self) -> Mapping[str, int]:
        """Requests that failed, by cause."""


class Queries(Protocol):
    """Counts of queries to Prometheus."""

    @property
    def queries(self) -> int:
        """Queries asked."""

    @property
    def errors(self) -> int:
        """Queries that failed."""

    @property
    def last_success(self) -> float:
        """Unix seconds of the last answer."""

    @property
    def lateness(self) -> float:
        """Seconds by which the last blocks were read late."""


class OwnQueryCounts(Protocol):
    """Counts of the plans' own queries."""

    queries: int
    errors: int
    rounds_skipped: int


class Sent(Protocol):
    """What one receiver of notifications was sent."""

    sent: int
    failures: int

    @property
    def dropped(self) -> Mapping[Any, int]:
        """Notices that it was not told, by cause."""

    @property
    def waiting(self) -> int:
        """Notices that are to be sent."""


class OperatorCollector(Collector):
    """Collects the state of all plans and of the operator's own dealings.

    Parameters
    ----------
    loops
        Returns the plans' loops.
    api, prometheus, own
        Counts of requests, of the queries for all plans, and of the plans' own.
    skews
        Returns by how many seconds each Prometheus' clock is ahead, by name.
    leading
        Whether this process acts, or waits for another one to end.
    receivers
        Returns what was sent to the receivers of notifications, by name.
    """

    def __init__(
        self,
        loops: Callable[[], Iterable[Loop]],
        api: Requests,
        prometheus: Queries,
        own: OwnQueryCounts,
        skews: Callable[[], Mapping[str, float]],
        leading: Callable[[], bool] = lambda: True,
        receivers: Callable[[], Mapping[str, Sent]] = dict,
    ) -> None:
        self._loops = loops
        self._api = api
        self._prometheus = prometheus
        self._own = own
        self._skews = skews
        self._leading = leading
        self._receivers = receivers

    def describe(self) -> Iterable[Metric]:
        """Return nothing: names are not checked for conflicts before there are plans."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Read the loops."""
        labels = ("namespace", "plan")
        phase = GaugeMetricFamily("cutover_phase", "1 for the phase that the plan is in.", labels=(*labels, "phase"))
        held = GaugeMetricFamily(
            "cutover_held", "1 where the plan is held, with the reason.", labels=(*labels, "reason")
        )
        weight = GaugeMetricFamily(
            "cutover_desired_weight_percent", "Percent of requests meant for EKS.", labels=labels
        )
        share = GaugeMetricFamily("cutover_observed_share_percent", "Percent of requests seen on EKS.", labels=labels)
        harm = GaugeMetricFamily(
            "cutover_evidence_of_harm", "Evidence that EKS is worse; 1/falseRollbackRate rolls back.", labels=labels
        )
        safety = GaugeMetricFamily(
            "cutover_evidence_of_safety", "Least evidence over all gates that the next step is safe.", labels=labels
        )
        verdict = GaugeMetricFamily(
            "cutover_verdict", "1 for what the gate says.", labels=(*labels, "gate", "mode", "verdict")
        )
        tick = GaugeMetricFamily(
            "cutover_last_tick_timestamp_seconds", "When the plan's last pass ended well.", labels=labels
        )
        failing = GaugeMetricFamily(
            "cutover_failing_since_timestamp_seconds", "Since when passes fail; 0 where they do not.", labels=labels
        )
        waiting = GaugeMetricFamily(
            "cutover_rollback_waiting_since_timestamp_seconds",
            "Since when a rollback cannot be written to the route; 0 where none waits.",
            labels=labels,
        )
        rollbacks = CounterMetricFamily("cutover_rollbacks", "Rollbacks begun by this process.", labels=labels)
        # At once: Prometheus' scrapes come in a thread of their own, while plans come and go.
        for loop in tuple(self._loops()):
            plan = loop.plan
            if plan is None:
                continue
            key, status = (plan.namespace, plan.name), plan.status
            for name in Phase:
                phase.add_metric((*key, name), float(status.phase is name))
            hold = next((c for c in status.conditions if c.type == "Held" and c.status == "True"), None)
            if hold is not None:
                held.add_metric((*key, hold.reason), 1.0)
            if status.weight is not None:
                weight.add_metric(key, status.weight)
            if status.share is not None:
                share.add_metric(key, status.share.observed)
            if status.evidence is not None:
                harm.add_metric(key, status.evidence.harm)
                safety.add_metric(key, status.evidence.safety)
            for one in status.gates:
                verdict.add_metric((*key, one.name, one.mode, one.verdict), 1.0)
            tick.add_metric(key, loop.last_tick)
            failing.add_metric(key, loop.failing_since)
            waiting.add_metric(key, loop.rollback_waits_since)
            rollbacks.add_metric(key, loop.rollbacks)
        yield from (phase, held, weight, share, harm, safety, verdict, tick, failing, waiting, rollbacks)
        yield from self._dealings()

    def _dealings(self) -> Iterable[Metric]:
        requests = CounterMetricFamily("cutover_api_requests", "Requests to the API server.", labels=("verb",))
        for verb, count in dict(self._api.requests).items():
            requests.add_metric((verb,), count)
        errors = CounterMetricFamily(
            "cutover_api_errors", "Requests to the API server that failed.", labels=("cause",)
        )
        for cause, count in dict(self._api.errors).items():
            errors.add_metric((cause,), count)
        yield GaugeMetricFamily(
            "cutover_leader",
            "1 where this process acts, 0 where it waits for the lease.",
            value=float(self._leading()),
        )
        yield requests
        yield errors
        yield CounterMetricFamily(
            "cutover_prometheus_queries", "Queries to Prometheus.", value=self._prometheus.queries
        )
        yield CounterMetricFamily(
            "cutover_prometheus_errors", "Queries to Prometheus that failed.", value=self._prometheus.errors
        )
        yield GaugeMetricFamily(
            "cutover_prometheus_last_success_timestamp_seconds",
            "When Prometheus last answered.",
            value=self._prometheus.last_success,
        )
        yield GaugeMetricFamily(
            "cutover_tick_lateness_seconds",
            "How late the last blocks were read.",
            value=self._prometheus.lateness,
        )
        yield CounterMetricFamily("cutover_own_queries", "The plans' own queries.", value=self._own.queries)
        yield CounterMetricFamily(
            "cutover_own_query_errors", "The plans' own queries that failed.", value=self._own.errors
        )
        yield CounterMetricFamily(
            "cutover_own_rounds_skipped",
            "Rounds of a plan's own queries that did not take place because the one before was under way.",
            value=self._own.rounds_skipped,
        )
        skew = GaugeMetricFamily(
            "cutover_prometheus_clock_skew_seconds",
            "By how much a Prometheus' clock is ahead of the operator's; it is corrected for.",
            labels=("source",),
        )
        for name, seconds in self._skews().items():
            skew.add_metric((name,), seconds)
        yield skew
        yield from self._notifications()

    def _notifications(self) -> Iterable[Metric]:
        labels = ("receiver",)
        sent = CounterMetricFamily("cutover_notifications_sent", "Decisions that a receiver was told.", labels=labels)
        failed = CounterMetricFamily(
            "cutover_notification_failures", "Requests to a receiver that failed.", labels=labels
        )
        waiting = GaugeMetricFamily(
            "cutover_notifications_waiting", "Decisions that a receiver is still to be told.", labels=labels
        )
        dropped = CounterMetricFamily(
            "cutover_notifications_dropped",
            "Decisions that a receiver was not told: refused by it, too many, or too old.",
            labels=(*labels, "cause"),
        )
        for name, one in self._receivers().items():
            sent.add_metric((name,), one.sent)
            failed.add_metric((name,), one.failures)
            waiting.add_metric((name,), one.waiting)
            for cause, count in dict(one.dropped).items():
                dropped.add_metric((name, cause), count)
        yield from (sent, failed, waiting, dropped)
