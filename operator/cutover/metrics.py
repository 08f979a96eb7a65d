"""What the operator says of itself on ``/metrics``.

Gauges are read off the running loops when Prometheus scrapes, so that a reconcile costs nothing for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cutover.domain.plan import Plan

RECONCILES = Counter("cutover_reconciles", "Reconciles, of one plan each.")
RECONCILED_PLANS = Gauge("cutover_plans_reconciled", "Plans that this process has reconciled and still looks after.")
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


#: Labels of what is told of a plan.
_PLAN = ("namespace", "plan")


class Loop(Protocol):
    """What is exported of one plan's loop."""

    last_reconciled: float
    failing_since: float
    rollback_waits_since: float

    @property
    def plan(self) -> Plan | None:
        """The plan with its working status."""

    @property
    def rollbacks(self) -> int:
        """Rollbacks begun by this process."""


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


class SloQueryCounts(Protocol):
    """Counts of the queries for custom SLOs."""

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
        Counts of requests, of the queries for all plans, and of those for custom SLOs.
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
        own: SloQueryCounts,
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
        yield from self._plans()
        yield from self._dealings()

    def _plans(self) -> Iterable[Metric]:
        # At once: Prometheus' scrapes come in a thread of their own, while plans come and go.
        told = [
            ((plan.namespace, plan.name), plan.status, loop)
            for loop in tuple(self._loops())
            if (plan := loop.plan) is not None
        ]
        # One family after the other: each is written out before the next is made. And only what says something: a scrape
        # takes as long as there are series, and decisions wait meanwhile.
        yield _gauge(
            "cutover_phase",
            "1 for the phase that the plan is in.",
            (((*key, status.phase), 1.0) for key, status, _ in told),
            "phase",
        )
        yield _gauge(
            "cutover_held",
            "1 where the plan is held, with the reason.",
            (
                ((*key, one.reason), 1.0)
                for key, status, _ in told
                for one in status.conditions
                if one.type == "Held" and one.status == "True"
            ),
            "reason",
        )
        yield _gauge(
            "cutover_desired_weight_percent",
            "Percent of requests meant for EKS.",
            ((key, status.weight) for key, status, _ in told if status.weight is not None),
        )
        yield _gauge(
            "cutover_observed_share_percent",
            "Percent of requests seen on EKS.",
            ((key, status.share.observed) for key, status, _ in told if status.share is not None),
        )
        yield _gauge(
            "cutover_evidence_of_harm",
            "Evidence that EKS is worse; 1/falseRollbackRate rolls back.",
            ((key, status.evidence.harm) for key, status, _ in told if status.evidence is not None),
        )
        yield _gauge(
            "cutover_evidence_of_safety",
            "Least evidence over all gates that the next step is safe.",
            (
                (key, status.evidence.safety)
                for key, status, _ in told
                if status.evidence is not None and status.evidence.safety is not None
            ),
        )
        yield _gauge(
            "cutover_verdict",
            "1 for what the gate says.",
            (((*key, one.name, one.mode, one.verdict), 1.0) for key, status, _ in told for one in status.gates),
            *("gate", "mode", "verdict"),
        )
        yield _gauge(
            "cutover_last_reconcile_timestamp_seconds",
            "When the plan's last reconcile ended well.",
            ((key, loop.last_reconciled) for key, _, loop in told),
        )
        yield _gauge(
            "cutover_failing_since_timestamp_seconds",
            "Since when reconciles fail, where they do.",
            ((key, since) for key, _, loop in told if (since := loop.failing_since)),
        )
        yield _gauge(
            "cutover_rollback_waiting_since_timestamp_seconds",
            "Since when a rollback cannot be written to the route, where one waits.",
            ((key, since) for key, _, loop in told if (since := loop.rollback_waits_since)),
        )
        rollbacks = CounterMetricFamily("cutover_rollbacks", "Rollbacks begun by this process.", labels=_PLAN)
        # Also where there was none: for Prometheus, a count that appears has not risen.
        for key, _, loop in told:
            rollbacks.add_metric(key, loop.rollbacks)
        yield rollbacks

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
            "cutover_block_lateness_seconds",
            "How late the last blocks were read.",
            value=self._prometheus.lateness,
        )
        yield CounterMetricFamily("cutover_slo_queries", "Queries of the plans' custom SLOs.", value=self._own.queries)
        yield CounterMetricFamily(
            "cutover_slo_query_errors", "Queries of the plans' custom SLOs that failed.", value=self._own.errors
        )
        yield CounterMetricFamily(
            "cutover_slo_rounds_skipped",
            "Rounds of a plan's queries for custom SLOs that were left out because the round before was under way.",
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


def _gauge(name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], *more: str) -> Metric:
    """Return a gauge of plans, with more labels than those of a plan."""
    family = GaugeMetricFamily(name, text, labels=(*_PLAN, *more))
    for labels, value in values:
        family.add_metric(labels, value)
    return family
