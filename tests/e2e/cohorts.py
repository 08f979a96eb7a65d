"""Users with a cohort in their cookies, and testers with a header, as they come through the gateway."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from dataclasses import dataclass, field

import aiohttp

from sandbox import manifests
from sandbox.environment import Environment

#: Percent of all users who move with each step.
COHORTS = {10: 10, 25: 15, 50: 25, 100: 50}
TRY_EKS = {"x-try-eks": "1"}


@dataclass
class User:
    """Somebody with a browser: what it was told to keep, and which leg answered last, under which revision."""

    cookie: str = ""
    leg: str = ""
    revision: str = ""
    told: list[str] = field(default_factory=list)

    @property
    def cohort(self) -> int:
        return int(self.cookie.rsplit(".", 1)[1])


async def _come(environment: Environment, host: str, users: list[User]) -> None:
    headers = {"host": host}
    connections = aiohttp.TCPConnector(limit=20)
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(
        environment.stack.gateway_url, headers=headers, connector=connections, cookie_jar=jar
    ) as session:

        async def ask(user: User) -> None:
            sent = {"cookie": f"theme=dark; {user.cookie}; lang=en"} if user.cookie else {}
            async with session.get("/", headers=sent) as response:
                assert response.status == 200
                user.leg, user.revision = response.headers["x-leg"], response.headers["x-cutover-revision"]
                for told in response.headers.getall("set-cookie", []):
                    user.told.append(told)
                    user.cookie = told.split(";")[0]

        await asyncio.gather(*(ask(user) for user in users))


def come(environment: Environment, service: str, users: list[User], revision: str) -> Counter[str]:
    """Have each user ask once; return how many each leg has answered."""
    asyncio.run(_come(environment, manifests.public_host(service), users))
    assert {user.revision for user in users} == {revision}
    return Counter(user.leg for user in users)


def fits(number: int, of: int, percent: float) -> bool:
    part = percent / 100
    return abs(number - of * part) <= 4 * math.sqrt(of * part * (1 - part))


def drawn(users: list[User], weight: int) -> None:
    """See that users were drawn into the cohorts, and are where their cohort is."""
    counts = Counter(user.cohort for user in users)
    assert counts.keys() == COHORTS.keys()
    assert all(fits(counts[cohort], len(users), percent) for cohort, percent in COHORTS.items()), counts
    assert all((user.leg == "eks") is (user.cohort <= weight) for user in users)


def try_eks(environment: Environment, service: str, requests: int) -> list[str]:
    return asyncio.run(_try_eks(environment, manifests.public_host(service), requests))


async def _try_eks(environment: Environment, host: str, requests: int) -> list[str]:
    async with aiohttp.ClientSession(environment.stack.gateway_url, headers={"host": host, **TRY_EKS}) as session:

        async def ask() -> str:
            async with session.get("/") as response:
                return f"{response.status} {response.headers.get('x-leg')}"

        return list(await asyncio.gather(*(ask() for _ in range(requests))))
