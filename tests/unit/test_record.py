"""Heroku's record by the hour: how far it reaches, what it says of a week, and what is kept of it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.record import END, busy_by_day, hour, record
from tests.kit.world import plan_spec

from cutover.domain.baseline.document import KEY, LONGEST, MOST_HOLES, config_map, document
from cutover.domain.baseline.outlook import quiet_steps, step_hours
from cutover.domain.baseline.record import HOUR, MINUTES, Hour, Reach, Record, counts_by, quantile, same_hours
from cutover.domain.baseline.week import by_week, dispersion, name_of, peak, rates
from cutover.domain.evidence.blocks import Counts
from cutover.domain.evidence.hourly import HOURS, hour_of_week

INF = math.inf
_MINUTES = st.lists(st.sampled_from([0, MINUTES]) | st.integers(0, MINUTES), min_size=1, max_size=60)


# --------------------------------------------------------------------------------------------------------------- reach


@pytest.mark.parametrize(
    ("minutes", "least", "hours"),
    [
        ((60, 60, 60, 60), 1.0, 0),
        ((0, 60, 60, 60), 0.75, 0),
        ((0, 60, 60, 60), 0.95, 1),
        ((0, 0, 0, 0), 0.5, 2),
        ((60, 0, 60, 60), 1.0, 2),  # until the hole has left the window
        ((0, 0, 0, 0), 1.0, 4),
        ((60, 60, 60, 30), 1.0, 4),
    ],
)
def test_when_it_is_enough(minutes: tuple[int, ...], least: float, hours: int) -> None:
    assert Reach(END, minutes).enough_at(least) == END + HOUR * hours


@given(_MINUTES, st.floats(0.01, 1.0))
def test_it_is_enough_then_and_not_an_hour_before(minutes: list[int], least: float) -> None:
    reach = Reach(END, tuple(minutes))
    later = round((reach.enough_at(least) - END) / HOUR)
    assert 0 <= later <= len(minutes)

    def after(hours: int) -> float:
        return Reach(END, (*minutes, *[MINUTES] * hours)[hours:]).part

    assert after(later) >= least - 1e-6
    assert later == 0 or after(later - 1) < least
    assert (reach.part >= least - 1e-6) == (later == 0)


def test_it_begins_with_the_first_hour_of_which_anything_is_there() -> None:
    reach = Reach(END, (0, 0, 30, 60, 0, 60))
    assert (reach.start, reach.first, reach.missing) == (END - 6 * HOUR, END - 4 * HOUR, 90)
    assert reach.part == 150 / 360
    assert Reach(END, (0, 0)).first is None
    assert Reach(END, ()).part == 0


# ---------------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("buckets", "part", "milliseconds"),
    [
        ({}, 0.5, None),
        ({10.0: 0.0, INF: 0.0}, 0.5, None),
        ({10.0: 100.0, INF: 100.0}, 0.5, 5.0),
        ({10.0: 50.0, 30.0: 100.0, INF: 100.0}, 0.75, 20.0),
        ({10.0: 50.0, 30.0: 50.0, INF: 100.0}, 0.9, 30.0),  # beyond the last bound nothing is known
        ({10.0: 0.0, 30.0: 100.0, INF: 100.0}, 0.5, 20.0),
    ],
)
def test_quantiles(buckets: dict[float, float], part: float, milliseconds: float | None) -> None:
    assert quantile(buckets, part) == milliseconds


@given(st.lists(st.integers(0, 1000), min_size=4, max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_and_lie_within_the_bounds(counts: list[int], one: float, other: float) -> None:
    buckets = dict(zip((10.0, 25.0, 100.0, INF), np.cumsum(counts).tolist(), strict=True))
    low, high = sorted([one, other])
    found = quantile(buckets, low), quantile(buckets, high)
    if sum(counts):
        assert 0 <= found[0] <= found[1] <= 100.0  # type: ignore[operator]
    else:
        assert found == (None, None)


def test_an_hour_keeps_its_histogram_rising_and_tells_what_is_slower() -> None:
    """Each bucket is extrapolated by itself, so that a later one may be a little smaller."""
    one = Hour.of(END, 60, Counts(100.0, 1.0), {25.0: 90.0, 10.0: 50.0, INF: 99.0, 100.0: 99.5})
    assert one.buckets == {10.0: 50.0, 25.0: 90.0, 100.0: 99.5, INF: 99.5}
    assert one.counts.timed == 99.0
    assert counts_by(one, 25.0) == Counts(100.0, 1.0, timed=99.5, slow=9.5)
    assert counts_by(one, 30.0).timed == counts_by(one, None).timed == 0.0
    assert hour(END, 1.0).bounds is hour(END + HOUR, 2.0).bounds


# ----------------------------------------------------------------------------------------------------------------- week


def test_hours_of_the_week_have_their_names() -> None:
    assert name_of(hour_of_week(END)) == "Mon 10:00"
    assert name_of(hour_of_week(END - 11 * HOUR)) == "Sun 23:00"
    for at in (0.0, END + 12345.0):
        assert name_of(hour_of_week(at)) == f"{datetime.fromtimestamp(at, UTC):%a %H}:00"


def test_a_week_has_all_of_the_record() -> None:
    known = record(14)
    week = by_week(known)
    assert [one.number for one in week] == list(range(HOURS))
    assert {one.hours for one in week} == {2}
    assert sum(one.counts.requests for one in week) == pytest.approx(known.total.requests)
    assert week[hour_of_week(END)].rate == pytest.approx(50.0)
    assert week[3].rate == pytest.approx(2.5)
    assert rates(known) == pytest.approx([one.rate for one in week])
    assert (peak(known).rate, peak(Record("Drain", Reach(END, ()), ())).at) == (50.0, None)
    silent = record(1, minutes=lambda n: 20 if n == 5 else 60)
    assert silent.hours[5].rate is None
    assert [one.rate for one in by_week(silent) if not one.minutes] == [None] * 144


def test_a_clump_counts_as_one() -> None:
    """Errors one by one have a dispersion of about 1, and those that come ten at a time one of about ten."""
    draw = np.random.default_rng(3)
    for clump, low, high in ((1, 0.8, 1.3), (10, 7.0, 13.0), (100, 70.0, 130.0)):
        hours = tuple(
            replace(one, counts=Counts(20_000.0, errors=float(clump * draw.poisson(200 / clump))))
            for one in record(14).hours
        )
        found = dispersion(replace(record(14), hours=hours), "errors")
        assert low <= found <= high or (clump == 1 and found == 1.0)


def test_quiet_nights_and_one_incident_are_no_dispersion() -> None:
    parts = [{"errors": 0.02} if n % 24 < 6 else {"errors": 0.001} for n in range(14 * 24)]
    assert dispersion(record(14, answers=lambda n: parts[n]), "errors") == 1.0
    parts[100] = {"errors": 0.9}
    assert dispersion(record(14, answers=lambda n: parts[n]), "errors") < 5.0
    assert dispersion(record(14, answers={}), "errors") == 1.0
    assert dispersion(Record("Drain", Reach(END, ()), ()), "refused") == 1.0


def test_the_same_hours_are_those_of_the_week_or_else_of_the_day() -> None:
    known = record(14).hours
    begin = END + 600.0
    found = same_hours(known, begin, begin + 300.0, least=200)
    assert [one.start for one in found] == [END - 14 * 86_400, END - 7 * 86_400]
    across = same_hours(known, END + 3500.0, END + 3700.0, least=200)
    assert {hour_of_week(one.start) for one in across} == {hour_of_week(END), hour_of_week(END) + 1}
    few = record(14, rate=lambda _: 0.01).hours  # 36 an hour
    assert len(same_hours(few, begin, begin + 300.0, least=200)) == 14
    assert same_hours(few, begin, begin + 300.0, least=10_000) == ()
    assert same_hours((), begin, begin, least=0) == ()


# -------------------------------------------------------------------------------------------------------------- outlook


def steps(*holds: str, **more: object) -> dict[str, object]:
    weights = (*(10, 25, 50)[: len(holds) - 1], 100)
    return {"steps": [{"weight": w, "hold": h} for w, h in zip(weights, holds, strict=True)], "soak": "0s", **more}


NIGHT, NOON = END + 12 * HOUR, END + 2 * HOUR  # Mon 22:00 and 12:00


@pytest.mark.parametrize(
    ("spec", "start", "quiet"),
    [
        (steps("10m", "10m", "10m", "10m"), NOON, []),
        (steps("10m", "10m", "10m", "10m"), NIGHT, [10, 25, 50, 100]),
        (steps("12h", "10m", "10m", "10m"), NIGHT, []),  # the first lasts into the morning, and so the others
        (steps("10m", "12h", "10m", "10m"), NIGHT, [10]),
        (steps("8h", "10m", "12h", "10m"), NOON, [25]),
        (steps("10m", "10m", "10m", "10m", ceiling=25), NIGHT, [10, 25]),
        (
            steps("10m", "10m", schedule={"windows": [{"days": ["Tue"], "from": "09:00", "to": "17:00"}]}),
            NIGHT,
            [],
        ),
        (
            steps("10m", "10m", schedule={"windows": [{"days": ["Tue"], "from": "02:00", "to": "04:00"}]}),
            NOON,
            [10, 100],
        ),
        (
            steps(
                "10m",
                "10m",
                schedule={"freezes": [{"from": "2027-01-11T12:00:00Z", "to": "2027-01-12T02:00:00Z", "reason": "x"}]},
            ),
            NOON,
            [10, 100],
        ),
    ],
)
def test_steps_in_quiet_hours(spec: dict[str, object], start: float, quiet: list[int]) -> None:
    assert [one.weight for one in quiet_steps(plan_spec(**spec), rates(record()), start)] == quiet


def test_nobody_knows_when_people_approve_a_step_nor_how_busy_an_hour_without_record_is() -> None:
    spec = plan_spec(steps=[{"weight": 10}, {"weight": 25, "approval": "Manual"}, {"weight": 100}])
    assert [one.weight for one in step_hours(spec, rates(record()), NIGHT)] == [10]
    short = rates(record(1, minutes=lambda _: 0))
    assert quiet_steps(spec, short, NIGHT) == ()
    never = plan_spec(**steps("1m", "1m", schedule={"timeZone": "UTC", "windows": [], "freezes": []}))
    assert len(list(step_hours(never, rates(record()), NIGHT))) == 2


# ------------------------------------------------------------------------------------------------------------- document


def test_the_document_says_what_the_record_does() -> None:
    known = record(14, minutes=lambda n: 0 if n in (50, 51) else 30 if n == 200 else 60)
    text = document(known, plan="docs/pdf", app="acme-pdf")
    kept = json.loads(text)
    assert kept["format"] == "cutover.dev/baseline/v1"
    assert (kept["from"], kept["until"]) == ("2026-12-28T10:00:00Z", "2027-01-11T10:00:00Z")
    assert kept["coverage"] == pytest.approx(1 - 150 / (14 * 1440), abs=1e-4)
    assert kept["total"]["requests"] == round(known.total.requests)
    assert kept["total"]["medianMs"] == pytest.approx(10 + 15 * 0.3 / 0.7, abs=0.01)
    assert kept["peak"]["requestsPerSecond"] == 50
    assert kept["thresholds"] == {"slowMs": 100, "verySlowMs": 100}
    assert kept["histogram"]["+Inf"] == round(known.total.requests)
    assert [one["missingMinutes"] for one in kept["holes"]] == [120, 30]
    assert kept["holes"][0]["from"] == "2026-12-30T12:00:00Z"
    assert [one["hour"] for one in kept["week"]][::24] == [
        f"{day} 00:00" for day in ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    ]
    assert kept["week"][34]["requests"] == 2 * 50 * 3600
    assert text == document(known, plan="docs/pdf", app="acme-pdf")


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.floats(0, 1e12), st.floats(0, 1), st.floats(0, 3e7)), min_size=1, max_size=40
    )
)
def test_a_document_is_bounded_and_readable_whatever_was_counted(
    hours: list[tuple[int, float, float, float]],
) -> None:
    reach = Reach(END, tuple(minutes for minutes, *_ in hours) * 20)
    made = tuple(
        Hour.of(reach.start + HOUR * n, minutes, Counts(number, number * part), {bound: number * part, INF: number})
        for n, (minutes, number, part, bound) in enumerate(hours * 20)
    )
    text = document(Record("Gateway", reach, made), plan="d" * 63 + "/" + "p" * 63, app="a" * 30)
    assert len(text.encode()) < LONGEST
    kept = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert len(kept["holes"]) <= MOST_HOLES
    assert [one["from"] for one in kept["holes"]] == sorted(one["from"] for one in kept["holes"])


def test_the_config_map_goes_with_its_plan_and_is_named_after_what_it_says() -> None:
    one = config_map("{}", plan="pdf", namespace="docs", uid="u-1")
    assert config_map("{}", plan="pdf", namespace="docs", uid="u-1") == one
    names = {
        config_map(text, plan="pdf", namespace="docs", uid=uid)["metadata"]["name"]
        for text, uid in (("{}", "u-1"), ("{ }", "u-1"), ("{}", "u-2"))
    }
    assert len(names) == 3
    assert all(name.startswith("cutover-pdf-baseline-") for name in names)
    (owner,) = one["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "cutover.dev/v1alpha1", "kind": "MigrationPlan", "name": "pdf", "uid": "u-1"}
    assert one["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "cutover", "cutover.dev/plan": "pdf"}
    assert one["immutable"] is True
    assert one["data"] == {KEY: "{}"}


def test_busy_by_day_is_so() -> None:
    assert (busy_by_day(END), busy_by_day(NIGHT)) == (50.0, 2.5)
