"""Heroku's API: what is read of an app, what a key may not see, outages, the account's budget, and whose key is used."""

from __future__ import annotations

import base64
import contextlib
import heapq
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit.heroku_api import BLIND_KEY, KEY, KEYS, SCOPES, SECRETS, PlayedHerokuApi, app_answers, release
from tests.kit.world import plan_spec

from cutover.adapters.heroku.client import FIRST_PAUSE, MOST_KEPT, MOST_PAGES, MOST_RELEASES, HerokuClient
from cutover.adapters.heroku.keys import KEY_SECONDS, KeyedHerokuApi
from cutover.adapters.kube.client import Cluster
from cutover.domain.engine.wanted import ADVICE_SECONDS
from cutover.domain.heroku import (
    ACCOUNT_REQUESTS,
    LEFT_FOR_OTHERS,
    SELDOM,
    Addon,
    Certificate,
    Domain,
    HerokuApp,
    Price,
    Process,
    pace,
)
from cutover.domain.plan import Plan
from cutover.domain.resources import Json, Resource
from cutover.ports.errors import Gone, Unavailable
from cutover.services.leg_watch import RELEASES_SECONDS, SELDOM_HEROKU_SECONDS


@pytest.fixture(scope="module")
def server() -> Iterator[PlayedHerokuApi]:
    played = PlayedHerokuApi()
    yield played
    played.stop()


@pytest.fixture
def heroku(server: PlayedHerokuApi) -> PlayedHerokuApi:
    server.answers, server.hidden, server.page, server.remaining = app_answers(), set(), 200, 4000
    server.revoked.clear()
    server.requests.clear()
    return server


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def client(heroku: PlayedHerokuApi) -> AsyncIterator[HerokuClient]:
    made = HerokuClient(heroku.url)
    yield made
    await made.close()


async def test_what_is_read_of_an_app(client: HerokuClient, heroku: PlayedHerokuApi) -> None:
    assert await client.app("acme-pdf", KEY) == HerokuApp(
        name="acme-pdf",
        maintenance=False,
        own_hostname="acme-pdf-1a2b3c4d5e6f.herokuapp.com",
        processes=(Process("web", 2, "Standard-1X"), Process("worker", 0, "Standard-1X")),
        domains=(
            Domain("acme-pdf-1a2b3c4d5e6f.herokuapp.com"),
            Domain("pdf.example.com", "quiet-moon-1234.herokudns.com", "cert issued"),
        ),
        certificates=(Certificate(("pdf.example.com", "*.example.com"), datetime(2027, 2, 10, 8, tzinfo=UTC)),),
        addons=(Addon("heroku-postgresql", "standard-0", ("DATABASE_URL",), Price(5000)),),
        features=frozenset({"preboot"}),
        stack="heroku-24",
        region="eu",
        config_vars=frozenset({"DATABASE_URL", "SECRET_KEY_BASE"}),
        buildpacks=("heroku/ruby", "git.example.com/tools.git"),
        drains=1,
    )
    assert {headers["Authorization"] for _, headers in heroku.requests} == {f"Bearer {KEY}"}


async def test_an_answer_that_has_not_changed_is_not_sent_again(client: HerokuClient, heroku: PlayedHerokuApi) -> None:
    first = await client.app("acme-pdf", KEY)
    heroku.requests.clear()
    assert await client.app("acme-pdf", KEY) == first
    asked = {path for path, headers in heroku.requests if "If-None-Match" not in headers}
    assert asked == {"/apps/acme-pdf/config-vars", "/apps/acme-pdf/log-drains"}, "no secret is kept"
    heroku.answers[""]["maintenance"] = True
    assert (await client.app("acme-pdf", KEY)).maintenance
    heroku.requests.clear()
    with pytest.raises(Unavailable):
        await client.app("acme-pdf", BLIND_KEY)
    assert "If-None-Match" not in heroku.requests[0][1], "what one key was shown is not for another"


async def test_answers_are_kept_up_to_a_size_and_accounts_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are what plans' Secrets have, and answers may be large however little they say."""
    monkeypatch.setattr("cutover.adapters.heroku.client.MOST_ACCOUNTS", 10)
    tags = iter(range(1000))

    def answer(request: httpx.Request) -> httpx.Response:
        objects = {"acme-pdf": b'{"name": "acme-pdf"}', "config-vars": b"{}"}
        body = objects.get(request.url.path.rpartition("/")[2], b"[]")
        return httpx.Response(200, content=body + b" " * 100_000, headers={"ETag": f'"{next(tags)}"'})

    client = HerokuClient(transport=httpx.MockTransport(answer))
    try:
        for number in (*range(20), 19, 19):
            await client.app("acme-pdf", f"HRKU-{number}")
            assert client._kept_bytes <= MOST_KEPT
    finally:
        await client.close()
    assert client._kept_bytes == sum(sum(map(len, one)) + 512 for one in client._kept.values()) > MOST_KEPT // 2
    assert len(client._budgets) == 10


async def test_a_list_is_read_to_its_end(client: HerokuClient, heroku: PlayedHerokuApi) -> None:
    heroku.answers["/addons"] = [{"addon_service": {"name": f"addon-{n}"}} for n in range(7)]
    heroku.page = 3
    assert (await client.app("acme-pdf", KEY)).addons == tuple(Addon(f"addon-{n}") for n in range(7))
    heroku.answers["/addons"] = [{"addon_service": {"name": "x"}}] * (3 * MOST_PAGES + 1)
    with pytest.raises(Unavailable, match="addons has more than 20 pages"):
        await client.app("acme-pdf", KEY)


async def test_what_the_key_may_not_see_is_missing_and_nothing_else(
    client: HerokuClient, heroku: PlayedHerokuApi
) -> None:
    heroku.hidden = {"/addons", "/domains", "/config-vars"}
    app = await client.app("acme-pdf", KEY)
    assert (app.addons, app.domains, app.config_vars) == (None, None, None)
    assert app.processes is not None
    assert app.features is not None


@pytest.mark.parametrize(
    ("change", "key", "says"),
    [
        ({}, "HRKU-another", "does not accept the API key"),
        ({}, BLIND_KEY, "may not see the app acme-pdf, or there is no such app"),
        ({"": 404}, KEY, "may not see the app acme-pdf, or there is no such app"),
        ({"": 402}, KEY, "delinquent"),
        ({"": 429}, KEY, "used up"),
        ({"": 500}, KEY, r"HTTP 500 \(server_error\) for acme-pdf"),
        ({"": "<html>it is us</html>"}, KEY, "HTTP 503 for acme-pdf"),
        ({"/formation": {"type": "web"}}, KEY, "formation is not as its API is documented"),
        ({"": {"name": 3}}, KEY, "acme-pdf is not as its API is documented"),
        ({"": {"name": "acme-pdf", "filler": "x" * 2_000_001}}, KEY, "larger than 2000000 bytes"),
    ],
)
async def test_a_refusal_says_why_and_quotes_nothing(
    client: HerokuClient, heroku: PlayedHerokuApi, change: Json, key: str, says: str
) -> None:
    heroku.answers.update(change)
    with pytest.raises(Unavailable, match=says) as caught:
        await client.app("acme-pdf", key)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert caught.value.__cause__ is None


async def test_an_api_that_cannot_be_reached() -> None:
    gone = PlayedHerokuApi()
    gone.stop()
    client = HerokuClient(gone.url)
    with pytest.raises(Unavailable, match="cannot be reached: ConnectError"):
        await client.app("acme-pdf", KEY)
    await client.close()


@pytest.mark.parametrize("how", ["429", "nearly used up"])
async def test_an_account_that_is_used_up_is_left_alone_for_longer_each_time(
    heroku: PlayedHerokuApi, how: str
) -> None:
    clock = Time()
    client = HerokuClient(heroku.url, now=clock)
    if how == "429":
        heroku.answers[""] = 429
    else:
        heroku.remaining = LEFT_FOR_OTHERS - 1
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE):
        with pytest.raises(Unavailable):
            await client.app("acme-pdf", KEY)
        asked = len(heroku.requests)
        clock.now += pause - 1
        with pytest.raises(Unavailable, match="asked again within 15 minutes"):
            await client.app("acme-pdf", KEY)
        assert len(heroku.requests) == asked
        clock.now += 1
    heroku.answers, heroku.remaining = app_answers(), 4000
    with pytest.raises(Unavailable, match="does not accept"):
        await client.app("acme-pdf", "HRKU-of-another-account")
    clock.now += 4 * FIRST_PAUSE
    assert (await client.app("acme-pdf", KEY)).name == "acme-pdf"
    await client.close()


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "type", "quantity", "hostname", "domains", "ssl_cert", "web_url", "size"]),
                inner,
            )
        ),
        max_leaves=8,
    ),
    part=st.sampled_from(["", "/formation", "/domains", "/sni-endpoints", "/addons", "/features", "/releases"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
async def test_no_answer_raises_anything_else(server: PlayedHerokuApi, body: Any, part: str) -> None:
    server.answers = app_answers() | {
        part: body if not isinstance(body, (int, str)) or isinstance(body, bool) else [body]
    }
    client = HerokuClient(server.url)
    for ask in (client.app, client.releases):
        with contextlib.suppress(Unavailable):
            await ask("acme-pdf", KEY)
    await client.close()


# ------------------------------------------------------------------------------------------------------------- releases


async def test_what_is_read_of_the_newest_releases_with_one_request(
    client: HerokuClient, heroku: PlayedHerokuApi
) -> None:
    heroku.answers["/releases"] = [
        *(release(version) for version in range(1, 43)),
        release(43, "Set FOO config vars", slug="s-1"),
        release(44, "Deploy", slug=None, oci_image={"id": "i-1"}),
        release(45, "Deploy\u202e " + "x" * 500, status="pending", current=False, created_at="2027-01-11T12:00:00"),
        release(46, "Authorization: Bearer abcdefghijkl", status="failed", current=False, created_at=None),
    ]
    found = await client.releases("acme-pdf", KEY)
    assert [one.version for one in found] == list(range(46, 46 - MOST_RELEASES, -1))
    assert [one.version for one in found if one.current] == [44]
    assert [one.version for one in found if not one.succeeded] == [46, 45]
    codes = {one.version: one.code for one in found}
    assert codes[43] == codes[42] != codes[44]
    assert "s-1" not in codes.values(), "an identifier is kept as a digest"
    noon = datetime(2027, 1, 11, 12, tzinfo=UTC)
    assert [one.at for one in found[:3]] == [None, noon, noon - timedelta(hours=2)]
    said = {one.version: one.description for one in found}
    assert said[43] == "Set FOO config vars"
    assert len(said[45]) <= 100
    assert said[45].isprintable()
    assert "abcdefghijkl" not in said[46]
    ((path, headers),) = heroku.requests
    assert path == "/apps/acme-pdf/releases"
    assert headers["Range"] == "version ..; max=20, order=desc"


async def test_releases_that_have_not_changed_are_not_sent_again(
    client: HerokuClient, heroku: PlayedHerokuApi
) -> None:
    first = await client.releases("acme-pdf", KEY)
    assert await client.releases("acme-pdf", KEY) == first
    assert "If-None-Match" in heroku.requests[-1][1]
    heroku.answers["/releases"].append(release(43))
    assert (await client.releases("acme-pdf", KEY))[0].version == 43


@pytest.mark.parametrize("generation", ["fir", {"id": "2", "name": "fir"}, None])
async def test_an_apps_generation_may_be_a_text_or_an_object(
    client: HerokuClient, heroku: PlayedHerokuApi, generation: Any
) -> None:
    heroku.answers[""]["generation"] = generation
    assert (await client.app("acme-pdf", KEY)).name == "acme-pdf"


@pytest.mark.parametrize(
    ("change", "key", "says", "cause"),
    [
        ({"/releases": 404}, KEY, "may not see the releases of the app acme-pdf, or there is no such app", "hidden"),
        ({}, BLIND_KEY, "may not see the releases", "hidden"),
        ({}, "HRKU-another", "does not accept the API key", "key"),
        ({"/releases": 429}, KEY, "used up", "rate-limit"),
        ({"/releases": 500}, KEY, r"HTTP 500 \(server_error\) for releases", "server"),
        ({"/releases": "<html>it is us</html>"}, KEY, "HTTP 503 for releases", "server"),
        ({"/releases": [{"version": "new"}]}, KEY, "releases is not as its API is documented", "invalid"),
    ],
)
async def test_why_there_are_no_releases(
    client: HerokuClient, heroku: PlayedHerokuApi, change: Json, key: str, says: str, cause: str
) -> None:
    heroku.answers.update(change)
    with pytest.raises(Unavailable, match=says) as caught:
        await client.releases("acme-pdf", key)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert client.errors == {cause: 1}
    assert client.requests == {"releases": 1}


# ----------------------------------------------------------------------------------------------------------------- keys


class Secrets:
    """An API server with one Secret."""

    def __init__(self, data: dict[str, str]) -> None:
        self.data = {name: base64.b64encode(value.encode("latin-1")).decode() for name, value in data.items()}

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        if (resource.plural, namespace, name) != ("secrets", "shop", "heroku"):
            raise Gone
        return {"data": self.data}


def plan(**heroku: Any) -> Plan:
    given = {"app": "acme-pdf", "hostname": "acme-pdf-1a2b3c.herokuapp.com", **heroku}
    return Plan("shop", "pdf", "1", 1, plan_spec(heroku=given))


def keyed(heroku: PlayedHerokuApi, data: dict[str, str], files: dict[str, Path] | None = None) -> KeyedHerokuApi:
    return KeyedHerokuApi(HerokuClient(heroku.url), cast("Cluster", Secrets(data)), files or {})


async def test_the_key_is_that_of_the_plans_secret_or_of_the_first_file_for_its_namespace(
    heroku: PlayedHerokuApi, tmp_path: Path
) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(f"{KEY}\n")
    wrong.write_text("HRKU-wrong")
    named = plan(apiKeySecretRef={"name": "heroku", "key": "api-key"})
    api = keyed(heroku, {"api-key": f"{KEY}\n"}, {"shop*": wrong})
    assert (await api.app(named)).name == "acme-pdf"
    api = keyed(heroku, {}, {"other": wrong, "sh?p": right, "*": wrong})
    assert api.has_key(plan())
    assert (await api.app(plan())).name == "acme-pdf"
    assert not keyed(heroku, {}, {"other": wrong}).has_key(plan())


@pytest.mark.parametrize(
    ("data", "reference", "says"),
    [
        ({}, {"name": "other", "key": "api-key"}, r"Secret other \(heroku.apiKeySecretRef\) does not exist"),
        ({"token": KEY}, {"name": "heroku", "key": "api-key"}, "has no key api-key"),
        ({"api-key": ""}, {"name": "heroku", "key": "api-key"}, "api-key is no API key"),
        ({"api-key": "two\nlines"}, {"name": "heroku", "key": "api-key"}, "api-key is no API key"),
        ({"api-key": "\xff"}, {"name": "heroku", "key": "api-key"}, "api-key is no API key"),
    ],
)
async def test_a_secret_without_a_key_is_told(
    heroku: PlayedHerokuApi, data: dict[str, str], reference: Json, says: str
) -> None:
    with pytest.raises(Unavailable, match=says):
        await keyed(heroku, data).app(plan(apiKeySecretRef=reference))
    assert not heroku.requests


async def test_a_file_that_is_missing_is_told(heroku: PlayedHerokuApi, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Heroku API key file cannot be read"):
        await keyed(heroku, {}, {"*": tmp_path / "none"}).app(plan())


async def test_a_key_is_read_again_after_minutes_and_when_it_is_not_accepted(
    heroku: PlayedHerokuApi, tmp_path: Path
) -> None:
    file, clock = tmp_path / "key", Time()
    file.write_text(KEY)
    api = KeyedHerokuApi(HerokuClient(heroku.url), cast("Cluster", Secrets({})), {"*": file}, now=clock)
    assert (await api.releases(plan()))[0].version == 42
    file.write_text(KEYS["global"])
    assert (await api.releases(plan()))[0].version == 42
    assert heroku.requests[-1][1]["Authorization"] == f"Bearer {KEY}"
    heroku.revoked.add(KEY)
    with pytest.raises(Unavailable, match="was revoked"):
        await api.releases(plan())
    assert (await api.releases(plan()))[0].version == 42
    file.write_text(KEYS["write"])
    clock.now += KEY_SECONDS + 1
    await api.releases(plan())
    assert heroku.requests[-1][1]["Authorization"] == f"Bearer {KEYS['write']}"


# ------------------------------------------------------------------------------------------------------------ the scopes

_SCOPES_ASK = (
    "",
    "/formation",
    "/domains",
    "/sni-endpoints",
    "/addons",
    "/features",
    "/buildpack-installations",
    "/log-drains",
    "/releases",
    "/config-vars",
)


async def test_the_docs_say_what_a_key_of_each_scope_sees(heroku: PlayedHerokuApi) -> None:
    """The table in docs/heroku-api.md, question by question, as the played API answers."""
    page = (Path(__file__).parents[2] / "docs" / "heroku-api.md").read_text(encoding="utf-8")
    lines = [line.strip("|").split("|") for line in page.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line] for line in lines]
    head = next(row for row in rows if row[0] == "what is asked for")
    scopes = [cell.strip("`") for cell in head[1:]]
    assert sorted(scopes) == sorted(SCOPES)
    said = {}
    for row in rows[rows.index(head) + 2 :]:
        if not row[0].startswith("`GET "):
            break
        said[row[0].split("`")[1].removeprefix("GET /apps/{app}")] = row[1:]
    assert sorted(said) == sorted(_SCOPES_ASK)
    accept = {"Accept": "application/vnd.heroku+json; version=3"}
    async with httpx.AsyncClient(base_url=heroku.url, headers=accept) as asking:
        for part, cells in said.items():
            for scope, cell in zip(scopes, cells, strict=True):
                headers = {"Authorization": f"Bearer {KEYS[scope]}"}
                answer = await asking.get(f"/apps/acme-pdf{part}", headers=headers)
                assert answer.status_code == (200 if cell == "yes" else 403), (part, scope)


@pytest.mark.parametrize("scope", [scope for scope, (apps, _) in SCOPES.items() if apps])
async def test_all_but_config_vars_is_seen_with_the_scope_read(
    client: HerokuClient, heroku: PlayedHerokuApi, scope: str
) -> None:
    app = await client.app("acme-pdf", KEYS[scope])
    seen = (app.processes, app.domains, app.certificates, app.addons, app.features, app.buildpacks, app.drains)
    assert None not in seen
    assert (app.config_vars is not None) == SCOPES[scope][1]
    assert (await client.releases("acme-pdf", KEYS[scope]))[0].version == 42
    assert {path.removeprefix("/apps/acme-pdf") for path, _ in heroku.requests} == {*_SCOPES_ASK}


# ------------------------------------------------------------------------------------------------------------ the budget


@pytest.mark.parametrize(
    ("remaining", "seldom"),
    [(None, 1.0), (4500, 1.0), (9000, 1.0), (2500, 2.0), (1500, 4.0), (500, SELDOM), (0, SELDOM)],
)
def test_how_seldom_is_asked_follows_what_the_account_has_left(remaining: int | None, seldom: float) -> None:
    assert pace(remaining) == seldom


class Account:
    """An account of Heroku's: 4,500 requests, of which 75 come back each minute, for the operator and for others."""

    def __init__(self, clock: Time, others_per_minute: float = 0.0) -> None:
        self.clock, self.back = clock, (75 - others_per_minute) / 60
        self.left, self.at, self.least = float(ACCOUNT_REQUESTS), clock.now, float(ACCOUNT_REQUESTS)
        self.refused = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.left = min(ACCOUNT_REQUESTS, self.left + max(self.clock.now - self.at, 0.0) * self.back)
        self.at = max(self.at, self.clock.now)
        if self.left < 1:
            self.refused += 1
            return httpx.Response(429, json={"id": "rate_limit"}, headers={"RateLimit-Remaining": "0"})
        self.left -= 1
        self.least = min(self.least, self.left)
        found = app_answers()[request.url.path.removeprefix("/apps/acme-pdf")]
        return httpx.Response(200, json=found, headers={"RateLimit-Remaining": str(int(self.left))})


async def hours_of(
    account: Account, hours: float, *, apps: int, preflight: bool, key: Callable[[int], str]
) -> Counter[str]:
    """Have as many apps of one account ask as their plans do; return the requests by kind. Time is played."""
    client = HerokuClient("http://heroku.example", transport=httpx.MockTransport(account.answer), now=account.clock)
    ends = account.clock.now + 3600 * hours
    seconds = {"app": ADVICE_SECONDS} if preflight else {"app": SELDOM_HEROKU_SECONDS, "releases": RELEASES_SECONDS}
    due = [(account.clock.now + number / apps, number, what) for number in range(apps) for what in seconds]
    heapq.heapify(due)
    while due[0][0] < ends:
        account.clock.now, number, what = heapq.heappop(due)
        with contextlib.suppress(Unavailable):
            await (client.app if what == "app" else client.releases)("acme-pdf", key(number))
        wait = seconds[what] * client.pace(key(number)) * (1 + number / apps / 4)
        heapq.heappush(due, (account.clock.now + wait, number, what))
    await client.close()
    return client.requests


@pytest.mark.parametrize(
    ("apps", "keys", "others", "preflight", "least"),
    [
        (75, 75, 0, False, 3000),  # each plan has a key of its own, of the same account
        (75, 1, 60, False, 700),  # people and pipelines use most of what comes back
        (75, 1, 0, True, 3000),
    ],
)
async def test_the_apps_of_one_account_do_not_use_it_up(
    apps: int, keys: int, others: float, preflight: bool, least: float
) -> None:
    account = Account(Time(), others)
    asked = await hours_of(account, 1, apps=apps, preflight=preflight, key=lambda number: f"HRKU-{number % keys}")
    print(f"{apps} apps: at least {account.least:.0f} left, {dict(asked)} an hour")
    assert account.refused == 0
    assert account.least >= least
    if not preflight and not others:
        # As many as come back: each app about once in 80 s.
        assert asked["releases"] >= 0.5 * 75 * 60


async def test_a_storm_of_429_is_waited_out_by_all_plans_of_an_account() -> None:
    account = Account(Time())
    account.left, account.at = 0.0, account.clock.now + 1200  # nothing comes back for 20 minutes
    asked = await hours_of(account, 1, apps=75, preflight=False, key=lambda _: KEY)
    assert account.refused <= 6, "one request after 30 s, 60 s, 2, 4 and 8 minutes"
    assert asked["releases"] > 75
    assert account.least < LEFT_FOR_OTHERS
    assert account.left > LEFT_FOR_OTHERS
