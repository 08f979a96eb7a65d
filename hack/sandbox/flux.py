"""Flux beside a stack: kustomize-controller itself, with source-controller's part played."""

from __future__ import annotations

import contextlib
import hashlib
import io
import signal
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from devstack import supervisor
from devstack.api import KubeApi, fetch
from devstack.build import ensure_flux
from devstack.stack import Stack
from devstack.support import StackError, free_port
from sandbox.manifests import Json

#: Where Flux' own objects are, and the name of the repository.
NAMESPACE, REPOSITORY = "flux-system", "fleet"
_NAME = "kustomize-controller"
_SOURCES = f"/apis/source.toolkit.fluxcd.io/v1/namespaces/{NAMESPACE}/gitrepositories"
_KUSTOMIZATIONS = f"/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{NAMESPACE}/kustomizations"
_START_SECONDS, _LOOK_SECONDS = 60.0, 0.2


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing: the controller logs what it fetched."""


class Flux:
    """kustomize-controller as a process of a stack, and a repository that it applies.

    The controller is the real program, with the rights that Flux gives it. The repository is a folder of the test's own: what
    source-controller makes of Git's commits, an archive with a digest and its address in the status of a GitRepository, is made
    here.

    Parameters
    ----------
    stack
        What it runs beside, and ends with. Only the API server is needed.

    Attributes
    ----------
    head
        The revision of the last commit, as Flux writes it.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._archives = stack.state_dir / "archives"
        self._server: ThreadingHTTPServer | None = None
        self._commits = 0
        self._files: dict[str, str] = {}
        self.head = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def api(self) -> KubeApi:
        """A client of the API server, as the administrator."""
        return self._stack.api()

    def start(self) -> None:
        """Install Flux' kinds, start the controller, and make an empty repository.

        Raises
        ------
        StackError
            When the controller does not come up.
        """
        programs = ensure_flux()
        # The controller ends without any of them: it watches all kinds of sources that it can apply.
        self._stack.install_crds(programs.crds.read_text(encoding="utf-8"))
        self._stack.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        self._archives.mkdir(parents=True, exist_ok=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(self._archives)))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        health = free_port()
        argv = [
            str(programs.kustomize_controller),
            *("--metrics-addr=0", f"--health-addr=127.0.0.1:{health}", "--requeue-dependency=1s"),
            # What waits, waits for its health check; retries of the others must not be late.
            *("--concurrent=20", "--min-retry-delay=200ms", "--max-retry-delay=1s"),
        ]
        environment = {"KUBECONFIG": str(self._stack.kubeconfig), "RUNTIME_NAMESPACE": NAMESPACE}
        supervisor.call(self._stack.state_dir, {"do": "spawn", "name": _NAME, "argv": argv, "env": environment})
        self._until("the controller is ready", lambda: _answers(f"http://127.0.0.1:{health}/readyz"), _START_SECONDS)

    def stop(self) -> None:
        """End the controller, which would go on reconciling as long as the stack runs, and stop serving the repository."""
        with contextlib.suppress(StackError):  # it, or the stack, has ended already
            supervisor.call(self._stack.state_dir, {"do": "signal", "name": _NAME, "number": int(signal.SIGKILL)})
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def commit(self, changes: Mapping[str, str | None]) -> str:
        """Commit changes of files, and have them fetched.

        Parameters
        ----------
        changes
            New contents by path; ``None`` removes a file.

        Returns
        -------
        str
            The revision, as Flux writes it.
        """
        for path, content in changes.items():
            self._files.pop(path, None)
            if content is not None:
                self._files[path] = content
        self._commits += 1
        archive = _archive(self._files)
        name = f"{self._commits}.tar.gz"
        (self._archives / name).write_bytes(archive)
        revision = f"main@sha1:{hashlib.sha1(archive + name.encode(), usedforsecurity=False).hexdigest()}"
        assert self._server is not None
        artifact = {
            "digest": f"sha256:{hashlib.sha256(archive).hexdigest()}",
            "lastUpdateTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "path": name,
            "revision": revision,
            "size": len(archive),
            "url": f"http://127.0.0.1:{self._server.server_port}/{name}",
        }
        self._publish(artifact)
        self.head = revision
        return revision

    def _publish(self, artifact: Json) -> None:
        metadata = {"name": REPOSITORY, "namespace": NAMESPACE}
        if self._commits == 1:
            source = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": metadata}
            self._stack.apply([{**source, "spec": {"interval": "1m", "url": "https://git.example.com/fleet"}}])
        live = self.api.call(f"{_SOURCES}/{REPOSITORY}")
        ready = {"type": "Ready", "status": "True", "reason": "Succeeded", "message": artifact["revision"]}
        ready |= {"lastTransitionTime": artifact["lastUpdateTime"], "observedGeneration": 1}
        live["status"] = {"artifact": artifact, "conditions": [ready], "observedGeneration": 1}
        self.api.call(f"{_SOURCES}/{REPOSITORY}/status", method="PUT", body=live)

    def apply(self, *kustomizations: Json) -> None:
        """Apply Kustomizations, as Flux' own bootstrap does."""
        self._stack.apply(kustomizations)

    def kustomization(self, name: str) -> Json:
        """Read a Kustomization."""
        found: Json = self.api.call(f"{_KUSTOMIZATIONS}/{name}")
        return found

    def ready(self, name: str) -> tuple[str, str, str]:
        """Return the status, the reason and the message of a Kustomization's Ready condition; empty without it."""
        for condition in self.kustomization(name).get("status", {}).get("conditions", ()):
            if condition["type"] == "Ready":
                return condition["status"], condition["reason"], condition["message"]
        return "", "", ""

    def applied(self, name: str) -> str:
        """Return the revision that a Kustomization has applied and found healthy, empty without one."""
        return str(self.kustomization(name).get("status", {}).get("lastAppliedRevision", ""))

    def attempted(self, name: str) -> str:
        """Return the revision that a Kustomization last tried to apply, empty without one."""
        return str(self.kustomization(name).get("status", {}).get("lastAttemptedRevision", ""))

    def reconcile(self, name: str) -> None:
        """Have a Kustomization reconciled now, as ``flux reconcile`` does, and wait until it has been handled."""
        asked = str(time.time_ns())
        annotations = {"reconcile.fluxcd.io/requestedAt": asked}
        self.api.merge(f"{_KUSTOMIZATIONS}/{name}", {"metadata": {"annotations": annotations}}, "flux")
        self._until(
            f"{name} is reconciled",
            lambda: self.kustomization(name).get("status", {}).get("lastHandledReconcileAt") == asked,
            _START_SECONDS,
        )

    def log(self) -> str:
        """Return what the controller has logged."""
        path = self._stack.state_dir / "logs" / f"{_NAME}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise StackError(f"not within {seconds:g} s: {what}. The controller's log:\n{self.log()[-3000:]}")
            time.sleep(_LOOK_SECONDS)


def _answers(url: str) -> bool:
    try:
        fetch(url)
    except OSError:
        return False
    return True


def _archive(files: Mapping[str, str]) -> bytes:
    """Return files as source-controller stores them."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for path, content in sorted(files.items()):
            member = tarfile.TarInfo(path)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
    return data.getvalue()
