"""``kubectl cutover``: the plugin's commands, put together."""

from __future__ import annotations

from collections.abc import Callable

import typer

from cutover.cli.audit import audit, diff
from cutover.cli.deciding import approve, ceiling, forward, proceed, resume, retry, rollback, skip, suspend
from cutover.cli.estimate import estimate
from cutover.cli.get import get
from cutover.cli.init import init
from cutover.cli.replay import backtest
from cutover.cli.report import report
from cutover.cli.session import connected
from cutover.cli.status import explain, history, status
from cutover.cli.support_bundle import support_bundle
from cutover.cli.watch import watch

_BEGIN, _LOOK, _DECIDE, _HELP = "Begin", "Look", "Decide", "Help"

app = typer.Typer(
    name="kubectl-cutover",
    help="Follow and steer cutovers from Heroku to EKS, with your own kubeconfig, context, namespace and rights.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 error, 2 usage, 3 refused, 4 not yet seen in time, 5 declined, 6 found what needs somebody.",
)

COMMANDS: dict[str, list[Callable[..., int | None]]] = {
    _BEGIN: [init, audit, diff, estimate],
    _LOOK: [get, status, watch, explain, history, report],
    _DECIDE: [approve, proceed, skip, rollback, forward, suspend, resume, ceiling, retry],
    _HELP: [support_bundle],
}

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(command.__name__.replace("_", "-").rstrip("-"), rich_help_panel=panel)(connected(command))

# It takes the arguments of another program, and nothing of the cluster.
app.command(
    "backtest",
    rich_help_panel=_BEGIN,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)(backtest)


def main() -> None:
    """Run the program."""
    app(prog_name=app.info.name)


if __name__ == "__main__":
    main()
