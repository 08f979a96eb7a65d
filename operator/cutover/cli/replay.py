"""``backtest``: passes on to ``cutover-backtest``, which needs what the operator needs."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Annotated

import typer

from cutover.cli.exits import Exit
from cutover.cli.session import tell


def backtest(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ARGUMENTS]...", help="Arguments of cutover-backtest; --help shows them."),
    ] = None,
) -> None:
    """Replay a plan's cutover on Heroku's recorded traffic in Prometheus, as cutover-backtest does."""
    if find_spec("pydantic_settings") is None:
        tell("kubectl-cutover: backtest needs the operator's packages: pip install 'cutover[operator]'")
        raise typer.Exit(Exit.ERROR)
    done = subprocess.run([sys.executable, "-m", "cutover.cli.backtest", *(arguments or ())], check=False)
    raise typer.Exit(done.returncode)
