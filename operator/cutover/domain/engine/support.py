"""Specs that cannot be carried out, and fields without effect in this version. Nothing is ignored silently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cutover.api.v1alpha1 import MigrationPlanSpec, Mode, RatioSlo
from cutover.domain.preflight.registry import NAMES
from cutover.domain.slo.custom import CustomSlo


def problems(spec: MigrationPlanSpec, custom_slos: Iterable[CustomSlo], sources: Sequence[str]) -> tuple[str, ...]:
    """Return the problems that keep the plan from starting, each as ``field: what to do``.

    Parameters
    ----------
    spec
        The plan's spec.
    custom_slos
        The plan's custom SLOs, templates resolved.
    sources
        Names of the Prometheus servers that plans of its namespace may choose.
    """
    found = []
    chosen = spec.gates.prometheus
    if chosen is not None and chosen not in sources:
        may = f"may choose {', '.join(sources)}" if sources else "may choose none but the default"
        found.append(
            f"gates.prometheus: plans of this namespace {may}; leave it out, or have {chosen!r} allowed in the operator's"
            " settings"
        )
    if not any(
        slo.mode is Mode.ENFORCE and (slo.errors or slo.latency or slo.answers) for slo in spec.gates.slos
    ) and not any(gate.enforced and isinstance(gate.slo, RatioSlo) for gate in custom_slos):
        found.append(
            "gates.slos: no gate that compares the legs decides, and only such evidence moves weight; add errors: {} or"
            " set mode: Enforce"
        )
    found += [
        f"gates.slos: more than one {kind} gate; keep one"
        for kind in ("errors", "latency", "answers")
        if sum(getattr(slo, kind) is not None for slo in spec.gates.slos) > 1
    ]
    if spec.schedule is not None:
        try:
            ZoneInfo(spec.schedule.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # "Europe" is a directory
            found.append(
                f"schedule.timeZone: {spec.schedule.time_zone!r} is not a known time zone; use an IANA name such as "
                "Europe/Paris"
            )
    return tuple(found)


def not_yet_supported(spec: MigrationPlanSpec) -> tuple[str, ...]:
    """Return the fields that are accepted but have no effect, in this version or beside others, and what that means."""
    found = []
    if spec.baseline.source is None:
        found.append(
            "baseline: without a source nothing older than the takeover is compared, and minCoverage has no effect"
        )
    found += spec.traffic.without_effect
    found += [
        f"preflight.skip: there is no check {name!r} in this version"
        for name in dict.fromkeys(skip.check for skip in spec.preflight.skip)
        if name not in NAMES
    ]
    return tuple(found)
