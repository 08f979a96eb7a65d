"""The client of one Prometheus server (https://prometheus.io/docs/prometheus/latest/querying/api/)."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import httpx

from cutover.adapters.clocks import elapsed
from cutover.adapters.prometheus.answers import Answers, TransientError, retention, short
from cutover.adapters.prometheus.breaker import Breaker
from cutover.adapters.secret_files import CredentialsError
from cutover.adapters.tls import TlsVersion, tls_context, tls_reason, tls_version
from cutover.domain.evidence.counters import Counter, L
from cutover.domain.evidence.scrapes import Result
from cutover.domain.slo.matchers import MatchersError, with_matchers
from cutover.ports.errors import QueryFailed, QueryRefused, Unavailable
from cutover.settings import Tls

_logger = logging.getLogger(__name__)

#: Seconds to establish a connection: an unreachable address must not look like a slow query.
_CONNECT_SECONDS = 3.0
#: Idle time-out of connections in seconds: longer than the time between two blocks, shorter than load balancers'.
_KEEP_SECONDS = 45.0
#: A comparison of clocks with a longer round trip is dropped, and so is one during which the operator's clock was set.
_LONGEST_ROUND_TRIP = 1.0
_CLOCK_WAS_SET = 0.1
#: Least difference in seconds by which a new measurement replaces the skew.
_SKEW_STEP = 0.25
#: A server's clock that is so many seconds from the operator's is wrong, and nothing is asked by it.
LARGEST_SKEW = 86_400.0

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class Skew:
    """The skew of a server's clock, shared by the clients of the server.

    Parameters
    ----------
    ahead
        Seconds by which the server's clock is ahead of :func:`cutover.adapters.clocks.elapsed`, as last measured; before the
        first measurement, those of the operator's clock at the start. It is not relative to the operator's clock, which may
        be set at any moment: the server's time must not jump before the next measurement.
    wrong
        Why the server's clock, as last measured, cannot be right; ``""`` if it can. Then ``ahead`` is as it was before.
    """

    ahead: float | None = None
    wrong: str = ""


@dataclass(slots=True, eq=False)
class _Connections:
    """A pool of connections, made with one version of the certificates."""

    http: httpx.AsyncClient
    version: TlsVersion
    users: int = 0


class PrometheusClient:
    """A Prometheus server, or a server that speaks its API, at one URL.

    Parameters
    ----------
    url
        With its prefix, as ``https://mimir.example/prometheus``; credentials in it are not used.
    label
        The server's name in the operator's settings; empty for the default.
    timeout
        Time limit of one attempt in seconds; Prometheus gets it too, and stops evaluating then.
    max_bytes
        Longest answer that is read.
    connections
        Most queries at a time, each on a connection. Further queries wait, which does not count towards their time limit.
    auth
        Adds credentials to each request, see :mod:`cutover.adapters.prometheus.auth`.
    tls
        Files with certificates; read again when they change.
    tenant
        Sent as ``X-Scope-OrgID``.
    parameters
        Sent with every query.
    matchers
        Added to each selector of every query.
    transport
        For tests.
    pause
        Least seconds before the only retry; at most twice that.
    cooldown
        Seconds after which a server that cannot be reached is tried again.
    now
        The operator's clock, in Unix seconds.
    skew
        Holds the measured skew.

    Attributes
    ----------
    asked
        Whether there was a query since the last comparison of clocks, or no comparison yet.
    """

    def __init__(
        self,
        url: str,
        *,
        label: str = "",
        timeout: float = 10.0,
        max_bytes: int = 64 << 20,
        connections: int = 16,
        auth: httpx.Auth | None = None,
        tls: Tls | None = None,
        tenant: str | None = None,
        parameters: Mapping[str, str] | None = None,
        matchers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        pause: float = 0.25,
        cooldown: float = 2.0,
        now: Callable[[], float] = time.time,
        skew: Skew | None = None,
    ) -> None:
        parsed = httpx.URL(url).copy_with(username=None, password=None, query=None, fragment=None)
        self.asked = True
        self._skew = skew or Skew()
        self._url = parsed.copy_with(path=parsed.path.rstrip("/") + "/api/v1/")
        self._name = " ".join(filter(None, ("Prometheus", label, f"at {parsed.netloc.decode('ascii')}")))
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._limits = httpx.Limits(max_keepalive_connections=connections, keepalive_expiry=_KEEP_SECONDS)
        # Not httpx' own limit: a query that times out while it waits for a connection would leave behind a connection that is
        # never used again (httpcore 1.0.9), and the query would count as made.
        self._slots = asyncio.Semaphore(connections)
        self._auth = auth
        self._tls = tls or Tls()
        self._headers = {"X-Scope-OrgID": tenant} if tenant else {}
        self._extensions = {"sni_hostname": self._tls.server_name} if self._tls.server_name else {}
        self._parameters = dict(parameters or {})
        self._matchers = dict(matchers or {})
        self._transport = transport
        self._pause = pause
        self._breaker = Breaker(cooldown)
        self._answers = Answers(self._name, self._breaker)
        self._now = now
        if self._skew.ahead is None:
            self._skew.ahead = now() - elapsed()
        self._connections: _Connections | None = None

    @property
    def skew(self) -> float:
        """Seconds by which the server's clock is ahead of the operator's, as that is now."""
        assert self._skew.ahead is not None
        return self._skew.ahead - (self._now() - elapsed())

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
        QueryRefused
            Where the server rejects the query; the text is the server's, with the position if it gives one. Also where the
            matchers cannot be added to it.
        PartialAnswer
            Where the server warns of a partial answer, as Thanos and Cortex do.
        QueryFailed
            Where the server is there and the answer to this query takes too long, is too long, or is an error.
        Unavailable
            Where there is no usable answer: no connection, an error of the server, an answer that is not Prometheus'.
        """
        kind = "matrix" if promql.rstrip().endswith("]") else "vector"  # of a range selector
        return await self._ask("query", _instant(self._matched(promql), at), partial(self._answers.result, kind=kind))

    async def counters(self, selector: str, at: float, labels: type[L]) -> Sequence[Counter[L]]:
        """Return counters.

        Parameters
        ----------
        selector
            A range selector.
        at
            End of its range in Unix seconds.
        labels
            The labels that are read of each counter.

        Raises
        ------
        QueryRefused, PartialAnswer, Unavailable
            As for :meth:`query`; Unavailable also where the answer has no counters.
        """
        return await self._ask("query", _instant(self._matched(selector), at), partial(self._answers.counters, labels))

    async def query_range(self, promql: str, start: float, end: float, step: float) -> Result:
        """Evaluate an expression at regular times.

        Parameters
        ----------
        promql
            The expression.
        start, end
            First and last evaluation time in Unix seconds.
        step
            Seconds between two evaluations. Servers allow at most 11,000 evaluations.

        Returns
        -------
        list
            ``data.result``, a matrix.

        Raises
        ------
        QueryRefused, PartialAnswer, Unavailable
            As for :meth:`query`.
        """
        form = {"query": self._matched(promql), "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return await self._ask("query_range", form, partial(self._answers.result, kind="matrix"))

    async def retention(self) -> float | None:
        """Return for how many seconds the server keeps samples; ``None`` where it does not tell.

        Only Prometheus itself tells it (https://prometheus.io/docs/prometheus/latest/querying/api/#runtime-information), and
        a proxy before it may not let the question through. It serves for an advice, so nothing is raised.
        """
        try:
            async with self._slots, self._breaker.turn():
                return await self._attempt("status/runtimeinfo", {}, retention, method="GET")
        except (TransientError, Unavailable):
            return None

    def _matched(self, query: str) -> str:
        try:
            return with_matchers(query, self._matchers)
        except MatchersError as error:
            raise QueryRefused(f"{self._name} has matchers in the operator's settings: {error}") from error

    async def compare_clocks(self) -> None:
        """Measure :attr:`skew`.

        The server evaluates a query without a time at its own time, which lies between the request and the answer. The middle
        of the two is wrong by half the round trip at most. A change smaller than the round trip may be noise, and does not
        change the skew.

        Raises
        ------
        Unavailable
            As for :meth:`query`; also where the clock cannot be right. Then queries raise it too, until it can.
        """
        self.asked = False
        async with self._slots, self._breaker.turn():
            wall, began = self._now(), elapsed()
            try:
                result = await self._attempt("query", {"query": "vector(time())"}, self._answers.result)
            except TransientError as error:
                raise Unavailable(str(error)) from error
            round_trip = elapsed() - began
        if round_trip > _LONGEST_ROUND_TRIP or abs(self._now() - wall - round_trip) > _CLOCK_WAS_SET:
            return
        try:
            there = float(result[0]["value"][1])
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError):
            raise Unavailable(f"{self._name} does not say what time it is") from None
        skew = there - (wall + round_trip / 2)
        if not abs(skew) <= LARGEST_SKEW:  # not for NaN either
            self._skew.wrong = f"{self._name}: {_wrong_clock(there, wall)}; set the clock that is wrong"
            raise Unavailable(self._skew.wrong)
        self._skew.wrong = ""
        if abs(skew - self.skew) > max(_SKEW_STEP, round_trip):
            _logger.info("%s: its clock is %+.3f s from the operator's", self._name, skew)
            self._skew.ahead = skew + wall - began

    async def close(self) -> None:
        """Close the connections."""
        if self._connections is not None:
            await self._connections.http.aclose()

    async def _ask(self, path: str, form: dict[str, str], read: Callable[[int, bytearray], _T]) -> _T:
        self.asked = True
        if self._skew.wrong:
            raise Unavailable(self._skew.wrong)
        try:
            try:
                async with self._slots, self._breaker.turn():
                    return await self._attempt(path, form, read)
            except TransientError:
                if self._breaker.open:
                    raise
            await asyncio.sleep(self._pause * (1 + random.random()))
            async with self._slots, self._breaker.turn():
                return await self._attempt(path, form, read)
        except TransientError as error:
            raise Unavailable(str(error)) from error

    async def _attempt(
        self, path: str, form: dict[str, str], read: Callable[[int, bytearray], _T], *, method: str = "POST"
    ) -> _T:
        url = self._url.copy_with(path=self._url.path + path)
        data = self._parameters | form | {"timeout": f"{self._timeout:g}s"} if method == "POST" else None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._pool() as http,
                http.stream(
                    method, url, data=data, headers=self._headers, auth=self._auth, extensions=self._extensions
                ) as response,
            ):
                body = await self._body(response)
        except CredentialsError as error:
            raise Unavailable(f"{self._name} was not asked: {error}") from None
        except (httpx.ConnectTimeout, httpx.ConnectError) as error:
            reason = _transport_reason(error) or "it does not answer"
            raise self._missed(f"{self._name} cannot be connected to: {reason}") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            # No retry: a second slow query would only add to the load.
            reason = f"{self._name} did not answer within {self._timeout:g} s"
            self._breaker.slow(reason)
            raise QueryFailed(reason) from error
        except (httpx.HTTPError, ssl.SSLError) as error:  # some TLS alerts are not wrapped
            raise self._missed(f"{self._name} broke off: {_transport_reason(error)}") from error
        return read(response.status_code, body)

    def _missed(self, reason: str) -> TransientError:
        self._breaker.missed(reason)
        return TransientError(reason)

    @asynccontextmanager
    async def _pool(self) -> AsyncIterator[httpx.AsyncClient]:
        """Yield connections that were made with the current certificates.

        Connections with earlier certificates are closed after their last request. Where the new files cannot be used, for
        example when only one of two is replaced yet, the old connections stay in use.
        """
        version = tls_version(self._tls)
        pool = self._connections
        if pool is None or pool.version != version:
            try:
                fresh = self._connections = _Connections(self._connect(), version)
            except CredentialsError as error:
                if pool is None:
                    raise
                _logger.warning("%s: %s; the previous certificates stay in use", self._name, error)
                pool.version = version
            else:
                if pool is not None and not pool.users:
                    await pool.http.aclose()
                pool = fresh
        pool.users += 1
        try:
            yield pool.http
        finally:
            pool.users -= 1
            if pool is not self._connections and not pool.users:
                await pool.http.aclose()

    def _connect(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(self._timeout, connect=min(_CONNECT_SECONDS, self._timeout)),
            limits=self._limits,
            verify=tls_context(self._tls) if self._url.scheme == "https" else False,
            transport=self._transport,
            follow_redirects=False,
            # Prometheus is in the cluster or next to it, and needs no proxy for the outside.
            trust_env=False,
        )

    async def _body(self, response: httpx.Response) -> bytearray:
        body = bytearray()  # not parts, which would be there twice when they are joined
        async for part in response.aiter_bytes():
            body += part
            if len(body) > self._max_bytes:
                self._breaker.reached()
                raise QueryFailed(f"{self._name} answered more than {self._max_bytes >> 20} MiB")
        return body


def _instant(promql: str, at: float) -> dict[str, str]:
    return {"query": promql, "time": f"{at:.3f}"}


def _wrong_clock(there: float, here: float) -> str:
    try:
        told = f"{datetime.fromtimestamp(there, UTC):%Y-%m-%d %H:%M} UTC"
    except (ArithmeticError, ValueError, OSError):
        told = f"{there:g} s after 1970"
    return f"its clock says {told}, and the operator's {datetime.fromtimestamp(here, UTC):%Y-%m-%d %H:%M} UTC"


def _transport_reason(error: Exception) -> str:
    """Return the reason of an error, without the wrappings of Python and OpenSSL."""
    cause: BaseException | None = error
    reason = short(str(error))
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {short(tls_reason(cause))}"
        if isinstance(cause, OSError) and cause.strerror:
            # A server that requires a certificate may just close the connection.
            reason = short(cause.strerror)
        cause = cause.__cause__ or cause.__context__
    return reason or type(error).__name__
