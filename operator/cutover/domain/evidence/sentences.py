"""Sentences about gates, made from their numbers, for people only; programs never parse them.

All wording about a gate's numbers is here, so that the status, the ledger's readers and notifications say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

from cutover.api.durations import span
from cutover.api.v1alpha1 import GateKind, GateLimits, GateNumbers, Mode, format_duration
from cutover.domain.evidence.mix import Differences, top_codes
from cutover.domain.evidence.rules import ALIVE, Reference

#: Codes of a leg in a sentence and in the status.
TOLD_CODES = 5


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
        unknown = ", not judged: what is normal for Heroku is not known"
        tolerated = f", {100 * ratios.tolerated:.2g} % tolerated" if ratios.tolerated is not None else unknown
        by = " by the record of this hour" if gate.reference == Reference.RECORD else ""
        return f"{said} of {eks.total:,.0f} {what}, no control{tolerated}{by}"
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
            return f"harm above {harm}, safe within {safe}" + (f", {tolerated.codes}" if tolerated.codes else "")
        case GateKind.BOUND:
            said = [f"at least {tolerated.min:g}"] if tolerated.min is not None else []
            said += [f"at most {tolerated.max:g}"] if tolerated.max is not None else []
            if tolerated.times_baseline is not None:
                said += [f"at most {tolerated.times_baseline:g} times before"]
            lasting = format_duration(timedelta(seconds=tolerated.for_seconds or 0))
            return f"{' and '.join(said)}, outside for less than {lasting}"
        case _:
            assert_never(kind)


def mix(codes: Mapping[str, float]) -> str:
    """Return a leg's answers by HTTP status, as fractions, most frequent first."""
    total = sum(codes.values())
    if not total:
        return "no answers"
    return ", ".join(f"{code} {_percent(count / total)}" for code, count in top_codes(codes, TOLD_CODES).items())


def unequal(differences: Differences, codes: tuple[Mapping[str, float], Mapping[str, float]]) -> str:
    """Return what differs most between the answers of the legs, with both mixes; ``""`` if nothing does.

    Parameters
    ----------
    differences
        The evidence.
    codes
        The answers of Heroku and of EKS by HTTP status.
    """
    name = max(differences.fewer, key=lambda each: differences.fewer[each], default="")
    if not name or max(differences.fewer[name], differences.throttled) < differences.limit:
        return ""
    if differences.throttled >= differences.fewer[name]:
        said = "EKS throttles more requests (429) than Heroku"
    else:
        said = {
            "refused": "EKS refuses fewer requests than Heroku",
            "redirected": "EKS redirects fewer requests than Heroku",
            "throttled": "Heroku throttles more requests (429) than EKS",
        }[name]
    return f"{said}: {both_mixes(codes)}"


def both_mixes(codes: tuple[Mapping[str, float], Mapping[str, float]]) -> str:
    """Return the answers of Heroku and of EKS by HTTP status."""
    return f"Heroku answers {mix(codes[0])}; EKS {mix(codes[1])}"


def factor(wealth: float) -> str:
    """Return evidence of harm as text, with few digits."""
    if wealth >= 1000:
        return "over 1,000"
    return f"{wealth:.0f}" if wealth >= 9.95 else f"{wealth:.1f}"


def _leg(ratio: float | None, kind: GateKind) -> str:
    if ratio is None:
        return "no answers" if kind is GateKind.COMPARATIVE else f"no {_what(kind)}"
    return _percent(ratio)


def _percent(ratio: float) -> str:
    percent = 100.0 * ratio
    return f"{percent:.1f} %" if percent >= 1 or percent == 0 else f"{percent:.2g} %"


def _what(kind: GateKind) -> str:
    return "requests" if kind is GateKind.COMPARATIVE else "events"
