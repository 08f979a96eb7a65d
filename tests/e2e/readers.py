"""Those who are told when a plan has ended, and open its report by the link in what they were told."""

from __future__ import annotations

import functools
import json
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from devstack.api import fetch
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json


class Readers:
    """A receiver of notifications, and the web server before the volume of the reports.

    Attributes
    ----------
    settings
        Of the operator, by the name of the environment variable.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cutover-readers-")
        folder = Path(self._folder.name)
        reports = folder / "reports"
        reports.mkdir()
        self._events: list[Json] = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Handler, self._events, directory=reports))
        threading.Thread(target=server.serve_forever, name="readers", daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (folder / "url").write_text(f"{url}/told")
        receiver = {
            "name": "readers",
            "kind": "CloudEvents",
            "urlFile": str(folder / "url"),
            "reasons": ["Complete"],
            "allow": ["127.0.0.0/8"],
        }
        file = folder / "notifications.yaml"
        file.write_text(yaml.safe_dump({"receivers": [receiver]}))
        self.settings = {
            "CUTOVER_NOTIFICATIONS": str(file),
            "CUTOVER_REPORTS": "true",
            "CUTOVER_REPORTS_FOLDER": str(reports),
            "CUTOVER_REPORTS_URL": f"{url}/",
        }

    def told(self, plan: str) -> list[Json]:
        """Return what was told of a plan."""
        return [event for event in self._events if event["plan"] == plan]


class _Handler(SimpleHTTPRequestHandler):
    def __init__(self, events: list[Json], *arguments: Any, **named: Any) -> None:
        self._events = events
        super().__init__(*arguments, **named)

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._events.append(event["data"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@functools.cache
def readers() -> Readers:
    """Return the readers of this run, who are there from the first call."""
    return Readers()


def report_by_its_link(environment: Environment, plan: str) -> Json:
    """Follow the link in the notification that a plan has ended; return the ConfigMap, which has the same page."""
    environment.until(f"{plan}: its end is told", lambda: bool(readers().told(plan)), 30)
    told = readers().told(plan)[0]
    # Half a minute for Prometheus' last samples.
    environment.until(f"{plan}: a file and a ConfigMap", lambda: _events(environment, plan) == 2, 120)
    named = told["report"]
    assert (named["kind"], named["namespace"]) == ("ConfigMap", NAMESPACE)
    kept: Json = environment.api.call(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{named['name']}")
    assert kept["immutable"] is True
    assert kept["data"]["report.html"] == fetch(told["reportUrl"]).decode()
    return kept


def _events(environment: Environment, plan: str) -> int:
    return sum(event["reason"] == "Report" for event in environment.events(plan))
