"""Attribution: what the record says of CPU, memory, pools and the network, beside the requests themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cutover.api.v1alpha1 import CheckResult, GateNumbers, GateStatus
from cutover.domain.evidence.sentences import sentence
from cutover.report.page import Cell, Prose, Section, Table, Tag, Tone
from cutover.report.record import Record
from cutover.report.stages import Stage
from cutover.report.words import percent, verdict


@dataclass(frozen=True, slots=True)
class _Area:
    """A resource that may be the cause of a difference, and where the record speaks of it."""

    name: str
    templates: frozenset[str]
    checks: frozenset[str]


_AREAS = (
    _Area("CPU and throttling", frozenset({"cpu-throttling"}), frozenset({"cpu-limit", "cpu-request", "workers"})),
    _Area(
        "Memory and restarts",
        frozenset({"memory-near-limit", "pod-restarts"}),
        frozenset({"memory", "dyno-memory", "probes", "start-up"}),
    ),
    _Area(
        "Connection pools and databases",
        frozenset({"connection-budget", "pgbouncer-waiting", "replication-lag"}),
        frozenset({"connections"}),
    ),
    _Area(
        "Network, DNS and sidecars",
        frozenset({"dns-amplification", "dns-load", "sidecar-start"}),
        frozenset({"dns-search", "sidecars", "client-address", "trusted-proxies"}),
    ),
)
_NOTES = (
    "The record shows what was measured beside the requests. It proves no cause: where a value moved together with errors or"
    " latency, look there first."
)


def attribution(record: Record, spans: tuple[Stage, ...]) -> Section:
    """Return the section."""
    rows: list[tuple[Cell, ...]] = []
    for area in _AREAS:
        found = [*_measured(record, spans, area), *_checked(record, area)]
        rows += found or [(area.name, "–", Tag("not measured"), "no gate of this plan measures it")]
    culprit = next((one for one in reversed(record.ledger) if one.decision == "RollBack" and one.subject), None)
    blocks = [Prose(f"The rollback was decided by the gate {culprit.subject}.")] if culprit is not None else []
    table = Table("What was measured beside the requests", ("Area", "By", "Result", "What it says"), tuple(rows))
    return Section("Attribution", (*blocks, table, Prose(_NOTES)))


def _measured(record: Record, spans: tuple[Stage, ...], area: _Area) -> Iterator[tuple[Cell, ...]]:
    names = {
        slo.name
        for slo in record.plan.spec.gates.slos
        if (slo.template is not None and slo.template.name in area.templates) or slo.name in area.templates
    }
    latest: dict[str, GateNumbers] = {gate.name: gate for stage in spans for gate in stage.gates if gate.name in names}
    latest |= {gate.name: gate for gate in record.plan.status.gates if gate.name in names}
    for name, gate in sorted(latest.items()):
        said = gate.sentence if isinstance(gate, GateStatus) and gate.sentence else sentence(gate)
        yield area.name, f"gate {name}", verdict(gate), said
    history = record.history
    if "cpu-throttling" in area.templates and history is not None and history.throttled:
        values = [value for _, value in history.throttled]
        said = f"of the 100 ms periods the worst container was stopped in {percent(max(values))} at most"
        # Above a quarter the latency of most apps suffers; the library's gate template draws the line there, too.
        stopped = Tag("throttled", Tone.WARN) if max(values) > 0.25 else Tag("little", Tone.GOOD)
        yield area.name, "Prometheus", stopped, f"{said}, {percent(sum(values) / len(values))} on average"


def _checked(record: Record, area: _Area) -> Iterator[tuple[Cell, ...]]:
    for check in record.plan.status.preflight:
        if check.check in area.checks and check.result in (CheckResult.WARNED, CheckResult.FAILED):
            yield area.name, f"check {check.check}", Tag(check.result.value, Tone.WARN), check.message or "–"
