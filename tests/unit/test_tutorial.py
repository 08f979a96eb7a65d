"""The tutorial's commands ask for what there is; `make test-long` types them all."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.kit.tutorial import PAGE, WHERE, commands

from cutover.api.crd import PLAN as KIND
from cutover.api.crd import schema
from cutover.api.v1alpha1 import MigrationPlan
from cutover.domain.commands.annotations import read
from cutover.domain.holds import HoldReason
from demo.playground import PLAN, SERVICE, what_to_type
from devstack.support import cache_root
from sandbox.manifests import public_host

ROOT = Path(__file__).parents[2]
COMMANDS = commands()
TEXT = "\n".join(COMMANDS)


def test_a_shell_understands_them() -> None:
    assert len(COMMANDS) > 20
    for command in COMMANDS:
        assert shlex.split(command)


def test_targets_are_in_the_makefile_and_the_stack_is_stopped_at_the_end() -> None:
    targets = [name for command in COMMANDS for name in re.findall(r"^make ([\w-]+)$", command)]
    assert targets == ["try", "try-break", "try-heal", "try-stop"]
    assert COMMANDS[0] == "make try"
    assert COMMANDS[-1] == "make try-stop"


def test_the_folder_is_where_the_playground_writes() -> None:
    assert f"source {WHERE}/env" in COMMANDS
    assert Path(WHERE).expanduser().parts[-3:] == (cache_root() / "stacks" / "try").parts[-3:]
    assert "env" in what_to_type(Path(WHERE))


def test_annotations_are_commands_of_steps_that_the_plan_has() -> None:
    plan = MigrationPlan.from_wire(PLAN)
    found = re.findall(r"(cutover\.dev/[\w-]+)=([^\"\n]+)", TEXT)
    assert len(found) == 2
    weights = {step.weight for step in plan.spec.steps}
    for name, value in found:
        command = read(name, value.strip())
        assert command is not None
        assert command.weight is None or command.weight in weights
    assert public_host(SERVICE) in TEXT
    assert f"mplan/{SERVICE}" in TEXT


def test_what_is_waited_for_exists() -> None:
    status = schema(KIND)["properties"]["status"]["properties"]
    for path, value in re.findall(r"--for=jsonpath='\{\.status\.([\w.]+)\}'=(\S+)", TEXT):
        node, *inner = path.split(".")
        assert node in status
        assert all(part in status[node]["properties"] for part in inner)
        assert path != "held.reason" or value in set(HoldReason)
    assert "every command of this page" in PAGE.read_text(encoding="utf-8")
