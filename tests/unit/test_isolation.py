"""With how many others a plan is asked about."""

from __future__ import annotations

import pytest

from cutover.services.isolation import REMEMBERED, Isolation

NOW = 1_800_000_000.0


@pytest.mark.parametrize(("plans", "most"), [(100, 13), (25, 4), (9, 2), (8, 1), (2, 1)])
def test_those_whose_query_fails_are_asked_about_in_parts_at_once(plans: int, most: int) -> None:
    isolation = Isolation()
    assert isolation.failed(plans, NOW) == 0
    assert isolation.most == most
    assert isolation.failures == 0


def test_who_fails_alone_is_asked_about_more_and_more_rarely() -> None:
    isolation = Isolation()
    assert [isolation.failed(1, NOW) for _ in range(6)] == [5, 10, 20, 40, 60, 60]
    assert isolation.most == 1
    isolation.answered()
    assert isolation.failed(1, NOW) == 5


def test_isolation_ends_where_the_plan_is_well_and_not_before() -> None:
    isolation = Isolation()
    assert not isolation.over(NOW)
    isolation.failed(2, NOW)
    isolation.answered()
    assert not isolation.over(NOW + REMEMBERED - 1)
    assert isolation.over(NOW + REMEMBERED)
    isolation.failed(1, NOW)
    assert not isolation.over(NOW + 10 * REMEMBERED), "one that still fails would make it fail for all again"
    isolation.answered()
    assert isolation.over(NOW + REMEMBERED)


def test_a_clock_that_was_set_back_prolongs_nothing() -> None:
    isolation = Isolation()
    isolation.failed(2, NOW)
    isolation.answered()
    assert isolation.over(NOW - 1)
