"""The client of Heroku's Platform API: GETs only, with a budget for each key.

An account has 4,500 requests, of which some 75 come back each minute, for all that is done with it: people and pipelines
use the same. So answers are asked for again by ETag, and the client stops before the account is used up.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from cutover.adapters.heroku import entries, models
from cutover.domain.fingerprints import ConfigValues, Fingerprints
from cutover.domain.heroku import LEFT_FOR_OTHERS, HerokuApp, Release, pace
from cutover.ports.errors import Unavailable

API = "https://api.heroku.com"

#: Releases that are read: those that a busy team makes while nothing is asked for an hour.
MOST_RELEASES = 20

#: Seconds without a request after 429, doubled each time; Heroku names none.
FIRST_PAUSE, LONGEST_PAUSE = 30.0, 900.0

#: Seconds for a connection, and for an answer.
CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 15.0

#: Bytes of an answer that are read, and pages of a list.
LARGEST_ANSWER, MOST_PAGES = 2_000_000, 20

#: Bytes of all answers that are kept for their ETag, and accounts whose budgets are remembered.
MOST_KEPT, MOST_ACCOUNTS = 8 * 1024 * 1024, 1000

#: Requests at the same time, of all plans.
CONCURRENT = 4

_T = TypeVar("_T")


class Hidden(Exception):
    """The key may not see this part of the app."""


@dataclass(slots=True)
class _Budget:
    """When an account's requests may go on.

    Parameters
    ----------
    remaining
        Requests that the account has left, as its last answer said; ``None`` if it did not say.
    resume_at
        Monotonic seconds until which nothing is asked.
    pause
        Seconds of the last pause.
    """

    remaining: int | None = None
    resume_at: float = 0.0
    pause: float = 0.0


class HerokuClient:
    """Asks Heroku about apps.

    Parameters
    ----------
    url
        Base URL of the API; another one in tests.
    transport
        For tests.
    now
        Returns monotonic seconds.
    fingerprints
        What stands for values of config vars, where a plan has them compared.

    Attributes
    ----------
    requests
        Requests made, by the last part of their path's pattern: ``app``, ``releases`` …
    errors
        Requests without a usable answer, by cause: key, hidden, rate-limit (also requests that were not sent), server,
        invalid, timeout, unreachable.
    """

    def __init__(
        self,
        url: str = API,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.monotonic,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=url,
            transport=transport,
            headers={"Accept": "application/vnd.heroku+json; version=3", "User-Agent": "cutover-operator"},
            timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
        )
        self._now, self._fingerprints = now, fingerprints
        self._budgets: OrderedDict[str, _Budget] = OrderedDict()
        self._kept: OrderedDict[tuple[str, str, str], tuple[str, bytes, str]] = OrderedDict()
        self._kept_bytes = 0
        self._slots = asyncio.Semaphore(CONCURRENT)
        self.requests: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def app(self, name: str, key: str, *, values: bool = False) -> HerokuApp:
        """Return an app, as far as a key may see it.

        Parameters
        ----------
        name
            The app's name.
        key
            An API key or an OAuth token; the scope ``read`` is enough.
        values
            Whether fingerprints of the config vars' values are kept.

        Raises
        ------
        Unavailable
            Where Heroku gives no answer, or takes the key or the name for unknown.
        """
        path = f"/apps/{quote(name, safe='')}"
        try:
            app = (await self._get(key, path, models.App))[0]
        except Hidden:
            raise Unavailable(f"the key may not see the app {name}, or there is no such app") from None
        formation = await self._list(key, f"{path}/formation", models.FormationEntry)
        domains = await self._list(key, f"{path}/domains", models.DomainEntry)
        endpoints = await self._list(key, f"{path}/sni-endpoints", models.SniEndpoint)
        addons = await self._list(key, f"{path}/addons", models.Addon)
        features = await self._list(key, f"{path}/features", models.Feature)
        buildpacks = await self._list(key, f"{path}/buildpack-installations", models.BuildpackInstallation)
        drains = await self._list(key, f"{path}/log-drains", models.LogDrain, keep=False)
        config_vars, config_values = await self._config_vars(key, f"{path}/config-vars", values=values)
        return HerokuApp(
            name=app.name,
            maintenance=app.maintenance,
            own_hostname=(urlsplit(app.web_url or "").hostname or ""),
            processes=entries.seen(formation, entries.process),
            domains=entries.seen(
                [one for one in domains if one.hostname] if domains is not None else None, entries.domain
            ),
            certificates=entries.seen(
                [one for one in endpoints if entries.has_end(one)] if endpoints is not None else None,
                entries.certificate,
            ),
            addons=entries.seen(addons, entries.addon),
            features=frozenset(one.name for one in features if one.enabled) if features is not None else None,
            stack=app.stack.name if app.stack is not None else "",
            region=app.region.name if app.region is not None else "",
            config_vars=config_vars,
            config_values=config_values,
            buildpacks=entries.seen(buildpacks, entries.buildpack),
            drains=len(drains) if drains is not None else None,
        )

    async def _config_vars(
        self, key: str, path: str, *, values: bool
    ) -> tuple[frozenset[str] | None, ConfigValues | None]:
        """Return the names of the config vars, ``None`` where the key may not see them, and fingerprints of their values."""
        try:
            found, _ = await self._get(key, path, dict[str, msgspec.Raw], keep=False)
        except Hidden:
            return None, None
        if not values or self._fingerprints is None:
            return frozenset(found), None
        known = ((name, entries.config_value(raw)) for name, raw in found.items())
        of = self._fingerprints.of
        return frozenset(found), ConfigValues(
            {name: of(value) for name, value in known if value is not None}, self._fingerprints
        )

    async def releases(self, name: str, key: str) -> tuple[Release, ...]:
        """Return an app's newest releases, the newest first, with one request.

        Parameters
        ----------
        name
            The app's name.
        key
            An API key or an OAuth token; the scope ``read`` is enough.

        Raises
        ------
        Unavailable
            Where Heroku gives no answer, takes the key or the name for unknown, or does not show it the releases.
        """
        newest = f"version ..; max={MOST_RELEASES}, order=desc"
        path = f"/apps/{quote(name, safe='')}/releases"
        try:
            found, _ = await self._get(key, path, list[models.Release], newest)
        except Hidden:
            raise Unavailable(f"the key may not see the releases of the app {name}, or there is no such app") from None
        return tuple(map(entries.release, found))

    def pace(self, key: str) -> float:
        """Return how many times as seldom as usual to ask with a key, by what its account has left."""
        budget = self._budgets.get(_account(key))
        return pace(budget.remaining) if budget is not None else 1.0

    async def _list(self, key: str, path: str, kind: type[_T], *, keep: bool = True) -> list[_T] | None:
        """Return all of a list; ``None`` where the key may not see it. ``keep`` is as for :meth:`_get`."""
        found: list[_T] = []
        following = ""
        for _ in range(MOST_PAGES):
            try:
                page, following = await self._get(key, path, list[kind], following, keep=keep)  # type: ignore[valid-type]
            except Hidden:
                return None
            found += page
            if not following:
                return found
        raise Unavailable(f"Heroku's list {_last(path)} has more than {MOST_PAGES} pages")

    async def _get(self, key: str, path: str, kind: type[_T], page: str = "", *, keep: bool = True) -> tuple[_T, str]:
        """Return an answer, and where the next page begins; ``""`` at the end. Raises Hidden, Unavailable.

        Parameters
        ----------
        keep
            Whether to keep the answer for its ETag; not where it has secrets.
        """
        account = _account(key)
        kept = self._kept.get((account, path, page))
        headers = {"Authorization": f"Bearer {key}"}
        if kept is not None:
            headers["If-None-Match"] = kept[0]
        if page:
            headers["Range"] = page
        async with self._slots:
            self._check(account)
            self.requests[_kind(path)] += 1
            status, answered, body = await self._ask(path, headers)
        self._note(account, status, answered)
        if status == 304 and kept is not None:
            self._keep((account, path, page), kept)  # again, where others have pushed it out meanwhile
            _, body, following = kept
        elif status in (200, 206):
            following = answered.get("Next-Range", "") if status == 206 else ""
            if keep and (tag := answered.get("ETag")):
                self._keep((account, path, page), (tag, body, following))
        else:
            self.errors[_CAUSES.get(status, "server" if status >= 500 else "invalid")] += 1
            raise _refusal(status, body, path)
        try:
            return msgspec.json.decode(body, type=kind), following
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.errors["invalid"] += 1
            raise Unavailable(f"Heroku's answer for {_last(path)} is not as its API is documented") from None

    async def _ask(self, path: str, headers: dict[str, str]) -> tuple[int, httpx.Headers, bytes]:
        body = b""
        try:
            async with self._client.stream("GET", path, headers=headers) as answer:
                async for part in answer.aiter_bytes():
                    body += part
                    if len(body) > LARGEST_ANSWER:
                        self.errors["invalid"] += 1
                        raise Unavailable(f"Heroku's answer for {_last(path)} is larger than {LARGEST_ANSWER} bytes")
        except httpx.TimeoutException:
            self.errors["timeout"] += 1
            raise Unavailable(f"Heroku's API gave no answer within {ANSWER_SECONDS:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            self.errors["unreachable"] += 1
            # The error's own text may have the request, and so the key.
            raise Unavailable(f"Heroku's API cannot be reached: {type(error).__name__}") from None
        return answer.status_code, answer.headers, body

    def _check(self, account: str) -> None:
        """Raise Unavailable where the account has no request left for us."""
        budget = self._budget(account)
        if self._now() < budget.resume_at:
            self.errors["rate-limit"] += 1
            # Without the seconds: the text is in the status, and each other text would be another write.
            raise Unavailable(_USED_UP)

    def _note(self, account: str, status: int, headers: httpx.Headers) -> None:
        """Take over what an answer says of the account's requests."""
        budget = self._budget(account)
        remaining = headers.get("RateLimit-Remaining", "")
        if remaining.isdecimal() and len(remaining) < 10:
            budget.remaining = int(remaining)
        short = budget.remaining is not None and budget.remaining < LEFT_FOR_OTHERS
        if status == 429 or short:
            budget.pause = min(max(2 * budget.pause, FIRST_PAUSE), LONGEST_PAUSE)
            budget.resume_at = self._now() + budget.pause
        elif status < 400:
            budget.pause = 0.0

    def _budget(self, account: str) -> _Budget:
        budget = self._budgets.setdefault(account, _Budget())
        self._budgets.move_to_end(account)
        if len(self._budgets) > MOST_ACCOUNTS:
            self._budgets.popitem(last=False)
        return budget

    def _keep(self, of: tuple[str, str, str], answer: tuple[str, bytes, str]) -> None:
        if before := self._kept.pop(of, None):
            self._kept_bytes -= _size(before)
        self._kept[of] = answer
        self._kept_bytes += _size(answer)
        while self._kept_bytes > MOST_KEPT:
            self._kept_bytes -= _size(self._kept.popitem(last=False)[1])


def _size(answer: tuple[str, bytes, str]) -> int:
    return sum(map(len, answer)) + 512  # small answers are less than their entry


_USED_UP = "the account's requests to Heroku's API are used up; asked again within 15 minutes"

_CAUSES = {401: "key", 402: "key", 403: "hidden", 404: "hidden", 429: "rate-limit"}


def _account(key: str) -> str:
    """Return what stands for a key. Keys of one account learn of each other by what the account has left."""
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()


def _kind(path: str) -> str:
    """Return what a request is for."""
    parts = path.split("/")
    return parts[3] if len(parts) > 3 else "app"


def _refusal(status: int, body: bytes, path: str) -> Exception:
    """Return the error for an answer that is no success."""
    try:
        problem = msgspec.json.decode(body, type=models.Problem).id
    except (msgspec.DecodeError, UnicodeDecodeError):
        problem = ""  # a proxy's page
    match status:
        case 401:
            return Unavailable("Heroku does not accept the API key: it is wrong, or was revoked")
        case 402:
            return Unavailable("Heroku refuses the API key: its account is delinquent")
        case 403 | 404:
            return Hidden(path)
        case 429:
            return Unavailable(_USED_UP)
        case _:
            known = f" ({problem})" if problem.isidentifier() and len(problem) < 40 else ""
            return Unavailable(f"Heroku's API answered HTTP {status}{known} for {_last(path)}")


def _last(path: str) -> str:
    return path.rsplit("/", 1)[-1]
