"""Whole cutovers under load, held against the load generator's own record."""

from __future__ import annotations

import json
import time

from sandbox import manifests
from sandbox.environment import Environment
from sandbox.manifests import NAMESPACE, Json

from .observing import Rescue, at_weight, plan, rescue, within_sampling_bounds
from .panels import OF_A_HOLD, OF_A_ROLLBACK, OF_FAILURES, empty
from .playing import BUSY, RATE, decisions, rolled_back, scenario, start
from .readers import report_by_its_link

SCRAPE = 5.0
#: Seconds from a scrape until the gateway has a route that was decided on it: half of one where a core is idle. Where an onset
#: falls just after a scrape, it comes on top of the scrapes.
REACTION = 2.0


def _from_step(weight: int, service: str) -> Json:
    """Return a plan that begins with this weight: the steps before it are what other scenarios are about."""
    paced = manifests.plan(service)["spec"]["steps"]
    return plan(service, steps=[step for step in paced if step["weight"] >= weight])


@scenario("healthy", minutes=5.75)
def test_a_healthy_service_is_moved(environment: Environment) -> None:
    """100 % and Completed; every step's share fits its weight; the shifting itself fails no request."""
    began = time.time()
    start(environment, manifests.plan("healthy"))
    environment.until_status("healthy", 480, phase="Completed")
    environment.stack.kubectl(
        "-n", NAMESPACE, "wait", "--for=condition=Completed", "migrationplan/healthy", "--timeout=5s"
    )
    status = environment.status("healthy")
    path = [entry["toWeight"] for entry in status["ledger"] if entry["decision"] == "Advance"]
    assert path == [10, 25, 50, 100]
    assert status["baseline"]["requests"] >= 1000
    load = environment.load
    assert load is not None
    load.settle(time.time() - 1, "healthy.example.com")
    records = load.records("healthy.example.com")
    for weight in (0, 10, 25, 50, 100):
        answered = [record.leg for record in records if record.revision == f"a1-w{weight}"]
        assert len(answered) > 200
        assert within_sampling_bounds(answered.count("eks"), len(answered), weight), (weight, len(answered))
    moved = [record for record in records if record.revision or record.at > status["checkpoint"]["weightSince"]]
    assert [record for record in moved if record.failed and record.judged] == []
    _seen_where_people_look(environment, began)
    environment.stack.kubectl("-n", NAMESPACE, "delete", "migrationplan", "healthy", "--timeout=30s")
    assert environment.routed_weight("healthy") == 100, "it rests where evidence has put it"


def _seen_where_people_look(environment: Environment, began: float) -> None:
    """See that the dashboards, the report and the log have the whole of this cutover."""
    assert empty(environment, "healthy", time.time() - began) <= OF_A_HOLD | OF_FAILURES | {OF_A_ROLLBACK}
    kept = report_by_its_link(environment, "healthy")
    assert kept["metadata"]["labels"]["cutover.dev/plan"] == "healthy"
    page, text = kept["data"]["report.html"], kept["data"]["report.md"]
    for words in ("Latency, 95th percentile", 'class="line-heroku"', 'class="line-eks"'):
        assert words in page, "what Prometheus has is in it"
    for words in ("side by side at 50 %", *(f"{weight} %" for weight in (10, 25, 50, 100))):
        assert words in text
    # The last line may not be whole yet.
    lines = [json.loads(line) for line in environment.operator_log().splitlines()[:-1] if '"decision"' in line]
    mine = [line for line in lines if line["event"] == "decision" and line["plan"] == f"{NAMESPACE}/healthy"]
    assert {line["decision"] for line in mine} >= {"Advance", "Complete"}
    for line in mine:
        assert {"attempt", "phase", "step", "fromWeight", "toWeight", "id"} <= line.keys(), line


@scenario("errors", minutes=4.5)
def test_errors_from_25_percent_on_roll_back(environment: Environment) -> None:
    """5 % errors of the EKS leg."""
    start(environment, plan("errors"))
    at_weight(environment, "errors", 25)
    onset = environment.knobs("eks", "errors").set(error_ratio=0.05)
    status = rolled_back(environment, "errors", 300)
    assert "errors" in status["message"]
    assert any(gate["verdict"] == "Fail" for gate in status["gates"])
    # With the next scrape of the operator.
    missing = OF_A_HOLD | OF_FAILURES
    environment.until("its mark on the dashboard", lambda: empty(environment, "errors", 120) <= missing, 30)
    print("errors 5 % at 25 %:", rescue(environment, "errors", onset))


@scenario("tail", minutes=5.5)
def test_a_slow_tail_from_50_percent_on_rolls_back(environment: Environment) -> None:
    """4 % of the EKS leg's requests get 3 s slower."""
    start(environment, plan("tail"))
    at_weight(environment, "tail", 50)
    onset = environment.knobs("eks", "tail").set(slow_ratio=0.04, slow_ms=3000)
    rolled_back(environment, "tail", 360)
    print("slow tail at 50 %:", rescue(environment, "tail", onset, slow_s=1.0))


@scenario("refused", minutes=1)
def test_refused_connections_are_left_within_three_scrapes(environment: Environment) -> None:
    """EKS refuses connections at 10 %."""
    # The silence of 10 % has to show within two blocks: at half of this rate it would be 25 requests a block.
    start(environment, plan("refused", steps=[{"weight": 10, "hold": "10m"}, {"weight": 100}]), rate=BUSY)
    at_weight(environment, "refused", 10)
    time.sleep(3 * SCRAPE)
    onset = environment.knobs("eks", "refused").set(refuse=True)
    rolled_back(environment, "refused", 60)
    found = rescue(environment, "refused", onset)
    print("refused at 10 %:", found)
    assert found.seconds <= 3 * SCRAPE + REACTION


@scenario("hung", minutes=2.25)
def test_a_hung_leg_is_left_within_four_scrapes(environment: Environment) -> None:
    """EKS accepts and answers nothing at 25 %: not after the route's time-out of 30 s."""
    start(
        environment,
        plan("hung", steps=[{"weight": 10, "hold": "5s"}, {"weight": 25, "hold": "10m"}, {"weight": 100}]),
        rate=BUSY,
    )
    at_weight(environment, "hung", 25)
    time.sleep(3 * SCRAPE)
    onset = environment.knobs("eks", "hung").set(hang=True)
    rolled_back(environment, "hung", 90)
    environment.knobs("eks", "hung").set(hang=False)
    found = rescue(environment, "hung", onset, slow_s=5.0)
    print("hung at 25 %:", found)
    assert found.seconds <= 4 * SCRAPE + REACTION


@scenario("signed-out", minutes=1.25)
def test_users_who_are_signed_out_are_left_within_three_scrapes(environment: Environment) -> None:
    """EKS answers 401 to everybody at 10 %: no error, and fast."""
    status, found = _other_answers(environment, "signed-out", 401, rate=BUSY)
    assert found.seconds <= 3 * SCRAPE + REACTION
    assert status["answers"]["eks"]["401"] > 0
    assert "401" not in status["answers"]["heroku"]


@scenario("moved", "missing", minutes=2.5)
def test_users_who_are_sent_away_are_brought_back(environment: Environment) -> None:
    """EKS answers 302 to everybody, and after that, in another cutover, 404."""
    _other_answers(environment, "moved", 302)
    _other_answers(environment, "missing", 404)


def _other_answers(environment: Environment, service: str, code: int, *, rate: float = RATE) -> tuple[Json, Rescue]:
    """Let EKS answer everybody with a code at 10 %, and return the status after the rollback, and how users came to it."""
    start(environment, plan(service, steps=[{"weight": 10, "hold": "10m"}, {"weight": 100}]), rate=rate)
    at_weight(environment, service, 10)
    time.sleep(3 * SCRAPE)
    onset = environment.knobs("eks", service).set(status=code)
    status = rolled_back(environment, service, 60)
    found = rescue(environment, service, onset)
    print(f"{code} to everybody at 10 %:", found)
    (entry,) = decisions(status, "RollBack")
    assert (entry["reason"], entry["subject"]) == ("EvidenceOfHarm", "alive")
    assert f"EKS {code} " in entry["message"]
    return status, found


@scenario("shared", minutes=3.25)
def test_a_shared_incident_holds(environment: Environment) -> None:
    """Both legs fail alike: held, no rollback, goes on when it is over."""
    start(environment, _from_step(25, "shared"))
    at_weight(environment, "shared", 25)
    for leg in ("heroku", "eks"):
        environment.knobs(leg, "shared").set(error_ratio=0.4)
    environment.until_status("shared", 60, reason="BothLegsUnhealthy")
    time.sleep(30)
    status = environment.status("shared")
    assert (status["phase"], status["weight"]) == ("Shifting", 25)
    assert environment.routed_weight("shared") == 25
    environment.until("the dashboards' holds", lambda: not empty(environment, "shared", 60) & OF_A_HOLD, 30)
    for leg in ("heroku", "eks"):
        environment.knobs(leg, "shared").set(error_ratio=0.0)
    environment.until("shared goes on", lambda: (environment.status("shared").get("weight") or 0) > 25, 240)


@scenario("edited", minutes=0.75)
def test_an_edit_of_the_weights_is_put_back(environment: Environment) -> None:
    """Somebody edits the weights by hand: put back within moments, and the editor is named."""
    start(environment, plan("edited", steps=[{"weight": 10, "hold": "10m"}, {"weight": 100}]))
    at_weight(environment, "edited", 10)
    route = environment.virtual_service("edited")
    http = route["spec"]["http"]
    for leg in next(one for one in http if one["name"] == "split")["route"]:
        leg["weight"] = 60 if leg["destination"]["host"].endswith("cluster.local") else 40
    environment.stack.kubectl(
        "-n", NAMESPACE, "patch", "virtualservice", "cutover-edited", "--type=merge",
        "--field-manager=kubectl-edit", "--patch", json.dumps({"spec": {"http": http}}),
    )  # fmt: skip
    environment.until("the weight is put back", lambda: environment.routed_weight("edited") == 10, 30)

    def told() -> bool:
        return any(
            e["reason"] == "DriftDetected" and "kubectl-edit" in e["message"] for e in environment.events("edited")
        )

    environment.until("the editor is named", told, 30)
    assert any(entry["decision"] == "Repair" for entry in environment.status("edited")["ledger"])
    environment.until_status("edited", 90, reason="Judging")


@scenario("leaving", minutes=0.75)
def test_deletion_at_50_percent_rests_on_heroku(environment: Environment) -> None:
    """The plan is deleted at 50 %, which no evidence has put on EKS for good: traffic ends on Heroku, no request fails."""
    start(environment, _from_step(50, "leaving"))
    at_weight(environment, "leaving", 50)
    since = time.time()
    environment.stack.kubectl("-n", NAMESPACE, "delete", "migrationplan", "leaving", "--timeout=30s")
    assert environment.routed_weight("leaving") == 0
    time.sleep(10)
    load = environment.load
    assert load is not None
    now = time.time()
    load.settle(now - 1, "leaving.example.com")
    assert load.summary("leaving.example.com", since, now).total.requests > 200
    assert [r for r in load.records("leaving.example.com", since) if r.failed and r.judged] == []
    assert {r.leg for r in load.records("leaving.example.com", now - 5)} == {"heroku"}


@scenario("stranded", minutes=1.75)
def test_a_dead_heroku_is_no_rescue(environment: Environment) -> None:
    """The Heroku leg dies at 50 % while EKS is well: held, alarmed, no rollback onto it."""
    start(environment, _from_step(50, "stranded"))
    at_weight(environment, "stranded", 50)
    environment.knobs("heroku", "stranded").set(down=True)
    environment.until_status("stranded", 60, reason="HerokuCannotTakeBack")
    time.sleep(45)
    status = environment.status("stranded")
    assert (status["phase"], status["weight"]) == ("Shifting", 50)
    assert environment.routed_weight("stranded") == 50
    alarms = [e for e in environment.events("stranded") if e["type"] == "Warning"]
    assert any(e["reason"] == "HerokuCannotTakeBack" for e in alarms)


#: At 100 % with scrapes of 5 s: a dead leg is left within this time, where probes of both legs tell it from an incident of both.
FULL_SECONDS = 20.0


def soaking(environment: Environment, service: str) -> None:
    """Bring a service to 100 %, and let it be there until its pace is known."""
    start(environment, plan(service, steps=[{"weight": 50, "hold": "5s"}, {"weight": 100}], soak="30m"))
    at_weight(environment, service, 100)
    time.sleep(150)


@scenario("refusedfull", minutes=5)
def test_refused_connections_at_100_percent_are_left_in_time(environment: Environment) -> None:
    """EKS refuses connections at 100 %, where no other leg has users."""
    soaking(environment, "refusedfull")
    onset = environment.knobs("eks", "refusedfull").set(refuse=True)
    status = rolled_back(environment, "refusedfull", 60)
    found = rescue(environment, "refusedfull", onset)
    print("refused at 100 %:", found)
    assert "pairs of probes" in next(entry["message"] for entry in decisions(status, "RollBack"))
    assert found.seconds <= FULL_SECONDS


@scenario("hungfull", minutes=5.25)
def test_a_hung_leg_at_100_percent_is_left_in_time(environment: Environment) -> None:
    """EKS answers nothing at 100 %: nothing is counted before the route's time-out of 30 s."""
    soaking(environment, "hungfull")
    onset = environment.knobs("eks", "hungfull").set(hang=True)
    status = rolled_back(environment, "hungfull", 60)
    environment.knobs("eks", "hungfull").set(hang=False)
    found = rescue(environment, "hungfull", onset, slow_s=5.0)
    print("hung at 100 %:", found)
    assert "pairs of probes" in next(entry["message"] for entry in decisions(status, "RollBack"))
    assert found.seconds <= FULL_SECONDS
