"""CPU and memory of judging plans' loops in one process, with everything outside of them played.

``PYTHONPATH=operator:hack:. python tests/bench/loop.py compare --beside DIRECTORY`` compares the operator of this working
tree with that of another: two processes take turns minute by minute, as a busy machine is seldom equally busy for longer.
``weigh`` shows the memory of a plan, ``profile`` where the time goes. HTTP, Kopf and Prometheus are left out; ``scale.py`` has them.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import json
import logging
import os
import pstats
import random
import statistics
import subprocess
import sys
import time
import tracemalloc
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from tests.kit.loop_rig import START, LoopRig, shifting

from cutover.api.v1alpha1 import Checkpoint, MigrationPlanStatus
from cutover.domain import managed_fields
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.plan import Plan
from cutover.ports.errors import Conflict
from cutover.scale.garbage import YOUNG
from cutover.scale.packing import slim
from cutover.services.plan_loop import PlanLoop
from sandbox import manifests

ROOT = Path(__file__).resolve().parents[2]
BLOCK, WEIGHT = 15.0, 10
WARM_UP_MINUTES = 3
LATENCY = {"slowMs": 100, "verySlowMs": 1000}
GATES = {"block": "15s", "slos": [{"name": "errors", "errors": {}}, {"name": "latency", "latency": LATENCY}]}


def _at_first_step() -> MigrationPlanStatus:
    return shifting(WEIGHT, checkpoint=Checkpoint(at=START, weight_since=START, consumed_until=START))


@dataclass
class JudgedPlan(LoopRig):
    """A plan at its first step, which the watch returns as the API server does: as text, with all managed fields."""

    status: MigrationPlanStatus = field(default_factory=_at_first_step)
    weight: int = WEIGHT
    revision: str = f"a1-w{WEIGHT}"

    def deliver(self) -> None:
        fields = {"f:spec": {}, "f:status": {"f:gates": {}}, "f:metadata": {"f:annotations": {}}}
        kept = [{"manager": "kubectl", "operation": "Apply", "time": "2027-01-11T10:00:00Z", "fieldsV1": fields}]
        metadata = {**self.body_metadata, "managedFields": kept}
        text = json.dumps({"metadata": metadata, "spec": self.spec, "status": self.wire})
        self.watch = json.loads(text)
        slim(self.watch, managed_fields.of_spec_and_annotations)

    @property
    def body_metadata(self) -> dict[str, Any]:
        return {
            "namespace": "docs",
            "name": self.uid,
            "uid": self.uid,
            "generation": 1,
            "resourceVersion": str(self.version),
        }

    async def write_status(self, plan: Plan, status: MigrationPlanStatus, resource_version: str) -> str:
        if resource_version != str(self.version):
            raise Conflict("the status was modified")
        self.version += 1
        self.wire = status.to_wire()
        return str(self.version)


class Played:
    """Plans that are judged, block by block."""

    def __init__(self, plans: int) -> None:
        self._random = random.Random(1)
        spec = manifests.plan("pdf", steps=[{"weight": 10, "hold": "12h"}, {"weight": 100}], ceiling=10, gates=GATES)
        self._plans = [JudgedPlan(uid=f"plan-{number}", spec=spec["spec"]) for number in range(plans)]
        self._loops: list[PlanLoop] = [plan.loop() for plan in self._plans]

    async def minute(self) -> float:
        """Let the plans judge for a minute, in which each writes a checkpoint; return the CPU time of their loops."""
        spent = 0.0
        for _ in range(round(60 / BLOCK)):
            for plan in self._plans:
                self._block(plan)
            begun = time.process_time()
            for plan, loop in zip(self._plans, self._loops, strict=True):
                known = plan.version
                loop.wake()  # no checkpoint waits for others
                await loop.reconcile()
                if plan.version != known:
                    plan.deliver()
                    loop.notice(plan.watch)
            await asyncio.sleep(0)  # for the probes
            spent += time.process_time() - begun
        return spent

    def check(self) -> None:
        """Fail if the plans were not judged: then they cost nothing."""
        for plan in self._plans:
            status = plan.stored
            assert status.checkpoint is not None
            assert status.checkpoint.observed_at is not None, status.message
            assert status.gates, status.message

    def _block(self, plan: JudgedPlan) -> None:
        start, plan.now = plan.now, plan.now + BLOCK
        heroku, eks = self._counts(270), self._counts(30)
        codes = [{"200": counts.ok, "500": counts.errors} for counts in (heroku, eks)]
        plan.blocks[:] = [Block(start, plan.now, heroku, eks, heroku_codes=codes[0], eks_codes=codes[1])]

    def _counts(self, requests: int) -> Counts:
        return Counts(
            requests=requests,
            errors=self._some(requests, 0.001),
            timed=requests,
            slow=self._some(requests, 0.04),
            very_slow=self._some(requests, 0.0005),
        )

    def _some(self, requests: int, part: float) -> float:
        return float(sum(self._random.random() < part for _ in range(requests)))


async def serve(plans: int) -> None:
    """Let a minute pass for each line of the input; write the CPU time per plan in milliseconds."""
    gc.set_threshold(YOUNG, *gc.get_threshold()[1:])
    played = Played(plans)
    for _ in range(WARM_UP_MINUTES):
        await played.minute()
    gc.collect()
    gc.freeze()
    for _ in sys.stdin:
        print(1000 * await played.minute() / plans, flush=True)
    played.check()


async def profile(plans: int, minutes: int) -> None:
    """Show where the time goes."""
    played = Played(plans)
    for _ in range(WARM_UP_MINUTES):
        await played.minute()
    with cProfile.Profile() as profile:
        for _ in range(minutes):
            await played.minute()
    pstats.Stats(profile).sort_stats("tottime").print_stats(60)


async def weigh(plans: int) -> None:
    """Write the memory of a plan in KiB: all that its loop and Kopf's object have."""
    await Played(1).minute()
    tracemalloc.start()
    played = Played(plans)
    for _ in range(WARM_UP_MINUTES):
        await played.minute()
    gc.collect()
    print(f"{tracemalloc.get_traced_memory()[0] / plans / 1024:.1f} KiB a plan")
    played.check()


def compare(there: Path, plans: int, minutes: int) -> None:
    """Show the median of the ratios of minutes that ran one after the other, first with the one tree, then with the other."""
    with ExitStack() as stack:
        here, beside = (stack.enter_context(_served(tree, plans)) for tree in (ROOT, there))
        pairs = [(_next(beside), _next(here)) for _ in range(minutes)]
    before, after = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(second / first for first, second in pairs)
    print(f"{before:.2f} ms → {after:.2f} ms a plan and minute: × {ratio:.3f}")


def _served(tree: Path, plans: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{tree / 'operator'}:{ROOT / 'hack'}:{ROOT}", "PYTHONHASHSEED": "0"}
    command = [sys.executable, __file__, "serve", "--plans", str(plans)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _next(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("compare", "profile", "weigh", "serve"))
    parser.add_argument("--plans", type=int, default=150)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--beside", type=Path, default=ROOT, help="the other working tree")
    asked = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    match asked.what:
        case "compare":
            compare(asked.beside, asked.plans, asked.minutes)
        case "profile":
            asyncio.run(profile(asked.plans, asked.minutes))
        case "weigh":
            asyncio.run(weigh(asked.plans))
        case _:
            asyncio.run(serve(asked.plans))


if __name__ == "__main__":
    main()
