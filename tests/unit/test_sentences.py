"""The wording of what gates say. Everything else asserts the numbers that it is made from."""

from __future__ import annotations

from typing import Any

import pytest

from cutover.api.v1alpha1 import EvidenceStatus, GateCounts, GateKind, GateLimits, GateNumbers, GateRatios, LegCounts
from cutover.api.v1alpha1.gates import Mode
from cutover.domain.evidence.judge import DEFAULT_METRICS
from cutover.domain.evidence.numbers import limits_of
from cutover.domain.evidence.sentences import factor, limits, sentence


def comparison(
    eks: tuple[float, float], heroku: tuple[float, float] | None = None, harm: float = 0.3, **fields: Any
) -> GateNumbers:
    """A gate with (bad, total) of each leg."""
    ratios = {
        leg: bad / total if total else None for leg, (bad, total) in {"heroku": heroku or (0, 0), "eks": eks}.items()
    }
    return GateNumbers(
        **{
            "name": "errors",
            "verdict": "Undecided",
            "counts": GateCounts(heroku=LegCounts(*heroku) if heroku else None, eks=LegCounts(*eks)),
            "ratios": GateRatios(**ratios, tolerated=fields.pop("tolerated", None)),
            "evidence": EvidenceStatus(harm=harm, harm_limit=100),
            **fields,
        }
    )


def bound(value: float | None, outside: float | None = None, **tolerated: Any) -> GateNumbers:
    baseline = tolerated.pop("baseline", None)
    kept = GateLimits(**{"for_seconds": 120, **tolerated})
    return GateNumbers(
        name="cpu",
        verdict="Undecided",
        kind=GateKind.BOUND,
        limits=kept,
        value=value,
        outside_seconds=outside,
        baseline=baseline,
    )


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (
            comparison((72, 1310), (1, 4118), 195),
            "EKS 5.5 % vs Heroku 0.024 % over 1,310/4,118 requests; evidence of harm 195 of 100",
        ),
        (
            comparison((120, 4200), (380, 38_000), 160, mode=Mode.OBSERVE),
            "EKS 2.9 % vs Heroku 1.0 % over 4,200/38,000 requests; evidence of harm 160 of 100, only observed",
        ),
        (
            comparison((40, 60_000), tolerated=0.01),
            "EKS 0.067 % of 60,000 requests, no control, 1 % tolerated; evidence of harm 0.3 of 100",
        ),
        (
            comparison((40, 60_000)),
            (
                "EKS 0.067 % of 60,000 requests, no control, not judged: what is normal for Heroku is not known; "
                "evidence of harm 0.3 of 100"
            ),
        ),
        (
            comparison((0, 0), (300, 30_000), kind=GateKind.RATIO),
            "EKS no events vs Heroku 1.0 % over 0/30,000 events; evidence of harm 0.3 of 100",
        ),
        (
            comparison((0, 0), (0, 1000)),
            "EKS no answers vs Heroku 0.0 % over 0/1,000 requests; evidence of harm 0.3 of 100",
        ),
        (
            comparison((30, 100), (0, 100), 12.4, name="alive"),
            "EKS answered 70 requests well in the last minute, about 100 expected; evidence of harm 12 of 100",
        ),
        (
            comparison((0, 130), (0, 100), 0, name="alive"),
            "EKS answered 130 requests well in the last minute, about 100 expected; evidence of harm 0.0 of 100",
        ),
        (
            comparison((1, 100), name="alive"),
            "EKS answered 99 of 100 requests well in the last minute, no control; evidence of harm 0.3 of 100",
        ),
        (GateNumbers(name="errors", verdict="NoData"), "nothing was counted yet"),
        (bound(0.1, max=0.25), "0.1; tolerated is at most 0.25"),
        (bound(0.312346, 120, max=0.25), "0.3123, outside for 2 min; tolerated is at most 0.25"),
        (bound(0.31, 30, max=0.25), "0.31, outside for 30 s; tolerated is at most 0.25; fails after 2 min outside"),
        (bound(0.31, 0, max=0.25), "0.31, outside; tolerated is at most 0.25; fails after 2 min outside"),
        (bound(6, 150, min=2, max=5), "6, outside for 2 min 30 s; tolerated is at least 2 and at most 5"),
        (
            bound(1, 120, times_baseline=2, baseline=0.31),
            "1, outside for 2 min; tolerated is at most 0.62, 2 times the value before the migration (0.31)",
        ),
        (bound(None), "no value"),
    ],
)
def test_sentences(gate: GateNumbers, said: str) -> None:
    assert sentence(gate) == said


def test_limits() -> None:
    rule = DEFAULT_METRICS[0]
    said = limits(GateKind.COMPARATIVE, limits_of(rule.harm, rule.advance))
    assert said == "harm above 1.25 p + 0.1 %, safe within 1.5 p + 0.5 %"
    said = limits(GateKind.BOUND, GateLimits(max=0.25, times_baseline=2, for_seconds=90))
    assert said == "at most 0.25 and at most 2 times before, outside for less than 1m30s"


@pytest.mark.parametrize(
    ("harm", "said"), [(0.04, "0.0"), (9.94, "9.9"), (9.96, "10"), (123.4, "123"), (999, "999"), (1e9, "over 1,000")]
)
def test_evidence_in_as_many_digits_as_matter(harm: float, said: str) -> None:
    assert factor(harm) == said
