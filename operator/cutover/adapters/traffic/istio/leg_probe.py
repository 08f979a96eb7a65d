"""Probes the legs through the ingress gateway, on the way that users' requests take."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

import aiohttp
from aiohttp.abc import AbstractResolver

from cutover.adapters.kube.client import Cluster
from cutover.adapters.traffic.istio import gateway_client
from cutover.adapters.traffic.istio.gateway_client import GatewayClient, ask_leg, reason, shown, way
from cutover.domain.evidence.answers import ROUTING_FAULTS, is_error
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import LEG_HEADER
from cutover.domain.revision import HEADER
from cutover.domain.traffic import Leg, Probe
from cutover.ports.errors import Conflict, Gone, Unavailable

#: Bytes of an error page that are read.
EXCERPT = 16_384

#: How Heroku's router answers for a Host without an app: the page's text, and the address of the page in its frame.
NO_SUCH_APP = ("no such app", "no-such-app")


class HttpLegProbe:
    """:class:`cutover.ports.leg_probe.LegProbe` over HTTP.

    Parameters
    ----------
    cluster, urls, proxied, resolver, now
        As for :class:`cutover.adapters.traffic.istio.gateway_client.GatewayClient`.
    """

    def __init__(
        self,
        cluster: Cluster,
        urls: Mapping[str, str] | None = None,
        *,
        proxied: Collection[str] = (),
        resolver: AbstractResolver | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._client = GatewayClient(cluster, urls, proxied=proxied, resolver=resolver, now=now)
        self._now = now

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def probe(self, plan: Plan, leg: Leg, path: str) -> Probe:
        """Send one request to a leg through the gateway. Never raises: a failure is an unhealthy probe.

        Where the gateway closes the connection before it answers, the request is repeated once, as browsers do. Where it
        has another revision of the route than the plan's status asks for, it is repeated for that one.
        """
        try:
            url = await self._client.url(plan)
        except (Conflict, Gone, Unavailable) as problem:
            return self._failed(self._now(), f"gateway {way(plan)[0]}: {problem}")

        async def ask(token: Mapping[str, str]) -> tuple[Probe, str]:
            probe = await self._ask(plan, leg, url, path, token)
            return probe, probe.revision

        return await ask_leg(plan, leg, ask)

    async def _ask(self, plan: Plan, leg: Leg, url: str, path: str, token: Mapping[str, str]) -> Probe:
        """Send one request, with the token for a revision of the route."""
        started = self._now()
        try:
            async with self._client.get(plan, url, path, token) as response:
                body = await _excerpt(response) if response.status >= 400 else ""
        except TimeoutError as error:
            hung = not isinstance(error, aiohttp.ConnectionTimeoutError)
            return self._failed(started, f"{url} gave no answer within {gateway_client.TIMEOUT:g} s", hung=hung)
        except (aiohttp.ClientError, ValueError) as error:
            self._client.forget(plan)
            return self._failed(started, f"{url}: {reason(error)}")
        healthy, detail = judge(response.status, response.headers, body, leg)
        return Probe(
            # The time of the request, not of the answer: the probe does not prove a route that changed in between.
            started,
            shown(response.headers.get(HEADER, "")),
            healthy,
            detail,
            status=response.status if response.headers.get(LEG_HEADER) == leg else 0,
            seconds=max(0.0, self._now() - started),
        )

    def _failed(self, started: float, detail: str, *, hung: bool = False) -> Probe:
        seconds = max(0.0, self._now() - started)
        return Probe(started, "", healthy=False, detail=detail, seconds=seconds, hung=hung)


async def _excerpt(response: aiohttp.ClientResponse) -> str:
    data = b""
    async for part in response.content.iter_any():
        data += part
        if len(data) >= EXCERPT:
            break
    return data[:EXCERPT].decode(errors="replace")


def judge(status: int, headers: Mapping[str, str], body: str, leg: Leg) -> tuple[bool, str]:
    """Return whether an app on the leg answered, and the answer in words.

    A redirect, a 400, 401, 403, 404 or 429 is an answer of an app, and may be right for a path. Whether it is what users get
    otherwise is judged where there is something to compare with: at the takeover by the check ``answers-alike``, and from
    then on by pairs of both legs (:mod:`cutover.domain.evidence.pairs`). A Heroku that refuses is not one that users are
    moved away from as from a dead one.

    Parameters
    ----------
    headers
        The answer's headers, with case-insensitive keys.
    body
        The start of an error page; ``""`` for other answers.
    leg
        The leg that was asked.
    """
    answer = f"HTTP {status}"
    if headers.get(LEG_HEADER) != leg:
        # The gateway itself answered, or another route.
        return False, f"{answer}, not by way of the plan's route"
    if leg is Leg.HEROKU:
        if fault := ROUTING_FAULTS.get(str(status)):
            return False, f"{answer} ({fault}): Heroku's router does not take this host name"
        if status == 404 and any(words in body.lower() for words in NO_SUCH_APP):
            return False, f"{answer} (no such app): Heroku knows no app by this host name"
    if is_error(str(status), heroku=leg is Leg.HEROKU):
        code = shown(headers.get("x-heroku-error", ""))
        # Heroku shows its error codes in its logs only; Envoy's own answers are one line of text.
        is_text = headers.get("content-type", "").startswith("text/plain")
        said = code or shown((body.strip().splitlines() or [""])[0]) if code or is_text else ""
        return False, f"{answer} ({said})" if said else answer
    return True, answer
