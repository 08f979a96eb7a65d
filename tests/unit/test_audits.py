"""The audits: what they find in Deployments as teams have them, and that they find nothing in healthy ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from tests.kit.audited import inventory
from tests.kit.target import named
from tests.kit.world import plan_spec

from cutover.api.v1alpha1 import CheckResult
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Facts, Finding
from cutover.domain.preflight.commands import Command, commands
from cutover.domain.preflight.inventory import Inventory
from cutover.domain.preflight.listening import ports_told
from cutover.domain.preflight.workload import Container, quantity, selects
from cutover.domain.resources import (
    DEPLOYMENTS,
    HORIZONTAL_POD_AUTOSCALERS,
    POD_DISRUPTION_BUDGETS,
    SERVICES,
    Json,
)

ROOT = Path(__file__).resolve().parents[2]
CORPUS = list(yaml.safe_load_all((ROOT / "tests" / "corpus" / "deployments.yaml").read_text(encoding="utf-8")))
AUDITS = registry.REPEATED


def plan() -> Plan:
    return Plan("shop", "pdf", "1", 1, plan_spec())


def judged(deployment: Json) -> dict[str, Finding]:
    """Return what the audits find, by their names."""
    facts = Facts(inventory=inventory(deployment))
    found = {check.name: check.judge(plan(), facts) for check in AUDITS}
    assert {one.result for one in found.values()} <= {CheckResult.PASSED, CheckResult.WARNED, CheckResult.FAILED}
    return {name: one for name, one in sorted(found.items()) if one.message}


def findings(deployment: Json) -> dict[str, str]:
    """Return the messages of the audits that find something, by their names."""
    return {name: one.message for name, one in judged(deployment).items()}


@pytest.mark.parametrize("deployment", CORPUS, ids=lambda body: body["metadata"]["name"])
def test_what_is_found_in_a_deployment(deployment: Json) -> None:
    found, told = judged(deployment), deployment["metadata"]["annotations"]
    assert ", ".join(found) == told["finds"], found
    assert ", ".join(name for name, one in found.items() if one.result is CheckResult.FAILED) == told.get("fails", "")


def test_each_audit_finds_something_in_the_corpus_and_passes_somewhere() -> None:
    found = [deployment["metadata"]["annotations"]["finds"].split(", ") for deployment in CORPUS]
    for check in AUDITS:
        assert 0 < sum(check.name in names for names in found) < len(found), check.name


def test_each_audit_has_its_section_in_the_docs() -> None:
    page = (ROOT / "docs" / "audits.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^## `([a-z-]+)`$", page, flags=re.MULTILINE)) == sorted(check.name for check in AUDITS)


def test_a_message_says_the_numbers_and_what_to_do() -> None:
    by_name = {deployment["metadata"]["name"]: deployment for deployment in CORPUS}
    assert findings(by_name["throttled"])["cpu-limit"] == (
        "container web may use 1.5 CPU, which is 150 ms in each 100 ms: its 20 processes or threads, if all are busy, can use"
        " that up in 7.5 ms and then stand still for 92.5 ms, which shows in the slowest requests only: remove the limit and"
        " keep the request, or raise the limit to 20 or more"
    )
    assert "12 replicas with 20 connections each open up to 240" in findings(by_name["throttled"])["connections"]
    assert "has 10 s to end" in findings(by_name["little-left"])["shutdown"]
    assert "api.payments.example.com: with ndots 5" in findings(by_name["no-budget"])["dns-search"]


def test_what_proves_harm_can_be_skipped_all_the_same() -> None:
    for deployment in CORPUS:
        for name in filter(None, deployment["metadata"]["annotations"].get("fails", "").split(", ")):
            skipped = plan_spec(preflight={"skip": [{"check": name, "reason": "a webhook adds it"}]})
            asked = Plan("shop", "pdf", "1", 1, skipped)
            (status,) = (one for one in registry.again(asked, inventory(deployment)) if one.check == name)
            assert (status.result, status.message) == (CheckResult.SKIPPED, "skipped: a webhook adds it")


@pytest.mark.parametrize(
    ("container", "ports"),
    [
        ({"command": ["gunicorn", "x", "-b", "0.0.0.0:8000", "--bind=[::]:8001"]}, {8000, 8001}),
        ({"command": ["gunicorn", "x", "-b:8000"]}, {8000}),
        ({"command": ["gunicorn", "x", "-b", "0.0.0.0:8000", "-b", "unix:/run/x.sock"]}, set()),
        ({"command": ["gunicorn", "x", "-b", "0.0.0.0:8000", "-c", "conf.py"]}, {8000}),
        ({"command": ["gunicorn", "x"], "env": [{"name": "PORT", "value": "8000"}]}, set()),
        ({"command": ["gunicorn", "x", "-b", "0.0.0.0:$PORT"]}, set()),
        ({"command": ["gunicorn", "x", "-b", ":$(PORT)"], "env": [{"name": "PORT", "value": "80"}]}, {80}),
        ({"command": ["uvicorn", "x:app", "--port", "8000"]}, {8000}),
        ({"command": ["uvicorn", "x:app", "--port", "8000", "--uds", "/run/x.sock"]}, set()),
        ({"command": ["sh", "-c", "cd /app && exec granian x:app --port 8000"]}, {8000}),
        ({"command": ["sh", "-c", "nginx && exec uvicorn x:app --port 8000"]}, set()),
        ({"command": ["sh", "-c", "uvicorn x:app --port 8000 & exec nginx"]}, set()),
        ({"command": ["sh", "-c", "nginx & exec uvicorn x:app --port 8000"]}, set()),
        ({"command": ["hypercorn", "x:app", "--bind", "0.0.0.0:8000", "--insecure-bind", "0.0.0.0:80"]}, set()),
        ({"command": ["daphne", "-p8000", "x:app"]}, {8000}),
        ({"command": ["puma", "-p", "3000"]}, set()),
        ({"command": ["./start.sh"]}, set()),
        ({}, set()),
    ],
)
def test_a_port_is_told_only_where_the_command_proves_it(container: Json, ports: set[int]) -> None:
    assert ports_told(Container("web", container)) == ports


def test_no_value_of_a_variable_is_told_but_the_names_of_hosts() -> None:
    by_name = {deployment["metadata"]["name"]: deployment for deployment in CORPUS}
    assert "word" not in findings(by_name["no-budget"])["dns-search"]


def test_a_deployment_that_is_missing_is_left_to_its_own_check() -> None:
    nothing = Inventory(
        objects={DEPLOYMENTS: {("shop", "pdf"): None}, SERVICES: {("shop", "pdf"): None}},
        lists={HORIZONTAL_POD_AUTOSCALERS: [], POD_DISRUPTION_BUDGETS: []},
    )
    assert {check.judge(plan(), Facts(inventory=nothing)).result for check in AUDITS} == {CheckResult.PASSED}


# What a served Deployment can look like at the worst: fields that are missing or null, and texts of any kind.
TEXTS = st.sampled_from(
    ["", "sh", "-c", "exec", "puma -w", "--bind=", "'", "\\", "$PORT", "127.0.0.1", "npm ci", "١"]
) | st.text(max_size=12)
NULLS = st.none()
CONTAINERS = st.fixed_dictionaries(
    {"name": st.just("web")},
    optional={
        "image": TEXTS | NULLS,
        "command": st.lists(TEXTS, max_size=4) | NULLS,
        "args": st.lists(TEXTS, max_size=4) | NULLS,
        "env": st.lists(st.fixed_dictionaries({"name": TEXTS}, optional={"value": TEXTS}), max_size=3) | NULLS,
        "ports": st.lists(st.fixed_dictionaries({"containerPort": st.integers(1, 65535)}), max_size=2) | NULLS,
        "resources": st.fixed_dictionaries(
            {}, optional={"limits": st.dictionaries(st.sampled_from(["cpu", "memory"]), TEXTS), "requests": NULLS}
        )
        | NULLS,
        "readinessProbe": st.fixed_dictionaries({}, optional={"httpGet": NULLS, "periodSeconds": st.integers(1, 99)})
        | NULLS,
        "lifecycle": st.fixed_dictionaries({}, optional={"preStop": NULLS | st.just({"exec": {"command": ["sleep"]}})})
        | NULLS,
        "securityContext": NULLS,
    },
)
PODS = st.fixed_dictionaries(
    {},
    optional={
        "containers": st.lists(CONTAINERS, max_size=2) | NULLS,
        "initContainers": st.lists(CONTAINERS, max_size=1) | NULLS,
        "affinity": NULLS,
        "dnsConfig": NULLS,
    },
)


@given(pod=PODS, replicas=st.integers(0, 5), strategy=NULLS | st.just({"rollingUpdate": {"maxUnavailable": "x"}}))
def test_no_deployment_makes_an_audit_fail(pod: Json, replicas: int, strategy: Any) -> None:
    spec = {"replicas": replicas, "strategy": strategy, "template": {"spec": pod}}
    findings(named("shop", "pdf", spec=spec))


# ------------------------------------------------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("words", "programs", "shell", "replaces"),
    [
        (["node", "server.js"], ["node"], "", False),
        (["/usr/bin/env", "A=1", "node", "x.js"], ["node"], "", False),
        (["tini", "-g", "--", "python", "-m", "gunicorn", "x"], ["gunicorn"], "", False),
        (["bundle", "exec", "puma"], ["puma"], "", False),
        (["sh", "-c", "puma"], ["puma"], "sh", False),
        (["/bin/sh", "-c", "exec bundle exec puma"], ["puma"], "sh", True),
        (["bash", "-l", "-c", "a && B=2 b; exec c | tee x"], ["a", "b", "c", "tee"], "bash", False),
        (["bash", "-lc", "a\nexec b \\\n  --flag"], ["a", "b"], "bash", True),
        (["sh", "./start.sh"], ["sh"], "", False),
        (["sh", "-c"], [], "", False),
        (["sh", "-c", "a 'open"], ["a"], "sh", False),
        ([], [], "", False),
    ],
)
def test_the_commands_that_start_a_container(
    words: list[str], programs: list[str], shell: str, replaces: bool
) -> None:
    found = commands(tuple(words))
    assert [one.program for one in found] == programs
    if programs:
        assert (found[-1].shell, found[-1].replaces_shell) == (shell, replaces)


@pytest.mark.parametrize("arguments", [("--bind", "x:1"), ("--bind=x:1",), ("-b", "x:1"), ("-bx:1",)])
def test_a_flag_is_found_however_it_is_written(arguments: tuple[str, ...]) -> None:
    assert Command("gunicorn", ("app", *arguments)).value("--bind", "-b") == "x:1"


def test_a_flag_that_is_not_there_or_has_no_value() -> None:
    assert Command("gunicorn", ("--bind-extra=1",)).value("--bind", "-b") is None
    assert Command("gunicorn", ("--bind",)).value("--bind") == ""


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", 0.5),
        ("2", 2.0),
        ("1.5", 1.5),
        ("512Mi", 512 * 2**20),
        ("1G", 1e9),
        ("1e3", 1000.0),
        ("x", None),
        ("5x", None),
        ("1.2.3", None),
    ],
)
def test_quantities(text: str, value: float | None) -> None:
    assert quantity(text) == value


def test_what_a_selector_selects() -> None:
    labels = {"app": "web", "tier": "front"}
    assert selects({"matchLabels": {"app": "web"}}, labels)
    assert not selects({"matchLabels": {"app": "jobs"}}, labels)
    assert selects({"matchExpressions": [{"key": "tier", "operator": "In", "values": ["front"]}]}, labels)
    assert not selects({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, labels)
    assert selects({}, labels)
