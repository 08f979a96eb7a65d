"""Classes of answers by their HTTP status: one definition for blocks, probes and dashboard queries.

Each request is routed at random, so both legs get the same mix of requests, and a difference in the mix of answers comes
from the legs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache


class Answer(IntEnum):
    """What an answer means to the user who gets it."""

    OK = 0
    """2xx, 304 (the user's own copy is still good), and whatever is in no other class."""
    ERROR = 1
    """5xx; from Heroku also 421 and 495."""
    REFUSED = 2
    """Other 4xx, such as 401, 403 and 404."""
    REDIRECTED = 3
    """Other 3xx."""
    THROTTLED = 4
    """429. Behind a gateway all users may have one address, so that a leg throttles them together."""
    EXCEPTED = 5
    """A code that the plan excepts: neither refused or redirected, nor good."""
    NOBODY = 6
    """No answer to a request: the client was gone (0, 499), or a connection was upgraded (101), which is counted when it
    ends and with its whole life as its duration."""


#: Answers of Heroku's router to a request whose TLS name does not fit its Host. Users see them as failures.
ROUTING_FAULTS: Mapping[str, str] = {"421": "misdirected request", "495": "certificate error"}
#: The code of an upgraded connection, such as a WebSocket.
UPGRADED = "101"
#: Codes of requests that no leg answered, as a PromQL matcher.
NOBODYS_CODES = f"0|{UPGRADED}|499"
#: The error codes as a PromQL matcher, for both legs. On EKS the app may answer 421 or 495 itself, which a query counts as
#: an error and a gate as refused.
ERROR_CODES = "|".join(("5..", *ROUTING_FAULTS))

#: The codes of good answers as a PromQL matcher.
OK_CODES = "2..|304"
#: Codes that begin like those of refused, or redirected, answers and are in another class.
_NOT_REFUSED = ("429", "499", *ROUTING_FAULTS)
_NOT_REDIRECTED = ("304",)

_NOBODY = frozenset(NOBODYS_CODES.split("|"))


@lru_cache(maxsize=4096)  # there are few codes, and a series of each for every leg
def answer_of(code: str, *, heroku: bool) -> Answer:
    """Return the class of an HTTP status, by the leg that answered; without a status nothing speaks against the answer."""
    if code in _NOBODY:
        return Answer.NOBODY
    match code[:1]:
        case "3":
            return Answer.OK if code == "304" else Answer.REDIRECTED
        case "4" if heroku and code in ROUTING_FAULTS:
            return Answer.ERROR
        case "4":
            return Answer.THROTTLED if code == "429" else Answer.REFUSED
        case "5":
            return Answer.ERROR
        case _:
            return Answer.OK


def is_error(code: str, *, heroku: bool) -> bool:
    """Tell whether an HTTP status counts as an error of the leg that answered."""
    return answer_of(code, heroku=heroku) is Answer.ERROR


@dataclass(frozen=True, slots=True)
class Codes:
    """Which codes of a plan count as refused or redirected.

    Parameters
    ----------
    only
        Codes that alone count; if empty, all do.
    excepted
        Codes that do not count.
    """

    only: frozenset[str] = frozenset()
    excepted: frozenset[str] = frozenset()

    def answer_of(self, code: str, *, heroku: bool) -> Answer:
        """Return the class of an HTTP status, by the leg that answered."""
        answer = answer_of(code, heroku=heroku)
        counts = code not in self.excepted and (not self.only or code in self.only)
        return answer if counts or answer not in (Answer.REFUSED, Answer.REDIRECTED) else Answer.EXCEPTED

    @property
    def refused(self) -> tuple[str, str]:
        """The codes of refused answers as PromQL matchers: one that must match, and one that must not."""
        return self._matchers("4", _NOT_REFUSED)

    @property
    def redirected(self) -> tuple[str, str]:
        """The codes of redirected answers, likewise."""
        return self._matchers("3", _NOT_REDIRECTED)

    def _matchers(self, first: str, others: Iterable[str]) -> tuple[str, str]:
        only = sorted(code for code in self.only if code.startswith(first))
        excepted = sorted({*others, *(code for code in self.excepted if code.startswith(first))})
        matching = "|".join(only) or "none" if self.only else f"{first}.."
        return matching, "|".join(excepted)


ALL_CODES = Codes()
