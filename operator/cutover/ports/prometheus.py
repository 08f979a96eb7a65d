"""Queries to Prometheus."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Protocol

from cutover.domain.evidence.counters import Counter, L
from cutover.domain.evidence.scrapes import Result
from cutover.ports.errors import QueryFailed


class Prometheus(Protocol):
    """One Prometheus server, or a server that speaks its API."""

    @property
    def skew(self) -> float:
        """Seconds by which the server's clock is ahead of the operator's, as last measured."""

    async def compare_clocks(self) -> None:
        """Measure the skew. Raises Unavailable."""

    async def query(self, promql: str, at: float) -> Result:
        """Evaluate an expression at a time in Unix seconds. Raises QueryRefused, QueryFailed, Unavailable."""

    async def counters(self, selector: str, at: float, labels: type[L]) -> Sequence[Counter[L]]:
        """Return the counters of a range selector, at a fraction of what :meth:`query` costs. Raises Unavailable."""

    async def query_range(self, promql: str, start: float, end: float, step: float) -> Result:
        """Evaluate an expression from ``start`` to ``end`` every ``step`` seconds. Raises QueryRefused, Unavailable."""


@contextlib.contextmanager
def unavailable_if_malformed(product: str) -> Iterator[None]:
    """Raise QueryFailed where an answer of Prometheus does not have the expected shape.

    Parameters
    ----------
    product
        The product whose metric was queried, for the error's text.
    """
    try:
        yield
    except (LookupError, TypeError, ArithmeticError, AttributeError, ValueError) as error:
        raise QueryFailed(f"Prometheus' answer is not understood: is the metric {product}'s?") from error
