"""One stack for all scenarios.

Scenarios that leave the stack alone run side by side, each on a service of its own: a cutover is mostly waiting, and on
one machine the whole set takes little longer than its slowest member. A test is then the wait for its scenario.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from sandbox.environment import Environment

Scenario = Callable[[Environment], None]

#: Requests per second to each service that a scenario uses.
RATE = 50.0


def scenarios_of(request: pytest.FixtureRequest) -> dict[str, Scenario]:
    """Return the selected tests' scenarios, by the service that each has for itself."""
    marked = ((item.get_closest_marker("scenario"), item) for item in request.session.items)
    return {mark.args[0]: item.obj.scenario for mark, item in marked if mark is not None}


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """A stack with a service for each scenario, and one for each outage."""
    services = [*scenarios_of(request), "survivor", "relapse"]
    state = tmp_path_factory.mktemp("e2e")
    with Environment(state, services, log=print) as running:
        running.start_load(dict.fromkeys(services, 0.0))
        yield running
        _keep_logs(running, request.config.rootpath / "out" / "e2e")


@pytest.fixture(scope="session")
def running(request: pytest.FixtureRequest, environment: Environment) -> Iterator[dict[str, Future[None]]]:
    """All side-by-side scenarios, started."""
    scenarios = scenarios_of(request)
    with ThreadPoolExecutor(max_workers=max(len(scenarios), 1)) as pool:
        yield {service: pool.submit(scenario, environment) for service, scenario in scenarios.items()}


def _keep_logs(environment: Environment, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "operator.log").write_text(environment.operator_log())
