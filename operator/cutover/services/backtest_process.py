"""Backtests for the operator, one at a time, each in a process of its own. Namespaces take turns.

Minutes of arithmetic in the operator's process would delay the blocks and rollbacks of all plans.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from cutover.api.durations import span
from cutover.api.v1alpha1 import GROUP, KIND, VERSION, BacktestStatus, BaselineSource
from cutover.domain.backtest.forecast import impossible
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

    Namespaces take turns: a replay takes up to half an hour, and one namespace may have many plans.

    Parameters
    ----------
    days
        Longest record. A plan's own ``baseline.window`` may be shorter.
    runs
        Number of cutovers to replay.
    timeout
        Seconds after which a replay is aborted.
    drain_namespace
        Where the drain runs, whose record is replayed for plans with ``baseline.source: Drain``; ``None`` if there is none.
    command
        The command that replays the plan on its standard input, and writes the forecast as JSON.
    """

    def __init__(
        self,
        *,
        days: float = 7.0,
        runs: int = 200,
        timeout: float = LONGEST_BACKTEST,
        drain_namespace: str | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._command = tuple(command)
        self._days = days
        self._drain_namespace = drain_namespace
        self._runs = runs
        self._timeout = timeout
        self._turns = _Turns()

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
        ]
        drain = self._drain_namespace if plan.spec.baseline.source is BaselineSource.DRAIN else None
        if drain is not None:
            arguments.append(f"--drain-namespace={drain}")
        else:
            arguments.append(f"--service={subscription.heroku}")
            arguments += [f"--gateway-namespace={namespace}" for namespace in subscription.observers]
        async with self._turns.of(plan.namespace):
            try:
                async with asyncio.timeout(self._timeout):
                    return await _in_a_process(
                        [*self._command, *arguments], _manifest(plan, own_thresholds=drain is None)
                    )
            except TimeoutError:
                return impossible(f"the replay was not done within {span(self._timeout)}")
            except OSError as error:
                return impossible(f"the replay could not be started: {error.strerror}")


class _Turns:
    """One turn at a time, for each namespace that waits in turn."""

    def __init__(self) -> None:
        self._busy = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of the namespaces' turns

    @contextlib.asynccontextmanager
    async def of(self, namespace: str) -> AsyncIterator[None]:
        """Wait for a turn of a namespace, and have it."""
        if self._busy:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(namespace, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._next()  # it came together with the cancellation
                raise
        self._busy = True
        try:
            yield
        finally:
            self._next()

    def _next(self) -> None:
        self._busy = False
        while self._waiting:
            namespace = next(iter(self._waiting))
            turns = deque(turn for turn in self._waiting.pop(namespace) if not turn.done())
            if turns:
                self._busy = True
                turns.popleft().set_result(None)
                if turns:
                    self._waiting[namespace] = turns  # behind the others
                return


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


def _manifest(plan: Plan, *, own_thresholds: bool) -> bytes:
    """Return the plan for a replay, with its baseline's thresholds, unless they are of other times than the record's."""
    status: dict[str, Any] = {}
    if plan.status.baseline is not None and own_thresholds:
        status = {"baseline": plan.status.baseline.evolve(backtest=None).to_wire()}
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {"name": plan.name, "namespace": plan.namespace},
        "spec": plan.spec.to_wire(),
        "status": status,
    }
    return json.dumps(body).encode()
