"""MkDocs' hooks: adds the reference that is made of the code, and the files of the repository that pages link to.

The site is whole by itself: a link to a manifest, to the code or to the README leads to a page of the site.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from docs_site import diagrams, reference
from docs_site.markdown import for_mkdocs, targets, with_links

ROOT = Path(__file__).resolve().parents[2]
#: Where files of the repository outside the docs are on the site.
ELSEWHERE = "repository"
#: Pages that no section of the navigation names, such as new ones.
FURTHER = "Further pages"
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".lua": "lua", ".toml": "toml", ".md": "markdown"}
#: What a page was before it came to the site, by its path there: the path in the repository.
_sources: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages that the navigation does not name."""
    named = set(_named(config.nav or []))
    there = {path.name for path in (ROOT / "docs").glob("*.md")} | reference.pages().keys()
    if missing := sorted(there - named):
        config.nav = [*(config.nav or []), {FURTHER: list(missing)}]
    return config


def _named(nav: Any) -> list[str]:
    match nav:
        case str():
            return [nav]
        case list():
            return [path for one in nav for path in _named(one)]
        case dict():
            return [path for one in nav.values() for path in _named(one)]
        case _:
            return []


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what is made, and what pages link to."""
    _sources.clear()
    texts = reference.pages()
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    for file in files.documentation_pages():
        if file.src_uri not in texts:
            _sources[file.src_uri] = f"docs/{file.src_uri}"
    waiting = list(_sources.values())
    seen = set(waiting)
    while waiting:
        source = waiting.pop()
        if not source.endswith(".md"):
            continue
        for target in targets((ROOT / source).read_text(encoding="utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
            if path in seen or path.startswith("docs/") or not (ROOT / path).exists():
                continue
            seen.add(path)
            waiting.append(path)
            place = _place(path)
            _sources[place] = path
            files.append(File.generated(config, place, content=_shown(ROOT / path, path)))
    return files


def _place(path: str) -> str:
    """Return where a file of the repository is on the site."""
    return f"{ELSEWHERE}/{path}" if path.endswith(".md") else f"{ELSEWHERE}/{path}.md"


def _shown(file: Path, path: str) -> str:
    if file.is_dir():
        inside = sorted(one.name + "/" * one.is_dir() for one in file.iterdir() if not one.name.startswith("__"))
        return "\n".join([f"# {path}", "", "A folder of the repository:", "", *(f"- `{one}`" for one in inside), ""])
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".md":
        return text
    language = _LANGUAGES.get(file.suffix, "docker" if file.name == "Dockerfile" else "text")
    return f"# {file.name}\n\n`{path}`\n\n~~~~{language}\n{text.rstrip()}\n~~~~\n"


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Return a page's text for MkDocs' parser, with links to where files are on the site."""
    here = page.file.src_uri
    source = _sources.get(here)
    if source is None or not source.endswith(".md"):
        return markdown

    def lead(target: str) -> str:
        path, mark, anchor = target.partition("#")
        if not path or ":" in path or path.startswith("/"):
            return target
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        place = wanted.removeprefix("docs/") if wanted.startswith("docs/") else _place(wanted)
        return posixpath.relpath(place, posixpath.dirname(here) or ".") + mark + anchor

    text = for_mkdocs(with_links(markdown, lead))
    return diagrams.inserted(text, Path(here).stem) if source == f"docs/{here}" else text
