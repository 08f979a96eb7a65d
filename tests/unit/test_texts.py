"""Texts that others wrote, where people and programs read them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.states import checked_world, judging_world
from tests.kit.target import READY, named
from tests.kit.world import DEAD, World

from cutover.adapters.kube.answers import translate
from cutover.adapters.traffic.istio.leg_probe import judge
from cutover.api.v1alpha1 import Phase
from cutover.cli import backtest
from cutover.domain.commands.annotations import SKIP_ANNOTATION
from cutover.domain.resources import Json
from cutover.domain.texts import digest, is_plain, plain
from cutover.domain.traffic import Leg, Probe
from cutover.ports.errors import Unavailable

#: A byte that is no UTF-8, as aiohttp decodes it; what turns text around; what moves a terminal's cursor; a second line.
ODD = "\udcff \u202eevil\u2066 \x1b[2J\x07 one\ntwo\u2028 \u200b\ufeff"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10 % → 25 %: é 漢字 🙂", "10 % → 25 %: é 漢字 🙂"),
        ("\udcff", "?"),
        ("a\u202eb", "a?b"),
        ("\x1b[2J", "?[2J"),
        ("one\r\ntwo\tthree\u2028four", "one  two three four"),
        ("zero\u200bwidth", "zero?width"),
        ("\u3164filled\u2800\u115f", "?filled??"),
        ("smuggled\U000e0141", "smuggled?"),
        ("❤️", "❤️"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert plain(text) == shown


@given(st.text(st.characters()))
def test_whatever_is_shown_can_be_sent_and_stays_on_its_line(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    shown.encode()
    assert plain(shown) == shown
    assert is_plain(shown)


def test_texts_that_cannot_be_encoded_have_a_digest() -> None:
    assert len({digest("\udcff"), digest("\udcfe"), digest("?")}) == 3


def texts(value: object) -> list[str]:
    """Return all strings of a status as it is written."""
    if isinstance(value, dict):
        return [text for one in value.values() for text in texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in texts(one)]
    return [value] if isinstance(value, str) else []


def all_are_plain(world: World) -> Json:
    wire = world.stored.to_wire()
    assert [text for text in texts(wire) if not text.isprintable()] == []
    assert [event for event in world.events if not event.message.isprintable()] == []
    return wire


def test_the_answer_of_a_leg_reaches_status_and_events_without_odd_characters() -> None:
    world = judging_world(50)
    world.heroku, world.probes_answered = DEAD, False
    world.probe = Probe(world.now, "a1-w50", healthy=False, detail=f"HTTP 503 ({ODD})", failures=3)
    world.run(20)
    assert "evil?" in json.dumps(all_are_plain(world))


def test_the_names_of_others_reach_the_status_without_odd_characters() -> None:
    world = checked_world()
    theirs = named("team-b", f"old{ODD}", spec={"hosts": ["pdf.example.com"], "gateways": ["istio-ingress/public"]})
    world.target = replace(READY, virtual_services=(theirs,))
    world.run(20)
    assert world.status.phase is Phase.PREFLIGHT
    assert "old? ?evil?" in json.dumps(all_are_plain(world))


def test_headers_and_first_lines_are_shown_without_odd_characters() -> None:
    headers = {"x-cutover-leg": "heroku", "content-type": "text/plain"}
    for said, body in (({**headers, "x-heroku-error": ODD}, ""), (headers, ODD)):
        healthy, detail = judge(500, said, body, Leg.HEROKU)
        assert not healthy
        assert detail.isprintable()
        assert "evil" in detail


def test_a_refusal_of_the_api_server_is_shown_without_odd_characters() -> None:
    _, error = translate(422, {}, json.dumps({"message": f"refused by a webhook: {ODD}"}).encode(), "update x")
    assert str(error).isprintable()


def test_of_an_annotation_that_is_no_command_nothing_is_stored() -> None:
    world = checked_world(steps=[{"weight": 10, "hold": "10s"}, {"weight": 50, "hold": "10s"}, {"weight": 100}])
    world.until_judging(50)
    world.annotations[SKIP_ANNOTATION] = "x" * 200_000
    world.edit(ceiling=10)
    world.run(20)
    assert world.status.weight == 10
    assert len(json.dumps(world.stored.to_wire())) < 40_000


def test_a_reason_for_no_forecast_does_not_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), backtest._reasons(as_json=False):
        raise Unavailable(f"Prometheus says: {ODD}")
    said = capsys.readouterr().err.rstrip("\n")
    assert said.startswith("cutover-backtest: Prometheus says:")
    assert said.isprintable()
