"""The live key: the newest requests at 100 % against the app's own record, and the memory that it needs."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from cutover.api.opaque import Opaque
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import Evidence, GateRules
from cutover.domain.evidence.live_key import LiveKey, failing_since, live_key
from cutover.domain.evidence.pace import HOUR_MINUTES, Pace, keep_pace, load_pace, store_pace

RULES, NO_PACE = GateRules(), Pace()
RECORD = Evidence.start(Counts(requests=10_000, errors=10, timed=10_000, slow=300, very_slow=10, refused=200))


def served(
    rate: float, seconds: float, pace: Pace = NO_PACE, *, start: float = 0.0, block: float = 5.0, **bad: float
) -> Pace:
    """Return the memory after blocks of a steady rate, of which parts are bad."""
    for number in range(round(seconds / block)):
        began = start + number * block
        requests = rate * block
        counts = Counts(requests=requests, timed=requests, **{name: part * requests for name, part in bad.items()})
        pace = keep_pace(pace, Block(began, began + block, Counts(), counts), judged=True)
    return pace


def key(pace: Pace, evidence: Evidence = RECORD) -> LiveKey:
    return live_key(pace, evidence, RULES)


HOUR = served(50, 3600)


# -------------------------------------------------------------------------------------------------------------- the key


def test_a_healthy_hour_turns_nothing() -> None:
    assert not key(HOUR)
    assert not key(served(50, 60, HOUR, start=3600, errors=0.001, slow=0.03))


@pytest.mark.parametrize(
    ("rate", "bad", "metric"),
    [
        (50, {"errors": 1.0}, "alive"),
        (50, {"errors": 0.5}, "alive"),
        (1, {"errors": 1.0}, "alive"),
        (50, {"errors": 0.1}, "errors"),
        (50, {"slow": 0.4}, "slow"),
        (50, {"throttled": 0.2}, "throttled"),
        (50, {"excepted": 1.0}, "alive"),
        (50, {"excepted": 0.35, "redirected": 0.04, "throttled": 0.04, "refused": 0.1}, "alive"),
        (0, {}, "alive"),
    ],
)
def test_one_block_is_enough(rate: float, bad: dict[str, float], metric: str) -> None:
    found = key(served(rate, 5, HOUR, start=3600, **bad))
    assert found.metric == metric
    assert "in the last 5 s" in found.detail


def test_half_of_a_block_is_enough() -> None:
    """An onset in the middle of a block: what came before it is in there, too."""
    half = keep_pace(HOUR, Block(3600, 3605, Counts(), Counts(requests=250, errors=125)), judged=True)
    assert key(half).metric == "alive"


def test_two_failed_requests_are_not_enough() -> None:
    assert not key(keep_pace(HOUR, Block(3600, 3605, Counts(), Counts(requests=250, errors=2)), judged=True))
    thin = served(0.2, 3600)
    assert not key(keep_pace(thin, Block(3600, 3605, Counts(), Counts(requests=2, errors=2)), judged=True))


def test_some_more_errors_show_in_a_longer_window() -> None:
    """2 % where 1 % is tolerated: not in 5 s, but in a minute."""
    assert not key(served(50, 5, HOUR, start=3600, errors=0.02))
    assert key(served(50, 60, HOUR, start=3600, errors=0.02)).metric == "errors"


def test_an_outage_of_seconds_is_over_after_a_minute() -> None:
    pace = served(50, 10, HOUR, start=3600, errors=1.0)
    assert key(pace)
    assert not key(served(50, 60, pace, start=3610))


def test_an_observed_metric_turns_nothing() -> None:
    observed = replace(RULES, metrics=tuple(replace(rule, enforced=rule.name != "slow") for rule in RULES.metrics))
    slow = served(50, 30, HOUR, start=3600, slow=0.4)
    assert live_key(slow, RECORD, RULES).metric == "slow"
    assert not live_key(slow, RECORD, observed)


# ---------------------------------------------------------------------------------------------------- the missing ones


def test_answers_that_stop_are_missed_within_a_block() -> None:
    found = key(served(20, 5, HOUR, start=3600))
    assert found == LiveKey("alive", "100 requests were answered in the last 5 s, at least 250 expected")
    assert not key(served(30, 5, HOUR, start=3600)), "half of them is no outage"


def test_what_a_quiet_minute_of_the_hour_had_is_enough() -> None:
    lull = served(20, 60, served(50, 1800), start=1800)
    hour = served(50, 1740, lull, start=1860)
    assert not key(served(15, 30, hour, start=3600))
    assert key(served(8, 30, hour, start=3600))


def test_an_evening_is_no_outage() -> None:
    pace, start = HOUR, 3600.0
    for minute in range(120):  # a sixteenth after two hours
        pace = served(50 * 2 ** (-minute / 30), 60, pace, start=start)
        start += 60
        assert not key(pace), minute


def test_few_requests_are_missed_later_and_very_few_never() -> None:
    hour = served(1, 3600)
    assert not key(served(0, 5, hour, start=3600))
    assert key(served(0, 10, hour, start=3600))
    assert not key(served(0, 120, served(0.05, 3600), start=3600))


def test_nothing_is_expected_before_the_pace_is_known() -> None:
    assert not key(served(0, 30, served(50, 90)))
    assert key(served(0, 30, served(50, 180), start=180))


def test_failures_of_a_few_requests_count_once_the_probes_fail() -> None:
    pace = served(0.2, 3600)
    for start, counts in ((3600, Counts(requests=1)), (3605, Counts(requests=1, errors=1)), (3610, Counts())):
        pace = keep_pace(pace, Block(start, start + 5, Counts(), counts), judged=True)
    assert not failing_since(pace, 3601)
    pace = keep_pace(pace, Block(3615, 3620, Counts(), Counts(requests=1, errors=1)), judged=True)
    assert failing_since(pace, 3601)
    assert not failing_since(pace, 3600), "one was answered well since then"


# ------------------------------------------------------------------------------------------------------------ the memory


def test_both_legs_make_the_pace() -> None:
    pace = Pace()
    for number in range(60):
        block = Block(5 * number, 5 * number + 5, Counts(requests=75), Counts(requests=25))
        pace = keep_pace(pace, block, judged=False)
    assert pace.usual == pytest.approx(20)
    assert not pace.newest


def test_the_memory_is_bounded_and_comes_back() -> None:
    pace = served(3.7, 8 * 3600)
    assert len(pace.minutes) <= HOUR_MINUTES
    assert len(pace.newest) <= 12
    text = store_pace(pace).text
    assert len(text) < 1500
    again = load_pace(Opaque(text))
    assert again.usual == pytest.approx(pace.usual)
    assert not again.newest, "a new process reads them again"
    turned = load_pace(Opaque(store_pace(pace._replace(turned_since=12.5)).text))
    assert turned.turned_since == 12.5


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"minutes": 3}', '{"minutes": [[1]]}', '{"minutes": [["a", 1, 1]]}']
)
def test_a_memory_that_cannot_be_read_begins_anew(text: str) -> None:
    assert load_pace(Opaque(text)) == Pace()


def test_a_hole_hides_nothing_and_invents_nothing() -> None:
    gap = keep_pace(HOUR, Block(3600, 3605, gap="a scrape was missed"), judged=True)
    assert not gap.newest
    assert gap.minutes == HOUR.minutes
    assert not key(served(50, 5, gap, start=3605))
    assert key(served(0, 5, gap, start=3605))
    assert not math.isnan(gap.usual or 0.0)


def test_what_is_missed_does_not_become_the_usual_at_once() -> None:
    pace = served(5, 60, HOUR, start=3600)._replace(turned_since=3605.0)
    pace = served(5, 1200, pace, start=3660)._replace(turned_since=3605.0)
    assert key(pace), "20 minutes later"
    pace = served(5, 900, pace, start=4860)._replace(turned_since=3605.0)
    assert not key(pace), "after half an hour"
