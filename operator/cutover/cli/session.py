"""What every command has: kubectl's options for the connection, the person's namespace, and readable errors."""

from __future__ import annotations

import functools
import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
import yaml
from pydantic import ValidationError
from rich.console import Console
from typer.models import OptionInfo

from cutover.api.problems import problem_text
from cutover.cli.cluster import Cluster, Target, hint
from cutover.cli.exits import CliError, Exit
from cutover.cli.terminal import ALL_COLUMNS, console
from cutover.domain import managed_fields
from cutover.domain.plan import Plan
from cutover.domain.resources import PLANS, Json
from cutover.domain.texts import plain
from cutover.ports.errors import Conflict, Gone, Unavailable

INTERRUPTED = 130


class Output(StrEnum):
    """Form of an output."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


class Session:
    """One call of the program.

    Parameters
    ----------
    target
        Which cluster and namespace.
    where
        Options that name the cluster and the namespace, for commands that the program suggests; ``""`` if they are those
        that the person has anyhow.
    """

    def __init__(self, target: Target, where: str = "") -> None:
        self._target = target
        self.where = where

    @functools.cached_property
    def cluster(self) -> Cluster:
        """The API server, with the person's rights. Raises CliError where there is none."""
        return Cluster.connect(self._target)

    @property
    def namespace(self) -> str:
        """The namespace that is meant."""
        return self.cluster.namespace

    def body(self, name: str) -> Json:
        """Return a plan of the namespace, as the API server has it.

        Raises
        ------
        CliError
            If there is none.
        """
        try:
            return self.cluster.get(PLANS, self.namespace, name)
        except Gone:
            others = sorted(body["metadata"]["name"] for body in self._others())
            there = f"there are {', '.join(others[:10])}" if others else "it has no plans; -n names another namespace"
            raise CliError(f"no plan {name} in namespace {self.namespace}: {there}") from None

    def _others(self) -> list[Json]:
        try:
            return self.cluster.objects(PLANS, self.namespace)
        except Unavailable:
            return []

    def plan(self, name: str) -> Plan:
        """Return a plan of the namespace. Raises CliError."""
        return readable(self.body(name))


def readable(body: Json) -> Plan:
    """Read a plan that the API server has.

    Raises
    ------
    CliError
        If this version cannot read it.
    """
    try:
        return Plan.from_object(body)
    except ValidationError as error:
        metadata = body["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        raise CliError(
            f"{key} is not a plan that this version can read: {plain(problem_text(error))[:600]}; is the plugin older or"
            f" newer than the operator? kubectl -n {metadata['namespace']} get mplan {metadata['name']} -o yaml shows it"
        ) from None


def now() -> datetime:
    """Return the machine's time."""
    return datetime.now(UTC)


def show(data: Any, output: Output) -> None:
    """Write data as JSON or YAML, as kubectl does."""
    if output is Output.JSON:
        text = json.dumps(data, indent=4, ensure_ascii=False)
    else:
        text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120).rstrip("\n")
    write(f"{text}\n")


def write(text: str) -> None:
    """Write text for programs and files to the standard output: UTF-8, whatever the terminal shows."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="replace"))
    sys.stdout.flush()


def without_managed_fields(body: Json) -> Json:
    """Return an object as ``kubectl get -o yaml`` shows it."""
    metadata = managed_fields.without(body["metadata"])
    return {"apiVersion": PLANS.api_version, "kind": PLANS.kind, **body, "metadata": metadata}


def screen() -> Console:
    """Return the console for what people read."""
    return console()


def wide() -> Console:
    """Return the console for tables that programs may read."""
    return console(columns=ALL_COLUMNS)


def tell(text: str) -> None:
    """Write a line for people to the standard error, where it does not mix with the output."""
    out = console(sys.stderr)
    out.print(plain(text), soft_wrap=not out.is_terminal)


# --------------------------------------------------------------------------------------------------- shared options


def plan_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a plan; nothing where the cluster does not answer."""
    values = ctx.params
    try:
        cluster = Cluster.connect(_target(values))
        found = cluster.objects(PLANS, cluster.namespace)
    except (CliError, Unavailable, Gone):
        return []
    return [name for body in found if (name := str(body["metadata"]["name"])).startswith(incomplete)]


PlanName = Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.", autocompletion=plan_names)]
OutputOption = Annotated[Output, typer.Option("--output", "-o", help="Form of the output.", show_default=False)]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it as it changes, until Ctrl-C.")]

_COMMON: dict[str, Any] = {
    "namespace": (
        Annotated[
            str | None, typer.Option("--namespace", "-n", help="The plan's namespace; by default the context's.")
        ],
        None,
    ),
    "context": (Annotated[str | None, typer.Option("--context", help="Context of the kubeconfig.")], None),
    "kubeconfig": (
        Annotated[
            Path | None,
            typer.Option("--kubeconfig", metavar="FILE", help="Kubeconfig; by default KUBECONFIG or ~/.kube/config."),
        ],
        None,
    ),
    "as_user": (
        Annotated[str | None, typer.Option("--as", metavar="USER", help="Impersonate a user, as kubectl does.")],
        None,
    ),
}


def _target(values: Json) -> Target:
    return Target(
        kubeconfig=values.get("kubeconfig"),
        context=values.get("context"),
        namespace=values.get("namespace"),
        user=values.get("as_user"),
    )


def connected(command: Callable[..., int | None]) -> Callable[..., None]:
    """Give a command kubectl's options for the connection, and a :class:`Session` as its first argument.

    The command returns its exit code, ``None`` for 0. Its errors become one line and an exit code.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "session"]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
        for name, (kind, default) in _COMMON.items()
    ]
    for parameter in (*own, *shared):
        _name_value(parameter)
    parameters = [*(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own), *shared]

    def run(**values: Any) -> None:
        connection = {name: values.pop(name) for name in _COMMON}
        with reasons():
            session = Session(_target(connection), _where(connection))
            code = command(session, **values)
        raise typer.Exit(code or Exit.DONE)

    functools.update_wrapper(run, command)
    del run.__wrapped__  # type: ignore[attr-defined] # typer would read the command's own signature
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _name_value(parameter: inspect.Parameter) -> None:
    """Have the help name what an option takes, such as NAMESPACE, rather than a type of Python's; nothing for a flag."""
    kind, *infos = get_args(parameter.annotation)
    for info in infos:
        choices = isinstance(kind, type) and issubclass(kind, StrEnum)
        if isinstance(info, OptionInfo) and info.metavar is None and not choices:
            # In Annotated, typer has the first declaration as the default until the command is built.
            declared = (info.default, *(info.param_decls or ()))
            long = next((one for one in declared if isinstance(one, str) and one.startswith("--")), parameter.name)
            info.metavar = "" if kind is bool else long.removeprefix("--").replace("-", "_").upper()


def _where(connection: Json) -> str:
    options = (("-n", "namespace"), ("--context", "context"), ("--kubeconfig", "kubeconfig"), ("--as", "as_user"))
    return " ".join(f"{option} {connection[name]}" for option, name in options if connection[name])


@contextmanager
def reasons() -> Iterator[None]:
    """Turn errors into one line for people and an exit code."""
    try:
        yield
    except CliError as error:
        tell(str(error) if error.code is Exit.DONE else f"kubectl-cutover: {error}")
        raise typer.Exit(error.code) from None
    except (Unavailable, Gone, Conflict) as error:
        tell(f"kubectl-cutover: {error}{hint(error)}")
        raise typer.Exit(Exit.ERROR) from None
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # Who reads the output, such as head, has had enough.
        sys.stderr.close()
        raise typer.Exit(Exit.DONE) from None
