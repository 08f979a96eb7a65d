"""A scenario that has ended leaves the cores to those that still run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.e2e.playing import RATE, scenario, set_rate, start

from sandbox.environment import Environment
from sandbox.manifests import public_host


class PlayedUsers:
    """The load generator, with the requests per second to each host."""

    def __init__(self) -> None:
        self.rates: dict[str, float] = {}

    def set_rate(self, host: str, rate: float) -> float:
        self.rates[host] = rate
        return 0.0


@pytest.mark.parametrize("fails", [False, True])
def test_a_scenario_that_ends_has_no_users_any_more(*, fails: bool) -> None:
    users = PlayedUsers()
    environment = cast("Environment", SimpleNamespace(load=users, apply=lambda _: None))

    @scenario("pdf", "moved", minutes=1)
    def play(environment: Environment) -> None:
        start(environment, {"metadata": {"name": "pdf"}})
        set_rate(environment, "moved", 2 * RATE)
        assert users.rates == {public_host("pdf"): RATE, public_host("moved"): 2 * RATE}
        if fails:
            raise TimeoutError("not within a minute")

    played: Any = cast("Any", play).scenario
    if fails:
        with pytest.raises(TimeoutError):
            played(environment)
    else:
        played(environment)
    assert users.rates == dict.fromkeys(map(public_host, ("pdf", "moved")), 0)
