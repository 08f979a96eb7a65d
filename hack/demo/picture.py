"""The picture of the demo: desired weights, shares in the load's own record, and harmed users."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator

from demo.story import Rollback, Story, Users, arrival, eks_share, span
from demoapps.records import Record

# Okabe and Ito's colours, which everybody can tell apart.
_EKS, _HEROKU, _WANTED, _BACK = "#D55E00", "#0072B2", "#000000", "#009E73"
_SHARE_SECONDS, _HARM_SECONDS = 5.0, 10.0
#: Fewer requests than this make no ratio.
_LEAST = 10


def draw(
    stories: Sequence[Story],
    records: Mapping[str, Sequence[Record]],
    rollbacks: Mapping[str, Rollback | None],
    *,
    start: float,
    end: float,
    path: Path,
) -> None:
    """Draw the timeline of all plans into a PNG file.

    Parameters
    ----------
    stories
        The plans, a row each.
    records, rollbacks
        By service: the load's record, and the rollback as measured on it.
    start, end
        What to show, in unix seconds.
    path
        The file.
    """
    figure = Figure(figsize=(13, 3.3 * len(stories) + 1.2), dpi=130, layout="constrained")
    figure.suptitle("Four cutovers, as the load generator recorded them", fontsize=16, fontweight="bold")
    panels = figure.subplots(2 * len(stories), 1, sharex=True, height_ratios=[2, 1] * len(stories))
    for story, weights, harm in zip(stories, panels[::2], panels[1::2], strict=True):
        service = story.scenario.service
        _draw_weights(weights, story, records[service], start, end)
        _draw_harm(harm, records[service], start, end)
        _mark(weights, harm, story, rollbacks[service], start, end - start)
        weights.set_title(
            _title(story, records[service], rollbacks[service]), loc="left", fontsize=13, fontweight="bold"
        )
        harm.tick_params(labelbottom=True)
        for axes in (weights, harm):
            axes.grid(visible=True, color="#dddddd", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=10.5)
    bottom = panels[-1]
    bottom.set_xlim(0, end - start)
    bottom.xaxis.set_major_locator(MultipleLocator(30))
    bottom.xaxis.set_major_formatter(FuncFormatter(lambda x, _: span(x)))
    bottom.set_xlabel("minutes since the plans were applied", fontsize=11)
    handles = [*panels[0].get_legend_handles_labels()[0], *bottom.get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=10.5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _draw_weights(axes: Axes, story: Story, records: Sequence[Record], start: float, end: float) -> None:
    times, shares = [], []
    for left, chosen in _bins(records, start, end, _SHARE_SECONDS):
        share = eks_share(chosen)
        if share is not None and len(chosen) >= _LEAST:
            times.append(left - start + _SHARE_SECONDS / 2)
            shares.append(share)
    axes.fill_between(times, shares, color=_EKS, alpha=0.18, linewidth=0)
    axes.plot(
        times,
        shares,
        color=_EKS,
        marker="o",
        markersize=3.5,
        linewidth=1,
        label=f"share that EKS answered, per {_SHARE_SECONDS:.0f} s",
    )
    steps = [(at - start, weight) for at, weight in story.weights]
    steps = [(0.0, 0), *steps, (end - start, steps[-1][1] if steps else 0)]
    axes.plot(
        *zip(*steps, strict=True),
        color=_WANTED,
        linewidth=1.8,
        drawstyle="steps-post",
        label="weight wanted",
    )
    axes.set_ylim(-4, 108)
    axes.set_yticks([0, 10, 25, 50, 100])
    axes.set_ylabel("% to EKS", fontsize=11)


def _draw_harm(axes: Axes, records: Sequence[Record], start: float, end: float) -> None:
    highest = 0.0
    for leg, name, colour, marker in (("heroku", "Heroku", _HEROKU, "s"), ("eks", "EKS", _EKS, "o")):
        times, ratios = [], []
        for left, chosen in _bins(records, start, end, _HARM_SECONDS):
            users = Users.of(record for record in chosen if record.leg == leg)
            times.append(left - start + _HARM_SECONDS / 2)
            ratios.append(100 * users.harmed_ratio if users.requests >= _LEAST else math.nan)
        axes.plot(
            times,
            ratios,
            color=colour,
            marker=marker,
            markersize=3.5,
            linewidth=1.4,
            label=f"{name}: failed or slow, per {_HARM_SECONDS:.0f} s",
        )
        highest = max([highest, *(ratio for ratio in ratios if not math.isnan(ratio))])
    axes.set_ylim(-0.06 * max(4.0, highest), 1.15 * max(4.0, highest))
    axes.set_ylabel("% failed\nor slow", fontsize=11)


def _mark(weights: Axes, harm: Axes, story: Story, back: Rollback | None, start: float, seconds: float) -> None:
    if story.onset is None:
        return
    for axes in (weights, harm):
        axes.axvline(story.onset - start, color=_EKS, linewidth=1.4, linestyle="--")
        if back is not None:
            axes.axvline(back.zero - start, color=_BACK, linewidth=1.8)
            axes.axvspan(story.onset - start, back.zero - start, color=_EKS, alpha=0.07, linewidth=0)
    # A rollback soon after the onset leaves no room for words between the two lines.
    near = back is not None and back.zero - story.onset < 0.15 * seconds
    _note(weights, story.onset - start, 96, "fault begins", _EKS, "right" if near else "left")
    if back is not None:
        words = f"0 % at the gateway, {back.seconds:.0f} s later"
        _note(weights, back.zero - start, 76, words, _BACK, "left" if back.zero - start < 0.5 * seconds else "right")


def _note(axes: Axes, x: float, y: float, text: str, colour: str, side: str) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(6 if side == "left" else -6, 0),
        textcoords="offset points",
        ha=side,
        va="center",
        color=colour,
        fontsize=11,
        fontweight="bold",
    )


def _title(story: Story, records: Sequence[Record], back: Rollback | None) -> str:
    users, when = (Users.of(records), "") if back is None else (back.meanwhile, " meanwhile")
    harmed = f"{users.harmed:,} of {users.requests:,} requests harmed{when}"
    return f"{story.scenario.service}: {story.scenario.words} — {story.view.phase}, {harmed}"


def _bins(records: Sequence[Record], start: float, end: float, seconds: float) -> list[tuple[float, list[Record]]]:
    """Sort requests into bins by their arrival; the last bin may be cut off, and is left out."""
    bins: list[list[Record]] = [[] for _ in range(int((end - start) // seconds))]
    for record in records:
        place = math.floor((arrival(record) - start) / seconds)
        if 0 <= place < len(bins):
            bins[place].append(record)
    return [(start + seconds * place, chosen) for place, chosen in enumerate(bins)]
