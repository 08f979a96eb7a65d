"""The chart's alerts on a real Prometheus, which scrapes what the operator's collector says of plans in all states.

Only durations are shortened, in the text of the rule file. That healthy plans are silent is looked at once the alerts
of the others, which began no earlier, are all there.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import prometheus_client
import pytest
import yaml
from tests.kit.metrics_server import MetricsServer
from tests.kit.played_counts import BlockQueries, SloQueries

from cutover.api.v1alpha1 import GateStatus, MigrationPlanStatus, Phase, ReleasesStatus
from cutover.domain.holds import HoldReason
from cutover.domain.plan import Plan
from cutover.metrics import OperatorCollector
from devstack.build import ensure_programs

FILE = Path(__file__).parents[2] / "charts" / "cutover" / "files" / "alerts.yaml"
BY_NAME = {
    rule["alert"]: rule
    for group in yaml.safe_load(FILE.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
NAMESPACE = "documents"
INTERVAL = "250ms"
#: All of ``for`` and all windows; the second shorter, so that what was there for a moment does not last.
PATIENCE, WINDOW = "4s", "1s"
FAILING_SINCE = 1_799_661_600.0  # 2027-01-11 10:00 UTC


@dataclass
class Loop:
    """A plan's loop that does what it should, but for what is said."""

    plan: Plan | None
    behind: float = 0.0
    failing_since: float = 0.0
    rollback_waits_since: float = 0.0
    rollbacks: int = 0

    @property
    def last_reconciled(self) -> float:
        """Unix seconds of the last reconcile."""
        return time.time() - self.behind


@dataclass
class Operator:
    """One process with all that the collector asks of it."""

    loops: dict[str, Loop] = field(default_factory=dict)
    leading: bool = True
    skew: float = 1.5
    requests: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)


def loop(
    name: str,
    phase: Phase,
    weight: int | None,
    *,
    held: str = "",
    gate: GateStatus | None = None,
    releases: ReleasesStatus | None = None,
) -> Loop:
    known = {"type": "Held", "lastTransitionTime": "2027-01-11T10:00:00Z", "observedGeneration": 1}
    condition = {**known, "status": "True" if held else "False", "reason": held or "NotHeld"}
    status = MigrationPlanStatus(
        phase=phase,
        weight=weight,
        gates=(gate,) if gate else (),
        conditions=MigrationPlanStatus.model_validate({"conditions": [condition]}).conditions,
        releases=releases,
    )
    body = {"metadata": {"namespace": NAMESPACE, "name": name, "uid": name}, "spec": {}}
    return Loop(replace(Plan.refused(body, "not of interest here"), status=status))


#: Which alert tells of a plan that is held, with a quarter of its traffic on EKS and with none.
HELD = {
    HoldReason.INVALID_SPEC: ("CutoverNeedsMending",) * 2,
    HoldReason.CAPABILITY_MISSING: ("CutoverNeedsMending",) * 2,
    HoldReason.PREFLIGHT_FAILED: ("", "CutoverDoesNotStart"),
    HoldReason.TAKEOVER_FAILED: ("CutoverNeedsMending",) * 2,
    HoldReason.BASELINE_INCOMPLETE: ("CutoverWaitsForPeople",) * 2,
    HoldReason.TAKEOVER_DIFFERS: ("CutoverAnswersDiffer",) * 2,
    HoldReason.SUSPENDED: ("CutoverWaitsForPeople",) * 2,
    HoldReason.AWAITING_APPROVAL: ("CutoverWaitsForPeople",) * 2,
    HoldReason.AWAITING_DECISION: ("CutoverWaitsForPeople",) * 2,
    HoldReason.OUTSIDE_WINDOW: ("", ""),
    HoldReason.FROZEN: ("", ""),
    HoldReason.CEILING: ("CutoverWaitsForPeople",) * 2,
    HoldReason.INSUFFICIENT_TRAFFIC: ("CutoverWithoutEvidence",) * 2,
    HoldReason.UNDECIDED: ("CutoverWithoutEvidence",) * 2,
    HoldReason.NO_DATA: ("CutoverBlind", "CutoverDoesNotStart"),
    HoldReason.QUERY_ERROR: ("CutoverGateCannotBeAsked",) * 2,
    HoldReason.AMBIGUOUS: ("CutoverBlind", "CutoverDoesNotStart"),
    HoldReason.BOUND_EXCEEDED: ("CutoverBoundExceeded",) * 2,
    HoldReason.PROMETHEUS_UNAVAILABLE: ("CutoverBlind", "CutoverDoesNotStart"),
    HoldReason.SHARE_NOT_OBSERVED: ("CutoverWeightNotInForce",) * 2,
    HoldReason.BOTH_LEGS_UNHEALTHY: ("CutoverHarmWithoutRollback",) * 2,
    HoldReason.HARM_UNCONFIRMED: ("CutoverHarmWithoutRollback",) * 2,
    HoldReason.EKS_PROBES_FAIL: ("CutoverEksProbesFail",) * 2,
    HoldReason.HEROKU_CANNOT_TAKE_BACK: ("CutoverNoWayBack",) * 2,
    HoldReason.DRIFT_DETECTED: ("CutoverRouteFoughtOver",) * 2,
    HoldReason.ROUTE_NOT_WRITTEN: ("CutoverWeightNotInForce",) * 2,
    HoldReason.ANSWERS_DIFFER: ("CutoverAnswersDiffer",) * 2,
    HoldReason.SESSIONS_NOT_SHARED: ("CutoverAnswersDiffer",) * 2,
    HoldReason.LEGS_DIFFER: ("CutoverLegsDiffer",) * 2,
    HoldReason.BREACH: ("CutoverHarmWithoutRollback",) * 2,
    HoldReason.STEP_TIMEOUT: ("CutoverNeedsMending",) * 2,
}
#: Those of single plans in other states.
STATES = {
    "going-back": (loop("going-back", Phase.ROLLING_BACK, 0), "CutoverRollbackDoesNotArrive"),
    "back": (loop("back", Phase.ROLLED_BACK, 0), "CutoverRolledBack"),
    "observed": (
        loop("observed", Phase.SHIFTING, 25, gate=GateStatus(name="cpu", mode="Observe", verdict="Fail")),
        "CutoverObservedGateFails",
    ),
    "cannot-act": (
        replace(loop("cannot-act", Phase.SOAKING, 100), failing_since=FAILING_SINCE, behind=1000),
        "CutoverCannotAct",
    ),
    "cannot-go-back": (
        # Its status does not say so yet: nothing can be written.
        replace(loop("cannot-go-back", Phase.SHIFTING, 50), rollback_waits_since=FAILING_SINCE),
        "CutoverRollbackCannotBeWritten",
    ),
    "cannot-begin": (
        replace(loop("cannot-begin", Phase.PREFLIGHT, None), failing_since=FAILING_SINCE),
        "CutoverReconcilesFail",
    ),
    "unanswered": (
        loop("unanswered", Phase.SHIFTING, 25, releases=ReleasesStatus(of="acme-pdf, pdf", problem="revoked")),
        "CutoverHerokuApiUnavailable",
    ),
    "hanging": (replace(loop("hanging", Phase.SHIFTING, 50), behind=1000), "CutoverPlanNotReconciled"),
}
#: Weights of a cutover on which nothing is wrong.
HEALTHY = {
    Phase.PENDING: None,
    Phase.PREFLIGHT: 0,
    Phase.BASELINE: 0,
    Phase.SHIFTING: 25,
    Phase.SOAKING: 100,
    Phase.COMPLETED: 100,
}
#: States that a cutover may be in for a moment without anybody being told.
MOMENTARY = {
    "moment-going-back": loop("moment-going-back", Phase.ROLLING_BACK, 0),
    **{
        f"moment-{reason}".lower(): loop(f"moment-{reason}".lower(), Phase.SHIFTING, 25, held=reason)
        for reason, (alert, _) in HELD.items()
        if alert
    },
}
OPERATOR_ALERTS = {"CutoverOperatorSilent", "CutoverSloQueriesSlow", "CutoverClockSkew"}


def held_name(reason: HoldReason, weight: int) -> str:
    return f"{reason}-{weight}".lower()


def loops() -> dict[str, Loop]:
    found = {f"well-{phase}".lower(): loop(f"well-{phase}".lower(), phase, w) for phase, w in HEALTHY.items()}
    # An enforced gate that fails leads back, which is told; one that is observed and passes is nothing to tell.
    for mode, verdict in (("Enforce", "Fail"), ("Observe", "Pass")):
        name = f"gate-{mode}-{verdict}".lower()
        gate = GateStatus(name="cpu", mode=mode, verdict=verdict)
        found[name] = loop(name, Phase.SHIFTING, 25, gate=gate)
    found["resting"] = replace(
        loop("resting", Phase.COMPLETED, 100), behind=290
    )  # a reconcile every 5 minutes is enough
    found |= {name: one for name, (one, _) in STATES.items()}
    for reason in HoldReason:
        for weight in (25, 0):
            name = held_name(reason, weight)
            found[name] = loop(name, Phase.SHIFTING if weight else Phase.PREFLIGHT, weight, held=reason)
    return found


class Exporter:
    """Answers with what the real collector says."""

    def __init__(self, operator: Operator, counts: SloQueries) -> None:
        registry = prometheus_client.CollectorRegistry()
        registry.register(
            OperatorCollector(
                lambda: operator.loops.values(),
                operator,
                BlockQueries(),
                counts,
                lambda: {"": operator.skew, "amp": 0.1},
                lambda: operator.leading,
            )
        )
        self.server = MetricsServer(lambda path: prometheus_client.generate_latest(registry).decode())

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def stop(self) -> None:
        self.server.stop()


@dataclass(frozen=True)
class Alert:
    name: str
    state: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


Alerts = tuple[Alert, ...]


def firing(alerts: Alerts) -> set[tuple[str, str]]:
    """Return the alerts that fire, each with its plan."""
    return {(one.name, one.labels.get("plan", "")) for one in alerts if one.state == "firing"}


class Server:
    """A Prometheus with the rules."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False)

    def ready(self) -> bool:
        try:
            return bool(self._http.get("/api/v1/query?query=up==1").json()["data"]["result"])
        except (httpx.HTTPError, KeyError, ValueError):
            return False

    def alerts(self) -> Alerts:
        found = self._http.get("/api/v1/alerts").json()["data"]["alerts"]
        return tuple(
            Alert(
                one["labels"]["alertname"],
                one["state"],
                {name: value for name, value in one["labels"].items() if name != "alertname"},
                one["annotations"],
            )
            for one in found
        )

    def until(self, wanted: Callable[[Alerts], bool], what: str) -> Alerts:
        deadline = time.monotonic() + 45
        while not wanted(alerts := self.alerts()):
            assert time.monotonic() < deadline, f"{what}; firing: {sorted(firing(alerts))}"
            time.sleep(0.1)
        return alerts


def shortened() -> str:
    text = FILE.read_text(encoding="utf-8")
    text = re.sub(r"^( +(?:for|keep_firing_for): )\w+$", rf"\g<1>{PATIENCE}", text, flags=re.MULTILINE)
    return re.sub(r"\[\d+[smhd]\]", f"[{WINDOW}]", text)


@dataclass(frozen=True)
class Story:
    """What fired, one time after the other."""

    moments: Alerts
    plans: Alerts
    operator: Alerts
    recovered: Alerts
    gone: Alerts


def expected() -> set[tuple[str, str]]:
    """Return the alerts of plans that should fire."""
    found = {(alert, name) for name, (_, alert) in STATES.items()}
    for reason, alerts in HELD.items():
        found |= {(alert, held_name(reason, weight)) for alert, weight in zip(alerts, (25, 0), strict=True) if alert}
    return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("alerts")
    operator, counts = Operator(loops()), SloQueries()
    acting, waiting = Exporter(operator, counts), Exporter(Operator(leading=False, skew=0.0), SloQueries())
    (folder / "alerts.yaml").write_text(shortened())
    config = {
        "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": [
            {
                "job_name": "cutover",
                "honor_labels": True,
                "static_configs": [
                    {"targets": [one.address], "labels": {"namespace": "cutover-system", "pod": pod}}
                    for pod, one in {"cutover-0": acting, "cutover-1": waiting}.items()
                ],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                ensure_programs().prometheus,
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = Server(_address(process, folder / "log"))
        yield _play(server, operator, counts, acting)
    finally:
        process.terminate()
        process.wait(20)
        waiting.stop()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until it scrapes, which is some seconds after its start; return where it listens."""
    for _ in range(1200):
        text = log.read_text()
        assert process.poll() is None, text
        if port := re.search(r'msg="Listening on" .*address=127\.0\.0\.1:(\d+)', text):
            url = f"http://127.0.0.1:{port[1]}"
            if Server(url).ready():
                return url
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _play(server: Server, operator: Operator, counts: SloQueries, acting: Exporter) -> Story:
    operator.loops |= MOMENTARY
    moments = server.until(
        lambda alerts: MOMENTARY.keys() <= {one.labels.get("plan") for one in alerts}, "pending alerts"
    )
    operator.loops |= {name: loop(name, Phase.SHIFTING, 25) for name in MOMENTARY}
    plans = server.until(lambda alerts: expected() <= firing(alerts), "the alerts of plans")

    def skip() -> None:
        while not settled.wait(0.05):
            counts.rounds_skipped += 10

    settled = threading.Event()
    threading.Thread(target=skip, daemon=True).start()
    operator.skew, operator.leading = -30.0, False
    # A scrape that is missed on a busy machine takes the plans' alerts away for as long as they need to come.
    told = expected() | {(name, "") for name in OPERATOR_ALERTS}
    sick = server.until(lambda alerts: told <= firing(alerts), "the operator's alerts beside those of plans")
    settled.set()
    operator.skew, operator.leading = 1.5, True
    operator.loops.clear()
    # One alert is kept for a while.
    recovered = server.until(lambda alerts: not firing(alerts), "recovery")
    acting.stop()
    gone = server.until(lambda alerts: ("CutoverOperatorSilent", "") in firing(alerts), "an operator that is gone")
    return Story(moments, plans, sick, recovered, gone)


def test_every_alert_has_a_state_in_which_it_fires() -> None:
    assert {name for name, _ in expected()} | OPERATOR_ALERTS == set(BY_NAME)
    assert set(HELD) == set(HoldReason)


def test_each_state_has_its_alerts_and_what_is_well_or_momentary_has_none(story: Story) -> None:
    assert firing(story.plans) == expected()


def test_what_has_only_begun_tells_nobody_yet(story: Story) -> None:
    assert MOMENTARY.keys() & {plan for _, plan in firing(story.moments)} == set()


@pytest.mark.parametrize("phase", HEALTHY)
def test_a_healthy_cutover_is_silent_in_every_phase(story: Story, phase: Phase) -> None:
    name = f"well-{phase}".lower()
    assert [alert for alert in story.plans + story.operator if alert.labels.get("plan") == name] == []


def test_the_operators_own_troubles_are_told_while_plans_go_on(story: Story) -> None:
    assert OPERATOR_ALERTS & {name for name, _ in firing(story.plans)} == set()
    assert firing(story.operator) == expected() | {(name, "") for name in OPERATOR_ALERTS}


def test_an_operator_that_is_not_scraped_is_as_silent_as_one_that_does_not_lead(story: Story) -> None:
    assert firing(story.recovered) == set()
    assert firing(story.gone) == {("CutoverOperatorSilent", "")}


@pytest.mark.parametrize("name", BY_NAME)
def test_an_alert_is_rendered_for_people(story: Story, name: str) -> None:
    severity = BY_NAME[name]["labels"]["severity"]
    found = [alert for alert in story.operator if alert.name == name]
    assert found
    for alert in found:
        texts = alert.annotations.values()
        assert not any(bad in text for text in texts for bad in ("{{", "<no value>", "<error", "  ", "\n")), texts
        assert alert.labels["severity"] == severity
        summary, runbook = alert.annotations["summary"], alert.annotations["runbook"]
        assert len(summary) < 160
        # By the expression, not by what came of it: a label that is lost would take its assertions along.
        expression = BY_NAME[name]["expr"]
        if "namespace, plan" in expression:
            assert alert.labels["namespace"] == NAMESPACE
            assert summary.startswith(f"{NAMESPACE}/{alert.labels['plan']}")
        if "by (namespace, plan, reason)" in expression:
            reason = alert.labels["reason"]
            assert f"({reason})" in summary
            assert runbook == f"docs/holds.md#{reason.lower()}"


def test_numbers_in_annotations_can_be_read(story: Story) -> None:
    said = defaultdict(list)
    for alert in story.operator:
        said[alert.name].append(alert.annotations["summary"])
    assert "since 2027-01-11 10:00:00" in said["CutoverCannotAct"][0]
    assert "since 2027-01-11 10:00:00" in said["CutoverReconcilesFail"][0]
    assert "since 2027-01-11 10:00:00" in said["CutoverRollbackCannotBeWritten"][0]
    assert said["CutoverClockSkew"] == ["The clocks of the operator and of Prometheus are 30s apart"]
    assert "the gate cpu fails" in said["CutoverObservedGateFails"][0]


def test_each_reason_says_something_of_its_own(story: Story) -> None:
    """Where one alert tells of several reasons that need different answers."""
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for alert in story.plans:
        if "reason" in alert.labels:
            said[alert.name][alert.labels["reason"]] = alert.annotations["description"].partition("kubectl")[0]
    assert "onBreach: Hold" in said["CutoverHarmWithoutRollback"]["Breach"]
    assert "onBreach" not in said["CutoverHarmWithoutRollback"]["BothLegsUnhealthy"]
    assert "what both share" in said["CutoverHarmWithoutRollback"]["BothLegsUnhealthy"]
    assert "probes of both legs are answered alike" in said["CutoverHarmWithoutRollback"]["HarmUnconfirmed"]
    assert "limits by address on Heroku" in said["CutoverAnswersDiffer"]["AnswersDiffer"]
    assert "session store" in said["CutoverAnswersDiffer"]["SessionsNotShared"]
    assert "what the gateway changes of requests" in said["CutoverAnswersDiffer"]["TakeoverDiffers"]
    assert "webhook" in said["CutoverWeightNotInForce"]["RouteNotWritten"]
    assert "istioctl" in said["CutoverWeightNotInForce"]["ShareNotObserved"]
    assert "in Git" in said["CutoverNeedsMending"]["InvalidSpec"]
    assert "within its timeout" in said["CutoverNeedsMending"]["StepTimeout"]
