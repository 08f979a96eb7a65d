"""A stack for all scenarios of a run.

Scenarios that leave the stack alone run side by side, each on a service of its own: a cutover is mostly waiting, and on
one machine the whole set takes little longer than its slowest member. A test is then the wait for its scenario. What
disturbs the whole stack has one of its own in another run (`hack/run_tests.py`), or comes after them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain, zip_longest
from pathlib import Path

import pytest

from sandbox.environment import Environment

from .heroku_api import heroku_api
from .playing import Scenario, set_rate
from .readers import readers
from .recorded import DRAIN_NAMESPACE, RECORDED

#: Scenarios at once; the next begins when one has ended. They send 200 to 500 requests a second. With 600, requests
#: wait for seconds on two cores that other tests use, too.
_AT_ONCE = 7


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Wait for scenarios in the order in which they begin; have a long test that disturbs the stack and a short one follow.

    No test waits long then for a scenario that has yet to begin, and each worker begins with two tests in a row
    (`hack/run_tests.py`).
    """

    def minutes(item: pytest.Item, mark: str = "uses") -> float:
        found = item.get_closest_marker(mark)
        return float(found.kwargs.get("minutes", 0)) if found is not None else 0.0

    mine = [item for item in items if item.path.parent == Path(__file__).parent]
    scenarios = [item for item in mine if item.get_closest_marker("scenario") is not None]
    scenarios.sort(key=lambda item: minutes(item, "scenario"), reverse=True)
    disturbing = sorted(filter(minutes, mine), key=minutes, reverse=True)
    half = (len(disturbing) + 1) // 2
    pairs = zip_longest(disturbing[:half], reversed(disturbing[half:]))
    ordered = [*scenarios, *filter(None, chain.from_iterable(pairs))]
    ordered += [item for item in mine if item not in ordered]
    for place, item in zip([items.index(item) for item in mine], ordered, strict=True):
        items[place] = item


def scenarios_of(request: pytest.FixtureRequest) -> dict[str, Scenario]:
    """Return the scenarios of the selected tests, in their order, by the service that each has for itself."""
    marked = [(item.get_closest_marker("scenario"), item) for item in request.session.items]
    return {mark.args[0]: item.obj.scenario for mark, item in marked if mark is not None}


def services_of(request: pytest.FixtureRequest) -> list[str]:
    """Return the services that the selected tests use."""
    marked = (item.iter_markers("uses") for item in request.session.items)
    used = (service for marks in marked for mark in marks for service in mark.args)
    return list(dict.fromkeys([*scenarios_of(request), *used]))


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A stack with a service for each scenario, and those of the other tests.

    Its second gateway is away but for the test that is about it: two are scraped at different moments, and what the
    other scenarios measure would depend on which of them has the first of the failures.
    """
    services = services_of(request)
    state = tmp_path_factory.mktemp("e2e")
    settings = {"CUTOVER_HEROKU_API_URL": heroku_api().url, "CUTOVER_DRAIN_NAMESPACE": DRAIN_NAMESPACE}
    if scenarios_of(request):
        settings |= readers().settings
    backfill = "20d" if RECORDED in services else ""
    with Environment(state, services, gateways=2, settings=settings, backfill=backfill, log=print) as running:
        running.stack.stop_process("envoy-1")
        running.start_load(dict.fromkeys(services, 0.0))
        yield running
        _keep_logs(running, request.config.rootpath / "out" / "e2e")


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest, environment: Environment) -> Iterator[dict[str, Future[None]]]:
    """All side-by-side scenarios, started."""
    scenarios = scenarios_of(request)
    if scenarios and "PYTEST_XDIST_WORKER" in os.environ:
        raise pytest.UsageError(
            "scenarios: run them without -n, as each worker would play all of them on a stack of its own"
        )
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        yield {service: pool.submit(scenario, environment) for service, scenario in scenarios.items()}


@pytest.fixture
def alone(environment: Environment, running: dict[str, Future[None]]) -> Environment:
    """The stack without anybody else: all scenarios have ended, well or not, and no users come."""
    wait(running.values())
    for service in environment.services:
        set_rate(environment, service, 0)
    return environment


def _keep_logs(environment: Environment, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Runs and workers beside each other have a stack each.
    which = "-".join((os.environ.get("PYTEST_XDIST_WORKER", "all"), environment.services[0]))
    (folder / f"operator-{which}.log").write_text(environment.operator_log())
