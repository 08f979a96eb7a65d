"""What audits have in common: they look at the workload, and warn of all they find."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cutover.domain.plan import Plan
from cutover.domain.preflight.check import PASSED, Check, Facts, Finding, warned
from cutover.domain.preflight.workload import WORKLOAD_READS, Workload, workload_of

#: A function that returns what is wrong with a workload: sentences that say what to do.
Audit = Callable[[Workload], Iterable[str]]


def audit(name: str, passes_when: str, find: Audit) -> Check:
    """Return the check for an audit.

    Parameters
    ----------
    name, passes_when
        As for :class:`~cutover.domain.preflight.check.Check`.
    find
        Finds what is wrong with a workload.
    """

    def judge(plan: Plan, facts: Facts) -> Finding:
        workload = workload_of(plan, facts.inventory)
        # A Deployment that is missing is told by the check for it.
        found = "; ".join(find(workload)) if workload is not None else ""
        return warned(found) if found else PASSED

    return Check(
        name=name,
        passes_when=f"{passes_when} ([why](audits.md#{name}))",
        judge=judge,
        reads=WORKLOAD_READS,
        advisory=True,
        repeats=True,
    )
