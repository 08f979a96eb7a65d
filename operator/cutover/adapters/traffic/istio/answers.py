"""Asks for the answers that users get: as they come now, and of each leg through the gateway."""

from __future__ import annotations

import ssl
from collections.abc import Collection, Mapping

import aiohttp
from aiohttp.abc import AbstractResolver

from cutover.adapters.addresses import public_sockets
from cutover.adapters.kube.client import Cluster
from cutover.adapters.public_names import PublicNames
from cutover.adapters.traffic.istio import gateway_client
from cutover.adapters.traffic.istio.gateway_client import (
    GatewayClient,
    ask_leg,
    asked_with,
    reason,
    session,
    shown,
    way,
)
from cutover.api.v1alpha1 import Ownership
from cutover.domain.alike.findings import NoAnswer
from cutover.domain.alike.page import MOST_BYTES, Page, read_page
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks.istio.names import LEG_HEADER
from cutover.domain.revision import HEADER
from cutover.domain.traffic import Leg
from cutover.ports.errors import Conflict, Gone, Unavailable

#: How a request fails. A lack of answers is told; anything else is a bug.
_FAILURES = (aiohttp.ClientError, OSError, ValueError, TimeoutError)


class HttpAnswers:
    """:class:`cutover.ports.answers.Answers` over HTTP.

    With ownership ``Generate`` users come by the public name's present address. It is asked as a browser does: by HTTPS, and
    the certificate has to be right. Only addresses of the Internet are asked, as anybody may write any name into a plan.
    With the others they come through the gateway already, so that one is asked without a probe's header.

    Parameters
    ----------
    cluster, urls, proxied, resolver
        As for :class:`cutover.adapters.traffic.istio.gateway_client.GatewayClient`.
    public
        Connects to the public names' addresses; for tests.
    """

    def __init__(
        self,
        cluster: Cluster,
        urls: Mapping[str, str] | None = None,
        *,
        proxied: Collection[str] = (),
        resolver: AbstractResolver | None = None,
        public: aiohttp.TCPConnector | None = None,
    ) -> None:
        self._gateways = GatewayClient(cluster, urls, proxied=proxied, resolver=resolver, by_tls=True)
        # A connection for each request: they are rare, and the address may change between two.
        connector = public or aiohttp.TCPConnector(
            force_close=True, use_dns_cache=False, limit=0, resolver=PublicNames(), socket_factory=public_sockets
        )
        self._public = session(connector)

    async def close(self) -> None:
        """Close the connections."""
        await self._gateways.close()
        await self._public.close()

    async def of_users(self, plan: Plan, path: str) -> Page | NoAnswer:
        """Return the answer that users get as long as the takeover has not moved them."""
        if plan.spec.traffic.istio.ownership is not Ownership.GENERATE:
            return await self._through_gateway(plan, path)
        url = f"https://{way(plan)[1]}"
        try:
            async with self._public.get(f"{url}{path}", headers=asked_with(plan), allow_redirects=False) as response:
                return await _page(plan, path, response)
        except _FAILURES as error:
            return _failed(url, error)

    async def of_leg(self, plan: Plan, leg: Leg, path: str) -> Page | NoAnswer:
        """Return the answer of a leg through the gateway, by the probes' route."""
        return await self._through_gateway(plan, path, leg)

    async def _through_gateway(self, plan: Plan, path: str, leg: Leg | None = None) -> Page | NoAnswer:
        """Ask as users are asked there, or of one leg."""
        gateway, _ = way(plan)
        try:
            url = await self._gateways.url(plan)
        except (Conflict, Gone, Unavailable) as problem:
            return NoAnswer(shown(f"gateway {gateway}: {problem}"))

        async def ask(token: Mapping[str, str]) -> tuple[Page | NoAnswer, str]:
            async with self._gateways.get(plan, url, path, token) as response:
                if leg is None or response.headers.get(LEG_HEADER) == leg:
                    return await _page(plan, path, response), ""
                told = NoAnswer(f"HTTP {response.status}, not by way of the plan's route")
                return told, response.headers.get(HEADER, "")

        try:
            return await ask_leg(plan, leg, ask) if leg is not None else (await ask({}))[0]
        except _FAILURES as error:
            self._gateways.forget(plan)
            return _failed(url, error)


async def _page(plan: Plan, path: str, response: aiohttp.ClientResponse) -> Page:
    body, cut = await _beginning(response)
    # By the users' address, wherever the answer is from: they follow its links and redirects.
    return read_page(f"https://{way(plan)[1]}{path}", response.status, list(response.headers.items()), body, cut=cut)


async def _beginning(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """Return the beginning of the body, and whether there is more. An answer that goes on for long is cut, too."""
    body = bytearray()
    try:
        async for part in response.content.iter_any():
            body += part
            if len(body) > MOST_BYTES:
                return bytes(body[:MOST_BYTES]), True
    except TimeoutError:
        return bytes(body), True
    return bytes(body), False


def _failed(url: str, error: Exception) -> NoAnswer:
    if isinstance(error, TimeoutError):
        return NoAnswer(f"{url} gave no answer within {gateway_client.TIMEOUT:g} s")
    if isinstance(error, aiohttp.ClientConnectorCertificateError) and isinstance(
        error.certificate_error, ssl.SSLCertVerificationError
    ):
        return NoAnswer(shown(f"{url}: its certificate is not right: {error.certificate_error.verify_message}"))
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return NoAnswer(f"{url}: its name has no address")
    return NoAnswer(shown(f"{url}: {reason(error)}"))
