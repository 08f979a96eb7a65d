"""The demo on the command line: ``python -m demo [--keep] [--out DIR]``, or ``make demo``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from demo import picture, summary
from demo.keeping import clear, stop_kept
from demo.play import Play
from demo.scenarios import SCENARIOS
from demo.screen import Screen
from demoapps.child import ChildError
from devstack.build import ensure_programs
from devstack.support import StackError, cache_root, try_lock
from sandbox.environment import Environment, Timeout
from sandbox.manifests import NAMESPACE, public_host

#: Seconds until a demo that hangs is broken off; a good one takes half of that.
DEADLINE_SECONDS = 12 * 60
#: Seconds that stopping may take.
STOP_SECONDS = 60
#: Width of tables where standard output is no terminal.
LOG_COLUMNS = 130
#: Exit status of what was broken off by Ctrl-C.
INTERRUPTED = 130


class DeadlineError(Exception):
    """The demo takes too long."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the stack and the operator running")
    parser.add_argument("--stop", action="store_true", help="only stop what an earlier demo has left running")
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder for the picture")
    parser.add_argument(
        "--state", type=Path, default=cache_root() / "stacks" / "demo", metavar="DIR", help="folder for data and logs"
    )
    return parser


def main() -> int:
    """Run the demo and return the exit status: 0 only when all four plans ended as they should."""
    options = _parser().parse_args()
    state = options.state.absolute()
    if try_lock(state.with_name(f"{state.name}.lock")) is None:
        return _fail(f"a demo is running in {state} already; wait for it, or name another folder with --state")
    # Long lines are fine in a file, and tables must not be cut off.
    screen = Screen(Console(highlight=False, width=None if sys.stdout.isatty() else LOG_COLUMNS))
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        ensure_programs()
        stop_kept(state, screen.say)
        if options.stop:
            return 0
        clear(state)
        with _deadline(DEADLINE_SECONDS):
            return _run(state, options.out.absolute(), screen, keep=options.keep)
    except KeyboardInterrupt:
        return _fail("broken off", INTERRUPTED)
    except DeadlineError:
        problem = f"not over after {DEADLINE_SECONDS // 60} minutes, so it was broken off"
    except (StackError, ChildError, Timeout, OSError, RuntimeError) as error:
        problem = str(error)
    return _fail(f"{problem}\n{_where_to_look(state)}")


def _run(state: Path, out: Path, screen: Screen, *, keep: bool) -> int:
    screen.say("starting the stack, both legs and the operator; this takes about half a minute, all of it six")
    environment = Environment(
        state, [scenario.service for scenario in SCENARIOS], detached=keep, log=lambda text: screen.say(text)
    )
    leave = False
    try:
        environment.start()
        leave = keep
        played = Play(environment, screen).run()
        file = out / "demo-timeline.png"
        picture.draw(played.stories, played.records, played.rollbacks, start=played.start, end=played.end, path=file)
        summary.tell(screen.console, played)
        screen.console.print(f"timeline: {file}", soft_wrap=True)
        return _fail(_where_to_look(state)) if played.problems else 0
    except KeyboardInterrupt:
        leave = False
        raise
    finally:
        if leave:
            screen.console.print(_how_to_look_around(environment), soft_wrap=True)
        else:
            with _undisturbed():
                environment.stop()
                screen.say("everything is stopped")


def _how_to_look_around(environment: Environment) -> str:
    stack, state = environment.stack, environment.state_dir
    python = f"PYTHONPATH={os.environ.get('PYTHONPATH', '')} {sys.executable} -m"
    load = state / "load"
    return (
        "\nThe stack, both legs and the operator are left running; the users have ended with the demo.\n"
        f"  look around:  KUBECONFIG={stack.kubeconfig} {stack.kubectl_path} -n {NAMESPACE} get mplan\n"
        f"  Prometheus:   {stack.prometheus_url}\n"
        f"  gateway:      curl -i -H 'Host: {public_host(SCENARIOS[0].service)}' {stack.gateway_url}\n"
        f"  users again:  {python} demoapps.load --config {load / 'load.config.json'} --record {load / 'again.jsonl'}\n"
        f"  stop it:      {python} demo --stop --state {state}"
    )


def _where_to_look(state: Path) -> str:
    logs = state / "stack" / "logs"
    return (
        "where to look:\n"
        f"  the operator's log       {logs / 'operator.log'}\n"
        f"  the stack's logs         {logs}\n"
        f"  both legs' logs          {state / 'apps'}\n"
        f"  every request of users   {state / 'load' / 'load.jsonl'}\n"
        "  with --keep (make demo KEEP=1) the stack stays up for a look around"
    )


def _fail(problem: str, status: int = 1) -> int:
    print(f"\ndemo: {problem}", file=sys.stderr, flush=True)
    return status


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _too_late(*_: object) -> None:
    raise DeadlineError


@contextlib.contextmanager
def _deadline(seconds: int) -> Iterator[None]:
    """Break off whatever runs when the time is over, also a call that hangs."""
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """On a second Ctrl-C, stop in good order; if that hangs, exit: the children end with their parent."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(STOP_SECONDS)
    yield
    signal.alarm(0)


if __name__ == "__main__":
    sys.exit(main())
