"""What users get from before a takeover to after the routes are given back: nothing that fails, is cut or is different."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from cutover.domain.engine.phases.rest import FRESH_SECONDS
from demoapps.load import Target
from demoapps.records import Record
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json

from .long_requests import LongRequests
from .playing import scenario
from .sockets import Sockets
from .team_routes import in_own, own_heroku, to_delegate, to_heroku, virtual_service

#: All steps, long requests of a minute and Heroku's own 30 s until the first byte, in `make test-long`.
FULL = os.environ.get("OUTAGES") == "full"
FIRST_BYTE, LASTING = ("30s", 60) if FULL else ("4s", 7)
WEIGHTS = (10, 25, 50, 100) if FULL else (50, 100)
MINUTES = 10 if FULL else 3.25
#: A page with what real ones have, the same on both legs.
PAGE = "/article/7"
#: Pages a second of each service, beside what lasts.
RATE = 30.0
#: Seconds for which users come in each state of the routes that is not a step.
A_WHILE = 3.0


class Users:
    """Everybody who uses a service, and what they got."""

    def __init__(self, environment: Environment, service: str) -> None:
        self.environment, self.service = environment, service
        self.hosts = [manifests.public_host(service)]
        self.long, self.sockets = LongRequests(environment, service, LASTING), Sockets(environment, service)
        self.since = time.time()

    def come(self, *, by: str | None = None) -> None:
        """Have users come through the gateway, or by another address as well as DNS has it; and stay a while."""
        load = self.environment.load
        assert load is not None
        for host in self.hosts:
            load.put(Target(host, RATE / len(self.hosts), PAGE, url=by))
        time.sleep(A_WHILE)

    def move(self, ownership: str) -> None:
        """Apply a plan."""
        traffic = in_own(self.service, ownership, firstByteTimeout=FIRST_BYTE)
        if ownership == "Generate":
            del traffic["istio"]["virtualServiceRef"]
            traffic["istio"]["hosts"] += [f"*.{host}" for host in traffic["istio"]["hosts"]]
        self.environment.apply(self.plan(traffic))

    def plan(self, traffic: Json) -> Json:
        gates = {"block": "5s", "warmUp": "5s", "slos": [{"name": "errors", "errors": {}}]}
        steps = [{"weight": weight, "hold": "10s"} for weight in WEIGHTS]
        return manifests.plan(self.service, gates=gates, steps=steps, soak="10s", traffic=traffic)

    def go_back(self) -> None:
        """Have a person roll back when all is over."""
        self.environment.stack.kubectl("-n", NAMESPACE, "annotate", "mplan", self.service, "cutover.dev/rollback=a1")

    def are_back(self) -> float:
        """Wait until they are on Heroku again, and stay a while; return when they were, in unix seconds."""
        self.environment.until_status(self.service, 60, phase="RolledBack")
        rolled_back = time.time()
        time.sleep(A_WHILE)
        return rolled_back

    def delete_plan(self) -> None:
        """Delete the plan and wait for its end; then users come for a while."""
        self.environment.stack.kubectl("-n", NAMESPACE, "delete", "mplan", self.service, "--timeout=60s")
        time.sleep(A_WHILE)

    def noticed_nothing(self, rolled_back: float, *, given_back: bool) -> None:
        """See that nobody got anything else than before.

        Parameters
        ----------
        rolled_back
            Unix seconds.
        given_back
            Whether the team's own routes serve again.
        """
        load = self.environment.load
        assert load is not None
        for host in self.hosts:
            load.settle(load.set_rate(host, 0), host)
        found = sorted((record for host in self.hosts for record in load.records(host, self.since)), key=_by_time)
        records = [record for record in found if record.judged]
        failed = [str(record) for record in records if record.failed]
        assert failed == [], f"{len(failed)} of {len(records)}: {failed[:5]}"
        # One answer for all, in status, headers and body.
        assert {record.answer for record in records} == {records[0].answer}, _by_answer(records)
        passed = [record.revision for record in records]
        wanted = ["", *(f"a1-w{weight}" for weight in (0, *WEIGHTS)), "a1-rollback", *([""] if given_back else [])]
        assert _in_order(wanted, passed), sorted(set(passed))
        self._check_long()
        self._check_sockets(rolled_back)
        print(
            f"{self.service}: {len(records)} pages, {len(self.long.ended)} requests of {LASTING} s,"
            f" {len(self.sockets.opened)} sockets"
        )

    def _check_long(self) -> None:
        broken = [request for request in self.long.ended if request.problem]
        assert broken == [], f"{len(broken)} of {len(self.long.ended)}: {broken[:5]}"
        for what in ("stream", "upload", "download"):
            seen = {(one.revision, one.leg) for one in self.long.ended if one.what == what}
            assert seen >= {("a1-w0", "heroku"), ("a1-w100", "eks"), ("a1-rollback", "heroku")}, what

    def _check_sockets(self, rolled_back: float) -> None:
        """Each stays on the leg that it was opened on, through all steps and a rollback."""
        sockets = self.sockets.opened
        assert [socket for socket in sockets if socket.problem] == []
        assert {len(socket.legs) for socket in sockets} == {1}
        stayed = [socket for socket in sockets if socket.opened < rolled_back < socket.ended]
        assert {leg for socket in stayed for leg in socket.legs} == {"heroku", "eks"}
        after = [socket for socket in sockets if socket.opened > rolled_back]
        assert {leg for socket in after for leg in socket.legs} == {"heroku"}


def _by_time(record: Record) -> float:
    return record.at


def _in_order(wanted: list[str], seen: list[str]) -> bool:
    left = iter(seen)
    return all(one in left for one in wanted)


def _by_answer(records: Sequence[Record]) -> dict[str, tuple[int, set[tuple[str, str]]]]:
    return {
        answer: (
            sum(record.answer == answer for record in records),
            {(record.leg, record.revision) for record in records if record.answer == answer},
        )
        for answer in {record.answer for record in records}
    }


@scenario("unnoticed-generate", minutes=MINUTES)
def test_a_host_that_comes_to_the_gateway_with_the_plan(environment: Environment) -> None:
    """Users come by Heroku's own address until the route is there; then DNS sends them to the gateway. Some are tenants."""
    users = Users(environment, "unnoticed-generate")
    users.hosts.append(f"tenant.{users.hosts[0]}")
    users.come(by=f"https://127.0.0.1:{environment.apps.heroku_port}")
    users.move("Generate")
    environment.until_status(users.service, 60, phase="Baseline")
    users.come()
    with users.long, users.sockets:
        environment.until_status(users.service, 1200, phase="Completed")
        users.go_back()
        rolled_back = users.are_back()
        users.delete_plan()
    users.noticed_nothing(rolled_back, given_back=False)


@scenario("unnoticed-adopt", minutes=MINUTES)
def test_a_route_that_is_adopted(environment: Environment) -> None:
    users = Users(environment, "unnoticed-adopt")
    _served_by(users, virtual_service(users.service, {"route": [to_heroku(users.service)]}))
    with users.long, users.sockets:
        users.move("Adopt")
        environment.until_status(users.service, 1200, phase="Completed")
        users.go_back()
        rolled_back = users.are_back()
        users.delete_plan()
    users.noticed_nothing(rolled_back, given_back=True)


@scenario("unnoticed-delegate", minutes=MINUTES)
def test_a_root_that_delegates(environment: Environment) -> None:
    """And Heroku is away when it is asked to take back: nobody is sent there."""
    users = Users(environment, "unnoticed-delegate")
    own = virtual_service(users.service, {"route": [to_heroku(users.service)]})
    root = virtual_service(users.service, to_delegate(users.service), {"route": [to_heroku(users.service)]})
    _served_by(users, own)
    with users.long, users.sockets:
        environment.stack.apply([root])
        users.move("Delegate")
        environment.until_status(users.service, 1200, phase="Completed")
        time.sleep(FRESH_SECONDS)
        environment.knobs("heroku", users.service).set(down=True)
        users.go_back()
        environment.until_status(users.service, 60, reason="HerokuCannotTakeBack")
        assert environment.routed_weight(users.service) == 100
        environment.knobs("heroku", users.service).set(down=False)
        rolled_back = users.are_back()
        environment.stack.apply([own])
        users.delete_plan()
    users.noticed_nothing(rolled_back, given_back=True)


def _served_by(users: Users, own: Json) -> None:
    """Have users come by the team's own route, once the gateway has it."""
    objects = [*own_heroku(users.environment, users.service), own]
    users.environment.stack.apply(objects, field_manager="kubectl-edit")
    time.sleep(A_WHILE)
    users.since = time.time()
    users.come()
