"""Time budgets of the test layers: what each layer took, how much of it was waiting, and the slowest tests.

`tests/conftest.py` makes this a plugin of each run of pytest. ``--timings FILE`` has a run write its numbers to a file
instead of showing them, for `hack/run_tests.py`, which shows those of several runs together.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import pytest

#: Minutes for which a layer may compute, programs that it starts included: together two cores have them in 25 minutes. How long
#: a layer takes says less, as several go beside each other.
BUDGETS = {
    "unit": 13.0,
    "wiring": 1.0,
    "kmock": 1.0,
    "apiserver": 9.5,
    "prometheus": 2.5,
    "demoapps": 0.5,
    "e2e": 21.5,
}
_SLOWEST = 10


@dataclass(frozen=True)
class Timing:
    """One phase of a test: its set-up, its call or its tear-down.

    Parameters
    ----------
    test
        The test's node id.
    phase
        ``setup``, ``call`` or ``teardown``.
    outcome
        ``passed``, ``failed`` or ``skipped``.
    start, stop
        Unix seconds.
    cpu
        Seconds of computing by the process of the test and its children that ended meanwhile.
    """

    test: str
    phase: str
    outcome: str
    start: float
    stop: float
    cpu: float

    @property
    def layer(self) -> str:
        """The folder of the test below ``tests``."""
        return self.test.split("/")[1] if self.test.startswith("tests/") else "others"


@dataclass
class _Layer:
    tests: set[str] = field(default_factory=set)
    start: float = float("inf")
    stop: float = 0.0
    worked: float = 0.0
    cpu: float = 0.0

    def add(self, timing: Timing) -> None:
        self.tests.add(timing.test)
        self.start, self.stop = min(self.start, timing.start), max(self.stop, timing.stop)
        self.worked += timing.stop - timing.start
        self.cpu += timing.cpu


def report(timings: Iterable[Timing]) -> Iterator[str]:
    """Yield the lines that show where the time went.

    Parameters
    ----------
    timings
        Of one run, or of several beside each other.
    """
    layers: dict[str, _Layer] = defaultdict(_Layer)
    tests: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for timing in timings:
        layers[timing.layer].add(timing)
        tests[timing.test][0] += timing.stop - timing.start
        tests[timing.test][1] += timing.cpu
    yield f"{'layer':12} {'tests':>6} {'took':>8} {'in tests':>9} {'computing':>10} {'budget':>8}"
    over = []
    for name, layer in sorted(layers.items(), key=lambda item: item[1].start):
        budget = BUDGETS.get(name)
        if budget and layer.cpu > 60 * budget:
            over.append(name)
        yield (
            f"{name:12} {len(layer.tests):6} {_minutes(layer.stop - layer.start):>8} {_minutes(layer.worked):>9} "
            f"{_minutes(layer.cpu):>10} {_minutes(60 * budget) if budget else '-':>8}{'  OVER BUDGET' if name in over else ''}"
        )
    yield f"the {_SLOWEST} slowest tests, and how much of that they computed:"
    slowest = sorted(tests.items(), key=lambda item: item[1][0], reverse=True)
    yield from (
        f"{took:7.1f} s {cpu:6.1f} s  {' '.join(test.split()):.140}" for test, (took, cpu) in slowest[:_SLOWEST]
    )
    if over:
        yield f"OVER BUDGET: {', '.join(over)}. Have tests share what they start, or move many cases to make test-long."


class Written:
    """What a run with ``--timings`` has written so far.

    Parameters
    ----------
    path
        The file; a missing one counts as empty.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self._timings: list[Timing] = []

    def timings(self) -> Sequence[Timing]:
        """Return all of it; what was read before is not read again."""
        with contextlib.suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._read += len(line)
                self._timings.append(Timing(**json.loads(line)))
        return self._timings


def outcomes(timings: Iterable[Timing]) -> Counter[str]:
    """Count tests by how they ended; one whose set-up or tear-down failed has ended with an error."""
    worst: dict[str, str] = {}
    order = ("skipped", "passed", "failed", "error")
    for timing in timings:
        outcome = "error" if timing.outcome == "failed" and timing.phase != "call" else timing.outcome
        if timing.phase == "call" or outcome in ("error", "skipped"):
            worst[timing.test] = max(worst.get(timing.test, outcome), outcome, key=order.index)
    return Counter(worst.values())


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


# -------------------------------------------------------------------------------------------------------- the plugin


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--timings``."""
    parser.addoption("--timings", type=Path, help="write the times of the tests to this file, one JSON object a line")


def pytest_configure(config: pytest.Config) -> None:
    """Measure in each process; collect where the results come together."""
    if config.pluginmanager.has_plugin("budgets-measure"):
        return
    config.pluginmanager.register(_Measure(), "budgets-measure")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Collect(config.getoption("--timings")), "budgets-collect")


class _Measure:
    """Notes the computing time of each phase in its report, which workers send to the main process."""

    def __init__(self) -> None:
        self._last = self._now()

    @staticmethod
    def _now() -> float:
        spent = os.times()
        return spent.user + spent.system + spent.children_user + spent.children_system

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        # Neither the imports nor the collection are of a test.
        self._last = self._now()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, Any, Any]:
        made = yield
        now = self._now()
        made.cpu, self._last = now - self._last, now
        return made


class _Collect:
    def __init__(self, path: Path | None) -> None:
        self._timings: list[Timing] = []
        self._path = path
        self._file: TextIO | None = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cpu = getattr(report, "cpu", 0.0)
        timing = Timing(report.nodeid, report.when or "", report.outcome, report.start, report.stop, cpu)
        self._timings.append(timing)
        if self._path is not None:
            self._file = self._file or self._path.open("a", encoding="utf-8")
            self._file.write(json.dumps(asdict(timing)) + "\n")
            self._file.flush()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._path is None and sum(timing.phase == "call" for timing in self._timings) > 1:
            terminalreporter.section("where the time went")
            for line in report(self._timings):
                terminalreporter.write_line(line)
