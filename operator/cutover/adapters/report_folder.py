"""Keeps reports as files in a folder, such as one of a volume.

A volume over a network may hang for as long as its server is away. So files are written in a thread of their own, which nobody
waits for longer than a limit, and of which there is one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from threading import Thread

from cutover.domain.plan import Plan
from cutover.ports.errors import Conflict, Unavailable

#: Seconds that writing a report may take.
MOST_SECONDS = 30.0


class FolderReports:
    """:class:`cutover.ports.reports.ReportStore` in a folder, with a folder for each namespace in it.

    Parameters
    ----------
    folder
        The folder, which has to exist: who mounts nothing gets no files on the container's own disk.
    most_seconds
        As :data:`MOST_SECONDS`.
    """

    kind = "Folder"

    def __init__(self, folder: Path, *, most_seconds: float = MOST_SECONDS) -> None:
        self._folder = folder
        self._most_seconds = most_seconds
        self._writing = False

    def place(self, plan: Plan, name: str) -> str:
        """Return where a report is kept, for people."""
        return f"the reports' folder as {plan.namespace}/{name}"

    async def keep(self, plan: Plan, name: str, documents: Mapping[str, str]) -> None:
        """Write the files. Raises Conflict where they exist, Unavailable."""
        if self._writing:
            raise Unavailable(f"an earlier write to {self._folder} has not ended")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Exception | None] = loop.create_future()

        def tell(problem: Exception | None) -> None:
            if not ended.done():
                ended.set_result(problem)

        def work() -> None:
            problem: Exception | None = None
            try:
                _write(self._folder, plan.namespace, name, documents)
            except OSError as error:
                problem = Unavailable(f"{self._folder}: {error.strerror or type(error).__name__}")
            except Exception as other:  # noqa: BLE001
                problem = other
            # Not once the thread has ended, which may be after the next try.
            self._writing = False
            with contextlib.suppress(RuntimeError):  # the process ends
                loop.call_soon_threadsafe(tell, problem)

        self._writing = True
        # A daemon, as no process waits for a volume to end.
        Thread(target=work, name="reports-folder", daemon=True).start()
        try:
            async with asyncio.timeout(self._most_seconds):
                problem = await ended
        except TimeoutError:
            raise Unavailable(f"{self._folder} has not answered for {self._most_seconds:g} s") from None
        if problem is not None:
            raise problem


def _write(folder: Path, namespace: str, name: str, documents: Mapping[str, str]) -> None:
    """Write each document beside its place and move it there, so that nobody sees half a file. What is there already stays."""
    inside = folder / namespace
    inside.mkdir(exist_ok=True)
    missing = {
        file: text for kind, text in documents.items() if not (file := inside / f"{name}{Path(kind).suffix}").exists()
    }
    if not missing:
        raise Conflict("they are there already")
    for file, text in missing.items():
        # The same each time: what a killed process has left is written anew, and does not pile up.
        unfinished = file.with_name(f".{file.name}.unfinished")
        with unfinished.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        unfinished.replace(file)
