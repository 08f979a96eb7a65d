"""Whether the requests at the gateway show a new weight.

Istio has no status that tells whether a weight is live, so the requests must show it: they have to fit the new weight,
and they have to tell it from the previous one. The second test is Wald's likelihood ratio for two binomial shares, at 100
to 1. It is restarted wherever it does not speak for the new weight (Page's CUSUM), so that requests before the change
cannot outweigh requests after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cutover.domain.evidence.blocks import Block

#: Log odds that the requests must give for the new weight against the previous one.
_ODDS = math.log(100.0)
#: Least distance of an expected share from 0 and 1, as requests in flight at the change count too; small enough
#: to tell 1 % from 0.
_LEAST = 0.002
#: Accepted distance from the weight: standard errors of the share (computed for 2 % at least), plus a fraction.
_ERRORS, _POINTS, _LEAST_SPREAD = 4.0, 0.03, 0.02
#: Requests that confirm an unchanged weight, such as the takeover at 0 %.
LEAST_REQUESTS = 20
#: Log of the chance below which the silence of a leg with weight is no coincidence.
_SILENCE = math.log(1e-4)


@dataclass(frozen=True, slots=True)
class Pool:
    """Requests since the decision on the weight, or since they began to speak for it."""

    eks: float = 0.0
    total: float = 0.0

    @property
    def percent(self) -> float | None:
        """The observed share in percent."""
        return 100.0 * self.eks / self.total if self.total else None


def pool(before: Pool, block: Block, *, weight: int, previous: int, live: bool = False) -> Pool:
    """Add a block's requests; start over with the block if the earlier requests do not speak for the weight.

    Parameters
    ----------
    live
        Whether the gateway was known to have the new weight for the whole pool. Silence of EKS then does not come from
        the previous weight, and is added up.
    """
    if not block.usable:
        return before
    silent = live and not before.eks
    kept = before if silent or _speaks_for(before, weight, previous) else Pool()
    return Pool(kept.eks + block.eks.requests, kept.total + block.requests)


def fits(pooled: Pool, *, weight: int, previous: int) -> bool:
    """Tell whether the requests fit the weight and, where it changed, could not come from the previous one."""
    if not _near(pooled, weight):
        return False
    if previous == weight:
        return pooled.total >= LEAST_REQUESTS
    return _log_odds(pooled, weight, previous) >= _ODDS


def fits_weight(pooled: Pool, weight: float) -> bool:
    """Tell whether the requests fit a weight, whatever the weight before it was."""
    return _near(pooled, weight)


def exceeds_weight(pooled: Pool, weight: float) -> bool:
    """Tell whether EKS has got more requests than the weight explains.

    A small weight is exceeded by few requests, and others' few requests make Heroku look dead. So what is tolerated beyond
    chance is a fifth of the weight there, and never more than elsewhere.
    """
    if not pooled.total:
        return False
    expected = weight / 100
    spread = math.sqrt(expected * (1 - expected) / pooled.total)
    return pooled.eks / pooled.total - expected > _ERRORS * spread + min(_POINTS, expected / 5)


def eks_silent(pooled: Pool, *, weight: int) -> bool:
    """Tell whether so many requests were answered, none of them by EKS, that it cannot be chance."""
    return 0 < weight < 100 and pooled.eks == 0 and pooled.total * math.log1p(-weight / 100) <= _SILENCE


def _speaks_for(pooled: Pool, weight: int, previous: int) -> bool:
    return _near(pooled, weight) and (previous == weight or _log_odds(pooled, weight, previous) > 0)


def _near(pooled: Pool, weight: float) -> bool:
    if not pooled.total:
        return False
    expected = weight / 100
    spread = math.sqrt(max(expected * (1 - expected), _LEAST_SPREAD * (1 - _LEAST_SPREAD)) / pooled.total)
    return abs(pooled.eks / pooled.total - expected) <= _ERRORS * spread + _POINTS


def _log_odds(pooled: Pool, weight: int, previous: int) -> float:
    new, old = (min(max(w / 100, _LEAST), 1 - _LEAST) for w in (weight, previous))
    return pooled.eks * math.log(new / old) + (pooled.total - pooled.eks) * math.log((1 - new) / (1 - old))
