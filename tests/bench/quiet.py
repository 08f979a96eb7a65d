"""What quiet plans cost the operator: ``make bench``, or ``python tests/bench/quiet.py [--plans 1 10 50]``.

On the whole development stack, with the operator as its own process under its ServiceAccount, plans are taken to their
first step and held there, judging a trickle of traffic. After a time to settle, everything that the operator does is
counted for some minutes, from outside as far as possible:

- API requests from the API server's audit log, which has Kopf's requests, too; the operator's own count beside it;
- Prometheus queries from the operator's count, with Prometheus' own beside it;
- CPU from the kernel's clock of the process, all threads; memory from ``/proc``;
- lateness from the operator's histogram of the time between the end of a block and the decision on it.

Then the plans are rolled back, others are completed or suspended, and the same is counted for plans at rest. Nothing is
asserted but that all plans stay where they belong.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from measuring import AuditLog, Counters, Memory, cpu_seconds, quantile, yardstick
from rich import box
from rich.console import Console
from rich.table import Table

from devstack.stack import Stack
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, Json

_PLANS = f"/apis/cutover.dev/v1alpha1/namespaces/{NAMESPACE}/migrationplans"
#: What is aimed at, per plan and minute; and MiB in all.
MOST_WRITES, MOST_READS, MOST_CPU_MS, MOST_MIB = 1.0, 1.0, 10.0, 128.0
#: Seconds after the last transition: one checkpoint and a bit.
SETTLE_SECONDS = 75.0
_WRITES = ("create", "update", "patch", "delete")
_READS = ("get", "list")


class AuditedStack(Stack):
    """A stack whose API server notes the operator's requests."""

    @property
    def audit_log(self) -> Path:
        """Where it notes them."""
        return self.state_dir / "logs" / "audit.jsonl"

    def _command(self, name: str) -> tuple[list[str | Path], dict[str, str]]:
        argv, environment = super()._command(name)
        if name == "kube-apiserver":
            user = f"system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_ACCOUNT}"
            policy = {
                "apiVersion": "audit.k8s.io/v1",
                "kind": "Policy",
                "omitStages": ["RequestReceived"],
                "rules": [{"level": "Metadata", "users": [user]}, {"level": "None"}],
            }
            file = self.state_dir / "audit.yaml"
            file.write_text(yaml.safe_dump(policy))
            argv += ["--audit-policy-file", file, "--audit-log-path", self.audit_log]
        return argv, environment


class Bench(Environment):
    """The environment with plans for the bench.

    Parameters
    ----------
    block
        Seconds of a block, and between two scrapes of the gateway.
    """

    def __init__(self, state_dir: Path, services: Sequence[str], block: int) -> None:
        super().__init__(state_dir, services, log=_say)
        self.stack: AuditedStack = AuditedStack(self.stack.state_dir, scrape_interval_seconds=block, log=_say)
        self.block = block

    def plan_of(self, service: str, **overrides: Any) -> Json:
        """Return a plan that is held at its first step for longer than any bench."""
        gates = {
            "block": f"{self.block}s",
            "slos": [
                {"name": "errors", "errors": {}},
                {"name": "latency", "latency": {"slowMs": 100, "verySlowMs": 1000}},
            ],
        }
        steps = [{"weight": 10, "hold": "12h"}, {"weight": 100}]
        return manifests.plan(service, **({"gates": gates, "steps": steps, "ceiling": 10} | overrides))

    def begin(self, plans: Sequence[Json], rate: float) -> None:
        """Apply plans, and start users' requests to their services."""
        assert self.load is not None
        self.stack.apply(plans, field_manager="kustomize-controller")
        for plan in plans:
            if plan["metadata"]["name"] in self.services:
                self.load.set_rate(manifests.public_host(plan["metadata"]["name"]), rate)

    def judging(self, names: Sequence[str]) -> bool:
        """Tell whether these plans have been seen at their first step."""
        found = self.statuses()
        return all(
            found[name].get("phase") == "Shifting"
            and found[name].get("weight") == 10
            and bool(found[name].get("checkpoint", {}).get("observedAt"))
            for name in names
        )

    def in_phase(self, names: Sequence[str], phase: str) -> bool:
        """Tell whether all these plans are in a phase."""
        found = self.statuses()
        return all(found.get(name, {}).get("phase") == phase for name in names)

    def statuses(self) -> dict[str, Json]:
        """Read the status of all plans."""
        return {item["metadata"]["name"]: item.get("status", {}) for item in self.api.call(_PLANS)["items"]}


@dataclass(frozen=True, slots=True)
class Cost:
    """What was counted in one window.

    Parameters
    ----------
    what
        In which state the plans were.
    plans
        How many.
    minutes
        Length of the window.
    audited
        Requests that the API server saw, by verb and resource.
    own
        What the operator and Prometheus counted.
    cpu_ms
        CPU time of the operator.
    memory
        At the end.
    """

    what: str
    plans: int
    minutes: float
    audited: Mapping[tuple[str, str], int]
    own: Counters
    cpu_ms: float
    memory: Memory

    @property
    def plan_minutes(self) -> float:
        """What most numbers are divided by; without plans, the minutes."""
        return self.minutes * max(self.plans, 1)

    def verbs(self, names: Sequence[str]) -> float:
        """Return the requests with these verbs per plan and minute."""
        return sum(count for (verb, _), count in self.audited.items() if verb in names) / self.plan_minutes

    @property
    def cpu_per_minute(self) -> float:
        """CPU milliseconds per minute, of all plans and of the operator itself."""
        return self.cpu_ms / self.minutes


def measure(bench: Bench, audit: AuditLog, what: str, plans: int, minutes: float) -> Cost:
    """Count for some minutes."""
    _say(f"measuring {plans} plans {what} for {minutes:g} min")
    pid = bench.operator_pid()
    assert pid is not None
    urls = f"http://127.0.0.1:{bench.metrics_port}/metrics", f"{bench.stack.prometheus_url}/metrics"
    before = Counters.read(*urls)
    audit.news()
    # The CPU clock is read inside the other readings, which are work for the operator.
    started, cpu = time.monotonic(), cpu_seconds(pid)
    time.sleep(60 * minutes)
    used, elapsed = cpu_seconds(pid) - cpu, time.monotonic() - started
    memory, news = Memory.of(pid), audit.news()
    return Cost(what, plans, elapsed / 60, news, Counters.read(*urls).since(before), 1000 * used, memory)


def run(bench: Bench, options: argparse.Namespace) -> tuple[list[Cost], float]:
    """Measure the operator alone, with each number of plans, and with plans at rest."""
    audit = AuditLog(bench.stack.audit_log)
    names = list(bench.services)
    judging, completing = names[: max(options.plans)], names[max(options.plans) :]
    bench.start_load(dict.fromkeys(names, 0.0))
    _settle()
    costs = [measure(bench, audit, "(none)", 0, options.minutes)]
    sizes = sorted(options.plans)
    for before, count in zip([0, *sizes], sizes, strict=False):
        _say(f"taking {count} plans to their first step")
        bench.begin([bench.plan_of(name) for name in judging[before:count]], options.rate)
        judged = partial(bench.judging, judging[:count])
        bench.until("all plans are judging", judged, 900, every=5)
        _settle()
        costs.append(measure(bench, audit, "judging", count, options.minutes))
        if not judged():
            raise RuntimeError(f"not all plans stayed at their step{bench._states()}")
    body = bench.plan(judging[0])
    if not options.no_rest:
        costs.append(rest(bench, audit, options, judging, completing))
    return costs, yardstick(body)


def rest(
    bench: Bench, audit: AuditLog, options: argparse.Namespace, judging: Sequence[str], completing: Sequence[str]
) -> Cost:
    """Measure plans that are rolled back, completed, or suspended before they began; traffic goes on."""
    _say("rolling the plans back, completing and suspending others")
    suspended = [f"suspended-{number}" for number in range(len(completing))]
    steps = [{"weight": 100, "hold": "0s"}]
    bench.begin(
        [
            *(bench.plan_of(name, steps=steps, soak="0s", ceiling=100) for name in completing),
            *(bench.plan_of(name, suspend=True) for name in suspended),
        ],
        options.rate,
    )
    every = ("-n", NAMESPACE, "annotate", "migrationplan")
    bench.stack.kubectl(*every, *judging, "cutover.dev/rollback=a1")
    bench.until("all plans are rolled back", lambda: bench.in_phase(judging, "RolledBack"), 120, every=5)
    bench.until("all plans are completed", lambda: bench.in_phase(completing, "Completed"), 600, every=5)
    bench.until("all plans are suspended", lambda: bench.in_phase(suspended, "Pending"), 60, every=5)
    _settle()
    count = len(judging) + len(completing) + len(suspended)
    return measure(bench, audit, "at rest", count, options.minutes)


# ------------------------------------------------------------------------------------------------------- what is told


def table(costs: Sequence[Cost], stick: float) -> Table:
    """Return the numbers, in a shape that Markdown understands."""
    columns = Table(box=box.MARKDOWN, show_edge=True)
    columns.add_column("per plan and minute")
    for cost in costs:
        columns.add_column(f"{cost.plans} {cost.what}" if cost.plans else "no plans (per minute)", justify="right")

    def row(name: str, values: Iterator[str]) -> None:
        columns.add_row(name, *values)

    idle = costs[0].cpu_per_minute
    verbs = sorted({verb for cost in costs for verb, _ in cost.audited} - {"watch"})
    for verb in verbs:
        row(f"API requests: {verb}", (_number(cost.verbs((verb,))) for cost in costs))
    row("API requests, without watches", (_number(cost.verbs((*_WRITES, *_READS))) for cost in costs))
    row(
        "– of them by the operator's own count",
        (_number(sum(cost.own.requests.values()) / cost.plan_minutes) for cost in costs),
    )
    row("watches begun, per minute in all", (_number(cost.verbs(("watch",)) * max(cost.plans, 1)) for cost in costs))
    row("Prometheus queries", (_number(cost.own.queries / cost.plan_minutes) for cost in costs))
    row("– by Prometheus' count", (_number(cost.own.answered / cost.plan_minutes) for cost in costs))
    row("– per minute in all", (_number(cost.own.queries / cost.minutes) for cost in costs))
    row("reconciles", (_number(cost.own.passes / cost.plan_minutes) for cost in costs))
    row("CPU, ms", (_number(cost.cpu_ms / cost.plan_minutes) for cost in costs))
    row("– beyond the operator without plans, ms", (_number(_marginal(cost, idle)) for cost in costs))
    row("– the same in yardsticks", (_number(_marginal(cost, idle) / stick) for cost in costs))
    row("CPU, ms per minute in all", (_number(cost.cpu_per_minute) for cost in costs))
    row("memory, MiB: RSS", (_number(cost.memory.rss) for cost in costs))
    row("– PSS", (_number(cost.memory.pss) for cost in costs))
    row("– peak RSS so far", (_number(cost.memory.peak) for cost in costs))
    for q, name in ((0.5, "p50"), (0.99, "p99")):
        row(f"end of block to decision, s: {name}", (_number(quantile(cost.own.delays, q)) for cost in costs))
    return columns


def aims(costs: Sequence[Cost]) -> Iterator[tuple[str, str, bool]]:
    """Compare with the aims: what is asked, what was measured, and whether it is reached."""
    idle = costs[0].cpu_per_minute
    for cost in costs[1:]:
        who, writes, reads = f"{cost.plans} plans {cost.what}", cost.verbs(_WRITES), cost.verbs(_READS)
        if cost.what == "at rest":
            yield f"{who}: no write", _number(writes), writes == 0
            yield f"{who}: no read", _number(reads), reads == 0
            continue
        yield f"{who}: at most {MOST_WRITES:g} write per plan and minute", _number(writes), writes <= MOST_WRITES
        yield f"{who}: at most {MOST_READS:g} read per plan and minute", _number(reads), reads <= MOST_READS
        each, all_of_it = _marginal(cost, idle), cost.cpu_ms / cost.plan_minutes
        yield f"{who}: at most {MOST_CPU_MS:g} ms CPU per plan and minute", _number(each), each <= MOST_CPU_MS
        yield "– with the operator's own share", _number(all_of_it), all_of_it <= MOST_CPU_MS
        yield f"{who}: less than {MOST_MIB:g} MiB", _number(cost.memory.rss), cost.memory.rss < MOST_MIB


def _marginal(cost: Cost, idle: float) -> float:
    return (cost.cpu_per_minute - idle) / max(cost.plans, 1)


def _number(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"


def _by_resource(cost: Cost) -> str:
    counted: Counter[str] = Counter()
    for (verb, resource), count in cost.audited.items():
        counted[f"{verb} {resource}"] += count
    listed = ", ".join(f"{count}× {what}" for what, count in counted.most_common())
    return f"{cost.plans} plans {cost.what}: {listed or 'no requests'}"


def _machine(bench: Bench, options: argparse.Namespace, stick: float) -> str:
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores, Linux {platform.release()}, Python {platform.python_version()}; load average at the end "
        f"{os.getloadavg()[1]:.1f}; one yardstick (100 times a plan to JSON and back) is {stick:.2f} ms; blocks and "
        f"scrapes of {bench.block} s; {options.rate:g} requests/s to each plan; windows of {options.minutes:g} min"
    )


def _settle() -> None:
    time.sleep(SETTLE_SECONDS)


def _say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Run the bench; 0 unless it broke."""
    parser = argparse.ArgumentParser(prog="quiet.py", description="What quiet plans cost the operator.")
    parser.add_argument("--plans", type=int, nargs="+", default=[1, 10, 50], metavar="N", help="numbers of plans")
    parser.add_argument("--minutes", type=float, default=3.0, help="length of each measurement")
    parser.add_argument("--block", type=int, default=15, help="seconds of a block, and between two scrapes")
    parser.add_argument("--rate", type=float, default=1.0, help="requests per second to each plan's service")
    parser.add_argument("--no-rest", action="store_true", help="leave the plans at rest out")
    parser.add_argument("--state", type=Path, help="folder for data and logs, to keep them")
    options = parser.parse_args()
    if min(options.plans) < 1:
        parser.error("a bench needs at least one plan")
    most = max(options.plans)
    names = [f"quiet-{number}" for number in range(most)]
    names += [f"done-{number}" for number in range(0 if options.no_rest else max(1, most // 5))]
    with (
        tempfile.TemporaryDirectory(prefix="cutover-bench-") as scratch,
        Bench(options.state or Path(scratch), names, options.block) as bench,
    ):
        costs, stick = run(bench, options)
        console = Console(width=200, highlight=False)
        console.print(_machine(bench, options, stick) + "\n", soft_wrap=True)
        console.print(table(costs, stick))
        for cost in costs:
            console.print(_by_resource(cost), soft_wrap=True)
        console.print()
        for aim, measured, reached in aims(costs):
            console.print(f"{aim}: {measured}: aim reached: {'yes' if reached else 'no'}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
