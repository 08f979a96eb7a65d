"""A Prometheus in memory that holds raw samples, and gateways whose true counts are known."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from cutover.domain.evidence.counters import Counter as Counted
from cutover.domain.evidence.counters import L
from cutover.ports.errors import Unavailable
from cutover.ports.prometheus import unavailable_if_malformed

HEROKU = "acme-pdf.herokuapp.com"
EKS = "pdf.shop.svc.cluster.local"
NAMESPACE = "istio-ingress"
START = 1_800_000_000.0
BOUNDS = (250.0, 1000.0, math.inf)

Labels = frozenset[tuple[str, str]]


class FakePrometheus:
    """Answers range selectors as Prometheus 3 does: samples within ``(at - window, at]``."""

    def __init__(self) -> None:
        self.samples: dict[Labels, list[tuple[float, float]]] = {}
        self.queries: list[tuple[str, float]] = []
        self.down = ""
        #: Seconds after its time at which a sample can be seen; only where ``now`` is kept.
        self.delay = 0.0
        self.now = math.inf
        #: By how many seconds its clock is ahead of the operator's, and what the client knows of that.
        self.ahead = 0.0
        self.skew = 0.0

    def add(self, at: float, value: float, **labels: str) -> None:
        self.samples.setdefault(frozenset(labels.items()), []).append((at, value))

    async def query(self, promql: str, at: float) -> list[dict[str, Any]]:
        self.queries.append((promql, at))
        if self.down:
            raise Unavailable(self.down)
        if promql.startswith("topk("):
            return self._foreign_counters(promql, at)
        if increase := re.fullmatch(r"sum by \(le\) \(increase\((.*)\) and on \(.*\) max_over_time\(up.*\)\)", promql):
            return self._increase(increase[1], at)
        if stamped := re.fullmatch(r"max by \(instance, pod\) \(timestamp\((.*)\)\)", promql):
            return self._newest(stamped[1], at)
        return self.select(promql, at)

    async def counters(self, selector: str, at: float, labels: type[L]) -> list[Counted[L]]:
        result = await self.query(selector, at)
        with unavailable_if_malformed(labels.product):
            return [Counted.of(item, labels) for item in result]

    async def compare_clocks(self) -> None:
        if self.down:
            raise Unavailable(self.down)
        self.skew = self.ahead

    async def query_range(self, promql: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        raise AssertionError("blocks are cut from samples")

    def _foreign_counters(self, promql: str, at: float) -> list[dict[str, Any]]:
        parsed = re.fullmatch(r"topk\(5, count by \((.*)\) \((.*)\)\)", promql)
        assert parsed, promql
        names = parsed[1].split(", ")
        found = Counter(
            tuple(item["metric"].get(name, "") for name in names) for item in self.select(f"{parsed[2]}[300000ms]", at)
        )
        return [
            {"metric": dict(zip(names, key, strict=True)), "value": [at, str(number)]} for key, number in found.items()
        ]

    def _newest(self, selector: str, at: float) -> list[dict[str, Any]]:
        newest: dict[tuple[str, str], float] = {}
        for item in self.select(f"{selector}[300000ms]", at):
            target = item["metric"]["pod"], item["metric"]["instance"]
            newest[target] = max(newest.get(target, 0.0), item["values"][-1][0])
        return [
            {"metric": {"pod": pod, "instance": instance}, "value": [at, str(value)]}
            for (pod, instance), value in newest.items()
        ]

    def select(self, selector: str, at: float) -> list[dict[str, Any]]:
        parsed = re.fullmatch(r"(\w+)\{(.*)\}\[(\d+)ms\]", selector, re.DOTALL)
        assert parsed, selector
        name, matchers, window = parsed[1], parsed[2], int(parsed[3]) / 1000
        wanted = [(m[1], m[2], unquote(m[3])) for m in re.finditer(r'(\w+)(=~|!~|!=|=)("(?:[^"\\]|\\.)*")', matchers)]
        result = []
        for frozen, samples in self.samples.items():
            labels = dict(frozen)
            if labels["__name__"] != name or not all(_matches(labels.get(k, ""), op, v) for k, op, v in wanted):
                continue
            values = [
                [t, f"{v:g}" if v == v else "NaN"]
                for t, v in samples
                if at - window < t <= at and t + self.delay <= self.now
            ]
            if values:
                result.append({"metric": labels, "values": values})
        return result

    def _increase(self, selector: str, at: float) -> list[dict[str, Any]]:
        total: dict[str, float] = defaultdict(float)
        for item in self.select(selector, at):
            total[item["metric"]["le"]] += float(item["values"][-1][1]) - float(item["values"][0][1])
        return [{"metric": {"le": le}, "value": [at, str(value)]} for le, value in total.items()]


def unquote(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), text[1:-1], flags=re.DOTALL)


def _matches(value: str, operator: str, pattern: str) -> bool:
    match operator:
        case "=":
            return value == pattern
        case "!=":
            return value != pattern
        case "!~":
            return re.fullmatch(pattern, value) is None
        case _:
            return re.fullmatch(pattern, value) is not None


@dataclass
class Gateway:
    """One proxy: counts, is scraped, can restart."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)  # by destination and code
    buckets: Counter[tuple[str, float]] = field(default_factory=Counter)  # by destination and bound

    def __post_init__(self) -> None:
        target = {"namespace": NAMESPACE, "pod": self.name, "job": "gateways", "instance": f"{self.name}:15020"}
        self.labels = {**target, **self.labels}

    def serve(self, destination: str, code: str = "200", milliseconds: float = 20.0, times: int = 1) -> None:
        self.requests[destination, code] += times
        for bound in BOUNDS:
            self.buckets[destination, bound] += times * (milliseconds <= bound)

    def restart(self) -> None:
        self.requests.clear()
        self.buckets.clear()

    def scrape(self, tsdb: FakePrometheus, at: float) -> None:
        tsdb.add(at, 1, __name__="up", **self.labels)
        common = {**self.labels, "reporter": "source", "source_workload_namespace": NAMESPACE}
        for (destination, code), value in self.requests.items():
            tsdb.add(
                at,
                value,
                __name__="istio_requests_total",
                destination_service=destination,
                response_code=code,
                **common,
            )
        for (destination, bound), value in self.buckets.items():
            tsdb.add(
                at,
                value,
                __name__="istio_request_duration_milliseconds_bucket",
                destination_service=destination,
                le="+Inf" if bound == math.inf else repr(bound),
                **common,
            )
