"""Whether a new weight is to be seen at the gateway.

Nothing in Istio says that a weight is live, so the requests themselves must: they have to fit the new weight, and they
have to tell it from the one before. The second is Wald's likelihood ratio for two binomial shares, at 100 to 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cutover.core.blocks import Block

#: Odds that the requests must give for the new weight against the one before.
_ODDS = math.log(100.0)
#: A share of 0 or 1 is never exact: probes of the Heroku leg and requests in flight at the change are counted too.
_LEAST = 0.02
#: Distance from the weight that is put up with: standard errors of the share, and points.
_ERRORS, _POINTS = 4.0, 0.03
#: Requests that show an unchanged weight, such as the takeover at 0 %.
LEAST_REQUESTS = 20
#: Chance at which the silence of a leg with weight is no coincidence.
_SILENCE = math.log(1e-4)


@dataclass(frozen=True, slots=True)
class Pool:
    """Requests pooled since the weight was decided."""

    eks: float = 0.0
    total: float = 0.0

    @property
    def percent(self) -> float | None:
        """The observed share in percent."""
        return 100.0 * self.eks / self.total if self.total else None


def pool(before: Pool, block: Block, *, weight: int, previous: int) -> Pool:
    """Add a block's requests; start over where they rather speak for the previous weight."""
    if not block.usable:
        return before
    after = Pool(before.eks + block.eks.requests, before.total + block.requests)
    return after if previous == weight or _log_odds(after, weight, previous) > 0 else Pool()


def fits(pooled: Pool, *, weight: int, previous: int) -> bool:
    """Tell whether the requests fit the weight and, where it changed, could not come from the previous one."""
    if not pooled.total:
        return False
    expected = weight / 100
    spread = math.sqrt(max(expected * (1 - expected), _LEAST * (1 - _LEAST)) / pooled.total)
    near = abs(pooled.eks / pooled.total - expected) <= _ERRORS * spread + _POINTS
    if previous == weight:
        return near and pooled.total >= LEAST_REQUESTS
    return near and _log_odds(pooled, weight, previous) >= _ODDS


def eks_silent(pooled: Pool, *, weight: int) -> bool:
    """Tell whether so many requests were answered without one from EKS that it cannot be chance."""
    return 0 < weight < 100 and pooled.eks == 0 and pooled.total * math.log1p(-weight / 100) <= _SILENCE


def _log_odds(pooled: Pool, weight: int, previous: int) -> float:
    new, old = (min(max(w / 100, _LEAST), 1 - _LEAST) for w in (weight, previous))
    return pooled.eks * math.log(new / old) + (pooled.total - pooled.eks) * math.log((1 - new) / (1 - old))
