"""``kubectl cutover``: the plugin's commands, put together."""

from __future__ import annotations

from collections.abc import Callable

import typer

from cutover.cli.deciding import approve, ceiling, forward, proceed, resume, retry, rollback, skip, suspend
from cutover.cli.get import get
from cutover.cli.session import connected
from cutover.cli.status import explain, history, status
from cutover.cli.watch import watch

_LOOK, _DECIDE = "Look", "Decide"

app = typer.Typer(
    name="kubectl-cutover",
    help="Follow and steer cutovers from Heroku to EKS, with your own kubeconfig, context, namespace and rights.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 error, 2 usage, 3 refused, 4 not yet seen in time, 5 declined, 6 found what needs somebody.",
)

COMMANDS: dict[str, list[Callable[..., int | None]]] = {
    _LOOK: [get, status, watch, explain, history],
    _DECIDE: [approve, proceed, skip, rollback, forward, suspend, resume, ceiling, retry],
}

for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(command.__name__.replace("_", "-").rstrip("-"), rich_help_panel=panel)(connected(command))


def main() -> None:
    """Run the program."""
    app()


if __name__ == "__main__":
    main()
