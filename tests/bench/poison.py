"""How long poison of every kind holds the event loop: ``python tests/bench/poison.py``.

Objects of another team are listed, and a plan is decided on beside them. Plans of a tenant are resolved and queried by the operator's own feed, in a loop that says for how long it was held. Queries are as
long and as nested as the API allows and more; Prometheus' answers are as long as they are read. What holds the loop for more
than 50 ms is marked. Times are of the CPU, which a busy machine does not change.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import parse_qs

import httpx
from rich.console import Console
from rich.table import Table
from tests.kit.poison_objects import BY_NAME, DEPLOYED, OF_OTHERS, PLAN, WILDCARD, inventory_of
from tests.kit.target import READY

from cutover.adapters.prometheus.client import PrometheusClient
from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import MigrationPlanSpec
from cutover.domain.engine.decide import decide
from cutover.domain.observation import Observation
from cutover.domain.resources import DEPLOYMENTS
from cutover.domain.slo.templates import custom_slos
from cutover.ports.slo_feed import SloSubscription
from cutover.services.slo_feed import PrometheusSloFeed

LONGEST, HELD = 1024, 0.05
NOW = time.time()

QUERIES: dict[str, str] = {
    "plain": 'a{leg="{{ leg }}"}',
    "70 patterns": "a{" + ",".join(f'b{n}=~"\\\\w{{900}}"' for n in range(50)) + "}",
    "20 patterns": "a{" + ",".join(f'b{n}=~"(\\\\w{{99}}){{9}}"' for n in range(20)) + "}",
    "brackets": "(" * 511 + "a" + ")" * 511,
    "functions": "sum(" * 204 + "a" + ")" * 204,
    "signs": "-" * 1023 + "a",
    "a sum": "+".join("a" * 512),
    "selectors": "+".join(f"a{n}" for n in range(190)),
    "matchers": "a{" + ",".join(['b="c"'] * 169) + "}",
    "open strings": '\\"' * 512,
    "open brackets": "(" * 1024,
    "placeholders": 'a{b=~"' + "x{{ leg }}" * 100 + '"}',
    "32 placeholders": 'a{b=~"' + "(?:[^]a-z])" * 55 + "x{{ leg }}" * 32 + '"}',
    "no text": "\U0001f600" * 1024,
}


def series(number: int, samples: int) -> list[dict[str, Any]]:
    """Return an answer to a range selector."""
    times = [round(NOW - 15 * n, 3) for n in range(samples, 0, -1)]
    return [
        {"metric": {"job": "a", "instance": f"i{n}"}, "values": [[at, str(n)] for at in times]} for n in range(number)
    ]


ANSWERS: dict[str, list[dict[str, Any]]] = {
    "20 MiB": [{"metric": {"a": str(n)}, "value": [NOW, "1"]} for n in range(500_000)],
    "1 MiB of short series": [{"metric": {"a": str(n)}, "value": [round(NOW), "1"]} for n in range(20_000)],
    "1 MiB of samples": series(30, 1200),
    "25,000 samples": series(1200, 20),
}


class Answer:
    """An answer of Prometheus, as a vector or as a matrix: as it is asked for."""

    def __init__(self, result: list[dict[str, Any]]) -> None:
        metrics = [one["metric"] for one in result]
        times = [one.get("values") or [one["value"]] for one in result]
        self.matrix = self._body("matrix", [{"metric": a, "values": b} for a, b in zip(metrics, times, strict=True)])
        self.vector = self._body(
            "vector", [{"metric": a, "value": b[-1]} for a, b in zip(metrics, times, strict=True)]
        )

    @staticmethod
    def _body(kind: str, result: list[dict[str, Any]]) -> bytes:
        return json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()

    def to(self, request: httpx.Request) -> bytes:
        """Return the answer to a request."""
        query = parse_qs(request.content.decode())["query"][0]
        if request.url.path.endswith("query_range") or query.rstrip().endswith("]"):
            return self.matrix
        if query.startswith("label_replace(max(timestamp("):
            return self._body("vector", [{"metric": {"selector": "0"}, "value": [NOW, str(time.time())]}])
        return self.vector


async def held(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the longest CPU time of the loop's thread between two looks at it, and the CPU time of all."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    cpu = time.process_time()
    await work()
    await asyncio.sleep(0.01)
    watching.cancel()
    return longest, time.process_time() - cpu


def spec_of(query: str) -> MigrationPlanSpec:
    """Return a plan with as many custom SLOs as one may have, with a query."""
    kind: dict[str, Any] = {"ratio": {"bad": query, "total": query, "scrapeInterval": "15s"}}
    if "{{ leg }}" not in query:
        kind = {"bound": {"query": query, "max": 1}}
    slos = [{"name": f"s{n}", **kind} for n in range(12)]
    return MigrationPlanSpec.from_wire(
        {
            "heroku": {"app": "acme", "hostname": "acme-1a2b3c.herokuapp.com"},
            "eks": {"service": {"name": "pdf", "port": 80}, "workloadRef": {"name": "pdf"}},
            "traffic": {"istio": {"hosts": ["pdf.example.com"], "gateways": ["a/b"]}},
            "steps": [{"weight": 100}],
            "gates": {"slos": slos},
        }
    )


async def decide_beside(name: str, said: list[str]) -> None:
    """Decide on a plan in preflight beside large objects of another team, as several reconciles would."""
    objects = OF_OTHERS[name]
    for asked in (PLAN, WILDCARD):
        inventory = inventory_of(asked, objects)
        await asyncio.sleep(0)
        for _ in range(3):
            decision = decide(asked, Observation(inventory=inventory), NOW)
            await asyncio.sleep(0)
    said.append(decision.status.message[:60])


async def decide_deployed(name: str, said: list[str]) -> None:
    """Decide on a plan with a large Deployment."""
    inventory = READY.inventory(PLAN)
    key = (PLAN.namespace, PLAN.spec.eks.workload_ref.name)
    kept = BY_NAME[DEPLOYMENTS](DEPLOYED[name])
    await asyncio.sleep(0)
    decision = decide(
        PLAN,
        Observation(inventory=replace(inventory, objects={**inventory.objects, DEPLOYMENTS: {key: kept}})),
        NOW,
    )
    said.append(decision.status.message[:60])


async def reconcile(query: str, answer: Answer, said: list[str]) -> None:
    """Resolve a plan's queries and make them, as two reconciles would."""

    async def answered(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0.001)  # as over a network
        return httpx.Response(200, content=answer.to(request))

    client = PrometheusClient(
        "http://prometheus",
        max_bytes=1 << 20,
        transport=httpx.MockTransport(answered),
    )
    clock = type("Clock", (), {"now": staticmethod(time.time)})()
    feed = PrometheusSloFeed(lambda _: client, clock, on_news=lambda _: None)
    try:
        spec = spec_of(query)
    except ValueError as error:
        said.append(problem_text(error)[:60] if hasattr(error, "errors") else str(error)[:60])
        return
    found = custom_slos(spec, plan_name="pdf", namespace="docs", frozen=(), templates={})
    if found.problems:
        said.append(found.problems[0][:60])
        return
    start = time.time() - 60
    feed.watch("docs/pdf", SloSubscription("", found.gates, 15, {gate.name: start for gate in found.gates}, start))
    await asyncio.gather(*feed.start_rounds())
    readings = feed.take("docs/pdf")
    problems = {reading.problem.message for reading in readings.values() if reading.problem}
    said.append(next(iter(problems), "read")[:60])


async def run() -> int:
    """Measure everything; return how much held the loop."""
    gc.collect()
    gc.freeze()  # the answers are no garbage of the operator's
    table = Table("poison", "loop held, ms", "CPU, ms", "what the plan says")
    worst = 0
    few = Answer(series(1, 20))
    cases: list[tuple[str, Callable[[list[str]], Awaitable[None]]]] = [
        (f"query: {name}", partial(reconcile, query, few)) for name, query in QUERIES.items()
    ]
    cases += [
        (f"answer: {name}", partial(reconcile, QUERIES["plain"], Answer(result))) for name, result in ANSWERS.items()
    ]
    cases += [(f"another team's {name}", partial(decide_beside, name)) for name in OF_OTHERS]
    cases += [(f"Deployment: {name}", partial(decide_deployed, name)) for name in DEPLOYED]
    await held(lambda: reconcile(QUERIES["plain"], Answer([]), []))
    for name, work in cases:
        said = list[str]()
        longest, cpu = await held(lambda work=work, said=said: work(said))
        worst += longest > HELD
        table.add_row(name, f"{1000 * longest:.0f}{' !' if longest > HELD else ''}", f"{1000 * cpu:.0f}", said[0])
    Console(width=140).print(table)
    return worst


if __name__ == "__main__":
    asyncio.run(run())
    sys.exit(0)
