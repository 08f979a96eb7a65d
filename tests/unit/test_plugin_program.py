"""kubectl-cutover as a program: what it imports, what it says without a cluster, and where its output goes."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml
from rich.table import Table
from rich.text import Text
from tests.kit import builders
from typer.testing import CliRunner, Result

from cutover.cli.app import app
from cutover.cli.cluster import FIELD_MANAGER
from cutover.cli.completion import main as complete
from cutover.cli.exits import Exit
from cutover.cli.session import INTERRUPTED, Session
from cutover.cli.terminal import ascii_only, console

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubectl-cutover.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
#: Modules of the packages that only the extra ``operator`` brings.
MODULES = {
    "aiohttp": "aiohttp",
    "awscrt": "awscrt",
    "cloudevents": "cloudevents",
    "dnspython": "dns",
    "kopf": "kopf",
    "opentelemetry-proto": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "structlog": "structlog",
}


@pytest.fixture(autouse=True)
def nobodys_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the person's own kubeconfig out."""
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_it_runs_without_what_only_the_operator_needs() -> None:
    extra = {re.split(r"[<>=]", one)[0] for one in PROJECT["project"]["optional-dependencies"]["operator"]}
    assert extra == MODULES.keys()
    code = f"""
import importlib, pkgutil, sys
for name in {sorted(MODULES.values())}:
    sys.modules[name] = None
import cutover.cli.app
assert "kubernetes" not in sys.modules, "help and completion would wait for it"
names = [one.name for one in pkgutil.walk_packages(cutover.cli.__path__, "cutover.cli.")]
for name in names:
    if name != "cutover.cli.backtest":  # a program of its own
        importlib.import_module(name)
from kubernetes import client, config
print(len(names))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "operator", capture_output=True, check=False, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def test_the_programs_are_installed() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert scripts["kubectl-cutover"] == "cutover.cli.app:main"
    assert scripts["kubectl_complete-cutover"] == "cutover.cli.completion:main"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["st"], ["status"]),
        (["skip", "pdf", "Out"], ["OutsideWindow"]),
        (["status", "--exit"], ["--exit-code"]),
        (["status", ""], []),
    ],
)
def test_kubectl_completes(
    words: list[str], found: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("COMP_WORDS", "COMP_CWORD", "_KUBECTL_CUTOVER_COMPLETE"):
        monkeypatch.setenv(name, "")  # so that they are forgotten afterwards
    monkeypatch.setattr(sys, "argv", ["kubectl_complete-cutover", *words])
    complete()
    assert capsys.readouterr().out.split("\n") == [*found, ":4", ""]


@pytest.mark.parametrize("arguments", [("get",), ("status", "pdf"), ("rollback", "pdf", "--yes"), ("audit", "pdf")])
def test_without_a_cluster_it_says_so(arguments: tuple[str, ...]) -> None:
    done = run(*arguments)
    assert (done.exit_code, done.stdout) == (Exit.ERROR, "")
    said = " ".join(done.stderr.split())
    assert said.startswith("kubectl-cutover: no cluster: ")
    assert "--kubeconfig or KUBECONFIG" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no cluster"),
        ("[1, 2", "no cluster"),
        ("clusters: none\ncontexts: [1]\n", "no cluster"),
        (
            yaml.safe_dump(
                {
                    "current-context": "x",
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "docs"}}],
                    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:9"}}],
                    "users": [{"name": "u", "user": {}}],
                }
            ),
            "list migrationplans.cutover.dev docs: the API server cannot be reached",
        ),
    ],
)
def test_a_kubeconfig_that_leads_nowhere(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "config").write_text(text, encoding="utf-8")
    done = run("get", "--kubeconfig", str(tmp_path / "config"))
    assert done.exit_code == Exit.ERROR
    assert why in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_wrong_command_line_exits_with_2() -> None:
    assert run("status").exit_code == Exit.USAGE
    assert run("nonsense").exit_code == Exit.USAGE


def test_a_plan_that_cannot_be_read_can_still_go_back(monkeypatch: pytest.MonkeyPatch) -> None:
    body = builders.plan_body("pdf", "shop", status={"phase": "Paused", "attempt": 3})
    body["metadata"]["uid"] = "1"
    monkeypatch.setattr(Session, "body", lambda *_: body)
    for command in ("status", "explain", "history", "approve"):
        done = run(command, "pdf")
        assert done.exit_code == Exit.ERROR
        said = " ".join(done.stderr.split())
        assert "shop/pdf is not a plan that this version can read: phase: Input should be" in said
        assert "is the plugin older or newer than the operator?" in said
    said = " ".join(run("rollback", "pdf").stderr.split())
    assert said.endswith("kubectl -n shop annotate mplan pdf --overwrite cutover.dev/rollback=a3")


def test_estimate_reads_a_file_and_needs_no_cluster() -> None:
    plan = str(ROOT / "examples" / "minimal.yaml")
    done = run("estimate", "-f", plan, "--rate", "50")
    assert done.exit_code == 0, done.stderr
    assert "at least until 100 %, at 50 requests/s" in done.stdout
    assert re.search(r"^10 → 25 % +10m +150 +10 min$", done.stdout, re.MULTILINE)
    done = run("estimate", "-f", plan)
    assert done.exit_code == Exit.USAGE
    assert "--rate 20" in done.stderr
    assert "cannot be read" in run("estimate", "-f", "/nowhere/plan.yaml").stderr


# ----------------------------------------------------------------------------------------------------------- terminal


class File(io.StringIO):
    """A file of an encoding, which may be a terminal."""

    def __init__(self, encoding: str, terminal: bool = False) -> None:
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self) -> str:
        return self._encoding

    def isatty(self) -> bool:
        return self._terminal


@pytest.mark.parametrize("encoding", ["ascii", "ANSI_X3.4-1968", "iso-8859-1", "utf-8", "UTF8"])
def test_without_utf_8_there_is_only_ascii(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LC_ALL", raising=False)
    file = File(encoding)
    console(file).print("25 % → 0 %: ███░░ … é")
    utf8 = "utf" in encoding.lower()
    assert file.getvalue() == ("25 % → 0 %: ███░░ … é\n" if utf8 else "25 % > 0 %: ###.. ~ ?\n")


@pytest.mark.parametrize(("locale", "plain"), [("C", True), ("POSIX", True), ("C.UTF-8", False), ("", False)])
def test_who_names_the_locale_c_gets_ascii(locale: str, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", locale)
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    console(file).print("10 → 25 %")
    file.flush()
    written = file.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert written == ("10 > 25 %\n" if plain else "10 → 25 %\n")


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_nothing_ends_with_blanks_where_a_program_reads(encoding: str) -> None:
    file = File(encoding)
    grid = Table.grid(expand=True)
    grid.add_row("a", " b")
    grid.add_row("c", "")
    console(file, columns=40).print(grid)
    assert [line for line in file.getvalue().split("\n") if line != line.rstrip()] == []
    assert file.getvalue().endswith("\n")


def test_ascii_keeps_every_column() -> None:
    text = "█▌░─━│→…·•×≥≤✓✗–—’“”‘\u00a0é"
    assert len(ascii_only(text)) == len(text)


@pytest.mark.parametrize(
    ("terminal", "no_color", "coloured"), [(True, "", True), (True, "1", False), (False, "", False)]
)
def test_colours(monkeypatch: pytest.MonkeyPatch, terminal: bool, no_color: str, coloured: bool) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    if no_color:
        monkeypatch.setenv("NO_COLOR", no_color)
    file = File("utf-8", terminal)
    console(file).print(Text("harm", "red"))
    assert ("\x1b[31m" in file.getvalue()) is coloured


# ---------------------------------------------------------------------------------------------------------------- docs


def commands() -> dict[str, str]:
    """Return what each command says of itself, in its first line."""
    found = typer.main.get_command(app)
    return {name: (command.help or "").split("\n")[0] for name, command in found.commands.items()}  # type: ignore[attr-defined]


def cells(heading: str) -> list[list[str]]:
    """Return the rows of the first table under a heading."""
    _, _, rest = PAGE.partition(f"## {heading}\n")
    rows: list[list[str]] = []
    for one in rest.splitlines():
        if one.startswith("## "):
            break
        if one.startswith("|"):
            rows.append([cell.strip() for cell in one.strip("|").split("|")])
    return rows[2:]


def test_the_page_has_every_command_with_its_own_words() -> None:
    assert {name.strip("`"): text for name, text, *_ in cells("Commands")} == commands()


def test_the_page_has_every_exit_code() -> None:
    told = {int(code) for code, *_ in cells("Exit codes")}
    assert told == {*map(int, Exit), INTERRUPTED}


def test_flux_leaves_the_field_manager_alone() -> None:
    assert not FIELD_MANAGER.startswith("kubectl")
    assert f"`{FIELD_MANAGER}`" in PAGE
