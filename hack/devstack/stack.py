"""One development stack: its ports, its processes in their order, and the handles tests turn."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from devstack import config, supervisor
from devstack.api import KubeApi, fetch
from devstack.build import Programs, ensure_programs
from devstack.pki import ensure_keys
from devstack.support import StackError, cache_root, documents, is_free, tail, try_lock, write_atomically

# Below the range from which the kernel takes ports for outgoing connections.
_PORT_RANGE = range(20000, 32000, 20)
_START_SECONDS = 120.0
_POLL_SECONDS = 0.05
_TERM_SECONDS = 5.0
_TOKEN_SECONDS = 30 * 24 * 3600
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
# Garbage collection of idle Go programs costs more CPU than the memory it saves is worth here.
_GO_ENVIRONMENT = {"GOGC": "200"}
_ISTIOD_ENVIRONMENT = {
    "PILOT_ENABLE_METADATA_EXCHANGE": "false",
    "PILOT_ENABLE_ALPN_FILTER": "false",
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "istiod",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "CLUSTER_ID": "Kubernetes",
    "POD_NAMESPACE": config.ISTIO_NAMESPACE,
    "POD_NAME": "istiod-0",
    "REVISION": "default",
}


@dataclass(frozen=True)
class ProcessStatus:
    """One process of a stack as it is now.

    Parameters
    ----------
    name
        Its name in the stack.
    pid
        Its process id, or None when it does not run.
    port
        The loopback port it serves, or None when it serves none.
    healthy
        Whether it runs and answers its own health check.
    exit_status
        How it ended, or None; negative is the number of the signal that ended it.
    """

    name: str
    pid: int | None
    port: int | None
    healthy: bool
    exit_status: int | None


class Stack:
    """etcd, the Kubernetes control plane, istiod, Envoy and Prometheus on loopback.

    As a context manager it runs for the length of the block. Unless it is detached, everything
    stops when the process that started it ends, however that ends.

    Parameters
    ----------
    state_dir
        The folder for data, logs and keys. Stacks in different folders run side by side; one
        started again in the same folder has its ports and data back.
    scrape_interval_seconds
        How often Prometheus scrapes.
    gateways
        How many proxies the ingress gateway has; they share its port.
    prometheus_targets
        Further metrics URLs to scrape, by job.
    backfill
        How old samples may be that are written to Prometheus by its remote-write protocol, as Prometheus writes durations;
        ``""`` where none are.
    ports
        Ports that have to be these, by the names that `ports` has; the others are chosen.
    detached
        Whether the processes outlive the one that started them; then `stop` has to be called,
        possibly on what `attach` returns.
    log
        Called with a line for each step of starting and stopping.

    Attributes
    ----------
    istio_ingress_namespace, gateway_name, gateway_workload
        Where the Gateway object is, its name, and the workload it is in the mesh's metrics.
    """

    istio_ingress_namespace = config.INGRESS_NAMESPACE
    gateway_name = config.GATEWAY_NAME
    gateway_workload = config.GATEWAY_WORKLOAD

    def __init__(
        self,
        state_dir: Path,
        *,
        scrape_interval_seconds: float = 5.0,
        gateways: int = 1,
        prometheus_targets: Mapping[str, Sequence[str]] | None = None,
        backfill: str = "",
        ports: Mapping[str, int] | None = None,
        detached: bool = False,
        log: Callable[[str], None] | None = None,
    ) -> None:
        if gateways < 1 or scrape_interval_seconds < 0.1:
            raise StackError("a stack needs at least one gateway and a scrape interval of at least 0.1 s")
        self.state_dir = state_dir.absolute()
        self.scrape_interval_seconds = scrape_interval_seconds
        self.gateways = gateways
        self.ports: dict[str, int] = {}
        self._backfill = backfill
        self._wanted_ports = dict(ports or {})
        self._targets = {job: list(urls) for job, urls in (prometheus_targets or {}).items()}
        self._detached = detached
        self._log = log or (lambda _: None)
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._port_lock: int | None = None
        self._programs: Programs | None = None
        self._administrator: KubeApi | None = None
        self._token = ""

    @classmethod
    def attach(cls, state_dir: Path, *, log: Callable[[str], None] | None = None) -> Self:
        """Return the stack that runs in a folder, as started by another process.

        Parameters
        ----------
        state_dir
            Its folder.
        log
            As for the class.

        Raises
        ------
        StackError
            When none runs there.
        """
        record = _read_record(state_dir.absolute())
        supervisor.call(state_dir.absolute(), {"do": "list"})
        stack = cls(
            state_dir,
            scrape_interval_seconds=record["scrape_interval_seconds"],
            gateways=record["gateways"],
            detached=True,
            log=log,
        )
        stack.ports = record["ports"]
        stack._token = ensure_keys(stack.state_dir / "pki")
        return stack

    # What it is reached by

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state_dir / "kubeconfig"

    @property
    def api_url(self) -> str:
        """The API server's address."""
        return f"https://127.0.0.1:{self.ports['kube-apiserver']}"

    @property
    def ca_file(self) -> Path:
        """The file of the authority that signed the API server's certificate."""
        return self.state_dir / "pki" / "ca.crt"

    @property
    def prometheus_url(self) -> str:
        """Prometheus' address."""
        return f"http://127.0.0.1:{self.ports['prometheus']}"

    @property
    def gateway_port(self) -> int:
        """The port of the Gateway's only server."""
        return self.ports["gateway"]

    @property
    def gateway_url(self) -> str:
        """Where the ingress gateway takes requests."""
        return f"http://127.0.0.1:{self.gateway_port}"

    @property
    def envoy_admin_url(self) -> str:
        """The first gateway proxy's administration."""
        return f"http://127.0.0.1:{self.ports['envoy-0']}"

    @property
    def programs(self) -> Programs:
        """Where the programs are; builds them when they are not in the cache."""
        if self._programs is None:
            self._programs = ensure_programs()
        return self._programs

    @property
    def kubectl_path(self) -> Path:
        """The kubectl that fits the API server."""
        return self.programs.kubectl

    @property
    def process_names(self) -> tuple[str, ...]:
        """The names of all processes, in the order in which they start."""
        return (
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kubelet-sim",
            "prometheus",
            "istiod",
            *self._envoys(),
        )

    def _envoys(self) -> list[str]:
        return [f"envoy-{number}" for number in range(self.gateways)]

    # Life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything and return when all of it answers.

        Raises
        ------
        StackError
            When something does not come up; then nothing is left running.
        """
        programs = self.programs
        for folder in ("logs", "targets", "etcd", "prometheus", "accounts"):
            (self.state_dir / folder).mkdir(parents=True, exist_ok=True)
        # There are an administrator's keys in it, and etcd wants its own folder closed.
        for private in (self.state_dir, self.state_dir / "etcd"):
            private.chmod(0o700)
        self._supervisor = supervisor.launch(self.state_dir, detached=self._detached)
        try:
            self._choose_ports()
            self._write_files()
            self._start_all(programs)
        except BaseException:
            self._kill_all()
            raise

    def _start_all(self, programs: Programs) -> None:
        self._log("starting etcd and the API server")
        self._spawn("etcd")
        # It depends on no other process: its targets may start later.
        self._spawn("prometheus")
        self._wait_healthy("etcd")
        self._spawn("kube-apiserver")
        self._wait_healthy("kube-apiserver")
        self._spawn("kube-controller-manager")
        self._spawn("kubelet-sim")
        record = self.state_dir / "installed"
        if not record.exists() or record.read_text() != str(programs.istio_crds):
            self._log("installing Istio's CRDs")
            self.apply([_namespace(name) for name in (config.ISTIO_NAMESPACE, config.INGRESS_NAMESPACE)])
            self.install_crds(programs.istio_crds.read_text())
            write_atomically(record, str(programs.istio_crds))
        self._log("starting istiod and the gateway")
        self._spawn("istiod")
        self.apply(config.mesh_objects(self.gateway_port))
        self._wait_healthy("istiod")
        for name in self._envoys():
            self._spawn(name)
        for name in self.process_names:
            self._wait_healthy(name)
        self._wait("the gateway's port", self._gateway_listens, self._envoys())

    def stop(self) -> None:
        """Stop everything in good order; what does not follow is killed. Data and logs stay."""
        try:
            supervisor.call(self.state_dir, {"do": "list"})
        except StackError:
            self._release()
            return
        self._log("stopping")
        # The API server's shutdown hangs without etcd, and the others' is noisy without both.
        others = [name for name in self.process_names if name not in {"etcd", "kube-apiserver"}]
        for group in (others, ["kube-apiserver"], ["etcd"]):
            self._terminate(group)
        self._kill_all()

    def _kill_all(self) -> None:
        with contextlib.suppress(StackError):
            supervisor.call(self.state_dir, {"do": "exit"})
        if self._supervisor:
            if self._supervisor.stdin:
                self._supervisor.stdin.close()
            self._supervisor.wait()
        else:
            self._until(lambda: not supervisor.runs(self.state_dir), 10.0)
        self._release()

    def _release(self) -> None:
        self._supervisor = None
        if self._port_lock is not None:
            os.close(self._port_lock)
            self._port_lock = None

    # Single processes, for faults

    def start_process(self, name: str) -> None:
        """Start one process again, on its old port and data, and wait until it answers.

        Clients of the API server try it again at growing intervals, up to half a minute or more, after
        it was away; so istiod and the controller manager are restarted after it. The proxies serve
        what they know meanwhile.

        Parameters
        ----------
        name
            One of `process_names`, or ``envoy`` for the first proxy.
        """
        name = self._known(name)
        self._spawn(name)
        self._wait_healthy(name)
        if name == "kube-apiserver":
            clients = [client for client in ("kube-controller-manager", "istiod") if self._pid(client)]
            for client in clients:
                self.kill(client)
                self._spawn(client)
            for client in clients:
                self._wait_healthy(client)
        if name.startswith("envoy"):
            self._wait("the gateway's port", self._gateway_listens, [name])

    def stop_process(self, name: str) -> None:
        """Ask one process to end, kill it if it has not after a few seconds, and return when it has.

        Parameters
        ----------
        name
            As for `start_process`.
        """
        self._terminate([self._known(name)])

    def configure_mesh(self, **settings: Any) -> None:
        """Restart istiod with further settings of the mesh, and without those of the last time.

        Parameters
        ----------
        settings
            Fields of Istio's mesh configuration.
        """
        content = config.mesh(self.ports["istiod-grpc"]) | settings
        write_atomically(self.state_dir / "mesh.yaml", yaml.safe_dump(content, sort_keys=False))
        self.stop_process("istiod")
        self.start_process("istiod")

    def restart_prometheus(self, *, keep_data: bool = True, away_seconds: float = 0.0) -> None:
        """Restart Prometheus and wait until it answers.

        Parameters
        ----------
        keep_data
            Whether it has its history afterwards. Without history it starts empty, as on a volume that was lost.
        away_seconds
            How long it stays away.
        """
        self.stop_process("prometheus")
        if not keep_data:
            shutil.rmtree(self.state_dir / "prometheus")
        time.sleep(away_seconds)
        self.start_process("prometheus")

    def kill(self, name: str) -> None:
        """Kill one process and return when it is gone.

        Parameters
        ----------
        name
            As for `start_process`.
        """
        name = self._known(name)
        self.signal(name, signal.SIGKILL)
        self._until(lambda: self._pid(name) is None, 10.0)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal, for example SIGSTOP to make a process hang and SIGCONT to end that.

        Parameters
        ----------
        name
            As for `start_process`.
        number
            The signal.
        """
        supervisor.call(self.state_dir, {"do": "signal", "name": self._known(name), "number": int(number)})

    def status(self) -> list[ProcessStatus]:
        """Return the state of every process; all are None and False when no stack runs."""
        try:
            children = supervisor.call(self.state_dir, {"do": "list"})
        except StackError:
            children = {}
        result = []
        for name in self.process_names:
            child = children.get(name)
            runs = child is not None and child["status"] is None
            result.append(
                ProcessStatus(
                    name=name,
                    pid=child["pid"] if runs else None,
                    port=self.ports.get("istiod-grpc" if name == "istiod" else name),
                    healthy=runs and self._answers(name),
                    exit_status=child["status"] if child else None,
                )
            )
        return result

    def log_file(self, name: str) -> Path:
        """Return the file with a process's output.

        Parameters
        ----------
        name
            As for `start_process`.
        """
        return self.state_dir / "logs" / f"{self._known(name)}.log"

    # Kubernetes

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as the administrator and return what it prints.

        Parameters
        ----------
        arguments
            Its arguments.
        stdin
            Text for its standard input.

        Raises
        ------
        StackError
            When it fails, with what it said.
        """
        command = [str(self.kubectl_path), "--kubeconfig", str(self.kubeconfig)]
        command += ["--cache-dir", str(self.state_dir / "kubectl-cache"), *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise StackError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def install_crds(self, manifests: str | Iterable[Mapping[str, Any]], *, seconds: float = 60.0) -> None:
        """Apply CRDs and wait until they are served.

        Parameters
        ----------
        manifests
            YAML text, or objects; nothing but CRDs.
        seconds
            Longest time to wait.

        Raises
        ------
        StackError
            When they are not served in time.
        """
        crds = _objects(manifests)
        self.apply(crds)
        self.wait_established(*(crd["metadata"]["name"] for crd in crds), seconds=seconds)

    def wait_established(self, *names: str, seconds: float = 60.0) -> None:
        """Wait until CRDs are served.

        Parameters
        ----------
        names
            Their names.
        seconds
            Longest time to wait.

        Raises
        ------
        StackError
            When they are not served in time.
        """
        api, deadline = self.api(), time.monotonic() + seconds
        for name in names:
            while not _served(api, api.call(f"{_CRDS}/{name}")):
                if time.monotonic() > deadline:
                    raise StackError(f"{name} is not served after {seconds:g} s")
                time.sleep(_POLL_SECONDS)

    def apply(self, manifests: str | Iterable[Mapping[str, Any]], *, field_manager: str = "devstack") -> None:
        """Apply objects server-side, taking over fields that another manager has.

        Parameters
        ----------
        manifests
            YAML text, or objects.
        field_manager
            On whose behalf.

        Raises
        ------
        StackError
            When the API server refuses one of them, or cannot be reached.
        """
        api = self.api()
        for manifest in _objects(manifests):
            api.apply(manifest, field_manager)

    def delete(self, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Have objects deleted, as far as they are there, without waiting until they are gone.

        Parameters
        ----------
        manifests
            The objects; their kinds and names count.
        """
        api = self.api()
        for manifest in manifests:
            api.delete(manifest)

    def api(self) -> KubeApi:
        """Return a small client of the API server, as the administrator."""
        if self._administrator is None:
            self._administrator = KubeApi(self.kubeconfig)
        return self._administrator

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """Return a kubeconfig with a fresh token of a ServiceAccount, valid for 30 days.

        Parameters
        ----------
        namespace, name
            The ServiceAccount, which has to exist.
        """
        answer = self.api().call(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            method="POST",
            body={
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": _TOKEN_SECONDS},
            },
        )
        path = self.state_dir / "accounts" / f"{namespace}.{name}.kubeconfig"
        user = f"system:serviceaccount:{namespace}:{name}"
        self._write_kubeconfig(path, user, answer["status"]["token"])
        return path

    # Prometheus

    def add_scrape_target(
        self,
        job: str,
        url: str,
        *,
        labels: Mapping[str, str] | None = None,
        interval_seconds: float | None = None,
    ) -> None:
        """Have Prometheus scrape one more URL, without a reload; it notices within moments.

        Labels that the target itself states win over these.

        Parameters
        ----------
        job
            The job it belongs to; a job may have several URLs.
        url
            The whole URL, for example ``http://127.0.0.1:9090/metrics``.
        labels
            Labels for all its series.
        interval_seconds
            How often, when not as often as the others.
        """
        parts = urllib.parse.urlsplit(url)
        extra = {"job": job, "__scheme__": parts.scheme, "__metrics_path__": parts.path or "/metrics"}
        if interval_seconds is not None:
            text = f"{round(interval_seconds * 1000)}ms"
            extra |= {"__scrape_interval__": text, "__scrape_timeout__": text}
        path = self.state_dir / "targets" / f"{job}.json"
        groups = json.loads(path.read_text()) if path.exists() else []
        groups = [group for group in groups if group["targets"] != [parts.netloc]]
        groups.append({"targets": [parts.netloc], "labels": dict(labels or {}) | extra})
        write_atomically(path, json.dumps(groups, indent=1))

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Return the instant vector of a PromQL query, as Prometheus' HTTP API has it.

        Parameters
        ----------
        promql
            The query.
        """
        arguments = urllib.parse.urlencode({"query": promql})
        answer = json.loads(fetch(f"{self.prometheus_url}/api/v1/query?{arguments}", timeout=10.0))
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    # Inner works

    def _choose_ports(self) -> None:
        names = ["etcd", "etcd-peer", "kube-apiserver", "istiod-grpc", "istiod-http", "istiod-monitoring"]
        names += ["prometheus", "gateway", *self._envoys()]
        if unknown := self._wanted_ports.keys() - set(names):
            raise StackError(f"there is no port named {', '.join(sorted(unknown))}; there are {', '.join(names)}")
        record = self.state_dir / "stack.json"
        known: dict[str, int] = _read_record(self.state_dir)["ports"] if record.exists() else {}
        fixed = {name: port for name, port in (known | self._wanted_ports).items() if name in names}
        if taken := [f"{port} ({name})" for name, port in fixed.items() if not is_free(port)]:
            raise StackError(
                f"ports that this stack needs are taken by other programs: {', '.join(taken)}. "
                "End those programs, or name other ports, or start with another state directory."
            )
        missing = [name for name in names if name not in fixed]
        self.ports = fixed | (dict(zip(missing, self._free_ports(len(missing)), strict=True)) if missing else {})
        write_atomically(
            record,
            json.dumps(
                {
                    "ports": self.ports,
                    "scrape_interval_seconds": self.scrape_interval_seconds,
                    "gateways": self.gateways,
                },
                indent=1,
            ),
        )

    def _free_ports(self, count: int) -> list[int]:
        """Return free ports out of one block, which is locked against stacks that start meanwhile."""
        for base in random.sample(_PORT_RANGE, len(_PORT_RANGE)):
            lock = try_lock(cache_root() / "ports" / f"{base}.lock")
            if lock is None:
                continue
            free = [port for port in range(base, base + _PORT_RANGE.step) if is_free(port)]
            if len(free) >= count:
                self._port_lock = lock
                return free[:count]
            os.close(lock)
        raise StackError(f"no {count} free ports between {_PORT_RANGE.start} and {_PORT_RANGE.stop}")

    def _write_files(self) -> None:
        self._token = ensure_keys(self.state_dir / "pki")
        self._write_kubeconfig(self.kubeconfig, "admin", self._token)
        self._administrator = None  # it may be at another port than before
        flush_seconds = min(1.0, self.scrape_interval_seconds / 5)
        files = {
            "mesh.yaml": config.mesh(self.ports["istiod-grpc"]),
            "prometheus.yaml": config.prometheus(
                self.scrape_interval_seconds,
                [self.ports[name] for name in self._envoys()],
                self.state_dir / "targets",
                self._backfill,
            ),
        }
        for number, name in enumerate(self._envoys()):
            files[f"{name}.yaml"] = config.envoy(number, self.ports["istiod-grpc"], self.ports[name], flush_seconds)
        for file, content in files.items():
            write_atomically(self.state_dir / file, yaml.safe_dump(content, sort_keys=False))
        for job, urls in self._targets.items():
            for url in urls:
                self.add_scrape_target(job, url)

    def _write_kubeconfig(self, path: Path, user: str, token: str) -> None:
        content = config.kubeconfig(self.api_url, self.ca_file, user, token)
        write_atomically(path, yaml.safe_dump(content, sort_keys=False), mode=0o600)

    def _command(self, name: str) -> tuple[list[str | Path], dict[str, str]]:
        """Return how a process is called, and what its environment has beside ours."""
        ports, state, programs = self.ports, self.state_dir, self.programs
        keys = state / "pki"
        etcd_url = f"http://127.0.0.1:{ports['etcd']}"
        match name:
            case "etcd":
                peer_url = f"http://127.0.0.1:{ports['etcd-peer']}"
                return [
                    programs.etcd,
                    *("--data-dir", state / "etcd"),
                    *("--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url),
                    *("--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url),
                    *("--initial-cluster", f"default={peer_url}"),
                    *("--log-level", "warn", "--unsafe-no-fsync"),
                ], {}
            case "kube-apiserver":
                return [
                    programs.kube_apiserver,
                    *("--etcd-servers", etcd_url),
                    *("--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"),
                    *("--secure-port", str(ports[name]), "--endpoint-reconciler-type", "none"),
                    *("--tls-cert-file", keys / "server.crt", "--tls-private-key-file", keys / "server.key"),
                    *("--cert-dir", keys),
                    *("--service-account-key-file", keys / "sa.pub"),
                    *("--service-account-signing-key-file", keys / "sa.key"),
                    *("--service-account-issuer", "https://kubernetes.default.svc"),
                    *("--token-auth-file", keys / "tokens.csv", "--authorization-mode", "RBAC"),
                    *("--service-cluster-ip-range", "10.96.0.0/16"),
                    *("--disable-admission-plugins", "ServiceAccount"),
                    *("--enable-priority-and-fairness=false", "--profiling=false"),
                ], _GO_ENVIRONMENT
            case "kube-controller-manager":
                return [
                    programs.kube_controller_manager,
                    *("--kubeconfig", self.kubeconfig, "--leader-elect=false", "--secure-port", "0"),
                    *("--service-account-private-key-file", keys / "sa.key"),
                    "--controllers=deployment,replicaset,job,garbagecollector,namespace,endpointslice",
                ], _GO_ENVIRONMENT
            case "kubelet-sim":
                # The supervisor's own environment has this package on its path.
                return [sys.executable, "-m", "devstack.kubelet_sim", self.kubeconfig], {}
            case "istiod":
                return [
                    *(programs.istiod, "discovery", "--kubeconfig", self.kubeconfig),
                    *("--meshConfig", state / "mesh.yaml", "--networksConfig", "/dev/null"),
                    *("--grpcAddr", f"127.0.0.1:{ports['istiod-grpc']}", "--secureGRPCAddr", ""),
                    *("--httpAddr", f"127.0.0.1:{ports['istiod-http']}", "--httpsAddr", ""),
                    *("--monitoringAddr", f"127.0.0.1:{ports['istiod-monitoring']}", "--ctrlz_port", "0"),
                    *("--shutdownDuration", "1s"),
                ], _GO_ENVIRONMENT | _ISTIOD_ENVIRONMENT
            case "prometheus":
                return [
                    programs.prometheus,
                    f"--config.file={state / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={state / 'prometheus'}",
                    f"--web.listen-address=127.0.0.1:{ports[name]}",
                    # A killed Prometheus leaves its lock file behind.
                    "--storage.tsdb.no-lockfile",
                    "--web.enable-lifecycle",
                    *(["--web.enable-remote-write-receiver"] if self._backfill else []),
                    "--log.level=warn",
                ], _GO_ENVIRONMENT
            case envoy:
                return [
                    *(programs.envoy, "-c", state / f"{envoy}.yaml", "--log-level", "warn"),
                    # Two threads even on big machines, and no shared memory between stacks.
                    *("--concurrency", "2", "--disable-hot-restart"),
                ], {}

    def _spawn(self, name: str) -> None:
        argv, environment = self._command(name)
        request = {"do": "spawn", "name": name, "argv": [str(word) for word in argv], "env": environment}
        supervisor.call(self.state_dir, request)

    def _known(self, name: str) -> str:
        name = "envoy-0" if name == "envoy" else name
        if name not in self.process_names:
            raise StackError(f"there is no process {name!r}; there are {', '.join(self.process_names)}")
        return name

    def _pid(self, name: str) -> int | None:
        child = supervisor.call(self.state_dir, {"do": "list"}).get(name)
        pid: int | None = child["pid"] if child and child["status"] is None else None
        return pid

    def _terminate(self, names: Sequence[str]) -> None:
        # The API server waits for its watchers to go, which they do not; nothing is lost with it.
        patience = 1.0 if "kube-apiserver" in names else _TERM_SECONDS
        for number, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 10.0)):
            for name in names:
                # It may end at any moment, which is what is wanted.
                with contextlib.suppress(StackError):
                    self.signal(name, number)
                    # A stopped process does not see the request to end.
                    self.signal(name, signal.SIGCONT)
            if self._until(lambda: not any(self._pid(name) for name in names), seconds):
                return
        raise StackError(f"{', '.join(name for name in names if self._pid(name))} cannot be stopped")

    def _answers(self, name: str) -> bool:
        try:
            match name:
                case "kube-apiserver":
                    with self.api().open("/readyz", timeout=2.0):
                        return True
                case "kube-controller-manager" | "kubelet-sim":
                    return True
                case "etcd":
                    path = f"{self.ports['etcd']}/health"
                case "istiod":
                    path = f"{self.ports['istiod-http']}/ready"
                case "prometheus":
                    path = f"{self.ports['prometheus']}/-/ready"
                case envoy:
                    path = f"{self.ports[envoy]}/ready"
            fetch(f"http://127.0.0.1:{path}")
        except OSError:
            return False
        return True

    def _gateway_listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.gateway_port), timeout=1.0).close()
        except OSError:
            return False
        return True

    def _wait_healthy(self, name: str) -> None:
        self._wait(name, lambda: self._answers(name), [name])

    def _wait(self, what: str, ready: Callable[[], bool], needed: Sequence[str]) -> None:
        """Wait until something is ready; a needed process that ends meanwhile ends the wait."""

        def settled() -> bool:
            for name in needed:
                if self._pid(name) is None:
                    raise StackError(
                        f"{name} ended while starting. The end of {self.log_file(name)}:\n"
                        f"{tail(self.log_file(name), 15)}"
                    )
            return ready()

        if not self._until(settled, _START_SECONDS):
            logs = ", ".join(str(self.log_file(name)) for name in needed)
            raise StackError(f"{what} was not ready after {_START_SECONDS:g} s; look into {logs}")

    @staticmethod
    def _until(condition: Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def _objects(manifests: str | Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return documents(manifests) if isinstance(manifests, str) else list(manifests)


def _served(api: KubeApi, crd: Mapping[str, Any]) -> bool:
    # They are null for a moment.
    conditions = crd.get("status", {}).get("conditions") or ()
    if not any(one["type"] == "Established" and one["status"] == "True" for one in conditions):
        return False
    # The API server lists its kinds a moment later.
    spec = crd["spec"]
    return all(
        api.lists(f"{spec['group']}/{version['name']}", spec["names"]["plural"])
        for version in spec["versions"]
        if version["served"]
    )


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def _read_record(state: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((state / "stack.json").read_text())
    except FileNotFoundError as error:
        raise StackError(f"there is no stack in {state}") from error
    return record
