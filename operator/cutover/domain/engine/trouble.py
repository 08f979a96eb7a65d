"""How much a plan needs a person, as a number by which tables are sorted."""

from __future__ import annotations

from cutover.api.v1alpha1 import Phase
from cutover.domain.holds import Hold
from cutover.domain.journal.notifications import Severity, severity_of

_OF_HOLD = {Severity.INFO: 1, Severity.WARNING: 2, Severity.CRITICAL: 3}
#: Users are safe, and somebody should read why.
_WENT_BACK = (Phase.ROLLING_BACK, Phase.ROLLED_BACK)


def trouble(phase: Phase, hold: Hold | None) -> int:
    """Return 0 for none, 1 for a plan that waits, 2 for one to be looked at, and 3 where users may be harmed."""
    of_phase = 2 if phase in _WENT_BACK else 0
    return max(of_phase, _OF_HOLD[severity_of("Hold", hold.reason)] if hold is not None else 0)
