"""Counters of requests and latency buckets as Prometheus gives them, with a dialect's names for the labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

from msgspec import Struct, convert

#: The code of a request whose client went away before it was answered: it is in neither leg.
CLIENT_GONE = "0"


class CounterLabels(Struct, frozen=True, gc=False, kw_only=True):
    """The labels of a counter that matter, of some thirty; ``""`` where it has none of that name.

    A dialect derives from it and says by ``msgspec.field(name=...)`` which label each of the first four is.

    Parameters
    ----------
    leg
        The name under which a leg's requests are counted.
    namespace
        Where the process runs that counted.
    code
        HTTP status of the answers, or :data:`CLIENT_GONE`; ``""`` where buckets do not tell.
    le
        Upper bound of a latency bucket; ``""`` for a counter of requests.
    """

    #: What people call the product whose metrics these are.
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
        """Return the bound that an ``le`` stands for. Raises ValueError."""
        return float(le)


L = TypeVar("L", bound=CounterLabels, covariant=True)


class Counter(Struct, Generic[L], frozen=True, gc=False):
    """A counter as Prometheus gives it, with the time in Unix seconds and the value of each sample.

    The client decodes answers straight into these, without what the labels do not name. None can be in a reference cycle,
    so the garbage collector need not look at the tens of thousands of a reconcile (``gc``).
    """

    metric: L
    values: list[tuple[float, float]]

    @classmethod
    def of(cls, item: Mapping[str, Any], labels: type[L]) -> Self:
        """Read one series of a `Result`. Raises KeyError, TypeError, ValueError if it is not of a range selector."""
        samples = [(float(at), float(value)) for at, value in item["values"]]
        return cls(convert(item["metric"], labels), samples)
