"""A real etcd and kube-apiserver for the tests of this folder, with our CRDs in it."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.kit.control_plane import ControlPlane

from cutover.adapters.kube.client import Cluster
from devstack.stack import Stack
from sandbox.manifests import OPERATOR_ACCOUNT, OPERATOR_NAMESPACE, chart_rules, crds, operator_rights


class Api:
    """The API server as its administrator sees it."""

    def __init__(self, stack: Stack) -> None:
        self.kubeconfig = stack.kubeconfig
        self.kubectl = stack.kubectl_path
        self.kubectl_cache = stack.state_dir / "kubectl-cache"
        config = yaml.safe_load(stack.kubeconfig.read_text(encoding="utf-8"))
        self.url: str = config["clusters"][0]["cluster"]["server"]
        token = config["users"][0]["user"]["token"]
        self.client = httpx.Client(
            base_url=self.url,
            verify=ssl.create_default_context(cafile=stack.ca_file),
            headers={"Authorization": f"Bearer {token}"},
            timeout=30.0,
            trust_env=False,
        )

    def call(self, method: str, path: str, body: Any = None, **parameters: str) -> tuple[int, dict[str, Any]]:
        """Return the status code and the answer."""
        answer = self.client.request(method, path, json=body, params=parameters)
        return answer.status_code, answer.json()

    def plan(self, namespace: str, name: str = "pdf") -> dict[str, Any]:
        """Return a plan; for what is asked again and again, where a process for each time computes too long."""
        code, plan = self.call("GET", f"/apis/cutover.dev/v1alpha1/namespaces/{namespace}/migrationplans/{name}")
        return plan if code == httpx.codes.OK else {}


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl in one namespace."""

    api: Api
    namespace: str

    def __call__(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """Return what it prints, on both outputs."""
        command = [str(self.api.kubectl), "--kubeconfig", str(self.api.kubeconfig), "--namespace", self.namespace]
        # Not that of the person who runs the tests, where an earlier server of this port may have left its kinds.
        command += ["--cache-dir", str(self.api.kubectl_cache)]
        done = subprocess.run(
            [*command, *arguments],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """Etcd and the API server, for as long as the tests run."""
    with ControlPlane(tmp_path_factory.mktemp("control-plane")) as stack:
        yield stack


@pytest.fixture(scope="session")
def api(stack: Stack) -> Iterator[Api]:
    """The API server with our CRDs."""
    stack.install_crds(crds())
    api = Api(stack)
    yield api
    api.client.close()


@pytest.fixture(scope="session")
def istio_crds(stack: ControlPlane, api: Api) -> None:
    """Istio's CRDs, for tests that write routing objects."""
    stack.install_istio()


_numbers = count(1)


@pytest.fixture
def namespace(api: Api) -> str:
    """A fresh namespace; without a controller-manager nothing ever removes it, nor need it."""
    name = f"test-{next(_numbers)}"
    status, answer = api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert status == 201, answer
    return name


@pytest.fixture
def kubectl(api: Api, namespace: str) -> Kubectl:
    """Kubectl in the fresh namespace."""
    return Kubectl(api, namespace)


@pytest.fixture(scope="session")
def operator_kubeconfig(stack: Stack, api: Api) -> Path:
    """The operator's ServiceAccount, bound to what the chart grants and nothing else."""
    stack.apply(operator_rights(chart_rules()))
    return stack.service_account_kubeconfig(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT)


@pytest.fixture
async def cluster(operator_kubeconfig: Path) -> AsyncIterator[Cluster]:
    """The adapter's client, under the operator's ServiceAccount."""
    cluster = await Cluster.connect(operator_kubeconfig)
    yield cluster
    await cluster.close()
