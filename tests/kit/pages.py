"""Pages of HTML as a browser and a screen reader take them: whether they are whole, and what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

#: Elements without an end.
_VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})
#: Attributes that may load something.
_LOADING = frozenset({"src", "srcset", "data", "poster", "action", "formaction", "background", "xlink:href"})


@dataclass
class Seen(HTMLParser):
    """A parsed page.

    Attributes
    ----------
    problems
        What is wrong with it as a document that stands alone and that everybody can read.
    headings
        Levels and texts, in order.
    texts
        All texts, without styles.
    tags
        Names of all elements.
    """

    problems: list[str] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    _open: list[str] = field(default_factory=list)
    _ids: set[str] = field(default_factory=set)
    _named: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        if tag not in _VOID:
            self._open.append(tag)
        if tag in ("script", "iframe", "object", "embed", "form", "base", "link", "img", "foreignobject"):
            self.problems.append(f"<{tag}>")
        for name, value in given.items():
            if name.startswith("on") or name in _LOADING:
                self.problems.append(f"{tag} has {name}")
            if name == "href" and not value.startswith("#"):
                self.problems.append(f"{tag} leads to {value}")
            if name in ("style", "fill", "stroke") and re.search(r"url\((?!#)", value):
                self.problems.append(f"{tag} loads {value}")
        if (given_id := given.get("id")) is not None:
            if given_id in self._ids:
                self.problems.append(f"two elements have the id {given_id}")
            self._ids.add(given_id)
        self._named |= set(given.get("aria-labelledby", "").split())
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))
        if tag == "th" and given.get("scope") not in ("col", "row"):
            self.problems.append("a heading of a table without scope")
        named = given.get("role") == "img" and "aria-labelledby" in given
        if tag == "svg" and not named and given.get("aria-hidden") != "true":
            self.problems.append("a picture without a name")
        if tag == "html" and not given.get("lang"):
            self.problems.append("no language")

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open[-1] != tag:
            self.problems.append(f"</{tag}> ends {self._open[-1:]}")
        else:
            self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            if re.search(r"@import|url\(", data):
                self.problems.append("the style loads something")
            return
        self.texts.append(data)
        if self._open and re.fullmatch("h[1-6]", self._open[-1]):
            level, said = self.headings[-1]
            self.headings[-1] = (level, said + data)


def seen(page: str) -> Seen:
    """Parse a page, and look at it as a whole."""
    found = Seen()
    found.feed(page)
    found.close()
    if found._open:
        found.problems.append(f"not ended: {found._open}")
    if missing := found._named - found._ids:
        found.problems.append(f"no element is called {sorted(missing)}")
    levels = [level for level, _ in found.headings]
    if levels[:1] != [1] or levels.count(1) != 1:
        found.problems.append("a page has one heading of the first level, which comes first")
    for before, after in pairwise(levels):
        if after > before + 1:
            found.problems.append(f"a heading of level {after} follows one of level {before}")
    if any(not text.strip() for _, text in found.headings):
        found.problems.append("an empty heading")
    return found
