"""``report``: the evidence of a plan as one page, to hand on: HTML for people, Markdown for a pull request."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from cutover.api.problems import problem_text
from cutover.api.v1alpha1 import LedgerEntry
from cutover.cli.cluster import Cluster
from cutover.cli.exits import CliError, Exit
from cutover.cli.session import Session
from cutover.domain.managed_fields import owners
from cutover.domain.marks import PLAN_LABEL
from cutover.domain.plan import Plan
from cutover.domain.resources import CONFIG_MAPS, EVENTS
from cutover.domain.texts import plain
from cutover.ports.errors import Conflict, Gone, Unavailable
from cutover.report.compose import compose
from cutover.report.html import html
from cutover.report.markdown import markdown
from cutover.report.record import Costs, Happening, Record
from cutover.report.sections.skipped import SKIP_FIELD
from cutover.report.week import KEY, Week, read_week

HTML, MARKDOWN = "html", "md"
#: Bytes of the operator's log that are read.
_LONGEST_LOG = 256 << 20


Output = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="html|md|FILE", help="Form of the report, or a file that ends with .html or .md."
    ),
]


def report(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="PLAN", help="The plan's name.")],
    output: Output = HTML,
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Prometheus with the gateways' metrics, for percentiles and lines.")
    ] = "",
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The operator's log: it has the decisions that a plan keeps no longer."),
    ] = None,
    heroku_cost: Annotated[str, typer.Option(metavar="TEXT", help="What Heroku costs, such as '$ 500 a month'.")] = "",
    eks_cost: Annotated[str, typer.Option(metavar="TEXT", help="What EKS costs.")] = "",
) -> int | None:
    """Write the evidence of a plan as one page of HTML, or as Markdown for a pull request."""
    form, file = _form(output)
    body = session.body(name)
    record = replace(record_of(body, datetime.now(UTC)), costs=Costs(heroku_cost, eks_cost))
    record = replace(record, events=_events(session.cluster, body), week=_week(session.cluster, body))
    if log is not None:
        record = replace(record, older=read_log(log, record.plan))
    if prometheus:
        record = _with_history(record, prometheus)
    page = compose(record)
    text = html(page) if form == HTML else markdown(page)
    if file is None:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()
        return None
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CliError(f"{file} cannot be written: {error.strerror}") from None
    _tell(f"{file} written, {len(text.encode()) >> 10} KiB")
    return None


def record_of(body: Mapping[str, Any], at: datetime) -> Record:
    """Return what the report of a plan is made from, from the object alone.

    Raises
    ------
    CliError
        If this version cannot read it.
    """
    metadata = {"namespace": "default", "uid": "", **body.get("metadata", {})}
    try:
        plan = Plan.from_object({**body, "metadata": metadata})
    except (ValidationError, KeyError) as error:
        said = problem_text(error) if isinstance(error, ValidationError) else f"{error} is missing"
        raise CliError(f"this is no plan that this version can read: {plain(said)[:600]}") from None
    written = owners(metadata, "spec", "preflight", "skip")
    skippers = {SKIP_FIELD: f"the field manager {written[0].manager} at {written[0].time}"} if written else {}
    return Record(plan, at, skippers=skippers)


def read_log(file: Path, plan: Plan) -> tuple[LedgerEntry, ...]:
    """Return the plan's decisions from the operator's log, which has a JSON object in each line.

    Raises
    ------
    CliError
        If the file cannot be read.
    """
    try:
        if file.stat().st_size > _LONGEST_LOG:
            raise CliError(f"{file} is longer than {_LONGEST_LOG >> 20} MiB; give the part with this plan")
        with file.open(encoding="utf-8", errors="replace") as lines:
            found = {entry.model_dump_json(): entry for entry in _logged(lines, plan)}
    except OSError as error:
        raise CliError(f"{file} cannot be read: {error.strerror}") from None
    return tuple(found.values())


def _logged(lines: Iterator[str] | Sequence[str], plan: Plan) -> Iterator[LedgerEntry]:
    for line in lines:
        if '"decision"' not in line:
            continue
        try:
            data = json.loads(line[line.index("{") :])
            if data.get("event") != "decision" or data.get("plan") != plan.key:
                continue
            if plan.uid and not str(data.get("id", "")).startswith(f"{plan.uid}/"):
                continue  # of another plan of the same name
            yield LedgerEntry.model_validate(data)
        except (ValueError, AttributeError, RecursionError):
            continue  # no line of the operator's, or of another version


def _form(output: str) -> tuple[str, Path | None]:
    if output in (HTML, MARKDOWN):
        return output, None
    form = Path(output).suffix.removeprefix(".").lower()
    if form not in (HTML, MARKDOWN):
        raise CliError(f"--output {output}: write html, md, or a file that ends with .html or .md", Exit.USAGE)
    return form, Path(output)


def _events(cluster: Cluster, body: Mapping[str, Any]) -> tuple[Happening, ...]:
    metadata = body["metadata"]
    uid, namespace = metadata.get("uid"), metadata.get("namespace", "default")
    try:
        found = cluster.objects(EVENTS, namespace, fieldSelector=f"involvedObject.uid={uid}") if uid else []
    except (Unavailable, Gone, Conflict) as error:
        _tell(f"without Events: {error}")
        return ()
    return tuple(one for event in found if (one := _event(event)) is not None)


def _event(event: Mapping[str, Any]) -> Happening | None:
    text = event.get("lastTimestamp") or event.get("eventTime") or ""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return Happening(
        at if at.tzinfo else at.replace(tzinfo=UTC),
        str(event.get("type", "")),
        str(event.get("reason", "")),
        str(event.get("message", "")),
    )


def _week(cluster: Cluster, body: Mapping[str, Any]) -> Week | None:
    """Return Heroku's record of before the takeover, from the plan's ConfigMap; ``None`` where there is none."""
    metadata = body["metadata"]
    try:
        found = cluster.objects(
            CONFIG_MAPS, metadata.get("namespace", "default"), labelSelector=f"{PLAN_LABEL}={metadata['name']}"
        )
    except (Unavailable, Gone, Conflict) as error:
        _tell(f"without Heroku's record of the week: {error}")
        return None
    newest = sorted(found, key=lambda one: str(one.get("metadata", {}).get("creationTimestamp", "")), reverse=True)
    texts = (str(one["data"][KEY]) for one in newest if KEY in (one.get("data") or {}))
    return next((week for text in texts if (week := read_week(text)) is not None), None)


def _with_history(record: Record, url: str) -> Record:
    """Return the record with what Prometheus has. Raises CliError."""
    try:
        # Whoever only looks at plans needs none of it, and may not have it installed.
        from cutover.adapters.dialects.istio.history import IstioHistory
        from cutover.adapters.dialects.kubernetes.usage import PodUsage
        from cutover.adapters.prometheus.sources import Sources
        from cutover.services.history import with_history
        from cutover.settings import PrometheusServer, PrometheusServers
    except ImportError as missing:
        raise CliError(f"--prometheus needs the package {missing.name}: pip install 'cutover[operator]'") from None
    token = os.environ.get("CUTOVER_PROMETHEUS_TOKEN_FILE")
    try:
        server = PrometheusServer(url=url, bearer_token_file=Path(token) if token else None)
    except ValidationError as error:
        raise CliError(problem_text(error, "--prometheus: ")) from None

    async def ask() -> Record:
        sources = Sources(PrometheusServers(default=server))
        try:
            return await with_history(record, sources.get(""), IstioHistory(), PodUsage())
        finally:
            await sources.close()

    found = asyncio.run(ask())
    for problem in found.history.problems if found.history is not None else ():
        _tell(f"without all of Prometheus' history: {problem}")
    return found


def _tell(text: str) -> None:
    print(plain(text), file=sys.stderr)
