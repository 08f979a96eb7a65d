"""Runs the layers of the tests as several runs of pytest: waiting layers beside each other, computing layers apart.

``make test`` calls it. Stages follow each other; the runs of a stage go beside each other. What a run prints is kept
and shown whole if it fails. At the end come the time of each layer, and pytest's closing line for all runs together.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.kit import budgets

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


def _workers(count: int, distribution: str) -> tuple[str, ...]:
    return "-n", str(count), "--dist", distribution


#: One test at a time on a stack.
_DISTURBING = (
    "tests/e2e/test_high_availability.py",
    "tests/e2e/test_outages.py",
    "tests/e2e/test_weathering.py",
)
#: Several at a time on one stack; what needs that stack for itself comes after them.
_SCENARIOS = (
    "tests/e2e/test_cohorts.py",
    "tests/e2e/test_cutover.py",
    "tests/e2e/test_custom_slos.py",
    "tests/e2e/test_flux.py",
    "tests/e2e/test_forward.py",
    "tests/e2e/test_ownership.py",
    "tests/e2e/test_long_requests.py",
    "tests/e2e/test_recorded.py",
    "tests/e2e/test_releases.py",
    "tests/e2e/test_takeover.py",
    "tests/e2e/test_team_routes.py",
    "tests/e2e/test_unnoticed.py",
    "tests/e2e/test_visibility.py",
    "tests/e2e/test_what_apps_see.py",
    "tests/e2e/test_drain.py",
    "tests/e2e/test_answers_alike.py",
    "tests/e2e/test_behind_a_load_balancer.py",
)
#: By stage. The first fills both cores: its tests compute, or start programs and wait for what these say. The scenarios of the
#: second have reaction times to meet, and need two thirds of a core; what runs beside them waits most of the time. In the
#: third each worker has a stack of its own, for one cutover at a time.
STAGES: tuple[tuple[Run, ...], ...] = (
    (
        Run("unit and kmock", ("tests/unit", "tests/kmock"), _workers(2, "worksteal")),
        Run("apiserver", ("tests/apiserver",), _workers(2, "loadfile")),
    ),
    (
        Run("scenarios", _SCENARIOS),
        Run("prometheus and demoapps", ("tests/prometheus", "tests/demoapps")),
    ),
    (Run("disturbed stacks", _DISTURBING, _workers(4, "load")),),
)
_HOURS = ("-o", "timeout=7200")
#: What needs real minutes, or all of many cases: docs/development.md says why. It has no short run beside it, as that is in
#: the others.
LONG_STAGES: tuple[tuple[Run, ...], ...] = (
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


class _Started:
    """A run that has begun."""

    def __init__(self, run: Run, options: Sequence[str], folder: Path) -> None:
        self.name = run.name
        stem = run.name.replace(" ", "-")
        self._log, timings = folder / f"{stem}.log", folder / f"{stem}.jsonl"
        self._written = budgets.Written(timings)
        command = _command(run, [*options, "--timings", str(timings)])
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
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


@contextmanager
def _beside_each_other(runs: Sequence[Run], options: Sequence[str], folder: Path) -> Iterator[list[_Started]]:
    with ExitStack() as stack:
        started = []
        for run in runs:
            started.append(_Started(run, options, folder))
            stack.callback(started[-1].stop)
        yield started


def _watch(started: Sequence[_Started]) -> None:
    """Tell of failures as they come, of ends, and now and then that there is progress; return when all have ended."""
    open_runs, spoke = list(started), time.monotonic()
    while open_runs:
        time.sleep(_LOOK_SECONDS)
        for run in list(open_runs):
            ended = run.ended
            for test in run.new_failures():
                _say(f"FAILED {test}")
            if ended:
                open_runs.remove(run)
                _say(f"{run.name}: {_counted(budgets.outcomes(run.timings()))}")
                spoke = time.monotonic()
        if open_runs and time.monotonic() > spoke + _HEARTBEAT_SECONDS:
            _say("; ".join(f"{run.name}: {budgets.outcomes(run.timings()).total()} done" for run in open_runs))
            spoke = time.monotonic()


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
    stages = [_of_layer(stage, own.layer) for stage in (LONG_STAGES if own.long else STAGES)]
    if [len(stage) for stage in stages if stage] == [1]:
        # Nothing to keep apart: it is shown as it comes.
        (run,) = (run for stage in stages for run in stage)
        return subprocess.call(_command(run, options), cwd=ROOT)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    finished: list[_Started] = []
    with tempfile.TemporaryDirectory(prefix="cutover-tests-") as logs:
        for stage in filter(None, stages):
            _say(", ".join(run.name for run in stage))
            with _beside_each_other(stage, options, Path(logs)) as started:
                _watch(started)
            finished += started
        return _summary(finished)


def _of_layer(stage: Sequence[Run], layer: str) -> list[Run]:
    """Return what there is to run of a stage for one layer, or for all of them."""
    folder = str(Path("tests", layer))
    chosen = (replace(run, paths=tuple(path for path in run.paths if path.startswith(folder))) for run in stage)
    return [run for run in chosen if run.paths]


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
