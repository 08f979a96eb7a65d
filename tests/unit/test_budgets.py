"""What the runs of the tests say at their end."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from tests.kit.budgets import BUDGETS, Timing, Written, outcomes, report

import run_tests

TESTS = Path(__file__).parents[1]


def timing(
    test: str = "tests/unit/test_a.py::test_b", phase: str = "call", outcome: str = "passed", **more: float
) -> Timing:
    return Timing(test, phase, outcome, **{"start": 0.0, "stop": 1.0, "cpu": 0.5} | more)


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ({"setup": "passed", "call": "passed", "teardown": "passed"}, "passed"),
        ({"setup": "passed", "call": "failed", "teardown": "passed"}, "failed"),
        ({"setup": "passed", "call": "skipped", "teardown": "passed"}, "skipped"),
        ({"setup": "skipped", "teardown": "passed"}, "skipped"),
        ({"setup": "failed", "teardown": "passed"}, "error"),
        ({"setup": "passed", "call": "passed", "teardown": "failed"}, "error"),
        ({"setup": "passed", "call": "failed", "teardown": "failed"}, "error"),
    ],
)
def test_a_test_is_counted_once(phases: dict[str, str], outcome: str) -> None:
    timings = [timing(phase=phase, outcome=result) for phase, result in phases.items()]
    assert outcomes(timings) == Counter({outcome: 1})


def test_a_layer_over_its_budget_is_named() -> None:
    layers = {"unit": 60 * BUDGETS["unit"] + 1, "kmock": 60 * BUDGETS["kmock"] - 1}
    lines = list(report(timing(f"tests/{layer}/test_a.py::test_b", cpu=cpu) for layer, cpu in layers.items()))
    assert [line.split()[0] for line in lines if line.endswith("OVER BUDGET")] == ["unit"]
    assert lines[-1].startswith("OVER BUDGET: unit. ")


def test_layers_are_as_long_as_from_their_first_test_to_their_last() -> None:
    """Tests of two workers go beside each other: their sum says how much there is to do."""
    two = [timing(start=0.0, stop=100.0, cpu=10.0), timing(start=20.0, stop=130.0, cpu=10.0)]
    assert next(line for line in report(two) if line.startswith("unit")).split() == [
        "unit", "1", "2:10", "3:30", "0:20", f"{BUDGETS['unit']:.0f}:00",
    ]  # fmt: skip


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    path = tmp_path / "timings"
    written = Written(path)
    assert written.timings() == []
    line = json.dumps(asdict(timing()))
    path.write_text(f"{line}\n{line[:-9]}")
    assert written.timings() == [timing()]
    path.write_text(f"{line}\n{line}\n")
    assert written.timings() == [timing(), timing()]


def test_every_layer_is_run_and_has_a_budget() -> None:
    layers = {path.parent.relative_to(TESTS).parts[0] for path in TESTS.rglob("test_*.py")}
    assert set(BUDGETS) == layers


def test_make_test_runs_every_file_once() -> None:
    """Whoever adds a file to a layer of which single files are named has to say where it is run."""
    paths = [
        TESTS.parent / path for lane in run_tests.LANES for stage in lane.stages for run in stage for path in run.paths
    ]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("test_*.py"))]
    assert sorted(files) == sorted(TESTS.rglob("test_*.py"))
