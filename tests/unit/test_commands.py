"""What people ask by annotations: how it is read, who is named, what is refused, and what is never obeyed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.kit.world import plan_spec

from cutover.api.v1alpha1 import MigrationPlanStatus
from cutover.domain.commands.annotations import (
    ANNOTATIONS,
    APPROVE_ANNOTATION,
    FORWARD_ANNOTATION,
    LONGEST_NAME,
    PROCEED_ANNOTATION,
    ROLLBACK_ANNOTATION,
    SKIP_ANNOTATION,
    Command,
    Skippable,
    Writer,
    approve,
    assignment,
    forward,
    proceed,
    quote,
    read,
    rollback,
    skip_hold,
    write,
)
from cutover.domain.commands.refusals import FIRST_STEP_HOLDS, refusals
from cutover.domain.holds import HoldReason
from cutover.domain.managed_fields import of_spec_and_annotations
from cutover.domain.plan import Plan
from cutover.scale.packing import slim

KUBECTL = Writer("kubectl-annotate", "2027-01-11T10:00:00Z")
SPEC = plan_spec(steps=[{"weight": weight} for weight in (10, 25, 50, 100)])


@pytest.mark.parametrize(
    ("annotation", "text", "understood"),
    [
        (ROLLBACK_ANNOTATION, "a1", (1, None, set())),
        (ROLLBACK_ANNOTATION, " a12\n", (12, None, set())),
        (ROLLBACK_ANNOTATION, "a1 by jane@example.com", (1, None, set())),
        (APPROVE_ANNOTATION, "a1-w25", (1, 25, set())),
        (APPROVE_ANNOTATION, "a2-w100 by Zoë O'Neil Jr. at 2027-01-11T09:00:00+01:00", (2, 100, set())),
        (FORWARD_ANNOTATION, "a1 by jane", (1, None, set())),
        (PROCEED_ANNOTATION, "a1-w25 by jane", (1, 25, set())),
        (SKIP_ANNOTATION, "a1-w25/OutsideWindow by jane", (1, 25, {"OutsideWindow"})),
        (SKIP_ANNOTATION, "a1-w25/Frozen,HoldTime", (1, 25, {"Frozen", "HoldTime"})),
    ],
)
def test_commands_are_read(annotation: str, text: str, understood: tuple[int, int | None, set[str]]) -> None:
    command = read(annotation, text)
    assert command is not None
    assert (command.attempt, command.weight, command.holds) == understood


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (ROLLBACK_ANNOTATION, ""),
        (ROLLBACK_ANNOTATION, "true"),
        (ROLLBACK_ANNOTATION, "1"),
        (ROLLBACK_ANNOTATION, "a1-w25"),
        (ROLLBACK_ANNOTATION, "A1"),
        (ROLLBACK_ANNOTATION, "a1 jane"),
        (ROLLBACK_ANNOTATION, "a1 by "),
        (ROLLBACK_ANNOTATION, "a1 by jane\nby joe"),
        (ROLLBACK_ANNOTATION, "a1 by jane\x1b[31m"),
        (ROLLBACK_ANNOTATION, "a1 by \u202ejane"),
        (ROLLBACK_ANNOTATION, "a1 by <!channel>"),
        (ROLLBACK_ANNOTATION, "a1 by [jane](https://example.com)"),
        (ROLLBACK_ANNOTATION, "a1 by jane at tomorrow"),
        (ROLLBACK_ANNOTATION, "a1 by jane at 2027-13-01T00:00:00Z"),
        (ROLLBACK_ANNOTATION, "a1 by jane at 2027-01-01T00:00:00"),
        (ROLLBACK_ANNOTATION, f"a1 by {'j' * (LONGEST_NAME + 1)}"),
        (ROLLBACK_ANNOTATION, f"a1{' ' * 300}by jane"),
        (ROLLBACK_ANNOTATION, "a123456"),
        (FORWARD_ANNOTATION, "a1-w100"),
        (PROCEED_ANNOTATION, "a1"),
        (PROCEED_ANNOTATION, "a1-w25/Frozen"),
        (APPROVE_ANNOTATION, "a1"),
        (APPROVE_ANNOTATION, "a1-25"),
        (APPROVE_ANNOTATION, "a1-w25/Frozen"),
        (SKIP_ANNOTATION, "a1-w25"),
        (SKIP_ANNOTATION, "Frozen"),
        (SKIP_ANNOTATION, "a1-w25/"),
    ],
)
def test_what_has_another_form_is_no_wish_and_is_told_with_the_right_form(annotation: str, text: str) -> None:
    assert read(annotation, text) is None
    status = MigrationPlanStatus(attempt=1, weight=10)
    (refusal,) = refusals({annotation: text}, spec=SPEC, status=status)
    assert refusal.annotation == annotation
    right = {
        ROLLBACK_ANNOTATION: "write a1,",
        FORWARD_ANNOTATION: "write a1,",
        APPROVE_ANNOTATION: "write a1-w25,",
        PROCEED_ANNOTATION: "write a1-w25,",
        SKIP_ANNOTATION: "write a1-w25/",
    }
    assert right[annotation] in str(refusal)
    assert str(refusal).isprintable()
    assert len(str(refusal)) < 250


@pytest.mark.parametrize(
    ("text", "writer", "who"),
    [
        (
            "a1 by jane@example.com at 2027-01-11T11:30:00+01:00",
            KUBECTL,
            "by jane@example.com at 2027-01-11T10:30:00Z",
        ),
        ("a1 by jane@example.com", KUBECTL, "by jane@example.com at 2027-01-11T10:00:00Z"),
        ("a1 by jane@example.com", None, "by jane@example.com"),
        ("a1", KUBECTL, "by the field manager kubectl-annotate at 2027-01-11T10:00:00Z"),
        ("a1", Writer("kubectl"), "by the field manager kubectl"),
        ("a1", Writer("<b>\n"), "by the field manager ?b??"),
        ("a1", None, "by an unknown author"),
    ],
)
def test_who_asks_is_named(text: str, writer: Writer | None, who: str) -> None:
    command = read(ROLLBACK_ANNOTATION, text, writer)
    assert command is not None
    assert command.who == who


NAMES = st.from_regex(r"\A[A-Za-z0-9](?:[A-Za-z0-9 .@+:/=,#'-]{0,60}[A-Za-z0-9.])?\Z").filter(
    lambda name: not re.search(r" at(?: |$)", name)
)
TIMES = st.floats(1e9, 3e10).map(lambda at: datetime.fromtimestamp(round(at, 3), UTC))


@st.composite
def commands(draw: st.DrawFn) -> Command:
    annotation = draw(st.sampled_from(ANNOTATIONS))
    step = annotation not in (ROLLBACK_ANNOTATION, FORWARD_ANNOTATION)
    skipped = st.frozensets(st.sampled_from([str(hold) for hold in Skippable]), min_size=1)
    return Command(
        annotation,
        draw(st.integers(0, 99_999)),
        draw(st.integers(0, 999)) if step else None,
        draw(skipped) if annotation == SKIP_ANNOTATION else frozenset(),
        draw(st.just("") | NAMES),
        draw(st.none() | TIMES),
    )


@given(commands())
@example(
    Command(ROLLBACK_ANNOTATION, 1, name="jane, atlas team.", at=datetime(2027, 1, 11, 9, 0, 0, 500_000, tzinfo=UTC))
)
def test_what_is_written_is_read_as_it_was_meant(command: Command) -> None:
    text = write(command)
    assert read(command.annotation, text) == command
    assert assignment(command) == f"{command.annotation}={text}"


@given(
    st.sampled_from(ANNOTATIONS), st.from_regex(r"\Aa[0-9]{1,5}(?:-w[0-9]{1,3}(?:/[A-Za-z]{1,9})?)?(?: by .{1,20})?\Z")
)
def test_what_is_read_can_be_written(annotation: str, text: str) -> None:
    command = read(annotation, text)
    # Most of what is drawn is refused; the tables above have what is read.
    assert command is None or read(annotation, write(command)) == command


@pytest.mark.parametrize(
    "command",
    [
        Command(ROLLBACK_ANNOTATION, -1),
        Command(ROLLBACK_ANNOTATION, 1, 25),
        Command(APPROVE_ANNOTATION, 1),
        Command(APPROVE_ANNOTATION, 1, 25, frozenset({"Frozen"})),
        Command(SKIP_ANNOTATION, 1, 25),
        Command(SKIP_ANNOTATION, 1, 25, frozenset({"Frozen hard"})),
        Command(ROLLBACK_ANNOTATION, 1, name="jane\nby joe"),
        Command(ROLLBACK_ANNOTATION, 1, name=" jane"),
        Command(ROLLBACK_ANNOTATION, 1, name="jane at 2027-01-11T10:00:00Z"),
        Command(ROLLBACK_ANNOTATION, 1, name="j" * (LONGEST_NAME + 1)),
    ],
)
def test_what_could_not_be_read_is_not_written(command: Command) -> None:
    with pytest.raises(ValueError, match="cannot say"):
        write(command)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (rollback(2), "cutover.dev/rollback=a2"),
        (forward(1), "cutover.dev/forward=a1"),
        (proceed(1, 25), "cutover.dev/proceed=a1-w25"),
        (approve(1, 25), "cutover.dev/approve=a1-w25"),
        (
            skip_hold(1, 25, Skippable.OUTSIDE_WINDOW, Skippable.FROZEN),
            "cutover.dev/skip-hold=a1-w25/Frozen,OutsideWindow",
        ),
        (
            replace(rollback(1), name="jane@example.com", at=datetime(2027, 1, 11, 10, tzinfo=UTC)),
            "cutover.dev/rollback=a1 by jane@example.com at 2027-01-11T10:00:00Z",
        ),
    ],
)
def test_commands_as_kubectl_takes_them(command: Command, text: str) -> None:
    assert assignment(command) == text


@given(st.sampled_from(ANNOTATIONS), st.text(), st.text(max_size=130), st.text(max_size=300))
@example(ROLLBACK_ANNOTATION, "a1", "jane", "kubectl")
@example(ROLLBACK_ANNOTATION, "a1", "j" * 95 + " at 2027-01-01T00:00:00Z", "")
def test_whatever_people_write_breaks_no_line(annotation: str, what: str, name: str, manager: str) -> None:
    for text in (what, f"{what} by {name}", f"a1 by {name}", f"a1-w25 by {name}", f"a1-w25/Frozen by {name}"):
        command = read(annotation, text, Writer(manager, manager))
        said = [command.who] if command is not None else []
        said += map(str, refusals({annotation: text}, spec=SPEC, status=MigrationPlanStatus(attempt=1)))
        for one in said:
            assert not any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co") for char in one), one
            assert not set("<>*`[]|\\~") & set(one), "no markup"
            assert len(one) <= 300
    assert len(quote(what)) <= 60


@pytest.mark.parametrize("reason", HoldReason)
def test_only_the_calendar_differences_and_the_hold_time_can_be_skipped(reason: HoldReason) -> None:
    """Only evidence moves weight up, and nothing that says that users may be harmed is anybody's to leave out."""
    skippable = (
        HoldReason.OUTSIDE_WINDOW,
        HoldReason.FROZEN,
        HoldReason.ANSWERS_DIFFER,
        HoldReason.SESSIONS_NOT_SHARED,
        HoldReason.LEGS_DIFFER,
    )
    found = list(
        refusals(
            {SKIP_ANNOTATION: f"a1-w25/{reason} by jane"},
            spec=SPEC,
            status=MigrationPlanStatus(attempt=1, weight=10),
        )
    )
    if reason in skippable:
        assert found == []
        assert reason in list(Skippable)
    elif reason in FIRST_STEP_HOLDS:
        assert f"{reason} is a hold of the first step; write a1-w10/{reason} by jane" in str(found[0])
        early = {SKIP_ANNOTATION: f"a1-w10/{reason} by jane"}
        assert list(refusals(early, spec=SPEC, status=MigrationPlanStatus(attempt=1))) == []
    else:
        assert f"{reason} cannot be skipped: " in str(found[0])
        assert reason not in list(Skippable)


@pytest.mark.parametrize(
    ("annotation", "text", "says"),
    [
        (ROLLBACK_ANNOTATION, "a2", "this is attempt 1; write a1"),
        (APPROVE_ANNOTATION, "a2-w25", "this is attempt 1; write a1-w25"),
        (APPROVE_ANNOTATION, "a1-w30", "there is no step at 30 %; write a1-w25"),
        (SKIP_ANNOTATION, "a1-w30/Frozen", "there is no step at 30 %; write a1-w25/OutsideWindow"),
        (SKIP_ANNOTATION, "a1-w25/Weather", "there is no hold Weather; write one of OutsideWindow, Frozen, HoldTime"),
        (SKIP_ANNOTATION, "a1-w25/Frozen,Suspended", "Suspended cannot be skipped: set spec.suspend to false"),
        (APPROVE_ANNOTATION, "a1-w50 by joe", "before the weight was lowered"),
        # What is over is nothing to tell.
        (ROLLBACK_ANNOTATION, "a1", ""),
        (ROLLBACK_ANNOTATION, "a0", ""),
        (APPROVE_ANNOTATION, "a0-w77", ""),
        (APPROVE_ANNOTATION, "a1-w10", ""),
        (APPROVE_ANNOTATION, "a1-w7", ""),
        (APPROVE_ANNOTATION, "a1-w50 by jane", ""),
    ],
)
def test_what_cannot_be_is_told(annotation: str, text: str, says: str) -> None:
    status = MigrationPlanStatus(attempt=1, weight=10, void={APPROVE_ANNOTATION: "a1-w50 by joe"})
    found = [str(one) for one in refusals({annotation: text}, spec=SPEC, status=status)]
    assert [says in one for one in found] == ([True] if says else [])


def body(*managed: dict[str, Any], **annotations: str) -> dict[str, Any]:
    spec = SPEC.model_dump(mode="json", by_alias=True, exclude_none=True)
    metadata = {"namespace": "shop", "name": "pdf", "uid": "1", "annotations": annotations, "managedFields": managed}
    return {"metadata": metadata, "spec": spec}


def test_writers_are_those_of_the_managed_fields() -> None:
    annotations = {"f:metadata": {"f:annotations": {".": {}, f"f:{ROLLBACK_ANNOTATION}": {}}}}
    managed = [
        {"manager": "kustomize-controller", "time": "2027-01-11T09:00:00Z", "fieldsV1": {"f:spec": {"f:ceiling": {}}}},
        {"manager": "kubectl-edit", "time": "2027-01-10T09:00:00Z", "fieldsV1": {"f:spec": {"f:soak": {}}}},
        {"manager": "cutover", "time": "2027-01-12T09:00:00Z", "fieldsV1": {"f:status": {}}, "subresource": "status"},
        {"manager": "kubectl-annotate", "time": "2027-01-11T10:00:00Z", "fieldsV1": annotations},
        {"manager": "older", "time": "2027-01-01T10:00:00Z", "fieldsV1": annotations},
        {"manager": "bare"},
    ]
    commanded = Plan.from_object(body(*managed, **{ROLLBACK_ANNOTATION: "a1"}))
    assert commanded.writers == {
        "spec": Writer("kustomize-controller", "2027-01-11T09:00:00Z"),
        ROLLBACK_ANNOTATION: KUBECTL,
    }
    assert set(Plan.from_object(body(*managed)).writers) == {"spec"}
    assert Plan.from_object(body()).writers == {}


def test_writers_are_named_from_what_the_watch_keeps() -> None:
    fields = {"f:metadata": {"f:annotations": {f"f:{ROLLBACK_ANNOTATION}": {}}}, "f:spec": {"f:ceiling": {}}}
    kept = body({"manager": "kubectl-annotate", "time": KUBECTL.at, "fieldsV1": fields}, **{ROLLBACK_ANNOTATION: "a1"})
    slim(kept, of_spec_and_annotations)
    assert Plan.from_object(kept).writers == {"spec": KUBECTL, ROLLBACK_ANNOTATION: KUBECTL}
