"""Whether users get the same answers: what is kept of an answer, what differs, and what is told of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.api.v1alpha1 import HerokuLeg
from cutover.domain.alike.assets import MOST_REFERENCES, is_hashed, references
from cutover.domain.alike.comparison import Aspect, differences, noise_of
from cutover.domain.alike.findings import NoAnswer, PathAnswers, findings, summary
from cutover.domain.alike.page import MOST_COOKIES, SECURITY_HEADERS, Page, read_page

HOST, APP = "pdf.example.com", "acme-pdf-1a2b3c.herokuapp.com"
URL = f"https://{HOST}/"
HTML = ("content-type", "text/html; charset=utf-8")
BY_APP_NAME = HerokuLeg.model_validate({"app": "acme-pdf", "hostname": APP})
BY_PUBLIC_NAME = HerokuLeg.model_validate(
    {"app": "acme-pdf", "hostname": "quiet-moon-1234.herokudns.com", "hostHeader": "Public"}
)


def page(*headers: tuple[str, str], status: int = 200, body: str = "<h1>Hello</h1>", cut: bool = False) -> Page:
    return read_page(URL, status, headers, body.encode(), cut=cut)


OK = page(HTML)


def told(
    users: Page | NoAnswer = OK,
    heroku: Page | NoAnswer = OK,
    eks: Page | NoAnswer | None = None,
    *,
    again: Page | NoAnswer | None = None,
    leg: HerokuLeg = BY_APP_NAME,
) -> tuple[str, str]:
    """Return what fails and what warns, as text."""
    answers = PathAnswers("/", users, heroku, heroku if again is None else again, heroku if eks is None else eks)
    found = findings([answers], HOST, leg)
    return summary(one for one in found if one.fails), summary(one for one in found if not one.fails)


# ------------------------------------------------------------------------------------------------- what is kept


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/login", f"https://{HOST}/login"),
        ("login?next=/&token=s3cret#top", f"https://{HOST}/login?next=…&token=…"),
        (f"http://{APP}:80/", f"http://{APP}/"),
        ("https://user:s3cret@Pdf.Example.com:8443", f"https://{HOST}:8443/"),
        ("//evil.example", "https://evil.example/"),
        ("http://[::1", "an address that cannot be read"),
        ("https://pdf.example.com/\x1b[31m‮", f"https://{HOST}/?[31m?"),
    ],
)
def test_an_address_is_whole_and_without_the_values_of_its_query(location: str, kept: str) -> None:
    assert page(("Location", location), status=302).location == kept


def test_nothing_is_a_redirect_but_3xx() -> None:
    assert page(("location", "/made"), status=201).location == ""


@pytest.mark.parametrize(
    ("header", "name", "attributes"),
    [
        (
            "session=s3cret; Path=/; HttpOnly; Secure; SameSite=Lax",
            "session",
            {"Path=/", "HttpOnly", "Secure", "SameSite=lax"},
        ),
        ("a=s3cret; DOMAIN=.Example.com; max-age=5", "a", {"Domain=example.com", "Max-Age"}),
        ("a=s3cret; expires=Thu, 01 Jan 2026 00:00:00 GMT; Priority=High", "a", {"Max-Age"}),
        ("__Host-x=; secure", "__Host-x", {"Secure"}),
    ],
)
def test_of_a_cookie_its_name_and_attributes_are_kept(header: str, name: str, attributes: set[str]) -> None:
    kept = page(("Set-Cookie", header))
    assert kept.cookies == {name: attributes}
    assert "s3cret" not in repr(kept)


@pytest.mark.parametrize("header", ["", "s3cret", "=s3cret; Path=/", ";"])
def test_what_is_no_cookie_is_left_out(header: str) -> None:
    assert page(("set-cookie", header)).cookies == {}


def test_any_answer_is_kept_within_bounds() -> None:
    cookies = [("set-cookie", f"{'n' * 500}{number}=v; path={'p' * 5000}") for number in range(500)]
    kept = page(HTML, *cookies, ("location", "/" + "x" * 9000), status=302, body='<a href="/x">' * 20_000)
    assert len(kept.cookies) <= MOST_COOKIES
    assert len(repr(kept)) < 20_000


def test_a_body_that_was_cut_has_its_declared_size() -> None:
    assert page(("content-length", "900000"), cut=True).size == 900_000
    assert not page(("content-length", "-5"), cut=True).whole
    assert not page(("content-length", "9" * 40), cut=True).whole


@pytest.mark.parametrize(
    ("path", "hashed"),
    [
        ("/assets/app-3f9c2b1d.js", True),  # Propshaft
        ("/static/css/main.1a2b3c4d5e.css", True),  # webpack
        ("/static/js/787.8f2c1a9b.chunk.js", True),
        ("/assets/index-BkL3x9aQ.js", True),  # Vite
        ("/assets/index-B_LxYz-Q.css", True),
        ("/app-ZXCV3B2A.js", True),  # esbuild
        (
            "/assets/application-0b5a5d1a9e4a0e5d2d3a6d2d7d0c9ab1f1a9b2c3d4e5f60718293a4b5c6d7e8f.css",
            True,
        ),  # sprockets
        ("/static/base.27e20196a850.css", True),  # Django
        ("/_next/static/chunks/main-app-1f2e3d4c5b6a7988.js", True),
        ("/_next/static/9f8e7d6c5b4a/_buildManifest.js", True),
        ("/app.js", False),
        ("/app.js?v=3f9c2b1d", False),
        ("/vendor-polyfill.js", False),
        ("/app-frontend.js", False),
        ("/jquery-3.7.1.min.js", False),
        ("/bootstrap5.min.css", False),
        ("/report-20260101.json", False),
        ("/users/3f9c2b1d4e5f", False),
        ("/3f9c2b1d4e5f.pdf", False),
    ],
)
def test_names_with_a_hash_of_a_build(path: str, hashed: bool) -> None:
    assert is_hashed(path) is hashed


def test_what_a_page_refers_to() -> None:
    html = f"""
      <link rel=stylesheet href=/assets/main.1a2b3c4d5e.css>
      <script src='assets/app-3f9c2b1d.js?x=1&amp;y=2'></script> <img SRC = "https://{HOST}/i/logo-3f9c2b1d.png">
      <script src="//cdn.example.net/app-aaaa1111.js"></script> <a href="https://{APP}/login">in</a>
      <form action="https://pay.example.org:8443/"> <a href="mailto:a@b.c"> <a href="http://[x"> <a href="#x"> <img src="">
    """
    found = references(html, URL)
    assert found.assets == {"/assets/main.1a2b3c4d5e.css", "/assets/app-3f9c2b1d.js", "/i/logo-3f9c2b1d.png"}
    assert found.hosts == {"cdn.example.net", APP, "pay.example.org"}


def test_a_page_of_nothing_but_references_is_read_up_to_a_bound() -> None:
    many = "".join(f'<a href="https://h{number}.example">' for number in range(5000))
    assert len(references(many, URL).hosts) == MOST_REFERENCES


def test_only_html_that_can_be_read_is_searched() -> None:
    body = '<script src="/app-3f9c2b1d.js">'
    assert page(HTML, body=body).references is not None
    assert page(("content-type", "application/json"), body=body).references is None
    assert page(HTML, ("content-encoding", "br"), body=body).references is None


# --------------------------------------------------------------------------------------------------- what differs


def cookie(text: str) -> tuple[str, str]:
    return "set-cookie", text


DIFFERENT: dict[str, tuple[Page, Page, Aspect]] = {
    "status": (OK, page(HTML, status=400), Aspect.STATUS),
    "redirect": (page(("location", "/a"), status=302), page(("location", "/b"), status=302), Aspect.LOCATION),
    "type": (OK, page(("content-type", "text/plain")), Aspect.CONTENT_TYPE),
    "charset": (OK, page(("content-type", "text/html; charset=latin1")), Aspect.CONTENT_TYPE),
    "cookie": (page(HTML, cookie("a=1")), OK, Aspect.COOKIE),
    "attribute": (page(HTML, cookie("a=1; secure")), page(HTML, cookie("a=2")), Aspect.COOKIE_ATTRIBUTES),
    "header": (page(HTML, ("x-frame-options", "DENY")), OK, Aspect.HEADER),
    "policy": (
        page(HTML, ("content-security-policy", "default-src 'self'; img-src *")),
        page(HTML, ("content-security-policy", "default-src 'self'; img-src 'self'")),
        Aspect.HEADER,
    ),
    "link": (OK, page(HTML, body=f'<a href="https://{APP}/">'), Aspect.LINK),
    "assets": (
        page(HTML, body='<script src="/app-3f9c2b1d.js">'),
        page(HTML, body='<script src="/app-9a8b7c6d.js">'),
        Aspect.ASSETS,
    ),
    "size": (page(HTML, body="x" * 5000), page(HTML, body="x" * 615), Aspect.SIZE),
    "size of one that was cut": (page(HTML, body="x" * 5000, cut=True), page(HTML, body="x" * 615), Aspect.SIZE),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_each_aspect_is_compared_both_ways(case: str) -> None:
    was, now, aspect = DIFFERENT[case]
    assert [one.aspect for one in differences(was, now)] == [aspect]
    assert [one.aspect for one in differences(now, was)] == [aspect]


def secured(policy: str) -> Page:
    return page(HTML, ("content-security-policy", policy))


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (page(HTML, cookie("a=1; Path=/; Expires=x")), page(HTML, cookie("a=2; path=/; max-age=60"))),
        (page(("content-type", "Text/HTML;charset=UTF-8; boundary=1")), OK),
        (secured("script-src 'nonce-abc' 'self'"), secured("script-src 'self' 'nonce-xyz'; report-uri /r?key=1")),
        (page(HTML, body="x" * 10_000), page(HTML, body="x" * 9000)),
        (page(HTML, body="x"), page(HTML, body="x" * 200)),
        (page(HTML, body="x" * 5000, cut=True), page(HTML, body="x" * 50_000)),
        (page(HTML, body='<script src="/app.js">'), page(HTML, body='<script src="/main.js">')),
    ],
)
def test_what_is_alike(was: Page, now: Page) -> None:
    assert differences(was, now) == ()


words = st.text(st.characters(exclude_categories=()), max_size=30)
header = st.tuples(
    st.sampled_from(["content-type", "location", "set-cookie", "content-length", *map(str.lower, SECURITY_HEADERS)]),
    st.one_of(
        words,
        st.sampled_from(["text/html", "/a", "a=1; secure; domain=x", "max-age=5; preload", "default-src 'self'; a b"]),
    ),
)
bodies = st.one_of(
    words,
    st.lists(
        st.sampled_from(['<a href="/x-3f9c2b1d.js">', "<img src=//b.example/>", f"<form action=https://{APP}>"])
    ).map("".join),
)
pages = st.builds(
    lambda status, headers, body, cut: read_page(URL, status, headers, body.encode(errors="surrogatepass"), cut=cut),
    st.sampled_from([200, 301, 302, 400, 404, 503]),
    st.lists(header, max_size=8),
    bodies,
    st.booleans(),
)
answers = st.one_of(pages, words.map(NoAnswer))


@given(pages, pages)
def test_what_differs_by_itself_is_no_difference(first: Page, second: Page) -> None:
    assert differences(first, first) == ()
    assert differences(first, second, noise_of(first, second)) == ()


@given(pages, pages)
def test_differences_are_the_same_both_ways(was: Page, now: Page) -> None:
    there, back = differences(was, now), differences(now, was)
    assert [(one.aspect, one.name, one.now, one.was) for one in there] == [
        (one.aspect, one.name, one.was, one.now) for one in back
    ]


@given(answers, answers, answers, answers, st.sampled_from([BY_APP_NAME, BY_PUBLIC_NAME]))
def test_whatever_is_answered_is_told_in_one_line(
    users: Any, heroku: Any, again: Any, eks: Any, leg: HerokuLeg
) -> None:
    found = findings([PathAnswers("/", users, heroku, again, eks)], HOST, leg)
    text = summary(found)
    shown = "".join(each.reason for each in (users, heroku, again, eks) if isinstance(each, NoAnswer))
    assert text.isprintable() or not shown.isprintable()
    # Where it redirects to is told; what cookies have is not.
    located = any("secure" in each.location for each in (users, heroku, again, eks) if isinstance(each, Page))
    assert located or "1; secure" not in text
    assert len(text) < 3000
    if users == heroku == again == eks and isinstance(users, Page):
        assert found == ()


# ----------------------------------------------------------------------------------------------------- what is told


def test_alike_answers_say_nothing() -> None:
    assert told() == ("", "")


def test_an_app_that_redirects_to_its_public_name_wants_it() -> None:
    fails, warns = told(heroku=page(("location", URL), status=301), eks=OK)
    assert fails == (
        f"/: Heroku answers through the gateway with HTTP 301 to {URL} instead of HTTP 200. To do: the app seems to look at"
        f" its Host, which is {APP} through the gateway: set heroku.hostHeader: Public"
    )
    assert "EKS answers with HTTP 200 instead of HTTP 301" in warns


def test_an_app_that_refuses_other_hosts_wants_its_public_name() -> None:
    fails, _ = told(heroku=page(status=400), eks=OK)
    assert "HTTP 400 instead of HTTP 200" in fails
    assert "heroku.hostHeader: Public" in fails


def test_with_the_public_name_already_people_are_told_where_to_look() -> None:
    fails, _ = told(heroku=page(status=404), eks=OK, leg=BY_PUBLIC_NAME)
    assert "hostHeader" not in fails
    assert f"curl -i --connect-to ::quiet-moon-1234.herokudns.com: {URL}" in fails


@pytest.mark.parametrize(
    ("later", "says"),
    [
        (page(HTML, cookie("session=1; secure; domain=acme-pdf-1a2b3c.herokuapp.com")), f"with Domain={APP}"),
        (page(HTML, body=f'<h1>Hello</h1> <a href="https://{APP}/login">'), f"links to {APP}"),
        (page(("content-type", "text/plain")), "the content type text/plain instead of text/html; charset=utf-8"),
    ],
)
def test_what_an_app_makes_of_its_host_fails(later: Page, says: str) -> None:
    users = page(HTML, cookie("session=1; secure")) if later.cookies else OK
    fails, warns = told(users=users, heroku=later)
    assert says in fails
    assert "set heroku.hostHeader: Public" in fails
    assert warns == ""


def test_throttling_is_told_with_the_one_address_that_all_have() -> None:
    fails, _ = told(heroku=page(status=429))
    assert "limits requests by address" in fails


@pytest.mark.parametrize(
    "users",
    [page(HTML, cookie("cdn=1")), page(HTML, ("strict-transport-security", "max-age=1")), page(HTML, body="x" * 900)],
)
def test_what_a_cdn_may_have_made_warns(users: Page) -> None:
    fails, warns = told(users=users)
    assert fails == ""
    assert "CDN or proxy in front of Heroku" in warns


def test_an_error_of_the_app_is_in_its_log() -> None:
    assert told(heroku=page(status=503), eks=OK)[0].endswith(
        "HTTP 503 instead of HTTP 200. To do: look into heroku logs"
    )


def test_better_answers_than_now_warn() -> None:
    """As with DNS at the gateway already, which has no route for the host before the takeover."""
    assert told(users=page(status=404)) == (
        "",
        "/: Heroku answers through the gateway with HTTP 200 instead of HTTP 404",
    )


def test_a_redirect_to_where_users_are_fails_without_anything_to_compare_with() -> None:
    unknown = NoAnswer("pdf.example.com has no address")
    loop = page(("location", URL), status=301)
    assert "set heroku.hostHeader: Public" in told(users=unknown, heroku=loop)[0]
    fails, warns = told(users=unknown, heroku=page(status=400))
    assert fails == ""
    assert "HTTP 400; what users get now is not known (pdf.example.com has no address)" in warns
    assert told(users=unknown) == ("", "/: what users get now is not known (pdf.example.com has no address)")
    assert told(users=loop, heroku=loop) == ("", ""), "as an app has it that sets a cookie by the way"


def test_no_answer_of_heroku_fails_where_users_have_one() -> None:
    nothing = NoAnswer("no answer within 10 s")
    assert told(heroku=nothing, eks=OK) == (
        "/: Heroku gives no answer through the gateway (no answer within 10 s)",
        "",
    )
    assert told(users=page(status=503), heroku=nothing, eks=OK)[0] == ""
    assert told(users=nothing, heroku=nothing, eks=OK)[0] == ""


def test_no_answer_of_eks_warns() -> None:
    assert told(eks=NoAnswer("refused")) == ("", "/: EKS gives no answer (refused)")


def test_an_app_on_eks_that_does_not_hear_of_tls_redirects_for_ever() -> None:
    fails, warns = told(eks=page(("location", URL), status=301))
    assert fails == ""
    assert "redirects for ever: end TLS at the gateway" in warns


@pytest.mark.parametrize(
    ("eks", "says"),
    [
        (page(status=400), "allowed hosts"),
        (page(status=302), "heroku config"),
        (page(HTML, cookie("other=1")), "a new cookie named other"),
        (page(HTML, ("x-frame-options", "DENY")), "a new X-Frame-Options"),
        (page(HTML, body="x" * 900), "900 B instead of 14 B"),
    ],
)
def test_differences_between_the_legs_warn(eks: Page, says: str) -> None:
    fails, warns = told(eks=eks)
    assert fails == ""
    assert says in warns
    assert ". To do: " in warns


def test_assets_of_two_builds_are_told() -> None:
    builds = [page(HTML, body=f'<script src="/assets/app-{name}.js">') for name in ("3f9c2b1d", "9a8b7c6d")]
    fails, warns = told(users=builds[0], heroku=builds[0], eks=builds[1])
    assert fails == ""
    assert "other assets (app-9a8b7c6d.js instead of app-3f9c2b1d.js)" in warns
    assert "one bucket or CDN" in warns


def test_what_heroku_answers_by_turns_is_not_compared() -> None:
    two = page(HTML, cookie("a1=1")), page(HTML, cookie("b2=1"))
    assert told(users=page(HTML, cookie("c3=1")), heroku=two[0], again=two[1], eks=page(HTML, cookie("d4=1"))) == (
        "",
        "",
    )
    fails, warns = told(heroku=OK, again=page(status=503), eks=page(status=404))
    assert fails == ""
    assert warns.startswith("/: Heroku answers by turns with HTTP 200 and HTTP 503; choose a path")


def test_the_same_of_several_paths_is_told_once() -> None:
    nothing = NoAnswer("no address")
    many = [PathAnswers(f"/{number}", nothing, OK, OK, OK) for number in range(3)]
    assert summary(findings(many, HOST, BY_APP_NAME)) == "/0, /1, /2: what users get now is not known (no address)"


def test_many_findings_are_told_as_a_number() -> None:
    many = [PathAnswers(f"/{number}", OK, OK, OK, NoAnswer(f"reason {number}")) for number in range(8)]
    assert summary(findings(many, HOST, BY_APP_NAME)).endswith("; and 4 more")


def test_very_many_differences_are_told_in_little_room() -> None:
    """The advice is told all the same."""
    many = page(HTML, *(cookie(f"{'c' * 30}{number}=1") for number in range(50)))
    paths = [PathAnswers(f"/{'p' * 250}{number}", many, many, many, OK) for number in range(8)]
    text = summary(findings(paths, HOST, BY_APP_NAME))
    assert len(text) < 700
    assert text.endswith("or users who change legs are signed out")


def test_docs_quote_what_is_told() -> None:
    """The messages in docs/answers-alike.md are the check's own."""
    text = (Path(__file__).parents[2] / "docs" / "answers-alike.md").read_text(encoding="utf-8")
    quotes = [
        quote.replace("\n> ", " ").removeprefix("> ").strip()
        for quote in re.findall(r"(?:^> .*\n)+", text, re.MULTILINE)
    ]
    loop = page(("location", URL), status=301)
    builds = [
        page(HTML, body=f'<link href="/main.{css}.css"><script src="/assets/app-{js}.js">')
        for css, js in (("1a2b3c4d5e", "3f9c2b1d"), ("5e6f7a8b9c", "9a8b7c6d"))
    ]
    full = page(HTML, ("strict-transport-security", "max-age=1"), cookie("session=1"))
    busy = PathAnswers("/login", OK, page(status=429), page(status=429), page(status=429))
    said = [
        told(heroku=loop, eks=loop)[0],
        summary(findings([busy], HOST, BY_APP_NAME)),
        told(users=NoAnswer(f"https://{HOST}: its name has no address"))[1],
        told(eks=loop)[1],
        told(users=full, heroku=full, eks=OK)[1],
        told(again=page(status=503))[1],
        told(users=builds[0], heroku=builds[0], eks=builds[1])[1],
    ]
    assert quotes == said
