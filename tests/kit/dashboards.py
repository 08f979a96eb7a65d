"""The chart's dashboards as Grafana asks for them: panels, queries, variables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

FOLDER = Path(__file__).parents[2] / "charts" / "cutover" / "files" / "dashboards"
Json = dict[str, Any]
BOARDS: dict[str, Json] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
}
#: What Grafana sets by the range of time and the scrape interval.
_TIMES = {"__rate_interval": "2m", "__range": "10m"}
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")
#: What is asked of an exporter that only some clusters have.
EXPORTED = re.compile(r"\b(container|kube|coredns|pg|pgbouncer|heroku)_(\w+)(?=[{\[])")
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
            case _:  # the data source
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


Series = list[tuple[dict[str, str], list[float]]]


class Grafana:
    """Asks a Prometheus for what panels show.

    Parameters
    ----------
    url
        The server's address.
    end, seconds
        The range of time that is shown: Unix seconds of its end, and its length.
    chosen
        Values that a person chose, by variable.
    """

    def __init__(self, url: str, end: float, seconds: float, **chosen: str) -> None:
        self._end, self._seconds, self._chosen = end, seconds, chosen
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=30)
        self._values: dict[str, dict[str, str]] = {}

    def _get(self, path: str, **parameters: str) -> Any:
        answer = self._http.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", (parameters, answer)
        assert not answer.get("warnings"), (parameters, answer)
        return answer["data"]

    @property
    def _range(self) -> dict[str, str]:
        return {"start": f"{self._end - self._seconds:.3f}", "end": f"{self._end:.3f}"}

    def label_values(self, selector: str, label: str) -> list[str]:
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": selector}, **self._range)
        return found

    def values(self, board: str) -> Mapping[str, str]:
        """Return the values of a dashboard's variables."""
        if board not in self._values:
            self._values[board] = variables(board, self.label_values, self._chosen)
        return self._values[board]

    def shown(self, asked: Asked) -> Series:
        data = self._get("query_range", query=filled(asked.expr, self.values(asked.board)), step="15", **self._range)
        return [(one["metric"], [float(value) for _, value in one["values"]]) for one in data["result"]]

    def now(self, board: str, panel: str, ref: str) -> dict[tuple[str, ...], float]:
        """Return the newest values by the values of their labels."""
        (asked,) = [one for one in queries(board) if (one.panel, one.ref) == (panel, ref)]
        return {
            tuple(value for _, value in sorted(labels.items())): values[-1] for labels, values in self.shown(asked)
        }
