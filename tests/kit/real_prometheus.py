"""A real Prometheus with scrape jobs of a test's own, or with none."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from devstack.build import ensure_programs
from devstack.support import free_port


class RealPrometheus:
    """A Prometheus process whose data can be thrown away."""

    def __init__(self, folder: Path, jobs: list[dict[str, Any]], *flags: str) -> None:
        self._folder = folder
        self._flags = flags
        # It looks for its targets 5 s after its start.
        self._up = "/api/v1/query?query=up==1" if jobs else "/api/v1/query?query=vector(1)"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        (folder / "prometheus.yaml").write_text(yaml.safe_dump({"scrape_configs": jobs}))

    def start(self) -> None:
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    ensure_programs().prometheus,
                    f"--config.file={self._folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    *self._flags,
                ],
                stdout=log,
                stderr=log,
            )
        with httpx.Client(trust_env=False) as http:
            for _ in range(1200):
                try:
                    if http.get(f"{self.url}{self._up}").json()["data"]["result"]:
                        return
                except (httpx.HTTPError, KeyError, ValueError):
                    pass
                time.sleep(0.05)
        raise AssertionError(self.log())

    def log(self) -> str:
        """Return what it has logged."""
        return (self._folder / "log").read_text()

    def stop(self, *, lose_data: bool = False) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(20)
            self._process = None
        if lose_data:
            shutil.rmtree(self._folder / "data")
