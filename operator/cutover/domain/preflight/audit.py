"""What audits have in common: they look at the workload, warn of what they find, and fail where it proves harm to users."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, judged, warned
from cutover.domain.preflight.workload import WORKLOAD_READS, Workload, workload_of

#: A function that returns what is wrong with a workload: sentences that say what to do.
Audit = Callable[[Workload], Iterable[str]]


def _nothing(workload: Workload) -> Iterable[str]:  # noqa: ARG001
    return ()


def audit(name: str, passes_when: str, find: Audit, *, harms: Audit = _nothing) -> Check:
    """Return the check for an audit.

    Parameters
    ----------
    name, passes_when
        As for :class:`~cutover.domain.preflight.check.Check`.
    find
        Finds what may be wrong with a workload, which a manifest alone does not prove.
    harms
        Finds what certainly harms users, whatever the app is: this holds the plan, unless it skips the check.
    """

    def judge(plan: Plan, facts: Facts) -> Finding:
        workload = workload_of(plan, facts.inventory)
        if workload is None:
            return PASSED  # told by the check of the Deployment
        harm = tuple(harms(workload))
        found = "; ".join((*harm, *find(workload)))
        return judged(found) if harm else warned(found) if found else PASSED

    return Check(
        name=name,
        passes_when=f"{passes_when} ([why](audits.md#{name}))",
        judge=judge,
        reads=WORKLOAD_READS,
        advisory=True,
        repeats=True,
    )
