"""What was asked: the plan's spec, as it is now."""

from __future__ import annotations

from cutover.api.v1alpha1 import Approval, MigrationPlanSpec, Mode, format_duration
from cutover.api.v1alpha1.gates import Slo, ToleranceSpec
from cutover.api.v1alpha1.spec.steps import Step
from cutover.report.page import Cell, Facts, Section, Table
from cutover.report.record import Record
from cutover.report.words import moment


def asked(record: Record) -> Section:
    """Return the section."""
    spec = record.plan.spec
    return Section(
        "What was asked",
        (
            Facts(_facts(spec)),
            Table("Steps", ("To EKS", "At least", "Begins", "Besides"), _steps(spec)),
            _gates(spec),
            Table("Traffic", ("Setting", "Value"), tuple(spec.traffic.recorded.items())),
        ),
    )


def _facts(spec: MigrationPlanSpec) -> tuple[tuple[str, str], ...]:
    service, workload = spec.eks.service, spec.eks.workload_ref
    facts = [
        ("Hosts", ", ".join(spec.traffic.hosts)),
        ("From", f"Heroku's app {spec.heroku.app}, {spec.heroku.hostname}"),
        ("To", f"Service {service.name}, port {service.port}, of {workload.kind} {workload.name}"),
        ("Soak", format_duration(spec.soak)),
        ("Ceiling", f"{spec.ceiling} %"),
        ("On evidence of harm", spec.on_breach.value),
        ("If Heroku is down", _on_heroku_down(spec)),
        ("On deletion of the plan", spec.on_delete.value),
    ]
    if (schedule := spec.schedule) is not None:
        windows = ", ".join(f"{'/'.join(one.days)} {one.from_}–{one.to}" for one in schedule.windows)
        if windows:
            facts.append(("Windows", f"{windows} ({schedule.time_zone})"))
        facts += [("Freeze", f"{moment(one.from_)} to {moment(one.to)}: {one.reason}") for one in schedule.freezes]
    return tuple(facts)


def _on_heroku_down(spec: MigrationPlanSpec) -> str:
    down = spec.on_heroku_down
    return f"{down.action.value} after {format_duration(down.after)}" if down.action != "Hold" else "Hold"


def _steps(spec: MigrationPlanSpec) -> tuple[tuple[Cell, ...], ...]:
    return tuple(
        (
            f"{step.weight} %",
            format_duration(step.hold),
            "when a person approves" if step.approval is Approval.MANUAL else "on evidence",
            _besides(step),
        )
        for step in spec.steps
    )


def _besides(step: Step) -> str:
    said = [f"{step.min_requests:,} requests to EKS"] if step.min_requests is not None else []
    if step.timeout is not None:
        said.append(f"{step.on_timeout.value} after {format_duration(step.timeout)}")
    return "; ".join(said) or "–"


def _gates(spec: MigrationPlanSpec) -> Table:
    rate = f"at most {100 * spec.gates.false_rollback_rate:g} % of healthy cutovers rolled back by mistake"
    return Table(f"Gates, {rate}", ("Gate", "Judges", "Harm above", "Safe within"), tuple(map(_gate, spec.gates.slos)))


def _gate(slo: Slo) -> tuple[Cell, ...]:
    name = slo.name + (", only observed" if slo.mode is Mode.OBSERVE else "")
    match slo:
        case Slo(errors=found) if found is not None:
            return (name, "failed requests", _tolerance(found.tolerate), _tolerance(found.advance))
        case Slo(latency=found) if found is not None:
            return (name, "slow requests", "the defaults", "the defaults")
        case Slo(answers=found) if found is not None:
            refused, redirected = found.refused, found.redirected
            return (
                name,
                "refused (4xx) and redirected (3xx) requests",
                f"{_tolerance(refused.tolerate)}; {_tolerance(redirected.tolerate)}",
                f"{_tolerance(refused.advance)}; {_tolerance(redirected.advance)}",
            )
        case Slo(ratio=found) if found is not None:
            return (name, "the team's events", _tolerance(found.tolerate), _tolerance(found.advance))
        case Slo(bound=found) if found is not None:
            said = [f"below {found.min:g}"] if found.min is not None else []
            said += [f"above {found.max:g}"] if found.max is not None else []
            said += [f"{found.times_baseline:g} times before"] if found.times_baseline is not None else []
            return (name, "a value of the team's", f"{' or '.join(said)} for {format_duration(found.for_)}", "–")
        case Slo(template=found) if found is not None:
            return (name, f"the gate template {found.name}", "as the template says", "–")
        case _:
            return (name, "–", "–", "–")


def _tolerance(tolerance: ToleranceSpec) -> str:
    return f"{tolerance.ratio:g} × Heroku + {100 * tolerance.margin:g} %"
