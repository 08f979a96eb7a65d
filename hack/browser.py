"""Chromium without a window, for pictures of pages and for what only a browser draws."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_SECONDS = 300.0


def open_page(file: Path, *options: str) -> str:
    """Open a page and close it again; return what Chromium prints, which is the page with `--dump-dom`.

    Parameters
    ----------
    file
        The page.
    options
        Further options of Chromium.

    Raises
    ------
    SystemExit
        Where there is no Chromium.
    """
    with tempfile.TemporaryDirectory(prefix="cutover-browser-") as profile:
        command = [program("chromium"), *_OPTIONS, f"--user-data-dir={profile}", *options, file.absolute().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_SECONDS)
    return done.stdout


def program(name: str) -> str:
    """Return the path of a program. Raises SystemExit where it is not installed."""
    path = shutil.which(name)
    if path is None:
        sys.exit(f"{name} is needed, and is not installed")
    return path
