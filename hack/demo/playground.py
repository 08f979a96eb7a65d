"""A stack with users and one plan to play with: ``python -m demo.playground``, or ``make try``."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path

import yaml
from rich.console import Console
from rich.markup import escape

from demo.keeping import clear, stop_kept
from demo.screen import Screen
from demoapps.apps import KnobHandle
from demoapps.child import ChildError
from devstack.build import ensure_programs
from devstack.stack import Stack
from devstack.support import StackError, cache_root, try_lock
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, plan, public_host

SERVICE, RATE = "pdf", 40.0
#: What `--break` does to the app on EKS.
BROKEN_RATIO = 0.2
_BROKEN = f"{100 * BROKEN_RATIO:.0f} %"
INTERRUPTED = 130
_OPERATOR = Path(__file__).parents[2] / "operator"

#: The plan waits for a person once, so that whoever plays has a look first.
PLAN = plan(
    SERVICE,
    steps=[
        {"weight": 10, "hold": "20s"},
        {"weight": 25, "hold": "20s", "approval": "Manual"},
        {"weight": 50, "hold": "20s"},
        {"weight": 100},
    ],
    soak="2m",
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="demo.playground", description=__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--break", dest="action", action="store_const", const="break", help="have EKS fail requests")
    action.add_argument("--heal", dest="action", action="store_const", const="heal", help="make EKS well again")
    action.add_argument("--stop", dest="action", action="store_const", const="stop", help="stop everything")
    parser.add_argument(
        "--state", type=Path, default=cache_root() / "stacks" / "try", metavar="DIR", help="its folder"
    )
    return parser


def main() -> int:
    """Do one thing and return the exit status."""
    options = _parser().parse_args()
    state = options.state.absolute()
    screen = Screen(Console(highlight=False))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
    try:
        match options.action:
            case "stop":
                if not stop_kept(state, screen.say):
                    screen.console.print("nothing is running")
            case "break" | "heal" as action:
                _turn(state, screen.console, broken=action == "break")
            case _:
                _start(state, screen)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (StackError, ChildError, OSError) as error:
        print(f"try: {error}", file=sys.stderr)
        return 1
    return 0


def _start(state: Path, screen: Screen) -> None:
    if try_lock(state.with_name(f"{state.name}.lock")) is None:
        raise StackError(f"another `make try` is starting in {state}; wait for it")
    ensure_programs()
    if stop_kept(state, screen.say):
        screen.say("starting anew: plans and data of the last time are gone")
    clear(state)
    screen.say("starting a cluster, a mesh, both legs, users and the operator; this takes about half a minute")
    environment = Environment(state, [SERVICE], detached=True, log=screen.say)
    try:
        environment.start()
        environment.start_load({SERVICE: RATE}, outlive_parent=True)
        _write_files(environment)
    except BaseException:
        environment.stop()
        raise
    screen.console.print(what_to_type(state), soft_wrap=True)


def _write_files(environment: Environment) -> None:
    """Write the plan, a kubeconfig whose namespace is the plan's, and what a shell needs for both."""
    stack, state = environment.stack, environment.state_dir
    (state / "plan.yaml").write_text(yaml.safe_dump(PLAN, sort_keys=False))
    config = yaml.safe_load(stack.kubeconfig.read_text())
    for context in config["contexts"]:
        context["context"]["namespace"] = NAMESPACE
    kubeconfig = state / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(yaml.safe_dump(config))
    plugin = state / "bin" / "kubectl-cutover"
    plugin.parent.mkdir(exist_ok=True)
    plugin.write_text(
        f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(_OPERATOR))} exec {shlex.quote(sys.executable)} -m cutover.cli.app "$@"\n'
    )
    plugin.chmod(0o755)
    lines = {
        "KUBECONFIG": shlex.quote(str(kubeconfig)),
        "PATH": f'{shlex.quote(str(plugin.parent))}:{shlex.quote(str(stack.kubectl_path.parent))}:"$PATH"',
        "PLAN": shlex.quote(str(state / "plan.yaml")),
        "GATEWAY": stack.gateway_url,
        "PROMETHEUS": stack.prometheus_url,
    }
    (state / "env").write_text("".join(f"export {name}={value}\n" for name, value in lines.items()))


def what_to_type(state: Path) -> str:
    app, again = f"mplan {SERVICE}", json.dumps({"spec": {"attempt": 2}})
    host = public_host(SERVICE)
    steps = {
        "kubectl in this terminal then speaks to this cluster:": f"source {state}/env",
        "The migration, as it would be in Git; commit it:": "cat $PLAN; kubectl apply -f $PLAN",
        "Checks, takeover, then 10 % to EKS; after some two and a half minutes it waits there for you (end with Ctrl-C):": (
            f"kubectl get {app} --watch"
        ),
        "Why, and on what numbers:": f"kubectl describe {app}",
        "The same on one screen, live; explain says why it does or does not move:": (
            f"kubectl cutover status {SERVICE} --watch; kubectl cutover explain {SERVICE}"
        ),
        "Which leg answers a user:": f"curl -si -H 'Host: {host}' $GATEWAY | grep x-cutover-leg",
        "Your word for 25 %:": f"kubectl annotate {app} cutover.dev/approve=a1-w25",
        f"{_BROKEN} of EKS' answers become errors; within two minutes proven harm brings it back to Heroku:": (
            "make try-break"
        ),
        "EKS is well again; try the migration once more:": (
            f"make try-heal; kubectl patch {app} --type=merge -p '{again}'"
        ),
        "Back to Heroku by hand, from any step:": f"kubectl annotate {app} cutover.dev/rollback=a2",
        "The end:": "make try-stop",
    }
    lines = [
        f"{number:2}. {words}\n      [bold]{escape(command)}[/bold]"
        for number, (words, command) in enumerate(steps.items(), 1)
    ]
    start = f"{RATE:.0f} requests a second of users reach {host}, which is on Heroku. Its service on EKS is ready. Now type:"
    return "\n".join(["", start, "", *lines])


def _turn(state: Path, console: Console, *, broken: bool) -> None:
    Stack.attach(state / "stack")  # says so if there is none
    ready = json.loads((state / "apps" / "eks-app.json").read_text())
    knobs = KnobHandle(int(ready["admin_port"]), "eks", SERVICE)
    knobs.set(error_ratio=BROKEN_RATIO if broken else 0.0)
    what = f"answers {_BROKEN} of its requests with 500" if broken else "is well again"
    console.print(f"{SERVICE} on EKS {what}; kubectl get mplan {SERVICE} --watch shows what comes of it")


if __name__ == "__main__":
    sys.exit(main())
