"""Counters of requests and latency buckets as Prometheus returns them; a dialect names the labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from msgspec import Struct, convert

#: Labels whose value is the same for all gateways of one cluster.
PLACE_LABELS = (
    "cluster",
    "cluster_name",
    "cluster_id",
    "k8s_cluster_name",
    "environment",
    "env",
    "region",
)


class CounterLabels(Struct, frozen=True, gc=False, kw_only=True):
    """The labels of a counter that the judge needs, of some thirty; ``""`` for a label that is missing.

    A dialect derives from this class, and names the labels of the leg and of the code by ``msgspec.field(name=...)``. The others
    are Prometheus' own.

    Parameters
    ----------
    leg
        The name under which a leg's requests are counted.
    code
        HTTP status of the answers (0: the client disconnected before); ``""`` if a bucket has no such label.
    le
        Upper bound of a latency bucket; ``""`` for a counter of requests.
    namespace, pod, instance, job, prometheus_replica, replica, __replica__
        The scrape target. Only these say whose counter it is: whatever else is in a counter, its process writes.
    cluster, cluster_name, cluster_id, k8s_cluster_name, environment, env, region
        Labels by which servers with the metrics of several clusters tell them apart; see :data:`PLACE_LABELS`.
    """

    #: Name of the product that has these metrics, for people.
    product: ClassVar[str] = "the provider"
    #: What counts the requests, for people.
    observers: ClassVar[str] = "gateways"
    #: Label by which a process says of which namespace it is. It may say anything.
    claim: ClassVar[str] = "namespace"

    leg: str
    code: str = ""
    le: str = ""
    namespace: str = ""
    pod: str = ""
    instance: str = ""
    job: str = ""
    prometheus_replica: str = ""
    replica: str = ""
    __replica__: str = ""
    cluster: str = ""
    cluster_name: str = ""
    cluster_id: str = ""
    k8s_cluster_name: str = ""
    environment: str = ""
    env: str = ""
    region: str = ""

    @staticmethod
    def milliseconds(le: str) -> float:
        """Return a bucket's bound in milliseconds, by its ``le``. Raises ValueError."""
        return float(le)


L = TypeVar("L", bound=CounterLabels, covariant=True)


class Counter(Struct, Generic[L], frozen=True, gc=False):
    """A counter as Prometheus returns it, with the time in Unix seconds and the value of each sample.

    The client decodes answers straight into these objects and drops other labels. They are never in a reference cycle, so
    the garbage collector does not track the tens of thousands in a reconcile (``gc``).
    """

    metric: L
    values: list[tuple[float, float]]

    @classmethod
    def of(cls, item: Mapping[str, Any], labels: type[L]) -> Self:
        """Read one series of a `Result`. Raises KeyError, TypeError, ValueError if it is not from a range selector."""
        samples = [(float(at), float(value)) for at, value in item["values"]]
        if not all(math.isfinite(at) for at, _ in samples):
            raise ValueError("a sample has no time")
        return cls(convert(item["metric"], labels), samples)
