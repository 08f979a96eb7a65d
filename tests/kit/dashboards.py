"""The chart's dashboards as Grafana asks for them: panels, queries, variables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "charts" / "cutover" / "files" / "dashboards"
Json = dict[str, Any]
BOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
#: What Grafana sets by the range of time and the scrape interval.
_TIMES = {"__rate_interval": "2m", "__range": "10m"}
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


@dataclass(frozen=True)
class Asked:
    """A query of a panel, or of an annotation."""

    board: str
    panel: str
    ref: str
    expr: str


def panels(board: Json) -> Iterator[Json]:
    """Yield all panels with queries, those of folded rows too, and the rows themselves."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def queries(name: str) -> Iterator[Asked]:
    """Yield all queries of a dashboard."""
    board = BOARDS[name]
    for panel in panels(board):
        for target in panel.get("targets", ()):
            yield Asked(name, panel["title"], target["refId"], target["expr"])
    for annotation in board.get("annotations", {}).get("list", ()):
        yield Asked(name, "annotation", annotation["name"], annotation["expr"])


def variables(
    name: str, label_values: Callable[[str, str], list[str]], chosen: Mapping[str, str] = {}
) -> dict[str, str]:
    """Return the values of a dashboard's variables.

    Parameters
    ----------
    name
        The dashboard.
    label_values
        Returns the values of a label of the series that a selector finds.
    chosen
        What a person chooses; of other variables the first value counts.
    """
    found: dict[str, str] = {}
    for variable in BOARDS[name]["templating"]["list"]:
        key = variable["name"]
        match variable["type"]:
            case "query":
                selector, label = _asked(filled(variable["query"]["query"], found))
                values = label_values(selector, label)
                if variable.get("includeAll"):
                    found[key] = variable["allValue"]
                    continue
                if key in chosen:
                    assert chosen[key] in values, (key, values)
                found[key] = chosen.get(key, (values or [""])[0])
            case "custom":
                found[key] = variable["current"]["value"]
            case "datasource":
                continue
    return found


def _asked(query: str) -> tuple[str, str]:
    match = _LABEL_VALUES.fullmatch(query)
    assert match is not None, query
    return match[1], match[2]


def filled(expr: str, values: Mapping[str, str]) -> str:
    """Return a query with the values of its variables; an unknown one is an error, as Grafana would leave it as it is."""
    return _VARIABLE.sub(
        lambda match: {**_TIMES, **values}[match[1] or match[2]] if not _number(match) else match[0], expr
    )


def _number(match: re.Match[str]) -> bool:
    """Whether this is a group of ``label_replace``, which Grafana leaves alone."""
    return (match[1] or match[2]).isdigit()
