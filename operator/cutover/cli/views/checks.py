"""Results of preflight's checks, and how the legs' answers differ."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cutover.api.v1alpha1 import CheckResult, CheckStatus, Phase
from cutover.cli.views.parts import EKS, HEROKU, age
from cutover.cli.views.screen import CHECKS
from cutover.domain.plan import Plan
from cutover.domain.preflight.checks import answers_alike
from cutover.domain.texts import plain

_ORDER = (CheckResult.FAILED, CheckResult.UNKNOWN, CheckResult.WARNED, CheckResult.SKIPPED, CheckResult.PASSED)


def checks(found: Sequence[CheckStatus], *, everything: bool) -> RenderableType:
    """Return checks with what to do, those that fail first.

    Parameters
    ----------
    everything
        Whether checks that passed are named, too.
    """
    shown = [one for one in found if everything or one.result is not CheckResult.PASSED]
    if not shown:
        return Text("every check passes" if found else "no check has run")
    made = Table.grid(padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for one in sorted(shown, key=lambda check: _ORDER.index(check.result)):
        made.add_row(one.check, Text(one.result, CHECKS[one.result]), plain(one.message))
    return made


def looked(plan: Plan) -> list[RenderableType]:
    """Return what the operator could not look at for whoever asked it to; nothing if it looked at all."""
    audit = plan.status.audit
    if audit is None or not audit.message:
        return []
    return [Text(""), Text(f"Not looked at: {plain(audit.message)}")]


def differences(plan: Plan, alike: Sequence[CheckStatus], now: datetime, *, fresh: bool) -> RenderableType:
    """Return what the operator saw of both legs' answers.

    Parameters
    ----------
    fresh
        Whether it was asked to compare them for this view.
    """
    status = plan.status
    audit = status.audit
    compared = any(one.check == answers_alike.NAME for one in alike)
    title = "Both legs, asked by the operator now" if compared else "Both legs"
    title = title if fresh else "As the operator saw it last"
    if not fresh and audit is not None and audit.answered_at is not None:
        title += f"; asked for {age(audit.answered_at, now)} ago"
    parts: list[RenderableType] = [Text(title, "bold")]
    if alike or not fresh:
        parts.append(checks(alike, everything=True))
    parts += looked(plan)
    answers = status.answers
    if answers is not None and (answers.heroku or answers.eks):
        since = f" ({age(status.since, now)})" if status.since is not None else ""
        made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="")
        made.add_column("STATUS")
        made.add_column("HEROKU", justify="right", style=HEROKU)
        made.add_column("EKS", justify="right", style=EKS)
        totals = sum(answers.heroku.values()), sum(answers.eks.values())
        codes = sorted({*answers.heroku, *answers.eks}, key=lambda code: -answers.heroku.get(code, 0))
        for code in codes:
            counts = answers.heroku.get(code, 0), answers.eks.get(code, 0)
            made.add_row(code, *(_part(count, total) for count, total in zip(counts, totals, strict=True)))
        back = status.phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK)
        when = "before they went back to Heroku" if back else f"in this step{since}, at {status.weight or 0} % to EKS"
        parts += [Text(""), Text(f"Users' answers {when}", "bold"), made]
    if status.probes is not None and status.probes.sentence:
        parts += [Text(""), Text("Pairs of probes", "bold"), Text(plain(status.probes.sentence))]
    return Group(*parts)


def _part(count: int, total: int) -> str:
    return f"{count:,} ({100 * count / total:.3g} %)" if total else "-"
