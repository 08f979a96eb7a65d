"""What an edit of the gates, or a release, does to the evidence: what was earned under other rules or by other code does not
count.

The money that a dropped bag held stays spent, so an edit never makes money.
"""

from __future__ import annotations

from dataclasses import replace

from cutover.domain.evidence.blocks import Block, Counts
from cutover.domain.evidence.clumps import without
from cutover.domain.evidence.metrics import LATENCIES
from cutover.domain.evidence.rules import GateRules, MetricName, MetricRule, Tolerance
from cutover.domain.evidence.state import Evidence


def follow_tolerances(evidence: Evidence, rules: GateRules) -> Evidence:
    """Return the evidence that holds under the tolerances of these rules.

    Under a wider tolerance of harm, harm that was proven against the old one proves nothing: its bag is dropped. Under a
    narrower one it holds all the more. With safety it is the other way round, and all safety is earned anew, because its
    money is paid into all bags at once.
    """
    for rule in rules.metrics:
        old = evidence.limits.get(rule.name)
        new = (rule.harm.ratio, rule.harm.margin, rule.advance.ratio, rule.advance.margin)
        if old == new:
            continue
        evidence = evidence._replace(limits={**evidence.limits, rule.name: new})
        if old is not None:
            evidence = _apply(evidence, rule, Tolerance(*old[:2]), Tolerance(*old[2:]))
    return evidence


def _apply(evidence: Evidence, rule: MetricRule, harm: Tolerance, advance: Tolerance) -> Evidence:
    if rule.harm.ratio > harm.ratio or rule.harm.margin > harm.margin:
        evidence = _without_harm(evidence, rule.name)
    if rule.advance.ratio < advance.ratio or rule.advance.margin < advance.margin:
        evidence = _without_safety(evidence)
    return evidence


def follow_thresholds(evidence: Evidence, block: Block) -> tuple[Evidence, Block]:
    """Return the evidence and the block, with latencies that were counted by the same thresholds.

    A metric whose threshold changed loses its evidence and its reference. The latencies of a block that was counted without
    one of the thresholds are dropped, because nothing was slow in it only because nobody knew what is slow.
    """
    slow, very_slow = block.thresholds
    if slow is None or very_slow is None:
        return evidence, replace(block, heroku=_without_latency(block.heroku), eks=_without_latency(block.eks))
    old = evidence.thresholds
    if old == block.thresholds:
        return evidence, block
    for name, before, now in zip(LATENCIES, old, block.thresholds, strict=True):
        if before != now:
            evidence = _without_reference(_without_harm(evidence, name), name)
            evidence = evidence._replace(clumps=without(evidence.clumps, name))
    return _without_safety(evidence)._replace(
        thresholds=(slow, very_slow),
        pool=_both_without_latency(evidence.pool),
        last_pool=_both_without_latency(evidence.last_pool),
        total=_both_without_latency(evidence.total),
        recent=tuple(
            replace(slot, heroku=_without_latency(slot.heroku), eks=_without_latency(slot.eks))
            for slot in evidence.recent
        ),
    ), block


def follow_release(evidence: Evidence) -> Evidence:
    """Return the evidence that holds after a leg changed what it runs: safety and the step's counts begin anew.

    Evidence of harm stays, as at the beginning of a step: it fades while the new code answers well, and a release that mends
    nothing must not put a rollback off. So does a pool that is not judged yet, which counts for harm only. That the gateway has
    the step's whole share stays known.
    """
    return _without_safety(evidence)._replace(
        pool_trusted=evidence.pool_trusted and not evidence.pool_seconds,
        total=(Counts(), Counts()),
        total_seconds=0.0,
        unequal={},
        equal_money=1.0,
        codes=({}, {}),
    )


def _without_harm(evidence: Evidence, name: MetricName) -> Evidence:
    return evidence._replace(
        harm={other: bag for other, bag in evidence.harm.items() if other != name},
        observed={other: bag for other, bag in evidence.observed.items() if other != name},
    )


def _without_safety(evidence: Evidence) -> Evidence:
    return evidence._replace(safety={}, safety_money=1.0, proven=frozenset(), lately=(Counts(), Counts()))


def _without_reference(evidence: Evidence, name: MetricName) -> Evidence:
    """Forget what was normal for one latency; the other one goes on with the same requests."""
    reference = evidence.reference
    known = reference._replace(slow=0.0) if name == "slow" else reference._replace(very_slow=0.0)
    return evidence._replace(reference=known, unknown={**evidence.unknown, name: reference.timed})


def _without_latency(counts: Counts) -> Counts:
    return counts._replace(timed=0.0, slow=0.0, very_slow=0.0)


def _both_without_latency(legs: tuple[Counts, Counts]) -> tuple[Counts, Counts]:
    return _without_latency(legs[0]), _without_latency(legs[1])
