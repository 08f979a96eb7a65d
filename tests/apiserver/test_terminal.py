"""What docs/terminal.md and examples/k9s say to type, by the real kubectl against a real API server."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.corpus import BASE

from cutover.api.v1alpha1 import Phase

from .conftest import Kubectl

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "terminal.md").read_text(encoding="utf-8")
PLUGINS = yaml.safe_load((ROOT / "examples" / "k9s" / "plugins.yaml").read_text(encoding="utf-8"))["plugins"]
#: In no order of names, phases or reasons.
TROUBLE = {"harmed": 3, "calm": 0, "waiting": 1, "back": 2}


@pytest.fixture
def plans(kubectl: Kubectl) -> Kubectl:
    for name, trouble in TROUBLE.items():
        spec = json.loads(json.dumps(BASE["spec"]))
        spec["traffic"]["istio"]["hosts"] = [f"{name}.example.com"]
        plan = {**BASE, "metadata": {"name": name, "namespace": kubectl.namespace}, "spec": spec}
        kubectl("apply", "-f", "-", stdin=json.dumps(plan))
        ledger = {"at": "2027-01-11T10:00:00Z", "attempt": 4, "decision": "Advance", "reason": "EvidenceOfSafety"}
        status = {
            "phase": str(Phase.SHIFTING),
            "attempt": 4,
            "trouble": trouble,
            "message": f"{name}: within tolerance",
            "ledger": [{**ledger, "fromWeight": 10, "toWeight": 25, "message": "proven safe"}],
            "gates": [{"name": "errors", "verdict": "Pass", "sentence": "EKS 0.1 % vs Heroku 0.1 %"}],
        }
        kubectl("patch", "mplan", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    return kubectl


def test_plans_are_sorted_by_trouble(plans: Kubectl) -> None:
    (command,) = re.findall(r"^kubectl (get mplan .*--sort-by.*)$", PAGE, re.MULTILINE)
    lines = plans(*command.replace(" -A", "").split()).splitlines()
    assert "TROUBLE" in lines[0].split()
    assert [line.split()[0] for line in lines[1:]] == ["calm", "waiting", "back", "harmed"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cutover-ledger", ["2027-01-11T10:00:00Z  Advance  10 → 25 %  proven safe"]),
        ("cutover-gates", ["harmed: within tolerance", "", "errors  Pass  EKS 0.1 % vs Heroku 0.1 %"]),
    ],
)
def test_keys_of_k9s_show_what_they_say(plans: Kubectl, name: str, shown: list[str]) -> None:
    assert press(plans, name).splitlines() == shown


def test_the_key_to_go_back_is_for_the_present_attempt(plans: Kubectl) -> None:
    press(plans, "cutover-rollback")
    plan = json.loads(plans("get", "mplan", "harmed", "-o", "json"))
    assert plan["metadata"]["annotations"]["cutover.dev/rollback"] == "a4"


def press(kubectl: Kubectl, name: str) -> str:
    """Run what k9s runs for a key, with a pager that does not wait."""
    plugin = PLUGINS[name]
    (context,) = yaml.safe_load(kubectl.api.kubeconfig.read_text(encoding="utf-8"))["contexts"]
    values = {"$CONTEXT": context["name"], "$NAMESPACE": kubectl.namespace, "$NAME": "harmed"}
    arguments = [values.get(one, one) for one in plugin["args"]]
    arguments[1] = re.sub(r"\bless\b[^|]*$", "cat", arguments[1])
    environment = {
        "PATH": f"{kubectl.api.kubectl.parent}:{os.environ['PATH']}",
        "KUBECONFIG": str(kubectl.api.kubeconfig),
        "HOME": "/nowhere",
    }
    done = subprocess.run(
        [plugin["command"], *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
