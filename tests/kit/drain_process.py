"""The real process of ``cutover-drain``, as the chart starts it but for its ports."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from devstack.support import free_port

USER, PASSWORD, TOKEN = "logplex", "correct-horse-battery", "staple-1234567890"
#: Drain tokens by app.
TOKENS = {"acme-pdf": "d.11111111-aaaa", "acme-shop": "d.22222222-bbbb"}


def drains_file(folder: Path, **more: object) -> Path:
    """Write the file with credentials and apps."""
    path = folder / "drains.yaml"
    content = {
        "credentials": [{"username": USER, "password": PASSWORD}, {"token": TOKEN}],
        "apps": TOKENS,
    }
    path.write_text(yaml.safe_dump(content | more), encoding="utf-8")
    return path


@dataclass(eq=False)
class DrainProcess:
    """A replica.

    Parameters
    ----------
    folder
        Where its log goes.
    file
        The file with credentials and apps.
    settings
        Variables without their prefix.
    """

    folder: Path
    file: Path
    settings: dict[str, str]

    def __post_init__(self) -> None:
        self.port, self.metrics_port, self.health_port = free_port(), free_port(), free_port()
        self.metrics = f"http://127.0.0.1:{self.metrics_port}/metrics"
        self.log = self.folder / f"drain-{self.port}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        variables = {
            "FILE": str(self.file), "PORT": str(self.port), "METRICS_PORT": str(self.metrics_port),
            "HEALTH_PORT": str(self.health_port), "LISTEN_ADDRESS": "127.0.0.1", "LEAVE_SECONDS": "0.5",
            "LAST_SCRAPE_SECONDS": "2.5", **self.settings,
        }  # fmt: skip
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CUTOVER_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cutover.drain.main"],
                env=environment | {f"CUTOVER_DRAIN_{name}": value for name, value in variables.items()},
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while "waiting for frames" not in self.log.read_text(encoding="utf-8"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(self.log.read_text(encoding="utf-8"))
            time.sleep(0.05)

    def end(self) -> None:
        """Ask it to end, as Kubernetes does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Wait for its end; return the exit code."""
        assert self.process is not None
        return self.process.wait(60)

    def kill(self) -> None:
        """End it without asking, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def samples(self) -> dict[str, float]:
        """Return its metrics by name and labels, as it writes them."""
        with httpx.Client(trust_env=False) as http:
            text = http.get(self.metrics).text
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}
