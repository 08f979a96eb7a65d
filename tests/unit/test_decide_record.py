"""A plan with ``baseline.source``: it waits for Heroku's record before the takeover, and the takeover is judged by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.record import END, record
from tests.kit.world import Leg, World, check, plan_spec

from cutover.api.v1alpha1 import BacktestStatus, Phase
from cutover.domain.baseline.comparison import LEAST_REQUESTS, compare, mix_text
from cutover.domain.baseline.record import KeptRecord, Reach, Record, RecordReading
from cutover.domain.baseline.released import Mark, Released
from cutover.domain.commands.annotations import SKIP_ANNOTATION
from cutover.domain.engine.phases.compared import LONGEST_SECONDS
from cutover.domain.engine.support import not_yet_supported
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.hourly import load_hours
from cutover.domain.heroku import HerokuApp, HerokuReading, Process
from cutover.domain.preflight import registry

#: As the world's healthy leg answers.
USUAL = {"errors": 0.001}
KEPT = KeptRecord("cutover-pdf-baseline-0123456789")


def whole(known: Record) -> RecordReading:
    return RecordReading(known.reach, known)


def short(hours: int, *, of: int = 336, keeps: float | None = None) -> RecordReading:
    """Return what is known of a record that begins so many hours ago."""
    return RecordReading(Reach(END, (0,) * (of - hours) + (60,) * hours), keeps_seconds=keeps)


def world(reading: RecordReading | None, *, skips: str = "", source: str = "Drain", **spec: Any) -> World:
    baseline = {"source": source, **spec.pop("baseline", {})}
    made = World(spec=plan_spec(baseline=baseline, **spec), record=reading, kept=KEPT, on_decision=check)
    made.annotations = {SKIP_ANNOTATION: f"a1-w10/{skips} by jane@example.com"} if skips else {}
    return made


# --------------------------------------------------------------------------------------------------------- before it


def test_with_a_whole_record_a_plan_goes_all_the_way_and_says_what_was_before() -> None:
    w = world(whole(record(answers=USUAL)))
    w.until(lambda status: status.weight == 0)
    assert w.status.baseline is not None
    kept = w.status.baseline.record
    assert kept is not None
    assert (kept.source, kept.coverage, kept.config_map) == ("Drain", 1.0, KEPT.config_map)
    assert (kept.errors, kept.refused, kept.peak_per_second) == (0.001, 0.0, 50.0)
    assert (kept.until.timestamp(), kept.since.timestamp()) == (END, END - 14 * 86_400)
    w.until_phase(Phase.COMPLETED)
    takeover = w.status.baseline.takeover
    assert takeover is not None
    assert takeover.verdict == "Alike"
    assert "in the same hours before 100 % good" in takeover.message
    assert w.status.baseline.record == kept


@pytest.mark.parametrize(
    ("reading", "words"),
    [
        (
            short(200),
            ("60% of 14d are recorded", "95% are needed", "since 2027-01-03 02:00 UTC", "2027-01-16 10:00 UTC"),
        ),
        (short(0), ("0% of 14d are recorded", "nothing of acme-pdf is there", "add the app's drain")),
        (short(240, keeps=10 * 86_400), ("Prometheus keeps samples for 10.0 days only", "retention.time=15d")),
        (short(240), ("check that this Prometheus keeps samples for more than 14.0 days",)),
        (RecordReading(Reach(END, (60, 0) * 168)), ("without 7.0 days in between",)),
        (RecordReading(impossible="there is no drain"), ("there is no drain",)),
        (replace(short(200), problem="Prometheus is away"), ("not asked anew: Prometheus is away",)),
    ],
)
def test_a_record_that_is_too_short_holds_before_the_takeover(reading: RecordReading, words: tuple[str, ...]) -> None:
    w = world(reading)
    w.until_reason("BaselineIncomplete")
    w.run(900)
    assert (w.status.reason, w.status.weight, w.route) == ("BaselineIncomplete", None, None)
    for word in (*words, "set a shorter baseline.window in Git", "cutover.dev/skip-hold=a1-w10/BaselineIncomplete"):
        assert word in w.status.message
    assert [(one.decision, one.reason) for one in w.status.ledger] == [("Hold", "BaselineIncomplete")]
    assert {one.kind for one in w.told("BaselineIncomplete")} == {"Normal"}


def test_it_goes_on_once_there_is_enough() -> None:
    w = world(short(200))
    w.until_reason("BaselineIncomplete")
    w.record = whole(record(minutes=lambda n: 0 if n < 10 else 60, answers=USUAL))
    w.until_phase(Phase.COMPLETED)
    assert w.status.baseline is not None
    assert w.status.baseline.record is not None
    assert w.status.baseline.record.coverage == pytest.approx(326 / 336, abs=1e-4)


def test_a_person_skips_it_and_the_ledger_says_who() -> None:
    part = record(minutes=lambda n: 60 if n > 300 else 0, answers=USUAL)
    w = world(whole(part), skips="BaselineIncomplete")
    w.until_phase(Phase.COMPLETED)
    (skipped,) = [one for one in w.status.ledger if one.decision == "Skip"]
    assert (skipped.reason, skipped.by) == ("BaselineIncomplete", "jane@example.com")
    assert "10% of 14d are recorded" in skipped.message
    assert w.status.baseline is not None
    assert w.status.baseline.record is not None


@pytest.mark.parametrize(
    "reading", [RecordReading(impossible="there is no drain"), RecordReading(problem="it is away")]
)
def test_a_skip_needs_no_record_at_all(reading: RecordReading) -> None:
    w = world(reading, skips="BaselineIncomplete")
    w.until_phase(Phase.COMPLETED)
    assert w.status.baseline is not None
    assert (w.status.baseline.record, w.status.baseline.takeover) == (None, None)
    assert [one.reason for one in w.status.ledger if one.decision == "Skip"] == ["BaselineIncomplete"]


def test_a_skip_that_was_not_needed_is_in_no_ledger() -> None:
    w = world(whole(record(answers=USUAL)), skips="BaselineIncomplete")
    w.until_phase(Phase.COMPLETED)
    assert not [one for one in w.status.ledger if one.decision == "Skip"]


def test_a_prometheus_that_does_not_answer_holds_and_nothing_is_guessed() -> None:
    w = world(RecordReading(problem="Prometheus at prometheus does not answer"))
    w.until_reason("PrometheusUnavailable")
    assert "Heroku's record: Prometheus at prometheus" in w.status.message
    assert w.route is None


def test_the_takeover_waits_until_the_record_is_kept_and_no_longer_for_one_that_cannot_be() -> None:
    w = world(whole(record(answers=USUAL)))
    w.kept = None
    w.run(120)
    assert (w.status.weight, w.status.message) == (None, "keeping Heroku's record in a ConfigMap")
    w.kept = KeptRecord(problem="missing permission: it needs verb create on configmaps")
    w.until(lambda status: status.weight == 0)
    assert w.status.baseline is not None
    assert w.status.baseline.record is not None
    assert w.status.baseline.record.config_map == ""
    (event,) = w.told("RecordNotKept")
    assert event.kind == "Warning"
    assert "is not kept in full: missing permission" in event.message
    w.until_phase(Phase.COMPLETED)


def test_without_a_source_nothing_waits_and_the_plan_is_told_once() -> None:
    w = World(spec=plan_spec(), on_decision=check)
    w.until_phase(Phase.COMPLETED)
    assert w.status.baseline is not None
    assert (w.status.baseline.record, w.status.baseline.takeover) == (None, None)
    assert [one for one in not_yet_supported(w.spec) if one.startswith("baseline: without a source")]
    assert not [one for one in not_yet_supported(plan_spec(baseline={"source": "Drain"})) if "baseline" in one]


# ------------------------------------------------------------------------------------------------ the takeover judged


@pytest.mark.parametrize(
    ("leg", "answers", "words"),
    [
        (Leg(refused=0.2), USUAL, ("Heroku refuses more", "20 % refused", "in the same hours before 100 % good")),
        (Leg(), {**USUAL, "refused": 0.2}, ("Heroku refuses fewer",)),
        (Leg(redirected=0.3), USUAL, ("Heroku redirects more",)),
        (Leg(), {**USUAL, "redirected": 0.3}, ("Heroku redirects fewer",)),
        (Leg(errors=0.1), USUAL, ("Heroku fails more", "10 % failed")),
    ],
)
def test_a_heroku_that_answers_otherwise_than_before_holds(
    leg: Leg, answers: Mapping[str, float], words: tuple[str, ...]
) -> None:
    w = world(whole(record(answers=answers)))
    w.heroku = leg
    w.until_reason("TakeoverDiffers", within=2 * LONGEST_SECONDS)
    for word in (*words, "cutover.dev/skip-hold=a1-w10/TakeoverDiffers"):
        assert word in w.status.message
    assert (w.status.phase, w.status.weight) == (Phase.BASELINE, 0)
    w.run(3 * LONGEST_SECONDS)
    assert (w.status.reason, w.status.weight) == ("TakeoverDiffers", 0)
    assert {one.kind for one in w.told("TakeoverDiffers")} == {"Warning"}


def test_a_difference_bears_the_mark_of_the_releases_within_the_record() -> None:
    marked = replace(record(answers=USUAL), released=Released(2, (Mark(END - 86_400.0, 42), Mark(END - 7200.0, 43))))
    w = world(whole(marked))
    w.heroku = Leg(refused=0.2)
    w.until_reason("TakeoverDiffers", within=2 * LONGEST_SECONDS)
    assert "; the record spans 2 releases, the last on 2027-01-11 08:00 UTC; it is compared anew" in w.status.message
    assert w.status.baseline is not None
    assert w.status.baseline.record is not None
    assert w.status.baseline.record.releases == 2


def test_it_goes_on_when_that_is_over_though_what_was_counted_stays() -> None:
    w = world(whole(record(answers=USUAL)))
    w.heroku = Leg(refused=0.2)
    w.until_reason("TakeoverDiffers", within=2 * LONGEST_SECONDS)
    w.run(1200)
    w.heroku = Leg()
    w.restart()
    w.until_phase(Phase.SHIFTING, within=3 * LONGEST_SECONDS)
    assert w.status.baseline is not None
    assert w.status.baseline.takeover is not None
    assert w.status.baseline.takeover.verdict == "Alike"


def test_a_person_skips_the_difference() -> None:
    w = world(whole(record(answers=USUAL)), skips="TakeoverDiffers")
    w.heroku = Leg(refused=0.2)
    w.until_phase(Phase.SHIFTING, within=2 * LONGEST_SECONDS)
    (skipped,) = [one for one in w.status.ledger if one.decision == "Skip"]
    assert (skipped.reason, skipped.by) == ("TakeoverDiffers", "jane@example.com")
    assert "20 % refused" in skipped.message
    assert w.status.baseline is not None
    assert w.status.baseline.takeover is not None
    assert w.status.baseline.takeover.verdict == "Skipped"
    assert [event.message[:200] for event in w.told("Skip")] == [skipped.message[:200]]


@pytest.mark.parametrize("edit", [{"baseline": {}}, {"suspend": True}])
def test_a_plan_that_is_edited_while_it_is_compared_waits_for_nothing_that_nobody_reads(edit: dict[str, Any]) -> None:
    w = world(whole(record(answers=USUAL)))
    w.until_phase(Phase.BASELINE)
    w.edit(**edit)
    w.until_phase(Phase.SHIFTING, within=2 * LONGEST_SECONDS)


def test_a_comparison_that_somebody_edited_begins_anew() -> None:
    w = world(whole(record(answers=USUAL)))
    w.heroku = Leg(refused=0.2)
    w.until_reason("TakeoverDiffers", within=2 * LONGEST_SECONDS)
    assert w.stored.baseline is not None
    assert w.stored.baseline.takeover is not None
    w.heroku = Leg()
    for earlier in ((1.0,), (1e9,) * 9):
        edited = w.stored.baseline.evolve(takeover=w.stored.baseline.takeover.model_copy(update={"earlier": earlier}))
        other = w.copy()
        other.stored = other.stored.evolve(baseline=edited)
        other.restart()
        other.until_phase(Phase.SHIFTING, within=6 * LONGEST_SECONDS)


def test_what_differs_from_day_to_day_by_itself_is_no_difference() -> None:
    """Bots come in swarms: on every other day a quarter is refused, but not at this hour of the two weeks before."""
    swarms = record(answers=lambda n: {"errors": 0.001, "refused": 0.25 if (n // 24) % 7 in (1, 3, 5) else 0.0})
    w = world(whole(swarms))
    w.heroku = Leg(refused=0.2)
    w.until_phase(Phase.SHIFTING, within=2 * LONGEST_SECONDS)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_with_few_requests_nothing_is_compared_and_nothing_waits_for_ever(rate: float) -> None:
    latency = {"name": "latency", "latency": {"slowMs": 250, "verySlowMs": 1000}}
    gates = {"block": "5s", "warmUp": "5s", "slos": [{"name": "errors", "errors": {}}, latency]}
    w = world(whole(record(rate=lambda _: rate, answers=USUAL)), gates=gates)
    w.rate = 0.1
    w.until_phase(Phase.SHIFTING, within=4000)
    assert w.status.baseline is not None
    assert w.status.baseline.takeover is not None
    assert w.status.baseline.takeover.verdict == "TooFew"
    assert "too few requests to compare" in w.status.baseline.takeover.message


def test_times_are_compared_only_where_they_were_taken_at_the_gateway() -> None:
    """Of a drain's requests all are faster than 100 ms here, and of the gateway's after the takeover a third is slower."""
    for source, verdict in (("Drain", "Alike"), ("Gateway", "Differs")):
        latency = {"name": "latency", "latency": {"slowMs": 100, "verySlowMs": 1000}}
        w = world(whole(record(answers=USUAL, source=source)), source=source, gates={"block": "5s", "slos": [latency]})
        w.heroku = Leg(slow=0.3)
        w.until(
            lambda status: bool(
                status.baseline and status.baseline.takeover and status.baseline.takeover.verdict != "Comparing"
            ),
            within=2 * LONGEST_SECONDS,
        )
        assert w.status.baseline is not None
        assert w.status.baseline.takeover is not None
        assert w.status.baseline.takeover.verdict == verdict
        if verdict == "Differs":
            assert "Heroku is slow at more" in w.status.message


def test_thresholds_are_those_of_a_record_that_the_gateway_took() -> None:
    for source, slow in (("Gateway", 100.0), ("Drain", 250.0)):
        w = world(whole(record(answers=USUAL, source=source)), source=source)
        w.heroku = Leg(slow=0.001, very_slow=0.0)
        w.until_phase(Phase.SHIFTING, within=2 * LONGEST_SECONDS)
        assert w.status.baseline is not None
        assert w.status.baseline.slow_ms == slow


def test_a_backtest_waits_for_no_traffic_after_the_takeover() -> None:
    w = world(whole(record(answers=USUAL)), baseline={"backtest": True})
    w.until_reason("Backtesting", within=120)
    w.backtest = BacktestStatus(runs=200, false_rollbacks=1, stuck=0, message="1 of 200 rolled back")
    w.until_judging(10)
    assert w.status.baseline is not None
    assert w.status.baseline.backtest == w.backtest


def test_another_attempt_has_the_same_record_and_is_not_compared_again() -> None:
    w = world(whole(record(answers=USUAL)))
    w.until_judging(10)
    w.annotations = {"cutover.dev/rollback": "a1"}
    w.until_phase(Phase.ROLLED_BACK)
    before = w.status.baseline
    assert before is not None
    w.record = None
    w.edit(attempt=2)
    w.until_judging(10)
    assert w.status.baseline is not None
    assert (w.status.baseline.record, w.status.baseline.takeover) == (before.record, before.takeover)


# -------------------------------------------------------------------------------------------------------- statistics


_PART = st.floats(0, 0.4)


@settings(deadline=None)
@given(_PART, st.integers(1000, 200_000), st.integers(1000, 50_000), st.floats(1, 50))
def test_the_same_answers_never_differ(part: float, before: int, after: int, spread: float) -> None:
    was = Counts(before, errors=before * part * 0.5, refused=before * part, redirected=before * part)
    now = Counts(after, errors=after * part * 0.5, refused=after * part, redirected=after * part)
    spreads: Any = dict.fromkeys(("errors", "refused", "redirected"), spread)
    found = compare(was, now, spreads, 100.0)
    assert not found.differs
    assert found.evidence <= 1.0 + 1e-9


@given(st.floats(0, 0.05), st.floats(0.3, 1.0))
def test_a_large_difference_of_many_requests_shows_either_way(few: float, many: float) -> None:
    one, other = Counts(20_000, refused=20_000 * few), Counts(5_000, refused=5_000 * many)
    assert compare(one, other, {}, 100.0).what == "refuses more"
    assert compare(other, one, {}, 100.0).what == "refuses fewer"
    assert compare(one, other, {}, 100.0).differs
    assert compare(other, one, {}, 100.0).differs


def test_a_hold_by_chance_is_as_rare_as_it_says() -> None:
    """A fraction at the border of what is tolerated, looked at once: less than one in a hundred."""
    draw, found = np.random.default_rng(5), 0
    for _ in range(2000):
        was = Counts(40_000, refused=float(draw.poisson(800)))
        now = Counts(2_000, refused=float(draw.poisson(2_000 * (1.5 * 0.02 + 0.01))))
        found += compare(was, now, {}, 100.0).differs
    assert found < 20


def test_too_few_requests_say_nothing() -> None:
    few = Counts(LEAST_REQUESTS - 1, refused=LEAST_REQUESTS - 1)
    assert compare(few, Counts(1e6), {}, 100.0).evidence == 0.0
    assert not compare(Counts(1e6), few, {}, 100.0).differs
    assert mix_text(Counts()) == "no requests"
    assert (
        mix_text(Counts(1000, errors=1, throttled=500)) == "50 % good, 50 % throttled, 0.1 % failed of 1,000 requests"
    )


# ------------------------------------------------------------------------------------------------------------ warnings


def warned(w: World, heroku: HerokuReading | None = None) -> dict[str, str]:
    """Return what the checks of the record warn of."""
    assert w.target is not None
    assert w.record is not None
    found = registry.before_takeover(w.plan(), w.target.inventory(w.plan()), heroku=heroku, record=w.record.record)
    return {one.check: one.message for one in found if one.check.startswith("baseline-") and one.result == "Warned"}


def dynos(number: int) -> HerokuReading:
    app = HerokuApp(
        "acme-pdf", False, "", (Process("web", number, "Standard-1X"), Process("worker", 9, "Standard-1X"))
    )
    return HerokuReading(app)


def test_steps_that_would_be_judged_at_night_are_a_warning() -> None:
    night = whole(record(end=END + 12 * 3600))
    (message,) = warned(world(night)).values()
    for words in ("10 % (Mon 22:00 to Mon 22:00", "25 %", "50 requests/s", "steps[].hold", "schedule.windows"):
        assert words in message
    long = [{"weight": 10, "hold": "12h"}, {"weight": 100}]
    assert warned(world(night, steps=long)) == {}
    assert warned(world(whole(record()))) == {}
    assert warned(world(RecordReading())) == {}
    zone = {"timeZone": "Europe/Paris"}
    assert "10 % (Mon 23:00" in warned(world(night, schedule=zone))["baseline-hours"]


def test_replicas_that_would_get_far_more_than_a_dyno_are_a_warning() -> None:
    w = world(whole(record()))
    assert warned(w) == {}  # nobody says how many dynos there are
    assert warned(w, dynos(4)) == {}  # 2 replicas for 4 dynos
    (message,) = warned(w, dynos(8)).values()
    for words in (
        "50 requests/s by 8 web dynos, 6.2 each",
        "at 100 %",
        "gets 50",
        "25 for each of at most 2 replicas",
    ):
        assert words in message
    assert w.target is not None
    w.target = replace(w.target, autoscaled_to=4)
    assert warned(w, dynos(8)) == {}
    w.target = replace(w.target, autoscaled_to=3)
    assert "at 100 %" in warned(w, dynos(8))["baseline-capacity"]
    assert "HorizontalPodAutoscaler pdf" in warned(w, dynos(8))["baseline-capacity"]
    w.target = replace(w.target, replicas=None)
    assert warned(w, dynos(80)) == {}


# ------------------------------------------------------------------------------------- a reference for what comes later

STEPS = [{"weight": weight, "hold": "30s"} for weight in (10, 75, 100)]


def references(w: World) -> dict[str, str | None]:
    return {
        gate.name: gate.reference for gate in w.status.gates if gate.name in ("errors", "slow", "refused", "alive")
    }


def test_the_gates_say_what_eks_is_held_against() -> None:
    w = world(whole(record(answers=USUAL)), steps=STEPS, soak="1h")
    w.until_judging(10)
    assert set(references(w).values()) == {"Heroku", None}
    assert references(w)["alive"] is None
    w.until_judging(75)
    assert references(w) == {
        "errors": "HerokuAndRecord",
        "slow": "Heroku",
        "refused": "HerokuAndRecord",
        "alive": None,
    }
    w.until_judging(100)
    w.restart()  # the record is not read again: what is normal is in the status
    w.record = None
    w.run(60)
    assert references(w) == {"errors": "Record", "slow": "EarlierSteps", "refused": "Record", "alive": None}
    (errors,) = [gate for gate in w.status.gates if gate.name == "errors"]
    assert errors.ratios is not None
    assert errors.ratios.tolerated is not None
    assert errors.ratios.tolerated < 0.01
    assert "% tolerated by the record of this hour" in errors.sentence


def test_the_gateways_own_times_are_a_reference_too() -> None:
    latency = {"name": "latency", "latency": {"slowMs": 25, "verySlowMs": 100}}
    gates = {"block": "5s", "warmUp": "5s", "slos": [{"name": "errors", "errors": {}}, latency]}
    known = record(source="Gateway", answers=USUAL)
    w = world(whole(known), source="Gateway", steps=STEPS, soak="1h", gates=gates, skips="TakeoverDiffers")
    w.until(lambda status: status.baseline is not None and status.baseline.hours is not None)
    assert w.status.baseline is not None
    assert w.status.baseline.hours is not None
    assert {"errors", "slow", "verySlow", "refused"} <= load_hours(w.status.baseline.hours).tables.keys()


@pytest.mark.parametrize("source", [None, "Drain"])
def test_without_a_record_that_fits_it_is_as_ever(source: str | None) -> None:
    """No source, or a person has skipped that Heroku is not what was recorded."""
    if source is None:
        w = World(spec=plan_spec(steps=STEPS, soak="1h"), on_decision=check)
    else:
        w = world(whole(record(answers={**USUAL, "refused": 0.2})), skips="TakeoverDiffers", steps=STEPS, soak="1h")
    w.until_judging(100, within=3 * LONGEST_SECONDS)
    w.run(30)
    expected = "EarlierSteps" if source else None
    assert references(w) == {"errors": expected, "slow": expected, "refused": expected, "alive": None}
    assert w.status.baseline is not None
    assert w.status.baseline.hours is None
    (errors,) = [gate for gate in w.status.gates if gate.name == "errors"]
    assert errors.ratios is not None
    assert errors.ratios.tolerated == 0.01


def test_a_source_that_is_taken_out_of_the_plan_is_no_reference_any_more() -> None:
    w = world(whole(record(answers=USUAL)), steps=STEPS, soak="1h")
    w.until_judging(100)
    w.edit(baseline={})
    w.run(30)
    assert set(references(w).values()) == {None}


def test_harm_at_100_that_the_floor_hides_holds_with_a_record_and_is_not_seen_without() -> None:
    """Probes are answered alike, so that it waits for a person."""
    found, terms = {}, {"soak": "3h", "gates": {"block": "15s", "warmUp": "15s"}}
    for source in ("Drain", None):
        w = world(whole(record(answers=USUAL)), **terms) if source else World(spec=plan_spec(**terms))
        w.until_judging(100, within=3600)
        w.eks = Leg(errors=0.009)
        w.run(1200)
        found[source] = (w.status.reason, w.status.weight)
    assert found == {"Drain": ("HarmUnconfirmed", 100), None: ("Soaking", 100)}
