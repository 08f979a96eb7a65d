"""The operator's own metrics on ``/metrics``.

Gauges are read from the running loops when Prometheus scrapes, so that they cost a reconcile nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cutover.api.deferred import outline
from cutover.domain.evidence.tolerances import thresholds
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription

RECONCILES = Counter("cutover_reconciles", "Reconciles, of one plan each.")
RECONCILED_PLANS = Gauge("cutover_plans_reconciled", "Plans that this process has reconciled and still manages.")
_DELAYS = (0.5, 1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 1.8, 2.0, 2.5, 3.0, 5.0, 10.0, 20.0, 60.0, 300.0)
DECISION_DELAY = Histogram(
    "cutover_decision_delay_seconds",
    "From the end of a block to the end of the decision on it, including its writes.",
    buckets=_DELAYS,
)
JUDGING_DELAY = Histogram(
    "cutover_judging_delay_seconds",
    "From the end of a block to the decision on it, before its writes.",
    buckets=_DELAYS,
)


#: Labels of a plan's metrics.
_PLAN = ("namespace", "plan")
#: Labels by which dashboards find what others export of a plan.
_INFO = ("app", "workload", "heroku_service", "eks_service", "gateway_namespaces", "slow_ms", "very_slow_ms")


class Loop(Protocol):
    """The exported state of one plan's loop."""

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
    """Counts of requests to the API server, or to Heroku's API."""

    @property
    def requests(self) -> Mapping[str, int]:
        """Requests made, by verb, or by what was asked for."""

    @property
    def errors(self) -> Mapping[str, int]:
        """Requests that failed, by cause."""


class Queries(Protocol):
    """Counts of queries to Prometheus."""

    @property
    def queries(self) -> int:
        """Queries made."""

    @property
    def errors(self) -> int:
        """Queries that failed."""

    @property
    def refused(self) -> int:
        """Counters that named gateways and were of other scrape targets, each time they were seen."""

    @property
    def last_success(self) -> float:
        """Unix seconds of the last answer."""

    @property
    def lateness(self) -> float:
        """Seconds by which the last blocks were read late."""


class SloQueryCounts(Protocol):
    """Counts of the queries for custom SLOs."""

    rounds_skipped: int

    @property
    def queries(self) -> int:
        """Queries made."""

    @property
    def errors(self) -> int:
        """Queries that failed."""

    @property
    def rounds_late(self) -> int:
        """Rounds that began late, because no slot was free."""

    @property
    def late_samples(self) -> int:
        """Samples that became visible after their block was read."""


class Sent(Protocol):
    """Counts of one receiver's notifications."""

    sent: int
    failures: int

    @property
    def dropped(self) -> Mapping[Any, int]:
        """Notices that were dropped, by cause."""

    @property
    def waiting(self) -> int:
        """Notices in the queue."""


class Kept(Protocol):
    """Counts of reports of plans that ended, by the kind of the store."""

    @property
    def written(self) -> Mapping[str, int]:
        """Reports that were written."""

    @property
    def failed(self) -> Mapping[str, int]:
        """Reports that could not be written."""


class OperatorCollector(Collector):
    """Collects the state of all plans, and counts of the operator's requests.

    Parameters
    ----------
    loops
        Returns the plans' loops.
    api, prometheus, custom_slos
        Counts of requests to the API server, of the queries for blocks, and of those for custom SLOs.
    skews
        Returns the seconds by which each Prometheus server's clock is ahead, by name.
    leading
        Returns whether this process acts; otherwise it waits for the lease.
    receivers
        Returns the counts of the receivers of notifications, by name.
    counted
        Returns where a plan's requests are counted; ``None`` where nothing is known of it.
    heroku
        Counts of requests to Heroku's API; ``None`` for none.
    reports
        Counts of reports; ``None`` where none are kept.
    """

    def __init__(
        self,
        loops: Callable[[], Iterable[Loop]],
        api: Requests,
        prometheus: Queries,
        custom_slos: SloQueryCounts,
        skews: Callable[[], Mapping[str, float]],
        leading: Callable[[], bool] = lambda: True,
        receivers: Callable[[], Mapping[str, Sent]] = dict,
        counted: Callable[[Plan], BlockSubscription | None] = lambda _: None,
        heroku: Requests | None = None,
        reports: Kept | None = None,
    ) -> None:
        self._loops = loops
        self._api = api
        self._prometheus = prometheus
        self._custom_slos = custom_slos
        self._skews = skews
        self._leading = leading
        self._receivers = receivers
        self._counted = counted
        self._heroku = heroku
        self._reports = reports

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that registering does not collect before there are plans."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        yield from self._plans()
        yield from self._requests()

    def _plans(self) -> Iterable[Metric]:
        # Copied at once: Prometheus' scrapes run in a thread of their own, while plans come and go.
        loops = tuple(self._loops())
        told = [((plan.namespace, plan.name), plan.status, loop) for loop in loops if (plan := loop.plan) is not None]
        # One family after the other: each is written out before the next is built. Only series with a meaning: a scrape takes
        # time for each series, and decisions wait meanwhile.
        yield _gauge(
            "cutover_phase",
            "1 for the plan's phase.",
            (((*key, status.phase), 1.0) for key, status, _ in told),
            "phase",
        )
        yield _gauge(
            "cutover_plan_info",
            "1: where the plan's requests are counted, and its latency thresholds in milliseconds once they are known.",
            (
                (_info(plan, counted), 1.0)
                for loop in loops
                if (plan := loop.plan) is not None and plan.has_spec and (counted := self._counted(plan)) is not None
            ),
            *_INFO,
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
            "cutover_trouble",
            "0: none, 1: the plan waits, 2: somebody should look, 3: users may be harmed.",
            ((key, status.trouble) for key, status, _ in told),
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
            "Evidence that EKS is worse; at 1/falseRollbackRate the plan rolls back, or holds with onBreach: Hold.",
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
            "1 for the gate's verdict.",
            (
                ((*key, one.name, one.mode, one.verdict), 1.0)
                for key, status, _ in told
                for one in outline(status.gates)
            ),
            *("gate", "mode", "verdict"),
        )
        yield _gauge(
            "cutover_last_reconcile_timestamp_seconds",
            "When the plan's last reconcile succeeded.",
            ((key, loop.last_reconciled) for key, _, loop in told),
        )
        yield _gauge(
            "cutover_failing_since_timestamp_seconds",
            "Since when reconciles fail, where they do.",
            ((key, since) for key, _, loop in told if (since := loop.failing_since)),
        )
        yield _gauge(
            "cutover_rollback_waiting_since_timestamp_seconds",
            "Since when a rollback cannot be written to the route, where a rollback waits.",
            ((key, since) for key, _, loop in told if (since := loop.rollback_waits_since)),
        )
        yield _gauge(
            "cutover_heroku_api_unavailable",
            "1 where Heroku's API does not say what runs there during the plan's cutover.",
            ((key, 1.0) for key, status, _ in told if status.releases is not None and status.releases.problem),
        )
        rollbacks = CounterMetricFamily("cutover_rollbacks", "Rollbacks begun by this process.", labels=_PLAN)
        # Also 0: for Prometheus, a counter that appears has not risen.
        for key, _, loop in told:
            rollbacks.add_metric(key, loop.rollbacks)
        yield rollbacks

    def _requests(self) -> Iterable[Metric]:
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
        yield from self._heroku_requests()
        yield CounterMetricFamily(
            "cutover_prometheus_queries", "Queries to Prometheus.", value=self._prometheus.queries
        )
        yield CounterMetricFamily(
            "cutover_prometheus_errors", "Queries to Prometheus that failed.", value=self._prometheus.errors
        )
        yield CounterMetricFamily(
            "cutover_refused_counters",
            "Counters refused, as they name a plan's gateways but come from other scrape targets; counted each time they are seen.",
            value=self._prometheus.refused,
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
        yield CounterMetricFamily(
            "cutover_slo_queries", "Queries of the plans' custom SLOs.", value=self._custom_slos.queries
        )
        yield CounterMetricFamily(
            "cutover_slo_query_errors",
            "Queries of the plans' custom SLOs that failed.",
            value=self._custom_slos.errors,
        )
        yield CounterMetricFamily(
            "cutover_slo_rounds_skipped",
            "Rounds of a plan's queries for custom SLOs that were skipped because the previous round was under way.",
            value=self._custom_slos.rounds_skipped,
        )
        yield CounterMetricFamily(
            "cutover_slo_rounds_late",
            "Rounds of a plan's queries for custom SLOs that began late because others had not ended.",
            value=self._custom_slos.rounds_late,
        )
        yield CounterMetricFamily(
            "cutover_slo_late_samples",
            "Times that samples for custom SLOs became visible after their block was read.",
            value=self._custom_slos.late_samples,
        )
        skew = GaugeMetricFamily(
            "cutover_prometheus_clock_skew_seconds",
            "Seconds by which a Prometheus server's clock is ahead of the operator's; the operator corrects for it.",
            labels=("source",),
        )
        for name, seconds in self._skews().items():
            skew.add_metric((name,), seconds)
        yield skew
        yield from self._notifications()
        yield from self._kept_reports()

    def _heroku_requests(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "cutover_heroku_api_requests", "Requests to Heroku's API, by what was asked for.", labels=("what",)
        )
        errors = CounterMetricFamily(
            "cutover_heroku_api_errors", "Requests to Heroku's API without a usable answer.", labels=("cause",)
        )
        if self._heroku is not None:
            for what, count in dict(self._heroku.requests).items():
                requests.add_metric((what,), count)
            for cause, count in dict(self._heroku.errors).items():
                errors.add_metric((cause,), count)
        yield from (requests, errors)

    def _kept_reports(self) -> Iterable[Metric]:
        written = CounterMetricFamily(
            "cutover_reports_written", "Reports of plans that ended, by where they are kept.", labels=("store",)
        )
        failed = CounterMetricFamily(
            "cutover_report_failures", "Reports that could not be written there.", labels=("store",)
        )
        if self._reports is not None:
            for family, counts in ((written, self._reports.written), (failed, self._reports.failed)):
                for store, count in dict(counts).items():
                    family.add_metric((store,), count)
        yield written
        yield failed

    def _notifications(self) -> Iterable[Metric]:
        labels = ("receiver",)
        sent = CounterMetricFamily(
            "cutover_notifications_sent", "Decisions that were sent to a receiver.", labels=labels
        )
        failed = CounterMetricFamily(
            "cutover_notification_failures", "Requests to a receiver that failed.", labels=labels
        )
        waiting = GaugeMetricFamily(
            "cutover_notifications_waiting", "Decisions that wait to be sent to a receiver.", labels=labels
        )
        dropped = CounterMetricFamily(
            "cutover_notifications_dropped",
            "Decisions that were not sent to a receiver: refused by it, too many, or too old.",
            labels=(*labels, "cause"),
        )
        for name, one in self._receivers().items():
            sent.add_metric((name,), one.sent)
            failed.add_metric((name,), one.failures)
            waiting.add_metric((name,), one.waiting)
            for cause, count in dict(one.dropped).items():
                dropped.add_metric((name, cause), count)
        yield from (sent, failed, waiting, dropped)


def _info(plan: Plan, counted: BlockSubscription) -> tuple[str, ...]:
    """Return the values of the labels of a plan's information; one that is not known yet is empty, as for Prometheus."""
    return (
        *(plan.namespace, plan.name),
        *(plan.spec.heroku.app, plan.spec.eks.workload_ref.name),
        *(counted.heroku, counted.eks),
        "|".join(counted.observers),
        *("" if bound is None else f"{bound:g}" for bound in thresholds(plan.spec, plan.status)),
    )


def _gauge(name: str, text: str, values: Iterable[tuple[tuple[str, ...], float]], *more: str) -> Metric:
    """Return a gauge with the labels of a plan and more."""
    family = GaugeMetricFamily(name, text, labels=(*_PLAN, *more))
    for labels, value in values:
        family.add_metric(labels, value)
    return family
