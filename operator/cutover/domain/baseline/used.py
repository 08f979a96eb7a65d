"""What the app used, hour by hour, beside its requests: memory and load of its dynos, and connections to its databases.

All of it is for people and for advice. No gate compares it, and a record without it is whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median
from typing import NamedTuple

from cutover.domain.dynos import DynoUse


class Quantity(StrEnum):
    """What is measured; a query for each, whose results have it as their label ``what``."""

    MEMORY = "memory"
    """Most bytes of a web dyno or, of EKS, of a Pod."""
    QUOTA = "memory-quota"
    """Bytes that a web dyno may use."""
    LOAD = "load"
    """Load that the busiest web dyno stayed below for 95 % of the time; of EKS the CPUs that the busiest Pod used."""
    CONNECTIONS = "connections"
    """Most connections of a database, by its add-on."""
    CONNECTION_LIMIT = "connection-limit"
    """Connections that a database allows, by its add-on."""
    VERSION = "release"
    """Number of the newest release; 0 where none was made since the drain began."""
    DNS = "dns"
    """Questions per second to the cluster's DNS, of all that runs there."""
    THROTTLED = "throttled"
    """Fraction of the periods in which a container of the workload was stopped for its CPU limit, of the worst one."""


def one_query(queries: Mapping[Quantity, str]) -> str:
    """Return one query for several, whose results say by their label ``what`` which they are of."""
    return " or ".join(f'label_replace({query}, "what", "{what}", "", "")' for what, query in queries.items())


class Used(NamedTuple):
    """What was used in an hour; ``None`` where nothing tells.

    Parameters
    ----------
    memory, quota, load, connections, connection_limit, version, dns, throttled
        As :class:`Quantity` says.
    database
        The add-on with the most connections; ``""`` where there are none.
    """

    memory: float | None = None
    quota: float | None = None
    load: float | None = None
    connections: float | None = None
    connection_limit: float | None = None
    database: str = ""
    version: int | None = None
    dns: float | None = None
    throttled: float | None = None


#: Of an hour of which nothing is known.
NOTHING = Used()


@dataclass(frozen=True, slots=True)
class Summary:
    """A quantity over all hours of which it is known.

    Parameters
    ----------
    usual
        The median of the hours.
    most
        The most of an hour.
    at
        Which hour that was, by its number in the record.
    hours
        Of how many hours it is known.
    """

    usual: float
    most: float
    at: int
    hours: int


def summary(values: Sequence[float | None]) -> Summary | None:
    """Return the summary of a quantity by the hour; ``None`` where it is known of none."""
    known = [(value, number) for number, value in enumerate(values) if value is not None]
    if not known:
        return None
    most, at = max(known, key=lambda one: (one[0], -one[1]))
    return Summary(median(value for value, _ in known), most, at, len(known))


def most_of(hours: Iterable[Used]) -> Used:
    """Return the most of each quantity; the limit and the name are of the database with the most connections."""
    every = list(hours)
    busiest = max(every, key=lambda one: one.connections if one.connections is not None else -1.0, default=NOTHING)
    memory, quota, load, dns, throttled = (
        max((value for value in values if value is not None), default=None)
        for values in (
            [one.memory for one in every],
            [one.quota for one in every],
            [one.load for one in every],
            [one.dns for one in every],
            [one.throttled for one in every],
        )
    )
    return Used(
        memory=memory,
        quota=quota,
        load=load,
        connections=busiest.connections,
        connection_limit=busiest.connection_limit,
        database=busiest.database,
        dns=dns,
        throttled=throttled,
    )


def with_record(use: DynoUse | None, most: Used) -> DynoUse | None:
    """Return what a web dyno uses, with the most memory of the record, which reaches further back.

    Parameters
    ----------
    use
        What is known of the last days; ``None`` if nothing is, and then the record alone says nothing either, as it has no
        95th percentile.
    most
        What the record has.
    """
    if use is None or most.memory is None or most.memory <= use.most_memory:
        return use
    return DynoUse(use.memory, most.memory, use.load)
