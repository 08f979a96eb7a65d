"""Backtests for the operator, one at a time, each in a process of its own.

Minutes of arithmetic in the operator's process would delay the blocks and rollbacks of all plans.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from cutover.api.durations import span
from cutover.api.v1alpha1 import GROUP, KIND, VERSION, BacktestStatus
from cutover.domain.backtest.replay import impossible
from cutover.domain.plan import Plan
from cutover.ports.block_feed import BlockSubscription

#: The command that replays a plan.
COMMAND = (sys.executable, "-m", "cutover.cli.backtest")
#: Seconds after which the operator aborts a replay.
LONGEST_BACKTEST = 1800.0
#: The nice value of a replay beside the operator.
NICENESS = 10
_DAY = 86_400.0


class Backtests:
    """Runs replays for the operator, one at a time, each in a process of its own with low priority.

    Parameters
    ----------
    days
        Longest record. A plan's own ``baseline.window`` may be shorter.
    runs
        Number of cutovers to replay.
    timeout
        Seconds after which a replay is aborted.
    command
        The command that replays the plan on its standard input, and writes the forecast as JSON.
    """

    def __init__(
        self,
        *,
        days: float = 7.0,
        runs: int = 200,
        timeout: float = LONGEST_BACKTEST,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._command = tuple(command)
        self._days = days
        self._runs = runs
        self._timeout = timeout
        self._turn = asyncio.Semaphore(1)

    async def forecast(self, plan: Plan, subscription: BlockSubscription) -> BacktestStatus:
        """Return what a replay predicts for a plan, or a status without runs that says why there is none.

        It takes minutes. It raises only when it is cancelled, which ends the process, too.

        Parameters
        ----------
        plan
            The plan; its baseline has the latency thresholds, if they are known.
        subscription
            Where Heroku's requests are counted.
        """
        days = min(self._days, plan.spec.baseline.window.total_seconds() / _DAY)
        arguments = [
            "--plan=-",
            "--json",
            "--quiet",
            f"--days={days}",
            f"--runs={self._runs}",
            f"--nice={NICENESS}",
            f"--service={subscription.heroku}",
            *(f"--gateway-namespace={namespace}" for namespace in subscription.observers),
        ]
        async with self._turn:
            try:
                async with asyncio.timeout(self._timeout):
                    return await _in_a_process([*self._command, *arguments], _manifest(plan))
            except TimeoutError:
                return impossible(f"the replay was not done within {span(self._timeout)}")
            except OSError as error:
                return impossible(f"the replay could not be started: {error.strerror}")


async def _in_a_process(command: Sequence[str], manifest: bytes) -> BacktestStatus:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # The replay multiplies no matrices; a pool of threads would only take memory.
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    try:
        answer, problem = await process.communicate(manifest)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    try:
        return BacktestStatus.from_wire(json.loads(answer)["backtest"])
    except (KeyError, TypeError, ValueError):
        last = problem.decode(errors="replace").strip().splitlines()[-1:]
        return impossible(f"the replay ended with {process.returncode}: {''.join(last)[:300]}")


def _manifest(plan: Plan) -> bytes:
    status: dict[str, Any] = {}
    if plan.status.baseline is not None:  # its thresholds
        status = {"baseline": plan.status.baseline.evolve(backtest=None).to_wire()}
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": plan.name, "namespace": plan.namespace},
        "spec": plan.spec.to_wire(),
        "status": status,
    }
    return json.dumps(body).encode()
