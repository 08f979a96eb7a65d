"""The charts as the real Helm renders them."""

from __future__ import annotations

import functools
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import yaml

from devstack.readymade import ensure_tools
from devstack.support import documents

CHARTS = Path(__file__).parents[2] / "charts"
CHART, CRDS = CHARTS / "cutover", CHARTS / "cutover-crds"
RELEASE, NAMESPACE = "cutover", "cutover-system"
#: What has no default.
NEEDED = {"image": {"repository": "registry.example/cutover"}, "prometheus": {"url": "http://prometheus.example:9090"}}

Json = dict[str, Any]


class Refused(Exception):
    """Helm refuses; its text says why."""


def values(**given: Any) -> Json:
    """Return the chart's own values, with some of them replaced."""
    stated: Json = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    return {**stated, **given}


def rendered(template: str = "", /, *, release: str = RELEASE, namespace: str = NAMESPACE, **given: Any) -> list[Json]:
    """Return the objects of the chart, or of one of its templates, with some values set beside the needed ones.

    Raises
    ------
    Refused
        If Helm does.
    """
    text = _templated(release, namespace, json.dumps({**NEEDED, **given}))
    found = [item for item in text.split("\n---\n") if not template or f"/templates/{template}\n" in item]
    return [item for part in found for item in documents(part) if item]


@functools.cache
def _templated(release: str, namespace: str, values: str) -> str:
    """Render the chart; each of its values once, as Helm computes longer than what reads them."""
    return helm("template", release, str(CHART), "--namespace", namespace, values=json.loads(values))


def helm(*arguments: str, values: Json | None = None, kubeconfig: Path | None = None) -> str:
    """Run Helm and return what it prints.

    Parameters
    ----------
    values
        Values to set, by a file.
    kubeconfig
        The cluster's, where one is needed.

    Raises
    ------
    Refused
        If Helm fails.
    """
    with tempfile.TemporaryDirectory(prefix="cutover-helm-") as folder:
        command = [str(ensure_tools()["helm"]), *arguments]
        if values is not None:
            file = Path(folder, "values.json")
            file.write_text(json.dumps(values), encoding="utf-8")
            command += ["--values", str(file)]
        # Nothing of the person who runs the tests: no repositories, no plugins, no cluster.
        environment = {f"HELM_{name}_HOME": f"{folder}/{name}" for name in ("CACHE", "CONFIG", "DATA")}
        environment |= {"HOME": folder, "KUBECONFIG": str(kubeconfig or "/nowhere")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    if done.returncode:
        raise Refused(done.stderr.strip())
    return done.stdout


def lease_rights() -> list[Json]:
    """Return the Role and its binding that the chart has for the election."""
    return [item for item in rendered("lease.yaml") if item["kind"] in ("Role", "RoleBinding")]
