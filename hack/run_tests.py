"""Runs the layers of the tests as several runs of pytest: what computes beside what waits.

``make test`` calls it. Lanes go beside each other. The stages of a lane follow each other; the runs of a stage go beside
each other. What a run prints is kept and shown whole if it fails. At the end come the time of each layer, and pytest's
closing line for all runs together.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tests.kit import budgets

from devstack.support import prioritize_session

ROOT = Path(__file__).resolve().parents[1]
_LOOK_SECONDS = 0.5
# Continuous integration takes a run that says nothing for a hung one.
_HEARTBEAT_SECONDS = 60.0
_END_SECONDS = 15.0
_NO_TESTS = 5
_OUTCOMES = ("failed", "passed", "skipped", "error")


@dataclass(frozen=True)
class Run:
    """One run of pytest.

    Parameters
    ----------
    name
        What it is called in the output.
    paths
        Its tests.
    options
        Further options.
    """

    name: str
    paths: tuple[str, ...]
    options: tuple[str, ...] = ()


Stage = tuple[Run, ...]


@dataclass(frozen=True)
class Lane:
    """Stages that follow each other.

    Parameters
    ----------
    stages
        Runs of a stage go beside each other.
    niceness
        How much its processes leave the cores to other lanes' (0 to 19).
    """

    stages: tuple[Stage, ...]
    niceness: int = 0


def _workers(count: int, distribution: str) -> tuple[str, ...]:
    return "-n", str(count), "--dist", distribution


#: Several at a time on one stack.
_SCENARIOS = (
    "tests/e2e/test_answers_alike.py",
    "tests/e2e/test_cohorts.py",
    "tests/e2e/test_custom_slos.py",
    "tests/e2e/test_cutover.py",
    "tests/e2e/test_flux.py",
    "tests/e2e/test_forward.py",
    "tests/e2e/test_ownership.py",
    "tests/e2e/test_recorded.py",
    "tests/e2e/test_releases.py",
    "tests/e2e/test_takeover.py",
    "tests/e2e/test_team_routes.py",
    "tests/e2e/test_unnoticed.py",
)
#: One test at a time on a stack, as it disturbs all of it.
_ALONE = (
    "tests/e2e/test_behind_a_load_balancer.py",
    "tests/e2e/test_cohort_routes.py",
    "tests/e2e/test_drain.py",
    "tests/e2e/test_high_availability.py",
    "tests/e2e/test_long_requests.py",
    "tests/e2e/test_outages.py",
    "tests/e2e/test_visibility.py",
    "tests/e2e/test_weathering.py",
    "tests/e2e/test_what_apps_see.py",
)
#: The first lane is about reactions in real time: the API server, sockets and Kopf, then many scenarios on one stack, which
#: need a core. The second mostly waits for the programs that it starts. A test that is alone on a stack needs a fifth of a core,
#: but to start a stack takes a whole one: these stacks start before the scenarios do, which need theirs. The third only
#: computes, with what the others leave.
LANES: tuple[Lane, ...] = (
    Lane(
        (
            (Run("apiserver", ("tests/apiserver",), _workers(2, "loadfile")),),
            (Run("wiring and kmock", ("tests/wiring", "tests/kmock"), _workers(2, "worksteal")),),
            (Run("scenarios", _SCENARIOS),),
        )
    ),
    Lane(
        (
            (Run("prometheus and demoapps", ("tests/prometheus", "tests/demoapps")),),
            (Run("alone on a stack", _ALONE, _workers(3, "load")),),
        )
    ),
    Lane(((Run("unit", ("tests/unit",), _workers(2, "worksteal")),),), niceness=19),
)
_HOURS = ("-o", "timeout=7200")
#: What needs real minutes, or all of many cases: docs/development.md says why. It has no short run beside it, as that is in
#: the others.
LONG_STAGES: tuple[Stage, ...] = (
    (
        Run(
            "kills",
            ("tests/unit/test_kill_matrix.py", "tests/unit/test_clock.py", "tests/kmock/test_kill_process.py"),
            (*_workers(2, "worksteal"), *_HOURS),
        ),
    ),
    (Run("properties", ("tests/unit",), ("-m", "hypothesis", *_workers(2, "worksteal"), *_HOURS)),),
    (Run("weathering", ("tests/e2e/test_weathering.py",), _HOURS),),
    (Run("long requests", ("tests/e2e/test_unnoticed.py",), _HOURS),),
    (Run("tutorial", ("tests/long/tutorial.py",), _HOURS),),
    (Run("plugin", ("tests/long/plugin.py",), _HOURS),),
)
#: What makes those tests long.
_LONG_ENVIRONMENT = {"KILL_MATRIX": "full", "OUTAGES": "full", "HYPOTHESIS": "long"}


def _command(run: Run, options: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pytest", *run.paths, *run.options, *options]


def begin(command: Sequence[str], niceness: int, output: BinaryIO) -> subprocess.Popen[bytes]:
    """Begin a process that leaves the cores to others.

    Parameters
    ----------
    command
        The command.
    niceness
        How much it leaves (0 to 19). It has a session then, so that it also leaves them to other sessions, as stacks are.
    output
        Where it writes to.
    """

    def give_way() -> None:
        os.nice(niceness)
        prioritize_session()

    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=niceness > 0,
        preexec_fn=give_way if niceness > 0 else None,
    )


class _Started:
    """A run that has begun."""

    def __init__(self, run: Run, niceness: int, options: Sequence[str], folder: Path) -> None:
        self.name = run.name
        stem = run.name.replace(" ", "-")
        self._log, timings = folder / f"{stem}.log", folder / f"{stem}.jsonl"
        self._written = budgets.Written(timings)
        command = _command(run, [*options, "--timings", str(timings)])
        with self._log.open("wb") as log:
            self.process = begin(command, niceness, log)
        self._told: set[str] = set()
        self._looked_at = 0

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    @property
    def failed(self) -> bool:
        return self.process.returncode not in (0, _NO_TESTS)

    @property
    def text(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def timings(self) -> Sequence[budgets.Timing]:
        return self._written.timings()

    def new_failures(self) -> Iterator[str]:
        """Yield tests that have failed since this was asked last."""
        timings = self.timings()
        new, self._looked_at = timings[self._looked_at :], len(timings)
        for timing in new:
            if timing.outcome == "failed" and timing.test not in self._told:
                self._told.add(timing.test)
                yield timing.test

    def stop(self) -> None:
        """Have it end in good order, so that it stops what it has started; that ends with it in any case."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.ended:
                self.process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(_END_SECONDS)


def _play(lanes: Sequence[Lane], options: Sequence[str], folder: Path) -> list[_Started]:
    """Run all lanes to their ends; tell of failures as they come, of ends, and now and then that there is progress."""
    finished: list[_Started] = []
    spoke = time.monotonic()
    with ExitStack() as stack:

        def started_of(lane: Lane, stage: Stage) -> list[_Started]:
            started = []
            for run in stage:
                started.append(_Started(run, lane.niceness, options, folder))
                stack.callback(started[-1].stop)
            return started

        waiting = {lane: list(lane.stages) for lane in lanes}
        running: dict[Lane, list[_Started]] = {lane: [] for lane in lanes}
        while any(running.values()) or any(waiting.values()):
            for lane, started in running.items():
                if not started and waiting[lane]:
                    stage = waiting[lane].pop(0)
                    _say(f"{', '.join(run.name for run in stage)}: begun")
                    started += started_of(lane, stage)
                for run in list(started):
                    ended = run.ended
                    for test in run.new_failures():
                        _say(f"FAILED {test}")
                    if ended:
                        started.remove(run)
                        finished.append(run)
                        _say(f"{run.name}: {_counted(budgets.outcomes(run.timings()))}")
                        spoke = time.monotonic()
            if time.monotonic() > spoke + _HEARTBEAT_SECONDS:
                under_way = (run for started in running.values() for run in started)
                _say("; ".join(f"{run.name}: {budgets.outcomes(run.timings()).total()} done" for run in under_way))
                spoke = time.monotonic()
            time.sleep(_LOOK_SECONDS)
    return finished


def _counted(outcomes: Counter[str]) -> str:
    names = {"error": "errors"}
    counts = [f"{outcomes[name]} {names.get(name, name)}" for name in _OUTCOMES if outcomes[name]]
    return ", ".join(counts) or "no tests ran"


_began = time.monotonic()


def _say(text: str) -> None:
    seconds = int(time.monotonic() - _began)
    print(f"{seconds // 60:3}:{seconds % 60:02} {text}", flush=True)


def main() -> int:
    """Run the tests; return 0 if all of them passed."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Other options are pytest's.")
    parser.add_argument("--layer", default="", help="only the tests of this folder below tests/")
    parser.add_argument("--long", action="store_true", help="the tests that take too long for all days, instead")
    own, options = parser.parse_known_args()
    if own.long:
        os.environ.update(_LONG_ENVIRONMENT)
    lanes = [_of_layer(lane, own.layer) for lane in ((Lane(LONG_STAGES),) if own.long else LANES)]
    runs = [run for lane in lanes for stage in lane.stages for run in stage]
    if len(runs) == 1:
        # Nothing to keep apart: it is shown as it comes.
        return subprocess.call(_command(runs[0], options), cwd=ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="cutover-tests-") as logs:
        return _summary(_play(lanes, options, Path(logs)))


def _of_layer(lane: Lane, layer: str) -> Lane:
    """Return what there is to run of a lane for one layer, or for all of them."""
    folder = str(Path("tests", layer))

    def chosen(stage: Stage) -> Stage:
        some = (replace(run, paths=tuple(path for path in run.paths if path.startswith(folder))) for run in stage)
        return tuple(run for run in some if run.paths)

    return replace(lane, stages=tuple(filter(None, map(chosen, lane.stages))))


def _summary(finished: Sequence[_Started]) -> int:
    failed = [run for run in finished if run.failed]
    for run in failed:
        print(f"\n{f' {run.name} ':=^80}\n{run.text}")
    timings = [timing for run in finished for timing in run.timings()]
    outcomes = budgets.outcomes(timings)
    # A run that did not get as far as a test, or that failed beside its tests.
    outcomes["error"] += sum(not {"failed", "error"} & budgets.outcomes(run.timings()).keys() for run in failed)
    print(f"\n{' where the time went ':=^80}", *budgets.report(timings), sep="\n")
    if failed:
        print(f"these runs failed, their output is above: {', '.join(run.name for run in failed)}")
    seconds = time.monotonic() - _began
    closing = f" {_counted(outcomes)} in {seconds:.2f}s ({int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}) "
    print(f"{closing:=^80}", flush=True)
    return 1 if failed or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
