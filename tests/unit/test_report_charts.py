"""The charts of the report: the time axis, and pictures that are whole whatever is drawn."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from cutover.api.v1alpha1 import GateLimits, GateNumbers, GateRatios, ToleranceStatus
from cutover.domain.traffic import Leg
from cutover.report.charts import Level, Mark, bar, legs_chart, lines_chart, shows_legs, weights_chart
from cutover.report.history import Line
from cutover.report.page import Bar, Tone
from cutover.report.timescale import LEAST_OF_FAIR, LEAST_PART, TimeScale

HOUR, DAY = 3600.0, 86_400.0
WHOLE = TimeScale.of([0.0, 600.0], 56.0, 876.0)


def drawn(svg: Markup) -> ET.Element:
    """Parse a picture: it is well-formed, and named by elements that it has."""
    root = ET.fromstring(svg)
    ids = {one.get("id") for one in root.iter()} - {None}
    assert set((root.get("aria-labelledby") or "").split()) <= ids
    assert "nan" not in str(svg)
    return root


def of_class(root: ET.Element, name: str) -> list[ET.Element]:
    return [one for one in root.iter() if name in (one.get("class") or "").split()]


@pytest.mark.parametrize(
    ("bounds", "linear"),
    [
        ([0, 600, 1200, 1800], True),
        ([0, 600, 1200, 1200 + DAY], False),
        ([0, 2 * DAY, 2 * DAY + 900, 3 * DAY], False),
        ([0, 1], True),
        ([5], True),
        ([], True),
        ([5, 5, 5], True),
    ],
)
def test_short_stages_get_a_scale_of_their_own(bounds: list[float], linear: bool) -> None:
    scale = TimeScale.of(bounds, 0.0, 100.0)
    assert scale.linear is linear
    assert bool(scale.lengths(1.0)) is not linear


BOUNDS = st.lists(st.floats(0, 4e9), min_size=1, max_size=35)


@given(BOUNDS)
def test_the_axis_is_whole_and_no_stage_is_lost(bounds: list[float]) -> None:
    scale = TimeScale.of(bounds, 56.0, 876.0)
    assert (scale.stretches[0].left, scale.stretches[-1].right) == (pytest.approx(56.0), pytest.approx(876.0))
    least = 820.0 * min(LEAST_PART, LEAST_OF_FAIR / len(scale.stretches))
    for one in scale.stretches:
        assert one.width >= least - 1e-6
    for before, after in pairwise(scale.stretches):
        assert before.right == after.left
    places = [scale.x(at) for at in sorted(bounds)]
    assert places == sorted(places)
    ticks = scale.ticks(74.0)
    assert len(ticks) <= 100
    for (before, _), (after, _) in pairwise(ticks):
        assert scale.x(after) - scale.x(before) >= 73.9
    assert scale.x(-1e12) == pytest.approx(56.0)
    assert scale.x(1e12) == pytest.approx(876.0)


def test_weights_are_steps_and_decisions_are_numbered_marks() -> None:
    levels = [Level(0.0, 0.0), Level(60.0, 10.0), Level(300.0, 25.0)]
    marks = [
        Mark(at, number, Tone.GOOD, f"decision {number} <b>") for number, at in enumerate((0.0, 1.0, 2.0, 300.0), 1)
    ]
    root = drawn(weights_chart("w", "t", "d", levels, marks, WHOLE, [(100.0, 300.0)]))
    found = of_class(root, "mark")
    assert [one.find("text").text for one in found] == ["1", "2", "3", "4"]  # type: ignore[union-attr]
    assert found[0].find("title").text == "decision 1 <b>"  # type: ignore[union-attr]
    # Those that would cover each other are below each other.
    heights = [one.find("circle").get("cy") for one in found]  # type: ignore[union-attr]
    assert len(set(heights[:3])) == 3
    assert heights[3] == heights[0]
    (line,) = of_class(root, "line-eks")
    assert line.get("d", "").count("V") == 2


@pytest.mark.parametrize("values", [[], [0.0], [1e-9, 2e-9], [1e12], [5.0, math.nan, 7.0], [math.inf]])
def test_any_values_make_a_line_chart(values: list[float]) -> None:
    lines = [Line(leg, tuple((60.0 * number, value) for number, value in enumerate(values))) for leg in Leg]
    root = drawn(lines_chart("l", "t", "d", lines, WHOLE, str, [60.0]))
    finite = [value for value in values if math.isfinite(value)]
    assert bool(of_class(root, "line-heroku")) is bool(finite)
    assert ("no data" in "".join(root.itertext())) is not bool(finite)


def test_lines_are_not_drawn_beyond_the_axis_and_are_broken_at_gaps() -> None:
    points = ((-60.0, 1.0), (0.0, 1.0), (60.0, 2.0), (90.0, math.nan), (300.0, 2.0), (9e9, 5.0))
    (line,) = of_class(drawn(lines_chart("l", "t", "d", [Line(Leg.EKS, points)], WHOLE, str)), "line-eks")
    path = line.get("d", "")
    assert (path.count("M"), path.count("L")) == (2, 1)


def test_bars_show_both_legs_and_what_is_tolerated() -> None:
    gate = GateNumbers(
        name="errors & <more>",
        verdict="Pass",
        ratios=GateRatios(heroku=0.02, eks=0.01),
        limits=GateLimits(harm=ToleranceStatus(1.25, 0.001)),
    )
    root = drawn(legs_chart("g", "t", "d", [gate]))
    (heroku,), (eks,), (limit,) = (of_class(root, name) for name in ("bar-heroku", "bar-eks", "limit"))
    assert float(heroku.get("width", 0)) == pytest.approx(2 * float(eks.get("width", 0)), rel=0.01)
    assert limit.find("title").text == "tolerated: 2.6 %"  # type: ignore[union-attr]
    assert "errors & <more>" in "".join(root.itertext())
    assert shows_legs(gate)
    assert not shows_legs(GateNumbers(name="alive", verdict="Pass", ratios=GateRatios(eks=0.1)))


@pytest.mark.parametrize(
    ("progress", "width"), [(0, "0"), (0.5, "50"), (1, "100"), (7, "100"), (-1, "0"), (math.nan, "0")]
)
def test_a_bar_is_as_long_as_its_progress(progress: float, width: str) -> None:
    (done,) = of_class(ET.fromstring(bar(Bar(progress, "x"))), "done")
    assert done.get("width") == width
