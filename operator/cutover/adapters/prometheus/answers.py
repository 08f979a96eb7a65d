"""Reads a Prometheus server's answers, and says what is wrong with unusable ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any, Generic, Literal

from msgspec import Struct
from msgspec.json import Decoder, decode

from cutover.adapters.masking import masked
from cutover.adapters.prometheus.breaker import Breaker
from cutover.domain.evidence.counters import Counter, L
from cutover.domain.evidence.scrapes import Result
from cutover.domain.texts import shorten
from cutover.ports.errors import PartialAnswer, QueryFailed, QueryRefused, Unavailable
from cutover.ports.prometheus import unavailable_if_malformed

_RETRIED_STATUS = frozenset({429, 502, 503, 504})
#: How a gateway says that the server is away. It also answers 504, but that may be one slow query.
_AWAY_STATUS = frozenset({502, 503})
#: Status and error type of a wrong query: of Prometheus, Thanos, Mimir and Cortex; of VictoriaMetrics.
_REFUSALS = frozenset({(400, "bad_data"), (422, "execution"), (400, "400"), (422, "422")})
#: Parts of errors that are the server's own, although it calls them the query's.
_SERVERS_OWN = ("rpc error", "cannot populate chunk")
_LONGEST_TEXT = 300


class TransientError(Exception):
    """A failure that a retry may cure; its text is for people."""


class _Matrix(Struct, Generic[L]):
    resultType: Literal["matrix"]  # noqa: N815
    result: list[Counter[L]]
    warnings: Any = None


class _Counters(Struct, Generic[L]):
    """A successful answer with counters."""

    status: Literal["success"]
    data: _Matrix[L]
    warnings: Any = None
    isPartial: Any = None  # noqa: N815

    @property
    def complete(self) -> bool:
        return not (self.warnings or self.data.warnings or self.isPartial)


@cache  # one for each dialect
def _decoder(labels: type[L]) -> Decoder[_Counters[L]]:
    """Return a decoder that takes well under half the time of a generic one. Not strict, as the numbers are in quotes."""
    return Decoder(_Counters[labels], strict=False)  # type: ignore[valid-type]


class Answers:
    """Reads the answers of one server.

    Parameters
    ----------
    name
        The server's name, for people.
    breaker
        Is told whether the server was reached.
    """

    def __init__(self, name: str, breaker: Breaker) -> None:
        self._name, self._breaker = name, breaker

    def counters(self, labels: type[L], status: int, body: bytearray) -> Sequence[Counter[L]]:
        """Return the counters in an answer. Raises as :meth:`result`."""
        if status == 200:
            try:
                answer = _decoder(labels).decode(body)
            except (ValueError, RecursionError):
                pass
            else:
                if answer.complete:
                    self._breaker.reached()
                    return answer.data.result
        # The generic decoder finds the reason, or reads the answer: msgspec does not know "+Inf".
        result = self.result(status, body)
        with unavailable_if_malformed(labels.product):
            return [Counter.of(item, labels) for item in result]

    def result(self, status: int, body: bytearray, kind: str = "") -> Result:
        """Return ``data.result`` of an answer.

        Parameters
        ----------
        status, body
            The answer.
        kind
            The type that the result must have; ``""`` for a vector or a matrix.

        Raises
        ------
        QueryRefused, PartialAnswer, QueryFailed, TransientError, Unavailable
            If it is another answer.
        """
        try:
            answer: Any = decode(body)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            answer = {}
        if status in _AWAY_STATUS and "status" not in answer:
            reason = f"{self._name} answered HTTP {status}"
            self._breaker.missed(reason)
            raise TransientError(reason)
        self._breaker.reached()
        if status != 200 or answer.get("status") != "success":
            raise self._failure(status, answer)
        data = answer.get("data")
        if not isinstance(data, dict):
            data = {}
        if warnings := _texts(answer.get("warnings")) or _texts(data.get("warnings")):
            # Prometheus warns of doubtful queries in the same field in which others warn of partial answers.
            if all(text.startswith("PromQL warning") for text in warnings):
                raise QueryRefused(short(warnings[0]))
            raise PartialAnswer(f"{self._name} warns that its answer is not complete: {short(warnings[0])}")
        if answer.get("isPartial"):  # VictoriaMetrics' way to say so
            raise PartialAnswer(f"{self._name} says that its answer is not complete")
        if data.get("resultType") in ("vector", "matrix"):
            result = data.get("result")
            if isinstance(result, list):
                if kind and data["resultType"] != kind:
                    raise Unavailable(f"{self._name} answered with a {data['resultType']} instead of a {kind}")
                return result
        raise Unavailable(f"{self._name} answered with neither a vector nor a matrix")

    def _failure(self, status: int, answer: dict[str, Any]) -> Exception:
        error, kind = str(answer.get("error") or ""), str(answer.get("errorType") or "")
        # A failure of a store (Thanos), or of a block that is being compacted (Prometheus), is reported as one of the query.
        if (status, kind) in _REFUSALS and error and not any(text in error for text in _SERVERS_OWN):
            return QueryRefused(short(error.removeprefix('invalid parameter "query": ')))
        text = f"{self._name} answered HTTP {status}"
        if error:
            text += f": {short(error)}"
        elif status in (401, 403):
            text += "; see the credentials for it in the operator's settings"
        elif status == 200:
            text += " with something else than Prometheus' JSON"
        # No retry after a time-out: a second slow query would only add to the load.
        if kind == "timeout" or (status == 422 and error):
            return QueryFailed(text)
        return TransientError(text) if status in _RETRIED_STATUS else Unavailable(text)


#: Seconds of the units of Prometheus' durations.
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
_DURATION = re.compile(r"([0-9]+)(ms|[smhdwy])")


def retention(status: int, body: bytearray) -> float | None:
    """Return the seconds of ``storageRetention``, such as ``15d`` or ``15d or 10GiB``; ``None`` without a time in it."""
    try:
        said: Any = decode(body)["data"]["storageRetention"] if status == 200 else ""
        parts = [part.strip() for part in said.split(" or ")]
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None
    times = [_DURATION.findall(part) for part in parts if re.fullmatch(r"([0-9]{1,6}(ms|[smhdwy]))+", part)]
    seconds = sum(int(number) * _UNIT_SECONDS[unit] for number, unit in times[0]) if times else 0.0
    return seconds or None  # 0: not limited by time


def _texts(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def short(text: str) -> str:
    """Return a text of a server in one short line, without credentials."""
    return shorten(masked(" ".join(text.split())), _LONGEST_TEXT)
