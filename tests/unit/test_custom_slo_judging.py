"""Evidence of the team's own ratios, and what their gates say, whatever comes back from Prometheus."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit.world import START, plan_spec

from cutover.api.v1alpha1 import Checkpoint
from cutover.api.v1alpha1.gates import BoundSlo, Mode, RatioSlo
from cutover.domain.engine.assessment import Assessment, assess
from cutover.domain.evidence import judge as gate
from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.judge import GateRules
from cutover.domain.slo.custom import CustomSlo, QueryProblem, SloReading
from cutover.domain.slo.judge import LEAST_REFERENCE, CustomSloJudgement, ingest_custom_slos, judge_custom_slos
from cutover.domain.verdicts import Verdict

SPEC = plan_spec()
RATIO = RatioSlo.from_wire({"bad": "b", "total": "t", "scrapeInterval": "5s"})
BOUND = BoundSlo.from_wire({"query": "v", "max": 0.25, "for": "30s", "scrapeInterval": "5s"})


def own(slo: RatioSlo | BoundSlo, mode: Mode = Mode.ENFORCE) -> CustomSlo:
    return CustomSlo("one", mode, slo, ("v",) if isinstance(slo, BoundSlo) else ("b", "t", "b", "t"))


def blocks(count: int, heroku: Counts, eks: Counts, *, first: int = 0) -> tuple[Block, ...]:
    starts = [START + 5.0 * (first + number) for number in range(count)]
    return tuple(Block(start, start + 5.0, heroku, eks) for start in starts)


def checkpoint(**fields: Any) -> Checkpoint:
    defaults = {"weight_since": START, "observed_at": START, "consumed_until": START, "next_weight": 25}
    return Checkpoint(**{**defaults, **fields})


def taken(known: Checkpoint, new: tuple[Block, ...], gates: list[CustomSlo], *, weight: int = 10) -> Checkpoint:
    evidence = ingest_custom_slos(
        known,
        gates,
        {"one": SloReading(asked_at=START, blocks=new), "nobody's": SloReading(blocks=new)},
        spec=SPEC,
        weight=weight,
        next_weight=25 if weight < 100 else 100,
        observed_at=START,
        restarted=False,
    )
    return known.model_copy(update={"custom_slos": evidence})


def said(
    known: Checkpoint, one: CustomSlo, reading: SloReading, *, weight: int = 10, now: float = START
) -> tuple[CustomSloJudgement, Assessment]:
    next_weight = 25 if weight < 100 else 100
    (judged,) = judge_custom_slos(
        known,
        [one],
        {"one": reading},
        spec=SPEC,
        block_seconds=5,
        baselines={},
        weight=weight,
        next_weight=next_weight,
        now=now,
    )
    mesh = gate.judge(gate.Evidence(), rules=GateRules(), weight=weight, next_weight=next_weight)
    return judged, assess(mesh, [judged])


WORSE = blocks(60, Counts(450, 4), Counts(50, 15))


def test_a_gate_that_is_observed_fails_and_has_no_say() -> None:
    observed = own(RATIO, Mode.OBSERVE)
    known = taken(checkpoint(), WORSE, [observed])
    judged, all_of_it = said(known, observed, SloReading(START), now=WORSE[-1].end)
    assert judged.verdict is Verdict.FAIL
    assert judged.numbers.mode is Mode.OBSERVE
    assert not all_of_it.legs.worse
    assert all_of_it.unmet == ()
    assert all_of_it.legs.main_metric != "one"


def test_the_mode_has_no_part_in_the_evidence() -> None:
    modes = [own(RATIO), own(RATIO, Mode.OBSERVE)]
    one, other = (taken(checkpoint(), WORSE, [gate]).custom_slos for gate in modes)
    assert one == other


@pytest.mark.parametrize("kind", [Verdict.NO_DATA, Verdict.QUERY_ERROR, Verdict.AMBIGUOUS])
def test_harm_that_is_proven_stays_so_without_an_answer(kind: Verdict) -> None:
    known = taken(checkpoint(), WORSE, [own(RATIO)])
    problem = QueryProblem(kind, "it is broken", START)
    _, all_of_it = said(known, own(RATIO), SloReading(START, problem=problem), now=WORSE[-1].end)
    assert all_of_it.legs.worse
    assert all_of_it.custom_slos[0].verdict is Verdict.FAIL
    assert all_of_it.summary(observed=True, at_full=False) == "worse (one)"


def test_at_full_weight_a_ratio_needs_a_reference() -> None:
    enough = blocks(20, Counts(10, 2), Counts(), first=-20)
    at_full = blocks(200, Counts(), Counts(50, 10))
    known = taken(checkpoint(), at_full, [own(RATIO)], weight=100)
    judged, all_of_it = said(known, own(RATIO), SloReading(START), weight=100, now=at_full[-1].end)
    assert (judged.verdict, all_of_it.legs.worse) == (Verdict.NO_DATA, False)
    assert f"{LEAST_REFERENCE:.0f} are needed" in judged.why
    assert "mode: Observe" in judged.why
    before = checkpoint(consumed_until=START - 100, observed_at=START - 100)
    evidence = ingest_custom_slos(
        before, [own(RATIO)], {"one": SloReading(blocks=enough)},
        spec=SPEC, weight=0, next_weight=100, observed_at=START - 100, restarted=False,
    )  # fmt: skip
    known = taken(checkpoint(custom_slos=evidence), at_full, [own(RATIO)], weight=100)
    judged, all_of_it = said(known, own(RATIO), SloReading(START), weight=100, now=at_full[-1].end)
    # A fifth went wrong on Heroku, too.
    assert (judged.verdict in (Verdict.NO_DATA, Verdict.FAIL), all_of_it.legs.worse) == (False, False)


NUMBERS = st.sampled_from([0.0, 1.0, 10.0, 500.0, -1.0, 1e13, 1e300, math.nan, math.inf, -math.inf])
TIMES = st.sampled_from([-1e9, START - 30, START, START + 5, START + 5, START + 30, START + 1e9])
COUNTS = st.builds(Counts, NUMBERS, NUMBERS)
BLOCKS = st.lists(
    st.builds(
        lambda at, length, heroku, eks, gap: Block(at, at + length, heroku, eks, gap),
        TIMES,
        st.sampled_from([5.0, 5.0, 30.0, 0.0, -5.0]),
        COUNTS,
        COUNTS,
        st.sampled_from(["", "", "missed"]),
    ),
    max_size=12,
).map(tuple)
READINGS = st.builds(
    SloReading,
    asked_at=TIMES,
    blocks=BLOCKS,
    points=st.lists(st.tuples(TIMES, NUMBERS), max_size=8).map(tuple),
    problem=st.none() | st.builds(QueryProblem, st.just(Verdict.QUERY_ERROR), st.just("it is broken"), TIMES),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    slo=st.sampled_from([RATIO, BOUND]),
    reading=READINGS,
    weight=st.sampled_from([0, 10, 60, 100]),
    now=TIMES,
    seen=st.booleans(),
)
def test_no_reading_makes_it_fall_over(
    slo: RatioSlo | BoundSlo, reading: SloReading, weight: int, now: float, seen: bool
) -> None:
    one = own(slo)
    known = taken(checkpoint(observed_at=START if seen else None), reading.blocks, [one], weight=weight)
    judged, all_of_it = said(known, one, reading, weight=weight, now=now)
    assert judged.sentence
    all_of_it.status({}, mesh=True)
    all_of_it.missing(now, started=True)
    assert all_of_it.safe is False or judged.verdict is Verdict.PASS
    for kept in known.custom_slos:
        # What cannot be read back begins anew, and would forget all that was known.
        assert gate.Evidence.load(json.loads(kept.evidence.text)).total[1].requests >= 0
