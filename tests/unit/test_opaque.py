"""Parts of a status that only the operator reads: made from text once, and into text only where they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.kit.world import World

from cutover.api.model import Model
from cutover.api.opaque import Opaque
from cutover.api.v1alpha1 import MigrationPlanStatus, Phase
from cutover.domain.evidence import ingest
from cutover.domain.evidence.judge import Evidence


class Holder(Model):
    kept: Opaque = Opaque()


class Calls:
    """Reads and writes numbers, and counts how often."""

    read = written = 0

    def load(self, text: str) -> int:
        self.read += 1
        return int(text)

    def dump(self, number: int) -> str:
        self.written += 1
        return str(number)


def test_text_is_read_once() -> None:
    calls, kept = Calls(), Opaque("42")
    assert [kept.value(calls.load) for _ in range(3)] == [42] * 3
    assert (kept.text, calls.read) == ("42", 1)


def test_an_object_is_never_read_and_written_once() -> None:
    calls = Calls()
    kept = Opaque.of(42, calls.dump)
    assert kept.value(calls.load) == 42
    assert (calls.read, calls.written) == (0, 0)
    assert [kept.text for _ in range(3)] == ["42"] * 3
    assert calls.written == 1


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (Opaque("42"), Opaque("42"), True),
        (Opaque("42"), Opaque("43"), False),
        (Opaque("42"), Opaque.of(42, str), True),
        (Opaque.of(42, str), Opaque.of(42, str), True),
        (Opaque.of(42, str), Opaque.of(43, str), False),
        (Opaque.of(1.04, "{:.1f}".format), Opaque.of(1.0, "{:.1f}".format), True),  # written alike
        (Opaque(), Opaque(), True),
    ],
)
def test_equal_is_what_is_written_alike(one: Opaque, other: Opaque, equal: bool) -> None:
    assert (one == other) is equal
    assert not equal or hash(one) == hash(other)
    assert one != "42"


def test_on_the_wire_it_is_a_string() -> None:
    calls = Calls()
    assert Holder().to_wire() == {"kept": ""}
    assert Holder(kept=Opaque.of(42, calls.dump)).to_wire() == {"kept": "42"}
    for read in (Holder.model_validate, Holder.from_wire):
        assert read({"kept": "42"}).kept == Opaque("42")
    assert Holder.model_json_schema()["properties"]["kept"]["type"] == "string"


@pytest.mark.parametrize("wrong", [42, None, {"a": 1}, ["42"]])
def test_what_is_no_string_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError, match="kept"):
        Holder.model_validate({"kept": wrong})


def test_evidence_becomes_text_only_where_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with each block: that is once a minute instead of once a block, for each of a thousand plans."""
    made = {"text": 0, "object": 0}

    def counting(name: str, original: Any) -> Any:
        def counted(*args: Any) -> Any:
            made[name] += 1
            return original(*args)

        return counted

    w = World().until_judging(25)
    written = len(w.writes)
    monkeypatch.setattr(Evidence, "dump", counting("text", Evidence.dump))
    monkeypatch.setattr(ingest, "_read", counting("object", ingest._read))
    w.run(20)
    assert w.status.phase is Phase.SHIFTING
    assert made["object"] == 0, "nothing is read while the process lives"
    # Once for the write, and once by this world, which measures its length.
    assert made["text"] <= 2 * (len(w.writes) - written)


def test_after_a_restart_it_is_what_was_written() -> None:
    w = World().until_judging(25)
    checkpoint = w.stored.checkpoint
    assert checkpoint is not None
    text = checkpoint.evidence.text
    read = MigrationPlanStatus.model_validate(json.loads(json.dumps(w.stored.to_wire()))).checkpoint
    assert read is not None
    assert read.evidence == checkpoint.evidence
    assert ingest.keep(ingest.load_evidence(read)).text == text
