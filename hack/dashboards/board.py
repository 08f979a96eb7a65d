"""The parts that the dashboards are made of: panels with their queries, and a board that numbers and places them.

Queries are given as PromQL with Grafana's variables. Every panel says in its description what to read from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common as commons
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

#: Grafana has 24 columns.
WIDTH = 24
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
HEROKU, EKS = "Heroku", "EKS"
OK, WAITS, WARNS, HURTS = "#5A8F5A", "#6C8EBF", "#E0A100", "#D64545"
#: The same colour in every panel for a leg, and for a class of answers; readable on light and dark.
COLOURS = {HEROKU: "#9A6FD0", EKS: "#F28E2B", "2xx": OK, "3xx": WAITS, "4xx": WARNS, "5xx": HURTS}

AnyPanel: TypeAlias = timeseries.Panel | stat.Panel | statetimeline.Panel | table.Panel


@dataclass(frozen=True)
class Query:
    """PromQL, and what its series are called: text with ``{{label}}``."""

    expr: str
    legend: str = "__auto"


def chart(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 12,
    stacked: bool = False,
    logarithmic: bool = False,
    steps: bool = False,
    limits: Sequence[float] = (),
    maximum: float | None = None,
) -> timeseries.Panel:
    """Return a chart over time.

    Parameters
    ----------
    unit
        Grafana's name of the unit.
    stacked
        Whether series are added up to the whole.
    logarithmic
        Whether the axis is.
    steps
        Whether values hold until they change.
    limits
        Values at which a line is drawn.
    maximum
        Upper end of the axis; by default that of the data.
    """
    panel = (
        timeseries.Panel()
        .unit(unit)
        .min(0)
        .fill_opacity(60 if stacked else 8)
        .line_width(0 if stacked else 2)
        .show_points(commons.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(commons.LegendDisplayMode.LIST)
            .placement(commons.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(commons.TooltipDisplayMode.MULTI).sort(commons.SortOrder.DESCENDING))
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(commons.StackingMode.NORMAL).group("A"))
    if logarithmic:
        panel.scale_distribution(common.ScaleDistributionConfig().type(commons.ScaleDistribution.LOG).log(10))
        panel.min(0.1)
    if steps:
        panel.line_interpolation(commons.LineInterpolation.STEP_AFTER)
    if maximum is not None:
        panel.max(maximum)
    if limits:
        panel.thresholds(_thresholds((None, OK), *((limit, HURTS) for limit in limits)))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(commons.GraphTresholdsStyleMode.DASHED))
    for query in queries:
        if query.legend in COLOURS:
            panel.override_by_name(query.legend, [_colour(COLOURS[query.legend])])
    _ask(panel, title, description, queries, width, 8)
    return panel


def number(
    title: str,
    description: str,
    *queries: Query,
    unit: str = "short",
    width: int = 4,
    colours: Sequence[tuple[float | None, str]] = ((None, WAITS),),
    nothing: str = "–",
    names: bool = False,
) -> stat.Panel:
    """Return the newest value.

    Parameters
    ----------
    colours
        From which value on which colour.
    nothing
        What is shown without data.
    names
        Whether the names of the series are shown instead of their values.
    """
    panel = (
        stat.Panel()
        .unit(unit)
        .thresholds(_thresholds(*colours))
        .no_value(nothing)
        .graph_mode(commons.BigValueGraphMode.NONE)
        .color_mode(commons.BigValueColorMode.BACKGROUND if len(colours) > 1 else commons.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if names:
        panel.text_mode(commons.BigValueTextMode.NAME)
    _ask(panel, title, description, queries, width, 4, instant=True)
    return panel


def timeline(
    title: str, description: str, *queries: Query, states: Mapping[str, tuple[str, str]], width: int = 12
) -> statetimeline.Panel:
    """Return bars of states over time.

    Parameters
    ----------
    states
        Text and colour of each value.
    """
    panel = (
        statetimeline.Panel()
        .show_value(commons.VisibilityMode.AUTO)
        .row_height(0.85)
        .legend(
            common.VizLegendOptions()
            .display_mode(commons.LegendDisplayMode.LIST)
            .placement(commons.LegendPlacement.BOTTOM)
            .show_legend(False)
        )
        .mappings([_states(states)])
        .thresholds(_thresholds((None, "text")))
    )
    _ask(panel, title, description, queries, width, 8)
    return panel


@dataclass(frozen=True)
class Column:
    """A column of a table: its heading, the query of its values, its unit, and text and colour of each value.

    Without a heading the values are not shown, only the labels that come with them.
    """

    name: str
    expr: str
    unit: str = "short"
    states: Mapping[str, tuple[str, str]] | None = None


def grid(
    title: str,
    description: str,
    columns: Sequence[Column],
    *,
    labels: Mapping[str, str],
    sort_by: str,
    link: str,
) -> table.Panel:
    """Return a table with a row for each plan.

    Parameters
    ----------
    columns
        Columns with the values of a query.
    labels
        Columns with the values of a label: headings by the label's name.
    sort_by
        Heading of the column by which rows are sorted, the largest first.
    link
        Address that a plan's name leads to.
    """
    panel = table.Panel().sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    for column in filter(lambda one: one.name, columns):
        properties = [models.DynamicConfigValue("unit", column.unit)]
        if column.states:
            properties += [
                models.DynamicConfigValue("mappings", [_states(column.states)]),
                models.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
            ]
        panel.override_by_name(column.name, properties)
    panel.override_by_name(
        labels["plan"], [models.DynamicConfigValue("links", [{"title": "the plan's dashboard", "url": link}])]
    )
    values = {f"Value #{ref}": column.name for ref, column in zip(ascii_uppercase, columns, strict=False)}
    shown = {value: name for value, name in values.items() if name}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(["Time", *(one for one in values if one not in shown)], True),
                "renameByName": {**labels, **shown},
                "indexByName": {name: place for place, name in enumerate([*labels, *shown])},
            },
        )
    )
    _ask(panel, title, description, [Query(column.expr) for column in columns], WIDTH, 12, instant=True, tabular=True)
    return panel


def _ask(
    panel: AnyPanel,
    title: str,
    description: str,
    queries: Iterable[Query],
    width: int,
    height: int,
    *,
    instant: bool = False,
    tabular: bool = False,
) -> None:
    panel.title(title).description(description).datasource(SOURCE).span(width).height(height)
    for ref, query in zip(ascii_uppercase, queries, strict=False):
        target = (
            prometheus.Dataquery()
            .expr(" ".join(query.expr.split()))
            .ref_id(ref)
            .legend_format(query.legend)
            .format(PromQueryFormat.TABLE if tabular else PromQueryFormat.TIME_SERIES)
            .datasource(SOURCE)
        )
        panel.with_target(target.instant() if instant else target.range())


def _thresholds(*steps: tuple[float | None, str]) -> dashboard.ThresholdsConfig:
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=value, color=colour) for value, colour in steps])
    )


def _states(states: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    return models.ValueMap(
        {value: models.ValueMappingResult(text=text, color=colour) for value, (text, colour) in states.items()}
    )


def _colour(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


class Annotation(models.AnnotationQuery):
    """An annotation from Prometheus, with the fields that Grafana's Prometheus source reads and the SDK does not have."""

    def __init__(self, name: str, expr: str, colour: str, title: str, tags: str = "") -> None:
        super().__init__(name=name, datasource=SOURCE, enable=True, icon_color=colour, expr=" ".join(expr.split()))
        self._more = {"titleFormat": title, "tagKeys": tags, "step": "15s"}

    def to_json(self) -> dict[str, object]:
        return super().to_json() | self._more


class Board:
    """A dashboard to which rows and panels are added from left to right, and from top to bottom."""

    def __init__(
        self, uid: str, title: str, description: str, *, since: str, links: Sequence[tuple[str, str]]
    ) -> None:
        self._made = (
            dashboard.Dashboard(title)
            .uid(uid)
            .description(description)
            .tags(["cutover"])
            .time(since, "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .editable()
        )
        for name, url in links:
            self._made.link(
                dashboard.DashboardLink(name)
                .type(models.DashboardLinkType.LINK)
                .url(url)
                .include_vars(True)
                .keep_time(True)
            )
        self._made.with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        self._x = self._y = self._height = self._last = 0

    def choose(self, name: str, label: str, query: str, *, several: bool = False) -> None:
        """Add a variable that a person chooses from the values of a label."""
        variable = self._variable(name, query).label(label)
        if several:
            variable.multi(True).include_all(True).all_value(".*")
            variable.current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
        self._made.with_variable(variable)

    def derive(self, name: str, query: str) -> None:
        """Add a variable that follows from the others, and is not shown."""
        self._made.with_variable(self._variable(name, query).hide(models.VariableHide.HIDE_VARIABLE))

    def offer(self, name: str, label: str, values: Sequence[str], default: str) -> None:
        """Add a variable with given values."""
        self._made.with_variable(
            dashboard.CustomVariable(name)
            .label(label)
            .values(",".join(values))
            .current(models.VariableOption(selected=True, text=default, value=default))
        )

    @staticmethod
    def _variable(name: str, query: str) -> dashboard.QueryVariable:
        return (
            dashboard.QueryVariable(name)
            .datasource(SOURCE)
            .query({"query": query, "refId": f"variable-{name}"})
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.ALPHABETICAL_ASC)
        )

    def annotate(self, *annotations: Annotation) -> None:
        """Add marks at the times at which something was decided."""
        self._made.build().annotations = models.AnnotationContainer(list_val=[*annotations])

    def row(self, title: str, *panels: AnyPanel, folded: bool = False) -> None:
        """Add a heading and the panels below it; the queries of a folded row are asked once it is opened."""
        self._next_line()
        row = models.RowPanel(
            collapsed=folded, title=title, id_val=self._number(), grid_pos=models.GridPos(h=1, w=WIDTH, x=0, y=self._y)
        )
        self._y += 1
        placed = [self._placed(panel) for panel in panels]
        if folded:
            row.panels = placed
        whole = self._made.build()
        whole.panels = [*(whole.panels or []), row, *([] if folded else placed)]

    def _placed(self, builder: AnyPanel) -> models.Panel:
        panel = builder.build()
        assert panel.grid_pos is not None
        if self._x + panel.grid_pos.w > WIDTH:
            self._next_line()
        panel.id_val = self._number()
        panel.grid_pos.x, panel.grid_pos.y = self._x, self._y
        self._x += panel.grid_pos.w
        self._height = max(self._height, panel.grid_pos.h)
        return panel

    def _next_line(self) -> None:
        self._x, self._y, self._height = 0, self._y + self._height, 0

    def _number(self) -> int:
        self._last += 1
        return self._last

    def build(self) -> models.Dashboard:
        """Return the dashboard."""
        return self._made.build()
