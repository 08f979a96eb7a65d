"""The operator as a process of its own; several may run beside each other."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from devstack import supervisor
from devstack.api import fetch
from devstack.stack import Stack
from devstack.support import StackError, free_port
from sandbox.manifests import ROOT

_START_SECONDS, _END_SECONDS = 90.0, 30.0
_LOOK_SECONDS = 0.1


class OperatorProcess:
    """One process of the operator, its ports and its log.

    Parameters
    ----------
    stack
        What it runs beside, and ends with.
    name
        Its name among several, also in its log's name.
    settings
        Returns its settings, by the name of the environment variable.

    Attributes
    ----------
    metrics_port, health_port
        On loopback; 0 before the first start.
    """

    def __init__(self, stack: Stack, name: str, settings: Callable[[], Mapping[str, str]]) -> None:
        self._stack = stack
        self._settings = settings
        self.name = name
        self.metrics_port = 0
        self.health_port = 0

    def start(self, **settings: str) -> None:
        """Start it and wait until it is healthy.

        Parameters
        ----------
        settings
            Further settings, by the name of the environment variable.

        Raises
        ------
        StackError
            When it ends, or is not healthy in time.
        """
        if not self.metrics_port:
            self.metrics_port, self.health_port = free_port(), free_port()
            self._stack.add_scrape_target("cutover", f"http://127.0.0.1:{self.metrics_port}/metrics")
        environment = {
            "PYTHONPATH": str(ROOT / "operator"),
            "CUTOVER_METRICS_PORT": str(self.metrics_port),
            "CUTOVER_HEALTH_PORT": str(self.health_port),
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
            # Nobody outside is asked, and reading all authorities of the machine is a fifth of what a start computes.
            "SSL_CERT_FILE": str(self._stack.ca_file),
            **self._settings(),
            **settings,
        }
        argv = [sys.executable, "-m", "cutover.main"]
        supervisor.call(self._stack.state_dir, {"do": "spawn", "name": self.name, "argv": argv, "env": environment})
        self._until("healthy", self.healthy, _START_SECONDS)

    @property
    def pid(self) -> int | None:
        """Its process id, ``None`` when it does not run."""
        child = self._child()
        return child["pid"] if child and child["status"] is None else None

    @property
    def exit_code(self) -> int | None:
        """What it ended with, negative for a signal; ``None`` while it runs, or if it never did."""
        child = self._child()
        return child["status"] if child else None

    def healthy(self) -> bool:
        """Ask its own health endpoint. Raises StackError when it has ended."""
        if self.pid is None:
            raise StackError(f"{self.name} ended:\n{self.log()[-2000:]}")
        return self._answer(self.health_port, "/healthz") is not None

    def leading(self) -> bool:
        """Ask it whether it acts; one that does not answer does not say so."""
        text = (self._answer(self.metrics_port, "/metrics") or b"").decode()
        return any(
            family.name == "cutover_leader" and family.samples[0].value == 1
            for family in text_string_to_metric_families(text)
        )

    def send(self, number: signal.Signals) -> float:
        """Send it a signal; return when, in unix seconds."""
        pid = self.pid
        if pid is None:
            raise StackError(f"{self.name} does not run")
        at = time.time()
        os.kill(pid, number)
        return at

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send it a signal, if it runs, and wait until it is gone."""
        if self.pid is not None:
            self.send(number)
            self.until_gone()

    def until_gone(self) -> None:
        """Wait until it has ended. Raises StackError when it does not."""
        self._until("gone", lambda: self.pid is None, _END_SECONDS)

    def log(self) -> str:
        """Return all that it has logged, over all of its starts."""
        path = self._stack.state_dir / "logs" / f"{self.name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _child(self) -> dict[str, int | None] | None:
        children: dict[str, dict[str, int | None]] = supervisor.call(self._stack.state_dir, {"do": "list"})
        return children.get(self.name)

    def _until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise StackError(f"{self.name} is not {what} within {seconds:g} s:\n{self.log()[-2000:]}")
            time.sleep(_LOOK_SECONDS)

    @staticmethod
    def _answer(port: int, path: str) -> bytes | None:
        try:
            return fetch(f"http://127.0.0.1:{port}{path}")
        except OSError:
            return None
