"""What `make try` says to type is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from cutover.api.v1alpha1 import MigrationPlan
from cutover.api.v1alpha1.spec.steps import Approval
from cutover.domain.commands.annotations import read
from demo.playground import PLAN, what_to_type

ROOT = Path(__file__).parents[2]
TEXT = what_to_type(Path("/stacks/try"))


def test_the_plan_waits_where_the_text_says() -> None:
    plan = MigrationPlan.from_wire(PLAN)
    (waiting,) = [step.weight for step in plan.spec.steps if step.approval is Approval.MANUAL]
    assert f"cutover.dev/approve=a1-w{waiting}[" in TEXT


def test_the_annotations_are_commands() -> None:
    found = re.findall(r"(cutover\.dev/[\w-]+)=([\w-]+)", TEXT)
    assert [name for name, _ in found] == ["cutover.dev/approve", "cutover.dev/rollback"]
    assert all(read(name, value) is not None for name, value in found)


def test_the_targets_are_in_the_makefile() -> None:
    targets = set(re.findall(r"make (try[\w-]*)", TEXT))
    assert targets == {"try-break", "try-heal", "try-stop"}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^([\w-]+ )*{target}( [\w-]+)*:", makefile, re.MULTILINE) for target in targets)
