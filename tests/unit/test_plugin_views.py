"""What kubectl-cutover shows: every hold and phase fits the screen, says why, and says what to do."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from tests.kit.screens import body_of, held_for, in_phase, seen
from tests.kit.states import HOLD_CASES, PHASE_CASES, judging_world

from cutover.api.durations import brief
from cutover.api.v1alpha1 import AnswersStatus, GateKind, GateLimits, GateStatus, Mode
from cutover.cli.app import app
from cutover.cli.intents import commands
from cutover.cli.intents.intent import Author
from cutover.cli.terminal import ascii_only, lines
from cutover.cli.views.advice import HOLDS, advice
from cutover.cli.views.checks import checks, differences
from cutover.cli.views.explanation import explain, render
from cutover.cli.views.history import history
from cutover.cli.views.parts import bar
from cutover.cli.views.screen import screen, way_to
from cutover.cli.views.table import Trouble, board, line, row, rows, table
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan

GOLDEN = Path(__file__).parent / "golden" / "kubectl-cutover"
CASES = [*HOLD_CASES, *PHASE_CASES]


def case(name: str) -> tuple[Plan, datetime]:
    return held_for(HoldReason(name)) if name in set(HoldReason) else in_phase(name)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("columns", "height"), [(80, 24), (140, 50)])
def test_a_plan_fits_the_screen_and_says_what_it_waits_for(name: str, columns: int, height: int) -> None:
    plan, now = case(name)
    shown = lines(screen(plan, now, columns=columns, height=height), columns=columns).splitlines()
    assert len(shown) < height, "the prompt has a line, too"
    assert max(map(len, shown)) <= columns
    assert shown[0].startswith(f"shop/pdf   {plan.status.phase}")
    text = "\n".join(shown)
    if plan.status.held is not None:
        assert f"held {plan.status.held.reason} for " in text
        assert "\ndo   " in text
    assert "\x1b" not in text


@pytest.mark.parametrize("reason", list(HOLD_CASES))
def test_an_explanation_says_why_and_what_to_do(reason: HoldReason) -> None:
    plan, now = held_for(reason)
    parts = {part.title: part.lines for part in explain(plan, now)}
    said = parts["Why it does not move"]
    assert said[0].startswith(f"{reason}, for ")
    assert f"More: docs/holds.md#{reason.lower()}" in said
    assert parts["What to do"]
    assert parts["Where it is"]
    text = lines(render(explain(plan, now)))
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", list(PHASE_CASES))
def test_an_explanation_of_each_phase(name: str) -> None:
    plan, now = in_phase(name)
    parts = {part.title: part.lines for part in explain(plan, now)}
    titles = {"Why it does not move", "What it waits for", "What it is doing"} & set(parts)
    assert len(titles) == 1
    if name == "rolled back":
        (last,) = [one for one in parts["What moved it last"] if one.startswith("RollBack 25 → 0 %")]
        assert "EKS is worse" in last
        assert any(one.startswith("The numbers then: alive Fail: EKS answered") for one in parts["What moved it last"])
    if name == "in mid-cutover":
        assert any(
            one.startswith("The step at 50 % asks for: 30s at 25 %, evidence of safety")
            for one in parts["What it waits for"]
        )
        assert any("100 rolls back" in one for one in parts["What would lead back"])


def test_a_plan_that_no_operator_has_seen() -> None:
    plan, now = in_phase("preflight")
    new = replace(plan, status=type(plan.status)())
    text = lines(render(explain(new, now)))
    assert "No operator has looked at this plan" in text
    assert "no operator has looked at this plan yet" in lines(screen(new, now))


def test_a_refused_command_is_explained() -> None:
    plan, now = held_for(HoldReason.AWAITING_APPROVAL)
    wrong = replace(plan, annotations={"cutover.dev/approve": "yes"})
    parts = {part.title: part.lines for part in explain(wrong, now)}
    assert "that is not understood; write a1-w25" in parts["Commands that are refused"][0]


def test_every_hold_has_an_advice_and_its_commands_exist() -> None:
    assert HOLDS.keys() == set(HoldReason)
    known = {command.name for command in app.registered_commands}
    for reason, text in HOLDS.items():
        named = re.findall(r"`\{go\} ([\w-]+)", text)
        assert set(named) <= known, reason
    plan, _ = held_for(HoldReason.AWAITING_APPROVAL)
    assert advice(plan, "-n shop") == "`kubectl cutover approve pdf -n shop` lets the step at 25 % begin"


def test_what_an_advice_says_to_skip_can_be_skipped() -> None:
    advised = {
        reason: named[1] for reason, text in HOLDS.items() if (named := re.search(r"skip \{plan\} (\w+)", text))
    }
    assert len(advised) > 1
    for reason, named in advised.items():
        plan, now = held_for(reason)
        assert named == reason
        commands.skip(plan, Author("jane", now), (named,))


# ---------------------------------------------------------------------------------------------------------- snapshots


def shown(name: str, renderable: RenderableType, columns: int) -> None:
    """Compare a screen with the one in the repository; with a changed screen, look at it and store it."""
    for suffix, text in (
        ("txt", lines(renderable, columns=columns)),
        ("ascii.txt", ascii_only(lines(renderable, columns=columns))),
    ):
        file = GOLDEN / f"{name}-{columns}.{suffix}"
        assert f"{text}\n" == file.read_text(encoding="utf-8"), f"{file.name}: {text}"
        assert suffix == "txt" or text.isascii()


@pytest.mark.parametrize("columns", [80, 140])
def test_snapshots(columns: int) -> None:
    for name, (plan, now), out in snapshots(columns):
        shown(name, out, columns)
        assert plan
        assert now


def snapshots(columns: int) -> list[tuple[str, tuple[Plan, datetime], RenderableType]]:
    height = 24 if columns == 80 else 50
    held, back, failing = held_for(HoldReason.CEILING), in_phase("rolled back"), held_for(HoldReason.PREFLIGHT_FAILED)
    many = [body_of(held[0]), body_of(replace(back[0], name="search")), body_of(replace(failing[0], name="account"))]
    board_of = board(rows(many, by_trouble=True), held[1], namespaces=True, problem="", height=height)
    return [
        ("held", held, screen(*held, columns=columns, height=height)),
        ("back", back, screen(*back, columns=columns, height=height)),
        ("preflight", failing, screen(*failing, columns=columns, height=height)),
        ("explain", held, render(explain(*held))),
        ("history", back, history(back[0].status.ledger, gates=False)),
        ("watch", held, board_of),
    ]


# -------------------------------------------------------------------------------------------------------------- table


def test_those_that_need_somebody_come_first() -> None:
    names = ["completed", "in mid-cutover", "rolled back", "rolling back"]
    bodies = [body_of(replace(in_phase(name)[0], name=name.replace(" ", "-"))) for name in names]
    bodies += [body_of(replace(held_for(one)[0], name=one.lower())) for one in (HoldReason.CEILING, HoldReason.BREACH)]
    found = rows(bodies, by_trouble=True)
    assert [one.name for one in found] == [
        "rolling-back",
        "breach",
        "rolled-back",
        "ceiling",
        "in-mid-cutover",
        "completed",
    ]
    assert [one.name for one in rows(bodies, by_trouble=False)] == sorted(one.name for one in found)


def test_the_table_has_the_columns_of_kubectl_and_of_wide() -> None:
    plan, now = held_for(HoldReason.CEILING)
    found = rows([body_of(plan)], by_trouble=False)
    head, body = lines(table(found, now, namespaces=True, wide=True), columns=300).splitlines()
    assert head.split() == [
        "NAMESPACE",
        "NAME",
        "PHASE",
        "STEP",
        "EKS",
        "SEEN",
        "PROOF",
        "HELD",
        "SINCE",
        "AGE",
        "MESSAGE",
    ]
    assert re.split(r"\s{2,}", body)[:6] == ["shop", "pdf", "Shifting", "2/4", "25", "25"]
    assert "Ceiling" in body
    assert "ready for 50 %" in body


@pytest.mark.parametrize(
    "status",
    [
        None,
        "none",
        {},
        {"phase": 7, "held": "x", "share": {"observed": "25"}},
        {"phase": "Paused", "held": {"reason": "New"}},
    ],
)
def test_a_status_that_cannot_be_read_is_a_row(status: object) -> None:
    one = row({"metadata": {"namespace": "shop", "name": "pdf"}, "status": status})
    assert one.key == ("shop", "pdf")
    assert one.trouble in (Trouble.WAITING, Trouble.HELD)
    assert line(one, namespaces=True).startswith("shop/pdf: ")


@pytest.mark.parametrize("height", [10, 24, 50])
def test_many_plans_fit_the_live_view(height: int) -> None:
    plan, now = held_for(HoldReason.BREACH)
    one = body_of(plan)
    bodies = [{**one, "metadata": {**one["metadata"], "name": f"p{number:03}"}} for number in range(300)]
    made = board(rows(bodies, by_trouble=True), now, namespaces=True, problem="", height=height)
    text = lines(made, columns=80).splitlines()
    assert len(text) <= height
    assert any(re.match(r"… and \d+ more", one) for one in text)


# -------------------------------------------------------------------------------------------------------------- parts


def test_a_screen_with_many_gates_shows_the_worst() -> None:
    plan, now = held_for(HoldReason.CEILING)
    bound = GateStatus(
        name="throttling",
        verdict="Fail",
        kind=GateKind.BOUND,
        mode=Mode.OBSERVE,
        value=0.4,
        baseline=0.1,
        limits=GateLimits(max=0.2),
    )
    more = tuple(replace(bound, name=f"own-{number}", verdict="Pass") for number in range(9))
    crowded = replace(plan, status=plan.status.evolve(gates=(*plan.status.gates, *more, bound)))
    text = lines(screen(crowded, now, columns=80, height=24))
    assert len(text.splitlines()) < 24
    assert "throttling" in text
    assert re.search(r"… \d+ more", text)
    assert "at most 0.2" in text


@pytest.mark.parametrize(
    ("evidence", "limit", "way"), [(0.3, 20, 0), (1, 20, 0), (20, 20, 1), (400, 20, 1), (10, 100, 0.5), (0, 0, 1)]
)
def test_the_way_to_a_limit_is_in_logarithms(evidence: float, limit: float, way: float) -> None:
    assert way_to(evidence, limit) == pytest.approx(way)


@pytest.mark.parametrize(("part", "full"), [(0, 0), (0.001, 1), (0.5, 4), (1, 8), (7, 8), (-1, 0)])
def test_a_bar_shows_whatever_is_there(part: float, full: int) -> None:
    assert bar(part, 8).plain == "█" * full + "░" * (8 - full)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (-5, "0s"), (59, "59s"), (252, "4m12s"), (11_100, "3h5m"), (260_000, "3d")]
)
def test_lengths(seconds: float, text: str) -> None:
    assert brief(seconds) == text


def test_differences_of_the_legs() -> None:
    plan, now = in_phase("in mid-cutover")
    alike = [one for one in plan.status.preflight if one.check == "answers-alike"]
    text = lines(differences(plan, alike, now, fresh=False))
    assert re.search(r"answers-alike +Passed", text)
    text = lines(differences(seen(judging_world(10).run(60))[0], alike, now, fresh=True))
    assert re.search(r"^200 +1,349 \(99.9 %\) +150 \(100 %\)$", text, re.MULTILINE)


def test_answers_of_before_a_rollback_are_not_told_as_those_of_now() -> None:
    plan, now = in_phase("rolled back")
    answers = AnswersStatus(heroku={"200": 90}, eks={"500": 10})
    text = lines(differences(replace(plan, status=plan.status.evolve(answers=answers)), (), now, fresh=True))
    assert "Users' answers before they went back to Heroku" in text
    assert "in this step" not in text


def test_checks_that_fail_come_first() -> None:
    plan, _ = held_for(HoldReason.PREFLIGHT_FAILED)
    first, *rest = lines(checks(plan.status.preflight, everything=True)).splitlines()
    assert first.startswith("workload")
    assert "Failed" in first
    assert any("Passed" in one for one in rest)
    assert "Passed" not in lines(checks(plan.status.preflight, everything=False))


def test_colours_are_there_in_a_terminal_only() -> None:
    plan, now = held_for(HoldReason.BREACH)
    file = io.StringIO()
    Console(force_terminal=True, width=80, color_system="256", no_color=False, file=file).print(screen(plan, now))
    assert "\x1b[1;31m" in file.getvalue()
