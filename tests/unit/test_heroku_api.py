"""Heroku's API: what is read of an app, what a key may not see, outages, the account's budget, and whose key is used."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.kit.heroku_api import BLIND_KEY, KEY, SECRETS, PlayedHerokuApi, app_answers
from tests.kit.world import plan_spec

from cutover.adapters.heroku.client import FIRST_PAUSE, LEFT_FOR_OTHERS, MOST_KEPT, MOST_PAGES, HerokuClient
from cutover.adapters.heroku.keys import KeyedHerokuApi
from cutover.adapters.kube.client import Cluster
from cutover.domain.heroku import Addon, Certificate, Domain, HerokuApp, Process
from cutover.domain.plan import Plan
from cutover.domain.resources import Json, Resource
from cutover.ports.errors import Gone, Unavailable


@pytest.fixture(scope="module")
def server() -> Iterator[PlayedHerokuApi]:
    played = PlayedHerokuApi()
    yield played
    played.stop()


@pytest.fixture
def heroku(server: PlayedHerokuApi) -> PlayedHerokuApi:
    server.answers, server.hidden, server.page, server.remaining = app_answers(), set(), 200, 4000
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
        certificates=(Certificate(("pdf.example.com",), datetime(2027, 2, 10, 8, tzinfo=UTC)),),
        addons=(Addon("heroku-postgresql", "standard-0", ("DATABASE_URL",)),),
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
        with pytest.raises(Unavailable, match="asked again in 1 s"):
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
    part=st.sampled_from(["", "/formation", "/domains", "/sni-endpoints", "/addons", "/features"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
async def test_no_answer_raises_anything_else(server: PlayedHerokuApi, body: Any, part: str) -> None:
    server.answers = app_answers() | {
        part: body if not isinstance(body, (int, str)) or isinstance(body, bool) else [body]
    }
    client = HerokuClient(server.url)
    with contextlib.suppress(Unavailable):
        await client.app("acme-pdf", KEY)
    await client.close()


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
