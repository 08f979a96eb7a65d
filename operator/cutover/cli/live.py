"""Follows plans by a watch of the API server, and shows what changes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rich.console import Console, RenderableType
from rich.live import Live

from cutover.cli.cluster import Cluster
from cutover.cli.exits import CliError
from cutover.domain.preflight.inventory import Key, key_of
from cutover.domain.resources import PLANS, Json
from cutover.ports.errors import Conflict, Gone, Unavailable

#: Seconds between two tries of a watch that cannot be opened, and between two looks at a live view.
AGAIN_SECONDS, LOOK_SECONDS = 2.0, 1.0


@dataclass
class Feed:
    """The plans of a namespace, of all namespaces (``""``), or one plan, kept up to date by a thread.

    Parameters
    ----------
    cluster
        The API server.
    namespace
        Namespace; ``""`` for all.
    name
        Name of the only plan; ``""`` for all.
    """

    cluster: Cluster
    namespace: str
    name: str = ""
    problem: str = field(default="", init=False)
    changed: threading.Event = field(default_factory=threading.Event, init=False)
    _plans: dict[Key, Json] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def start(self) -> Feed:
        """Read the plans once, and follow them from then on.

        Raises
        ------
        Unavailable
            If they cannot be read now. What fails later is told as :attr:`problem`, and tried again.
        """
        changes = self.cluster.changes(PLANS, self.namespace, self.name)
        self._take(next(changes))
        threading.Thread(target=self._follow, args=(changes,), daemon=True).start()
        return self

    def plans(self) -> list[Json]:
        """Return the plans as they were last seen."""
        with self._lock:
            return list(self._plans.values())

    def _follow(self, changes: Iterator[Json]) -> None:
        while True:
            try:
                for change in changes:
                    self._take(change)
                    self.problem = ""
            except (Unavailable, Gone, Conflict, ValueError) as error:
                self.problem = f"not up to date: {error}"
                self.changed.set()
                time.sleep(AGAIN_SECONDS)
            changes = self.cluster.changes(PLANS, self.namespace, self.name)

    def _take(self, change: Json) -> None:
        """Take a list or an event. An error, such as a version that is too old, ends the watch; the next begins anew."""
        with self._lock:
            match change["type"]:
                case "LIST":
                    self._plans = {key_of(body): body for body in change["items"]}
                case "DELETED":
                    self._plans.pop(key_of(change["object"]), None)
                case "ADDED" | "MODIFIED":
                    self._plans[key_of(change["object"])] = change["object"]
                case _:
                    raise Unavailable(str(change.get("object", {}).get("message", "the watch ended")))
        self.changed.set()

    def only(self) -> Json:
        """Return the only plan. Raises CliError if it is gone."""
        found = self.plans()
        if not found:
            raise CliError(f"plan {self.name} is gone from namespace {self.namespace}")
        return found[0]


def follow(feed: Feed, view: Callable[[], RenderableType], console: Console, *, whole: bool = True) -> None:
    """Show a view until Ctrl-C: in a terminal in place, otherwise anew after each change.

    Parameters
    ----------
    whole
        Whether the view has the whole terminal for itself.
    """
    if not console.is_terminal:
        while True:
            feed.changed.clear()
            console.print(view())
            console.print()
            feed.changed.wait()
    with Live(view(), console=console, screen=whole, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            feed.changed.wait(LOOK_SECONDS)
            feed.changed.clear()
            live.update(view(), refresh=True)
