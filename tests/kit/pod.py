"""Pods as processes of this machine, from what their manifests say and nothing else.

A container's files are in a folder: paths in its environment and in its mounted files are rewritten to be there. Ports are
free ones. The token of its ServiceAccount is where the client is told to look for it. What a manifest forgets is missing here
as it would be in a cluster: a variable, a mount, a right, a port.
"""

from __future__ import annotations

import base64
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import yaml

from cutover.settings import Settings
from devstack.stack import Stack
from devstack.support import free_port

ROOT = Path(__file__).parents[2]
#: What the image starts where a container names no command.
_ENTRYPOINT = yaml.safe_load(re.findall(r"^ENTRYPOINT (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[-1])
#: Starts a module as the image does, with the token where the test has put it.
_IN_POD = """
import runpy, sys
from kubernetes.aio.config import incluster_config
folder, module = sys.argv[1:3]
incluster_config.SERVICE_TOKEN_FILENAME, incluster_config.SERVICE_CERT_FILENAME = f"{folder}/token", f"{folder}/ca.crt"
sys.argv[:] = [module]
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""
#: Where the operator listens by default.
_PORTS = {f"CUTOVER_{name.upper()}": Settings.model_fields[name].default for name in ("health_port", "metrics_port")}

Json = dict[str, Any]


class Pod:
    """The first Pod of a Deployment.

    Parameters
    ----------
    stack
        The API server that has the Deployment, and what its Pods mount.
    namespace, deployment
        Which one.
    folder
        For its files and its log.
    outside
        Settings of which a cluster has no need: addresses of the world outside.
    """

    def __init__(self, stack: Stack, namespace: str, deployment: str, folder: Path, **outside: str) -> None:
        self._outside = outside
        self._api, self._stack, self._namespace, self._folder = stack.api(), stack, namespace, folder
        found = self._get("apps/v1", "deployments", deployment)
        self.labels: Json = found["spec"]["template"]["metadata"]["labels"]
        self._pod: Json = found["spec"]["template"]["spec"]
        (self._container,) = self._pod["containers"]
        self.log = folder / "log"
        declared = {port["containerPort"]: port["name"] for port in self._container["ports"]}
        self._free = {number: free_port() for number in declared}
        #: The ports of this machine, by the names of the container's.
        self.ports = {name: self._free[number] for number, name in declared.items()}
        self.environment = {one["name"]: one.get("value", "") for one in self._container["env"]}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait as the kubelet does: until its startup probe passes. Raises AssertionError if it does not."""
        assert "command" not in self._container
        assert "args" not in self._container
        assert _ENTRYPOINT[:2] == ["python", "-m"]
        account = self._token()
        self._mount()
        environment = self._variables()
        # A port of the operator's that the container does not declare is not known here.
        environment |= {name: str(self._free[int(environment.get(name, port))]) for name, port in _PORTS.items()}
        command = [sys.executable, "-c", _IN_POD, str(account), *_ENTRYPOINT[2:]]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self._folder)
        probe = self._container["startupProbe"]
        end = time.monotonic() + probe["periodSeconds"] * probe["failureThreshold"]
        while not self._probed(probe):
            assert self._process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.1)

    def stop(self) -> None:
        """Terminate it, and wait until it has ended."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @property
    def text(self) -> str:
        """All that it has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def alive(self) -> bool:
        """Tell whether its liveness probe passes."""
        return self._probed(self._container["livenessProbe"])

    def metrics(self) -> str:
        """Return what it says at the port that is named so."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['metrics']}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def _probed(self, probe: Json) -> bool:
        target = probe["httpGet"]
        try:
            url = f"http://127.0.0.1:{self.ports[target['port']]}{target['path']}"
            with urllib.request.urlopen(url, timeout=probe.get("timeoutSeconds", 1)):
                return True
        except OSError:
            return False

    def _get(self, version: str, plural: str, name: str) -> Json:
        group = "api" if version == "v1" else "apis"
        found: Json = self._api.call(f"/{group}/{version}/namespaces/{self._namespace}/{plural}/{name}")
        return found

    def _token(self) -> Path:
        """Make the files of the ServiceAccount, which the kubelet makes only where the Pod or the account says so."""
        folder = self._folder / "account"
        folder.mkdir(exist_ok=True)
        if self._pod["automountServiceAccountToken"]:
            kubeconfig = self._stack.service_account_kubeconfig(self._namespace, self._pod["serviceAccountName"])
            token = yaml.safe_load(kubeconfig.read_text())["users"][0]["user"]["token"]
            (folder / "token").write_text(token)
            (folder / "ca.crt").write_bytes(self._stack.ca_file.read_bytes())
        return folder

    def _mount(self) -> None:
        """Write the mounted files."""
        volumes = {volume["name"]: volume for volume in self._pod["volumes"]}
        for mount in self._container["volumeMounts"]:
            folder = Path(self._here(mount["mountPath"]))
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in self._files(volumes[mount["name"]]).items():
                (folder / name).write_text(self._here(text))

    def _variables(self) -> dict[str, str]:
        """Return the environment: the image's, the cluster's, and the container's own."""
        address = urllib.parse.urlsplit(self._stack.api_url)
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "operator"),  # the image's
            "KUBERNETES_SERVICE_HOST": address.hostname or "",
            "KUBERNETES_SERVICE_PORT": str(address.port),
            **{name: self._here(value) for name, value in self.environment.items()},
            **self._outside,
            "CUTOVER_LISTEN_ADDRESS": "127.0.0.1",
        }

    def _files(self, volume: Json) -> dict[str, str]:
        if "configMap" in volume:
            data: dict[str, str] = self._get("v1", "configmaps", volume["configMap"]["name"])["data"]
            return data
        if "secret" in volume:
            secret = self._get("v1", "secrets", volume["secret"]["secretName"])["data"]
            files = {key: base64.b64decode(value).decode() for key, value in secret.items()}
            items = volume["secret"].get("items")
            return {item["path"]: files[item["key"]] for item in items} if items else files
        assert "emptyDir" in volume, volume
        return {}

    def _here(self, text: str) -> str:
        return re.sub(r"(?<![\w/])(/etc/cutover|/tmp)(?=/|$)", rf"{self._folder}\1", text)


@contextmanager
def services(stack: Stack, pod: Pod) -> Iterator[str]:
    """Yield the address of a proxy that resolves Services as a cluster does, where they select the Pod."""
    api = stack.api()

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urllib.parse.urlsplit(self.path)
            name, namespace, _ = (url.hostname or "").split(".", 2)
            spec = api.call(f"/api/v1/namespaces/{namespace}/services/{name}")["spec"]
            (port,) = [one["targetPort"] for one in spec["ports"] if one["port"] == url.port]
            selected = spec["selector"].items() <= pod.labels.items()
            try:
                target = f"http://127.0.0.1:{pod.ports[port] if selected else 9}{url.path}"
                with urllib.request.urlopen(target, timeout=5) as answer:
                    self.send_response(answer.status)
                    self.end_headers()
                    self.wfile.write(answer.read())
            except OSError as error:
                self.send_error(503, str(error))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def run_once(pod: Json, proxy: str) -> subprocess.CompletedProcess[str]:
    """Run the one container of a Pod that ends, with a cluster's Services behind a proxy."""
    (container,) = pod["spec"]["containers"]
    assert container["command"][0] == "python"
    command = [sys.executable, *container["command"][1:], *container["args"]]
    environment = {"PATH": os.environ["PATH"], "http_proxy": proxy}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=90)
