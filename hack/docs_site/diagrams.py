"""Draws the Mermaid diagrams of the docs for the site, where nothing that is fetched may draw them.

``python -m docs_site.diagrams`` draws those that changed, and needs npm and Chromium; ``--check`` only says whether all are
current. The drawings are committed, so that the site builds without either. Their colours are in ``docs/site.css``, as they
follow the reader's choice of light and dark.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

from browser import open_page, program
from devstack.support import cache_root

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
FOLDER = Path(__file__).with_name("drawings")
MERMAID = "12.3.0"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SVG = "http://www.w3.org/2000/svg"
#: With text as text instead of HTML, which is not to be had in a picture.
_SETTINGS = {
    "startOnLoad": False,
    "securityLevel": "strict",
    "look": "classic",
    "layout": "dagre",
    "htmlLabels": False,
    "fontFamily": "Helvetica, Arial, sans-serif",
    "flowchart": {"htmlLabels": False, "nodeSpacing": 16, "rankSpacing": 36, "padding": 10, "wrappingWidth": 260},
}
_PAGE = """<!doctype html><meta charset="utf-8"><body><script>%s</script><script>
(async () => {
  mermaid.initialize(%s);
  const drawn = [];
  for (const [name, source] of %s) drawn.push((await mermaid.render(name, source)).svg);
  return drawn;
})().catch(String).then((drawn) => {
  const found = document.createElement("pre");
  found.id = "drawn";
  found.textContent = JSON.stringify(drawn);
  document.body.replaceChildren(found);
});
</script>"""


def sources() -> dict[str, str]:
    """Return the diagrams of the docs by the names of their drawings."""
    return {
        f"{page.stem}-{number}": source
        for page in sorted(DOCS.glob("*.md"))
        for number, source in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")), 1)
    }


def stale() -> list[str]:
    """Return the names of drawings that are missing, are not of their diagram, or have none."""
    wanted = {name: _digest(source) for name, source in sources().items()}
    found = {file.stem: _drawn_from(file) for file in FOLDER.glob("*.svg")}
    return sorted(name for name in wanted | found if wanted.get(name) != found.get(name))


def inserted(text: str, page: str) -> str:
    """Return a page's text with drawings in place of its diagrams.

    Parameters
    ----------
    text
        Markdown.
    page
        The page's name, without its ending.

    Raises
    ------
    ValueError
        If a drawing is missing, or not of its diagram.
    """
    numbers = iter(range(1, text.count("```mermaid") + 1))

    def drawing(block: re.Match[str]) -> str:
        file = FOLDER / f"{page}-{next(numbers)}.svg"
        if not file.exists() or _drawn_from(file) != _digest(block[1]):
            raise ValueError(f"{file.name} is not of the diagram in {page}.md: make diagrams")
        return f'<figure class="diagram" tabindex="0">{file.read_text(encoding="utf-8").strip()}</figure>'

    return _BLOCK.sub(drawing, text)


def _digest(source: str) -> str:
    told = json.dumps([MERMAID, _SETTINGS, source], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _drawn_from(file: Path) -> str:
    return ET.parse(file).getroot().get("data-source", "")


# ------------------------------------------------------------------------------------------------------------- drawing


def draw(diagrams: dict[str, str]) -> dict[str, str]:
    """Draw diagrams in a browser. Raises SystemExit where npm or Chromium is missing, or a diagram is not understood."""
    page = _PAGE % (_library().read_text(encoding="utf-8"), json.dumps(_SETTINGS), json.dumps(list(diagrams.items())))
    with tempfile.TemporaryDirectory(prefix="cutover-diagrams-") as folder:
        file = Path(folder, "page.html")
        file.write_text(page, encoding="utf-8")
        shown = open_page(file, "--virtual-time-budget=60000", "--dump-dom")
    found = re.search(r'<pre id="drawn">(.*?)</pre>', shown, re.DOTALL)
    drawn = json.loads(html.unescape(found[1])) if found else shown[-500:]
    if not isinstance(drawn, list):
        sys.exit(f"Mermaid drew nothing: {drawn}")
    return {name: _plain(svg, _digest(source)) for (name, source), svg in zip(diagrams.items(), drawn, strict=True)}


def _library() -> Path:
    """Return Mermaid's script, which is downloaded once."""
    folder = cache_root() / f"mermaid-{MERMAID}"
    script = folder / "package" / "dist" / "mermaid.min.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [program("npm"), "pack", "--silent", f"mermaid@{MERMAID}"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        (packed,) = folder.glob("*.tgz")
        shutil.unpack_archive(packed, folder, filter="data")
        packed.unlink()
    return script


def _plain(svg: str, digest: str) -> str:
    """Return a drawing without Mermaid's own colours and without what is not seen, with a note of what it is drawn from."""
    root = ET.fromstring(svg)
    used = set(re.findall(r"url\(#([^)]+)\)", svg))
    for parent in list(root.iter()):
        for child in list(parent):
            tag = child.tag.removeprefix(f"{{{_SVG}}}")
            if tag in ("style", "defs", "linearGradient") or (tag == "marker" and child.get("id") not in used):
                parent.remove(child)
    for element in root.iter():
        for key in [key for key in element.attrib if key == "style" or key.startswith("data-")]:
            del element.attrib[key]
        for key, value in element.attrib.items():
            if key in ("d", "transform", "x", "y", "width", "height", "viewBox", "points"):
                element.set(key, re.sub(r"-?\d+\.\d+(e-?\d+)?", lambda number: f"{float(number[0]):.1f}", value))
    width, height = root.get("viewBox", "").split()[2:]
    root.attrib |= {"class": "diagram", "width": width, "height": height, "role": "img", "data-source": digest}
    root.attrib.pop("aria-roledescription", None)
    ET.register_namespace("", _SVG)
    return "".join(_lines(ET.tostring(root, encoding="unicode")))


def _lines(text: str) -> Iterator[str]:
    """Yield the text with an end of line after each group, so that changes can be read; Markdown needs no empty line."""
    yield text.replace("</g><g", "</g>\n<g")
    yield "\n"


def main() -> None:
    """Draw what changed, or check."""
    parser = argparse.ArgumentParser(prog="python -m docs_site.diagrams", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say whether the drawings are current")
    check = parser.parse_args().check
    names = stale()
    if check:
        if names:
            sys.exit(f"not drawn from the diagrams of the docs: {', '.join(names)}; run make diagrams")
        return
    wanted = {name: source for name, source in sources().items() if name in names}
    for name in names:
        (FOLDER / f"{name}.svg").unlink(missing_ok=True)
    if wanted:
        FOLDER.mkdir(exist_ok=True)
        for name, svg in draw(wanted).items():
            (FOLDER / f"{name}.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
