"""The drain's counters: the selectors to query, and the meaning of their labels.

Only Heroku's leg is counted, by the app's name, and by each replica for the frames that came to it. The times are the
router's: they leave out TLS and the way through the Internet, which the gateways' times have. So thresholds that are chosen
here are for replays of this record.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from msgspec import field

from cutover.domain.evidence.answers import NOBODYS_CODES
from cutover.domain.evidence.counters import CounterLabels
from cutover.domain.evidence.selectors import bounds_matcher, matcher, other_than
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription

REQUESTS, TIMES = "heroku_router_requests_total", "heroku_router_service_seconds_bucket"
#: Of a process that is scraped, and of one of its counters that is always there.
SERVING = "heroku_drain_serving"
#: Messages that are in no count, and those that came long after they were written and are counted in a wrong block.
DROPPED, LATE = "heroku_drain_dropped_messages_total", "heroku_drain_late_messages_total"


class DrainLabels(CounterLabels, frozen=True, gc=False, kw_only=True):
    """The drain's names for the labels. Its ``le`` is in seconds."""

    product: ClassVar[str] = "the drain"
    observers: ClassVar[str] = "drains"

    leg: str = field(name="app")

    @staticmethod
    def milliseconds(le: str) -> float:
        """Return a bucket's bound in milliseconds. Raises ValueError."""
        return round(float(le) * 1000, 6)


@dataclass(frozen=True, slots=True)
class HerokuDrainDialect:
    """:class:`cutover.ports.block_feed.Dialect` of the drain's metrics. It has no EKS leg: it serves for records.

    Parameters
    ----------
    namespaces
        Where the drain runs.
    """

    namespaces: tuple[str, ...]
    labels: type[CounterLabels] = DrainLabels

    def subscription(self, plan: Plan) -> BlockSubscription:
        """Return where a plan's app is counted; without thresholds, and with ``since`` 0."""
        return BlockSubscription.of_plan(
            plan,
            heroku=plan.spec.heroku.app,
            eks="",
            observers=self.namespaces,
        )

    def presence(self, observers: Iterable[str]) -> str:
        """Return the selector that shows when the drain was scraped; other processes have an ``up`` there, too."""
        return _selector(SERVING, matcher("namespace", observers))

    def last_scrapes(self, observers: Iterable[str]) -> str:
        """Return the expression for the time of each replica's newest scrape."""
        return f"max by (instance, pod) (timestamp({self.presence(observers)}))"

    def foreign_counters(self, observers: Iterable[str]) -> str:
        """Return the expression that counts counters of drains in other namespaces."""
        return f"count by (namespace, job) ({_selector(REQUESTS, other_than('namespace', sorted(set(observers))))})"

    def counters(self, subscriptions: Sequence[BlockSubscription], legs: Iterable[str]) -> tuple[str, str]:
        """Return the selectors of requests, and of the buckets that matter."""
        observers = {name for one in subscriptions for name in one.observers}
        common = (matcher("namespace", observers), matcher("app", legs))
        bounds = {bound for one in subscriptions for bound in (one.slow_ms, one.very_slow_ms) if bound is not None}
        return _selector(REQUESTS, *common), _selector(TIMES, *common, bounds_matcher(b / 1000 for b in bounds))

    def losses(self, subscription: BlockSubscription) -> str:
        """Return the selector of the counters that rise in a block which is not whole."""
        return _selector(
            "",
            matcher("__name__", (DROPPED, LATE)),
            matcher("namespace", subscription.observers),
            matcher("app", [subscription.heroku]),
        )

    def heroku_latencies(self, subscription: BlockSubscription) -> str:
        """Return the selector of all buckets of an app."""
        return _selector(TIMES, matcher("namespace", subscription.observers), matcher("app", [subscription.heroku]))

    def dashboard_queries(self, subscription: BlockSubscription) -> Mapping[str, str]:
        """Return PromQL for dashboards, by name of the metric."""
        requests = _selector(REQUESTS, matcher("app", [subscription.heroku]), f'code!~"{NOBODYS_CODES}"')
        return {"heroku requests": f"sum by (code, error) (rate({requests}[5m]))"}


def _selector(metric: str, *matchers: str) -> str:
    return metric + "{" + ",".join(matchers) + "}"
