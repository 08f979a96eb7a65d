"""A VirtualService of the team's own, from before the plan to after it, as users see it at the gateway."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

from tests.kit.waiting import until

from demoapps.records import Record
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json

from .observing import NAMED, at_weight, within_sampling_bounds
from .playing import RATE, path, scenario, set_rate
from .team_routes import in_own, own_heroku, to_delegate, to_heroku, virtual_service

STEPS = [{"weight": weight, "hold": "10s"} for weight in (25, 100)]
DISABLED = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}


def read(environment: Environment, service: str) -> Json:
    found: Json = environment.api.call(
        f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices/team-{service}"
    )
    return found


@contextmanager
def every_second(write: Callable[[], None]) -> Iterator[None]:
    """Have somebody else write all the time."""
    ended = Event()

    def work() -> None:
        while not ended.wait(1.0):
            write()

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def plan(service: str, ownership: str) -> Json:
    """Return a plan that works with the team's VirtualService."""
    return manifests.plan(service, gates=NAMED, steps=STEPS, soak="10s", traffic=in_own(service, ownership))


@scenario("delegate", minutes=3.75)
def test_a_root_in_git_that_delegates(environment: Environment) -> None:
    """Users are served before, while and after the delegate comes; Flux applies the root every second."""
    plain = virtual_service("delegate", {"route": [to_heroku("delegate")]})
    root = virtual_service(
        "delegate",
        to_delegate("delegate"),
        {"route": [to_heroku("delegate")]},
    )
    environment.stack.apply([*own_heroku(environment, "delegate"), plain], field_manager="kustomize-controller")
    set_rate(environment, "delegate", RATE)
    time.sleep(5)
    started = time.time()
    environment.apply(plan("delegate", "Delegate"))
    environment.until_status("delegate", 30, reason="PreflightFailed")
    message = environment.status("delegate")["message"]
    assert f"- delegate: {{name: cutover-delegate, namespace: {NAMESPACE}}}" in message
    # The line is there for some seconds before what it names.
    with every_second(lambda: environment.stack.apply([root], field_manager="kustomize-controller")):
        environment.until_status("delegate", 240, phase="Completed")
    status = environment.status("delegate")
    assert path(status) == [25, 100]
    _check_users(environment, "delegate", started, {"": 0, "a1-w0": 0, "a1-w25": 25, "a1-w100": 100})
    assert "cutover" not in {entry["manager"] for entry in read(environment, "delegate")["metadata"]["managedFields"]}


@scenario("adopt", "bystander", minutes=0.75)
def test_a_virtual_service_that_is_adopted_and_given_back(environment: Environment) -> None:
    """Nobody's request fails; a third destination keeps its tenth; another route is left alone; the plan's end brings everything back."""
    third = {"destination": {"host": "bystander", "port": {"number": 80}}, "weight": 10}
    other = {"match": [{"uri": {"prefix": "/elsewhere"}}], "route": [{"destination": third["destination"]}]}
    root = virtual_service(
        "adopt", other, {"route": [{**to_heroku("adopt"), "weight": 90}, third]}, annotations=DISABLED
    )
    environment.stack.apply([*own_heroku(environment, "adopt"), root], field_manager="kustomize-controller")
    before = read(environment, "adopt")["spec"]
    set_rate(environment, "adopt", RATE)
    time.sleep(5)
    started = time.time()

    def flux() -> None:
        if read(environment, "adopt")["metadata"]["annotations"].get(next(iter(DISABLED))) != "disabled":
            environment.stack.apply([root], field_manager="kustomize-controller")

    with every_second(flux):
        environment.apply(plan("adopt", "Adopt"))
        at_weight(environment, "adopt", 25, 120)
        routes = read(environment, "adopt")["spec"]["http"]
        assert [route["name"] for route in routes[:2]] == ["heroku-probe", "eks-probe"]
        assert routes[2] == other
        environment.stack.kubectl("-n", NAMESPACE, "annotate", "mplan", "adopt", "cutover.dev/rollback=a1")
        environment.until_status("adopt", 60, phase="RolledBack")
        # The rollback's route has to answer some requests before the deletion replaces it.
        until(
            "users on the rollback's route",
            lambda: len(_judged(environment, "adopt", started, "a1-rollback")) > 60,
            30,
        )
        environment.stack.kubectl("-n", NAMESPACE, "delete", "mplan", "adopt", "--timeout=30s")
        assert read(environment, "adopt")["spec"] == before
        time.sleep(5)
    # The third destination's app calls itself EKS, too: a tenth, and a quarter of the rest.
    _check_users(environment, "adopt", started, {"a1-w0": 10, "a1-w25": 32, "a1-rollback": 10, "": 10})


def _check_users(environment: Environment, service: str, since: float, weights: dict[str, int]) -> None:
    """See that no request failed, and which percent of each revision's requests the EKS apps have answered."""
    assert environment.load is not None
    environment.load.settle(time.time() - 1, manifests.public_host(service))
    records = _judged(environment, service, since)
    failed = [str(record) for record in records if record.failed]
    assert failed == [], failed[:5]
    for revision, weight in weights.items():
        legs = Counter(record.leg for record in records if record.revision == revision)
        print(service, revision or "(none)", legs, weight)
        assert legs.total() > 20, revision
        assert within_sampling_bounds(legs["eks"], legs.total(), weight), (revision, legs)


def _judged(environment: Environment, service: str, since: float, revision: str | None = None) -> list[Record]:
    """Return the users' finished requests since a time (unix seconds), of one revision if it is given."""
    assert environment.load is not None
    return [
        record
        for record in environment.load.records(manifests.public_host(service), since)
        if record.judged and revision in (None, record.revision)
    ]
