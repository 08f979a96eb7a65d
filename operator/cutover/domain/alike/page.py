"""What is kept of an answer to compare it: no value of a cookie, no value in a query, and nothing of its text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urljoin, urlsplit

from cutover.domain.alike.assets import References, references
from cutover.domain.texts import digest, plain, shorten

#: Bytes of an answer that are read.
MOST_BYTES = 256 * 1024
#: Cookies of an answer, and characters of a name and of an address, that are kept: any program may have sent it.
MOST_COOKIES, LONGEST_NAME, LONGEST_ADDRESS = 50, 40, 160

#: Characters of a policy that are read, and parts of it that are kept.
LONGEST_POLICY, MOST_PARTS = 8192, 60

#: Headers that protect users, or let other sites in.
SECURITY_HEADERS = (
    "Strict-Transport-Security",
    "Content-Security-Policy",
    "Content-Security-Policy-Report-Only",
    "X-Frame-Options",
    "X-Content-Type-Options",
    "Referrer-Policy",
    "Permissions-Policy",
    "Cross-Origin-Opener-Policy",
    "Cross-Origin-Embedder-Policy",
    "Cross-Origin-Resource-Policy",
    "Access-Control-Allow-Origin",
)
#: Between the parts of such a header that has parts.
_SEPARATORS = {
    "Strict-Transport-Security": ";",
    "Content-Security-Policy": ";",
    "Content-Security-Policy-Report-Only": ";",
    "Permissions-Policy": ",",
}
#: Parts of a policy that protect nobody, and have keys in them.
_REPORTS = ("report-uri", "report-to")
#: What a policy has anew in each answer or each build.
_ONE_TIME = re.compile(r"'(nonce|sha256|sha384|sha512)-[^']{0,200}'")

#: Attributes of a cookie that are compared, by their lower-case names; those without a value are true.
_ATTRIBUTES = {"domain": "Domain", "path": "Path", "samesite": "SameSite"}
_FLAGS = {"secure": "Secure", "httponly": "HttpOnly", "partitioned": "Partitioned"}
#: Stands for Max-Age and Expires, whose values change from answer to answer.
KEPT = "Max-Age"


@dataclass(frozen=True, slots=True)
class Page:
    """What is compared of one answer.

    Parameters
    ----------
    status
        The HTTP status.
    location
        Where it redirects to: the whole address, with the names in its query only; ``""`` if nowhere.
    content_type
        Media type and charset, lower case.
    cookies
        The attributes of each cookie that it sets, by the cookie's name.
    headers
        Digests of the parts of each of :data:`SECURITY_HEADERS`, by the parts' names; ``""`` is the name of a value without
        parts.
    size
        Bytes of its body; where ``whole`` is false, at least so many.
    whole
        Whether the size is known.
    references
        What it refers to, if it is HTML; ``None`` if it is not.
    """

    status: int
    location: str = ""
    content_type: str = ""
    cookies: Mapping[str, frozenset[str]] = field(default_factory=dict)
    headers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    size: int = 0
    whole: bool = True
    references: References | None = None

    @property
    def summary(self) -> str:
        """The status, and where it redirects to."""
        return f"HTTP {self.status}" + (f" to {self.location}" if self.location else "")


def read_page(url: str, status: int, headers: Sequence[tuple[str, str]], body: bytes, *, cut: bool) -> Page:
    """Return what is kept of an answer.

    Parameters
    ----------
    url
        The address that users ask, such as ``https://pdf.example.com/``.
    headers
        The answer's headers, in their order; a name may come more than once.
    body
        The beginning of its body.
    cut
        Whether there is more of the body.
    """
    values: dict[str, list[str]] = {}
    for name, value in headers:
        values.setdefault(name.lower(), []).append(value)

    def first(name: str) -> str:
        return values.get(name, [""])[0].strip()

    length = first("content-length")
    known = cut and length.isascii() and length.isdecimal() and len(length) < 16
    content_type = _content_type(first("content-type"))
    readable = content_type.startswith("text/html") and first("content-encoding").lower() in ("", "identity")
    return Page(
        status=status,
        location=_location(url, first("location")) if 300 <= status < 400 else "",
        content_type=content_type,
        cookies=dict(filter(None, map(_cookie, values.get("set-cookie", ())[:MOST_COOKIES]))),
        headers={name: _parts(name, values[name.lower()]) for name in SECURITY_HEADERS if name.lower() in values},
        size=int(length) if known else len(body),
        whole=known or not cut,
        references=references(body.decode(errors="replace"), url) if readable else None,
    )


def _content_type(text: str) -> str:
    media, *parameters = (part.strip().lower() for part in text.split(";"))
    charset = next((one.partition("=")[2].strip('"') for one in parameters if one.startswith("charset=")), "")
    return _shown(f"{media}; charset={charset}" if charset else media)


def _location(url: str, text: str) -> str:
    """Return the whole address that a redirect leads to; of a query only the names, as its values may be secrets."""
    if not text:
        return ""
    try:
        target = urlsplit(urljoin(url, text))
        port = target.port
    except ValueError:
        return "an address that cannot be read"
    names = sorted({name for name, _ in parse_qsl(target.query, keep_blank_values=True)})
    query = f"?{'&'.join(f'{name}=…' for name in names)}" if names else ""
    usual = {"http": 80, "https": 443}.get(target.scheme)
    where = (target.hostname or "") + (f":{port}" if port not in (None, usual) else "")
    return _shown(f"{target.scheme}://{where}{target.path or '/'}{query}")


def _cookie(text: str) -> tuple[str, frozenset[str]] | None:
    """Return a cookie's name and attributes. Its value is left behind here."""
    pair, *attributes = text.split(";")
    name, equals, _ = pair.partition("=")
    if not equals or not name.strip():
        return None
    found = set[str]()
    for attribute in attributes:
        key, _, value = attribute.partition("=")
        key, value = key.strip().lower(), value.strip().lower()
        if key in _FLAGS:
            found.add(_FLAGS[key])
        elif key in _ATTRIBUTES and value:
            found.add(f"{_ATTRIBUTES[key]}={_shown(value.removeprefix('.') if key == 'domain' else value)}")
        elif key in ("max-age", "expires"):
            found.add(KEPT)
    return shorten(plain(name.strip()), LONGEST_NAME), frozenset(found)


def _parts(name: str, values: Sequence[str]) -> Mapping[str, str]:
    separator, whole = _SEPARATORS.get(name), ", ".join(values)[:LONGEST_POLICY].lower()
    if separator is None:
        return {"": digest(whole.strip())}
    parts = dict[str, str]()
    for part in whole.split(separator)[:MOST_PARTS]:
        words = _ONE_TIME.sub(r"'\1'", part).replace("=", " = ").split()
        if words and words[0] not in _REPORTS:
            parts[shorten(plain(words[0]), LONGEST_NAME)] = digest(" ".join(sorted(words[1:])))
    return parts


def _shown(text: str) -> str:
    return shorten(plain(text), LONGEST_ADDRESS)
