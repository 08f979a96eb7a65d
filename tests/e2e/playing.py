"""How scenarios are made into tests, started and brought to their ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import Json

Scenario = Callable[[Environment], None]

#: Requests per second to each service that a scenario uses. Evidence of safety grows to what a step needs in 75 s, as each block
#: may say only so much: more requests would take the cores and no less time, and with 30 it takes longer by chance.
RATE = 50.0
#: The same where so little time is given that a block needs many.
BUSY = 100.0


def scenario(service: str, *others: str, minutes: float) -> Callable[[Scenario], Any]:
    """Make a test of a scenario that runs beside the others, on a service of its own.

    Parameters
    ----------
    service
        Its service.
    others
        Services that it needs besides, without a plan.
    minutes
        How long it takes, roughly: the longest begin first, the others when one has ended.
    """

    def wrap(play: Scenario) -> Any:
        @pytest.mark.scenario(service, minutes=minutes)
        @pytest.mark.uses(*others)
        def test(running: dict[str, Future[None]]) -> None:
            running[service].result()

        def played(environment: Environment) -> None:
            began = time.monotonic()
            try:
                play(environment)
            finally:
                # The cores are for the scenarios that still run.
                for mine in (service, *others):
                    set_rate(environment, mine, 0)
                print(f"{service}: ended after {time.monotonic() - began:.0f} s")

        test.scenario = played  # type: ignore[attr-defined]
        test.__doc__ = play.__doc__
        return test

    return wrap


def set_rate(environment: Environment, service: str, rate: float) -> float:
    """Change the requests per second to a service; return when, in unix seconds."""
    assert environment.load is not None
    return environment.load.set_rate(manifests.public_host(service), rate)


def start(environment: Environment, manifest: Json, rate: float = RATE) -> None:
    """Have users come to a service, and apply its plan."""
    set_rate(environment, manifest["metadata"]["name"], rate)
    environment.apply(manifest)


def rolled_back(environment: Environment, service: str, seconds: float) -> Json:
    """Wait until a plan has come back, in every respect; return its status."""
    environment.until_status(service, seconds, phase="RolledBack")
    status = environment.status(service)
    assert status["weight"] == 0
    assert environment.routed_weight(service) == 0
    assert [c["status"] for c in status["conditions"] if c["type"] == "RolledBack"] == ["True"]
    return status


def decisions(status: Json, *kinds: str) -> list[Json]:
    """Return the ledger's entries of these kinds, oldest first."""
    return [entry for entry in status["ledger"] if entry["decision"] in kinds]


def path(status: Json) -> list[int]:
    """Return the weights that a plan was moved to, back ones included."""
    return [entry["toWeight"] for entry in decisions(status, "Advance", "RollBack")]
