"""What many plans cost, and how fast they are: ``make bench-scale``, or ``python tests/bench/scale.py [--plans 100 300 1000]``.

A real etcd, kube-apiserver and Prometheus; the operator as its own process under its ServiceAccount. Gateway, apps and
users are played, see :mod:`played_gateway`: a thousand real services would take more machine than there is. The plans are
created all at once, with a status that says that they are at their first step, at which they stay; the operator makes
their routes and sees the weight at the gateway. With ``--take-over`` it takes them there itself. Then:

1. all plans judge, and what the operator does is counted for some minutes;
2. the operator is killed and started again, until it has looked at each plan and judged each again;
3. the EKS legs of 50 plans begin to answer nothing but errors, until their weights are 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import platform
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from measuring import AuditLog, Counters, Memory, cpu_seconds, quantile, samples, yardstick
from played_gateway import INGRESS, PODS, service
from quiet import AuditedStack
from rich import box
from rich.console import Console
from rich.table import Table

from devstack.build import Programs
from devstack.support import free_port
from sandbox import manifests
from sandbox.manifests import NAMESPACE, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, ROOT, Json

INTERVAL = 15
#: Seconds after which a block is read: the operator's default, which is no lateness.
SETTLE = 1.0
RATE = 20.0
BREACHES = 50
#: Seconds between two questions how far the operator is: it makes the text of the metrics of all plans for each.
_ASK_SECONDS = 2.0
#: What is aimed at; per plan and minute, in MiB, in seconds.
MOST_WRITES, MOST_READS, MOST_CPU_MS, MOST_MIB = 1.0, 1.0, 10.0, 256.0
MOST_LATE, MOST_RESUME, MOST_SPREAD = 2.0, 15.0, 2.0
#: Flagger 1.44, 100 canaries at 15 s with two metrics, measured before on the same kind of machine.
FLAGGER = {"API requests": "77", "Prometheus queries": "8", "CPU, ms": "51"}
_WRITES = ("create", "update", "patch", "delete")
_READS = ("get", "list")
_PLANS = f"/apis/cutover.dev/v1alpha1/namespaces/{NAMESPACE}/migrationplans"
_WORKLOAD = "everything"


class ScaleStack(AuditedStack):
    """The development stack without the mesh and the controllers."""

    @property
    def process_names(self) -> tuple[str, ...]:
        """The names of all processes, in the order in which they start."""
        return "etcd", "kube-apiserver", "prometheus"

    def _envoys(self) -> list[str]:
        return []

    def _start_all(self, programs: Programs) -> None:
        for name in self.process_names:
            self._spawn(name)
            self._wait_healthy(name)
        names = (INGRESS, NAMESPACE)
        self.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names])
        self.install_crds(programs.istio_crds.read_text())
        self.install_crds(manifests.crds())
        self.apply(manifests.operator_rights(manifests.chart_rules()))


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured with so many plans.

    Parameters
    ----------
    plans, minutes
        How many, and for how long they were counted.
    audited
        Requests that the API server saw, by verb and resource.
    own
        What the operator counted.
    cpu
        Seconds of the operator's process.
    memory, fresh
        At the end of the window; and of the process that was started anew, half a minute later.
    begun, looked_at, judged
        Seconds until all plans judge after they were created; from the start of another process until each plan was
        looked at; and until each was judged on blocks again.
    homes
        Seconds from the onset until the weight of each plan that fails is 0.
    load, stick
        The machine's load average, and the milliseconds in which it writes and reads a plan as JSON a hundred times.
    """

    plans: int
    minutes: float
    audited: Mapping[tuple[str, str], int]
    own: Counters
    cpu: float
    memory: Memory
    fresh: Memory
    begun: float
    looked_at: float
    judged: float
    homes: Sequence[float]
    load: float
    stick: float
    notes: Sequence[str] = field(default=())

    @property
    def plan_minutes(self) -> float:
        """What most numbers are divided by."""
        return self.minutes * self.plans

    def verbs(self, names: Iterable[str]) -> float:
        """Return the requests with these verbs per plan and minute."""
        return sum(count for (verb, _), count in self.audited.items() if verb in names) / self.plan_minutes

    def late(self, q: float, *, written: bool = False) -> float:
        """Return a quantile of the lateness of decisions in seconds, beyond the time for which a block has to settle."""
        return quantile(self.own.delays if written else self.own.judged, q) - SETTLE


class Bench:
    """A stack, a played gateway and an operator for so many plans.

    Parameters
    ----------
    folder
        For data and logs.
    plans
        How many.
    program
        A script that is run in place of the operator's module, for profiles.
    """

    def __init__(self, folder: Path, plans: int, program: Path | None = None) -> None:
        self.folder, self.plans = folder, plans
        self.names = [service(number) for number in range(plans)]
        self.stack = ScaleStack(folder / "stack", scrape_interval_seconds=INTERVAL, log=say)
        self._argv = [str(program)] if program else ["-m", "cutover.main"]
        self._control, self._metrics, self._health, *self._pods = (free_port() for _ in range(3 + len(PODS)))
        self._gateway: subprocess.Popen[bytes] | None = None
        self._operator: subprocess.Popen[bytes] | None = None
        self._account = Path()

    def __enter__(self) -> Bench:
        self.stack.start()
        command = [sys.executable, str(Path(__file__).with_name("played_gateway.py")), str(self.stack.kubeconfig)]
        command += [str(self.plans), str(RATE), str(self._control), *map(str, self._pods)]
        self._gateway = subprocess.Popen(command)
        for pod, port in zip(PODS, self._pods, strict=True):
            # A job for each: they are scraped at moments of their own.
            self.stack.add_scrape_target(
                pod, f"http://127.0.0.1:{port}/metrics", labels={"namespace": INGRESS, "pod": pod}
            )
        self.stack.add_scrape_target("cutover", f"{self.metrics}")
        self._account = self.stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._operator, self._gateway):
            if process is not None:
                process.kill()
                process.wait()
        self.stack.stop()

    @property
    def metrics(self) -> str:
        """Where the operator tells of itself."""
        return f"http://127.0.0.1:{self._metrics}/metrics"

    @property
    def pid(self) -> int:
        """The operator's process."""
        assert self._operator is not None
        return self._operator.pid

    def start_operator(self) -> None:
        """Start the operator."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "operator"),
            "CUTOVER_KUBECONFIG": str(self._account),
            "CUTOVER_PROMETHEUS_URL": self.stack.prometheus_url,
            "CUTOVER_SETTLE": str(SETTLE),
            "CUTOVER_GATEWAY_URLS": json.dumps({f"{INGRESS}/public": f"http://127.0.0.1:{self._control}"}),
            "CUTOVER_DEVELOPMENT_HEROKU": json.dumps(["127.0.0.1", 9]),
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
            "CUTOVER_HEALTH_PORT": str(self._health),
            "CUTOVER_METRICS_PORT": str(self._metrics),
            **chart_memory(),
        }
        with (self.folder / "operator.log").open("ab") as log:
            self._operator = subprocess.Popen([sys.executable, *self._argv], env=environment, stdout=log, stderr=log)

    def kill_operator(self) -> None:
        """End the operator at once."""
        assert self._operator is not None
        self._operator.send_signal(signal.SIGKILL)
        self._operator.wait()

    def counted(self, name: str) -> float:
        """Return one of the operator's own counts."""
        try:
            return sum(s.value for s in samples(self.metrics) if s.name == name)
        except OSError:
            return 0.0

    # -------------------------------------------------------------------------------------------------- the plans

    async def create(self, *, begun: bool) -> None:
        """Create the plans and what they want to find; if ``begun``, with a status at their first step."""
        deployment = manifests.target(_WORKLOAD, 80)[0]
        deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "app:1"
        self.stack.apply([deployment])
        self.stack.apply(
            [
                {
                    "apiVersion": "networking.istio.io/v1",
                    "kind": "Gateway",
                    "metadata": {"name": "public", "namespace": INGRESS},
                    "spec": {
                        "selector": {"istio": "ingress"},
                        "servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}],
                    },
                }
            ]
        )
        self.stack.kubectl(
            *("-n", NAMESPACE, "patch", "deployment", _WORKLOAD, "--subresource=status", "--type=merge", "--patch"),
            json.dumps(
                {
                    "status": {
                        "replicas": 2,
                        "availableReplicas": 2,
                        "readyReplicas": 2,
                        "updatedReplicas": 2,
                        "observedGeneration": 1,
                    }
                }
            ),
        )
        slots = asyncio.Semaphore(32)
        async with self._session() as session:

            async def send(method: str, path: str, body: Json) -> Json:
                async with slots, session.request(method, path, json=body) as answer:
                    if not answer.ok:
                        raise RuntimeError(f"{path}: {await answer.text()}")
                    stored: Json = await answer.json()
                    return stored

            async def plan(name: str) -> None:
                stored = await send("POST", _PLANS, plan_of(name))
                if begun:
                    await send("PUT", f"{_PLANS}/{name}/status", stored | {"status": first_step()})

            await asyncio.gather(
                *(send("POST", f"/api/v1/namespaces/{NAMESPACE}/services", _service(name)) for name in self.names)
            )
            await asyncio.gather(*(plan(name) for name in self.names))

    @contextlib.asynccontextmanager
    async def _session(self) -> Any:
        config = yaml.safe_load(self.stack.kubeconfig.read_text())
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self.stack.ca_file))
        async with aiohttp.ClientSession(self.stack.api_url, headers=headers, connector=connector) as session:
            yield session

    def judging(self) -> int:
        """Return how many plans are at their first step and have been seen there."""
        items = self.stack.api().call(_PLANS)["items"]
        return sum(
            status.get("phase") == "Shifting"
            and status.get("weight") == 10
            and bool(status.get("checkpoint", {}).get("observedAt"))
            for status in (item.get("status", {}) for item in items)
        )

    def states(self) -> str:
        """Return what the plans say, for a bench that does not go on."""
        items = self.stack.api().call(_PLANS)["items"]
        said: dict[str, int] = {}
        for status in (item.get("status", {}) for item in items):
            text = " ".join(str(status.get(name)) for name in ("phase", "weight", "reason", "message"))
            said[text] = said.get(text, 0) + 1
        return "\n".join(f"{count} × {text}" for text, count in sorted(said.items(), key=lambda s: -s[1])[:5])

    def break_legs(self, names: Sequence[str]) -> float:
        """Let EKS legs answer nothing but errors; return the Unix time."""
        request = urllib.request.Request(f"{self._url}/-/break", json.dumps(names).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return float(json.load(answer))

    def homes(self, names: Sequence[str], since: float) -> list[float]:
        """Return the seconds after which plans went back, of those that did."""
        with urllib.request.urlopen(f"{self._url}/-/state", timeout=10) as answer:
            state = json.load(answer)
        return sorted(at - since for _, at in (state[name] for name in names) if at > since)

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._control}"


def chart_memory() -> dict[str, str]:
    """Return what the chart tells the C library about memory."""
    text = (ROOT / "charts" / "cutover" / "templates" / "deployment.yaml").read_text()
    return dict(re.findall(r'- \{name: (MALLOC_\w+), value: "(\d+)"\}', text))


def plan_of(name: str) -> Json:
    """Return a plan that is held at its first step for longer than any bench."""
    body = manifests.plan(
        name,
        steps=[{"weight": 10, "hold": "12h"}, {"weight": 100}],
        ceiling=10,
        gates={
            "block": f"{INTERVAL}s",
            "slos": [
                {"name": "errors", "errors": {}},
                {"name": "latency", "latency": {"slowMs": 100, "verySlowMs": 1000}},
            ],
        },
    )
    body["spec"]["eks"]["workloadRef"]["name"] = _WORKLOAD
    return body


def first_step() -> Json:
    """Return the status of a plan that was raised to its first step just now."""
    now = time.time()
    checkpoint = {"at": now, "weightSince": now, "previousWeight": 0, "consumedUntil": now}
    return {"phase": "Shifting", "attempt": 1, "weight": 10, "observedGeneration": 1, "checkpoint": checkpoint}


def _service(name: str) -> Json:
    # Without an address of its own: there are not enough of them, and nobody connects.
    spec = {"clusterIP": "None", "selector": {"app": name}, "ports": [{"name": "http", "port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def measure(bench: Bench, minutes: float, settle: float, *, take_over: bool) -> Cost:
    """Take the plans to their first step, and measure. Raises RuntimeError where they do not go there."""
    audit = AuditLog(bench.stack.audit_log)
    say(f"creating {bench.plans} plans")
    asyncio.run(bench.create(begun=not take_over))
    bench.start_operator()
    begun = _until("all plans judge", lambda: bench.judging() == bench.plans, bench, 900, every=5)
    say(f"all judge after {begun:.0f} s; settling for {settle:g} s")
    time.sleep(settle)
    urls = bench.metrics, f"{bench.stack.prometheus_url}/metrics"
    before = Counters.read(*urls)
    audit.news()
    say(f"measuring for {minutes:g} min")
    started, cpu = time.monotonic(), cpu_seconds(bench.pid)
    time.sleep(60 * minutes)
    used, elapsed = cpu_seconds(bench.pid) - cpu, time.monotonic() - started
    memory, news, own = Memory.of(bench.pid), audit.news(), Counters.read(*urls).since(before)
    say(f"CPU {1000 * used / elapsed * 60 / bench.plans:.1f} ms per plan and minute; {memory}")
    bench.kill_operator()
    bench.start_operator()
    at = time.monotonic()
    looked_at = at + _until(
        "all plans are looked at",
        lambda: bench.counted("cutover_plans_reconciled") >= bench.plans,
        bench,
        120,
        every=_ASK_SECONDS,
    )
    _until(
        "all plans are judged",
        lambda: bench.counted("cutover_decision_delay_seconds_count") >= bench.plans,
        bench,
        120,
        every=_ASK_SECONDS,
    )
    judged = time.monotonic() - at
    say(f"resumed after {looked_at - at:.1f} s, judged after {judged:.1f} s")
    time.sleep(2 * INTERVAL)
    fresh = Memory.of(bench.pid)
    failing = bench.names[:: max(1, bench.plans // BREACHES)][:BREACHES]
    onset = bench.break_legs(failing)
    _until("all failing plans are back", lambda: len(bench.homes(failing, onset)) == len(failing), bench, 180, every=1)
    homes = bench.homes(failing, onset)
    say(f"back after {homes[0]:.1f} to {homes[-1]:.1f} s")
    return Cost(
        bench.plans,
        elapsed / 60,
        news,
        own,
        used,
        memory,
        fresh,
        begun,
        looked_at - at,
        judged,
        homes,
        os.getloadavg()[1],
        yardstick(plan_of("any")),
        [f"{count}× {verb} {thing}" for (verb, thing), count in sorted(news.items())],
    )


def _until(what: str, condition: Callable[[], bool], bench: Bench, seconds: float, every: float) -> float:
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise RuntimeError(f"not within {seconds:g} s: {what}\n{bench.states()}")
        time.sleep(every)
    return time.monotonic() - started


# ------------------------------------------------------------------------------------------------------- what is told


def table(costs: Sequence[Cost]) -> Table:
    """Return the numbers, in a shape that Markdown understands."""
    shown = Table(box=box.MARKDOWN)
    shown.add_column("per plan and minute")
    for cost in costs:
        shown.add_column(f"{cost.plans:,} plans", justify="right")
    shown.add_column("aim", justify="right")
    shown.add_column("Flagger, 100 canaries", justify="right")
    rows: Sequence[tuple[str, Callable[[Cost], float], str]] = (
        ("writes to the API server", lambda c: c.verbs(_WRITES), f"{MOST_WRITES:g}"),
        ("reads", lambda c: c.verbs(_READS), f"{MOST_READS:g}"),
        ("API requests", lambda c: c.verbs((*_WRITES, *_READS, "watch")), ""),
        ("Prometheus queries", lambda c: c.own.queries / c.plan_minutes, ""),
        ("– in all, per minute", lambda c: c.own.queries / c.minutes, ""),
        ("reconciles", lambda c: c.own.passes / c.plan_minutes, ""),
        ("CPU, ms", lambda c: 1000 * c.cpu / c.plan_minutes, f"{MOST_CPU_MS:g}"),
        ("– cores", lambda c: c.cpu / c.minutes / 60, ""),
        ("memory in all, MiB: RSS", lambda c: c.memory.rss, f"{MOST_MIB:g}"),
        ("– PSS", lambda c: c.memory.pss, ""),
        ("– peak RSS", lambda c: c.memory.peak, ""),
        ("– RSS of a process that was started anew", lambda c: c.fresh.rss, ""),
        ("lateness of decisions, s: p50", lambda c: c.late(0.5), ""),
        ("– p99", lambda c: c.late(0.99), f"{MOST_LATE:g}"),
        ("– p99, with what they wrote", lambda c: c.late(0.99, written=True), ""),
        ("from creation until all judge, s", lambda c: c.begun, ""),
        ("from a start until all are looked at, s", lambda c: c.looked_at, f"{MOST_RESUME:g}"),
        ("– until all are judged on blocks, s", lambda c: c.judged, ""),
        ("50 breach at once: first back after, s", lambda c: c.homes[0], ""),
        ("– last of them after the first, s", lambda c: c.homes[-1] - c.homes[0], f"{MOST_SPREAD:g}"),
        ("load average of the machine", lambda c: c.load, ""),
        ("ms for a plan to JSON and back, 100 times", lambda c: c.stick, ""),
    )
    for name, value, aim in rows:
        shown.add_row(name, *(number(value(cost)) for cost in costs), aim, FLAGGER.get(name, ""))
    return shown


def number(value: float) -> str:
    """Write a number as briefly as its meaning allows."""
    if not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def aims(cost: Cost) -> Iterator[tuple[str, bool]]:
    """Compare with the aims."""
    # The window may begin just before some plans' turn and end just after it.
    writes = round(cost.verbs(_WRITES), 1)
    yield f"{cost.plans} plans: at most {MOST_WRITES:g} write per plan and minute", writes <= MOST_WRITES
    yield f"at most {MOST_READS:g} read", cost.verbs(_READS) <= MOST_READS
    yield f"at most {MOST_CPU_MS:g} ms CPU", 1000 * cost.cpu / cost.plan_minutes <= MOST_CPU_MS
    yield f"at most {MOST_MIB:g} MiB", cost.memory.rss <= MOST_MIB
    yield f"late by less than {MOST_LATE:g} s (p99)", cost.late(0.99) < MOST_LATE
    yield f"all resumed within {MOST_RESUME:g} s", cost.looked_at <= MOST_RESUME
    yield f"the last rollback within {MOST_SPREAD:g} s of the first", cost.homes[-1] - cost.homes[0] <= MOST_SPREAD


def say(line: str) -> None:
    """Tell how far the bench is."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the bench; 0 unless it broke."""
    parser = argparse.ArgumentParser(prog="scale.py", description="What many plans cost, and how fast they are.")
    parser.add_argument("--plans", type=int, nargs="+", default=[100, 300, 1000], metavar="N", help="numbers of plans")
    parser.add_argument("--minutes", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds from the last transition to it")
    parser.add_argument("--take-over", action="store_true", help="let the operator take the plans to their first step")
    parser.add_argument("--program", type=Path, help="script in place of the operator, for profiles")
    parser.add_argument("--state", type=Path, help="folder for data and logs, to keep them")
    options = parser.parse_args()
    console, costs = Console(width=180, highlight=False), list[Cost]()
    for plans in options.plans:
        with tempfile.TemporaryDirectory(prefix="cutover-bench-") as scratch:
            folder = (options.state or Path(scratch)) / str(plans)
            folder.mkdir(parents=True, exist_ok=True)
            with Bench(folder, plans, options.program) as bench:
                costs.append(measure(bench, options.minutes, options.settle, take_over=options.take_over))
        console.print(table(costs[-1:]))
        console.print(", ".join(costs[-1].notes), soft_wrap=True)
    cores = len(os.sched_getaffinity(0))
    console.print(f"{cores} cores, Linux {platform.release()}, Python {platform.python_version()}\n", soft_wrap=True)
    console.print(table(costs))
    for cost in costs:
        for aim, reached in aims(cost):
            console.print(f"{aim}: {'reached' if reached else 'missed'}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
