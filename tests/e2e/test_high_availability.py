"""Two operators, one of which acts. It is killed, frozen and cut off under a running cutover, and the other goes on."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.kit.chart import lease_rights

from cutover.adapters.kube.lease import TIMING
from cutover.kopf_app.handlers import START_SPREAD
from cutover.main import EXIT_LEASE_LOST
from sandbox import manifests
from sandbox.environment import Environment
from sandbox.interposer import Fault, Interposer
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE
from sandbox.operator_process import OperatorProcess

from .observing import UNHURRIED, at_weight, judged_until, plan, rescue, within_sampling_bounds
from .playing import decisions, path, start

LEASE = f"{OPERATOR_NAMESPACE}/{OPERATOR_ACCOUNT}"
#: Seconds until another one acts: the lease, the look that finds it over, that request; and room on a busy machine.
TAKEOVER = TIMING.lease + 2 * TIMING.retry + 5


@dataclass(frozen=True)
class Candidate:
    """An operator, and the line by which it reaches the API server."""

    operator: OperatorProcess
    line: Interposer
    kubeconfig: Path

    def start(self) -> None:
        self.operator.start(CUTOVER_LEASE=LEASE, CUTOVER_KUBECONFIG=str(self.kubeconfig))

    def written(self, since: float) -> list[str]:
        """Return what it tried to write from a time on (unix seconds)."""
        return [f"{one.method} {one.path}" for one in self.line.seen(since) if one.method != "GET"]

    def routes_answered(self, since: float) -> list[int]:
        """Return what the API server answered to its writes of VirtualServices from a time on (unix seconds)."""
        written = (one for one in self.line.seen(since) if one.method == "PUT" and "/virtualservices/" in one.path)
        return [one.status for one in written]


@pytest.fixture
def pair(alone: Environment, tmp_path: Path) -> Iterator[tuple[Candidate, Candidate]]:
    """Two operators instead of one; the first acts."""
    environment = alone
    environment.stop_operator(signal.SIGTERM)
    environment.stack.apply(lease_rights())
    account = environment.stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
    candidates: list[Candidate] = []
    with ExitStack() as stack:
        for name in ("first", "second"):
            line = stack.enter_context(Interposer(tmp_path, environment.stack.kubeconfig, name=name))
            operator = environment.another_operator(f"operator-{name}")
            candidates.append(Candidate(operator, line, line.through(account)))
        try:
            first, second = candidates
            first.start()
            environment.until("the first acts", first.operator.leading, TAKEOVER)
            second.start()
            yield first, second
        finally:
            for one in candidates:
                one.line.tell("pass")
                one.line.inject()
                if one.operator.pid is not None:
                    one.operator.send(signal.SIGCONT)
                # Who acts gives the lease back.
                one.operator.stop(signal.SIGTERM)
                print(f"--- {one.operator.name}\n{one.operator.log()[-5000:]}")
            environment.start_operator()


@pytest.mark.uses("heir", minutes=3.5)
def test_another_one_goes_on_where_the_first_has_ended(alone: Environment, pair: tuple[Candidate, Candidate]) -> None:
    """Killed at 10 %; frozen between the status and the route of 25 %, to wake up after the other has rolled back."""
    environment, (first, second) = alone, pair
    steps = [{"weight": 10, "hold": "75s"}, {"weight": 25, "hold": "10m"}, {"weight": 100}]
    start(environment, plan("heir", UNHURRIED, steps=steps))

    at_weight(environment, "heir", 10)
    time.sleep(10)
    killed = time.time()
    first.operator.stop()
    took = environment.until("the second acts", second.operator.leading, TAKEOVER) - killed
    print(f"killed: another one acts after {took:.1f} s")
    second.line.inject(Fault("hold", methods=("PUT",), path="/virtualservices/cutover-heir"))
    first.start()
    judged = judged_until(environment, "heir", killed)
    print("killed at 10 %:", judged)
    assert 0.9 * judged.sent <= judged.samples <= judged.most

    environment.until("25 % is on its way to the route", lambda: second.line.held() == 1, 120)
    frozen = second.operator.send(signal.SIGSTOP)
    assert (environment.status("heir")["weight"], environment.routed_weight("heir")) == (25, 10)
    took = environment.until("the first acts again", first.operator.leading, TAKEOVER) - frozen
    print(f"frozen: another one acts after {took:.1f} s")
    at_weight(environment, "heir", 25, 60)
    onset = environment.knobs("eks", "heir").set(refuse=True)
    environment.until_status("heir", 90, phase="RolledBack")
    print("harm at 25 %:", rescue(environment, "heir", onset))

    version = environment.virtual_service("heir")["metadata"]["resourceVersion"]
    second.line.release()
    environment.until("its write is refused", lambda: second.routes_answered(frozen - 60) == [409], 30)
    thawed = second.operator.send(signal.SIGCONT)
    second.operator.until_gone()
    assert second.operator.exit_code == EXIT_LEASE_LOST
    assert second.written(thawed) == []
    assert environment.virtual_service("heir")["metadata"]["resourceVersion"] == version

    status = environment.status("heir")
    assert path(status) == [10, 25, 0]
    assert len(decisions(status, "RollBack")) == 1
    _only_what_was_decided(environment, "heir", ["a1-w0", "a1-w10", "a1-w25", "a1-rollback"], onset)


@pytest.mark.uses("cutoff", "halfway", minutes=2)
def test_another_one_rolls_back_and_finishes_a_rollback(alone: Environment, pair: tuple[Candidate, Candidate]) -> None:
    """Cut off while one EKS leg goes bad; the next is killed when it has rolled back the route of another."""
    environment, (first, second) = alone, pair
    steps = [{"weight": 10, "hold": "10m"}, {"weight": 100}]
    for service in ("cutoff", "halfway"):
        start(environment, plan(service, steps=steps))
    for service in ("cutoff", "halfway"):
        at_weight(environment, service, 10)
    time.sleep(10)

    cut = first.line.tell("hang")
    onset = environment.knobs("eks", "cutoff").set(refuse=True)
    took = environment.until("the second acts", second.operator.leading, TAKEOVER) - cut
    environment.until_status("cutoff", 60, phase="RolledBack")
    saved = rescue(environment, "cutoff", onset)
    print(f"cut off as harm begins: another one acts after {took:.1f} s;", saved)
    # All that it needed to know was in Prometheus already.
    assert saved.seconds < TAKEOVER + START_SPREAD + 5
    first.operator.until_gone()
    assert first.operator.exit_code == EXIT_LEASE_LOST
    (back,) = decisions(environment.status("cutoff"), "RollBack")
    print("cause:", back["reason"], "|", back["message"])
    _only_what_was_decided(environment, "cutoff", ["a1-w0", "a1-w10", "a1-rollback"], onset)

    first.line.tell("pass")
    first.start()
    second.line.inject(Fault("hang", methods=("PUT",), path="/migrationplans/halfway/status"))
    onset = environment.knobs("eks", "halfway").set(refuse=True)
    environment.until("the route is rolled back", lambda: environment.routed_weight("halfway") == 0, 60, every=0.05)
    second.operator.stop()
    killed = time.time()
    status = environment.status("halfway")
    assert (status["phase"], status["weight"]) == ("Shifting", 10)
    environment.until_status("halfway", TAKEOVER + 30, phase="RolledBack")
    print(
        f"killed in mid-rollback: finished {time.time() - killed:.1f} s later;", rescue(environment, "halfway", onset)
    )
    (back,) = decisions(environment.status("halfway"), "RollBack")
    print("cause:", back["reason"], "|", back["message"])
    assert back["reason"] == "EvidenceOfHarm", "what led to it is kept"
    _only_what_was_decided(environment, "halfway", ["a1-w0", "a1-w10", "a1-rollback"], onset)


def _only_what_was_decided(environment: Environment, service: str, revisions: list[str], onset: float) -> None:
    """Look at what users got: these routes in this order, each with its share, and no failure before the harm began."""
    load = environment.load
    assert load is not None
    records = [one for one in load.records(manifests.public_host(service)) if one.judged and one.revision]
    assert list(dict.fromkeys(one.revision for one in records)) == revisions
    for revision in revisions:
        weight = int(revision.partition("-w")[2] or 0)
        # A request whose leg fails may not say which leg it was.
        legs = [one.leg for one in records if one.revision == revision and one.at < onset]
        # The last weight may be at the gateway only after the onset, the rollback always is.
        assert legs or revision in revisions[-2:], revision
        assert not legs or within_sampling_bounds(legs.count("eks"), len(legs), weight), revision
    assert [one for one in records if one.failed and one.at + one.latency < onset] == []
