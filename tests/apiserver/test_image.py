"""The operator's image, made by the Dockerfile's own steps without Docker, and started as the chart starts it."""

from __future__ import annotations

import json
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from tests.kit.builders import plan_body_of
from tests.kit.image import ROOT, Image, make
from tests.kit.waiting import until

from devstack.api import fetch
from devstack.stack import Stack
from devstack.support import cache_root, free_port
from sandbox.manifests import Json

#: Where Kubernetes puts a Pod's account.
ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return make(tmp_path_factory.mktemp("image"), cache_root() / "wheels")


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    """The chart's empty volume, which everybody may write."""
    tmp_path.chmod(0o777)
    return tmp_path


def run(image: Image, tmp: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(image.command([*argv], tmp), capture_output=True, text=True, check=False, timeout=120)


def test_nothing_can_be_written_or_installed_where_it_runs(image: Image, tmp: Path) -> None:
    script = (
        "id -u; touch /tmp/x; touch /x /app/x /packages/x /usr/local/x; grep CapEff /proc/self/status; python -m pip"
    )
    done = run(image, tmp, "sh", "-c", script)
    assert done.stdout.split() == ["10001", "CapEff:", "0" * 16]
    assert (tmp / "x").exists()
    assert done.stderr.count("Read-only file system") == 4
    assert "No module named pip" in done.stderr


def test_all_modules_are_there_with_their_byte_code(image: Image, tmp: Path) -> None:
    """A module that is imported late would be missed by a start."""
    script = (
        "import importlib, pathlib, sys\n"
        "names = ['.'.join(p.relative_to('/app').with_suffix('').parts) for p in pathlib.Path('/app/cutover').rglob('*.py')]\n"
        "for name in names: importlib.import_module(name.removesuffix('.__init__'))\n"
        "made = [m for m in list(sys.modules.values()) if (getattr(m, '__file__', '') or '').startswith(('/app', '/packages'))"
        " and m.__file__.endswith('.py') and not pathlib.Path(m.__cached__).exists()]\n"
        "print(len(names), len(made), sys.version_info[:2])"
    )
    done = run(image, tmp, "python", "-c", script)
    assert done.returncode == 0, done.stderr
    modules, without, version = done.stdout.split(maxsplit=2)
    assert int(modules) == len(list((ROOT / "operator" / "cutover").rglob("*.py")))
    assert without == "0"
    # Where pyenv has the base's version here; else the one that runs the tests stands in for it.
    assert image.python.name.startswith(".".join(re.findall(r"\d+", version)))


def test_all_commands_of_the_project_are_there(image: Image, tmp: Path) -> None:
    """The operator itself is the entry point."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # The plugin is for people's machines.
    wanted = project["scripts"].keys() - {"cutover-operator", "kubectl-cutover", "kubectl_complete-cutover"}
    assert run(image, tmp, "ls", "/app/bin").stdout.split() == sorted(wanted)
    # Without its settings the drain says what it lacks.
    done = run(image, tmp, "cutover-drain")
    assert (done.returncode != 0, "Traceback" in done.stderr) == (True, False), done.stderr


def test_the_backtest_starts(image: Image, tmp: Path) -> None:
    (tmp / "plan.yaml").write_text(yaml.safe_dump(plan_body_of("documents")))
    done = run(image, tmp, "cutover-backtest", "--plan", "/tmp/plan.yaml", "--prometheus", "http://127.0.0.1:9")
    assert (done.returncode, "127.0.0.1:9" in done.stderr) == (1, True), done.stderr
    assert "Traceback" not in done.stderr


def test_it_says_what_it_is(image: Image) -> None:
    assert image.stage.entrypoint == ["python", "-m", "cutover.main"]
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.labels.items()}
    assert labels.keys() == {"title", "description", "licenses", "version", "revision"}
    assert (labels["title"], labels["licenses"]) == ("cutover", "Apache-2.0")


@pytest.fixture
def pod(
    image: Image, tmp: Path, stack: Stack, operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The image's program as a Pod has it, with the account that Kubernetes mounts; the port of its health."""
    account = tmp_path_factory.mktemp("account")
    config: Json = yaml.safe_load(operator_kubeconfig.read_text(encoding="utf-8"))
    (account / "token").write_text(config["users"][0]["user"]["token"])
    (account / "ca.crt").write_bytes(stack.ca_file.read_bytes())
    (account / "namespace").write_text("cutover-system")
    health, server = free_port(), urlsplit(stack.api_url)
    command = image.command(
        image.stage.entrypoint,
        tmp,
        mounts={ACCOUNT: account},
        KUBERNETES_SERVICE_HOST=str(server.hostname),
        KUBERNETES_SERVICE_PORT=str(server.port),
        **settings(health),
    )
    with (tmp / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        yield health
        # Not after the end: asyncio may complain of a watch of Kopf's that it closes twice.
        assert "Traceback" not in (tmp / "log").read_text()
        process.terminate()
        assert process.wait(30) == 0, (tmp / "log").read_text()


def settings(health: int) -> Mapping[str, str]:
    return {
        "CUTOVER_PROMETHEUS_URL": "http://127.0.0.1:9",
        "CUTOVER_HEALTH_PORT": str(health),
        "CUTOVER_METRICS_PORT": "0",
        "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
    }


@pytest.mark.usefixtures("istio_crds")
def test_the_operator_runs_from_it(pod: int, kubectl: Any, api: Any, namespace: str) -> None:
    """It logs in by its account, answers its probe, and takes a plan in hand."""

    def healthy() -> bool:
        try:
            return bool(fetch(f"http://127.0.0.1:{pod}/healthz"))
        except OSError:
            return False

    until("healthy", healthy)
    kubectl("apply", "-f", "-", stdin=json.dumps(plan_body_of(namespace)))

    until("seen", lambda: api.plan(namespace).get("status", {}).get("phase") == "Preflight")
