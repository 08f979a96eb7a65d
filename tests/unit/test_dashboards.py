"""The dashboards' JSON: as Grafana takes it, current, and with queries that can be parsed."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from tests.kit.dashboards import BOARDS, FOLDER, Json, filled, panels, queries, variables

from cutover.domain.verdicts import Verdict
from dashboards.__main__ import rendered

NAMES = sorted(BOARDS)
ROOT = Path(__file__).parents[2]


def plain(value: Any) -> Any:
    """Return what the SDK makes of a value, as JSON."""
    match value:
        case dict():
            return {key: plain(one) for key, one in value.items()}
        case list() | tuple():
            return [plain(one) for one in value]
        case _ if hasattr(value, "to_json"):
            return plain(JSONEncoder().default(value))
        case _:
            return value


def contained(part: Any, whole: Any, path: str = "") -> list[str]:
    """Return where a value is not in another one, which may have more fields."""
    match part, whole:
        case dict(), dict():
            return [
                place
                for key, one in part.items()
                for place in (contained(one, whole[key], f"{path}.{key}") if key in whole else [f"{path}.{key}"])
            ]
        case list(), list() if len(part) == len(whole):
            return [
                place
                for number, (one, other) in enumerate(zip(part, whole, strict=True))
                for place in contained(one, other, f"{path}[{number}]")
            ]
        case _:
            return [] if part == whole else [f"{path}: {part!r} is {whole!r}"]


def test_the_files_are_what_the_code_makes() -> None:
    assert NAMES == ["fleet", "plan"]
    assert rendered() == {f"{name}.json": (FOLDER / f"{name}.json").read_text(encoding="utf-8") for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_types_read_all_of_it(name: str) -> None:
    """What its types do not know would be lost on the way, but for the words of Prometheus' annotations."""
    register_default_plugins()
    board = BOARDS[name]
    again = plain(Dashboard.from_json(board))
    lost = [place for place in contained(board, again) if not re.search(r"\.(titleFormat|tagKeys|step)$", place)]
    assert lost == []


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_unique_and_panels_do_not_overlap(name: str) -> None:
    board = BOARDS[name]
    every = list(panels(board))
    assert len(every) > 15
    assert [number for number, count in Counter(panel["id"] for panel in every).items() if count > 1] == []
    assert re.fullmatch(r"[a-zA-Z0-9_-]{8,40}", board["uid"])
    cells: Counter[tuple[int, int]] = Counter()
    for panel in every:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24, panel["title"]
        assert place["h"] >= 1
        cells.update(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
    assert [cell for cell, count in cells.items() if count > 1] == []


def test_two_boards_are_two() -> None:
    assert len({board["uid"] for board in BOARDS.values()}) == len({board["title"] for board in BOARDS.values()}) == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_asks_the_source_that_was_chosen_and_says_what_it_shows(name: str) -> None:
    board = BOARDS[name]
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert board["templating"]["list"][0]["type"] == "datasource"
    for panel in panels(board):
        assert panel["title"]
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == source
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        for target in panel["targets"]:
            assert target["datasource"] == source
            assert target["instant"] is not target["range"]
    for variable in board["templating"]["list"]:
        assert variable["type"] != "query" or variable["datasource"] == source
    for annotation in board.get("annotations", {}).get("list", ()):
        assert annotation["datasource"] == source


@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_promql_with_variables_that_there_are(name: str) -> None:
    values = variables(name, lambda selector, label: ["250" if label.endswith("_ms") else "x"])
    for asked in queries(name):
        promql_parser.parse(filled(asked.expr, values))


def test_before_the_baseline_there_are_no_thresholds_and_queries_still_hold() -> None:
    values = variables("plan", lambda selector, label: [] if label.endswith("_ms") else ["x"])
    assert (values["slow_ms"], values["very_slow_ms"]) == ("", "")
    for asked in queries("plan"):
        promql_parser.parse(filled(asked.expr, values))


def texts(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [text for one in value.values() for text in texts(one)]
        case list():
            return [text for one in value for text in texts(one)]
    return []


def test_verdicts_are_those_that_there_are() -> None:
    every = [text for board in BOARDS.values() for text in texts(board)]
    assert {one for text in every for one in re.findall(r'verdict="(\w+)"', text)} == set(Verdict)


def test_the_table_leads_to_the_other_dashboard() -> None:
    (grid,) = [panel for panel in panels(BOARDS["fleet"]) if panel["type"] == "table"]
    (link,) = [text for text in texts(grid["fieldConfig"]) if text.startswith("/d/")]
    assert link.startswith(f"/d/{BOARDS['plan']['uid']}?")
    assert set(re.findall(r"var-(\w+)=", link)) <= {one["name"] for one in BOARDS["plan"]["templating"]["list"]}


def test_the_chart_offers_them() -> None:
    stated: Json = yaml.safe_load((ROOT / "charts/cutover/values.yaml").read_text(encoding="utf-8"))
    assert stated["dashboards"] == {
        "enabled": False,
        "namespace": "",
        "labels": {"grafana_dashboard": "1"},
        "annotations": {},
    }
