"""Sentences about gates, made from their numbers, for people only; programs never parse them.

All wording about a gate's numbers is here, so that the status, the ledger's readers and notifications say the same.
"""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never

from cutover.api.durations import span
from cutover.api.v1alpha1 import GateKind, GateLimits, GateNumbers, Mode, format_duration
from cutover.domain.evidence.rules import ALIVE


def sentence(gate: GateNumbers) -> str:
    """Return the sentence of a gate, with its numbers."""
    if gate.kind is GateKind.BOUND:
        return _bound(gate)
    said = counted(gate)
    if gate.evidence is not None:
        said += f"; evidence of harm {factor(gate.evidence.harm)} of {gate.evidence.harm_limit:,.0f}"
    return f"{said}, only observed" if gate.mode is Mode.OBSERVE else said


def counted(gate: GateNumbers) -> str:
    """Return the counts of a comparison as a sentence."""
    counts, ratios = gate.counts, gate.ratios
    if counts is None or counts.eks is None or ratios is None:
        return "nothing was counted yet"
    heroku, eks = counts.heroku, counts.eks
    if gate.name == ALIVE:
        good = f"{eks.total - eks.bad:,.0f}"
        if heroku is None:
            return f"EKS answered {good} of {eks.total:,.0f} requests well in the last minute, no control"
        return f"EKS answered {good} requests well in the last minute, about {heroku.total:,.0f} expected"
    what = _what(gate.kind)
    said = f"EKS {_leg(ratios.eks, gate.kind)}"
    if heroku is None:
        tolerated = f", {100 * ratios.tolerated:.2g} % tolerated" if ratios.tolerated is not None else ""
        return f"{said} of {eks.total:,.0f} {what}, no control{tolerated}"
    return f"{said} vs Heroku {_leg(ratios.heroku, gate.kind)} over {eks.total:,.0f}/{heroku.total:,.0f} {what}"


def _bound(gate: GateNumbers) -> str:
    if gate.value is None:
        return "no value"
    tolerated = f"; tolerated is {tolerated_by_bound(gate)}"
    if gate.outside_seconds is None:
        return f"{gate.value:.4g}{tolerated}"
    lasting = f" for {span(gate.outside_seconds, exact=True)}" if gate.outside_seconds else ""
    said = f"{gate.value:.4g}, outside{lasting}{tolerated}"
    needed = gate.limits.for_seconds if gate.limits is not None else None
    if needed is None or gate.outside_seconds >= needed:
        return said
    return f"{said}; fails after {span(needed, exact=True)} outside"


def tolerated_by_bound(gate: GateNumbers) -> str:
    """Return the tolerated values of a bound, with the value before the migration if the bound is a multiple of it."""
    limits = gate.limits or GateLimits()
    said = [f"at least {limits.min:.4g}"] if limits.min is not None else []
    said += [f"at most {limits.max:.4g}"] if limits.max is not None else []
    if limits.times_baseline is not None and gate.baseline is not None and gate.baseline > 0:
        most = limits.times_baseline * gate.baseline
        said += [f"at most {most:.4g}, {times_before(limits.times_baseline)} ({gate.baseline:.4g})"]
    return " and ".join(said)


def times_before(times: float) -> str:
    """Return the words for a limit that is a multiple of the baseline."""
    return f"{times:.4g} times the value before the migration"


def limits(kind: GateKind, tolerated: GateLimits) -> str:
    """Return the limits of a gate in words, for the ledger entry of an edit."""
    match kind:
        case GateKind.COMPARATIVE | GateKind.RATIO:
            harm, safe = (
                f"{tolerance.ratio:g} p + {100 * tolerance.margin:g} %" if tolerance is not None else "anything"
                for tolerance in (tolerated.harm, tolerated.advance)
            )
            return f"harm above {harm}, safe within {safe}"
        case GateKind.BOUND:
            said = [f"at least {tolerated.min:g}"] if tolerated.min is not None else []
            said += [f"at most {tolerated.max:g}"] if tolerated.max is not None else []
            if tolerated.times_baseline is not None:
                said += [f"at most {tolerated.times_baseline:g} times before"]
            lasting = format_duration(timedelta(seconds=tolerated.for_seconds or 0))
            return f"{' and '.join(said)}, outside for less than {lasting}"
        case _:
            assert_never(kind)


def factor(wealth: float) -> str:
    """Return evidence of harm as text, with few digits."""
    if wealth >= 1000:
        return "over 1,000"
    return f"{wealth:.0f}" if wealth >= 9.95 else f"{wealth:.1f}"


def _leg(ratio: float | None, kind: GateKind) -> str:
    if ratio is None:
        return "no answers" if kind is GateKind.COMPARATIVE else f"no {_what(kind)}"
    percent = 100.0 * ratio
    return f"{percent:.1f} %" if percent >= 1 or percent == 0 else f"{percent:.2g} %"


def _what(kind: GateKind) -> str:
    return "requests" if kind is GateKind.COMPARATIVE else "events"
