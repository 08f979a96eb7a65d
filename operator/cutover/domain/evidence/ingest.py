"""Ingest new blocks: which blocks confirm a weight, and which become evidence."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic_core import from_json, to_json

from cutover.api.model import computed
from cutover.api.opaque import Opaque
from cutover.api.v1alpha1 import Checkpoint, Share
from cutover.domain.evidence.blocks import Block
from cutover.domain.evidence.confirmation import collect, confirmed
from cutover.domain.evidence.edits import follow_release
from cutover.domain.evidence.hourly import HourlyReference
from cutover.domain.evidence.judge import Evidence, GateRules, begin_step, consume, learn
from cutover.domain.evidence.live_key import live_key
from cutover.domain.evidence.mix import recounted
from cutover.domain.evidence.pace import Pace, keep_pace, load_pace, store_pace
from cutover.domain.evidence.share import Pool
from cutover.domain.traffic import Capabilities, Probe

#: Unusable blocks in a row after which the plan is held.
GAPS_UNTIL_NO_DATA = 3


def ingest(
    checkpoint: Checkpoint,
    blocks: tuple[Block, ...],
    *,
    rules: GateRules,
    weight: int,
    next_weight: int,
    probe: Probe | None,
    revision: str,
    can: Capabilities,
    safety_from: float = 0.0,
    hours: HourlyReference | None = None,
) -> Checkpoint:
    """Ingest blocks: first to confirm the weight at the gateway, from then on as evidence.

    A block counts only if it lies wholly after the change of weight (to confirm it) or after the confirmation (as
    evidence), so that no judgement mixes two steps. What confirms a weight depends on what the provider can do
    (:mod:`cutover.domain.evidence.confirmation`). No weight is confirmed while a probe returns another revision. Blocks that
    began before ``safety_from`` are no evidence of safety: a leg has changed what it runs since. ``hours`` is what is normal in
    each hour of the week, for a plan with a record of the time before.
    """
    evidence, pace = load_evidence(checkpoint), load_pace(checkpoint.pace)
    if next_weight > checkpoint.next_weight > 0:
        # The steps were edited: evidence that is enough for a small step may not be enough for a bigger one.
        evidence = begin_step(evidence)
    if evidence.counted != rules.codes:
        evidence = recounted(evidence, rules.codes)
    if evidence.last_end < safety_from:
        evidence = follow_release(evidence)
    live_at, elsewhere = checkpoint.live_at, False
    if probe is not None and probe.at >= checkpoint.weight_since:
        if live_at is None and probe.revision == revision:
            live_at = probe.at
        elsewhere = probe.revision not in ("", revision)
    pooled = Pool(*checkpoint.share_pool)
    observed_at, consumed_until, gaps = checkpoint.observed_at, checkpoint.consumed_until, checkpoint.gaps
    gap, ambiguous = checkpoint.gap, checkpoint.ambiguous
    for block in blocks:
        if block.start < consumed_until:
            continue  # a part of the block was consumed already
        consumed_until = block.end
        gaps, gap, ambiguous = 0 if block.usable else gaps + 1, block.gap, block.ambiguous
        judged = weight == 100 and observed_at is not None and block.start >= observed_at
        pace = keep_pace(pace, block, judged=judged)
        if block.start < checkpoint.weight_since:
            continue
        if observed_at is None:
            previous = checkpoint.previous_weight
            pooled = collect(can, pooled, block, weight=weight, previous=previous, live_at=live_at)
            if confirmed(can, pooled, block, weight=weight, previous=previous, live_at=live_at) and not elsewhere:
                observed_at = block.end
        elif weight == 0:
            evidence = learn(evidence, block, rules)
        else:
            evidence = consume(
                evidence,
                block,
                rules=rules,
                weight=weight,
                next_weight=next_weight,
                observed_at=observed_at,
                hours=hours,
            )
            if block.start < safety_from:
                evidence = follow_release(evidence)
    if consumed_until != checkpoint.consumed_until:
        pace = _turned(pace, evidence, rules, hours)
    return checkpoint.evolve(
        live_at=live_at,
        observed_at=observed_at,
        next_weight=next_weight,
        consumed_until=consumed_until,
        gaps=gaps,
        gap=gap,
        ambiguous=ambiguous,
        share_pool=(pooled.eks, pooled.total),
        evidence=keep(evidence),
        pace=store_pace(pace),
    )


def _turned(pace: Pace, evidence: Evidence, rules: GateRules, hours: HourlyReference | None) -> Pace:
    """Note since when the live key is turned without a break."""
    if not pace.newest or not live_key(pace, evidence, rules, hours):
        return pace._replace(turned_since=None)
    return pace if pace.turned_since is not None else pace._replace(turned_since=pace.newest[-1].end)


def load_evidence(checkpoint: Checkpoint) -> Evidence:
    """Return the judge's state in a checkpoint.

    Evidence that cannot be read, because the status was edited, begins anew: it has to be earned again before anything
    moves up, and a leg that is worse shows again.
    """
    return load(checkpoint.evidence)


def load(kept: Opaque) -> Evidence:
    """Return the judge's state; the initial state if the text is empty or cannot be read."""
    return kept.value(_read)


def keep(evidence: Evidence) -> Opaque:
    """Return the judge's state for a checkpoint: an object in memory, which is written as one line of text."""
    return Opaque.of(evidence, _write)


def _read(text: str) -> Evidence:
    try:
        return Evidence.load(from_json(text)) if text else Evidence()
    except ValueError:
        return Evidence()


def _write(evidence: Evidence) -> str:
    return to_json(evidence.dump()).decode()


def share(checkpoint: Checkpoint, evidence: Evidence, now: float) -> Share | None:
    """Return the share observed since the current weight was decided on."""
    heroku, eks = evidence.total
    judged = heroku.requests + eks.requests
    percent = 100.0 * eks.requests / judged if judged else Pool(*checkpoint.share_pool).percent
    if percent is None:
        return None
    return computed(Share, observed=round(percent, 1), at=datetime.fromtimestamp(now, UTC))
