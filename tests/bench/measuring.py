"""What a process costs, and what it asked of whom, read from outside of it."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

_OWN_HANDLER = "/api/v1/query"
#: Which of a process' clocks: what the scheduler has counted (CPUCLOCK_SCHED of the Linux kernel).
_SCHEDULED = 2
_DELAY = "cutover_decision_delay_seconds_bucket"
_JUDGED = "cutover_judging_delay_seconds_bucket"
_PASSES = "cutover_reconciles_total"


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and all its threads, also of those that ended.

    It is the sum of ``utime`` and ``stime`` in ``/proc/<pid>/stat``, in nanoseconds instead of ticks of 10 ms: a single
    quiet plan needs less than a tick in a minute.
    """
    return time.clock_gettime((~pid << 3) | _SCHEDULED)


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory of a process in MiB.

    Parameters
    ----------
    rss
        Resident, with all of what it shares with other processes.
    pss
        Resident, with its part of what it shares.
    peak
        The largest resident size so far.
    """

    rss: float
    pss: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Read it."""
        status = _kibibytes(Path(f"/proc/{pid}/status"))
        return cls(
            status["VmRSS"] / 1024, _kibibytes(Path(f"/proc/{pid}/smaps_rollup"))["Pss"] / 1024, status["VmHWM"] / 1024
        )


def _kibibytes(path: Path) -> dict[str, int]:
    lines = (line.split() for line in path.read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}


class AuditLog:
    """Requests of one user that the API server has noted since the last look.

    Parameters
    ----------
    path
        Its audit log.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def news(self) -> Counter[tuple[str, str]]:
        """Return the requests by verb and resource."""
        found: Counter[tuple[str, str]] = Counter()
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                entry: dict[str, Any] = json.loads(line)
                # A watch counts when it begins: it may be open for longer than anybody looks.
                if (entry["stage"] == "ResponseStarted") != (entry["verb"] == "watch"):
                    continue
                thing = entry.get("objectRef") or {}
                name = thing.get("resource") or entry["requestURI"].split("?")[0]
                found[entry["verb"], "/".join(part for part in (name, thing.get("subresource")) if part)] += 1
        return found


@dataclass(frozen=True, slots=True)
class Counters:
    """What the operator and Prometheus say at one moment; differences of two count.

    Parameters
    ----------
    requests
        The operator's own to the API server, by verb; Kopf's are not among them.
    queries
        The operator's to Prometheus.
    answered
        Queries that Prometheus has answered, whoever asked.
    passes
        Passes of all plans.
    delays, judged
        Decisions by upper bound of their delay in seconds, cumulative: with what they wrote, and without.
    """

    requests: Mapping[str, float]
    queries: float
    answered: float
    passes: float
    delays: Mapping[float, float]
    judged: Mapping[float, float]

    @classmethod
    def read(cls, operator: str, prometheus: str) -> Counters:
        """Read both at their URLs."""
        own = list(samples(operator))
        return cls(
            requests={s.labels["verb"]: s.value for s in own if s.name == "cutover_api_requests_total"},
            queries=sum(s.value for s in own if s.name == "cutover_prometheus_queries_total"),
            answered=sum(
                s.value
                for s in samples(prometheus)
                if s.name == "prometheus_http_requests_total" and s.labels["handler"] == _OWN_HANDLER
            ),
            passes=sum(s.value for s in own if s.name == _PASSES),
            delays={float(s.labels["le"]): s.value for s in own if s.name == _DELAY},
            judged={float(s.labels["le"]): s.value for s in own if s.name == _JUDGED},
        )

    def since(self, before: Counters) -> Counters:
        """Return what was counted in between."""
        return Counters(
            {verb: count - before.requests.get(verb, 0.0) for verb, count in self.requests.items()},
            self.queries - before.queries,
            self.answered - before.answered,
            self.passes - before.passes,
            {bound: count - before.delays.get(bound, 0.0) for bound, count in self.delays.items()},
            {bound: count - before.judged.get(bound, 0.0) for bound, count in self.judged.items()},
        )


def samples(url: str) -> Iterable[Sample]:
    """Return all samples that a URL exposes."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    for family in text_string_to_metric_families(text):
        yield from family.samples


def quantile(cumulative: Mapping[float, float], q: float) -> float | None:
    """Return a quantile of a histogram, by a straight line within its bucket; ``None`` where nothing was counted."""
    bounds = sorted(cumulative)
    if not bounds or not (total := cumulative[bounds[-1]]):
        return None
    lower, below = 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= q * total:
            if bound == float("inf"):
                return lower
            return lower + (bound - lower) * (q * total - below) / (cumulative[bound] - below)
        lower, below = bound, cumulative[bound]
    return lower


def yardstick(body: Mapping[str, Any], rounds: Sequence[int] = range(5)) -> float:
    """Return the milliseconds in which this machine writes and reads an object as JSON a hundred times.

    CPU times of two machines compare by their ratio to it. The best of some rounds: whatever disturbs, makes slower.
    """

    def once() -> float:
        start = time.thread_time()
        for _ in range(100):
            json.loads(json.dumps(body))
        return 1000 * (time.thread_time() - start)

    return min(once() for _ in rounds)


def mesh_labels(leg: str, ingress: str) -> dict[str, str]:
    """Return the labels that Istio gives an ingress gateway's metrics of a leg, but those of its answers.

    Parameters
    ----------
    leg
        The leg's ``destination_service``.
    ingress
        The gateway's namespace.
    """
    name, _, rest = leg.partition(".")
    inside = rest.endswith("cluster.local")
    place = rest.split(".")[0] if inside else "unknown"
    return {
        "reporter": "source",
        "source_workload": "istio-ingress",
        "source_canonical_service": "istio-ingress",
        "source_canonical_revision": "latest",
        "source_workload_namespace": ingress,
        "source_principal": f"spiffe://cluster.local/ns/{ingress}/sa/istio-ingress",
        "source_app": "istio-ingress",
        "source_version": "unknown",
        "source_cluster": "Kubernetes",
        "destination_workload": name if inside else "unknown",
        "destination_workload_namespace": place,
        "destination_principal": f"spiffe://cluster.local/ns/{place}/sa/{name}" if inside else "unknown",
        "destination_app": name if inside else "unknown",
        "destination_version": "unknown",
        "destination_service": leg,
        "destination_canonical_service": name if inside else "unknown",
        "destination_canonical_revision": "latest",
        "destination_service_name": name if inside else leg,
        "destination_service_namespace": place,
        "destination_cluster": "Kubernetes" if inside else "unknown",
        "request_protocol": "http",
        "grpc_response_status": "",
        "connection_security_policy": "unknown",
    }
