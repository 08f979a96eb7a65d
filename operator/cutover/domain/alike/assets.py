"""What a HTML page refers to: its assets whose names have a hash of a build, and the hosts that its links name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

#: References and characters of each that are looked at: anything may be in a page.
MOST_REFERENCES, LONGEST_REFERENCE = 200, 250

#: An attribute with a reference. All repetitions are bounded, as a page may be made to take long.
_REFERENCE = re.compile(
    rf"""\b(?:src|href|action)\s{{0,8}}=\s{{0,8}}(?:"([^"]{{1,{LONGEST_REFERENCE}}})"|'([^']{{1,{LONGEST_REFERENCE}}})'"""
    rf"""|([^\s"'>]{{1,{LONGEST_REFERENCE}}}))""",
    re.IGNORECASE,
)
#: Names of files that a build writes: scripts, styles, fonts, images and what belongs to them.
_BUILT = re.compile(
    r"\.(?:m?js|css|map|wasm|json|webmanifest|woff2?|ttf|svg|png|jpe?g|gif|webp|avif|ico)$", re.IGNORECASE
)
#: A hash in hexadecimal digits, such as webpack, sprockets, Propshaft and Django write it. Dates have no letter.
_HEXADECIMAL = re.compile(r"(?<![0-9A-Za-z])(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{8,64}(?![0-9A-Za-z])")
#: The end of a file's name where Vite, Rollup and esbuild write eight characters of base64 or base32.
_OF_EIGHT = re.compile(r"[-.]([-_A-Za-z0-9]{8})\.[A-Za-z0-9.]{2,12}$")


class References(NamedTuple):
    """What a page refers to.

    Parameters
    ----------
    assets
        Paths at the page's own host of files whose names have a hash.
    hosts
        Other hosts, lower case.
    """

    assets: frozenset[str] = frozenset()
    hosts: frozenset[str] = frozenset()


def references(html: str, page: str) -> References:
    """Find what a page refers to.

    Parameters
    ----------
    html
        The page, or its beginning.
    page
        The page's URL.
    """
    own, assets, hosts = urlsplit(page).hostname, set[str](), set[str]()
    for text in _texts(html):
        try:
            url = urlsplit(urljoin(page, text))
            host = url.hostname
        except ValueError:
            continue
        if url.scheme not in ("http", "https") or not host:
            continue
        if host != own:
            hosts.add(host)
        elif is_hashed(url.path):
            assets.add(url.path)
    return References(frozenset(assets), frozenset(hosts))


def is_hashed(path: str) -> bool:
    """Tell whether a path is of a file of a build whose name, or folder's, has a hash, such as ``/assets/app-3f9c2b1d.js``."""
    if _BUILT.search(path) is None:
        return False
    if _HEXADECIMAL.search(path) is not None:
        return True
    found = _OF_EIGHT.search(path.rsplit("/", 1)[-1])
    return found is not None and _looks_random(found[1])


def _texts(html: str) -> Iterator[str]:
    for number, found in enumerate(_REFERENCE.finditer(html)):
        if number == MOST_REFERENCES:
            return
        yield next(filter(None, found.groups()), "").replace("&amp;", "&").strip()


def _looks_random(name: str) -> bool:
    """Tell a hash from a word: it has capitals and digits, or capitals amid small letters."""
    capitals = any("A" <= one <= "Z" for one in name)
    digits = any("0" <= one <= "9" for one in name)
    return capitals and (digits or re.search("[a-z][A-Z].*[A-Z]|[A-Z]{2}.*[a-z]", name) is not None)
