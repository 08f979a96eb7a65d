"""What the users' own record says of a cutover."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from demoapps.records import Record
from devstack.api import fetch
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import Json

#: The gate's thresholds, named where a scenario has no use for a minute of baseline.
NAMED = {
    "block": "5s",
    "warmUp": "5s",
    "slos": [{"name": "errors", "errors": {}}, {"name": "latency", "latency": {"slowMs": 100, "verySlowMs": 1000}}],
}
#: The same where other stacks use the cores: answers that only wait for a core are not slow.
UNHURRIED = {
    **NAMED,
    "slos": [{"name": "errors", "errors": {}}, {"name": "latency", "latency": {"slowMs": 500, "verySlowMs": 2500}}],
}


def plan(service: str, gates: Json = NAMED, **overrides: object) -> Json:
    """Return a plan that needs no baseline to find its thresholds."""
    return manifests.plan(service, gates=gates, **overrides)


def at_weight(environment: Environment, service: str, weight: int, seconds: float = 300) -> None:
    """Wait until a weight has been seen at the gateway and is being judged."""

    def seen() -> bool:
        status = environment.status(service)
        if status.get("phase") in ("RolledBack", "RollingBack") or (status.get("weight") or 0) > weight:
            raise AssertionError(f"{service} is past {weight} %: {status.get('phase')} {status.get('message')}")
        return status.get("weight") == weight and bool(status.get("checkpoint", {}).get("observedAt"))

    environment.until(f"{service} at {weight} %", seen, seconds)


@dataclass(frozen=True)
class Rescue:
    """From the onset of harm to the first request on the way back, as users saw it.

    Parameters
    ----------
    seconds
        Unix seconds of the onset until the gateway answered from the rolled-back route.
    harmed
        Requests meanwhile that failed or were slow.
    """

    seconds: float
    harmed: int

    def __str__(self) -> str:
        return f"weight 0 at the gateway after {self.seconds:.1f} s, {self.harmed} requests harmed"


def rescue(environment: Environment, service: str, onset: float, *, slow_s: float = math.inf) -> Rescue:
    """Read the users' record of a rollback. Raises AssertionError where there was none."""
    host = manifests.public_host(service)
    load = environment.load
    assert load is not None
    load.settle(time.time() - 1, host, timeout_s=60)
    records = load.records(host, onset)
    back = next((record.at for record in records if record.revision.endswith("-rollback")), None)
    assert back is not None, f"{service}: no request was answered by the rolled-back route"
    return Rescue(back - onset, sum(harmed(record, slow_s) for record in records if record.at <= back))


def harmed(record: Record, slow_s: float) -> bool:
    """Tell whether a user would complain about a request."""
    return record.judged and (record.failed or record.latency > slow_s)


def within_sampling_bounds(eks: int, total: int, weight: int) -> bool:
    """Tell whether a count of requests fits a weight: four standard errors of the binomial."""
    expected = weight / 100
    return abs(eks / total - expected) <= 4 * math.sqrt(max(expected * (1 - expected), 1e-4) / total)


@dataclass(frozen=True)
class Judged:
    """How many requests the operator judged in a step, beside how many there were.

    Parameters
    ----------
    samples
        Requests of both legs, by the operator's own count.
    sent
        Requests that ended while it counted, by the users' record.
    most
        The same, and those of one scrape interval before: a scrape brings what was since the one before it.
    """

    samples: int
    sent: int
    most: int

    def __str__(self) -> str:
        return f"{self.samples:,} requests judged of {self.sent:,}"


def judged_until(environment: Environment, service: str, until: float, seconds: float = 90) -> Judged:
    """Wait for a checkpoint of the current step after a time (unix seconds), and compare it with the users' record."""

    def written() -> bool:
        return bool(environment.status(service)["checkpoint"]["consumedUntil"] >= until)

    environment.until(f"{service}: a checkpoint", written, seconds)
    status, load = environment.status(service), environment.load
    assert load is not None
    since, end = status["checkpoint"]["observedAt"], status["checkpoint"]["consumedUntil"]
    host = manifests.public_host(service)
    load.settle(end, host, timeout_s=60)
    # A minute earlier, for those that took long.
    ends = [record.at + record.latency for record in load.records(host, since - 60, end) if record.judged]
    scrape = environment.stack.scrape_interval_seconds
    return Judged(
        samples=next(gate["samples"] for gate in status["gates"] if gate["name"] == "errors"),
        sent=sum(since <= at <= end for at in ends),
        most=sum(since - scrape <= at <= end for at in ends),
    )


def told(environment: Environment, service: str, metric: str) -> dict[str, float]:
    """Return what the operator's own metrics say of a plan, by the value of the label that sets series apart, if any.

    Raises OSError where the operator does not answer.
    """
    text = fetch(f"http://127.0.0.1:{environment.metrics_port}/metrics").decode()
    samples = (
        sample for family in text_string_to_metric_families(text) for sample in family.samples if sample.name == metric
    )
    return {
        "".join(
            value for name, value in sorted(sample.labels.items()) if name not in ("namespace", "plan")
        ): sample.value
        for sample in samples
        if sample.labels.get("plan") == service
    }


def failed(environment: Environment, service: str, since: float) -> list[Record]:
    """Return the users' requests since a time (unix seconds) that failed."""
    load, host = environment.load, manifests.public_host(service)
    assert load is not None
    load.settle(time.time() - 1, host, timeout_s=60)
    return [record for record in load.records(host, since) if record.failed and record.judged]
