"""`kubectl cutover` with a running operator on the real stack: each command as a person types it, and its effect.

The plan is made by `init` and applied as it is; how long it takes until the first step is printed. The program is started as a
process of its own each time, by kubectl, on what `make try` starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.waiting import until

from cutover.cli.exits import Exit
from demo.playground import RATE, SERVICE
from demoapps.apps import KnobHandle
from sandbox.manifests import heroku_hostname, public_host

ROOT = Path(__file__).parents[2]
#: Evidence takes longer where others use the machine.
PATIENCE = "20m"


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def said(self) -> str:
        """What it said to people, as one line."""
        return " ".join(self.err.split())


class Reader:
    """Somebody at a terminal, in a folder, with what `make try` has started."""

    def __init__(self, state: Path, folder: Path) -> None:
        self.state, self.folder, self.began = state, folder, time.monotonic()
        shell = ["bash", "-c", f"source {state}/env; env -0"]
        found = subprocess.run(shell, capture_output=True, check=True, text=True).stdout
        self.environment = dict(line.split("=", 1) for line in found.split("\0") if line)

    def kubectl(self, *arguments: str, stdin: str = "", code: int | None = 0) -> Done:
        """Run kubectl, and see that it ends with a code."""
        began = time.monotonic()
        ran = subprocess.run(
            ["kubectl", *arguments],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            capture_output=True,
            check=False,
            text=True,
            timeout=1500,
        )
        done = Done(ran.returncode, ran.stdout, ran.stderr, time.monotonic() - began)
        # Data is for programs, and long.
        shown = f"{ran.stdout[:200]} …\n" if {"json", "yaml"} & set(arguments) else ran.stdout
        print(f"{began - self.began:5.0f} s $ kubectl {' '.join(arguments)}\n{shown}{ran.stderr}", flush=True)
        assert code is None or done.code == code, f"{arguments} ended with {done.code}\n{done.out}\n{done.err}"
        assert "Traceback" not in done.err
        return done

    def cutover(self, *arguments: str, code: int = Exit.DONE) -> Done:
        """Run the plugin."""
        return self.kubectl("cutover", *arguments, code=code)

    def asks(self, *arguments: str, effect: str) -> Done:
        """Ask something of the plan, and see that its effect is there and is told."""
        done = self.cutover(*arguments, "--yes", "--timeout", PATIENCE)
        assert f"Done: {effect}" in done.said, done.err
        return done

    def until(self, condition: str) -> None:
        self.kubectl("wait", f"--for={condition}", f"mplan/{SERVICE}", f"--timeout={PATIENCE}")

    def held(self, reason: str) -> None:
        self.until(f"jsonpath={{.status.held.reason}}={reason}")

    def edit(self, **spec: Any) -> None:
        self.kubectl("patch", "mplan", SERVICE, "--type=merge", "-p", json.dumps({"spec": spec}))

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.kubectl("get", "mplan", SERVICE, "-o", "json").out)["status"]
        return found

    def checks(self, text: str) -> Mapping[str, str]:
        return {one["check"]: one["result"] for one in json.loads(text)["checks"]}

    def knobs(self, leg: str) -> KnobHandle:
        file, app = ("eks-app.json", SERVICE) if leg == "eks" else ("heroku-sim.json", f"acme-{SERVICE}")
        port = int(json.loads((self.state / "apps" / file).read_text(encoding="utf-8"))["admin_port"])
        return KnobHandle(port, "eks" if leg == "eks" else "heroku", app)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    state, folder = tmp_path_factory.mktemp("stacks") / "try", tmp_path_factory.mktemp("work")
    playground = [sys.executable, "-m", "demo.playground", "--state", str(state)]
    environment = {**os.environ, "PYTHONPATH": "operator:hack"}
    began = time.monotonic()
    try:
        subprocess.run(playground, cwd=ROOT, env=environment, check=True, timeout=600)
        print(f"make try: {time.monotonic() - began:.0f} s")
        yield Reader(state, folder)
    finally:
        subprocess.run([*playground, "--stop"], cwd=ROOT, env=environment, check=False, timeout=120)


INIT = (
    "init",
    SERVICE,
    "--app",
    f"acme-{SERVICE}",
    "--hostname",
    heroku_hostname(SERVICE),
    "--host",
    public_host(SERVICE),
)


@pytest.mark.timeout(7200)
def test_from_nothing_to_the_first_step(reader: Reader) -> None:
    began = time.monotonic()
    made = reader.cutover(*INIT, "--rate", f"{RATE:g}")
    assert "has not judged" not in made.said
    (reader.folder / "plan.yaml").write_text(made.out, encoding="utf-8")
    reader.cutover("audit", "-f", "plan.yaml")
    reader.kubectl("apply", "-f", "plan.yaml")
    reader.until("jsonpath={.status.weight}=10")
    print(f"init to weight 10: {time.monotonic() - began:.0f} s", flush=True)
    until("requests are counted", lambda: reader.status().get("estimate", {}).get("requestsPerSecond"))
    # What a person looks at, in every form.
    for command in ("status", "explain", "history", "get", "estimate", "audit", "diff"):
        reader.cutover(command, SERVICE)
        for form in ("json", "yaml"):
            text = reader.cutover(
                command, SERVICE, "-o", form, *(("--cached",) if command in ("audit", "diff") else ())
            ).out
            assert json.loads(text) if form == "json" else yaml.safe_load(text)


@pytest.mark.timeout(7200)
def test_holding_and_going_back(reader: Reader) -> None:
    reader.asks("suspend", SERVICE, effect="the operator has taken note: nothing rises")
    reader.cutover("suspend", SERVICE, "--yes")  # so already
    assert reader.status()["held"]["reason"] == "Suspended"
    reader.cutover("status", SERVICE, "--exit-code", code=Exit.FOUND)
    reader.asks("resume", SERVICE, effect="it goes on")
    assert reader.status().get("held", {}).get("reason") != "Suspended"
    reader.asks("ceiling", SERVICE, "10", effect="the ceiling is 10 %")
    reader.cutover("retry", SERVICE, "--yes", code=Exit.REFUSED)
    reader.cutover("forward", SERVICE, "--yes", code=Exit.REFUSED)  # the ceiling forbids it
    back = reader.asks("rollback", SERVICE, effect="all traffic is on Heroku")
    assert back.seconds < 60
    reader.cutover("approve", SERVICE, "--yes", code=Exit.REFUSED)


@pytest.mark.timeout(7200)
def test_the_operator_compares_the_legs_when_it_is_asked(reader: Reader) -> None:
    alike = reader.cutover("diff", SERVICE, "-o", "json")
    assert reader.checks(alike.out) == {"answers-alike": "Passed"}
    reader.knobs("eks").set(status=404)
    differs = reader.cutover("diff", SERVICE, code=Exit.FOUND)
    assert "EKS answers with HTTP 404" in " ".join(differs.out.split())
    assert "HTTP 404" in " ".join(reader.cutover("diff", SERVICE, "--cached", code=Exit.FOUND).out.split())
    reader.knobs("eks").set(status=200)
    assert reader.checks(reader.cutover("diff", SERVICE, "-o", "json").out) == {"answers-alike": "Passed"}
    audit = reader.status()["audit"]
    assert audit["answeredAt"] >= audit["askedAt"]
    assert "message" not in audit or audit["message"] == ""


@pytest.mark.timeout(7200)
def test_another_attempt_step_by_step(reader: Reader) -> None:
    # The plan of `make try` has holds of seconds, and asks for an approval.
    reader.kubectl("apply", "-f", str(reader.state / "plan.yaml"))
    now = datetime.now(UTC)
    freeze = {
        "from": f"{now - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}",
        "to": f"{now + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}",
    }
    reader.edit(ceiling=100, schedule={"timeZone": "UTC", "freezes": [{**freeze, "reason": "a fair"}]})
    reader.asks("retry", SERVICE, effect="attempt 2 has begun")
    reader.held("Frozen")
    reader.asks("skip", SERVICE, effect="the step at 10 % has begun")
    reader.edit(schedule=None)
    reader.held("AwaitingApproval")
    reader.asks("approve", SERVICE, effect="the step at 25 % has begun")
    reader.asks("ceiling", SERVICE, "25", effect="the ceiling is 25 %")
    reader.held("Ceiling")
    reader.asks("ceiling", SERVICE, "100", effect="the ceiling is 100 %")
    reader.until("jsonpath={.status.weight}=50")


@pytest.mark.timeout(7200)
def test_forward_and_back_from_there(reader: Reader) -> None:
    reader.edit(suspend=True)  # so that the step at 100 % is not begun by evidence
    reader.held("Suspended")
    reader.cutover("forward", SERVICE, "--yes", code=Exit.REFUSED)
    reader.knobs("heroku").set(platform_error=True)
    reader.edit(suspend=False)
    forward = reader.asks("forward", SERVICE, effect="all traffic is meant for EKS")
    assert forward.seconds < 120
    assert reader.status()["weight"] == 100
    reader.knobs("heroku").set(platform_error=False)
    reader.asks("rollback", SERVICE, effect="all traffic is on Heroku")
    history = reader.cutover("history", SERVICE, "-o", "json").out
    decisions = [one["decision"] for one in json.loads(history)]
    assert "Forward" in decisions
    assert decisions.count("RollBack") == 2
    reader.cutover("report", SERVICE, "-o", "report.html")
    assert "<html" in (reader.folder / "report.html").read_text(encoding="utf-8")
    reader.cutover("support-bundle", SERVICE, "--file", "bundle.tar.gz")
    with tarfile.open(reader.folder / "bundle.tar.gz") as archive:
        assert {"plan.yaml", "events.yaml", "about.yaml"} <= set(archive.getnames())
