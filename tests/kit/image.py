"""The operator's image without Docker: its stages made in folders by the Dockerfile's own steps, and its program started there.

Of the base image only Python is stood in for, by an interpreter of the same version where this machine has one; the rest of the
base is the machine's own ``/usr`` and ``/etc``. Steps and program run in a mount namespace of their own, below the folder.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.kit import dockerfile

ROOT = Path(__file__).parents[2]
#: Of the machine; in the image they are the base's.
_BASE = ("bin", "lib", "lib64", "usr", "etc", "dev", "proc")
_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin",
    # The stand-in's own library, which the base image has registered.
    "LD_LIBRARY_PATH": "/usr/local/lib",
}
_DROP = "setpriv --bounding-set=-all --inh-caps=-all --ambient-caps=-all --no-new-privs --"


@dataclass
class Image:
    """An image that was made.

    Parameters
    ----------
    root
        Its file system.
    stage
        Its last stage.
    python
        The folder of the interpreter that stands in for the base image's.
    environment, labels
        What it states of both.
    """

    root: Path
    stage: dockerfile.Stage
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)

    def command(
        self, argv: list[str], tmp: Path, *, mounts: Mapping[str, Path] | None = None, **extra: str
    ) -> list[str]:
        """Return a command that starts a program as the chart does: as the image's user, on a file system that is read only.

        Parameters
        ----------
        argv
            The program with its arguments.
        tmp
            What is mounted on ``/tmp``, writable.
        mounts
            What else is mounted, read only, by the path in the image; folders for them are made.
        extra
            More of its environment.
        """
        user, _, group = self.stage.last("USER").partition(":")
        script = [f"mount --bind {_q(self.root)} {_q(self.root)}", *_base_mounts(self.root)]
        script.append(f"mount --bind {_q(tmp)} {_q(self.root / 'tmp')}")
        for place, source in (mounts or {}).items():
            target = self.root / place.lstrip("/")
            target.mkdir(parents=True, exist_ok=True)
            script += [f"mount --bind {_q(source)} {_q(target)}", f"mount -o remount,bind,ro {_q(target)}"]
        script.append(f"mount -o remount,bind,ro {_q(self.root)}")
        script.append(f"mount -o remount,bind,ro {_q(self.root / 'usr/local')}")
        inner = f"{_DROP} {shlex.join(argv)}"
        script.append(f"exec chroot {_q(self.root)} {_env(dict(self.environment) | extra)} {inner}")
        return [*_namespace(f"--map-user={user}", f"--map-group={group}", "--keep-caps"), "\n".join(script)]


def make(folder: Path, wheels: Path) -> Image:
    """Make the image by the Dockerfile's steps.

    Parameters
    ----------
    folder
        An empty folder.
    wheels
        Where downloaded packages are kept from one run to the next, in a folder for each lock file.
    """
    wheels /= hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()[:12]
    roots = dict[str, Path]()
    patterns = dockerfile.ignores(ROOT / ".dockerignore")
    stages = dockerfile.read(ROOT / "Dockerfile")
    made = None
    for stage in stages:
        root = roots[stage.name] = folder / stage.name
        made, arguments = Image(root, stage, _interpreter(stage.base), dict(_ENVIRONMENT)), dict[str, str]()
        _lay_base(made)
        for instruction, rest in stage.steps:
            # In order, as Docker does: a step sees what was set before it.
            known = arguments | made.environment
            if instruction == "RUN":
                _run(made, rest, wheels)
            elif instruction == "COPY":
                _copy(made, rest, roots, patterns)
            elif instruction == "ARG":
                arguments |= dict(dockerfile.pairs(rest, known))
            elif instruction == "ENV":
                made.environment |= dict(dockerfile.pairs(rest, known))
            elif instruction == "LABEL":
                made.labels |= dict(dockerfile.pairs(rest, known))
    assert made is not None
    return made


def _interpreter(base: str) -> Path:
    """Return the folder of the base's version of Python, as pyenv has it, or of the one that runs this."""
    found = re.match(r"python:(\d+\.\d+)-slim\b", base)
    assert found is not None, f"{base}: a slim image of Python's own, by its version"
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    fitting = sorted(versions.glob(f"{found[1]}.*"))
    return fitting[-1] if fitting else Path(sys.base_prefix)


def _lay_base(image: Image) -> None:
    for name in _BASE:
        here = Path("/") / name
        place = image.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if here.is_symlink():
            place.symlink_to(here.readlink())
        else:
            place.mkdir()
    for name in ("tmp", "root", ".local"):
        (image.root / name).mkdir()
    # A copy, as steps take parts of it away.
    unneeded = shutil.ignore_patterns("test", "tests", "idlelib", "tkinter", "share", "include", "__pycache__", "*.a")
    shutil.copytree(image.python, image.root / ".local", symlinks=True, ignore=unneeded, dirs_exist_ok=True)


def _base_mounts(root: Path) -> list[str]:
    names = [name for name in _BASE if not (root / name).is_symlink()]
    mounts = [f"mount --rbind /{name} {_q(root / name)}" for name in names]
    return [*mounts, f"mount --bind {_q(root / '.local')} {_q(root / 'usr/local')}"]


def _run(image: Image, step: str, wheels: Path) -> None:
    """Run a step as the builder does: as root, from ``/``; its packages come from the kept folder once they are there."""
    wheels.mkdir(parents=True, exist_ok=True)
    (image.root / "wheels").mkdir(exist_ok=True)
    script = [*_base_mounts(image.root), f"mount --bind {_q(wheels)} {_q(image.root / 'wheels')}"]
    if "pip install" in step and not (wheels / ".ready").exists():
        download = step.split("--target", 1)[0].replace("pip install", "pip download").replace("--no-compile", "")
        lock = step.split("-r ", 1)[1].split()[0]
        _in_namespace(image, f"{download} -q -d /wheels -r {lock} && touch /wheels/.ready", script)
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheels", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    _in_namespace(image, step, script, **offline)


def _in_namespace(image: Image, step: str, mounts: list[str], **extra: str) -> None:
    passed = {
        name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name.startswith("PIP_")
    }
    environment = _env(passed | {"HOME": "/root"} | dict(image.environment) | extra)
    script = "\n".join([*mounts, f"exec chroot {_q(image.root)} {environment} sh -ec {_q(step)}"])
    done = subprocess.run(
        [*_namespace("--map-root-user"), script], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, f"RUN {step}\n{done.stdout}{done.stderr}"


def _copy(image: Image, rest: str, roots: Mapping[str, Path], patterns: list[tuple[str, bool]]) -> None:
    *options, source, target = rest.split()
    place = image.root / target.lstrip("/")
    if options:
        (option,) = options
        taken = roots[option.removeprefix("--from=")] / source.lstrip("/")
        shutil.copytree(taken, place, symlinks=True)
        return
    taken = ROOT / source
    if taken.is_file():
        assert dockerfile.in_context(source, patterns), f".dockerignore leaves {source} out"
        shutil.copy(taken, place)
        return
    for file in sorted(path for path in taken.rglob("*") if path.is_file()):
        if dockerfile.in_context(str(file.relative_to(ROOT)), patterns):
            copied = place / file.relative_to(taken)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copied)


def _namespace(*who: str) -> list[str]:
    return ["unshare", "--user", *who, "--mount", "--propagation", "private", "sh", "-ec"]


def _env(values: Mapping[str, str]) -> str:
    return shlex.join(["env", "-i", *(f"{name}={value}" for name, value in values.items())])


def _q(value: Path | str) -> str:
    return shlex.quote(str(value))
