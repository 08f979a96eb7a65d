"""What answers to probes are worth to a user, and pairs of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from cutover.domain.evidence.answers import Answer, answer_of
from cutover.domain.traffic import Leg, Probe


class Worth(IntEnum):
    """What an answer is worth to a user, best first."""

    GOOD = 0
    SLOW = 1
    """Good, but slower than the plan's second threshold."""
    REDIRECTED = 2
    REFUSED = 3
    """Throttled, too."""
    FAILED = 4
    """An error, a fault on the way, or no answer."""


LEVELS = (Worth.SLOW, Worth.REDIRECTED, Worth.REFUSED, Worth.FAILED)
"""What a pair is counted for: that one leg's answer is worth so little, or less, and the other's is worth more."""

_WORTH = {
    Answer.NOBODY: Worth.FAILED,
    Answer.ERROR: Worth.FAILED,
    Answer.REFUSED: Worth.REFUSED,
    Answer.THROTTLED: Worth.REFUSED,
    Answer.REDIRECTED: Worth.REDIRECTED,
}


def worth(probe: Probe, leg: Leg, very_slow_ms: float | None) -> Worth:
    """Return what the answer to a probe of a leg is worth.

    Parameters
    ----------
    very_slow_ms
        The plan's second threshold in milliseconds; ``None`` if it is unknown or unused.
    """
    if not probe.healthy:
        return Worth.FAILED
    slow = very_slow_ms is not None and 1000.0 * probe.seconds > very_slow_ms
    # A provider that tells no code says by ``healthy`` all that it knows.
    answer = answer_of(str(probe.status), heroku=leg is Leg.HEROKU) if probe.status else Answer.OK
    found = _WORTH.get(answer, Worth.GOOD)
    return max(found, Worth.SLOW if slow else Worth.GOOD)


@dataclass(frozen=True, slots=True)
class Pair:
    """The answers of both legs to the same request.

    Parameters
    ----------
    at, done
        Unix seconds at which both were asked, and at which both had answered or were given up.
    heroku, eks
        What their answers are worth.
    """

    at: float
    done: float
    heroku: Worth
    eks: Worth

    @property
    def against_eks(self) -> bool:
        """Whether Heroku answered, and better than EKS."""
        return self.heroku is not Worth.FAILED and self.eks > self.heroku

    @property
    def against_heroku(self) -> bool:
        """Whether EKS answered, and better than Heroku."""
        return self.eks is not Worth.FAILED and self.heroku > self.eks

    @property
    def denied(self) -> bool:
        """Whether Heroku refused or redirected what EKS answered well."""
        return self.heroku in (Worth.REDIRECTED, Worth.REFUSED) and self.eks <= Worth.SLOW
