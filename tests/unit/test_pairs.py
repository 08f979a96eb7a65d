"""Pairs of probes: what speaks against EKS, how many of them are enough, and what is taken out of the counts."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.own_requests import LATEST_SECONDS, OwnRequest, own_request, without_own_requests
from cutover.domain.evidence.paired_safety import PairedStep
from cutover.domain.evidence.pairs import NO_PAIRS, OVER_SECONDS, Pairs, enter, take
from cutover.domain.evidence.probe_key import IN_A_ROW, ProbeKey, outage_seconds, probe_key
from cutover.domain.evidence.worth import Pair, Worth, worth
from cutover.domain.traffic import Leg, Probe

LIMIT = 100.0
GOOD, FAILED, REFUSED, REDIRECTED, SLOW = Worth.GOOD, Worth.FAILED, Worth.REFUSED, Worth.REDIRECTED, Worth.SLOW


def after(*answers: tuple[Worth, Worth], every: float = 0.5, pairs: Pairs = NO_PAIRS, since: float = 0.0) -> Pairs:
    """Return what is known after pairs (Heroku, EKS) that were answered at once."""
    for number, (heroku, eks) in enumerate(answers):
        at = since + number * every
        pairs = take(pairs, Pair(at, at, heroku, eks))
    return pairs


def says(pairs: Pairs, block_seconds: float = 5.0) -> ProbeKey:
    assert pairs.last is not None
    return probe_key(pairs, pairs.last.done, limit=LIMIT, block_seconds=block_seconds)


def test_a_row_of_answers_that_heroku_denies_and_eks_gives() -> None:
    assert after(*[(REFUSED, GOOD)] * 3, (REDIRECTED, SLOW)).denied_row == 4
    for other in (
        (GOOD, GOOD),
        (REFUSED, REFUSED),
        (REFUSED, FAILED),
        (FAILED, GOOD),
        (SLOW, GOOD),
        (REFUSED, REDIRECTED),
    ):
        assert after((REFUSED, GOOD), other).denied_row == 0


@pytest.mark.parametrize(
    ("heroku", "eks", "against_eks", "against_heroku"),
    [
        (GOOD, GOOD, False, False),
        (GOOD, FAILED, True, False),
        (GOOD, REFUSED, True, False),
        (GOOD, REDIRECTED, True, False),
        (GOOD, SLOW, True, False),
        (REDIRECTED, REFUSED, True, False),
        (REFUSED, REFUSED, False, False),
        (REFUSED, FAILED, True, False),
        (REFUSED, GOOD, False, True),
        (REDIRECTED, SLOW, False, True),
        (FAILED, GOOD, False, True),
        (FAILED, REFUSED, False, True),
        (FAILED, FAILED, False, False),
    ],
)
def test_what_a_pair_says(heroku: Worth, eks: Worth, against_eks: bool, against_heroku: bool) -> None:
    pair = Pair(0.0, 0.0, heroku, eks)
    assert (pair.against_eks, pair.against_heroku) == (against_eks, against_heroku)


@pytest.mark.parametrize(
    ("status", "healthy", "seconds", "leg", "expected"),
    [
        (200, True, 0.1, Leg.EKS, GOOD),
        (304, True, 0.1, Leg.EKS, GOOD),
        (200, True, 1.5, Leg.EKS, SLOW),
        (302, True, 1.5, Leg.EKS, REDIRECTED),
        (401, True, 0.1, Leg.HEROKU, REFUSED),
        (429, True, 0.1, Leg.EKS, REFUSED),
        (503, False, 0.1, Leg.EKS, FAILED),
        (499, True, 0.1, Leg.EKS, FAILED),
        (101, True, 0.1, Leg.EKS, FAILED),
        (0, False, 5.0, Leg.HEROKU, FAILED),
    ],
)
def test_what_an_answer_is_worth(status: int, healthy: bool, seconds: float, leg: Leg, expected: Worth) -> None:
    probe = Probe(0.0, "", healthy, "", status=status, seconds=seconds)
    assert worth(probe, leg, 1000.0) is expected
    if expected is SLOW:
        assert worth(probe, leg, None) is GOOD


# ----------------------------------------------------------------------------------------------------------- in a row


@pytest.mark.parametrize("block", [1.0, 5.0, 10.0, 15.0, 60.0])
def test_an_outage_of_eks_alone_is_long_enough_for_once(block: float) -> None:
    needed = outage_seconds(block)
    assert 12 <= needed <= 25
    short, long = round(needed / 0.5), round(needed / 0.5) + 1
    assert says(after(*[(GOOD, FAILED)] * short), block) is ProbeKey.UNSURE
    assert says(after(*[(GOOD, FAILED)] * long), block) is ProbeKey.EKS_WORSE


def test_a_few_pairs_far_apart_are_not_enough() -> None:
    few = after(*[(GOOD, FAILED)] * (IN_A_ROW - 1), every=10.0)
    assert says(few) is ProbeKey.UNSURE
    assert says(after((GOOD, FAILED), pairs=few, since=50.0)) is ProbeKey.EKS_WORSE


def test_a_good_pair_ends_a_row() -> None:
    broken = [(GOOD, FAILED)] * 20 + [(GOOD, GOOD)] + [(GOOD, FAILED)] * 20
    pairs = after(*broken)
    assert (pairs.row, pairs.row_since) == (20, 10.5)
    assert not pairs.harm >= LIMIT
    assert says(pairs) is ProbeKey.UNSURE


def test_a_hang_is_an_outage_while_it_is_asked_for() -> None:
    """Each pair is given up after 5 s, so that the last was asked 5 s ago; what it shows is that EKS is silent until now."""
    pairs = NO_PAIRS
    for number in range(17):
        pairs = take(pairs, Pair(0.5 * number, 0.5 * number + 5, GOOD, FAILED))
    assert pairs.last is not None
    assert says(pairs) is ProbeKey.EKS_WORSE
    assert pairs.last.done - pairs.row_since == 13


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([(FAILED, FAILED)] * 60, ProbeKey.BOTH_FAIL),
        ([(GOOD, FAILED)] * 60 + [(FAILED, FAILED)] * 2, ProbeKey.BOTH_FAIL),
        ([(GOOD, FAILED)] * 60 + [(FAILED, FAILED)], ProbeKey.UNSURE),
        ([(FAILED, GOOD)] * 2, ProbeKey.HEROKU_FAILS),
        ([(FAILED, GOOD)], ProbeKey.ALIKE),
        ([(GOOD, GOOD)] * 60, ProbeKey.ALIKE),
    ],
)
def test_a_fault_of_both_or_of_heroku_is_none_of_eks(answers: list[tuple[Worth, Worth]], expected: ProbeKey) -> None:
    said = says(after(*answers))
    assert said is expected or (expected is ProbeKey.UNSURE and said is ProbeKey.ALIKE)
    assert said is not ProbeKey.EKS_WORSE


def test_old_pairs_say_nothing() -> None:
    pairs = after(*[(GOOD, FAILED)] * 60)
    assert pairs.last is not None
    assert probe_key(pairs, pairs.last.done + 61, limit=LIMIT, block_seconds=5) is ProbeKey.UNKNOWN
    assert probe_key(pairs, pairs.last.done - 61, limit=LIMIT, block_seconds=5) is ProbeKey.UNKNOWN
    assert probe_key(NO_PAIRS, 0.0, limit=LIMIT, block_seconds=5) is ProbeKey.UNKNOWN


# -------------------------------------------------------------------------------------------------------- by evidence


def seconds_until_proven(fraction: float, runs: int = 40) -> list[float]:
    """Return the seconds until two pairs a second prove that a fraction of EKS' answers fail, sorted."""
    found = []
    for run in range(runs):
        r, pairs, number = random.Random(run), NO_PAIRS, 0
        while pairs.harm < LIMIT and number < 2400:
            eks = FAILED if r.random() < fraction else GOOD
            pairs = take(pairs, Pair(number / 2, number / 2, FAILED if r.random() < 0.001 else GOOD, eks))
            number += 1
        found.append(number / 2)
    return sorted(found)


@pytest.mark.parametrize(("fraction", "median"), [(0.3, 120), (0.05, 360)])
def test_a_part_of_the_answers_is_found_by_evidence(fraction: float, median: float) -> None:
    assert seconds_until_proven(fraction)[20] <= median


def test_what_is_tolerated_is_seldom_called_harm() -> None:
    """At the border for six hours, a pair every 5 s: at most one of a hundred, by Ville; these seeds have none."""
    for run in range(20):
        r, pairs = random.Random(run), NO_PAIRS
        for number in range(6 * 720):
            heroku, eks = (FAILED if r.random() < p else GOOD for p in (0.001, 0.01125))
            pairs = take(pairs, Pair(5.0 * number, 5.0 * number, heroku, eks))
            assert pairs.harm < LIMIT


def test_an_incident_of_both_legs_is_no_evidence() -> None:
    pairs = after(*[(FAILED, FAILED), (GOOD, GOOD)] * 600)
    assert pairs.harm < 2
    assert (pairs.both_failed, pairs.against_eks) == (600, 0)


def test_proven_harm_that_is_over_is_over() -> None:
    r = random.Random(1)
    pairs = after(*[(GOOD, FAILED if r.random() < 0.5 else GOOD) for _ in range(400)])
    assert pairs.harm >= LIMIT
    assert says(pairs) is ProbeKey.EKS_WORSE
    well = after(*[(GOOD, GOOD)] * 130, pairs=pairs, since=200.0)
    assert says(well) is ProbeKey.ALIKE, "a minute without one"
    later = after((GOOD, GOOD), (GOOD, GOOD), pairs=pairs, since=200.0 + OVER_SECONDS)
    assert later.harm <= 1


# ------------------------------------------------------------------------------------------------------------- safety

STEP = PairedStep(attempt=1, weight=10, next_weight=25)
BEGUN = enter(NO_PAIRS, STEP)


def safety(pairs: Pairs) -> float:
    assert pairs.safety is not None
    return pairs.safety.evidence


@pytest.mark.parametrize(("upper", "most"), [(25, 310), (50, 600), (100, 1160)])
def test_pairs_that_are_alike_prove_safety(upper: int, most: int) -> None:
    pairs = enter(NO_PAIRS, PairedStep(1, 10, upper))
    number = 0
    while safety(pairs) < 20:
        pairs, number = take(pairs, Pair(float(number), float(number), GOOD, GOOD)), number + 1
    assert math.log(20) / STEP.margin * upper / 25 <= number <= most


@pytest.mark.parametrize(
    ("heroku", "eks"), [(FAILED, FAILED), (FAILED, GOOD), (REFUSED, REFUSED), (REFUSED, GOOD), (GOOD, FAILED)]
)
def test_pairs_that_show_nothing_good_prove_no_safety(heroku: Worth, eks: Worth) -> None:
    assert safety(after(*[(heroku, eks)] * 4000, pairs=BEGUN)) <= 1


def test_beyond_the_margin_safety_is_seldom_proven() -> None:
    """At most one of twenty, by Ville's inequality; with three standard deviations of the number of runs."""
    proven = 0
    for run in range(200):
        r, pairs = random.Random(run), BEGUN
        for number in range(1500):
            heroku = FAILED if r.random() < 0.01 else GOOD
            # Where Heroku answers: 1.5 times as often as the other way round, plus the margin, in independent answers.
            eks = FAILED if r.random() < 0.01 * 1.5 + STEP.margin else GOOD
            pairs = take(pairs, Pair(float(number), float(number), heroku, eks))
            if safety(pairs) >= 20:
                proven += 1
                break
    assert proven <= 200 / 20 + 3 * math.sqrt(200 / 20)


def test_a_slow_heroku_does_not_pay_for_an_eks_that_fails() -> None:
    r, pairs, proven = random.Random(3), BEGUN, 0.0
    for number in range(1800):
        heroku = SLOW if r.random() < 0.3 else GOOD
        eks = FAILED if r.random() < 0.05 else GOOD
        pairs = take(pairs, Pair(float(number), float(number), heroku, eks))
        proven = max(proven, safety(pairs))
    assert pairs.harm >= LIMIT
    assert proven < 20


@pytest.mark.parametrize("answer", [REDIRECTED, REFUSED])
def test_pairs_that_both_legs_turn_away_prove_no_safety(answer: Worth) -> None:
    assert safety(after(*[(answer, answer)] * 4000, pairs=BEGUN)) <= 1


def test_a_clock_that_was_ahead_for_a_moment_does_not_keep_pairs_from_being_judged() -> None:
    ahead = after((GOOD, GOOD), (GOOD, FAILED), since=80_000.0)
    later = after(*[(GOOD, FAILED), (GOOD, GOOD)] * 200, pairs=ahead, every=1.0)
    assert later.harm >= LIMIT
    assert says(later) is ProbeKey.EKS_WORSE


def test_each_step_has_evidence_of_its_own() -> None:
    pairs = after(*[(GOOD, GOOD)] * 600, pairs=BEGUN)
    assert safety(pairs) > 20
    assert enter(pairs, STEP) is pairs
    assert safety(enter(pairs, PairedStep(1, 25, 50))) == 1
    assert enter(pairs, None).safety is None
    assert safety(enter(pairs, PairedStep(2, 10, 25))) == 1


# ------------------------------------------------------------------------------------------- the operator's own requests


def owed(at: float, status: int = 200, seconds: float = 0.05) -> OwnRequest:
    probe = Probe(at, "", healthy=status < 500, detail="", status=status, seconds=seconds)
    found = own_request(probe, at, slow_ms=100, very_slow_ms=1000)
    assert found is not None
    return found


def test_what_the_gateway_did_not_count_is_not_owed() -> None:
    assert own_request(Probe(0.0, "", healthy=False, detail="no answer"), 0.0, slow_ms=None, very_slow_ms=None) is None


def test_probes_are_no_users_requests() -> None:
    users = Counts(requests=40, errors=1, timed=40, slow=2, refused=3)
    probes = [owed(1.0), owed(2.0, 503), owed(3.0, 401), owed(4.0, 200, 2.0)]
    with_probes = users + sum((one.counts for one in probes), Counts())
    codes = {"200": 38.0, "401": 4.0, "503": 2.0}
    (block,), left = without_own_requests([Block(0, 5, Counts(), with_probes, eks_codes=codes)], probes)
    assert (block.eks, left) == (users, ())
    assert block.eks_codes == {"200": 36.0, "401": 3.0, "503": 1.0}


def test_a_probe_is_taken_out_of_the_block_that_shows_it() -> None:
    """A scrape may be older than the end of its block."""
    blocks = [
        Block(0, 5, Counts(), Counts(requests=10, timed=10)),
        Block(5, 10, Counts(), Counts(requests=11, errors=1)),
    ]
    settled, left = without_own_requests(blocks, [owed(4.9, 503)])
    assert [(one.eks.requests, one.eks.errors) for one in settled] == [(10, 0), (10, 0)]
    assert not left


def test_a_probe_waits_for_its_block_and_not_for_ever() -> None:
    probe = owed(7.0)
    settled, left = without_own_requests([Block(0, 5, Counts(), Counts(requests=10, timed=10))], [probe])
    assert (settled[0].eks.requests, left) == (10, (probe,))
    quiet = [Block(start, start + 5, Counts(), Counts()) for start in range(5, 5 + int(LATEST_SECONDS) + 10, 5)]
    assert without_own_requests(quiet[:3], left)[1] == (probe,)
    assert without_own_requests(quiet, left)[1] == ()


def test_unusable_blocks_are_left_alone() -> None:
    block = Block(0, 5, Counts(), Counts(), gap="a scrape was missed")
    assert without_own_requests([block], [owed(1.0)]) == ((block,), ())


COUNTS = st.builds(
    lambda ok, errors, refused, slow: Counts(
        requests=ok + errors + refused, errors=errors, refused=refused, timed=ok + errors + refused, slow=min(slow, ok)
    ),
    *[st.integers(0, 5)] * 4,
)


@given(
    st.lists(COUNTS, min_size=1, max_size=6),
    st.lists(st.tuples(st.floats(0, 40), st.sampled_from([200, 302, 401, 503])), max_size=8),
)
def test_nothing_is_ever_taken_out_that_is_not_there(counts: list[Counts], probes: list[tuple[float, int]]) -> None:
    blocks = [Block(5 * i, 5 * i + 5, Counts(), one) for i, one in enumerate(counts)]
    waiting = [owed(at, status) for at, status in sorted(probes)]
    settled, left = without_own_requests(blocks, waiting)
    for before, after_ in zip(blocks, settled, strict=True):
        assert after_.heroku == before.heroku
        assert after_.eks.ok >= 0
        assert 0 <= after_.eks.slow <= after_.eks.timed
        assert all(value >= 0 for value in (after_.eks.requests, after_.eks.errors, after_.eks.refused))
    taken = sum(one.eks.requests for one in blocks) - sum(one.eks.requests for one in settled)
    assert taken == len(waiting) - len(left)
    assert replace(settled[0], eks=blocks[0].eks) == blocks[0]
