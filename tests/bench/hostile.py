"""What a hostile namespace and a large mesh cost the operator: ``python tests/bench/hostile.py [--objects 1000] [--kib 100]``.

A real etcd and kube-apiserver; the operator as its own process under its ServiceAccount, with the chart's settings for
memory. Beside a few plans of another team there are, one after the other:

- a namespace with many large objects of each kind that the operator watches, with the operator's label and names, which
  somebody edits all the time, while a plan of another team is in preflight;
- a mesh with thousands of VirtualServices and ServiceEntries, while a plan is in preflight.

Printed are the process' peak memory beside the chart's limit, and how long its event loop was held.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from measuring import Memory, cpu_seconds
from rich.console import Console
from rich.table import Table
from scale import INGRESS, ScaleStack, chart_memory, first_step, plan_of

from devstack.support import free_port
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, ROOT, Json

HOSTILE = "hostile"
PLANS = 10
ISTIO, OWN = "networking.istio.io/v1", "cutover.dev/v1alpha1"
LAG = Path(__file__).with_name("with_lag.py")


def labelled(kind: str, number: int, kib: int) -> Json:
    """Return a large object that looks like the operator's, or that the operator reads."""
    name = f"cutover-x{number}" if kind == "VirtualService" else f"x{number}"
    meta = {"name": name, "namespace": HOSTILE, "labels": {"cutover.dev/plan": f"x{number}"}}
    fill = {f"example.com/a{n}": "x" * 1000 for n in range(kib)}
    match kind:
        case "VirtualService":
            # Small fields, which take most memory when they are parsed.
            routes = [
                {"match": [{"uri": {"exact": f"/{n}"}}], "route": [{"destination": {"host": "a"}}]}
                for n in range(kib * 9)
            ]
            return {
                "apiVersion": ISTIO,
                "kind": kind,
                "metadata": meta,
                "spec": {"hosts": [f"{name}.example.com"], "gateways": [f"{INGRESS}/public"], "http": routes},
            }
        case "GateTemplate":
            spec = {"description": "x", "runbook": "x", "bound": {"query": "a", "max": "1"}}
            return {"apiVersion": OWN, "kind": kind, "metadata": meta | {"annotations": fill}, "spec": spec}
        case _:
            body = plan_of(name)
            body["metadata"] = meta | {"annotations": fill}
            body["spec"]["suspend"] = True
            return body


def meshed(kind: str, number: int) -> Json:
    """Return one of the thousands of objects of a mesh."""
    meta = {"name": f"m{number}", "namespace": "mesh"}
    host = f"m{number}.example.com"
    if kind == "VirtualService":
        route = [
            {"match": [{"uri": {"prefix": f"/{n}"}}], "route": [{"destination": {"host": f"s{n}"}}]} for n in range(20)
        ]
        return {
            "apiVersion": ISTIO,
            "kind": kind,
            "metadata": meta,
            "spec": {"hosts": [host], "gateways": [f"{INGRESS}/public"], "http": route},
        }
    spec = {"hosts": [host], "ports": [{"number": 443, "name": "tls", "protocol": "TLS"}], "resolution": "DNS"}
    return {"apiVersion": ISTIO, "kind": kind, "metadata": meta, "spec": spec}


PLURALS = {
    "VirtualService": "virtualservices",
    "ServiceEntry": "serviceentries",
    "GateTemplate": "gatetemplates",
    "MigrationPlan": "migrationplans",
}


def path_of(body: Json, name: str = "") -> str:
    return (
        f"/apis/{body['apiVersion']}/namespaces/{body['metadata']['namespace']}/{PLURALS[body['kind']]}/{name}".rstrip(
            "/"
        )
    )


class Bench:
    """A control plane and an operator."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ScaleStack(folder / "stack", scrape_interval_seconds=15, log=lambda text: None)
        self.process: subprocess.Popen[bytes] | None = None
        self.lag = folder / "lag"

    def start_operator(self) -> None:
        """Start the operator, and its counts from zero."""
        account = self.stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "operator"),
            "CUTOVER_KUBECONFIG": str(account),
            "CUTOVER_PROMETHEUS_URL": self.stack.prometheus_url,
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
            "CUTOVER_HEALTH_PORT": str(free_port()),
            "CUTOVER_METRICS_PORT": str(free_port()),
            "CUTOVER_GATEWAY_URLS": json.dumps({f"{INGRESS}/public": "http://127.0.0.1:9"}),
            "BENCH_LAG": str(self.lag),
            **chart_memory(),
        }
        self.lag.write_text("0 0")
        with (self.folder / "operator.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, str(LAG)], env=environment, stdout=log, stderr=log)

    def stop_operator(self) -> None:
        """End the operator."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process = None

    def session(self) -> aiohttp.ClientSession:
        """Return connections to the API server as its administrator."""
        config = yaml.safe_load(self.stack.kubeconfig.read_text())
        headers = {"Authorization": f"Bearer {config['users'][0]['user']['token']}"}
        connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=self.stack.ca_file), limit=8)
        return aiohttp.ClientSession(self.stack.api_url, headers=headers, connector=connector)

    async def create(self, session: aiohttp.ClientSession, bodies: list[Json]) -> None:
        """Create objects."""

        async def one(body: Json) -> None:
            async with session.post(path_of(body), json=body) as answer:
                if not answer.ok:
                    raise RuntimeError((await answer.text())[:300])

        for some in itertools.batched(bodies, 16) if hasattr(itertools, "batched") else _batched(bodies, 16):
            await asyncio.gather(*map(one, some))

    async def edit(self, session: aiohttp.ClientSession, bodies: list[Json], seconds: float, rate: float) -> int:
        """Edit objects in turn, and return how often that was done."""
        end, edits = time.monotonic() + seconds, 0
        headers = {"Content-Type": "application/merge-patch+json"}
        for number, body in enumerate(itertools.cycle(bodies)):
            if time.monotonic() > end:
                return edits
            patch = {"metadata": {"annotations": {"example.com/edit": str(number)}}}
            url = path_of(body, body["metadata"]["name"])
            async with session.patch(url, data=json.dumps(patch), headers=headers) as answer:
                edits += answer.ok
            await asyncio.sleep(1 / rate)
        return edits

    async def drop(self, session: aiohttp.ClientSession, kind: str, version: str, namespace: str) -> None:
        """Delete all objects of a kind in a namespace."""
        async with session.delete(f"/apis/{version}/namespaces/{namespace}/{PLURALS[kind]}") as answer:
            await answer.read()

    def told(self) -> tuple[float, float, float]:
        """Return the peak memory in MiB, and the longest and the total time over 50 ms that the loop was held."""
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"the operator ended: {(self.folder / 'operator.log').read_text()[-2000:]}")
        longest, over = map(float, self.lag.read_text().split())
        return Memory.of(self.process.pid).peak, longest, over


def _batched(items: list[Json], size: int) -> list[list[Json]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def chart_limit() -> int:
    """Return the chart's limit in MiB."""
    values = yaml.safe_load((ROOT / "charts" / "cutover" / "values.yaml").read_text())
    return int(re.fullmatch(r"(\d+)Mi", values["resources"]["limits"]["memory"])[1])  # type: ignore[index]


async def run(bench: Bench, options: argparse.Namespace, row: Callable[..., None]) -> None:
    """Measure everything."""
    bench.stack.apply(
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (HOSTILE, "mesh")]
    )
    async with bench.session() as session:
        for number in range(PLANS):
            body = plan_of(f"good{number}")
            await bench.create(session, [body])
            async with session.get(path_of(body, f"good{number}")) as answer:
                stored = await answer.json()
            async with session.put(
                f"{path_of(body, f'good{number}')}/status", json=stored | {"status": first_step()}
            ) as answer:
                assert answer.ok, await answer.text()

        async def measured(name: str, work: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> None:
            bench.start_operator()
            await asyncio.sleep(seconds)
            start = bench.told()
            assert bench.process is not None
            cpu, began = cpu_seconds(bench.process.pid), time.monotonic()
            said = await work()
            used = (cpu_seconds(bench.process.pid) - cpu) / (time.monotonic() - began)
            row(name, start, bench.told(), used, said)
            bench.stop_operator()

        async def rest() -> str:
            await asyncio.sleep(options.seconds / 2)
            return ""

        await measured("alone", rest)
        for kind in options.kinds:
            bodies = [labelled(kind, number, options.kib) for number in range(options.objects)]
            await bench.create(session, bodies)

            # Another team's plan is in preflight meanwhile, whose checks list these objects again and again.
            waiting = plan_of(f"waiting-{kind.lower()}")
            waiting["spec"]["traffic"]["istio"]["hosts"] = [f"{kind.lower()}.example.com"]
            await bench.create(session, [waiting])

            async def edits(bodies: list[Json] = bodies, waiting: Json = waiting) -> str:
                edits = await bench.edit(session, bodies, options.seconds, options.rate)
                async with session.get(path_of(waiting, waiting["metadata"]["name"])) as answer:
                    status = (await answer.json()).get("status", {})
                return f"{edits} edits, the waiting plan: {status.get('message', 'no status')[:60]}"

            await measured(f"{options.objects} × {options.kib} KiB {kind}", edits, 40.0)
            if kind != "MigrationPlan":
                await bench.drop(session, kind, bodies[0]["apiVersion"], HOSTILE)
        if options.mesh:
            for kind in ("VirtualService", "ServiceEntry"):
                await bench.create(session, [meshed(kind, number) for number in range(options.mesh)])

            async def preflight() -> str:
                body = plan_of("fresh")
                body["spec"]["traffic"]["istio"]["hosts"] = ["m1.example.com"]
                await bench.create(session, [body])
                end = time.monotonic() + 60
                while time.monotonic() < end:
                    await asyncio.sleep(1)
                    async with session.get(path_of(body, "fresh")) as answer:
                        checks = (await answer.json()).get("status", {}).get("preflight") or []
                    if checks:
                        return "; ".join(f"{one['check']} {one['result']}" for one in checks)[:90]
                return "no checks"

            await measured(f"mesh of {options.mesh}", preflight)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--kib", type=int, default=100)
    parser.add_argument("--mesh", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=20.0, help="edits a second")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--kinds", nargs="*", default=["VirtualService", "GateTemplate", "MigrationPlan"])
    options = parser.parse_args()
    table = Table("", "peak after the start, MiB", "peak at the end", "loop held, ms: start", "then", "cores", "")
    console = Console(width=170)

    def row(
        name: str, start: tuple[float, float, float], end: tuple[float, float, float], cpu: float, said: str
    ) -> None:
        table.add_row(
            name,
            f"{start[0]:.0f}",
            f"{end[0]:.0f}",
            f"{1000 * start[1]:.0f}",
            f"{1000 * end[1]:.0f}",
            f"{cpu:.2f}",
            said,
        )
        console.print(f"{name}: {start} {end} {cpu:.2f} {said}")

    with tempfile.TemporaryDirectory(prefix="cutover-hostile-") as folder:
        bench = Bench(Path(folder))
        bench.stack.start()
        try:
            asyncio.run(run(bench, options, row))
        finally:
            bench.stop_operator()
            bench.stack.stop()
    console.print(table)
    console.print(f"the chart's limit: {chart_limit()} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
