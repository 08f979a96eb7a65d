"""The charts: static SVG, made by small pure functions.

Colours are CSS variables of the page, so that a chart follows dark mode and print. Legs differ by the form of their lines
too, and every chart has a title and a description for who cannot see it. All texts are escaped by :class:`markupsafe.Markup`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count as numbers

from markupsafe import Markup

from cutover.api.v1alpha1 import GateNumbers
from cutover.domain.texts import plain
from cutover.domain.traffic import Leg
from cutover.report.history import Line
from cutover.report.page import Bar, Tone
from cutover.report.timescale import TimeScale
from cutover.report.words import percent

WIDTH = 960.0
#: Where the plot begins and ends; the room beside it is for labels.
LEFT, RIGHT = 56.0, WIDTH - 84.0
_PLOT, _LANE, _AXIS = 170.0, 22.0, 24.0
#: Room for the label of a tick, and for the length of a stage.
_TICK_ROOM, _LENGTH_ROOM = 78.0, 44.0
NAMES = {Leg.HEROKU: "Heroku", Leg.EKS: "EKS"}


@dataclass(frozen=True, slots=True)
class Mark:
    """A decision on the time axis.

    Parameters
    ----------
    at
        Unix seconds.
    number
        Its number in the table of decisions.
    tone
        What it means.
    title
        What it was, for who points at it.
    """

    at: float
    number: int
    tone: Tone
    title: str


@dataclass(frozen=True, slots=True)
class Level:
    """A weight from a time on, in Unix seconds and in percent."""

    at: float
    weight: float


def weights_chart(
    name: str,
    title: str,
    description: str,
    levels: Sequence[Level],
    marks: Sequence[Mark],
    scale: TimeScale,
    waits: Sequence[tuple[float, float]] = (),
) -> Markup:
    """Return the weight over time, with a numbered mark for each decision.

    Parameters
    ----------
    name
        Begin of the ids in the picture, unique in the page.
    levels
        The weights, in order; each lasts until the next, and the last until the end of the axis.
    marks
        The decisions, in order.
    waits
        Spans of time, in Unix seconds, in which the plan was held; they are hatched.
    """
    lanes = _lanes([scale.x(mark.at) for mark in marks])
    top = 12.0 + _LANE * (max(lanes, default=0) + 1)
    bottom = top + _PLOT

    def y(value: float) -> float:
        return bottom - value / 100.0 * _PLOT

    parts = [_hatching(name)]
    parts += [
        Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="url(#{}-held)"></rect>').format(
            _n(scale.x(since)), _n(top), _n(max(scale.x(until) - scale.x(since), 2.0)), _n(_PLOT), name
        )
        for since, until in waits
    ]
    parts += _grid([(0, "0 %"), (25, "25 %"), (50, "50 %"), (75, "75 %"), (100, "100 %")], y)
    parts += _time_axis(scale, top, bottom)
    path, area = _steps(levels, scale, y)
    parts.append(Markup('<path class="area-eks" d="{}"></path>').format(area))
    parts.append(Markup('<path class="line-eks" d="{}"></path>').format(path))
    for mark, lane in zip(marks, lanes, strict=True):
        x, middle = scale.x(mark.at), 12.0 + _LANE * lane
        parts.append(
            Markup(
                '<g class="mark {}"><title>{}</title><line x1="{}" x2="{}" y1="{}" y2="{}"></line>'
                '<circle cx="{}" cy="{}" r="9"></circle><text x="{}" y="{}" text-anchor="middle">{}</text></g>'
            ).format(
                *(mark.tone, plain(mark.title), _n(x), _n(x), _n(middle + 9), _n(bottom)),
                *(_n(x), _n(middle), _n(x), _n(middle + 3.5), mark.number),
            )
        )
    parts.append(
        Markup('<text class="name-eks" x="{}" y="{}">to EKS</text>').format(
            _n(RIGHT + 6), _n(y(levels[-1].weight if levels else 0.0) + 4)
        )
    )
    return _svg(name, title, description, bottom + _AXIS + 4, parts)


def lines_chart(
    name: str,
    title: str,
    description: str,
    lines: Sequence[Line],
    scale: TimeScale,
    label: Callable[[float], str],
    changes: Sequence[float] = (),
    least: float = 1.0,
) -> Markup:
    """Return one measure of both legs over time.

    Parameters
    ----------
    name
        Begin of the ids in the picture, unique in the page.
    label
        Returns a value as text.
    changes
        Unix seconds at which the weight changed.
    least
        The axis reaches up to this value at least.
    """
    top, bottom = 12.0, 12.0 + _PLOT
    values = [value for line in lines for _, value in line.points if math.isfinite(value)]
    ticks = _nice(max([*values, least]))
    highest = ticks[-1]

    def y(value: float) -> float:
        return bottom - min(max(value / highest, 0.0), 1.0) * _PLOT

    parts = _grid([(value, label(value)) for value in ticks], y)
    parts += _time_axis(scale, top, bottom)
    parts += [
        Markup('<line class="change" x1="{0}" x2="{0}" y1="{1}" y2="{2}"></line>').format(
            _n(scale.x(at)), _n(top), _n(bottom)
        )
        for at in changes
    ]
    ends: list[float] = []
    for line in lines:
        path = "".join(_broken(line.points, scale, y))
        if not path:
            continue
        end = y(next(value for _, value in reversed(line.points) if math.isfinite(value))) + 4
        while any(abs(end - other) < 14 for other in ends):
            end -= 14
        ends.append(end)
        parts.append(Markup('<path class="line-{}" d="{}"></path>').format(line.leg, path))
        parts.append(
            Markup('<text class="name-{}" x="{}" y="{}">{}</text>').format(
                line.leg, _n(RIGHT + 6), _n(end), NAMES[line.leg]
            )
        )
    if not ends:
        parts.append(Markup('<text x="{}" y="{}">no data</text>').format(_n(LEFT + 12), _n(top + _PLOT / 2)))
    return _svg(name, title, description, bottom + _AXIS + 4, parts)


def legs_chart(name: str, title: str, description: str, gates: Sequence[GateNumbers]) -> Markup:
    """Return the bad fraction of each leg as bars, for each gate that compares the legs.

    A tick on EKS' bar shows what is tolerated beside Heroku's fraction.
    """
    rows = [
        (gate, gate.ratios.heroku or 0.0, gate.ratios.eks or 0.0) for gate in gates if shows_legs(gate) and gate.ratios
    ]
    tolerated = [_tolerated(gate, heroku) for gate, heroku, _ in rows]
    highest = max([*(value for _, *both in rows for value in both), *tolerated, 1e-6])
    left, right, height = 150.0, WIDTH - 170.0, 44.0
    parts: list[Markup] = []
    for number, ((gate, heroku, eks), limit) in enumerate(zip(rows, tolerated, strict=True)):
        top = 6 + number * height
        parts.append(
            Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
                _n(left - 10), _n(top + 19), plain(gate.name)
            )
        )
        x = left + (right - left) * limit / highest
        for leg, value, offset in ((Leg.HEROKU, heroku, 4.0), (Leg.EKS, eks, 19.0)):
            width = max((right - left) * value / highest, 1.0)
            end = max(left + width, x if leg is Leg.EKS else left)
            parts.append(
                Markup(
                    '<rect class="bar-{0}" x="{1}" y="{2}" width="{3}" height="12"></rect>'
                    '<text class="name-{0}" x="{4}" y="{5}">{6} {7}</text>'
                ).format(
                    *(leg, _n(left), _n(top + offset), _n(width)),
                    *(_n(end + 8), _n(top + offset + 10), NAMES[leg], percent(value)),
                )
            )
        parts.append(
            Markup('<line class="limit" x1="{0}" x2="{0}" y1="{1}" y2="{2}"><title>{3}</title></line>').format(
                _n(x), _n(top + 17), _n(top + 33), f"tolerated: {percent(limit)}"
            )
        )
    return _svg(name, title, description, 6 + len(rows) * height, parts)


def shows_legs(gate: GateNumbers) -> bool:
    """Tell whether a gate has a fraction of both legs."""
    return gate.ratios is not None and gate.ratios.heroku is not None and gate.ratios.eks is not None


def bar(of: Bar) -> Markup:
    """Return a small bar, for a cell of a table; its text is beside it."""
    part = min(max(of.progress, 0.0), 1.0) if math.isfinite(of.progress) else 0.0
    return Markup(
        '<svg class="bar {}" viewBox="0 0 100 10" width="100" height="10" aria-hidden="true">'
        '<rect class="track" width="100" height="10" rx="3"></rect><rect class="done" width="{}" height="10" rx="3"></rect></svg>'
    ).format(of.tone, _n(100 * part))


# --------------------------------------------------------------------------------------------------------------- parts


def _svg(name: str, title: str, description: str, height: float, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-text">'
        '<title id="{}-title">{}</title><desc id="{}-text">{}</desc>{}</svg>'
    ).format(_n(WIDTH), _n(height), name, name, name, plain(title), name, plain(description), Markup("").join(parts))


def _hatching(name: str) -> Markup:
    return Markup(
        '<defs><pattern id="{}-held" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="hatch" width="2" height="7"></rect></pattern></defs>'
    ).format(name)


def _grid(ticks: Sequence[tuple[float, str]], y: Callable[[float], float]) -> list[Markup]:
    return [
        Markup(
            '<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"></line>'
            '<text class="tick" x="{3}" y="{4}" text-anchor="end">{5}</text>'
        ).format(_n(LEFT), _n(RIGHT), _n(y(value)), _n(LEFT - 7), _n(y(value) + 4), text)
        for value, text in ticks
    ]


def _time_axis(scale: TimeScale, top: float, bottom: float) -> list[Markup]:
    parts = [
        Markup(
            '<line class="axis" x1="{0}" x2="{0}" y1="{1}" y2="{2}"></line>'
            '<text class="tick" x="{0}" y="{3}" text-anchor="middle">{4}</text>'
        ).format(_n(scale.x(at)), _n(bottom), _n(bottom + 5), _n(bottom + 18), text)
        for at, text in scale.ticks(_TICK_ROOM)
    ]
    parts += [
        Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(_n(x), _n(top + 17), text)
        for x, text in scale.lengths(_LENGTH_ROOM)
    ]
    return parts


def _steps(levels: Sequence[Level], scale: TimeScale, y: Callable[[float], float]) -> tuple[str, str]:
    """Return the paths of the line and of the area under it."""
    if not levels:
        return "", ""
    path = f"M{_n(scale.x(levels[0].at))} {_n(y(levels[0].weight))}"
    for level in levels[1:]:
        path += f"H{_n(scale.x(level.at))}V{_n(y(level.weight))}"
    path += f"H{_n(scale.x(scale.until))}"
    return path, f"{path}V{_n(y(0))}H{_n(scale.x(levels[0].at))}Z"


def _broken(points: Sequence[tuple[float, float]], scale: TimeScale, y: Callable[[float], float]) -> Iterator[str]:
    begin = True
    for at, value in points:
        if not math.isfinite(value):
            begin = True
        elif scale.since <= at <= scale.until:
            yield f"{'M' if begin else 'L'}{_n(scale.x(at))} {_n(y(value))}"
            begin = False


def _lanes(places: Sequence[float], room: float = 20.0, most: int = 4) -> list[int]:
    """Return the lane of each mark, so that no two of one lane overlap; with too many marks the last lane is shared."""
    free = [-math.inf] * most
    found = []
    for x in places:
        lane = next((number for number in range(most) if free[number] <= x), most - 1)
        free[lane] = x + room
        found.append(lane)
    return found


def _nice(highest: float) -> list[float]:
    """Return round values from 0 to a little above the highest."""
    if not (math.isfinite(highest) and highest > 0):
        return [0.0, 1.0]
    step = 10 ** math.floor(math.log10(highest))
    step = next(
        factor * step for factor in (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0) if highest <= 4.0001 * factor * step
    )
    ticks = [0.0]
    for number in numbers(1):
        ticks.append(number * step)
        if ticks[-1] >= highest:
            break
    return ticks


def _tolerated(gate: GateNumbers, heroku: float) -> float:
    limit = gate.limits.harm if gate.limits is not None else None
    return min(limit.ratio * heroku + limit.margin, 1.0) if limit is not None else heroku


def _n(value: float) -> str:
    """Return a coordinate with one decimal."""
    return f"{value:.1f}".removesuffix(".0") if math.isfinite(value) else "0"
