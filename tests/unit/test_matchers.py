"""Matchers in every selector of a query, or the query is refused."""

from __future__ import annotations

import pytest

from cutover.domain.evidence.selectors import matcher
from cutover.domain.slo.matchers import MatchersError, with_matchers

PROD = {"cluster": "prod"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("up", 'up{cluster="prod"}'),
        ("up{}", 'up{cluster="prod"}'),
        ('up{ job="a" }[5m]', 'up{cluster="prod", job="a" }[5m]'),
        ('{job="a"}', '{cluster="prod",job="a"}'),
        ("job:errors:rate5m", 'job:errors:rate5m{cluster="prod"}'),
        (
            "sum by (cluster, job) (rate(a[5m])) / on (job) group_left (team) sum without (pod) (b offset 5m)",
            'sum by (cluster, job) (rate(a{cluster="prod"}[5m])) / on (job) group_left (team) sum without (pod) (b{cluster="prod"} offset 5m)',
        ),
        ("sum(a) by (job)", 'sum(a{cluster="prod"}) by (job)'),
        ("max_over_time(a[1h:5m]) > bool 2", 'max_over_time(a{cluster="prod"}[1h:5m]) > bool 2'),
        ("a @ start() and b @ 12.5", 'a{cluster="prod"} @ start() and b{cluster="prod"} @ 12.5'),
        ("quantile_over_time(0.9, a[5m]) - 1e3 * Inf", 'quantile_over_time(0.9, a{cluster="prod"}[5m]) - 1e3 * Inf'),
        ('label_replace(a, "b", "$1", "c", "(.*)")', 'label_replace(a{cluster="prod"}, "b", "$1", "c", "(.*)")'),
        ("a # b{x}\n + c", 'a{cluster="prod"} # b{x}\n + c{cluster="prod"}'),
        ('a{b="c{d", e=~`f"}`}', 'a{cluster="prod",b="c{d", e=~`f"}`}'),
        ('{"a.b", c="d"}', '{cluster="prod","a.b", c="d"}'),
        ('a{cluster="staging"}', 'a{cluster="prod",cluster="staging"}'),
        ("vector(1)", "vector(1)"),
        ("new_function_of_next_year(a)", 'new_function_of_next_year(a{cluster="prod"})'),
        ("offset_total + by_day", 'offset_total{cluster="prod"} + by_day{cluster="prod"}'),
    ],
)
def test_matchers_are_in_each_selector_and_nowhere_else(query: str, expected: str) -> None:
    assert with_matchers(query, PROD) == expected


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ('a{b="c" or d="e"}', "`or` in its braces"),
        ("a{", "not understood"),
        ("a b", "not understood"),
        ('a{b="c}', "not understood"),
    ],
)
def test_a_query_that_may_ask_of_other_clusters_is_refused(query: str, why: str) -> None:
    with pytest.raises(MatchersError, match=why):
        with_matchers(query, PROD)


def test_values_are_literal_and_the_operators_own_selectors_are_served() -> None:
    own = "istio_requests_total{" + matcher("destination_service", ["a.b", 'c"}\\ or vector(1)']) + "}[52500ms]"
    matched = with_matchers(own, {"cluster": 'p"} or up{x="', "env": "a\\b"})
    assert matched == own.replace("{", '{cluster="p\\"} or up{x=\\"",env="a\\\\b",', 1)
    assert with_matchers(own, {}) is own
