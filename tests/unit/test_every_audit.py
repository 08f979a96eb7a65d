"""Each audit of the registry, with an estate in which it finds something and one in which it does not.

An audit without both is a failure: the tables are compared with the registry. Those that look at the workload alone are tried on
the Deployments of the corpus (test_audits.py), and on the first that fits here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.kit.audited import inventory as of_corpus
from tests.kit.record import END, record
from tests.kit.target import READY, named
from tests.kit.world import plan_spec

from cutover.api.v1alpha1 import CheckResult
from cutover.domain.dns import HostRecord
from cutover.domain.dynos import DynoUse
from cutover.domain.fingerprints import ConfigValues, Fingerprints
from cutover.domain.heroku import Addon, Certificate, Domain, HerokuApp, HerokuReading, Process
from cutover.domain.plan import Plan
from cutover.domain.preflight import registry
from cutover.domain.preflight.check import Check, Facts, Finding
from cutover.domain.preflight.workload import MEBIBYTE
from cutover.domain.resources import DEPLOYMENTS, Json

ROOT = Path(__file__).resolve().parents[2]
CORPUS = list(yaml.safe_load_all((ROOT / "tests" / "corpus" / "deployments.yaml").read_text(encoding="utf-8")))
AUDITS = {check.name: check for check in registry.CHECKS if check.advisory}
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
FINGERPRINTS = Fingerprints(b"0123456789abcdef0123456789abcdef")

#: A plan that asks for all that can be asked for.
SPEC: Mapping[str, Any] = {
    "preflight": {"config": {"compareValues": True}},
    "baseline": {"source": "Drain"},
    "heroku": {"app": "acme-pdf", "hostname": "acme-pdf-1a2b3c.herokuapp.com"},
}
#: An app with nothing to find, for the Deployment below.
APP = HerokuApp(
    name="acme-pdf",
    maintenance=False,
    own_hostname="acme-pdf-1a2b3c.herokuapp.com",
    processes=(Process("web", 2, "Standard-1X"),),
    domains=(Domain("pdf.example.com", "quiet-moon-1234.herokudns.com", "cert issued"),),
    certificates=(Certificate(("*.example.com",), NOW + timedelta(days=60)),),
    addons=(Addon("papertrail"),),
    features=frozenset(),
    stack="heroku-24",
    config_vars=frozenset({"MODE"}),
    config_values=ConfigValues({"MODE": FINGERPRINTS.of("production")}, FINGERPRINTS),
    buildpacks=("heroku/ruby",),
    drains=1,
)
CONTAINER: Json = {
    "name": "web",
    "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
    "env": [{"name": "MODE", "value": "production"}],
}
USE = DynoUse(220 * MEBIBYTE, 300 * MEBIBYTE, 0.4)
#: What is changed of the estate above, in which no audit finds anything, so that one does: the app on Heroku, the container,
#: the spec, or other facts.
FOUND: Mapping[str, tuple[str, Any]] = {
    "baseline-capacity": ("app", {"processes": (Process("web", 8, "Standard-1X"),)}),
    "baseline-hours": ("facts", {"record": record(end=END + 12 * 3600)}),
    "config-values": ("container", {"env": [{"name": "MODE", "value": "staging"}]}),
    "config-vars": ("container", {"env": []}),
    "database-connections": (
        "both",
        (
            {"addons": (Addon("heroku-postgresql", "mini"),)},
            {"env": [*CONTAINER["env"], {"name": "DB_POOL", "value": "20"}]},
        ),
    ),
    "dns-ttl": ("facts", {"dns": (HostRecord("pdf.example.com", 3600),)}),
    "dyno-memory": ("app", {"processes": (Process("web", 2, "Standard-2X"),)}),
    "heroku-addons": ("app", {"addons": (Addon("mailgun", "starter", ("MAILGUN_API_KEY",)),)}),
    "heroku-app": ("app", {"maintenance": True}),
    "heroku-certificate": ("app", {"certificates": (Certificate(("*.example.com",), NOW + timedelta(days=9)),)}),
    "heroku-processes": (
        "app",
        {"processes": (Process("web", 2, "Standard-1X"), Process("worker", 1, "Standard-1X"))},
    ),
    "heroku-replicas": ("app", {"processes": (Process("web", 9, "Standard-1X"),)}),
    "heroku-sessions": ("app", {"features": frozenset({"http-session-affinity"})}),
    "heroku-stack": ("app", {"stack": "heroku-20"}),
    "right-sizing": ("facts", {"dynos": replace(USE, most_memory=600 * MEBIBYTE)}),
}


def found(check: Check, *, app: Any = None, container: Any = None, facts: Any = None) -> Finding:
    """Return what a check says of the estate with changes."""
    plan = Plan("shop", "pdf", "1", 1, plan_spec(**SPEC))
    known = READY.inventory(plan)
    spec = {"replicas": 2, "template": {"spec": {"containers": [{**CONTAINER, **(container or {})}]}}}
    known = replace(known, objects={**known.objects, DEPLOYMENTS: {("shop", "pdf"): named("shop", "pdf", spec=spec)}})
    of = replace(APP, **(app or {}))
    usual: dict[str, Any] = {
        "heroku": HerokuReading(of, at=NOW.timestamp()),
        "dns": (HostRecord("pdf.example.com", 60, ("lb.example.net",)),),
        "dynos": USE,
        "record": record(),
    }
    return check.judge(plan, Facts(inventory=known, **(usual | (facts or {}))))


@pytest.mark.parametrize("name", AUDITS)
def test_each_audit_finds_something_and_passes(name: str) -> None:
    check = AUDITS[name]
    if check.repeats:
        harmful = next(body for body in CORPUS if name in body["metadata"]["annotations"]["finds"].split(", "))
        harmless = next(body for body in CORPUS if not body["metadata"]["annotations"]["finds"])
        plan = Plan("shop", "pdf", "1", 1, plan_spec())
        bad, good = (check.judge(plan, Facts(inventory=of_corpus(body))) for body in (harmful, harmless))
    else:
        assert name in FOUND, f"write into FOUND what makes {name} find something"
        part, change = FOUND[name]
        changes = {"app": change[0], "container": change[1]} if part == "both" else {part: change}
        bad, good = found(check, **changes), found(check)
    assert bad.result in (CheckResult.WARNED, CheckResult.FAILED), bad
    assert bad.message, "it says what to do"
    assert good == Finding(CheckResult.PASSED), "a healthy estate without a finding"


def test_no_entry_stands_for_an_audit_that_is_gone() -> None:
    assert set(FOUND) == {name for name, check in AUDITS.items() if not check.repeats}


def test_each_audit_that_may_fail_says_so_in_the_docs() -> None:
    """The table of what proves harm names exactly the audits that can fail."""
    page = (ROOT / "docs" / "audits.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("## When an audit holds the plan")
    rows = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    said = {row.split("`")[1] for row in rows}
    failing = {
        name for body in CORPUS for name in body["metadata"]["annotations"].get("fails", "").split(", ") if name
    }
    assert said == failing | {"service", "workload", "heroku-app", "heroku-certificate"}
