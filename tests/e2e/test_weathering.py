"""Everything that a cutover needs goes away or misbehaves in turn, while users come.

In CI for as long as it takes to see what the plan says meanwhile; with ``OUTAGES=full`` for the minutes that
docs/outages.md tells of.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from sandbox.environment import Environment
from sandbox.interposer import Fault, Interposer, Mode, Seen
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE

from .observing import UNHURRIED, at_weight, failed, plan, rescue, told
from .playing import BUSY, decisions, path, start

FULL = os.environ.get("OUTAGES") == "full"
SINCE = "cutover_rollback_waiting_since_timestamp_seconds"
FAILING = "cutover_failing_since_timestamp_seconds"
#: Percent from step to step: at the requests of this test, evidence of safety takes about a minute.
STEP = 10
WRITES = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Line:
    """The stack, with a line between the operator and the API server that can be disturbed."""

    environment: Environment
    interposer: Interposer
    kubeconfig: Path

    def api(self, mode: Mode) -> None:
        """Change what the line does."""
        self.interposer.tell(mode)

    def stop(self, *names: str) -> None:
        """Take processes of the stack away."""
        for name in names:
            self.environment.stack.stop_process(name)

    def start(self, *names: str) -> None:
        """Bring them back."""
        for name in names:
            self.environment.stack.start_process(name)

    def spoil_token(self) -> None:
        """Have the operator's file say a token that is not accepted, and the API server refuse the one before."""
        self._write_token("expired")
        self.interposer.inject(Fault("answer", status=401))

    def renew_token(self) -> None:
        """Write a good token into the file, as a kubelet does."""
        account = self.environment.stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)
        self._write_token(yaml.safe_load(account.read_text())["users"][0]["user"]["token"])
        self.interposer.inject()

    def _write_token(self, token: str) -> None:
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["users"][0]["user"]["token"] = token
        # In one step: the operator may read it at any time.
        fresh = self.kubeconfig.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(config))
        fresh.replace(self.kubeconfig)


@pytest.fixture
def line(alone: Environment, tmp_path: Path) -> Iterator[Line]:
    """The operator behind the line, which passes everything on."""
    stack = alone.stack
    with Interposer(tmp_path, stack.kubeconfig) as interposer:
        kubeconfig = interposer.through(stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT))
        alone.restart_operator(CUTOVER_KUBECONFIG=str(kubeconfig))
        try:
            yield Line(alone, interposer, kubeconfig)
        finally:
            interposer.tell("pass")
            interposer.inject()
            alone.stop_operator()
            alone.start_operator()


@dataclass(frozen=True)
class Outage:
    """Something that goes away for a while.

    Parameters
    ----------
    seconds, full_seconds
        How long: in CI (0: not there, where other tests have it, be it with less of a stack), and at length.
    reasons
        What the plan may be held for meanwhile.
    harms
        Whether users' requests fail, which the operator does not cause.
    """

    name: str
    begin: Callable[[Line], None]
    end: Callable[[Line], None]
    seconds: float
    full_seconds: float = 120.0
    reasons: frozenset[str] = frozenset()
    harms: bool = False


BLIND = frozenset({"PrometheusUnavailable", "NoData"})
ALL = ("prometheus", "istiod", "envoy")


def _fault(*faults: Fault) -> Callable[[Line], None]:
    return lambda line: line.interposer.inject(*faults) and None


def _pass(line: Line) -> None:
    line.interposer.inject()


def _all_away(line: Line) -> None:
    line.api("refuse")
    line.stop(*ALL)


def _all_back(line: Line) -> None:
    line.start(*ALL)
    line.api("pass")


OUTAGES = (
    Outage("API server refuses", lambda line: line.api("refuse"), lambda line: line.api("pass"), 0),
    Outage("API server hangs", lambda line: line.api("hang"), lambda line: line.api("pass"), 0),
    Outage("API server slow (5 s)", _fault(Fault("delay", seconds=5.0)), _pass, 0, 60),
    Outage("409 for every second write", _fault(Fault("answer", WRITES, status=409, probability=0.5)), _pass, 9, 60),
    Outage("429, Retry-After: 3", _fault(Fault("answer", status=429, retry_after=3, probability=0.7)), _pass, 9, 60),
    Outage("401, then a new token", Line.spoil_token, Line.renew_token, 0, 60),
    Outage(
        "Prometheus",
        lambda line: line.stop("prometheus"),
        lambda line: line.start("prometheus"),
        0,
        300,
        reasons=BLIND,
    ),
    Outage("istiod", lambda line: line.stop("istiod"), lambda line: line.start("istiod"), 0),
    Outage(
        "gateway",
        lambda line: line.stop("envoy"),
        lambda line: line.start("envoy"),
        0,
        60,
        harms=True,
    ),
    Outage("all together", _all_away, _all_back, 20, harms=True),
)
CHOSEN = os.environ.get("OUTAGE", "")


@pytest.mark.uses("weathered", minutes=4.25)
@pytest.mark.timeout(900)  # each wait has an end of its own
def test_a_cutover_outlives_whatever_goes_away(line: Line) -> None:
    """Nothing moves that should not, and the path is that of a cutover in peace."""
    environment, service = line.environment, "weathered"
    outages = [one for one in OUTAGES if re.search(CHOSEN, one.name) and (FULL or one.seconds)]
    parts = [outages[first : first + 3] for first in range(0, len(outages), 3)]
    weights = [STEP * number for number in range(1, len(parts) + 1)]
    # A raise is due when the last of a step's outages is about to end.
    holds = [sum(map(_seconds, part)) for part in parts]
    steps = [
        {"weight": weight, "hold": f"{hold:.0f}s"} for weight, hold in zip((*weights, 100), (*holds, 5), strict=True)
    ]
    start(environment, plan(service, UNHURRIED, steps=steps), rate=BUSY)
    harmed: list[tuple[float, float]] = []
    ends: list[tuple[str, float]] = []
    for weight, part in zip(weights, parts, strict=True):
        at_weight(environment, service, weight)
        for outage in part:
            began = time.time()
            outage.begin(line)
            seen = _watched(environment, service, began + _seconds(outage))
            outage.end(line)
            back = time.time()
            print(f"{outage.name}: {back - began:.0f} s, {dict(seen)}", flush=True)
            recovered = environment.until(
                f"all well after {outage.name}", lambda since=back: _well(environment, service, since), 150, every=0.1
            )
            print(f"  well again {recovered - back:.1f} s after", flush=True)
            ends.append((outage.name, back))
            # A raise may have been decided before all of it was away, and of three outages the last may come after it.
            assert {text for text in seen if text.isdecimal()} <= {str(weight), str(min(weight + STEP, 100))}
            if outage.reasons:
                assert outage.reasons & seen.keys(), seen
            if outage.harms:
                harmed.append((began, recovered))
    environment.until_status(service, 420, phase="Completed")
    for name, back in ends:
        print(f"after {name}: {_requests(line.interposer.seen(back), back)}", flush=True)
    status = environment.status(service)
    assert path(status) == [*weights, 100]
    assert decisions(status, "RollBack") == []
    bad = [
        record
        for record in failed(environment, service, 0)
        if record.revision and not any(began - 30 <= record.at <= back for began, back in harmed)
    ]
    assert bad == []


def _seconds(outage: Outage) -> float:
    return outage.full_seconds if FULL else outage.seconds


def _watched(environment: Environment, service: str, until: float) -> Counter[str]:
    """Return what was seen until a time (unix seconds), with how often: reasons, weights, what the metrics say."""
    seen: Counter[str] = Counter()
    while time.time() < until:
        status = environment.status(service)
        seen[status["reason"]] += 1
        seen[str(environment.routed_weight(service))] += 1
        seen.update(f"held:{reason}" for reason in told(environment, service, "cutover_held"))
        seen["failing"] += any(told(environment, service, FAILING).values())
        time.sleep(0.5)
    return seen


def _well(environment: Environment, service: str, since: float) -> bool:
    """Tell whether the operator does all that it should for a plan, since a time (unix seconds)."""
    tick = told(environment, service, "cutover_last_reconcile_timestamp_seconds")
    held = set(told(environment, service, "cutover_held"))
    failing = any(told(environment, service, FAILING).values())
    return (
        all(at > since for at in tick.values())
        and not failing
        and held <= {"InsufficientTraffic", "Undecided"}
        and bool(environment.status(service)["checkpoint"].get("observedAt"))
    )


def _requests(seen: list[Seen], since: float, seconds: float = 15.0) -> str:
    per_second = Counter(int(one.at - since) for one in seen if one.at < since + seconds)
    most = max(per_second.values(), default=0)
    return f"{per_second.total()} requests to the API server in {seconds:g} s, at most {most} in one"


def _fails(environment: Environment, service: str) -> float:
    """Have EKS refuse a service's requests; return since when, in unix seconds."""
    return environment.knobs("eks", service).set(refuse=True)


@pytest.mark.uses("refused-api", "hung-api", "slow-api", "unheard", minutes=2.75)
def test_a_rollback_goes_first_when_the_way_is_there_again(line: Line) -> None:
    """EKS fails while the API server, or istiod, is away: tried on, told since when, made as soon as it can be."""
    environment = line.environment
    services = ("refused-api", "hung-api", "slow-api", "unheard")
    for service in services:
        start(environment, plan(service, steps=[{"weight": 10, "hold": "10m"}, {"weight": 100}]))
    for service in services:
        at_weight(environment, service, 10)
    time.sleep(15)

    modes: tuple[tuple[str, Mode], ...] = (("refused-api", "refuse"), ("hung-api", "hang"))
    for service, mode in modes:
        line.api(mode)
        onset = _fails(environment, service)
        environment.until("a rollback waits", lambda service=service: _waits(environment, service) > 0, 90)
        since = _waits(environment, service)
        time.sleep(120 if FULL else 5)
        assert _waits(environment, service) == since >= onset
        assert environment.routed_weight(service) == 10
        assert any(_is_attempt(text, service) for text in environment.operator_log().splitlines())
        line.api("pass")
        back = time.time()
        written = _route_back(environment, service)
        assert written - back < 5
        print(f"{service}: route written {written - back:.2f} s after it was back", flush=True)
        _until_rolled_back(environment, service, onset)
        print(" ", _requests(line.interposer.seen(back), back), flush=True)
        # The status says RolledBack before the reconcile that wrote it has ended.
        environment.until("no rollback waits", lambda service=service: _waits(environment, service) == 0, 30)

    line.interposer.inject(Fault("delay", seconds=5.0))
    onset = _fails(environment, "slow-api")
    written = _route_back(environment, "slow-api")
    print(f"slow-api: route written {written - onset:.2f} s after the onset", flush=True)
    _until_rolled_back(environment, "slow-api", onset)
    line.interposer.inject()

    environment.stack.stop_process("istiod")
    onset = _fails(environment, "unheard")
    _route_back(environment, "unheard")
    time.sleep(135 if FULL else 5)
    status = environment.status("unheard")
    print("istiod away:", status["phase"], status["reason"], told(environment, "unheard", "cutover_held"))
    assert status["phase"] == "RollingBack"
    assert status["reason"] == ("ShareNotObserved" if FULL else "RollingBack")
    environment.stack.start_process("istiod")
    started = time.time()
    _until_rolled_back(environment, "unheard", onset)
    print(f"unheard: rolled back {time.time() - started:.1f} s after istiod was back", flush=True)


def _route_back(environment: Environment, service: str) -> float:
    return environment.until(
        f"{service}: the way back", lambda: environment.routed_weight(service) == 0, 90, every=0.01
    )


def _until_rolled_back(environment: Environment, service: str, onset: float) -> None:
    """Wait for the end of a rollback, of which there is one, and heal the leg."""
    environment.until_status(service, 90, phase="RolledBack")
    print(f"{service}: {rescue(environment, service, onset)}", flush=True)
    assert len(decisions(environment.status(service), "RollBack")) == 1
    environment.knobs("eks", service).set(refuse=False)


def _waits(environment: Environment, service: str) -> float:
    return max(told(environment, service, SINCE).values(), default=0.0)


def _is_attempt(text: str, service: str) -> bool:
    """Tell whether a line of the operator's log is about a rollback of the service that could not be written."""
    try:
        entry = json.loads(text)
    except ValueError:
        return False
    return (
        isinstance(entry, dict)
        and (entry.get("event"), entry.get("rollback")) == ("not applied", True)
        and str(entry.get("plan")).endswith(f"/{service}")
    )


@pytest.mark.skipif(not FULL, reason="takes as long as a cutover; OUTAGES=full")
@pytest.mark.uses("frugal", minutes=0)
def test_a_cutover_outlives_a_lack_of_memory(alone: Environment) -> None:
    """The operator gets no more memory in mid-step: it ends by itself, or goes on; the next one has lost nothing."""
    environment, service = alone, "frugal"
    steps = [{"weight": weight, "hold": "15s"} for weight in (10, 50, 100)]
    start(environment, plan(service, steps=steps))
    at_weight(environment, service, 10)
    pid = environment.operator_pid()
    assert pid is not None
    for limit in (resource.RLIMIT_DATA, resource.RLIMIT_AS):
        resource.prlimit(pid, limit, (1 << 20, resource.prlimit(pid, limit)[1]))
    ended = time.time() + 20
    while environment.operator_pid() is not None and time.time() < ended:
        # Its metrics need a little, as anything does.
        with contextlib.suppress(OSError):
            told(environment, service, FAILING)
        time.sleep(0.5)
    print("without memory the operator", "runs on" if environment.operator_pid() else "ends by itself", flush=True)
    environment.stop_operator()
    environment.start_operator()
    environment.until_status(service, 240, phase="Completed")
    assert path(environment.status(service)) == [10, 50, 100]
    assert [record for record in failed(environment, service, 0) if record.revision] == []
