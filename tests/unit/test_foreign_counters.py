"""Counters that name the gateways and are of other scrape targets: what people are told of them."""

from __future__ import annotations

import pytest

from cutover.services.foreign_counters import ForeignCounters, foreign_counters_of

CLAIM = "source_workload_namespace"


def item(number: str, claim: str = "istio-ingress", **labels: str) -> dict[str, object]:
    return {"metric": {CLAIM: claim, **labels}, "value": [1_800_000_000.0, number]}


def test_nothing_is_said_of_nothing() -> None:
    assert foreign_counters_of([], CLAIM) == ForeignCounters()
    assert ForeignCounters().sentence == ""


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        ({"namespace": "hostile", "job": "apps"}, "3 counters of job apps (namespace hostile)"),
        ({"job": "kubernetes-pods"}, "3 counters of job kubernetes-pods (no namespace)"),
        ({"namespace": "", "job": "a"}, "3 counters of job a (no namespace)"),
        ({"namespace": "n" * 500, "job": "j" * 500}, f"3 counters of job {'j' * 79}… (namespace {'n' * 69}…)"),
    ],
)
def test_their_targets_are_named(labels: dict[str, str], told: str) -> None:
    found = foreign_counters_of([item("3", **labels)], CLAIM)
    assert found.counters == 3
    assert found.sentence.startswith(f"{told} name istio-ingress, and do not count: ")


def test_targets_of_one_gateways_namespace_are_told_together() -> None:
    found = foreign_counters_of(
        [
            item("3", job="b", namespace="y"),
            item("4", job="a", namespace="x"),
            item("5", "edge", job="c", namespace="z"),
        ],
        CLAIM,
    )
    assert found.counters == 12
    assert found.told == {
        "istio-ingress": "3 counters of job b (namespace y), 4 counters of job a (namespace x)",
        "edge": "5 counters of job c (namespace z)",
    }
    assert "name istio-ingress and 5 counters of job c (namespace z) name edge, and do not count" in found.sentence


@pytest.mark.parametrize("odd", [{"metric": {}, "value": [1, "3"]}, {"metric": {CLAIM: "x"}}, item("x")])
def test_another_shape_is_refused(odd: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        foreign_counters_of([odd], CLAIM)
