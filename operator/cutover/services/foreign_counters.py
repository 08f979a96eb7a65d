"""Counters that name the gateways and are of other scrape targets: they never count, and people are told of them.

Somebody forges them, or the gateways' own scrape job does not give its targets the labels by which they are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cutover.domain.evidence.scrapes import Result
from cutover.domain.texts import shorten
from cutover.ports.block_feed import Dialect
from cutover.ports.prometheus import Prometheus, unavailable_if_malformed

#: Characters of a label's value that are shown, as forged counters may have any value.
_LONGEST_NAME = 80


@dataclass(frozen=True, slots=True)
class ForeignCounters:
    """What is known of such counters.

    Parameters
    ----------
    counters
        How many there are, of the jobs and namespaces with the most.
    told
        Their targets in words, by the namespace that they name.
    """

    counters: int = 0
    told: Mapping[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """What there is, and what to do where these are the gateways; ``""`` if there are none."""
        if not self.told:
            return ""
        found = " and ".join(f"{told} name {namespace}" for namespace, told in self.told.items())
        return (
            f"{found}, and do not count: targets of the gateways have their namespace in the label namespace, and their pod in"
            " the label pod"
        )


async def read_foreign_counters(
    prometheus: Prometheus, dialect: Dialect, namespaces: Sequence[str], at: float
) -> ForeignCounters:
    """Look for counters that name gateways of some namespaces and are of other targets.

    Parameters
    ----------
    prometheus, dialect
        The server to query, and what to query.
    namespaces
        Namespaces of the gateways.
    at
        Unix seconds.

    Raises
    ------
    Unavailable
        If Prometheus does not answer.
    """
    result = await prometheus.query(dialect.foreign_counters(namespaces), at)
    with unavailable_if_malformed(dialect.labels.product):
        return foreign_counters_of(result, dialect.labels.claim)


def foreign_counters_of(result: Result, claim: str) -> ForeignCounters:
    """Return what an answer says, with the label in which counters name a namespace.

    Raises
    ------
    KeyError, TypeError, ValueError
        If the answer has another shape.
    """
    total, found = 0, dict[str, list[str]]()
    for item in result:
        labels, counters = item["metric"], int(float(item["value"][1]))
        total += counters
        where = f"namespace {labels['namespace']}" if labels.get("namespace") else "no namespace"
        told = f"{counters} counters of job {shorten(labels.get('job', ''), _LONGEST_NAME)} ({shorten(where, _LONGEST_NAME)})"
        found.setdefault(labels[claim], []).append(told)
    return ForeignCounters(total, {name: ", ".join(sorted(told)) for name, told in found.items()})
