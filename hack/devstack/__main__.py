"""The stack on the command line: ``python -m devstack build|up|down|status|logs``."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path

from devstack.build import build_for_tests, ensure_programs
from devstack.stack import Stack
from devstack.support import StackError, cache_root, tail


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="devstack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build what the cache lacks")
    build.add_argument("--tests", action="store_true", help="and what only the tests need")
    up = commands.add_parser("up", help="start a stack in the background")
    up.add_argument("--scrape-interval", type=float, default=5.0, metavar="SECONDS")
    up.add_argument("--gateways", type=int, default=1, metavar="N", help="proxies of the ingress gateway")
    up.add_argument(
        "--port", action="append", default=[], metavar="NAME=PORT", help="fix a port, for example gateway=18080"
    )
    up.add_argument("--foreground", action="store_true", help="stay, and stop the stack on Ctrl-C")
    down = commands.add_parser("down", help="stop a stack")
    down.add_argument("--purge", action="store_true", help="and remove its data, logs and keys")
    status = commands.add_parser("status", help="show the processes of a stack")
    logs = commands.add_parser("logs", help="show the ends of the logs")
    logs.add_argument("name", nargs="?", help="one process only")
    logs.add_argument("--lines", type=int, metavar="N", help="20 of each process, or 100 of the one")
    for command in (up, down, status, logs):
        command.add_argument(
            "--state", type=Path, default=cache_root() / "stacks" / "default", metavar="DIR", help="its folder"
        )
    return parser


def _up(options: argparse.Namespace) -> int:
    ports: dict[str, int] = {}
    for text in options.port:
        name, _, number = text.partition("=")
        if not number.isdigit() or not 0 < int(number) < 65536:
            raise StackError(f"--port {text}: write a name and a number, for example gateway=18080")
        ports[name] = int(number)
    try:
        running = Stack.attach(options.state)
    except StackError:
        pass
    else:
        print("the stack is running already")
        _print_handles(running)
        return 0
    started = time.monotonic()
    stack = Stack(
        options.state,
        scrape_interval_seconds=options.scrape_interval,
        gateways=options.gateways,
        ports=ports,
        detached=not options.foreground,
        log=_say,
    )
    try:
        stack.start()
        print(f"the stack is up after {time.monotonic() - started:.0f} s")
        _print_handles(stack)
        while options.foreground:
            time.sleep(3600)
    except KeyboardInterrupt:
        stack.stop()
        return 130
    return 0


def _print_handles(stack: Stack) -> None:
    print(f"  export KUBECONFIG={stack.kubeconfig}")
    print(f"  kubectl     {stack.kubectl_path}")
    print(f"  gateway     {stack.gateway_url}")
    print(f"  prometheus  {stack.prometheus_url}")
    print(f"  envoy       {stack.envoy_admin_url}")


def _down(options: argparse.Namespace) -> int:
    try:
        Stack.attach(options.state, log=_say).stop()
        print("the stack is stopped")
    except StackError as error:
        print(error)
    if options.purge and (options.state / "stack.json").exists():
        shutil.rmtree(options.state)
    return 0


def _status(options: argparse.Namespace) -> int:
    stack = Stack.attach(options.state)
    print(f"{'NAME':<26}{'PID':>8}{'PORT':>8}  STATE")
    states = stack.status()
    for process in states:
        if process.pid is None:
            state = "not running" if process.exit_status is None else f"ended ({process.exit_status})"
        else:
            state = "healthy" if process.healthy else "not answering"
        print(f"{process.name:<26}{process.pid or '-':>8}{process.port or '-':>8}  {state}")
    return 0 if all(process.healthy for process in states) else 1


def _logs(options: argparse.Namespace) -> int:
    folder = options.state / "logs"
    files = [folder / f"{options.name}.log"] if options.name else sorted(folder.glob("*.log"))
    if not all(file.exists() for file in files) or not files:
        have = ", ".join(sorted(file.stem for file in folder.glob("*.log"))) or "none"
        raise StackError(f"no log of {options.name or 'a stack'} in {folder}; there are: {have}")
    for file in files:
        if len(files) > 1:
            print(f"==> {file.stem} <==")
        print(tail(file, options.lines or (100 if options.name else 20)))
    return 0


def _say(text: str) -> None:
    print(f"devstack: {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Run one command and return the exit status."""
    options = _parser().parse_args()
    try:
        match options.command:
            case "build":
                build_for_tests() if options.tests else ensure_programs()
                return 0
            case "up":
                return _up(options)
            case "down":
                return _down(options)
            case "status":
                return _status(options)
            case _:
                return _logs(options)
    except StackError as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        _say("broken off; the next run goes on where this one was")
        return 130


if __name__ == "__main__":
    sys.exit(main())
