"""Requests and limits to begin with, from what the web dynos use. One replica takes the place of one dyno."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cutover.domain.dynos import DynoUse
from cutover.domain.preflight.workload import MEBIBYTE

#: Part of the most memory that the limit is above it: a container is ended at its limit, and runs on for longer than a day.
MEMORY_MARGIN = 0.25
#: MiB and CPUs to which is rounded up, and that are asked for at least.
MEMORY_STEP, CPU_STEP, LEAST_MEMORY, LEAST_CPU = 64, 0.05, 128, 0.1
#: CPUs that are asked for at most: a load above the number of CPUs is a queue, and no use.
MOST_CPU = 8.0


@dataclass(frozen=True, slots=True)
class Sizing:
    """Resources of the app's container.

    Parameters
    ----------
    cpu
        CPUs to request; ``None`` if nothing is known. There is no CPU limit: it would throttle.
    memory, most_memory
        MiB to request, and the limit.
    """

    cpu: float | None
    memory: int
    most_memory: int

    @property
    def yaml(self) -> str:
        """As the manifest has it, on one line."""
        cpu = f"cpu: {round(self.cpu * 1000)}m, " if self.cpu is not None else ""
        return f"resources: {{requests: {{{cpu}memory: {self.memory}Mi}}, limits: {{memory: {self.most_memory}Mi}}}}"


def sizing_for(use: DynoUse) -> Sizing:
    """Return the resources to begin with, for what a dyno uses."""
    memory = _stepped(use.memory / MEBIBYTE)
    most = max(_stepped(use.most_memory / MEBIBYTE * (1 + MEMORY_MARGIN)), memory)
    cpu = None
    if use.load is not None:
        cpu = min(max(math.ceil(round(use.load / CPU_STEP, 6)) * CPU_STEP, LEAST_CPU), MOST_CPU)
    return Sizing(cpu, memory, most)


def _stepped(mebibytes: float) -> int:
    return max(math.ceil(mebibytes / MEMORY_STEP) * MEMORY_STEP, LEAST_MEMORY)
