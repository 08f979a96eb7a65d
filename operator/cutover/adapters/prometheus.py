"""Instant queries against Prometheus' HTTP API (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx

from cutover.core.series import Result
from cutover.ports import Unavailable

_RETRIED_STATUS = frozenset({429, 502, 503, 504})
_LONGEST_TEXT = 300


class _TransientError(Exception):
    """A failure that another attempt may cure; its text is for people."""


class PrometheusClient:
    """A Prometheus, or what speaks its API, at one URL.

    Parameters
    ----------
    url
        With its prefix, as ``https://mimir.example/prometheus``; credentials in it are not used.
    timeout
        Seconds for one attempt, all of it; also told to Prometheus, which then stops evaluating.
    max_bytes
        Longest answer that is read.
    token_file
        Read before each request, because tokens are rotated.
    transport
        For tests.
    pause
        Seconds before the only retry, at least; up to twice that.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        max_bytes: int = 64 << 20,
        token_file: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: float = 0.25,
    ) -> None:
        parsed = httpx.URL(url).copy_with(username=None, password=None, query=None, fragment=None)
        self._url = parsed.copy_with(path=parsed.path.rstrip("/") + "/api/v1/query")
        self._name = f"Prometheus at {parsed.host}" + (f":{parsed.port}" if parsed.port else "")
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._token_file = token_file
        self._pause = pause
        # Prometheus is in the cluster or next to it: a proxy for the outside is not on the way.
        self._http = httpx.AsyncClient(timeout=timeout, transport=transport, follow_redirects=False, trust_env=False)

    async def query(self, promql: str, at: float) -> Result:
        """Evaluate an expression.

        Parameters
        ----------
        promql
            The expression.
        at
            Evaluation time in Unix seconds.

        Returns
        -------
        list
            ``data.result`` of a vector or matrix.

        Raises
        ------
        Unavailable
            Where there is no complete answer: no connection, a time-out, an error, a warning (which Thanos and
            Mimir give with partial answers), an answer that is too long or is not Prometheus'.
        """
        form = {"query": promql, "time": f"{at:.3f}", "timeout": f"{self._timeout:g}s"}
        try:
            try:
                return await self._attempt(form)
            except _TransientError:
                await asyncio.sleep(self._pause * (1 + random.random()))
                return await self._attempt(form)
        except _TransientError as error:
            raise Unavailable(str(error)) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _attempt(self, form: dict[str, str]) -> Result:
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._http.stream("POST", self._url, data=form, headers=self._headers()) as response,
            ):
                body = await self._body(response)
        except (TimeoutError, httpx.TimeoutException) as error:
            # Not again: what was slow once would only add to the load.
            raise Unavailable(f"{self._name} did not answer within {self._timeout:g} s") from error
        except httpx.ConnectError as error:
            raise _TransientError(f"{self._name} cannot be connected to: {_short(str(error))}") from error
        except httpx.HTTPError as error:
            raise _TransientError(f"{self._name} broke off: {_short(str(error) or type(error).__name__)}") from error
        return self._result(response.status_code, body)

    def _headers(self) -> dict[str, str]:
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text("ascii").strip()
        except (OSError, ValueError) as error:
            # ValueError's own text would quote the token.
            why = error.strerror if isinstance(error, OSError) else "it is not ASCII"
            raise Unavailable(f"the token file for {self._name} cannot be read: {why}") from None
        if not token.isprintable():
            raise Unavailable(f"the token file for {self._name} has more than one line")
        return {"Authorization": f"Bearer {token}"}

    async def _body(self, response: httpx.Response) -> bytes:
        body = bytearray()
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._max_bytes:
                raise Unavailable(f"{self._name} answered more than {self._max_bytes >> 20} MiB")
        return bytes(body)

    def _result(self, status: int, body: bytes) -> Result:
        try:
            answer: Any = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            answer = {}
        if status != 200 or answer.get("status") != "success":
            text = f"{self._name} answered HTTP {status}"
            if reason := answer.get("error"):
                text += f": {_short(str(reason))}"
            elif status == 200:
                text += " with something else than Prometheus' JSON"
            if status in _RETRIED_STATUS:
                raise _TransientError(text)
            raise Unavailable(text)
        if warnings := answer.get("warnings"):
            raise Unavailable(f"{self._name} warns that its answer is not complete: {_short(str(warnings[0]))}")
        if answer.get("isPartial"):  # VictoriaMetrics says it so
            raise Unavailable(f"{self._name} says that its answer is not complete")
        data = answer.get("data")
        if isinstance(data, dict) and data.get("resultType") in ("vector", "matrix"):
            result = data.get("result")
            if isinstance(result, list):
                return result
        raise Unavailable(f"{self._name} answered with neither a vector nor a matrix")


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
