"""What is had from Go modules: each program and file, its version, and where it is in the cache."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from devstack.support import cache_root

MODULES = Path(__file__).parents[1] / "gomod"
_KUBERNETES = "1.36.3"
_ISTIO_API = "1.31.1"
_ISTIO = "1.31"
_PROMETHEUS = "3.13.0"
_FLUX = "1.9.3"
# These programs are not debugged: debug information costs a tenth of the compiler's time, and -s -w drops it anyway.
COMPILER_FLAGS = ("-gcflags=all=-dwarf=false",)
_VERSION_FLAGS = " ".join(
    f"-X k8s.io/component-base/version.{name}={value}"
    for name, value in (
        ("gitVersion", f"v{_KUBERNETES}"),
        ("gitMajor", _KUBERNETES.split(".")[0]),
        ("gitMinor", _KUBERNETES.split(".")[1]),
    )
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """One file to be had from a Go module: a program to build, a data file to copy, or what a tool of the module generates."""

    name: str
    module: str
    version: str
    package: str
    flags: tuple[str, ...] = ()
    data_file: str = ""
    generator: tuple[str, ...] = ()
    cold_minutes: int = 0

    def target(self) -> Path:
        """Return where the file is in the cache; any change of its sources changes the path."""
        digest = hashlib.sha256()
        for file in ("go.mod", "go.sum"):
            digest.update((MODULES / self.module / file).read_bytes())
        digest.update(repr((self.package, self.flags, COMPILER_FLAGS, self.data_file)).encode())
        digest.update("".join(self.generator).encode())
        digest.update(f"{platform.system()}-{platform.machine()}".encode())
        folder = f"{self.name}-{self.version}-{digest.hexdigest()[:10]}"
        return cache_root() / "bin" / folder / (Path(self.data_file).name or self.name)


def _kubernetes(name: str, cold_minutes: int) -> Part:
    # Clients parse the server's version, so a build without these flags confuses them.
    return Part(
        name=name,
        module="controlplane",
        version=_KUBERNETES,
        package=f"k8s.io/kubernetes/cmd/{name}",
        flags=("-ldflags", f"-s -w {_VERSION_FLAGS}"),
        cold_minutes=cold_minutes,
    )


_CRDS = Part(
    name="istio-crds",
    module="istiod",
    version=_ISTIO_API,
    package="istio.io/api",
    data_file="kubernetes/customresourcedefinitions.gen.yaml",
)
PARTS = (
    _kubernetes("kube-apiserver", 8),
    _kubernetes("kube-controller-manager", 1),
    Part(
        name="prometheus",
        module="prometheus",
        version=_PROMETHEUS,
        package="github.com/prometheus/prometheus/cmd/prometheus",
        # File-based discovery stays in; the clouds' clients, most of the build, go.
        flags=("-tags", "remove_all_sd,netgo", "-ldflags", "-s -w"),
        cold_minutes=3,
    ),
    Part(
        name="pilot-discovery",
        module="istiod",
        version=_ISTIO,
        package="istio.io/istio/pilot/cmd/pilot-discovery",
        flags=("-ldflags", "-s -w"),
        cold_minutes=5,
    ),
    _CRDS,
)
_FLUX_APIS = (
    "github.com/fluxcd/helm-controller/api/v2",
    "github.com/fluxcd/kustomize-controller/api/v1",
    "github.com/fluxcd/notification-controller/api/v1beta3",
    "github.com/fluxcd/source-controller/api/v1",
)
#: For the tests only.
FLUX_PARTS = (
    Part(
        name="kustomize-controller",
        module="flux",
        version=_FLUX,
        package="github.com/fluxcd/kustomize-controller",
        flags=("-ldflags", "-s -w"),
        cold_minutes=3,
    ),
    Part(
        name="flux-crds",
        module="fluxcrds",
        version=_FLUX,
        package="sigs.k8s.io/controller-tools/cmd/controller-gen",
        generator=("controller-gen", "crd", *(f"paths={api}" for api in _FLUX_APIS), "output:stdout"),
        cold_minutes=1,
    ),
)
