"""Counters of requests and latency buckets as Prometheus returns them; a dialect names the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from msgspec import Struct, convert

#: Code of a request whose client disconnected before the answer. It counts for neither leg.
CLIENT_GONE = "0"


class CounterLabels(Struct, frozen=True, gc=False, kw_only=True):
    """The labels of a counter that the judge needs, of some thirty; ``""`` for a label that is missing.

    A dialect derives from this class, and names the label of each of the first four fields by ``msgspec.field(name=...)``.

    Parameters
    ----------
    leg
        The name under which a leg's requests are counted.
    namespace
        Namespace of the process that counted.
    code
        HTTP status of the answers, or :data:`CLIENT_GONE`; ``""`` if a bucket has no such label.
    le
        Upper bound of a latency bucket; ``""`` for a counter of requests.
    """

    #: Name of the product that has these metrics, for people.
    product: ClassVar[str] = "the provider"

    leg: str
    namespace: str = ""
    code: str = ""
    le: str = ""
    pod: str = ""
    instance: str = ""
    job: str = ""
    prometheus_replica: str = ""
    replica: str = ""
    __replica__: str = ""

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
        return cls(convert(item["metric"], labels), samples)
