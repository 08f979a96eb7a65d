"""The documentation as a site: it builds strictly, without a network, and its pages fetch nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from cutover.api.crd import PLAN, schema
from cutover.domain.commands.annotations import ANNOTATIONS
from cutover.domain.holds import HoldReason
from cutover.domain.preflight import registry
from cutover.settings import PREFIX, Settings
from docs_site import diagrams, reference
from docs_site.markdown import for_mkdocs, targets, with_links

ROOT = Path(__file__).parents[2]
#: What a machine without a network has: any attempt ends here.
_NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    environment = {**os.environ, **_NO_NETWORK, "PYTHONPATH": "operator:hack", "NO_MKDOCS_2_WARNING": "true"}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder


class _Fetched(HTMLParser):
    """Gathers what a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") in ("canonical", "next", "prev"):
            return
        if tag in ("link", "script", "img", "iframe", "source"):
            self.found += [value for key in ("href", "src") if (value := given.get(key))]


def test_every_page_of_the_docs_is_on_the_site_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = {path.relative_to(site).as_posix() for path in site.rglob("*.html")}
    wanted = {f"{path.stem}.html" for path in (ROOT / "docs").glob("*.md")}
    wanted |= {path.replace(".md", ".html") for path in reference.pages()}
    assert wanted <= pages
    for page in pages:
        text = (site / page).read_text(encoding="utf-8")
        reader = _Fetched()
        reader.feed(text)
        assert len(reader.found) > 2, page
        assert [one for one in reader.found if re.match(r"(https?:)?//", one)] == [], page
        # The theme would fetch what draws these.
        assert 'class="mermaid"' not in text, page


def test_diagrams_are_pictures_with_a_description(site: Path) -> None:
    names = list(diagrams.sources())
    assert "architecture-1" in names
    shown = "".join(
        (site / f"{page}.html").read_text(encoding="utf-8") for page in {one.rsplit("-", 1)[0] for one in names}
    )
    assert "accTitle" not in shown
    for name in names:
        (svg,) = re.findall(rf'<svg [^>]*id="{name}".*?</svg>', shown, re.DOTALL)
        for tag in ("title", "desc"):
            assert re.search(rf"<{tag} [^>]*>\S.*?</{tag}>", svg), f"{name}: write accTitle and accDescr"
        # Colours follow the reader's choice of light and dark.
        assert not re.search(r"<style| style=|#[0-9a-f]{6}", svg)


def test_a_diagram_that_changed_has_to_be_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert diagrams.stale() == []
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert diagrams.inserted(page, "architecture").count("<figure") == 2
    with pytest.raises(ValueError, match=r"architecture-1\.svg is not of the diagram.*make diagrams"):
        diagrams.inserted(page.replace("no I/O", "some I/O"), "architecture")
    monkeypatch.setattr(diagrams, "FOLDER", tmp_path)
    assert diagrams.stale() == sorted(diagrams.sources())
    (tmp_path / "gone-1.svg").write_text("<svg/>")
    assert "gone-1" in diagrams.stale()


def test_links_out_of_the_docs_stay_on_the_site(site: Path) -> None:
    """Every link is looked up by MkDocs; here that none leads to where only the repository has a file."""
    text = (site / "operating.html").read_text(encoding="utf-8")
    assert 'href="repository/charts/cutover/files/alerts.yaml.html"' in text
    assert not re.search(r'href="\.\./', text)
    shown = (site / "repository/charts/cutover/files/alerts.yaml.html").read_text(encoding="utf-8")
    assert "CutoverRollbackDoesNotArrive" in shown


def _fields(node: Any, path: str = "") -> Iterator[str]:
    for name, one in node.get("properties", {}).items():
        yield name
        yield from _fields(one)
        yield from _fields(one.get("items", {}))


def test_the_reference_is_whole() -> None:
    pages = reference.pages()
    fields = pages["reference/fields-migrationplan.md"]
    for part in ("spec", "status"):
        for name in _fields(schema(PLAN)["properties"][part]):
            assert re.search(rf"(`|\.){name}(`|\[\]|\.|\b)", fields), name
    assert {
        name for name in Settings.model_fields if f"`{PREFIX}{name.upper()}`" not in pages["reference/settings.md"]
    } == set()
    assert [name for name in ANNOTATIONS if f"`{name}`" not in pages["reference/annotations.md"]] == []
    checks = pages["reference/checks.md"]
    assert [name for name in (*registry.NAMES, *HoldReason) if f"`{name}`" not in checks] == []
    assert "`cutover_trouble`" in pages["reference/metrics.md"]
    assert "`heroku_router_requests_total`" in pages["reference/metrics.md"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("text\n- a\n- b\n  more\n", "text\n\n- a\n- b\n    more\n"),
        ("1. a\n\n   ```sh\n   x\n   ```\n\n2. b\n", "1. a\n\n    ```sh\n    x\n    ```\n\n2. b\n"),
        ("- a\n  - b\n- c\n", "- a\n    - b\n- c\n"),
        ("```yaml\na:\n- b\n```\ntext\n", "```yaml\na:\n- b\n```\ntext\n"),
        ("| a |\n| - |\n| b |\n", "| a |\n| - |\n| b |\n"),
    ],
)
def test_lists_are_written_for_mkdocs(written: str, shown: str) -> None:
    assert for_mkdocs(written) == shown


def test_links_in_code_are_no_links() -> None:
    text = "[a](b.md#c) [d](https://e)\n```md\n[f](g.md)\n```\n[h](#i)\n"
    assert targets(text) == {"b.md"}
    assert with_links(text, lambda target: f"x/{target}").splitlines()[2] == "[f](g.md)"
